"""Hold data against the columns its table declares, before a byte of it is written."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from market_pipeline.errors import PublishError
from market_pipeline.warehouse.tables import Table

__all__ = ["Conformer", "empty_frame", "instrument_parts", "stored_schema"]


class Conformer:
    """Gives batch after batch exactly a table's columns, in its order and Arrow types.

    Columns are matched by name, never by position.
    Only the spelling of a type may differ: large and view strings, large lists, dictionaries, and
    the null type of a column without any value.
    A narrower or wider number is refused, because which one is right is the producer's to know.
    Columns are looked at again only when they change: a day is thousands of batches of the same.

    Args:
        table: What the data is for.
        schema: The same columns in other types to give them; the declared ones if None.
    """

    def __init__(self, table: Table, schema: pa.Schema | None = None) -> None:
        self._table = table
        self._declared = table.arrow_schema
        self._wanted = self._declared if schema is None else schema
        self._checked: pa.Schema | None = None
        self._positions: list[int] = []

    def conform(self, data: pa.Table) -> pa.Table:
        """The data as the table declares it; zero rows are fine, their columns are checked as well.

        Raises:
            PublishError: A column is missing, unexpected, there twice, or of another type.
        """
        if self._checked is None or not self._checked.equals(data.schema):
            self._check(data.schema)
            self._positions = [data.schema.get_field_index(name) for name in self._declared.names]
            self._checked = data.schema
        columns = data.columns
        return pa.Table.from_arrays(
            [
                columns[at] if columns[at].type == target.type else columns[at].cast(target.type)
                for at, target in zip(self._positions, self._wanted, strict=True)
            ],
            schema=self._wanted,
        )

    def _check(self, schema: pa.Schema) -> None:
        names, found = self._declared.names, schema.names
        missing = [name for name in names if name not in found]
        unexpected = [name for name in found if name not in names]
        repeated = sorted({name for name in found if found.count(name) > 1})
        if missing or unexpected or repeated:
            raise PublishError(
                f"the columns are not those of {self._table.sql_name}: missing {missing}, "
                f"unexpected {unexpected}, repeated {repeated}",
                next_step="Give the rows exactly the columns that the table declares.",
                column=(missing + unexpected + repeated)[0],
                expected=", ".join(names),
                found=", ".join(found),
            )
        for field in self._declared:
            kind = schema.field(field.name).type
            if not (pa.types.is_null(kind) or _plain(kind) == field.type):
                raise PublishError(
                    f"a column of {self._table.sql_name} has another type than the table declares",
                    next_step="Cast the column where it is computed.",
                    column=field.name,
                    expected=str(field.type),
                    found=str(kind),
                )


def stored_schema(table: Table) -> pa.Schema:
    """The Arrow schema of the table's Parquet files.

    It is the declared one, but for unsigned 16-bit integers, which lie in the files as 32-bit ones:
    Delta has no unsigned type, and readers that take the type from the Delta log would see 65535
    as an error or a negative number.
    """
    return pa.schema(
        [
            pa.field(field.name, pa.int32() if field.type == pa.uint16() else field.type)
            for field in table.arrow_schema
        ]
    )


def empty_frame(schema: pa.Schema) -> pl.DataFrame:
    """A Polars frame without rows, with the columns and types of an Arrow schema."""
    frame = pl.from_arrow(schema.empty_table())
    if not isinstance(frame, pl.DataFrame):
        raise TypeError("an Arrow table becomes a Polars frame")
    return frame


def instrument_parts(instrument: str) -> tuple[str, str]:
    """Exchange and symbol of an instrument id such as `BINANCE:BTC-USDT`.

    Raises:
        PublishError: It is not of the form `EXCHANGE:SYMBOL`.
    """
    exchange, colon, symbol = instrument.partition(":")
    if not (exchange and colon and symbol):
        raise PublishError(
            "this is no instrument id",
            next_step="Write it as EXCHANGE:SYMBOL.",
            expected="EXCHANGE:SYMBOL",
            found=instrument,
        )
    return exchange, symbol


def _plain(found: pa.DataType) -> pa.DataType:
    """The type without the ways in which Arrow producers spell it differently."""
    if pa.types.is_dictionary(found):
        return _plain(found.value_type)
    if pa.types.is_large_string(found) or pa.types.is_string_view(found):
        return pa.string()
    if pa.types.is_list(found) or pa.types.is_large_list(found):
        return pa.list_(_plain(found.value_type))
    return found
