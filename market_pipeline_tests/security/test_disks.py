"""Facts about which folders count as encrypted on their disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from market_pipeline.errors import SettingsError
from market_pipeline.security.disks import disk_of, require_encrypted


def system_of(tmp_path: Path, kind: str, source: str, **uuids: str | list[str]) -> Path:
    """A `/proc` and `/sys` with one mount; devices by name, with dm's uuid or what they lie on."""
    system = tmp_path / "system"
    (system / "proc/self").mkdir(parents=True)
    lines = [
        "21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw",
        f"22 21 253:0 / {tmp_path}/my\\040data rw - {kind} {source} rw",
    ]
    (system / "proc/self/mountinfo").write_text("\n".join(lines))
    blocks = system / "sys/class/block"
    for name, of in uuids.items():
        (blocks / name / "slaves").mkdir(parents=True)
        if isinstance(of, str):
            (blocks / name / "dm").mkdir()
            (blocks / name / "dm/uuid").write_text(of)
            continue
        for each in of:
            (blocks / name / "slaves" / each).symlink_to(blocks / each)
    (system / "sys/dev/block").mkdir(parents=True)
    (system / "sys/dev/block/253:0").symlink_to(blocks / "data")
    return system


CRYPT = "CRYPT-LUKS2-0123456789abcdef-data"


@pytest.mark.parametrize(
    ("kind", "devices", "is_encrypted"),
    [
        ("ext4", {"data": CRYPT}, True),
        ("ext4", {"data": "LVM-abcdef"}, False),
        ("ext4", {"data": ["one"], "one": CRYPT}, True),
        ("ext4", {"data": ["one", "two"], "one": CRYPT, "two": []}, False),
        ("ext4", {"data": []}, False),
        ("fuse.gocryptfs", {}, True),
        ("tmpfs", {}, True),
        ("nfs4", {}, False),
        ("zfs", {}, False),
    ],
)
def test_what_is_encrypted(tmp_path, kind, devices, is_encrypted):
    """dm-crypt, what lies on it alone, file systems that encrypt and memory are; others are not."""
    (tmp_path / "my data").mkdir()
    system = system_of(tmp_path, kind, "/dev/mapper/data", **devices)
    found = disk_of(tmp_path / "my data/not/yet", system)
    assert (tmp_path / "my data", is_encrypted) == (found.folder, found.is_encrypted)
    assert kind in found.found


def test_beside_the_mount(tmp_path):
    """A folder whose name begins like that of a mount is not in it."""
    (tmp_path / "my data too").mkdir()
    system = system_of(tmp_path, "tmpfs", "none")
    assert "ext4 on /dev/sda1" == disk_of(tmp_path / "my data too", system).found


def test_what_is_required():
    """A folder that is not known to be encrypted is refused by name; memory is no disk."""
    require_encrypted([Path("/dev/shm/not-yet")])
    with pytest.raises(SettingsError, match="require_encrypted_disk: /proc lies on proc"):
        require_encrypted([Path("/dev/shm"), Path("/proc")])
