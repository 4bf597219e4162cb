"""What the machine refuses, as an error of ours: where, what was needed, what to do next.

Errors of the system and of libraries are made ours where they leave the package: in the console
script, in the steps of Dagster, and in the doctor. Those that are ours already stay what they are.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import re
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from inspect import isgeneratorfunction
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

from market_pipeline.errors import (
    LakeFileError,
    MachineError,
    MarketPipelineError,
    error_text,
    is_of_machine,
    machine_errno,
)

__all__ = [
    "LEAST_OPEN_FILES",
    "as_machine_error",
    "give_memory_back",
    "in_our_words",
    "nearest_folder",
    "no_garbage_collected",
    "panic_without_backtrace",
    "peak_rss_mb",
    "reports_machine_errors",
    "require_memory",
    "require_open_files",
]

LEAST_OPEN_FILES = 128
"""A run with two threads was measured to need 32; each further thread and shard needs some more."""

_MEMORY = {
    "address space": (resource.RLIMIT_AS, 4 << 30, "ulimit -v"),
    "data": (resource.RLIMIT_DATA, 1 << 30, "ulimit -d"),
}
"""What a process's memory may be limited by, and the least of it: below, libraries end the process
while they load, without a word that could be caught."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEXT_TO_NOTHING_BYTES = 1 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_AGAIN = "then run this again; what was published before is untouched"
_PATH = re.compile(r"""["'](/[^"'\n]+)["']|(?:file|directory:|: )\s*(/[^\s:#"']+)""")

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


@contextmanager
def in_our_words() -> Iterator[None]:
    """Raises a `MachineError` in place of what the machine refuses in the `with` block."""
    try:
        yield
    except Exception as error:
        machine_error = as_machine_error(error)
        if machine_error is None:
            raise
        raise machine_error from None


def reports_machine_errors(
    function: Callable[_Parameters, _Result],
) -> Callable[_Parameters, _Result]:
    """`in_our_words` around a function, or around all steps of a generator."""

    @wraps(function)
    def call(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        with in_our_words():
            return function(*args, **kwargs)

    @wraps(function)
    def steps(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> Iterator[object]:
        with in_our_words():
            yield from cast("Iterator[object]", function(*args, **kwargs))

    return cast("Callable[_Parameters, _Result]", steps) if isgeneratorfunction(function) else call


def as_machine_error(error: BaseException, place: str | None = None) -> MachineError | None:
    """The error of ours for what the machine refused; None if it is ours already, or a fault.

    Args:
        error: What was raised.
        place: Where, if that is known better than the error says.
    """
    if isinstance(error, MachineError):
        return error
    # A file that could not be opened for want of descriptors or memory is not damaged.
    if isinstance(error, MarketPipelineError):
        if not (isinstance(error, LakeFileError) and is_of_machine(error)):
            return None
        place = place or error.file
    number = machine_errno(error)
    if number is None:
        return None
    if "unable to open database file" in str(error) and _nearly_all_are_open():
        number = errno.EMFILE  # SQLite says the same for both
    if number == errno.ENOMEM:
        return _no_memory(place)
    if number in {errno.EMFILE, errno.ENFILE}:
        return _too_many_files(number, place)
    place = place or _place(error, number)
    if number == errno.EIO and "disk I/O error" in str(error):
        fullest = _place(error, errno.ENOSPC)
        if resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY:
            number, place = errno.EFBIG, fullest
        elif shutil.disk_usage(fullest).free < _NEXT_TO_NOTHING_BYTES:
            number, place = errno.ENOSPC, fullest  # SQLite says so where it cannot grow its log
    if number in _FULL:
        return _full(number, place)
    if number in _FORBIDDEN:
        return _forbidden(number, place)
    if number == errno.EAGAIN:
        return MachineError(
            "The system starts no further thread or process",
            expected="a thread for each instrument that is rebuilt at once",
            found=os.strerror(number),
            next_step=f"Lower PIPELINE_THREADS or raise the limit (`ulimit -u`), {_AGAIN}.",
        )
    return MachineError(
        f"The system refused a file or folder: {os.strerror(number)}",
        file=place,
        expected="a disk and folders that can be read and written",
        found=error_text(error).partition(" [SQL: ")[0],
        next_step=f"Look after that path and its disk (`dmesg` tells of bad ones), {_AGAIN}.",
    )


def panic_without_backtrace() -> None:
    """Has libraries in Rust leave out the backtrace when they panic.

    To look up its names takes memory. Where that is what they panic for, they panic once more and
    then wait for themselves for ever, deaf to signals.
    """
    os.environ["RUST_BACKTRACE"] = "0"


@contextmanager
def no_garbage_collected() -> Iterator[None]:
    """For imports: the collector looks again and again at all that they make, and nearly all stays.

    Nor does it look at that later, while the process works or at its end. All of this was a third
    of the processor time of a process that only loads Dagster and the definitions. One that had the
    collector off, or is inside another such block, has it off still.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
        gc.freeze()


def give_memory_back() -> None:
    """Has arrays of a megabyte or more go back to the system as soon as they are freed.

    glibc raises that size with each array freed, up to 32 MB, and what of a day's arrays lies
    between things that live on then stays with the process. Smaller ones are given back once four
    megabytes are free: as soon as an eighth of that is, each batch needed new pages for its arrays.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:  # only glibc has it
        set_option(_M_MMAP_THRESHOLD, 1 << 20)
        set_option(_M_TRIM_THRESHOLD, 4 << 20)


def require_open_files() -> int:
    """Raises the limit of open files as far as the system allows, and returns it.

    Raises:
        MachineError: That is fewer than a run needs.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = 4_096 if hard == resource.RLIM_INFINITY else min(4_096, hard)
    if soft != resource.RLIM_INFINITY and soft < target:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
            soft = target
    if soft != resource.RLIM_INFINITY and soft < LEAST_OPEN_FILES:
        raise _too_many_files(errno.EMFILE, None)
    return soft


def require_memory() -> dict[str, int]:
    """The limits that are set to a process's memory, in bytes by what they limit.

    Raises:
        MachineError: The libraries do not load in so little.
    """
    limits = _memory_limits()
    if any(limit < _MEMORY[name][1] for name, limit in limits.items()):
        raise _no_memory(None)
    return limits


def nearest_folder(path: Path) -> Path:
    """The path, or the nearest one above it that exists."""
    return next(folder for folder in (path, *path.parents) if os.path.lexists(folder))


def peak_rss_mb() -> float:
    """The most resident memory this process ever had, in MiB.

    The kernel's own mark of this address space where there is one: `ru_maxrss` also remembers the
    parent's size from between fork and exec.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _full(number: int, place: str) -> MachineError:
    needed = "room for what is written there"
    if place.startswith("/"):
        disk = shutil.disk_usage(nearest_folder(Path(place)))
        needed = f"more than the {disk.free:,} of {disk.total:,} bytes that are free now"
    return MachineError(
        "A file may not grow so large" if number == errno.EFBIG else "The disk is full",
        file=place,
        expected=needed,
        found=os.strerror(number),
        next_step="Free some space, raise the quota or limit, or set PIPELINE_DATA_DIR to a "
        f"larger disk, {_AGAIN}.",
    )


def _forbidden(number: int, place: str) -> MachineError:
    read_only = number == errno.EROFS
    return MachineError(
        "A folder is on a read-only disk" if read_only else "A file or folder may not be used",
        file=place,
        expected=f"the user with the id {os.geteuid()} may read and write there",
        found=os.strerror(number),
        next_step=f"{'Mount it writable' if read_only else 'Fix its owner and mode'}, or set "
        f"PIPELINE_DATA_DIR (or DAGSTER_HOME) to a folder that may be written to, {_AGAIN}.",
    )


def _no_memory(place: str | None) -> MachineError:
    limits = (
        f"a limit of {limit:,} bytes of {name} (`{_MEMORY[name][2]}`)"
        for name, limit in _memory_limits().items()
    )
    found = " and ".join(limits) or (
        "no limit is set (`ulimit -v`), so the machine's memory is used up"
    )
    least = " and ".join(f"{least:,} bytes of {name}" for name, (_, least, _) in _MEMORY.items())
    return MachineError(
        "There is not enough memory",
        file=place,
        expected=f"{least}, and the memory of PIPELINE_MEMORY_BUDGET_MB",
        found=found,
        next_step="Raise the limit or end other programs, or lower PIPELINE_THREADS and "
        f"PIPELINE_MEMORY_BUDGET_MB, {_AGAIN}.",
    )


def _memory_limits() -> dict[str, int]:
    limits = {name: resource.getrlimit(kind)[0] for name, (kind, _, _) in _MEMORY.items()}
    return {name: limit for name, limit in limits.items() if limit != resource.RLIM_INFINITY}


def _too_many_files(number: int, place: str | None) -> MachineError:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MachineError(
        "No further file can be opened",
        file=place,
        expected=f"{LEAST_OPEN_FILES:,} open files or more",
        found=f"{os.strerror(number)}; a limit of {limit:,} (`ulimit -n`)",
        next_step=f"Raise the limit (`ulimit -n 4096`), {_AGAIN}.",
    )


def _nearly_all_are_open() -> bool:
    try:
        count = len(os.listdir("/dev/fd"))  # noqa: PTH208
    except OSError:
        return True
    return count + 16 > resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 0


def _place(error: BaseException, number: int) -> str:
    """Where it happened: as the error says, else the folder of ours that looks like it."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and isinstance(seen.filename, str):
            return str(Path(seen.filename).absolute())
        if type(seen).__module__.partition(".")[0] == "sqlalchemy":  # as Dagster's storage raises
            return str(_folder("DAGSTER_HOME", "."))
        named = _PATH.search(str(seen))
        if named and not isinstance(seen, ImportError):
            return named[1] or named[2]
        seen = seen.__cause__ or seen.__context__
    folders = list(_folders())
    if number in _FULL:
        return str(min(folders, key=lambda folder: shutil.disk_usage(folder).free))
    closed = (folder for folder in folders if not os.access(folder, os.W_OK | os.X_OK))
    return str(next(closed, folders[0]))


def _folders() -> Iterator[Path]:
    """The folders that are written to, as far as they exist."""
    from market_pipeline.config.settings import load_settings  # noqa: PLC0415

    with suppress(Exception):
        yield nearest_folder(load_settings().data_dir)
    yield _folder("DAGSTER_HOME", ".")
    yield _folder("TMPDIR", "/tmp")


def _folder(variable: str, default: str) -> Path:
    return nearest_folder(Path(os.environ.get(variable) or default).absolute())
