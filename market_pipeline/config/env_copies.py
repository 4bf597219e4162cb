"""Which variables of the environment are copies out of `.env`, made when a process was started.

Dagster puts `.env` into the environment of all its processes, as systemd does with an
`EnvironmentFile`. The environment is before the file, so a value that is changed in the file, as a
token on its rotation day, would count for nothing until they are all started again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
from dotenv import dotenv_values

__all__ = ["ENV_FILE", "copies", "dagster_home", "note_copies"]

ENV_FILE = Path(".env")

# No setting, so without their prefix. Child processes have the note with the copies, and know them
# for what they are also after the file has changed.
_NOTE = "MARKET_PIPELINE_ENV_FILE"


class _Note(msgspec.Struct):
    """The folder of the file, and the hashes of what stood there and in the environment alike."""

    folder: str
    hashes: list[str]


_decoder = msgspec.json.Decoder(_Note)


def note_copies() -> None:
    """Notes in the environment what of it stands in `.env` as well; called where a process begins.

    A file that cannot be read, or whose folder is gone, has no copies; who reads settings reports
    it.
    """
    try:
        values, folder = dotenv_values(ENV_FILE), _folder()
    except (OSError, UnicodeDecodeError):
        return
    hashes = {
        _hash(name, value)
        for name, value in values.items()
        if value is not None and os.environ.get(name) == value
    }
    note = _Note(folder, sorted(hashes.union(_noted())))
    os.environ[_NOTE] = msgspec.json.encode(note).decode()


def copies() -> Iterator[str]:
    """The variables whose values were copied from the `.env` of the current folder."""
    noted = _noted()
    for name, value in os.environ.items() if noted else ():
        if _hash(name, value) in noted:
            yield name


def dagster_home() -> str:
    """`DAGSTER_HOME` as a run finds it: in the environment, else in `.env`; empty if not set."""
    return os.environ.get("DAGSTER_HOME") or dotenv_values(ENV_FILE).get("DAGSTER_HOME") or ""


def _noted() -> frozenset[str]:
    """The hashes of what was copied from this folder's file; those of another one are none."""
    try:
        note = _decoder.decode(os.environ.get(_NOTE, ""))
        return frozenset(note.hashes if note.folder == _folder() else ())
    except (OSError, ValueError):  # the folder is gone; no note, or another's
        return frozenset()


def _folder() -> str:
    return ascii(str(Path.cwd()))  # its name may be no UTF-8


def _hash(name: str, value: str) -> str:
    return hashlib.sha256(f"{name}={value}".encode(errors="surrogateescape")).hexdigest()[:16]
