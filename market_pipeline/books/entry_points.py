"""Kernels that call another one where it lies, as Python does, instead of being compiled with it.

What a kernel calls becomes part of it, and is compiled again for each that calls it: right for what
every message calls, and wrong for one as large as the rebuild that a few call once a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba
from numba._dispatcher import compute_fingerprint
from numba.core.cgutils import if_unlikely, unpack_tuple
from numba.core.registry import CPUDispatcher
from numba.core.types import StarArgTuple, int64
from numba.extending import intrinsic

__all__ = ["address_of", "call_at"]

_addresses: dict[tuple[object, bytes], int] = {}


def address_of(kernel: Callable[..., int], arguments: tuple[Any, ...]) -> int:
    """Where the machine code of a kernel for arguments of these types is, for `call_at`.

    It is compiled or loaded first, if it is not there. It must return an int64.
    """
    key = kernel, compute_fingerprint(arguments)
    if key not in _addresses:
        dispatcher, types = cast("CPUDispatcher", kernel), tuple(map(numba.typeof, arguments))
        dispatcher.compile(types)
        compiled: Any = dispatcher.overloads[types]
        assert compiled.signature.return_type == int64
        _addresses[key] = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    return _addresses[key]


@intrinsic
def call_at(typing_context, address, *types):  # noqa: ANN002
    """Calls, in a kernel, the one that `address_of` gave the address of for these arguments."""

    def generate(context, builder, signature, values):
        convention = context.call_conv
        of_kernel = convention.get_function_type(int64, types).as_pointer()
        kernel, unpacked = builder.inttoptr(values[0], of_kernel), unpack_tuple(builder, values[1])
        status, result = convention.call_function(builder, kernel, int64, types, unpacked)
        with if_unlikely(builder, status.is_error):
            convention.return_status_propagate(builder, status)
        return result

    return int64(int64, StarArgTuple(types)), generate
