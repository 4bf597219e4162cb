"""Machine code on disk: what is loaded fits the types it is called with."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from errno import ENOSPC
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError
from numba.core.event import install_recorder
from numba.core.types import Function
from numpy.typing import NDArray

from market_pipeline import _machine_code, jit


def total_of(values):
    """A sum, of the type of what is added."""
    total = values[0] * 0
    for value in values:
        total += value
    return total


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for machine code."""
    monkeypatch.setattr(jit, "_CACHE_FOLDER", tmp_path / "cache")
    return tmp_path / "cache"


def test_processes_that_compile_for_different_types_at_once(cache: Path):
    """Each file holds what its index said when it was written, whoever wrote last."""
    integers, doubles = np.array([1, 2]), np.array([0.5, 1.0])
    assert 3 == jit.kernel(total_of)(integers)
    (index,) = cache.rglob("*.nbi")
    of_the_first = index.read_bytes()
    (file,) = cache.rglob("*.nbc")
    machine_code = file.read_bytes()
    index.unlink()  # the second began before the first was done
    assert 1.5 == jit.kernel(total_of)(doubles)
    index.write_bytes(of_the_first)  # and the first was done last

    third = jit.kernel(total_of)

    assert 3 == third(integers)
    assert {1} == set(third.stats.cache_hits.values())
    assert 1.5 == third(doubles)
    assert machine_code == file.read_bytes()


def test_machine_code_is_there(cache: Path):
    """A folder's kernels are compiled once one of them was called, as the sources are now."""
    folder = Path(__file__).parent
    before = jit.is_compiled(folder)
    jit.kernel(total_of)(np.array([1, 2]))

    assert (False, True, False) == (before, jit.is_compiled(folder), jit.is_compiled(folder.parent))


def test_a_part_is_a_kernel_too(cache: Path):
    """What was compiled for other kernels alone can be called itself, and linked once more."""
    total = jit.kernel(total_of)
    values = np.array([1, 2])

    doubled = jit.kernel(lambda numbers: 2 * total(numbers))
    first = doubled(values), total(values)
    trebled = jit.kernel(lambda numbers: 3 * total(numbers))

    assert ((6, 3), 9, 6) == (first, trebled(values), doubled(values))


def test_a_part_is_no_machine_code(cache: Path):
    """Of what a kernel calls nothing is optimised or made ready to run but within the kernel."""
    total = jit.kernel(total_of)
    jit.kernel(lambda numbers: 2 * total(numbers))(np.array([1, 2]))
    (compiled,) = total.part.overloads.values()

    name = compiled.fndesc.llvm_func_name
    assert 0 == compiled.library.get_pointer_to_function(name)


def test_constants_are_no_types_of_their_own(cache: Path):
    """A kernel that others call with constants is compiled once for them all."""
    total = jit.kernel(total_of)
    moved = jit.kernel(lambda number, step: number + step)

    @jit.kernel
    def both_ways(values):
        return moved(moved(total(values), 1), -1)

    with install_recorder("numba:compile") as recorded:
        assert 3 == both_ways(np.array([1, 2]))

    of_moved = [
        event
        for _, event in recorded.buffer
        if event.is_start and event.data["dispatcher"].py_func is moved.py_func
    ]
    assert 1 == len(of_moved)


def test_what_is_compiled_elsewhere_is_left_alone(cache: Path):
    """What types a kernel's operators have is remembered for kernels, also if one has none."""
    of_numba = Function.get_call_type
    total = jit.kernel(total_of)
    with pytest.raises(TypingError):
        total("text")
    assert 3 == total(np.array([1, 2]))

    assert of_numba is Function.get_call_type
    assert [3, 5] == list(njit(lambda values: np.cumsum(values) * values[0] + 2)(np.array([1, 2])))


class Scaled(NamedTuple):
    """Numbers and what they are multiplied by."""

    values: NDArray[np.int64]
    factor: int


class Both(NamedTuple):
    """Tuples in a tuple, and where a result is written."""

    first: Scaled
    second: Scaled
    is_known: bool
    written: NDArray[np.int64]


def test_named_tuples_are_taken_by_address(cache: Path):
    """A kernel hands on a named tuple as one address, and reads what Python would read of it."""
    scaled = jit.kernel(lambda given, shift: (given.values[0] + shift) * given.factor)

    @jit.kernel
    def write(both, row):
        for shift in range(row):
            both.written[row] += scaled(both.second, shift) - scaled(both.first, shift)
        return both.written[row] if both.is_known else -1

    first, second = Scaled(np.array([1]), 3), Scaled(np.array([4]), 6)
    written = np.zeros(4, np.int64)
    known, unknown = (Both(first, second, is_known, written) for is_known in (True, False))
    assert (72, -1) == (write(known, 3), write(unknown, 2))
    assert [0, 0, 45, 72] == written.tolist()

    (compiled,) = scaled.part.overloads.values()
    function = compiled.library.get_function(compiled.fndesc.llvm_func_name)
    of_numba = 2  # where the result is written, and an exception
    assert of_numba + 2 == len([*function.arguments])


def shifted(rows, table, at, column):
    """Items of a row and of a table, which are also set, and how many there are."""
    last, count = rows[-1], rows.size + table.shape[1]
    before = rows[at]
    rows[at] = table[at, column]
    table[at, column] = last
    table[-1, 0] += 1
    for i in range(len(rows)):
        last = rows[i]
        count += last == before
    return before, last, count, rows.shape[0]


@pytest.mark.parametrize("dtype", [np.int64, np.uint16])
@pytest.mark.parametrize("index", [np.int64, np.int32, np.uint64, np.uint8])
@pytest.mark.parametrize("step", [1, 2])
def test_items_are_those_of_python(
    cache: Path, dtype: type[np.generic], index: type[np.integer[Any]], step: int
):
    """Of all types, by all indices, also from the end, in arrays with gaps as without."""

    def arrays() -> tuple[NDArray[Any], NDArray[Any]]:
        return np.arange(12).astype(dtype)[::step], np.arange(60).astype(dtype).reshape(12, 5)

    compiled = jit.kernel(shifted)
    from_end = [(-2, -5)] if np.issubdtype(index, np.signedinteger) else []
    for at, column in [(0, 0), (3, 4), *from_end]:
        expected, actual = arrays(), arrays()
        result = shifted(*expected, at, column)
        assert result == compiled(*actual, index(at), index(column))
        np.testing.assert_array_equal(expected[0], actual[0])
        np.testing.assert_array_equal(expected[1], actual[1])


def test_what_kernels_call_is_part_of_them(cache: Path):
    """Only what Python calls can be called from there and is kept on disk."""
    total = jit.kernel(total_of)

    @jit.kernel
    def twice(values):
        return 2 * total(values)

    assert 6 == twice(np.array([1, 2]))
    assert [] == total.signatures
    assert 1 == len([*cache.rglob("*.nbi")])
    assert 3 == total(np.array([1, 2]))
    assert 2 == len([*cache.rglob("*.nbi")])


def test_nothing_is_on_disk_before_a_call(cache: Path):
    """A kernel that no one calls costs no look at the disk."""
    uncalled = jit.kernel(total_of)

    assert not cache.exists()
    assert 3 == uncalled(np.array([1, 2]))


def test_machine_code_is_found_again(cache: Path):
    """The index names every file: nothing is compiled twice."""
    for values in (np.array([1, 2]), np.array([0.5, 1.0])):
        jit.kernel(total_of)(values)
    again = jit.kernel(total_of)
    for values in (np.array([1, 2]), np.array([0.5, 1.0])):
        again(values)

    assert 2 == sum(again.stats.cache_hits.values())
    assert not again.stats.cache_misses


FOUND = """
import sys
import numpy as np
from numba import njit
from pathlib import Path
from market_pipeline import jit
from market_pipeline_tests.test_jit import total_of

jit._CACHE_FOLDER = Path(sys.argv[1])
kernel = jit.kernel(total_of)
print(kernel(np.array([1, 2])), "numba.np.linalg" in sys.modules)
print(kernel(np.array([0.5, 1.0])), "numba.np.linalg" in sys.modules)
print(njit(lambda values: kernel(values) + 1)(np.array([1, 2])))
"""


def test_machine_code_is_called_without_a_compiler(cache: Path):
    """What a process finds it calls before numba has loaded what compiling needs; then it may."""
    jit.kernel(total_of)(np.array([1, 2]))
    command = [sys.executable, "-c", FOUND, str(cache)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout

    assert ["3 False", "1.5 True", "4"] == answer.splitlines()


TWO_AT_ONCE = """
import sys
import numpy as np
from pathlib import Path
from market_pipeline import jit
from market_pipeline_tests.test_jit import total_of

jit._CACHE_FOLDER = Path(sys.argv[1])
kernel = jit.kernel(total_of)
print("ready", flush=True)
sys.stdin.readline()
print(kernel(np.array([1, 2])), sum(kernel.stats.cache_misses.values()))
"""


def test_processes_that_start_together_compile_once(cache: Path):
    """Of two processes that need a kernel at once one compiles it, and the other loads it."""
    command = [sys.executable, "-c", TWO_AT_ONCE, str(cache)]
    pipe = subprocess.PIPE
    both = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    for each in both:
        assert each.stdout is not None
        assert "ready\n" == each.stdout.readline()
    said = []
    for each in both:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    for each in both:
        said.append(each.communicate()[0].split())

    assert [["3", "0"], ["3", "1"]] == sorted(said)


def lock_of_total(cache: Path) -> Path:
    """Where processes that compile `total_of` hold each other off."""
    folder = cache / jit._digest(Path(__file__).parent)
    folder.mkdir(parents=True)
    return folder / f"{total_of.__module__}.total_of.lock"


def test_a_folder_without_locks(cache: Path):
    """Where no lock can be taken each process compiles for itself."""
    lock_of_total(cache).mkdir()

    assert 3 == jit.kernel(total_of)(np.array([1, 2]))


def test_a_process_that_never_ends_compiling(cache: Path, monkeypatch: pytest.MonkeyPatch):
    """Who has waited long for another one, which may be suspended, compiles for itself."""
    monkeypatch.setattr(_machine_code, "_WAIT_SECONDS", 0.2)
    with lock_of_total(cache).open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        assert 3 == jit.kernel(total_of)(np.array([1, 2]))


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("bytes_left", [0, 1, -1])
def test_a_file_that_a_crash_cut_off(cache: Path, suffix: str, bytes_left: int):
    """What cannot be read is compiled and written again, and found by the next process."""
    jit.kernel(total_of)(np.array([1, 2]))
    (file,) = cache.rglob(f"*.{suffix}")
    file.write_bytes(file.read_bytes()[:bytes_left])
    first, second = jit.kernel(total_of), jit.kernel(total_of)

    assert (3, 3) == (first(np.array([1, 2])), second(np.array([1, 2])))
    assert not first.stats.cache_hits
    assert not second.stats.cache_misses


def test_a_disk_without_room(cache: Path, monkeypatch: pytest.MonkeyPatch):
    """A kernel whose machine code could not be kept is called all the same."""

    def full(*_: object) -> None:
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(_machine_code.FilePerSignature, "_save_data", full)

    assert 3 == jit.kernel(total_of)(np.array([1, 2]))
    assert not [*cache.rglob("*.nbi")]


def test_no_folder_can_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Kernels are called though their machine code cannot be kept, with one warning in the log."""
    (tmp_path / "file").touch()
    monkeypatch.setattr(jit, "_CACHE_FOLDER", tmp_path / "file" / "cache")

    assert [3, 3] == [jit.kernel(total_of)(np.array([1, 2])) for _ in range(2)]
    assert 1 == caplog.text.count("Set NUMBA_CACHE_DIR to a folder")
