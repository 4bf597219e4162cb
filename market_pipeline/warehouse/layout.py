"""Where every byte the pipeline writes lies: the folders below the data folder, and their modes."""

from __future__ import annotations

import hashlib
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote

from market_pipeline.config.data_path import data_path
from market_pipeline.errors import PublishError, SettingsError

if TYPE_CHECKING:
    # Its columns are types of Arrow, and `--help` need not wait for that library.
    from market_pipeline.warehouse.tables import Table

__all__ = [
    "DEFAULT_WAIT_SECONDS",
    "GROUP_FILE",
    "GROUP_FOLDER",
    "PRIVATE_FILE",
    "PRIVATE_FOLDER",
    "PRIVATE_UMASK",
    "READ_ONLY_FILE",
    "Warehouse",
    "copy_hashed",
    "make_private_folder",
    "make_published_folder",
    "share_published",
    "sync",
    "written_whole",
]

DEFAULT_WAIT_SECONDS = 60.0
"""How long a writer waits for another one; a publish itself takes well under a second."""

PRIVATE_FILE = 0o600
"""Mode of every file the package writes, but the catalogue: only its owner reads or writes it.

What is published may be read by a group as well, see `share_published`.
"""

_PART_BYTES = 1 << 20

READ_ONLY_FILE = 0o400
"""Mode of the catalogue: only its owner reads it, and nobody but root opens it for writing."""

PRIVATE_FOLDER = 0o700
"""Mode of every folder the package makes."""

GROUP_FOLDER, GROUP_FILE = 0o2050, 0o040
"""What a folder and a file have besides where a group may read them: new ones have its group."""

PRIVATE_UMASK = 0o077
"""For processes in which libraries write too, as Dagster does below DAGSTER_HOME: it gives what
they make the modes above.
"""


@dataclass(frozen=True, slots=True)
class Warehouse:
    """The paths below one data folder; making one touches nothing on disk.

    Args:
        data_dir: The data folder; a relative path is taken from the current folder at once, because
            the catalogue's views must hold absolute paths.
        wait_seconds: How long to wait for another process that writes there.

    Raises:
        SettingsError: The path holds a character that the libraries below read as something else;
            `data_path` of the settings says which.
    """

    data_dir: Path
    wait_seconds: float = DEFAULT_WAIT_SECONDS

    def __post_init__(self) -> None:
        object.__setattr__(self, "data_dir", Path(self.data_dir).absolute())
        try:
            data_path(self.data_dir)
        except ValueError as error:
            raise SettingsError([f"data_dir {error}"]) from None

    @property
    def tables_dir(self) -> Path:
        """Holds one Delta table per big product."""
        return self.data_dir / "tables"

    @property
    def state_dir(self) -> Path:
        """Holds the working database and the lock files."""
        return self.data_dir / "state"

    @property
    def heartbeats_dir(self) -> Path:
        """Holds the last sign of each long-lived process."""
        return self.state_dir / "heartbeats"

    @property
    def warehouse_dir(self) -> Path:
        """Holds the catalogue."""
        return self.data_dir / "warehouse"

    @property
    def staging_dir(self) -> Path:
        """Holds files that are being written and are not published yet."""
        return self.data_dir / "staging"

    @property
    def quarantine_dir(self) -> Path:
        """Holds copies of raw files that cannot be used, with the reasons."""
        return self.data_dir / "quarantine"

    @property
    def working_database(self) -> Path:
        """The private DuckDB file of the small tables; users open the catalogue instead."""
        return self.state_dir / "working.duckdb"

    @property
    def file_views(self) -> Path:
        """The private DuckDB file of the views that name the big tables' files."""
        return self.state_dir / "files.duckdb"

    @property
    def catalogue(self) -> Path:
        """The DuckDB file that users open: `warehouse/market.duckdb`."""
        return self.warehouse_dir / "market.duckdb"

    @property
    def catalogue_log(self) -> Path:
        """Where DuckDB would write a log of what is done to the catalogue; `seal` closes it."""
        return self.warehouse_dir / "market.duckdb.wal"

    @property
    def set_aside_dir(self) -> Path:
        """Holds what others wrote into the catalogue, made when there is such a thing."""
        return self.warehouse_dir / "set-aside"

    def table_dir(self, table: Table) -> Path:
        """The Delta folder of a big table: `tables/<schema>/<name>`."""
        return self.tables_dir / table.schema / table.name

    def lock_file(self, name: str) -> Path:
        """The lock file of a table (`books.bbo`), of the working database or of the catalogue."""
        return self.state_dir / f"{name}.lock"

    def scratch_file(self, day: date, instrument: str, kind: str) -> Path:
        """What one stage leaves another of an instrument's day: `staging/<day>-<id>.<kind>`."""
        return self.staging_dir / f"{day.isoformat()}-{quote(instrument, safe='-_.')}.{kind}"

    def prepare(self) -> None:
        """Make the folders that are missing, mode 0700; leave those that are there as they are."""
        for folder in (
            self.tables_dir,
            self.state_dir,
            self.warehouse_dir,
            self.staging_dir,
        ):
            make_private_folder(folder)


def make_private_folder(folder: Path) -> None:
    """Make a folder and its missing parents, each mode 0700 whatever the process's umask.

    A folder that is there keeps its mode: its owner may have opened it to a group on purpose.

    Raises:
        SettingsError: In its place is a link to a folder of another user, or one that every user
            may write to, where they could change what is written.
    """
    for made in _make_folders(folder):
        # The umask can only have taken bits away from mkdir's mode, never have added any.
        made.chmod(PRIVATE_FOLDER)


def make_published_folder(folder: Path) -> None:
    """As `make_private_folder`, below one that a group may read: the group may read it, too."""
    for made in _make_folders(folder):
        made.chmod(PRIVATE_FOLDER)
        share_published(made)


def _make_folders(folder: Path) -> Iterator[Path]:
    """Each that was missing, once it is made."""
    _refuse_foreign(folder)
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        try:
            path.mkdir(mode=PRIVATE_FOLDER)
        except FileExistsError:
            if path.is_dir():
                continue  # another process made it in between
            raise
        yield path


def share_published(path: Path) -> None:
    """Let the group that may read a folder read what was published in it, and nobody else.

    So whoever opens `tables` and `warehouse` to a group (`security.access`) opens them for what
    comes as well, and a folder that is not open keeps all that is in it to its owner.

    Raises:
        PublishError: This process is not of that group.
    """
    above, found = path.parent.stat(), path.stat()
    mode = stat.S_IMODE(found.st_mode) & stat.S_IRWXU
    if above.st_mode & GROUP_FOLDER == GROUP_FOLDER:
        if os.geteuid() and above.st_gid not in {os.getegid(), *os.getgroups()}:
            # To the owner of a folder the system would say yes, and leave it closed.
            raise PublishError(
                f"this process is not of the group {above.st_gid}, which is to read it",
                next_step="Start the process anew if it began before `market-pipeline access "
                "--apply` put its user into that group; else run that.",
                file=path,
            )
        mode |= GROUP_FOLDER if stat.S_ISDIR(found.st_mode) else GROUP_FILE
        if found.st_gid != above.st_gid:  # it was moved there
            os.chown(path, -1, above.st_gid)
    if stat.S_IMODE(found.st_mode) != mode:
        path.chmod(mode)


def _refuse_foreign(folder: Path) -> None:
    if not folder.is_symlink() or not folder.is_dir():
        return
    target = folder.stat()
    if target.st_uid not in {os.geteuid(), 0} or target.st_mode & stat.S_IWOTH:
        raise SettingsError(
            [
                f"{folder} is a link to {folder.resolve()}, which other users may write to: link "
                "to a folder of your own that is closed to them"
            ]
        )


@contextmanager
def written_whole(
    path: Path, folder: Path | None = None, *, flushed: bool = True
) -> Iterator[BinaryIO]:
    """A file that is there, whole and flushed, once the `with` block ends well; else as before.

    Args:
        path: Its place; mode 0600.
        folder: Where it is written until then, on the same disk; beside its place if None. What a
            killed process leaves there ends in `.partial`.
        flushed: Whether it is to survive a power cut, which takes milliseconds.
    """
    partial = (folder or path.parent) / f"{path.name}.{uuid.uuid4().hex}.partial"
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            if flushed:
                os.fsync(descriptor)
        partial.rename(path)
        if flushed:
            sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def copy_hashed(source: BinaryIO, write: Callable[[bytes], object]) -> str:
    """Hands on the rest of a file, a MiB at a time; the SHA-256 of what was handed on."""
    digest = hashlib.sha256()
    while part := source.read(_PART_BYTES):
        digest.update(part)
        write(part)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Make a file's bytes, or the names in a folder, survive a power cut.

    Both are needed: flushing a file does not flush its name.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
