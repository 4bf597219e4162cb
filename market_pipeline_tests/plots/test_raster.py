from __future__ import annotations

import struct
import zlib

import numpy as np

from market_pipeline.plots._raster import SHADES, png


def chunks(data: bytes) -> dict[bytes, bytes]:
    """The parts of a PNG, their checksums compared."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    found, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        named = data[at + 4 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length) == (zlib.crc32(named),)
        found[named[:4]] = named[4:]
        at += 12 + length
    return found


def test_pixels():
    """A pixel for each value, by row from the top; the first colour, for a NaN, is transparent."""
    found = chunks(png(np.array([[0.0, SHADES - 1, np.nan], [1.0, 2.0, 3.0]])))

    assert (3, 2, 8, 3) == struct.unpack(">IIBB", found[b"IHDR"][:10])
    assert bytes([0, 1, SHADES, 0, 0, 2, 3, 4]) == zlib.decompress(found[b"IDAT"])
    assert bytes(1) == found[b"tRNS"]


def test_palette_is_even():
    """From dark to light every shade is lighter than the one before."""
    palette = np.frombuffer(chunks(png(np.zeros((1, 1))))[b"PLTE"], np.uint8).reshape(-1, 3)
    light = palette[1:].astype(float) @ (0.2126, 0.7152, 0.0722)

    assert SHADES == len(light)
    assert [] == np.flatnonzero(np.diff(light) <= 0).tolist()


def test_same_bytes_again():
    """The same grid is the same bytes."""
    assert png(np.zeros((3, 4))) == png(np.zeros((3, 4)))
