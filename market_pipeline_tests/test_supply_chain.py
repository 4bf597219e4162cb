"""Facts about the scan for secrets, its exceptions, and the bill of materials."""

from __future__ import annotations

import base64
import json
import os
import uuid
from datetime import timedelta
from pathlib import Path

import pytest

from market_pipeline_tests.test_repository import LOCKS, ROOT, locked, pyproject
from supply_chain.exceptions import LONGEST_DAYS, Accepted, accepted
from supply_chain.sbom import sbom
from supply_chain.secrets import secrets_in, tree

# Put together from pieces, so that the scan of this file finds nothing.
KEY = base64.b64encode(bytes(range(7, 47))).decode()
PLANTED = {
    "private-key": f"-----BEGIN EC PRIVATE {'KEY'}-----\n{KEY * 3}\n",
    "aws-access-key": "AKIA" + "QWERTYUIOPASDFGH",
    "aws-secret-key": f"aws_secret_access_key = {KEY[:40]}",
    "github-token": "ghp_" + "a1B2" * 9,
    "gitlab-token": "glpat-" + "a1B2" * 5,
    "slack-token": "xoxb-" + "123456789012-" * 2,
    "slack-webhook": "https://hooks.slack.com/services/" + "T0AAAAAAA/B0AAAAAAA/" + "a1B2" * 6,
    "google-key": "AIza" + "a1B2c" * 7,
    "stripe-key": "sk_live_" + "a1B2" * 6,
    "vault-token": "hvs." + "a1B2" * 7,
    "package-token": "npm_" + "a1B2" * 9,
    "web-token": "eyJ" + "hbGciOiJIUzI1." + "eyJ" + "zdWIiOiIxMjM0." + "a1B2" * 6,
    "master-key": f"PIPELINE_MASTER_KEY={KEY}",
    "named-secret": f"api_key: {KEY!r}",
}


class TestSecrets:
    @pytest.mark.parametrize("rule", PLANTED)
    def test_each_form_is_found(self, rule: str):
        """A secret of each form is found in its line, and its finding does not show it."""
        content = f"first line\n{PLANTED[rule]}\n".encode()
        found = [each for each in secrets_in(content, "file") if each.rule == rule]
        assert [(2, "file")] == [(each.line, each.path) for each in found]
        assert not any(PLANTED[rule][4:20] in each.finding for each in found)

    def test_none_in_the_tree(self):
        """What git has or would take holds none but those that were reviewed."""
        reviewed = {each.finding for each in accepted("secret")}
        found = {
            each.finding for path, content in tree(ROOT, None) for each in secrets_in(content, path)
        }
        assert reviewed == found

    def test_a_folder(self, tmp_path: Path):
        """A folder that is no checkout, as an unpacked image, is looked through whole."""
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc/key").write_text(PLANTED["vault-token"])
        (tmp_path / "etc/link").symlink_to("/etc/passwd")
        assert ["etc/key"] == [path for path, _ in tree(ROOT, tmp_path)]


class TestExceptions:
    REVIEWED = (*accepted("secret"), *accepted("vulnerability"))

    @pytest.mark.parametrize("each", REVIEWED, ids=lambda each: each.finding)
    def test_has_a_reason_and_ends(self, each: Accepted):
        """Each exception has a sentence of reason, and is reviewed again within a year."""
        assert each.reason.endswith(".")
        assert timedelta(0) < each.expires - each.reviewed <= timedelta(LONGEST_DAYS)


class TestBillOfMaterials:
    @pytest.mark.parametrize("name", LOCKS)
    def test_holds_what_the_lock_holds(self, name: str):
        """Each distribution, and no other, is a component with its version and every hash."""
        bill = sbom(ROOT / name, pyproject()["project"])
        expected = {
            (of, str(version), tuple(sorted(each.removeprefix("sha256:") for each in hashes)))
            for of, versions in locked(name).items()
            for version, hashes in versions
        }
        found = {
            (each["name"], each["version"], tuple(one["content"] for one in each["hashes"]))
            for each in bill["components"]
        }
        assert expected == found
        assert {each["bom-ref"] for each in bill["components"]} == set(
            bill["dependencies"][0]["dependsOn"]
        )

    def test_is_the_same_for_the_same_lock(self):
        """It holds no time; its number is that of its content."""
        first, second = (sbom(ROOT / LOCKS[1], pyproject()["project"]) for _ in range(2))
        other = sbom(ROOT / LOCKS[0], pyproject()["project"])
        assert json.dumps(first) == json.dumps(second)
        assert first["serialNumber"] != other["serialNumber"]
        assert 5 == uuid.UUID(first["serialNumber"]).version

    def test_a_line_without_a_hash(self, tmp_path: Path):
        """A lock that does not pin by hash is refused."""
        (tmp_path / "lock").write_text(f"polars==2.1{os.linesep}")
        with pytest.raises(ValueError, match=r"with hashes, found 'polars==2\.1'"):
            sbom(tmp_path / "lock", pyproject()["project"])
