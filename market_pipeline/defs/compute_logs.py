"""The output of a run's steps in `dagster_home/dagster.yaml`: kept and shown without secrets.

Dagster points standard output and error at files, which two processes each copy to the console.
Here both are pipes to one process that scrubs what comes before it writes it to file and console:
also what libraries in other languages write, and the last words of a process that is killed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from dagster._core.storage.compute_log_manager import CapturedLogContext, ComputeIOType
from dagster._core.storage.local_compute_log_manager import (
    IO_TYPE_EXTENSION,
    LocalComputeLogManager,
)
from dagster._serdes import ConfigurableClassData

from market_pipeline.defs import _output_filter as output_filter
from market_pipeline.scrub.scrubber import learning

__all__ = ["ComputeLogs"]

_PATIENCE_SECONDS = 10.0
"""A process that the step started and left behind keeps the pipe open; it is not waited for."""
_STREAMS = (ComputeIOType.STDOUT, ComputeIOType.STDERR)


class ComputeLogs(LocalComputeLogManager):
    """Dagster's local compute logs, `DAGSTER_HOME/storage/<run>/compute_logs`, without secrets."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> ComputeLogs:
        """The logs below the folder `base_dir`, where Dagster has them by default."""
        return cls(str(Path(config_value["base_dir"]) / "storage"), inst_data=inst_data)

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Generator[CapturedLogContext, None, None]:
        """Keeps and shows what is written to standard output and error in the `with` block."""
        paths = [
            Path(self.get_captured_local_path(log_key, IO_TYPE_EXTENSION[of])) for of in _STREAMS
        ]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        with _filtered(dict(zip((sys.stdout, sys.stderr), paths, strict=True))):
            yield CapturedLogContext(log_key)
        # By this Dagster knows that there comes no more.
        Path(self.get_captured_local_path(log_key, "complete")).touch()


@contextmanager
def _filtered(files: dict[TextIO, Path]) -> Iterator[None]:
    """Sends streams through a process of `output_filter` to their files and where they went."""
    with ExitStack() as stack:
        kept = {
            stream: (number, path)
            for stream, path in files.items()
            if (number := _descriptor(stream)) is not None
        }
        secrets_read, secrets_write = os.pipe()
        pipes = {stream: os.pipe() for stream in kept}
        shown = {stream: os.dup(number) for stream, (number, _) in kept.items()}
        arguments = [f"{secrets_read}"]
        for stream, (_, path) in kept.items():
            arguments += [f"{pipes[stream][0]}", f"{shown[stream]}", str(path)]
        process = subprocess.Popen(
            [sys.executable, "-m", output_filter.__name__, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[secrets_read, *(each[0] for each in pipes.values()), *shown.values()],
        )
        stack.callback(_wait, process)
        for descriptor in (secrets_read, *(each[0] for each in pipes.values())):
            os.close(descriptor)
        stack.callback(os.close, secrets_write)
        stack.enter_context(learning(lambda secret: _tell(secrets_write, secret)))
        for stream, (number, _) in kept.items():
            stack.callback(_restore, stream, number, shown[stream])
            stream.flush()
            os.dup2(pipes[stream][1], number)
            os.close(pipes[stream][1])
        yield


def _descriptor(stream: TextIO | None) -> int | None:
    """What a stream writes to; None if it is none of the system's, as in a test."""
    with suppress(AttributeError, OSError, ValueError):
        return stream.fileno() if stream is not None else None
    return None


def _restore(stream: TextIO, number: int, shown: int) -> None:
    with suppress(OSError, ValueError):
        stream.flush()
    os.dup2(shown, number)
    os.close(shown)


def _tell(descriptor: int, secret: str) -> None:
    with suppress(OSError):  # the filter was killed
        os.write(descriptor, json.dumps(secret).encode() + b"\n")


def _wait(process: subprocess.Popen[bytes]) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE_SECONDS)
