"""What kernels give LLVM to compile: less of it than numba gives, for code as fast.

For an item of an array numba writes thirty instructions, which LLVM makes into four. It keeps every
variable in memory, and reads it before it is set. That was half of what LLVM was given, and a fifth
of the compilation.
"""

from __future__ import annotations

from collections import Counter

from llvmlite.ir import Constant
from numba.core.cgutils import unpack_tuple
from numba.core.compiler_machinery import register_pass
from numba.core.ir import Assign
from numba.core.lowering import Lower
from numba.core.typed_passes import BaseNativeLowering
from numba.core.types import Array, BaseTuple, Integer, intp
from numba.np.arrayobj import load_item, store_item

__all__ = ["LeanLowering"]

_FIELDS = {"size": "nitems", "shape": "shape"}
"""What numba calls an attribute of an array where it keeps it."""


class _Lower(Lower):
    def _find_singly_assigned_variable(self):
        super()._find_singly_assigned_variable()
        assigned = {
            label: [each.target.name for each in block.find_insts(Assign)]
            for label, block in self.blocks.items()
        }
        times = Counter(name for names in assigned.values() for name in names)
        # The first block comes before all others; numba keeps what only one block uses.
        first = assigned[min(assigned)]
        self._singly_assigned_vars.update(name for name in first if times[name] == 1)

    def storevar(self, value, name, argidx=None):
        """Sets a variable; numba first reads it, to count a reference less."""
        if name in self._singly_assigned_vars:
            self._blk_local_varmap[name] = value
        else:
            self.builder.store(value, self.getvar(name))

    def lower_expr(self, resty, expr):
        """Computes an expression."""
        if expr.op in ("static_getitem", "getattr"):
            given = self.typeof(expr.value.name)
            if isinstance(given, Array) and expr.op == "static_getitem":
                signature = self.fndesc.calltypes[expr]
                return self.lower_getitem(resty, expr, expr.value, expr.index_var, signature)
            if isinstance(given, Array) and expr.attr in _FIELDS:
                return self._field(given, self.loadvar(expr.value.name), _FIELDS[expr.attr])
        return super().lower_expr(resty, expr)

    def lower_getitem(self, resty, expr, value, index, signature):
        """Reads an item."""
        array = signature.args[0]
        address = self._address(array, value, index)
        if address is None:
            return super().lower_getitem(resty, expr, value, index, signature)
        item = load_item(self.context, self.builder, array, address)
        return self.context.cast(self.builder, item, signature.return_type, resty)

    def lower_setitem(self, target_var, index_var, value_var, signature):
        """Sets an item."""
        array = signature.args[0]
        address = self._address(array, target_var, index_var)
        if address is None:
            super().lower_setitem(target_var, index_var, value_var, signature)
        else:
            item = self._cast_var(value_var, array.dtype)
            store_item(self.context, self.builder, array, item, address)

    def _address(self, array, array_var, index_var):
        """Where an item is; None of a view, of what is not contiguous, and where it is checked."""
        index = self.typeof(index_var.name)
        types = tuple(index) if isinstance(index, BaseTuple) else (index,)
        if (
            not isinstance(array, Array)
            or array.layout != "C"
            or len(types) != array.ndim
            or not all(isinstance(each, Integer) for each in types)
            or self.context.enable_boundscheck
        ):
            return None
        builder, value = self.builder, self.loadvar(array_var.name)
        given = self.loadvar(index_var.name)
        indices = unpack_tuple(builder, given) if isinstance(index, BaseTuple) else [given]
        shape = unpack_tuple(builder, self._field(array, value, "shape"), array.ndim)
        position = self._along(shape[0], indices[0], types[0])
        for length, index, index_type in zip(shape[1:], indices[1:], types[1:], strict=True):
            rows = builder.mul(position, length)
            position = builder.add(rows, self._along(length, index, index_type))
        return builder.gep(self._field(array, value, "data"), [position])

    def _field(self, array, value, name):
        """What numba keeps of an array by a name."""
        position = self.context.data_model_manager[array].get_field_position(name)
        return self.builder.extract_value(value, position)

    def _along(self, length, index, index_type):
        """An index from the begin of an axis, which Python also counts from its end."""
        builder = self.builder
        index = self.context.cast(builder, index, index_type, intp)
        if not index_type.signed or (isinstance(index, Constant) and index.constant >= 0):
            return index
        from_end = builder.add(index, length)
        return builder.select(builder.icmp_signed("<", index, index.type(0)), from_end, index)


@register_pass(mutates_CFG=True, analysis_only=False)
class LeanLowering(BaseNativeLowering):
    """Writes the code of a function."""

    _name = "lean_lowering"  # type: ignore[assignment]

    @property
    def lowering_class(self):
        """What writes it."""
        return _Lower
