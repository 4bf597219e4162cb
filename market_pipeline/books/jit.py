"""How the kernels are compiled, and where their machine code is kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from platformdirs import user_cache_path

__all__ = ["kernel"]


def _cache_folder() -> Path:
    """A private folder named after the kernels' sources.

    numba looks only at the file of the function itself, and would go on using machine code that has
    an older version of another module compiled into it.
    """
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    given = os.environ.get("NUMBA_CACHE_DIR")
    base = Path(given) if given else user_cache_path("market_pipeline") / "numba"
    return base / digest.hexdigest()[:16]


_CACHE_FOLDER = _cache_folder()


def kernel(function: Callable[..., Any]) -> Any:
    """Compiles a function on first call, without the GIL, and keeps the machine code on disk.

    Only integers and exact conversions are computed in kernels, so no fast-math is allowed.
    """
    # The cached code is unpickled, so nobody else may write there.
    _CACHE_FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    config: Any = numba.config
    elsewhere = config.CACHE_DIR
    config.CACHE_DIR = str(_CACHE_FOLDER)
    try:
        return numba.njit(nogil=True, cache=True)(function)
    finally:
        config.CACHE_DIR = elsewhere
