"""Asks the processor for memory some time before it is read, where it cannot foresee that it is."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["fetch_ahead"]

_NUMBER = ir.IntType(32)
_TO_READ, _NEAREST, _DATA = (ir.Constant(_NUMBER, number) for number in (0, 3, 1))


@intrinsic
def fetch_ahead(typing_context, column, index):
    """Begins to fetch an entry of an array, counted over all of its rows; any index will do."""

    def generate(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        address = builder.bitcast(builder.gep(array.data, [args[1]]), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [address.type, _NUMBER, _NUMBER, _NUMBER])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [address.type], kind)
        builder.call(prefetch, [address, _TO_READ, _NEAREST, _DATA])
        return context.get_dummy_value()

    return types.void(column, index), generate
