"""Named tuples as kernels take them and hand them on: by address, and not number by number.

The arrays and options of a rebuild are 570 numbers. numba makes a parameter of each of them for
each function that is given them; to take them apart and put them together was a fifth of the
compilation.

Kernels read the fields of such a tuple by their names, and return or unpack none.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core.cgutils import alloca_once_value, gep_inbounds
from numba.core.datamodel.manager import DataModelManager
from numba.core.datamodel.models import PrimitiveModel
from numba.core.datamodel.registry import register_default
from numba.core.pythonapi import NativeValue
from numba.core.types import BaseNamedTuple, Type
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, lower_cast, lower_getattr_generic, unbox

__all__ = ["by_address", "type_of_value"]


class _ByAddress(Type):
    def __init__(self, of: BaseNamedTuple) -> None:
        self.of = of
        super().__init__(f"ByAddress({of.name})")

    @property
    def mangling_args(self):
        """Says how it is called in the names of functions; numba adds what makes them unique."""
        return self.of.instance_class.__name__, ()


def by_address(given: Type) -> Type:
    """What a kernel takes that is given a value of a type."""
    return _ByAddress(given) if isinstance(given, BaseNamedTuple) else given


def type_of_value(taken: Type) -> Type:
    """The type of the value that a kernel is given for what it takes."""
    return taken.of if isinstance(taken, _ByAddress) else taken


@register_default(_ByAddress)
class _Address(PrimitiveModel):
    def __init__(self, manager: DataModelManager, taken: _ByAddress) -> None:
        super().__init__(manager, taken, manager[taken.of].get_value_type().as_pointer())


@infer_getattr
class _Fields(AttributeTemplate):
    key = _ByAddress

    def generic_resolve(self, taken, name):
        """Gives the type of a field."""
        return by_address(taken.of.types[taken.of.fields.index(name)])


@lower_getattr_generic(_ByAddress)
def _field(context, builder, taken, address, name):
    if isinstance(address, ir.Argument):
        # No kernel writes there, so what was read once need not be read again.
        address.add_attribute("noalias")
    position = taken.of.fields.index(name)
    field = gep_inbounds(builder, address, 0, position)
    return field if isinstance(taken.of.types[position], BaseNamedTuple) else builder.load(field)


@lower_cast(BaseNamedTuple, _ByAddress)
def _place(context, builder, given, taken, value):
    return alloca_once_value(builder, value)


@unbox(_ByAddress)
def _unbox(taken, value, caller):
    native = caller.unbox(taken.of, value)
    return NativeValue(
        alloca_once_value(caller.builder, native.value), native.is_error, native.cleanup
    )
