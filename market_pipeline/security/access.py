"""Who may use what on a machine that several users share: readers, the runner, the keeper of keys.

Readers are a group. They read the published tables and the catalogue, and nothing else. The runner
is the user that runs stages, captures and verbs; all that is written is its own. The keeper is the
user whose file has the master key, of which nothing lies where the runner or a reader could look.

Plain modes, and no ACL: of a file that is created with mode 0600, as all are here, an inherited
ACL gives a group nothing (its mask becomes empty).
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from market_pipeline.errors import SettingsError
from market_pipeline.warehouse.layout import (
    GROUP_FILE,
    GROUP_FOLDER,
    PRIVATE_FILE,
    Warehouse,
)

__all__ = ["COMMITTED", "Change", "Roles", "changes", "group_bits", "members"]

_TRAVERSE = 0o010
"""What the data folder has for readers: they reach what is published by its name, and list none."""

COMMITTED = {"dagster.yaml", ".gitignore"}
"""Files of the project below DAGSTER_HOME, which hold nothing of a run."""

_SHARED = 0o077
_PASSED_OVER = {errno.ELOOP, errno.ENOENT, errno.ENXIO}
"""A link, gone meanwhile, a socket."""
_HOW = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Roles:
    """The group of readers, and the users that run and that keep the keys."""

    readers: str
    runner: str
    keeper: str


@dataclass(frozen=True, slots=True)
class Change:
    """What is not as it is planned, in words; `apply` makes it so."""

    text: str
    apply: Callable[[], object]


def group_bits(path: Path, is_folder: bool, data_dir: Path) -> int:
    """What a file or folder may have for the group of readers; 0 where they have no business."""
    warehouse = Warehouse(data_dir)
    if path == data_dir:
        return _TRAVERSE
    if path.is_relative_to(warehouse.set_aside_dir):
        return 0  # whatever somebody wrote into the catalogue
    if any(path.is_relative_to(each) for each in (warehouse.tables_dir, warehouse.warehouse_dir)):
        return GROUP_FOLDER if is_folder else GROUP_FILE
    return 0


def members(group: str) -> tuple[int, list[str]]:
    """The id of a group and the users in it.

    Raises:
        SettingsError: There is no such group.
    """
    try:
        found = grp.getgrnam(group)
    except KeyError:
        raise SettingsError([f"readers_group: this machine has no group {group}"]) from None
    return found.gr_gid, sorted(found.gr_mem)


def changes(
    roles: Roles, folders: Sequence[Path], own_lake: Path | None, private: Mapping[Path, str]
) -> Iterator[Change]:
    """What is to be done, one after the other: the next is looked for once the last is applied.

    Args:
        roles: Users and group; those that are not there are made.
        folders: The data folder, which is made if need be, and others of the runner.
        own_lake: A lake in a folder, which is left as it is.
        private: Files that only one user reads, with that user.
    """
    yield from _accounts(roles)
    # A link that the settings name is meant; one that lies below is not followed.
    folders, own_lake = [each.resolve() for each in folders], own_lake and own_lake.resolve()
    data_dir = folders[0]
    warehouse = Warehouse(data_dir)
    if not (warehouse.tables_dir.is_dir() and warehouse.warehouse_dir.is_dir()):
        yield Change(f"make the folders below {data_dir}", warehouse.prepare)
    for folder in filter(Path.is_dir, folders):
        found = sum(1 for _ in _wrong(folder, roles, data_dir, own_lake))
        if found:
            text = f"{folder}: {found:,} files and folders to {roles.runner}, closed to all others"
            if folder == data_dir:
                text += f", but {roles.readers} reads tables and warehouse"
            yield Change(text, partial(_give, folder, roles, data_dir, own_lake))
    for path, user in private.items():
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            continue
        if status.st_uid != _id(pwd.getpwnam, user) or stat.S_IMODE(status.st_mode) & _SHARED:
            yield Change(f"{path}: to {user} alone", partial(_give_file, path, user))


def _accounts(roles: Roles) -> Iterator[Change]:
    commands: list[tuple[str, ...]] = []
    if _id(grp.getgrnam, roles.readers) is None:
        commands.append(("groupadd", "--system", "--", roles.readers))
    options = ("--system", "--user-group", "--shell", "/usr/sbin/nologin")
    # Compiled kernels are kept in the home of who runs them.
    home = ("--create-home", "--home-dir", f"/var/lib/{roles.runner}", "--key", "HOME_MODE=0700")
    commands += [
        ("useradd", *options, *of_user, "--", user)
        for user, of_user in ((roles.runner, home), (roles.keeper, ("--no-create-home",)))
        if _id(pwd.getpwnam, user) is None
    ]
    # Who is not of a group cannot let it read what it writes.
    if not _is_of(roles.runner, roles.readers):
        commands.append(("usermod", "--append", "--groups", roles.readers, "--", roles.runner))
    for command in commands:
        yield Change(" ".join(command), partial(_run, command))


def _id(find: Callable[[str], Sequence[Any]], name: str) -> int | None:
    """The number of a user or group; None without one of that name."""
    with suppress(KeyError):
        return int(find(name)[2])
    return None


def _is_of(user: str, group: str) -> bool:
    with suppress(KeyError):
        found = grp.getgrnam(group)
        return user in found.gr_mem or pwd.getpwnam(user).pw_gid == found.gr_gid
    return False


def _run(command: Sequence[str]) -> None:
    program = shutil.which(command[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise SettingsError([f"access: there is no {command[0]}; make user and group by hand"])
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    if done.returncode:
        text = " ".join(command)
        raise SettingsError([f"access: `{text}` failed, root may: {done.stderr.strip()}"])


def _wrong(
    folder: Path, roles: Roles, data_dir: Path, own_lake: Path | None
) -> Iterator[tuple[int, int]]:
    """Descriptor of each file or folder that is not as planned, and the mode it should have.

    The group counts only where it may do something: all that is made below the data folder has that
    of the readers. Before user and group are there nothing is as planned.
    """
    runner, readers = _id(pwd.getpwnam, roles.runner), _id(grp.getgrnam, roles.readers)
    for path, descriptor in _opened(folder, own_lake):
        found = os.fstat(descriptor)
        if not stat.S_ISDIR(found.st_mode) and found.st_nlink > 1 and found.st_uid != runner:
            continue
        bits = group_bits(path, stat.S_ISDIR(found.st_mode), data_dir)
        compared = _SHARED | (bits & stat.S_ISGID)
        is_group = not bits or found.st_gid == readers
        if found.st_uid != runner or not is_group or found.st_mode & compared != bits:
            yield descriptor, stat.S_IMODE(found.st_mode) & stat.S_IRWXU | bits


def _give(folder: Path, roles: Roles, data_dir: Path, own_lake: Path | None) -> None:
    runner, (readers, _) = pwd.getpwnam(roles.runner), members(roles.readers)
    for descriptor, mode in _wrong(folder, roles, data_dir, own_lake):
        group = readers if mode & _SHARED else runner.pw_gid
        os.fchown(descriptor, runner.pw_uid, group)
        os.fchmod(descriptor, mode)  # last: a change of owner takes bits away


def _opened(folder: Path, own_lake: Path | None) -> Iterator[tuple[Path, int]]:
    """The folder and all below, each opened without following a link that somebody put there."""
    for name, folders, files, descriptor in os.fwalk(folder, onerror=_raise):
        path = Path(name)
        folders[:] = [each for each in folders if path / each != own_lake]
        yield path, descriptor
        for file in files:
            if file in COMMITTED:
                continue
            try:
                opened = os.open(file, _HOW, dir_fd=descriptor)
            except OSError as error:
                _raise(error)
                continue
            try:
                yield path / file, opened
            finally:
                os.close(opened)


def _raise(error: OSError) -> None:
    if error.errno not in _PASSED_OVER:
        raise error


def _give_file(path: Path, user: str) -> None:
    descriptor, owner = os.open(path, _HOW), pwd.getpwnam(user)
    try:
        os.fchown(descriptor, owner.pw_uid, owner.pw_gid)
        os.fchmod(descriptor, PRIVATE_FILE)
    finally:
        os.close(descriptor)
