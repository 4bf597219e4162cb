"""Lines are counted with few interruptions: a plugin of pytest for `make lines`.

slipcover takes its probes out of all lines that were run once one of them was met fifty times. It
looks at every function of the package to do so, and CPython optimises each of those once more: a
fifth of what a process of the tests took. A probe that is met again takes next to nothing.

What it asks of each file and each function it asks the same way, only sooner answered.
"""

from __future__ import annotations

import dis
from pathlib import Path
from types import CodeType

import pytest
from slipcover import FileMatcher, Slipcover, pytest_plugin, slipcover

_MEETINGS = 5_000
_PACKAGE = str(Path(__file__).resolve().parents[1] / "market_pipeline")
_NAMES = {dis.opmap[name] for name in slipcover._ANNOTATION_ONLY_OPS if name in dis.opmap}
_CACHE = dis.opmap["CACHE"]

_matches = FileMatcher.matches


def _of_the_package(self: FileMatcher, filename: Path | str | None) -> bool:
    """Whether a file is counted, without a comparison of each library's with all that are not."""
    return str(filename).startswith(_PACKAGE) and _matches(self, filename)


def _of_names_alone(code: CodeType) -> frozenset[int]:
    """The lines that slipcover takes for annotations; `dis` describes each instruction to it."""
    lines, others = set(), set()
    for operation, (line, *_) in zip(code.co_code[::2], code.co_positions(), strict=True):
        if line and operation != _CACHE:
            (lines if operation in _NAMES else others).add(line)
    return frozenset(lines - others)


FileMatcher.matches = _of_the_package  # type: ignore[method-assign]
slipcover._get_annotation_only_lines = _of_names_alone

# In a worker; its threshold is no option. This runs before anything of the package is imported.
if pytest_plugin._slipcover_instance is not None:
    pytest_plugin._slipcover_instance.d_miss_threshold = _MEETINGS


def pytest_configure(config: pytest.Config) -> None:
    """Leaves the files that nothing imports to the workers, which all look for them too."""
    if config.getoption("numprocesses"):
        Slipcover._add_unseen_source_files = lambda *_: None  # type: ignore[method-assign]
