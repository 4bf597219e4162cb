"""Fixtures that several layers share."""

from __future__ import annotations

import gc
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from market_pipeline.scrub import scrubber
from market_pipeline_tests.quality.sample import sample_root
from market_pipeline_tests.read_once import read_once
from market_pipeline_tests.store.servers import faulty, moto_server, object_store

__all__ = ["faulty", "moto_server", "object_store"]  # fixtures

# The first example of a kernel waits for its compilation, which no deadline can foresee.
settings.register_profile("kernels", deadline=None)
settings.load_profile("kernels")
read_once()


@pytest.fixture(autouse=True)
def _no_known_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test makes known as a secret is none for the next one."""
    monkeypatch.setattr(scrubber, "_known", scrubber._Known())


@pytest.fixture
def full_at() -> Callable[[int], AbstractContextManager[None]]:
    """Within `full_at(size)` no file grows beyond so many bytes: for its writer, a full disk."""

    @contextmanager
    def within(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return within


_ONE_FIXTURE = {"benchmarks", "cli", "notebook", "pages", "ui"}
"""Folders whose files share days that were run, a server, or a compiled feed: made once."""

_APART = {"cli/test_capture.py", "cli/test_run_hostile.py", "cli/test_workers.py"}
"""The longest files of those folders that share nothing with the others, begun beside them."""


class _ByFixtures(LoadFileScheduling):
    """A file stays with one worker, and so do the files of a folder that share a costly fixture."""

    def _split_scope(self, nodeid: str) -> str:
        file = PurePosixPath(nodeid.partition("::")[0])
        together = file.parent.name in _ONE_FIXTURE and not any(map(file.match, _APART))
        return str(file.parent if together else file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByFixtures | None:
    """Hands the tests to the workers; in xdist's own way where `--dist` asks for another."""
    return _ByFixtures(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves a file unread that names no slow test where only those are asked for.

    Each worker imports what it collects, and that of all files takes as long as many tests.
    """
    if collection_path.suffix != ".py" or not config.getoption("markexpr").startswith("slow"):
        return None
    return "mark.slow" not in collection_path.read_text(encoding="utf-8") or None


def pytest_collection() -> None:
    """Nothing that collection makes is garbage before the end."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Looks for garbage again, but not among that: that took a tenth of the time of short tests."""
    gc.enable()
    gc.freeze()


_LONGEST = ("ui", "cli", "notebook", "test_docs.py", "stages", "defs", "detection")
"""Folders and files that take longest: begun at last, one would be waited for by idle cores.

First those whose files stay together, as `_ONE_FIXTURE` says: one worker takes minutes for them.
The examples of the docs call what no other fast test does, and wait until that is compiled.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files and all below the longest folders come first, the others as collected."""
    order = {name: number for number, name in enumerate(_LONGEST)}

    def place(item: pytest.Item) -> int:
        file = item.nodeid.partition("::")[0]
        return min(order.get(name, len(order)) for name in PurePosixPath(file).parts)

    items.sort(key=place)


REPOSITORY = Path(__file__).resolve().parents[1]


def printed_by(module: str, *arguments: object) -> Any:
    """The JSON that a module prints, run as a process of its own, which must end well."""
    ran = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == ran.returncode, ran.stderr
    return json.loads(ran.stdout)


def kilobytes(name: str, process: int | str = "self") -> int:
    """What a process has of a kind of memory, as `/proc/<process>/status` calls it."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith(name))
    return int(line.split()[1])


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """The real sample days with their ground truth; tests that need it skip where it is absent."""
    return sample_root()
