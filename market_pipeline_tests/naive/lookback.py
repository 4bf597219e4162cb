"""What evidence shows of each row, asked row by row: the twin of `books.lookback`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.quality.reference.state import PlainEvidence

__all__ = ["looked_back"]

Reach = Callable[[int], int]


def looked_back(
    flags: Sequence[int],
    evidence: Sequence[PlainEvidence],
    *,
    ids_prove: bool = False,
    most_messages: int = 1 << 62,
    depth_messages: Sequence[int] = (),
    most_depth_rows: int = 1 << 62,
    matches_to_trust: int = 64,
) -> tuple[list[int], list[bool]]:
    """The flags of all rows of a rebuild after all evidence, and whether each row is verified.

    Args:
        flags: Of each row, as the rebuild wrote it.
        evidence: All of it, in the order it was met.
        ids_prove: Whether ids link each message to the one before.
        most_messages, most_depth_rows: Evidence reaches back over so many rows, and of depth.
        matches_to_trust: So many matches in a row end what a failure says of the rows after it.
        depth_messages: The messages that have a row of depth.
    """

    def reach(now: int) -> int:
        """The first row that evidence given before a message can say something about."""
        before = [message for message in depth_messages if message < now]
        depth_reach = before[-most_depth_rows] if len(before) >= most_depth_rows else 0
        return max(now - most_messages, depth_reach)

    found, verified = [], []
    told = comparisons(evidence, reach)
    for row, of_row in enumerate(flags):
        has_anchor = in_doubt = is_settled = is_verified = False
        more = BookFlag(0)
        now = 0
        for piece in evidence:
            now = max(now, piece.levels if piece.kind == "LATE" else piece.message)
            if piece.kind == "LATE" and piece.message <= row < piece.levels:
                more |= BookFlag.OUT_OF_ORDER
            if is_settled:
                continue
            if reach(now) > row:
                is_settled = True
                if in_doubt:
                    more |= BookFlag.SNAPSHOT_MISMATCH
                elif ids_prove and has_anchor:
                    is_verified = True
            elif piece.kind == "MISMATCH":
                in_doubt = True
            elif piece.kind == "EXPLAINED":
                in_doubt = False
            elif piece.kind in ("MATCH", "ADOPTED") and piece.message > row:
                is_settled = True
                if in_doubt:
                    more |= BookFlag.SNAPSHOT_MISMATCH
                else:
                    is_verified = has_anchor and piece.kind == "MATCH"
            elif piece.kind in ("MATCH", "ADOPTED"):
                has_anchor, in_doubt = True, False
        if not is_settled and in_doubt:
            more |= BookFlag.SNAPSHOT_MISMATCH
        elif not is_settled and ids_prove and has_anchor:
            is_verified = True
        if not ids_prove and is_among_failures(row, told, matches_to_trust):
            more |= BookFlag.SNAPSHOT_MISMATCH
        found.append(int(of_row | more))
        speaks_against = (of_row | more) & (INVALIDATING | BookFlag.UNCONFIRMED_DEPTH)
        verified.append(is_verified and not speaks_against)
    return found, verified


def comparisons(evidence: Sequence[PlainEvidence], reach: Reach) -> list[tuple[int, str, int]]:
    """Of each piece: the first row it may say something about, how it ended, and up to where."""
    told, in_doubt, settled, now = [], False, 0, 0
    for piece in evidence:
        now = max(now, piece.levels if piece.kind == "LATE" else piece.message)
        settled = max(settled, reach(now))
        end = ""
        if piece.kind in ("MATCH", "ADOPTED"):
            settled = max(settled, piece.message)
            if in_doubt:
                end = "failed"
            elif piece.kind == "MATCH" and piece.levels:
                end = "matched"
            in_doubt = False
        elif piece.kind in ("MISMATCH", "EXPLAINED"):
            in_doubt = piece.kind == "MISMATCH"
        told.append((reach(now), end, settled))
    return told


def is_among_failures(row: int, told: list[tuple[int, str, int]], matches_to_trust: int) -> bool:
    """Whether a row lies between failures that follow one another, or after them to the end."""
    failed, matches, is_failing = 0, matches_to_trust, False
    for first, end, until in told:
        if is_failing and failed <= row < first:
            return True
        failed = max(failed, first)
        if end == "failed":
            is_failing = matches < matches_to_trust
            if is_failing and failed <= row < until:
                return True
            failed, matches = until, 0
        elif end == "matched":
            matches = min(matches + 1, matches_to_trust)
            is_failing = is_failing and matches < matches_to_trust
    return is_failing and row >= failed
