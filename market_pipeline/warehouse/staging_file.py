"""A file in `staging/` that is named by the hash of its bytes once it is whole."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path

from market_pipeline.warehouse.layout import PRIVATE_FILE, make_private_folder

__all__ = ["StagingFile"]


class StagingFile:
    """A new file that hashes the bytes as they pass, as a Parquet writer takes it.

    A writer only appends, so no second read of the file is needed.

    Args:
        folder: The staging folder.
        name: What the file is of, for whoever looks into the folder.

    Attributes:
        bytes: Written so far.
    """

    def __init__(self, folder: Path, name: str) -> None:
        make_private_folder(folder)
        self._folder = folder
        # A name nobody else has: two runs may write the same instrument and day at once.
        self._unique = uuid.uuid4().hex
        self._path = folder / f"{name}-{self._unique}.partial"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        self._file = os.fdopen(descriptor, "wb")
        self._hash = hashlib.sha256()
        self.bytes = 0

    @property
    def closed(self) -> bool:
        """Whether nothing more can be written."""
        return self._file.closed

    @property
    def sha256(self) -> str:
        """Of the bytes so far, in hexadecimal."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> int:
        """Appends bytes; returns how many."""
        self._hash.update(data)
        self.bytes += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        """Where the next byte goes."""
        return self.bytes

    def flush(self) -> None:
        """Hands the bytes to the system."""
        self._file.flush()

    def finish(self) -> Path:
        """Puts the bytes on the disk and gives the file its name."""
        self._file.flush()
        os.fsync(self._file.fileno())
        final = self._folder / f"{self.sha256}-{self._unique}.parquet"
        self._path.rename(final)
        return final

    def remove(self) -> None:
        """Takes an unfinished file away; a finished one stays."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    def seekable(self) -> bool:
        """Never: what is hashed stays."""
        return False

    def readable(self) -> bool:
        """Never."""
        return False

    def writable(self) -> bool:
        """Always."""
        return True
