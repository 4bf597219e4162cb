"""A grid of shades as a PNG, for what would be too many shapes."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["SHADES", "png"]

SHADES = 64
# Points of the scale cividis (Nunez, Anderton and Renslow, 2018), which is even to every eye.
_SCALE = (
    *("00224e", "003170", "2a3f6d", "434e6c", "575d6d", "6a6c71", "7d7c78"),
    *("918b78", "a59c74", "bcae6c", "d2c060", "e9d34e", "fee838"),
)


def png(shades: NDArray[np.float64]) -> bytes:
    """A pixel for each value, from dark blue for 0 to yellow for `SHADES` - 1; none for a NaN.

    Args:
        shades: Shape (rows, columns), from the upper left.
    """
    rows, columns = shades.shape
    # The first colour of the palette is transparent.
    pixels = np.nan_to_num(shades + 1).astype(np.uint8)
    # Each row begins with the number of its filter: none.
    lines = np.insert(pixels, 0, 0, axis=1).tobytes()
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            _chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", bytes(3) + _palette()),
            _chunk(b"tRNS", bytes(1)),
            _chunk(b"IDAT", zlib.compress(lines, 9)),
            _chunk(b"IEND", b""),
        )
    )


def _palette() -> bytes:
    points = np.array([list(bytes.fromhex(colour)) for colour in _SCALE])
    at = np.linspace(0, len(points) - 1, SHADES)
    parts = [np.interp(at, np.arange(len(points)), points[:, part]) for part in range(3)]
    return np.column_stack(parts).round().astype(np.uint8).tobytes()


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
