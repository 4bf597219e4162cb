"""Verify bytes against the ETag of an object that was uploaded in parts.

Such an ETag is the MD5 of the parts' MD5s, a dash and their number. The sizes of the parts are not
in it: the store tells them, the first one in most cases being enough.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable

from market_pipeline.store.objects import StoreObject
from market_pipeline.store.ranges import RangeReader

__all__ = ["parts_of", "verify_parts"]


def parts_of(etag: str) -> int:
    """How many parts an ETag says there were; 0 for one that is not made of parts."""
    found = re.fullmatch(r"[0-9a-f]{32}-([1-9]\d{0,4})", etag)
    return int(found[1]) if found else 0


def verify_parts(reader: RangeReader, object: StoreObject, descriptor: int) -> str | None:
    """The ETag that the bytes of a file have; None if the store does not tell the parts' sizes.

    Args:
        reader: Whom to ask for the sizes of the parts.
        object: The object as it was listed, with an ETag made of parts.
        descriptor: The whole file, open for reading.

    Raises:
        StoreError: The store cannot be asked, or has another object by now.
    """
    count = parts_of(object.etag)
    first = reader.uploaded_part_bytes(object, 1, count)
    if not first:
        return None
    if first * (count - 1) < object.size <= first * count:
        alike = [first] * (count - 1) + [object.size - first * (count - 1)]
        if _etag(descriptor, alike) == object.etag:
            return object.etag
    others = [reader.uploaded_part_bytes(object, number, count) for number in range(2, count + 1)]
    sizes = [size for size in (first, *others) if size is not None]
    if len(sizes) != count or sum(sizes) != object.size:
        return None
    return _etag(descriptor, sizes)


def _etag(descriptor: int, sizes: Iterable[int]) -> str:
    of_all, count = hashlib.md5(usedforsecurity=False), 0
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        for size in sizes:
            of_part, left = hashlib.md5(usedforsecurity=False), size
            while left and (chunk := file.read(min(left, 1 << 20))):
                of_part.update(chunk)
                left -= len(chunk)
            of_all.update(of_part.digest())
            count += 1
    return f"{of_all.hexdigest()}-{count}"
