"""The bill of materials of a lock as CycloneDX 1.6: `python -m supply_chain.sbom LOCK`.

The same lock gives the same bytes: there is no time in it, and its number is a hash of the rest.
The hashes of a component are those of all files that the lock lets pip install of it.

Source: CycloneDX 1.6 (ECMA-424); package URLs as the purl specification has them.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Locked", "locked", "sbom"]

_ROOT = Path(__file__).resolve().parents[1]
_ENTRY = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(?P<version>[^\s;]+)(?P<rest>.*)", re.S
)


class Locked(NamedTuple):
    """A distribution of a lock."""

    name: str
    version: str
    marker: str
    sha256: tuple[str, ...]

    @property
    def purl(self) -> str:
        """Its package URL."""
        return f"pkg:pypi/{self.name}@{self.version}"


def locked(lock: Path) -> list[Locked]:
    """The distributions of a lock, by name and version.

    Raises:
        ValueError: A line is not a pinned distribution with hashes.
    """
    found = []
    for text in re.split(r"\n(?=\S)", lock.read_text(encoding="utf-8").strip()):
        entry = _ENTRY.fullmatch(text.replace("\\\n", " "))
        hashes = re.findall(r"--hash=sha256:([0-9a-f]{64})", text)
        if entry is None or not hashes:
            raise ValueError(f"{lock}: expected name==version with hashes, found {text[:80]!r}")
        marker = entry["rest"].partition("--hash")[0].strip().removeprefix(";").strip()
        name = re.sub(r"[-_.]+", "-", entry["name"]).lower()
        found.append(Locked(name, entry["version"], marker, tuple(sorted(hashes))))
    return sorted(found)


def sbom(lock: Path, project: dict[str, Any]) -> dict[str, Any]:
    """The bill of materials of a project's lock.

    Args:
        lock: The lock.
        project: The table `project` of pyproject.toml.
    """
    root = f"pkg:pypi/{project['name']}@{project['version']}"
    parts = locked(lock)
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": project["name"],
                "version": project["version"],
                "purl": root,
                "licenses": [{"license": {"id": project["license"]}}],
            }
        },
        "components": [_component(each) for each in parts],
        "dependencies": [{"ref": root, "dependsOn": sorted({each.purl for each in parts})}],
    }
    number = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bill, sort_keys=True))
    return {**bill, "serialNumber": f"urn:uuid:{number}"}


def _component(of: Locked) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": of.purl,
        "name": of.name,
        "version": of.version,
        "purl": of.purl,
        "hashes": [{"alg": "SHA-256", "content": each} for each in of.sha256],
    }
    if of.marker:
        component["properties"] = [{"name": "market-pipeline:marker", "value": of.marker}]
    return component


def _main(lock: str) -> int:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    json.dump(sbom(Path(lock), project), sys.stdout, indent=1)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
