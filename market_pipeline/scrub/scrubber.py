"""The secrets this process knows, and texts without them.

Whoever reads a secret, from a setting, a file or a provider, makes it known here at once; whatever
leaves the process is scrubbed. So an exit needs to know no setting, and a reader no exit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any

from market_pipeline.scrub.forms import forms, pattern, plain
from market_pipeline.scrub.guessed import MARK, is_secret_name, may_hold_secret, without_guessed

__all__ = [
    "WITHHELD",
    "known_secrets",
    "learn",
    "learning",
    "scrubbed",
    "scrubbed_json",
    "scrubbed_lines",
]

WITHHELD = "[text withheld: it holds a secret]"
"""In the place of a text from which a secret could not be cut out."""

_FEWEST, _FEWEST_LETTERS = 6, 10
"""A shorter one stands in too many texts by chance, and so does a word (letters of one case)."""
_MOST = 64
"""A longer one is looked for in pieces, so that no pattern becomes too large."""

_FEW = 24
"""So many secrets are looked for one by one: that takes less than to look a text up for all."""
_GRAM = 8
"""So many characters at each eighth place of a text are looked up at once for all secrets."""
_TAIL = 2 * _GRAM - 1
"""Wherever so many characters stand in a text, they hold the whole of one of these."""

_WINDOW, _OVERLAP = 8_192, 4_096
"""How a long text is looked through once it is known to hold a secret, in characters."""

_OF_CLASS = {"__class__", "__enum__"}
"""Keys of Dagster's serializer whose value names a class, without which it reads nothing back."""


class _Known:
    """Each known secret with its forms; replaced as a whole, so that readers need no lock.

    `by_gram` has, by what may stand at each eighth place of a text, the secrets that have it at the
    end of a form: those of one service often begin alike. It only grows, before a secret is known.
    A secret of which some form is too short for that is one of `short`.
    """

    def __init__(self) -> None:
        self.by_secret: dict[str, tuple[str, ...]] = {}
        self.by_gram: dict[str, tuple[str, ...]] = {}
        self.short: frozenset[str] = frozenset()
        self.learners: list[Callable[[str], None]] = []
        self.lock = Lock()


_known = _Known()


def learn(*secrets: str | None) -> None:
    """Has these taken out of every text from now on.

    Not those of fewer than 6 characters, or of fewer than 10 that are all letters of one case.
    """
    pieces = {piece for secret in filter(None, secrets) for piece in _pieces(secret)}
    if pieces <= _known.by_secret.keys():
        return
    with _known.lock:
        new = {piece: forms(piece) for piece in pieces - _known.by_secret.keys()}
        for piece, of_it in new.items():
            _add_grams(piece, of_it)
        # The longest first: one may be a part of another.
        larger = sorted((_known.by_secret | new).items(), key=lambda each: -len(each[0]))
        _known.by_secret = dict(larger)
        for tell in _known.learners:
            for piece in new:
                tell(piece)


def _add_grams(secret: str, of_it: tuple[str, ...]) -> None:
    each = {secret, *of_it}
    if min(map(len, each)) < _TAIL:
        _known.short |= {secret}
        return
    tails = (form[-_TAIL:] for form in each)
    for gram in {tail[at : at + _GRAM] for tail in tails for at in range(_GRAM)}:
        _known.by_gram[gram] = (*_known.by_gram.get(gram, ()), secret)


def _pieces(secret: str) -> Iterator[str]:
    for line in {secret, *secret.splitlines()} if "\n" in secret else (secret,):
        text = line.strip()
        for start in range(0, max(len(text) - _FEWEST, 1), _MOST):
            # The last piece is a whole one too, so that none is too short.
            piece = text[start : start + _MOST] if start + _MOST <= len(text) else text[-_MOST:]
            is_word = piece.isalpha() and (piece.islower() or piece.isupper())
            if len(piece) >= (_FEWEST_LETTERS if is_word else _FEWEST):
                yield piece


def known_secrets() -> tuple[str, ...]:
    """What is known, the longest first."""
    return tuple(_known.by_secret)


@contextmanager
def learning(tell: Callable[[str], None]) -> Iterator[None]:
    """Calls a function with each secret that is known, and that is learnt in the `with` block."""
    with _known.lock:
        _known.learners.append(tell)
        for secret in _known.by_secret:
            tell(secret)
    try:
        yield
    finally:
        with _known.lock:
            _known.learners.remove(tell)


def scrubbed(text: str, *, guess: bool = True) -> str:
    """The text with `[secret]` in the place of every secret.

    Args:
        text: Of any kind; for one in JSON there is `scrubbed_json`.
        guess: Whether to take out also what only looks like a secret.
    """
    secrets = _held(text)
    if secrets:
        for secret in secrets:
            text = _cut_out(secret, text)
        if left := _held(text):  # it is written longer than windows overlap
            for secret in left:
                text = pattern(secret).sub(MARK, text)
            if _held(text):
                return WITHHELD
    return without_guessed(text) if guess and may_hold_secret(text) else text


def _cut_out(secret: str, text: str) -> str:
    """A text without a secret that it holds; its pattern is tried only near where one stands.

    Tried everywhere in 10 MB it takes seconds, where to find the secret takes a tenth of one.
    """
    parts, end = [], 0
    for begin, after in _near(secret, text):
        parts += [text[end:begin], pattern(secret).sub(MARK, text[begin:after])]
        end = after
    return "".join([*parts, text[end:]])


def _near(secret: str, text: str) -> Iterator[tuple[int, int]]:
    """The parts of a text that hold a secret; what is written across the begin of one is not split.

    For that windows overlap: then also the one before holds it, and both are one part.
    """
    begin = end = 0
    for start in range(0, len(text), _WINDOW):
        stop = start + _WINDOW + _OVERLAP
        window = text[start:stop]
        if not _is_held(secret, _known.by_secret[secret], window, plain(window)):
            continue
        if start > end:
            if end:
                yield begin, end
            begin = start
        end = stop
    if end:
        yield begin, end


def _held(text: str) -> list[str]:
    """The known secrets that a text holds in any form."""
    known = _known.by_secret
    if not known:
        return []
    unescaped = plain(text)
    near: Set[str] = known.keys()
    if len(known) > _FEW:
        near = _known.short | _suspected(text) | _suspected(unescaped)
        if not near:
            return []
    return [
        secret
        for secret, each in known.items()
        if secret in near and _is_held(secret, each, text, unescaped)
    ]


def _suspected(text: str) -> set[str]:
    """The secrets that a text may hold: all others it does not."""
    by_gram = _known.by_gram
    grams = (text[at : at + _GRAM] for at in range(0, len(text) - _GRAM + 1, _GRAM))
    return {secret for gram in grams if gram in by_gram for secret in by_gram[gram]}


def _is_held(secret: str, of_it: tuple[str, ...], text: str, unescaped: str) -> bool:
    return secret in text or any(form in unescaped for form in of_it)


def scrubbed_json(text: str, *, guess: bool = True) -> str:
    """As `scrubbed`, of a text in JSON, which it still is afterwards; unchanged where it can be."""
    if not _may_hold(text, guess=guess):
        return text
    with suppress(ValueError, RecursionError):
        before = json.loads(text)
        after = _without(before, guess=guess)
        return text if after == before else json.dumps(after)
    return scrubbed(text, guess=guess)


def scrubbed_lines(text: str) -> str:
    """Lines that are each a text in JSON, each with its end, as `scrubbed_json` has them."""
    if not _may_hold(text, guess=True):  # asked of many lines together, it costs as of one
        return text
    return "".join(f"{scrubbed_json(line)}\n" for line in text.split("\n") if line)


def _may_hold(text: str, *, guess: bool) -> bool:
    return bool(_held(text)) or (guess and may_hold_secret(text))


def _without(value: Any, *, guess: bool, named: bool = False) -> Any:
    """A value of JSON without secrets; `named` is whether it stands below the name of one."""
    if isinstance(value, str):
        inner = scrubbed_json if value[:1] in {"{", "["} else scrubbed
        return MARK if named and value else inner(value, guess=guess)
    if isinstance(value, list):
        return [_without(each, guess=guess, named=named) for each in value]
    if isinstance(value, Mapping):
        return {
            scrubbed(key, guess=guess): each
            if key in _OF_CLASS
            else _without(each, guess=guess, named=named or (guess and is_secret_name(key)))
            for key, each in value.items()
        }
    return value
