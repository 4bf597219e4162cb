"""The colours of what is shown: distinct to every eye, and named wherever they are used.

They are those of Okabe and Ito, "Color Universal Design" (2008). Nothing is shown by colour alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from market_pipeline.books.flags import BookFlag

if TYPE_CHECKING:
    from market_pipeline.quality.row import Condition

__all__ = ["ASKS", "BIDS", "CAUSES", "CONDITIONS", "LETTERS", "LINES", "OTHER_CAUSE"]

CONDITIONS: dict[Condition, str] = {
    "available": "#009e73",
    "degraded": "#e69f00",
    "pending": "#56b4e9",
    "missing": "#d55e00",
}

LETTERS: dict[Condition, str] = {
    "available": "A",
    "degraded": "d",
    "pending": "p",
    "missing": "M",
}
"""One letter for each condition, for where colour may be missing."""

CAUSES: dict[str, str] = {
    BookFlag.NOT_SEEDED.name: "#56b4e9",
    BookFlag.GAP.name: "#d55e00",
    BookFlag.CROSSED.name: "#cc79a7",
    BookFlag.STALE.name: "#e69f00",
    BookFlag.SNAPSHOT_MISMATCH.name: "#0072b2",
    BookFlag.PRECISION_LOSS.name: "#b8a800",
}
"""Of the causes of `books.intervals` that invalidate."""

OTHER_CAUSE = "#8c8c8c"
"""Of the causes that do not."""

LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
"""Of lines in one panel, in turn."""

BIDS, ASKS = LINES[:2]
