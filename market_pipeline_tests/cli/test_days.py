"""What days under way show."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from market_pipeline import jit
from market_pipeline.cli.days import DayProgress


@pytest.mark.parametrize(("is_compiled", "lines"), [(False, 1), (True, 0)])
def test_compilation_is_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_compiled: bool, lines: int
):
    """The first run after an installation says why nothing is seen for a while."""
    monkeypatch.setattr(jit, "_CACHE_FOLDER", tmp_path)
    if is_compiled:
        books = Path(jit.__file__).with_name("books")
        (tmp_path / jit._digest(books)).mkdir()
        (tmp_path / jit._digest(books) / "kernel.nbc").touch()
    shown = StringIO()
    with DayProgress(Console(file=shown), [], 1):
        pass

    assert lines == shown.getvalue().count("compiled first, once after an installation")
