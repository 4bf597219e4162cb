"""Whether what lies in a folder is encrypted on its disk, as Linux tells.

Encrypted are a device that dm-crypt (LUKS) made, or one that lies on such devices alone, a folder
with a policy of fscrypt, and the file systems that encrypt. Of a network, of a disk of a virtual
machine and of ZFS nothing can be seen from here: what is not known to be encrypted counts as plain.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from market_pipeline.errors import SettingsError

__all__ = ["Disk", "disk_of", "require_encrypted"]

_ENCRYPTING = {"fuse.gocryptfs", "fuse.cryfs", "fuse.encfs", "fuse.securefs", "ecryptfs"}
_IN_MEMORY = {"tmpfs", "ramfs"}
# FS_IOC_GET_ENCRYPTION_POLICY_EX: the size of what it gives, in and out, then the policy.
_GET_POLICY = 0xC009_6616
_POLICY = bytes([24, *bytes(7 + 24)])
_OCTAL = re.compile(r"\\([0-7]{3})")


class Disk(NamedTuple):
    """What a folder lies on.

    Attributes:
        folder: The nearest folder that is there.
        is_encrypted: Whether it is known to be.
        found: What it is, in words.
    """

    folder: Path
    is_encrypted: bool
    found: str


class _Mount(NamedTuple):
    point: str
    device: str
    kind: str
    source: str


def disk_of(folder: Path, system: Path = Path("/")) -> Disk:
    """What a folder, or the nearest one above it that is there, lies on.

    Args:
        folder: The folder.
        system: Where `/proc` and `/sys` lie.
    """
    path = folder.absolute()
    while not path.is_dir():
        path = path.parent
    path = path.resolve()
    mount = _mount_of(path, system)
    if mount is None:
        return Disk(path, False, "an unknown file system")
    if mount.kind in _IN_MEMORY:
        return Disk(path, True, f"{mount.kind}, which is no disk")
    if mount.kind in _ENCRYPTING:
        return Disk(path, True, mount.kind)
    if _has_policy(path):
        return Disk(path, True, f"{mount.kind} with a policy of fscrypt")
    device = _device(mount, system)
    if device is not None and _is_crypt(device):
        return Disk(path, True, f"{mount.kind} on dm-crypt ({mount.source})")
    return Disk(path, False, f"{mount.kind} on {mount.source}")


def require_encrypted(folders: Iterable[Path]) -> None:
    """Refuses to begin where one of the folders is not known to be encrypted.

    Raises:
        SettingsError: It names each of them.
    """
    plain = [disk for disk in map(disk_of, folders) if not disk.is_encrypted]
    if plain:
        raise SettingsError(
            [
                f"require_encrypted_disk: {each.folder} lies on {each.found}, which is not known "
                "to be encrypted: move it, encrypt the disk, or remove the setting"
                for each in plain
            ]
        )


def _mount_of(path: Path, system: Path) -> _Mount | None:
    """The mount that a path lies in: of those above it the deepest, and of these the last."""
    found = None
    with suppress(OSError):
        for line in (system / "proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
            # A line is `27 1 254:0 / /srv rw,relatime shared:1 - ext4 /dev/vda rw`.
            before, _, after = line.partition(" - ")
            fields, (kind, source) = before.split(), after.split()[:2]
            point = _OCTAL.sub(lambda octal: chr(int(octal[1], 8)), fields[4])
            is_above = path.is_relative_to(point)
            if is_above and (found is None or len(point) >= len(found.point)):
                found = _Mount(point, fields[2], kind, source)
    return found


def _device(mount: _Mount, system: Path) -> Path | None:
    """Where the system describes the block device of a mount; None if it has none."""
    by_number = system / "sys/dev/block" / mount.device
    if by_number.exists():
        return by_number.resolve()
    # btrfs has a number of its own, and names the device.
    by_name = system / "sys/class/block" / Path(os.path.realpath(mount.source)).name
    return by_name.resolve() if mount.source.startswith("/dev/") and by_name.exists() else None


def _is_crypt(device: Path) -> bool:
    """Whether a device is dm-crypt's, or lies on such devices alone, as LVM on LUKS does."""
    with suppress(OSError):
        if (device / "dm/uuid").read_text(encoding="ascii").startswith("CRYPT-"):
            return True
    with suppress(OSError):
        below = [each.resolve() for each in (device / "slaves").iterdir()]
        return bool(below) and all(map(_is_crypt, below))
    return False


def _has_policy(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, _GET_POLICY, bytearray(_POLICY))
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
