"""The folder the benchmarks write to: `.bench` in the repository, or another if one is named."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ROOT", "scratch", "work_folder"]

ROOT = Path(__file__).parents[1]


def work_folder() -> Path:
    """`.bench`, or what BENCH_FOLDER names; made if it is not there, and ignored by git."""
    folder = Path(os.environ.get("BENCH_FOLDER", ROOT / ".bench")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    return folder


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder on the same disk that is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=work_folder(), prefix="scratch-") as folder:
        yield Path(folder)
