r"""Text from outside, made fit to be shown: no character of it acts on where it appears.

A vendor chooses the names of files and columns and the values in them, and libraries repeat these
in their messages. What cannot be printed (control characters and escape sequences, line breaks,
marks that turn the direction of writing, halves of surrogate pairs) is written out, e.g. as `\x1b`.
So are characters that nobody sees, marks that are drawn over their neighbours, and letters that are
written from the right, because the text around them is turned too.
Such text is escaped where it enters a message, and once more where messages leave: on terminals, in
logs, pages and metadata. Markup (of Rich, HTML, Slack) is a matter of those places, and is off.
No such text holds a secret either.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterable

from market_pipeline.scrub.scrubber import scrubbed

__all__ = ["shown", "shown_lines", "shown_logger", "shown_names"]

_MAX_SHOWN = 2_000
_MAX_NAME = 80
_MAX_NAMES = 100
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_LAYOUT = frozenset("\n\t")
# Letters and a symbol by their category, but nothing is drawn for them.
_UNSEEN = frozenset("\u115f\u1160\u2800\u3164\uffa0")
_DRAWN_OVER = frozenset({"Mn", "Me"})
_FROM_THE_RIGHT = frozenset({"R", "AL", "AN"})


def shown(text: object, limit: int = _MAX_SHOWN) -> str:
    """A text in one line of printable characters, the others written out, cut after `limit`."""
    whole = scrubbed(str(text))
    printable = whole[:limit].translate(_IN_ONE_LINE)
    return printable if len(whole) <= limit else f"{printable}… ({len(whole):,} characters)"


def shown_names(names: Iterable[str]) -> str:
    """Names behind commas; one that could be taken for more than a name stands in quotes."""
    every = list(names)
    parts = [
        name if _PLAIN_NAME.fullmatch(name) and len(name) <= _MAX_NAME else _quoted(name)
        for name in every[:_MAX_NAMES]
    ]
    left_out = len(every) - len(parts)
    return ", ".join([*parts, *([f"{left_out:,} more"] if left_out else [])])


def shown_lines(text: str) -> str:
    """A text of ours that may hold some from outside: as `shown`, but whole and with its lines."""
    return scrubbed(text).translate(_IN_LINES)


def shown_logger(name: str) -> logging.Logger:
    """The logger of a module, of which no message and no traceback holds what cannot be printed."""
    logger = logging.getLogger(name)
    logger.addFilter(_make_fit)
    return logger


def _quoted(name: str) -> str:
    return "'" + shown(name, _MAX_NAME).replace("'", "\\'") + "'"


class _WrittenOut(dict[int, str]):
    """By code point what is shown of a character, found out when it is first asked for."""

    def __init__(self, kept: frozenset[str] = frozenset()) -> None:
        super().__init__({ord(each): each for each in kept})

    def __missing__(self, code: int) -> str:
        char = chr(code)
        self[code] = char.encode("unicode_escape").decode() if _acts(char) else char
        return self[code]


_IN_ONE_LINE, _IN_LINES = _WrittenOut(), _WrittenOut(_LAYOUT)


def _acts(char: str) -> bool:
    return (
        not char.isprintable()
        or char in _UNSEEN
        or unicodedata.category(char) in _DRAWN_OVER
        or unicodedata.bidirectional(char) in _FROM_THE_RIGHT
    )


def _make_fit(record: logging.LogRecord) -> bool:
    """Formats a record as handlers would, so that they find it done."""
    record.msg, record.args = shown_lines(record.getMessage()), None
    if record.exc_info and not record.exc_text:
        record.exc_text = shown_lines(logging.Formatter().formatException(record.exc_info))
    return True
