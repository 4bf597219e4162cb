"""The kernel that finds the message of each depth row; called by `books` only.

numba infers its types.
"""

from __future__ import annotations

from market_pipeline.jit import kernel

__all__ = ["locate_depth"]


@kernel
def locate_depth(receipt, sequence, key, cursor, depth_row):
    # Depth rows are those of some messages, in the same order; cursor: the next of each.
    message, row = cursor[0], cursor[1]
    while message < receipt.size and row < key.shape[0]:
        if key[row, 0] == receipt[message] and key[row, 1] == sequence[message]:
            depth_row[message] = row
            row += 1
        message += 1
    cursor[0], cursor[1] = message, row
