"""Where the kernel stands in its inputs and outputs: the indices of its cursor array."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BBO_ROW",
    "DEPTH_ROW",
    "EVIDENCE_ROW",
    "MARK",
    "REPAIR_ROW",
    "ROW",
    "SETTLED",
    "SNAPSHOT",
    "UNTIL",
    "new_cursor",
]

# The next of the batch's rows, of its marks and of the snapshots; of a rebuild that is logged how
# many messages it may reach, and its `other_changes` that are logged; then the next row of each
# output.
ROW, MARK, SNAPSHOT, UNTIL, SETTLED, BBO_ROW, DEPTH_ROW, REPAIR_ROW, EVIDENCE_ROW = range(9)


def new_cursor() -> NDArray[np.int64]:
    """The cursor at the beginning of everything."""
    return np.zeros(9, np.int64)
