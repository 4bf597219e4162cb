"""Two books compared by plain Python: dictionaries of messages, and an instant after another."""

from __future__ import annotations

from collections import Counter

from market_pipeline.books.flags import INVALIDATING, BookFlag


def matched(golden, other):
    """What `match_books` counts, of books whose numbers never begin anew.

    Returns:
        The counts by name, and by (level, side) the messages compared, those that differ, the
        number of the first that does, and the longest run.
    """
    own, its = _by_number(golden), _by_number(other)
    counts = Counter(matched=0, compared=0, only_golden=0, only_other=0)
    shared = [number for number in own if number in its]
    counts["matched"] = len(shared)
    if own and its:
        counts["only_golden"] = sum(min(its) < n < max(its) and n not in its for n in own)
        counts["only_other"] = sum(min(own) < n < max(own) and n not in own for n in its)
    levels: dict[tuple[int, int], list[tuple[int, bool]]] = {}
    for number in shared:
        (a, row), (b, its_row) = own[number], its[number]
        if not (_is_valid(a, row) and _is_valid(b, its_row)):
            continue
        counts["compared"] += 1
        for level in range(20):
            for side in range(2):
                here, there = _level(a, row, level, side), _level(b, its_row, level, side)
                if here is None or there is None or (here[1] == there[1] == 0):
                    continue
                levels.setdefault((level, side), []).append((number, here != there))
    return counts, {
        place: (
            len(found),
            sum(differs for _, differs in found),
            next((number for number, differs in found if differs), None),
            _longest([differs for _, differs in found]),
        )
        for place, found in levels.items()
    }


def _by_number(book):
    """By number the batch and row of the messages that can be paired, in order."""
    found, last = {}, None
    for rows in book:
        for row, number in enumerate(rows.sequence_number.tolist()):
            if rows.flags[row] & int(BookFlag.BAD_SEQUENCE):
                continue
            if last is None or number > last:
                found[number] = (rows, row)
                last = number
    return found


def _is_valid(rows, row):
    return int(rows.flags[row]) & int(INVALIDATING) == 0


def _level(rows, row, level, side):
    """Price and size of a level; None where the book does not say."""
    if level == 0:
        price, size = rows.touch[row, 2 * side : 2 * side + 2].tolist()
    else:
        depth = rows.depth_row[row]
        if depth < 0 or level >= rows.confirmed[depth, side]:
            return None
        price, size = rows.levels[depth, level, 2 * side : 2 * side + 2].tolist()
    return (price, size) if size else (0, 0)


def _longest(differ):
    longest = now = 0
    for each in differ:
        now = now + 1 if each else 0
        longest = max(longest, now)
    return longest


def on_grid(golden, other, clock, step_ns, offset_ns):
    """What `pair_books` sums on one grid: an instant at a time, each book looked for anew.

    Returns:
        Instants at which both are valid; those of two sides each; the sum of squares and the
        largest of twice the mid's errors; size errors and golden sizes of the bids' best level.
    """
    own, its = (_timed(book, clock) for book in (golden, other))
    result = [0, 0, 0.0, 0.0, 0.0, 0.0]
    if not (own and its):
        return result
    start, end = max(own[0][0], its[0][0]), min(own[-1][0], its[-1][0])
    for instant in range(_next(start, step_ns, offset_ns), end, step_ns):
        a, b = _in_force(own, instant), _in_force(its, instant)
        if not (a[2] and b[2]):
            continue
        result[0] += 1
        here, there = a[1], b[1]
        result[4] += abs(there[1] - here[1])
        result[5] += here[1]
        if all((here[1], here[3], there[1], there[3])):
            error = abs(there[0] + there[2] - here[0] - here[2])
            result[1] += 1
            result[2] += error * error
            result[3] = max(result[3], error)
    return result


def _next(start, step_ns, offset_ns):
    return -((offset_ns - start) // step_ns) * step_ns + offset_ns


def _timed(book, clock):
    """Time, touch and whether the book holds, of each message with a time; times never fall."""
    flag = BookFlag.BAD_TS_ORIGIN if clock == "exchange" else BookFlag.BAD_TS_RECEIPT
    found, last = [], 0
    for rows in book:
        stamps = rows.ts_origin_ns if clock == "exchange" else rows.ts_receipt_ns
        for row, stamp in enumerate(stamps.tolist()):
            if not rows.flags[row] & int(flag):
                last = max(last, stamp)
            if last:
                holds = _is_valid(rows, row) and not rows.breaks[row]
                found.append((last, rows.touch[row].tolist(), holds))
    return found


def _in_force(timed, instant):
    return [each for each in timed if each[0] <= instant][-1]
