"""What a snapshot does to the reference book: the rules of `books.snapshot_match`, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from market_pipeline.quality.reference.feed import Snapshot
from market_pipeline.quality.reference.state import PlainBook, PlainSide, Waiting

__all__ = ["leave_out", "meet_snapshot", "settle_waiting"]

_EARLIER = 16
_LATER = 2
_STALE_SERIES = 3
_LEAST_LAG = 8
_HOUR_NS = 3_600_000_000_000


def leave_out(book: PlainBook, snapshot: Snapshot, reason: str) -> None:
    """Counts a snapshot that is compared with nothing."""
    book.count(reason)
    if not book.seeded:
        return
    book.count("snapshots_uncompared")
    book.keep_first(first_uncompared_ns=snapshot.ts_receipt_ns)
    if book.uncompared_since_ns is None:
        book.uncompared_since_ns = book.last_compared_ns
    _measure_uncompared(book, snapshot)


def _measure_uncompared(book: PlainBook, snapshot: Snapshot) -> None:
    since_ns = book.uncompared_since_ns
    if since_ns is None:
        return
    duration_ns = snapshot.ts_receipt_ns - since_ns
    if duration_ns > book.counts.get("longest_uncompared_duration_ns", 0):
        book.counts["longest_uncompared_duration_ns"] = duration_ns
        book.counts["longest_uncompared_ns"] = since_ns


def meet_snapshot(book: PlainBook, snapshot: Snapshot, *, at_end: bool) -> None:
    """Lets a snapshot that found its place do its work; `at_end` if no message comes after it."""
    book.count("snapshots")
    number, in_step = snapshot.sequence_number, book.last_sequence == snapshot.sequence_number
    if not snapshot.usable:
        leave_out(book, snapshot, "snapshots_unusable")
    elif book.book_sequence is not None and number < book.book_sequence:
        book.count("snapshots_unplaced")
        leave_out(book, snapshot, "snapshots_passed")
    elif not book.seeded:
        _seed(book, snapshot)
    elif _was_matched(book, number) and _differing(book, snapshot):
        book.count("snapshots_unplaced")
        leave_out(book, snapshot, "snapshots_bad_number")
    elif at_end and not in_step and _differing(book, snapshot):
        book.count("snapshots_unplaced")
        leave_out(book, snapshot, "snapshots_never_reached")
    else:
        _compare(book, snapshot, in_step=in_step, at_end=at_end)


def _was_matched(book: PlainBook, number: int) -> bool:
    """Whether a snapshot of a number agreed with this very book: another has a wrong number."""
    in_doubt = book.gap or book.snapshot_mismatch
    return not in_doubt and book.matched == (book.messages, number)


def _seed(book: PlainBook, snapshot: Snapshot) -> None:
    book.seeded = True
    book.last_compared_ns = snapshot.ts_receipt_ns
    book.counts["seed_sequence_number"] = snapshot.sequence_number
    book.counts["seed_ts_receipt_ns"] = snapshot.ts_receipt_ns
    book.bids, book.asks = PlainSide(), PlainSide()
    book.load(snapshot)
    book.contents.append((snapshot.bids, snapshot.asks))
    book.repair("SEED", snapshot)
    book.prove("ADOPTED", snapshot, len(snapshot.bids) + len(snapshot.asks), 0)


def _compare(book: PlainBook, snapshot: Snapshot, *, in_step: bool, at_end: bool) -> None:
    if book.waiting is not None:
        # The one before found no message to agree with.
        book.waiting = None
        _fail(book)
    book.tested = None
    book.count("snapshots_off_number", not in_step)
    _measure_uncompared(book, snapshot)
    book.uncompared_since_ns = None
    book.last_compared_ns = snapshot.ts_receipt_ns
    lost = book.gap or book.snapshot_mismatch
    was_failed = book.snapshot_mismatch
    compared, differing, agrees = _count_levels(book, snapshot)
    crossed_ns = snapshot.ts_receipt_ns - book.crossed_since if book.crossed_since else 0
    if agrees:
        book.gap = book.snapshot_mismatch = False
    invalid = book.gap or book.refused > 0 or crossed_ns > book.crossed_resync_ns
    if agrees:
        back = 0
        replaces = _match(book, snapshot, compared, invalid=invalid, lost=lost)
    else:
        if book.ids_prove and not in_step and not lost:
            book.prove("MATCH", snapshot, 0, 0)
        book.prove("MISMATCH", snapshot, compared, differing)
        is_broken = invalid or book.crossed_since != 0
        replaces, back = _mismatch(
            book,
            snapshot,
            compared,
            is_broken=is_broken,
            is_wrong=is_broken or was_failed,
            in_step=in_step,
            at_end=at_end,
        )
    book.contents.append((snapshot.bids, snapshot.asks))
    if replaces:
        book.count("resyncs")
        as_of = book.messages - back
        book.load(snapshot, book.touched_since(as_of, snapshot.sequence_number) if back else ())
        book.prove("ADOPTED", snapshot, compared, differing)
        book.repair("RESYNC", snapshot)


def _match(
    book: PlainBook, snapshot: Snapshot, compared: int, *, invalid: bool, lost: bool
) -> bool:
    """The snapshot agrees; returns whether it replaces the book all the same."""
    book.matched = book.messages, snapshot.sequence_number
    book.stale_run = 0
    if book.misplaced_lag > 0 and not _agreed(book, snapshot, book.misplaced_lag):
        book.misplaced_run = 0
    book.prove("MATCH", snapshot, compared, 0)
    if book.resync == "always" or (invalid and book.resync != "never"):
        return True
    if book.resync != "never":
        book.extend(snapshot)
    if lost:
        book.repair("CONFIRMED", snapshot)
    if book.misplaced_run and book.misplaced_lag < 0:
        book.tested = snapshot, book.messages
    return False


def _mismatch(
    book: PlainBook,
    snapshot: Snapshot,
    compared: int,
    *,
    is_broken: bool,
    is_wrong: bool,
    in_step: bool,
    at_end: bool,
) -> tuple[bool, int]:
    """The snapshot disagrees; returns whether it replaces the book, and how many messages ago."""
    _count_failed(book, snapshot)
    replaces = book.resync == "always"
    back, is_exact = 0, False
    if not replaces and not is_broken:
        back, is_exact = _best_fit(book, snapshot)
    repeats = _lag(book, snapshot)
    if is_exact and not is_wrong:
        lag = book.misplaced_lag
        goes_on = lag == back or (lag > back and _agreed(book, snapshot, lag))
        _misplaced(book, snapshot, compared, back, goes_on=goes_on)
    elif not is_wrong and not replaces and _may_be_stale(book, repeats):
        _stale(book, snapshot, repeats)
    else:
        book.stale_run = 0
        if is_wrong or replaces or at_end:
            _fail(book)
            replaces = book.resync != "never"
        else:
            book.waiting = Waiting(snapshot, book.messages, back, in_step)
    return replaces, back


def _fail(book: PlainBook) -> None:
    """The book is known to be wrong until the next snapshot agrees."""
    book.snapshot_mismatch = book.is_doubted = True
    book.misplaced_run = 0


def settle_waiting(book: PlainBook) -> None:
    """Compares the snapshot that waits, or is tested, with the book after one more message."""
    if book.tested is not None and book.messages - book.tested[1] >= -book.misplaced_lag:
        if _differing(book, book.tested[0]):
            book.misplaced_run = 0
        book.tested = None
    if book.waiting is None:
        return
    snapshot, since, back, in_step = book.waiting
    levels = len(snapshot.bids) + len(snapshot.asks)
    if book.messages == since:
        return
    differing = _differing(book, snapshot)
    if differing == 0:
        book.waiting = None
        lag = since - book.messages
        goes_on = not in_step and book.misplaced_lag <= lag
        _misplaced(book, snapshot, levels, lag, goes_on=goes_on)
    elif book.messages - since >= _LATER:
        book.waiting = None
        _fail(book)
        has_lost = book.gap or book.refused > 0
        if book.resync == "never" or has_lost or not book.reaches(since - back):
            return
        book.count("resyncs")
        book.load(snapshot, book.touched_since(since - back, snapshot.sequence_number))
        book.prove("ADOPTED", snapshot, levels, differing)
        book.repair("RESYNC", snapshot)


# --- misplaced and stale ----------------------------------------------------------------------


def _differing(book: PlainBook, snapshot: Snapshot) -> int:
    """How many levels differ as far as both are known; a touch that differs counts as one, too."""
    return _sides_differing(book.bids, book.asks, book.horizon, snapshot)


def _sides_differing(
    bids: PlainSide, asks: PlainSide, horizon: tuple[int, int], snapshot: Snapshot
) -> int:
    differing = (bids.highest() != snapshot.bids[0]) + (asks.lowest() != snapshot.asks[0])
    for ours, theirs in _both_known(bids, asks, horizon, snapshot):
        differing += sum(ours.get(p) != theirs.get(p) for p in ours.keys() | theirs.keys())
    return differing


def _both_known(
    bids: PlainSide, asks: PlainSide, horizon: tuple[int, int], snapshot: Snapshot
) -> Iterator[tuple[dict[int, int], dict[int, int]]]:
    """Bids and then asks, the book's and the snapshot's, as far as both are known."""
    low = max(snapshot.bids[-1][0], horizon[0])
    high = min(snapshot.asks[-1][0], horizon[1])
    yield bids.within(low, inf), {p: s for p, s in snapshot.bids if p >= low}
    yield asks.within(-inf, high), {p: s for p, s in snapshot.asks if p <= high}


def _best_fit(book: PlainBook, snapshot: Snapshot) -> tuple[int, bool]:
    """How many messages ago the book differed least from a snapshot; and whether not at all."""
    best, least = 0, _differing(book, snapshot)
    for back, differing in enumerate(_differing_back(book, snapshot, _EARLIER), start=1):
        if differing < least:
            best, least = back, differing
        if least == 0:
            break
    return best, least == 0


def _agreed(book: PlainBook, snapshot: Snapshot, back: int) -> bool:
    """Whether the book so many messages ago agreed with a snapshot; no where nobody knows."""
    differing = list(_differing_back(book, snapshot, back))
    return len(differing) == back and differing[-1] == 0


def _differing_back(book: PlainBook, snapshot: Snapshot, most: int) -> Iterator[int]:
    """In how many levels the book differed one message ago, two and so on, as far as is known."""
    sides = {True: PlainSide(book.bids.sizes), False: PlainSide(book.asks.sizes)}
    for back in range(1, most + 1):
        message = book.messages - back
        if not book.reaches(message):
            book.is_lost |= book.is_from_keyframe and message < 0
            return
        past = next(past for past in book.past if past.message == message)
        for change in reversed(past.changes):
            sides[change.is_bid].put(change.price, change.before)
        yield _sides_differing(sides[True], sides[False], book.horizon, snapshot)


def _misplaced(
    book: PlainBook, snapshot: Snapshot, compared: int, lag: int, *, goes_on: bool
) -> None:
    """It agreed with the book of another message; `goes_on`: maybe it lags as the one before."""
    message = book.messages - max(lag, 0)
    book.keep_first(
        first_misplaced_ns=snapshot.ts_receipt_ns,
        first_misplaced_sequence_number=snapshot.sequence_number,
    )
    book.count("snapshots_misplaced")
    if not goes_on or not book.misplaced_run:
        book.misplaced_run, book.misplaced_lag = 0, lag
    book.misplaced_run += 1
    if book.misplaced_run > 1 and not book.is_doubted:
        book.prove("EXPLAINED", snapshot, compared, 0, message)
        if message > book.last_anchor:
            book.prove("MATCH", snapshot, compared, 0, message)


def _lag(book: PlainBook, snapshot: Snapshot) -> int:
    """How many snapshots ago the latest one of the same content was; 0 if none is remembered."""
    _recall(book)
    for lag, content in enumerate(reversed(book.contents), start=1):
        if content == (snapshot.bids, snapshot.asks):
            return lag
    return 0


def _recall(book: PlainBook) -> None:
    """Remembers as much of what came before the book as there is room for."""
    if book.contents_before is None:
        return
    room = (book.contents.maxlen or 0) - len(book.contents)
    book.contents.extendleft([*reversed(book.contents_before())][:room])
    book.contents_before = None


def _may_be_stale(book: PlainBook, lag: int) -> bool:
    if lag == 0 or book.stale_run == 0:
        return lag > 0
    return lag == book.stale_lag and (lag == 1 or lag >= _LEAST_LAG)


def _stale(book: PlainBook, snapshot: Snapshot, lag: int) -> None:
    """It disagrees and has the content of an earlier one."""
    book.keep_first(
        first_stale_ns=snapshot.ts_receipt_ns,
        first_stale_sequence_number=snapshot.sequence_number,
    )
    book.count("snapshots_stale")
    book.misplaced_run = 0
    ours = book.top(10)
    if book.stale_run == 0 or lag > 1 or ours != book.stale_book:
        book.stale_run += 1
    book.stale_book, book.stale_lag = ours, lag
    if book.stale_run >= _STALE_SERIES and not book.is_doubted:
        book.prove("EXPLAINED", snapshot, 0, 0)


# --- the comparison ---------------------------------------------------------------------------


def _count_levels(book: PlainBook, snapshot: Snapshot) -> tuple[int, int, bool]:
    """Compares level by level as far as both are known.

    Returns:
        How many levels were compared, how many of them differ, and whether all and the touch agree.
    """
    book.count("snapshots_compared")
    compared = differing = 0
    for ours, theirs in _both_known(book.bids, book.asks, book.horizon, snapshot):
        book.count("snapshot_levels", len(theirs))
        book.count("snapshot_levels_ours", len(ours))
        book.count("snapshot_levels_ghost", len(ours.keys() - theirs.keys()))
        book.count("snapshot_levels_missing", len(theirs.keys() - ours.keys()))
        book.count("snapshot_levels_matching", len(ours.items() & theirs.items()))
        union = ours.keys() | theirs.keys()
        compared += len(union)
        differing += sum(ours.get(price) != theirs.get(price) for price in union)
        book.count("snapshot_size_lots", sum(theirs.values()))
        errors = (abs(ours.get(price, 0) - theirs.get(price, 0)) for price in union)
        book.count("snapshot_size_error_lots", sum(errors))
    hour = snapshot.ts_receipt_ns // _HOUR_NS % 24
    book.count_in_hour("snapshots_compared_per_hour", hour)
    book.count_in_hour("snapshot_levels_differing_per_hour", hour, differing)
    bid, bid_size, ask, ask_size = book.best()
    deviation = 0
    if bid_size and ask_size:
        deviation = abs(bid + ask - snapshot.bids[0][0] - snapshot.asks[0][0])
    name = "snapshot_max_mid_deviation_half_ticks"
    worst = book.counts.get(name, 0), book.counts.get("worst_mismatch_levels_differing", 0)
    if (deviation, differing) > worst:
        book.counts[name] = deviation
        _keep_mismatch(book, "worst", snapshot, differing)
    touch_agrees = ((bid, bid_size), (ask, ask_size)) == (snapshot.bids[0], snapshot.asks[0])
    agrees = touch_agrees and differing == 0
    if not agrees and not book.counts.get("snapshots_mismatched"):
        _keep_mismatch(book, "first", snapshot, differing)
    return compared, differing, agrees


def _count_failed(book: PlainBook, snapshot: Snapshot) -> None:
    book.count("snapshots_mismatched")
    book.count_in_hour("snapshots_mismatched_per_hour", snapshot.ts_receipt_ns // _HOUR_NS % 24)


def _keep_mismatch(book: PlainBook, place: str, snapshot: Snapshot, differing: int) -> None:
    """Keeps the first or the worst mismatch with the touch on either side."""
    about = {
        "sequence_number": snapshot.sequence_number,
        "ts_receipt_ns": snapshot.ts_receipt_ns,
        "levels_differing": differing,
    }
    their_touch = (*snapshot.bids[0], *snapshot.asks[0])
    parts = ("bid_ticks", "bid_lots", "ask_ticks", "ask_lots")
    for whose, touch in (("our", book.best()), ("their", their_touch)):
        about |= {f"{whose}_{part}": n for part, n in zip(parts, touch, strict=True)}
    book.counts |= {f"{place}_mismatch_{name}": n for name, n in about.items()}
