"""The units of systemd that the documentation has, by systemd's own check."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from market_pipeline_tests.conftest import REPOSITORY

PROGRAMS = "/srv/market_pipeline/.venv/bin"
_BLOCK = re.compile(r"^```\w+\n(\[(Service|Timer)\]\n.*?)^```$", re.DOTALL | re.MULTILINE)


def units(page: str) -> dict[str, str]:
    """By their kind, the units in a page."""
    text = (REPOSITORY / "docs" / page).read_text()
    return {
        kind: unit.replace(PROGRAMS, str(Path(sys.executable).parent))
        for unit, kind in _BLOCK.findall(text)
    }


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd checks its units")
def test_systemd_takes_them(tmp_path: Path):
    """The service and timer of the health, with the key's drop-in, have nothing that it ignores."""
    health, key = units("health.md"), units("security.md")
    service, timer = tmp_path / "market-health.service", tmp_path / "market-health.timer"
    service.write_text(health["Service"])
    timer.write_text(health["Timer"])
    (tmp_path / "market-health.service.d").mkdir()
    (tmp_path / "market-health.service.d" / "key.conf").write_text(key["Service"])

    def complaints() -> list[str]:
        checked = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", timer, service],
            capture_output=True,
            text=True,
            check=False,
        )
        return [each for each in checked.stderr.splitlines() if "market-" in each]

    assert [] == complaints()
    service.write_text(health["Service"].replace("SuccessExitStatus", "SuccesExitStatus"))
    assert ["SuccesExitStatus"] == re.findall(r"Unknown key '(\w+)'", *complaints())
