"""How the kernels are compiled, and where their machine code is kept."""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Never, ParamSpec, TypeVar, cast

import numba
from llvmlite.binding import ModuleRef
from numba.core import postproc
from numba.core.base import BaseContext
from numba.core.caching import FunctionCache, NullCache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import PassManager
from numba.core.cpu import CPUContext
from numba.core.registry import CPUDispatcher
from numba.core.targetconfig import ConfigStack
from numba.core.transforms import canonicalize_cfg
from numba.core.typed_passes import (
    AnnotateTypes,
    IRLegalization,
    NoPythonBackend,
    NopythonTypeInference,
    PreLowerStripPhis,
)
from numba.core.types import BaseFunction, Function, Type, unliteral
from numba.core.typing.context import Context
from numba.core.typing.templates import CallableTemplate, Signature
from numba.core.untyped_passes import (
    DeadBranchPrune,
    FixupArgs,
    GenericRewrites,
    IRProcessing,
    ReconstructSSA,
    RewriteSemanticConstants,
    TranslateByteCode,
)
from platformdirs import user_cache_path

from market_pipeline._by_address import by_address, type_of_value
from market_pipeline._lowering import LeanLowering
from market_pipeline._machine_code import Cache, FilePerSignature, held_by_this_process

__all__ = ["callback_kernel", "inlined_kernel", "is_compiled", "kernel"]

_LOG = logging.getLogger(__name__)

_GIVEN = os.environ.get("NUMBA_CACHE_DIR")
_CACHE_FOLDER = Path(_GIVEN) if _GIVEN else user_cache_path("market_pipeline") / "numba"

# numba's reference counts are off: no kernel allocates, and the compiler refuses one that does.
# Handing an array to a function costs nothing that way; counting took a third of a rebuild.
# Nobody calls a kernel from C; the wrappers for that took a seventh of the compilation.
# No debugger finds variables in kernels, also where NUMBA_DEBUGINFO asks for them: see `_lowering`.
_OPTIONS = {
    "nopython": True,
    "nogil": True,
    "_nrt": False,
    "no_cfunc_wrapper": True,
    "debug": False,
}

_COMPILER = ("jit", "_by_address", "_lowering", "_machine_code")

# What calls a function from Python took a quarter of the compilation; kernels call most of them.
_PART_OPTIONS = {**_OPTIONS, "no_cpython_wrapper": True}

_PASSES = (
    TranslateByteCode,
    FixupArgs,
    IRProcessing,
    RewriteSemanticConstants,
    DeadBranchPrune,
    GenericRewrites,
    ReconstructSSA,
    NopythonTypeInference,
    PreLowerStripPhis,
    IRLegalization,
    AnnotateTypes,
    LeanLowering,
    NoPythonBackend,
)

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_Type = TypeVar("_Type")


def kernel(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Compiles a function on first call, without the GIL, and keeps the machine code on disk.

    Only integers and exact conversions are computed in kernels, so no fast-math is allowed.
    """
    return _Kernel(function)


def inlined_kernel(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """A kernel that becomes part of each kernel that calls it: for what every message calls."""
    return _Kernel(function, {**_PART_OPTIONS, "forceinline": True})


@cache
def callback_kernel(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """A kernel for a function that is given others to call, or is given to one as such.

    It is compiled in each process: what it calls is no part of the package's sources.
    """
    if isinstance(function, CPUDispatcher):
        return function
    return CPUDispatcher(function, targetoptions=_OPTIONS)


def is_compiled(package: Path) -> bool:
    """Whether there is machine code of a folder's kernels as they are."""
    return any((_CACHE_FOLDER / _digest(package)).rglob("*.nbc"))


class _Compiler(CompilerBase):
    """What of numba's compiler kernels need, which have no closures, and make no arrays.

    What looks for these, and the analysis of the whole function after each look, took a twelfth of
    the compilation.
    """

    def __init__(self, typing: Any, target: Any, library: Any, given: Any, *others: Any) -> None:
        taken = tuple(map(by_address, given))
        super().__init__(typing, target, library, taken, *others)  # type: ignore[no-untyped-call]

    def define_pipelines(self) -> list[PassManager]:
        """Gives the passes."""
        passes = PassManager("kernel")
        for each in _PASSES:
            passes.add_pass(each, each.__name__)
        passes.finalize()
        return [passes]


class _Blocks(postproc.PostProcessor):
    """What of numba's analysis of a function kernels need, which count no references.

    Where each variable is used last was found five times, which took a tenth of the compilation.
    """

    def run(self, emit_dels: bool = False, extend_lifetimes: bool = False) -> None:
        """Brings the blocks into the form that the next pass expects."""
        self.func_ir.blocks = canonicalize_cfg(self.func_ir.blocks)
        self.func_ir.generator_info = None


class _Library(JITCodeLibrary):
    """What is compiled of a kernel: optimised with all that it calls, and not each function before.

    That took a sixth of the compilation, and made nothing faster.
    """

    def _optimize_functions(self, ll_module: ModuleRef) -> None:
        ll_module.data_layout = self._codegen._data_layout


class _PartLibrary(_Library):
    """What is compiled of a part: nobody calls it but kernels, into which it is linked.

    So it is neither optimised on its own, which those do once more, nor made machine code of: that
    took a fifth of the compilation.
    """

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True


@contextmanager
def _replaced(of: object, **ours: object) -> Iterator[None]:
    of_caller = {name: getattr(of, name) for name in ours}
    try:
        vars(of).update(ours)
        yield
    finally:
        vars(of).update(of_caller)


_typed: dict[Hashable, tuple[Signature, Hashable]] = {}


def _call_type(
    function: Any, context: Context, args: tuple[Type, ...], kws: Mapping[str, Type]
) -> Signature:
    """As that of numba's functions, which also note how what they found is implemented."""
    flags = ConfigStack.top_or_none()
    key = function, context, tuple(args), tuple(kws.items()), flags.nrt, flags.forceinline
    if key not in _typed:
        found: Any = BaseFunction.get_call_type(function, context, args, kws)
        _typed[key] = found, function.get_impl_key(found)
    signature, function._impl_keys[signature.args] = _typed[key]
    return signature


@contextmanager
def _typing_once() -> Iterator[None]:
    """Looks up once what an operator makes of operands of some types.

    numba goes through all that is registered for it, twenty functions for `+`, wherever it is
    written, as often as types are inferred, and once more to lower it.
    """
    function: Any = Function
    of_caller = function.get_call_type
    function.get_call_type = _call_type
    try:
        yield
    finally:
        function.get_call_type = of_caller


@contextmanager
def _compiling(context: BaseContext, **ours: object) -> Iterator[None]:
    """Compiles as kernels are, with what is theirs of a context's code generator."""
    codegen = cast("CPUContext", context).codegen()
    analysis = _replaced(postproc, PostProcessor=_Blocks)
    with global_compiler_lock, _typing_once(), analysis, _replaced(codegen, **ours):
        yield


def _taken(given: _Type) -> _Type:
    return cast("_Type", by_address(unliteral(given)))


class _Part(CPUDispatcher):
    """A function as kernels call it; its machine code is kept with theirs."""

    def compile(self, sig: str | tuple[Type, ...] | Signature) -> Callable[..., object]:
        """Compiles it, and what it calls, for linking alone."""
        # What has no machine code has no place for the Python objects that it uses, which are none.
        with _compiling(self.targetctx, _library_class=_PartLibrary, set_env=lambda *_: None):
            return super().compile(sig)

    def get_call_template(
        self, args: Sequence[_Type], kws: Sequence[tuple[str, _Type]] | dict[str, _Type]
    ) -> tuple[type[CallableTemplate], inspect.Signature, tuple[_Type, ...], dict[Never, Never]]:
        """Lets it be compiled for types only, and not again for each constant it is given."""
        return super().get_call_template(
            [_taken(each) for each in args],
            {name: _taken(each) for name, each in dict(kws).items()},
        )


class _Kernel(CPUDispatcher):
    """Compiles once for all processes, and names its files by the types it is compiled for.

    What a kernel needs is made when it is first called: most of the 180 never are in a process.
    """

    _cache: FunctionCache | NullCache

    def __init__(
        self, py_func: Callable[..., object], part_options: Mapping[str, bool] = _PART_OPTIONS
    ) -> None:
        super().__init__(py_func, targetoptions=_OPTIONS, pipeline_class=_Compiler)
        self._part_options = part_options
        # Not later: the sources may have become those of another version by then.
        self._folder = _folder(py_func)

    @cached_property
    def part(self) -> Any:
        """The same for other kernels, which are compiled with it."""
        options = dict(self._part_options)
        return _Part(self.py_func, targetoptions=options, pipeline_class=_Compiler)

    def enable_caching(self) -> None:
        """Keeps the machine code in the folder of the package's sources as they are.

        Where there can be no such folder, each process compiles, with a warning in its log.
        """
        try:
            # The cached code is unpickled, so nobody else may write there.
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            _warn_once(str(error))
            return
        config = vars(numba.config)
        elsewhere = config["CACHE_DIR"]
        config["CACHE_DIR"] = str(self._folder)
        try:
            super().enable_caching()
        finally:
            config["CACHE_DIR"] = elsewhere
        cast("FunctionCache", self._cache)._cache_file.__class__ = FilePerSignature
        self._cache.__class__ = Cache

    def add_overload(self, compiled: Any) -> None:
        """Keeps what was compiled by the types of what Python calls it with."""
        of_numba: Any = self
        types: tuple[Any, ...] = tuple(map(type_of_value, compiled.signature.args))
        of_numba._insert([each._code for each in types], compiled.entry_point, compiled.objectmode)
        self.overloads[types] = compiled

    def get_call_template(
        self, args: Sequence[_Type], kws: Sequence[tuple[str, _Type]] | dict[str, _Type]
    ) -> tuple[type[CallableTemplate], inspect.Signature, tuple[_Type, ...], dict[Never, Never]]:
        """What other kernels call."""
        part: _Part = self.part
        return part.get_call_template(args, kws)

    def get_overload(self, sig: str | tuple[Type, ...] | Signature) -> Callable[..., object]:
        """The machine code that other kernels call."""
        part: _Part = self.part
        return part.get_overload(sig)

    def compile(self, sig: str | tuple[Type, ...] | Signature) -> Callable[..., object]:
        """Lets processes that start together compile it once: the others wait and load it."""
        lock = self._folder / f"{self.py_func.__module__}.{self.py_func.__qualname__}.lock"
        # In this order: a thread that holds the compiler waits for the locks of what it calls.
        with global_compiler_lock:
            if isinstance(self._cache, NullCache):
                self.enable_caching()
            with held_by_this_process(lock), _compiling(self.targetctx, _library_class=_Library):
                return super().compile(sig)


@cache
def _warn_once(reason: str) -> None:
    _LOG.warning(
        "compiled kernels cannot be kept (%s): each process compiles what it calls, up to half a "
        "minute. Set NUMBA_CACHE_DIR to a folder that only you may write to.",
        reason,
    )


def _folder(function: Callable[..., object]) -> Path:
    return _CACHE_FOLDER / _digest(Path(function.__code__.co_filename).parent)


@cache
def _digest(package: Path) -> str:
    """Names the state of the sources that kernels of a package are made of, and of what compiles.

    numba looks only at the file of the function itself, and would go on using machine code that has
    an older version of another module compiled into it. No kernel calls one of another package.
    """
    digest = hashlib.sha256()
    compiler = (Path(__file__).with_name(f"{each}.py") for each in _COMPILER)
    for source in (*compiler, *sorted(package.glob("*.py"))):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
