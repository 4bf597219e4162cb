"""Parses lines that stand as the venue sends them: most of a capture, at a fraction of the cost.

A line that the kernel takes means what `frames.py` would make of it. Any other one, be it damaged,
spaced, escaped, about another symbol or of a kind with objects inside, is left to that module: it
alone says what is wrong.
"""

from __future__ import annotations

import numpy as np

from market_pipeline.jit import kernel
from market_pipeline.sources.batches import MARKET, OUTSIDE_MARKET, UNMARKED

__all__ = ["ASKS", "BIDS", "COLUMNS", "DEPTH", "END", "KIND", "LAST", "LEFT", "LEVEL_BYTES"]
__all__ += [
    "MARK",
    "ORIGIN_NS",
    "OTHER",
    "RECEIPT_NS",
    "ROW",
    "SEEN",
    "START",
    "TRADE",
    "parse_lines",
]

LEFT, OTHER, DEPTH, TRADE = range(4)
"""What a line is: left alone, of no kind that is read, a depth event, a trade."""

KIND, END, ROW, RECEIPT_NS, ORIGIN_NS, START, LAST, BIDS, ASKS = range(9)
"""Columns of a line: END is the place of its line break, ROW that of its first level.

Of a depth event START is the update id that it continues, LAST its own, BIDS and ASKS are numbers
of levels. Of a trade START is whether the taker bought, LAST its id, MARK its mark.
"""
MARK = BIDS
COLUMNS = 9

LEVEL_BYTES = 10
"""No level takes fewer bytes of text, its comma or bracket included."""

# What a frame's members were: by the letter of a key its number, or where its text begins and ends;
# then the keys that had a number, a text, a truth value or levels, as bits; the words that stood in
# it, as bits; how many bids and asks; where the stream's name begins and ends.
_TEXT_END = 64
_NUMBERS, _TEXTS, _TRUTHS, _LEVELS, _WORDS, _BIDS, _ASKS, _STREAM, _STREAM_END = range(128, 137)
SEEN = 137

_LETTER_BEFORE_A, _LAST_LETTER = 64, ord("z")
_E, _S, _T, _U, _X = (ord(letter) - _LETTER_BEFORE_A for letter in "ESTUX")
_a, _b, _m, _p, _q, _s, _t, _u = (ord(letter) - _LETTER_BEFORE_A for letter in "abmpqstu")
_pu, _NO_KEY = 60, 61

_A_DEPTH, _A_TRADE, _A_WORD = 1, 2, 4

_LINE_BREAK, _SPACE, _QUOTE, _COMMA, _MINUS, _POINT, _COLON = b'\n ",-.:'
_OPEN, _CLOSE, _ESCAPE, _BEGIN, _FINISH = b"[]\\{}"
_ZERO, _NINE, _LAST_ASCII = b"09~"

_DEPTH_WORD = np.frombuffer(b'depthUpdate"', np.uint8)
_TRADE_WORD = np.frombuffer(b'trade"', np.uint8)
_SNAPSHOT_WORD = np.frombuffer(b'lastUpdateId"', np.uint8)
_DATA_WORD = np.frombuffer(b'data"', np.uint8)
_MARKET_WORD = np.frombuffer(b'MARKET"', np.uint8)
_FUND_WORD = np.frombuffer(b'INSURANCE_FUND"', np.uint8)
_DELEVERAGED_WORD = np.frombuffer(b'ADL"', np.uint8)
_NONE_WORD = np.frombuffer(b'NA"', np.uint8)
_ENVELOPE = np.frombuffer(b'{"stream":"', np.uint8)
_DATA = np.frombuffer(b',"data":{', np.uint8)
_PARTIAL = np.frombuffer(b"@depth", np.uint8)
_TRUE, _FALSE, _NULL = (np.frombuffer(word, np.uint8) for word in (b"true", b"false", b"null"))

_MOST_DIGITS = 18
_EXACT = 1 << 53
# Whole numbers up to 2^53 and these are float64 without rounding, so their ratio, which is rounded
# once, is the float64 nearest to the decimal.
_POWERS = np.array([10.0**digits for digits in range(_MOST_DIGITS + 1)])


@kernel
def parse_lines(text, symbol, is_spot, seen, lines, trades, price, size):
    """Parses whole lines.

    Args:
        text: uint8, lines that each end with a line break.
        symbol: uint8, in the venue's spelling.
        is_spot: Whether the rules of spot hold.
        seen: int64 (SEEN,), of use to the kernel only.
        lines: int64 (lines, COLUMNS), written; of a line that is left alone KIND, END and ROW only.
        trades: float64 (lines, 2), written where there is a trade: its price and quantity.
        price, size: float64, written: the levels of the depth events, bids before asks.

    Returns:
        How many levels were written.
    """
    at = row = line = np.int64(0)
    while at < text.size:
        kind, end, found = LEFT, np.int64(-1), lines[line]
        found[RECEIPT_NS], after = _stamp(text, at)
        if after >= 0:
            end = _frame(text, after, seen, row, price, size)
        if end >= 0 and text[end] == _LINE_BREAK:
            kind = OTHER
            if seen[_WORDS] == _A_DEPTH:
                kind = _depth_event(text, symbol, is_spot, seen, found)
            elif seen[_WORDS] == _A_TRADE:
                kind = _trade(text, symbol, seen, found, trades[line])
            elif seen[_WORDS]:
                kind = LEFT
        if kind == LEFT:
            end = at
            while text[end] != _LINE_BREAK:
                end += 1
        found[KIND], found[END], found[ROW] = kind, end, row
        if kind == DEPTH:
            row += found[BIDS] + found[ASKS]
        at = end + 1
        line += 1
    return row


@kernel
def _stamp(text, at):
    """The local stamp in ns, and the place after its space; -1 as the place if it is none."""
    first = at
    number, at = _digits(text, at)
    digits = at - first
    if text[first] == _ZERO or text[at] != _SPACE or digits > _MOST_DIGITS + 1:
        return number, np.int64(-1)
    ts_ns = _to_ns(number)
    return ts_ns, at + 1 if ts_ns >= 0 else np.int64(-1)


@kernel
def _to_ns(stamp):
    """As `lines.to_ns`; -1 for None. Of 19 digits what is too large has become negative."""
    if 10**12 <= stamp < 10**13:
        return stamp * 1_000_000
    if 10**15 <= stamp < 10**16:
        return stamp * 1_000
    return stamp if stamp >= 10**18 else np.int64(-1)


@kernel
def _digits(text, at):
    """The number that digits make, and the place after them; beyond 19 digits it is any number."""
    number = np.int64(0)
    while _ZERO <= text[at] <= _NINE:
        number = number * 10 + (np.int64(text[at]) - _ZERO)
        at += 1
    return number, at


@kernel
def _stands(text, at, word):
    """Whether a word stands at a place."""
    k = 0
    while k < word.size and text[at + k] == word[k]:
        k += 1
    return k == word.size


@kernel
def _text_end(text, at):
    """Where a text of plain characters has its closing quote; -1 if it has others."""
    while text[at] != _QUOTE:
        if text[at] < _SPACE or text[at] > _LAST_ASCII or text[at] == _ESCAPE:
            return np.int64(-1)
        at += 1
    return at


@kernel
def _word(text, at, end):
    """Which of the words that decide a line's kind is the text between two places, as a bit."""
    length = end - at
    if length == 5 and _stands(text, at, _TRADE_WORD):
        return _A_TRADE
    if length == 11 and _stands(text, at, _DEPTH_WORD):
        return _A_DEPTH
    if length == 4 and _stands(text, at, _DATA_WORD):
        return _A_WORD
    if length == 12 and _stands(text, at, _SNAPSHOT_WORD):
        return _A_WORD
    return 0


@kernel
def _frame(text, at, seen, row, price, size):
    """Parses a frame, in the combined stream's envelope or bare: the place after it, or -1."""
    seen[_NUMBERS:] = 0
    if not _stands(text, at, _ENVELOPE):
        return _members(text, at + 1, seen, row, price, size) if text[at] == _BEGIN else -1
    at += _ENVELOPE.size
    end = _text_end(text, at)
    if end < 0 or not _stands(text, end + 1, _DATA):
        return np.int64(-1)
    seen[_STREAM], seen[_STREAM_END] = at, end
    seen[_WORDS] = _word(text, at, end) and _A_WORD
    after = _members(text, end + 1 + _DATA.size, seen, row, price, size)
    return after + 1 if after >= 0 and text[after] == _FINISH else np.int64(-1)


@kernel
def _members(text, at, seen, row, price, size):
    """Parses an object after its brace, without objects inside: the place after it, or -1."""
    while True:
        if text[at] != _QUOTE:
            return np.int64(-1)
        end = _text_end(text, at + 1)
        if end < 0 or text[end + 1] != _COLON:
            return np.int64(-1)
        seen[_WORDS] |= _word(text, at + 1, end)
        key = _NO_KEY
        if end == at + 2 and _LETTER_BEFORE_A < text[at + 1] <= _LAST_LETTER:
            key = np.int64(text[at + 1]) - _LETTER_BEFORE_A
        elif end == at + 3 and text[at + 1] == ord("p") and text[at + 2] == ord("u"):
            key = _pu
        bit = np.int64(0) if key == _NO_KEY else np.int64(1) << key
        if (seen[_NUMBERS] | seen[_TEXTS] | seen[_TRUTHS] | seen[_LEVELS]) & bit:
            return np.int64(-1)
        at = _value(text, end + 2, key, bit, seen, row, price, size)
        if at < 0 or text[at] == _FINISH:
            return at + 1 if at >= 0 else at
        if text[at] != _COMMA:
            return np.int64(-1)
        at += 1


@kernel
def _value(text, at, key, bit, seen, row, price, size):
    """Parses the value of a key, and keeps it if the key is a letter: the place after it, or -1."""
    if text[at] == _QUOTE:
        end = _text_end(text, at + 1)
        if end >= 0:
            seen[_WORDS] |= _word(text, at + 1, end)
            seen[_TEXTS] |= bit
            seen[key], seen[_TEXT_END + key] = at + 1, end
            end += 1
        return end
    if _ZERO <= text[at] <= _NINE:
        number, end = _digits(text, at)
        if end - at > _MOST_DIGITS or (text[at] == _ZERO and end - at > 1):
            return np.int64(-1)
        seen[_NUMBERS] |= bit
        seen[key] = number
        return end
    if text[at] == _OPEN and (key == _a or (key == _b and not seen[_LEVELS])):
        levels, end = _levels(text, at + 1, row + seen[_BIDS], price, size)
        seen[_LEVELS] |= bit
        seen[_BIDS if key == _b else _ASKS] = levels
        return end
    if _stands(text, at, _TRUE) or _stands(text, at, _FALSE):
        seen[_TRUTHS] |= bit
        seen[key] = text[at] == _TRUE[0]
        return at + (_TRUE.size if text[at] == _TRUE[0] else _FALSE.size)
    return at + _NULL.size if _stands(text, at, _NULL) else np.int64(-1)


@kernel
def _levels(text, at, row, price, size):
    """Parses pairs of price and size after the bracket: how many, and the place after, or -1."""
    first = row
    if text[at] == _CLOSE:
        return row - first, at + 1
    while text[at] == _OPEN and text[at + 1] == _QUOTE:
        price[row], at = _decimal(text, at + 2)
        if at < 0 or price[row] == 0 or text[at + 1] != _COMMA or text[at + 2] != _QUOTE:
            break
        size[row], at = _decimal(text, at + 3)
        if at < 0 or text[at + 1] != _CLOSE:
            break
        row += 1
        if text[at + 2] == _CLOSE:
            return row - first, at + 3
        if text[at + 2] != _COMMA:
            break
        at += 3
    return row - first, np.int64(-1)


@kernel
def _decimal(text, at):
    """The float64 nearest to a plain decimal, and the place of the quote after it, or -1."""
    first = at
    number, at = _digits(text, at)
    # Up to the last digit that is not 0: the venue fills up with zeros.
    whole, fraction, digits = number, np.int64(0), at - first
    if digits == 0 or (text[first] == _ZERO and digits > 1):
        return 0.0, np.int64(-1)
    if text[at] == _POINT:
        point = at
        at += 1
        while _ZERO <= text[at] <= _NINE:
            number = number * 10 + (np.int64(text[at]) - _ZERO)
            if text[at] != _ZERO:
                whole, fraction = number, at - point
            at += 1
        if at == point + 1:
            return 0.0, np.int64(-1)
    if digits + fraction > _MOST_DIGITS or whole > _EXACT or text[at] != _QUOTE:
        return 0.0, np.int64(-1)
    return whole / _POWERS[fraction], at


@kernel
def _is_ours(text, symbol, seen):
    """Whether a frame is about the symbol, and its stream no partial book."""
    first = seen[_s]
    if not seen[_TEXTS] >> _s & 1 or seen[_TEXT_END + _s] - first != symbol.size:
        return False
    for at in range(seen[_STREAM], seen[_STREAM_END] - _PARTIAL.size):
        if _stands(text, at, _PARTIAL) and _ZERO <= text[at + _PARTIAL.size] <= _NINE:
            return False
    return _stands(text, first, symbol)


@kernel
def _depth_event(text, symbol, is_spot, seen, found):
    """Writes a depth event's columns; its kind, or LEFT if it is not all there."""
    numbers = 1 << _E | 1 << _u | (1 << _U if is_spot else 1 << _pu)
    levels = 1 << _a | 1 << _b
    if seen[_NUMBERS] & numbers != numbers or seen[_LEVELS] != levels:
        return LEFT
    found[ORIGIN_NS] = _to_ns(seen[_E])
    if found[ORIGIN_NS] < 0 or not _is_ours(text, symbol, seen):
        return LEFT
    found[START] = seen[_U] - 1 if is_spot else seen[_pu]
    found[LAST], found[BIDS], found[ASKS] = seen[_u], seen[_BIDS], seen[_ASKS]
    return DEPTH


@kernel
def _trade(text, symbol, seen, found, values):
    """Writes a trade's columns, price and quantity; its kind, or LEFT if it is not all there."""
    numbers, texts = 1 << _T | 1 << _t, 1 << _p | 1 << _q
    if seen[_NUMBERS] & numbers != numbers or seen[_TEXTS] & texts != texts:
        return LEFT
    found[ORIGIN_NS] = _to_ns(seen[_T])
    values[0], price_end = _decimal(text, seen[_p])
    values[1], quantity_end = _decimal(text, seen[_q])
    if price_end < 0 or quantity_end < 0 or values[0] == 0 or values[1] == 0:
        return LEFT
    if found[ORIGIN_NS] < 0 or not seen[_TRUTHS] >> _m & 1 or not _is_ours(text, symbol, seen):
        return LEFT
    if (seen[_NUMBERS] | seen[_TRUTHS] | seen[_LEVELS]) >> _X & 1:
        return LEFT
    found[START], found[LAST] = 1 - seen[_m], seen[_t]
    found[MARK] = _mark(text, seen[_X]) if seen[_TEXTS] >> _X & 1 else UNMARKED
    return TRADE


@kernel
def _mark(text, at):
    """What the word at a place means."""
    if _stands(text, at, _MARKET_WORD):
        return MARKET
    for word in (_FUND_WORD, _DELEVERAGED_WORD, _NONE_WORD):
        if _stands(text, at, word):
            return OUTSIDE_MARKET
    return UNMARKED
