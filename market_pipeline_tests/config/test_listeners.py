"""Facts about what listens: its table in the documentation, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from market_pipeline.config.listeners import LISTENERS
from market_pipeline.config.settings import FIELDS, load_settings
from market_pipeline.errors import SettingsError
from market_pipeline_tests.conftest import REPOSITORY

TOKEN = "a token of letters".replace(" ", "-")
_BINDS = re.compile(r"\.bind\(|HTTPServer|start_server|create_server")


@pytest.fixture(autouse=True)
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def markdown() -> list[str]:
    """The table as it stands in the documentation."""
    rows = [
        f"| {each.name} | {each.address} | {each.port} | {each.reached_by} | {each.set_by} |"
        for each in LISTENERS
    ]
    return ["| what | address | port | who reaches it | set by |", "|---|---|---|---|---|", *rows]


def test_the_documentation_has_the_table() -> None:
    """What listens is in the documentation as the code has it, with the defaults of settings."""
    assert "\n".join(markdown()) in (REPOSITORY / "docs" / "security.md").read_text()
    (metrics,) = (each for each in LISTENERS if "telemetry serve" in each.name)
    assert (metrics.address, metrics.port) == (
        *(FIELDS["metrics_host"].default, str(FIELDS["metrics_port"].default)),
    )


def test_nothing_else_binds() -> None:
    """One module of the package opens a port, and Dagster is started at what the table says."""
    binding = {
        str(path.relative_to(REPOSITORY))
        for path in (REPOSITORY / "market_pipeline").rglob("*.py")
        if _BINDS.search(path.read_text())
    }
    assert {"market_pipeline/telemetry/bridge/server.py"} == binding
    started = {
        address
        for name in ("Makefile", "Dockerfile")
        for address in re.findall(r"dagster dev -h (\S+) -p", (REPOSITORY / name).read_text())
    }
    assert {"127.0.0.1", "0.0.0.0"} == started


def places(service: dict[str, Any]) -> set[tuple[str, str]]:
    """Addresses and ports that a service of the compose file listens at."""
    options = (each.partition("=") for each in service.get("command", []))
    given = {text for name, _, text in options if name.endswith("listen-address") and text}
    variables = {"PIPELINE_METRICS_HOST": FIELDS["metrics_host"].default}
    variables |= service.get("environment", {})
    for host, port in (
        ("PIPELINE_METRICS_HOST", "PIPELINE_METRICS_PORT"),
        ("GF_SERVER_HTTP_ADDR", "GF_SERVER_HTTP_PORT"),
    ):
        if port in variables:
            given.add(f"{variables[host]}:{variables[port]}")
    return {(host, port) for host, _, port in (each.rpartition(":") for each in given)}


def test_the_services_of_the_compose_file() -> None:
    """Each listens at one place, which the table has, by the network of the machine."""
    services = yaml.safe_load((REPOSITORY / "ops" / "compose.yml").read_text())["services"]
    assert {("host", None, 1)} == {
        (each["network_mode"], each.get("ports"), len(places(each))) for each in services.values()
    }
    of_table = {
        (each.address, each.port)
        for each in LISTENERS
        if "compose.yml" in each.name or "telemetry serve" in each.name
    }
    assert of_table == set().union(*map(places, services.values()))


class TestRefused:
    @pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1"])
    def test_others_without_a_token(self, host: str) -> None:
        """An address that other machines reach is refused without one, and accepted with one."""
        with pytest.raises(SettingsError, match="METRICS_TOKEN"):
            load_settings(metrics_host=host)
        assert host == load_settings(metrics_host=host, metrics_token=TOKEN).metrics_host

    @pytest.mark.parametrize("host", ["", "localhost", "example.org", "::1"])
    def test_no_address(self, host: str) -> None:
        """A name may lead anywhere, so only an address is taken."""
        with pytest.raises(SettingsError, match="metrics_host"):
            load_settings(metrics_host=host)

    @pytest.mark.parametrize("token", ["short", "with a space in it", "sechzehn-Zeichen-ü"])
    def test_no_token(self, token: str) -> None:
        """A token that can be guessed, or that no header holds, is refused and not shown."""
        with pytest.raises(SettingsError, match="metrics_token") as caught:
            load_settings(metrics_token=token)
        assert token not in str(caught.value)
