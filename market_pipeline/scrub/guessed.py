"""Secrets that nobody named: what stands behind the name of one, in a login of an address or a key.

A guess may take out too much; it never touches a text that has neither such a name nor such a form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["MARK", "is_secret_name", "may_hold_secret", "without_guessed"]

MARK = "[secret]"
"""What stands in the place of a secret."""

# The folder that a shell is in, and a status of HTTP, by the few forms that they have.
_FOLDER = r"=/(?:home|root|tmp|srv|var|opt|usr|mnt|data|app|work|Users)(?:/|[\s'\"]|$)"
_STATUS = r"code=[1-5]\d\d(?:[\s&;,'\"<>(){}\[\]\\]|$)"
_WORD = (
    rf"(?:passw(?:or)?d|passphrase|pwd(?!{_FOLDER})|secret|token|credentials?|signature|authorization"
    r"|(?:api|access|private|master|account|signing|sealing)[_-]?key)"
)
_NAME = re.compile(rf"(?i){_WORD}(?:s?$|[_-])|^auth$")
# The settings that say where secrets are hold none.
_KEY = rf"{_WORD}(?!s__(?:provider|address|path|region|ca_bundle|lifetime))[\w.-]{{0,40}}"
_NO_MARK = r"(?!b?\\*['\"]?\s*\[secret\])"
_QUOTE = r"\\{0,255}['\"]"  # eight times escaped; it is compared at each place behind it
_BARE = r"[^\s&;,'\"<>(){}\[\]\\]+"
# Of letters alone it is more likely a word of a sentence: `master_key: more than one is set`.
_LIKE_KEY = r"(?=[^\s'\"]{0,80}\d)[^\s&;,'\"<>(){}\[\]\\]{8,}"
_LONG = 20_000
_RUN = re.compile(r"[A-Za-z0-9+/]{200,}")
"""A picture in base64, in which every short hint stands by chance."""
_KEPT = "kept"
"""The group of what is no secret, in which the next hint need not be tried: of a megabyte of them
each would look through all that are behind it."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """How a match begins, in lower case where the case is no matter; the match; what replaces it.

    A pattern is tried where a hint stands only: tried everywhere, it would cost a hundred times as
    much.
    """

    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: str

    def applied(self, text: str, lowered: str) -> str:
        """The text with every match replaced."""
        starts = {
            start
            for hint in self.hints
            for start in _places(hint, lowered if hint.islower() else text)
        }
        parts, end = [], 0
        for start in sorted(starts):
            match = self.pattern.match(text, start) if start >= end else None
            if match is not None:
                is_kept = match.lastgroup == _KEPT
                parts += [text[end:start], match[0] if is_kept else match.expand(self.replacement)]
                end = match.end()
        return "".join([*parts, text[end:]])


_NAMES = (
    *("passw", "passphrase", "pwd", "secret", "token", "credential", "signature", "authorization"),
    *(
        f"{of}{between}key"
        for of in ("api", "access", "private", "master", "account", "signing", "sealing")
        for between in ("", "_", "-")
    ),
)
_RULES = (
    _Rule(
        ("-----BEGIN ",),
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.DOTALL),
        MARK,
    ),
    _Rule(("://",), re.compile(rf"://{_NO_MARK}[^\s/'\"<>?#]+@"), f"://{MARK}@"),
    _Rule(
        ("authorization", "cookie", "x-"),
        re.compile(
            r"(?i)((?:authorization|cookie|x-[a-z-]{0,40}(?:token|key))"
            rf"(?:\\*['\"])?\s*[:=]\s*(?:b?\\*['\"])?){_NO_MARK}[^'\"\s\\][^'\"\r\n\\]*"
        ),
        rf"\1{MARK}",
    ),
    _Rule(
        _NAMES,
        re.compile(
            rf"(?i)({_KEY}(?:\\*['\"])?\s*[:=]\s*b?({_QUOTE})){_NO_MARK}(?:(?!\2)[^\n])+(?=\2)"
        ),
        rf"\1{MARK}",
    ),
    _Rule(_NAMES, re.compile(rf"(?i)({_KEY}=){_NO_MARK}{_BARE}"), rf"\1{MARK}"),
    _Rule(
        _NAMES,
        re.compile(rf"(?i)({_WORD}(?:[_-]?id)?\s*[:=]\s*){_NO_MARK}{_LIKE_KEY}"),
        rf"\1{MARK}",
    ),
    _Rule(
        tuple(f"{sign}{name}=" for sign in "?&" for name in ("key", "code", "sig", "auth")),
        re.compile(rf"(?i)(?![?&]{_STATUS})([?&]\w+=){_NO_MARK}{_BARE}"),
        rf"\1{MARK}",
    ),
    _Rule(
        ("Bearer ", "Basic ", "Negotiate "),
        re.compile(r"(\w+ )(?=\S{0,80}[\d=])[\w+/=.~-]{8,}"),
        rf"\1{MARK}",
    ),
    _Rule(("AKIA", "ASIA"), re.compile(r"[A-Z0-9]{20}\b"), MARK),
    _Rule(("eyJ",), re.compile(rf"[\w-]{{8,}}\.[\w-]{{8,}}\.[\w-]*|(?P<{_KEPT}>[\w-]+)"), MARK),
    _Rule(("hvs.", "xox"), re.compile(r"(?:hvs\.|xox[a-z]-)[\w-]{10,}"), MARK),
)
_HINTS = {hint for rule in _RULES for hint in rule.hints} - {"://"}
_CASED = tuple(hint for hint in _HINTS if not hint.islower())
_LOWER = tuple(hint for hint in _HINTS if hint.islower() and "key" not in hint)
_KEYS = tuple(hint for hint in _HINTS if hint.islower() and "key" in hint)


def _places(hint: str, text: str) -> Iterator[int]:
    start = text.find(hint)  # in half the time of a pattern
    while start >= 0:
        yield start
        start = text.find(hint, start + len(hint))


def is_secret_name(name: str) -> bool:
    """Whether what a name stands for is a secret: `db_password`, `AWS_SECRET_ACCESS_KEY`."""
    return _NAME.search(name) is not None


def may_hold_secret(text: str) -> bool:
    """Whether a text may hold one; quick, and true too often."""
    searched = _RUN.sub(" ", text) if len(text) > _LONG else text
    lowered = searched.lower()
    return (
        ("@" in searched and "://" in searched)
        or any(hint in searched for hint in _CASED)
        or any(hint in lowered for hint in _LOWER)
        or ("key" in lowered and any(hint in lowered for hint in _KEYS))
    )


def without_guessed(text: str) -> str:
    """The text with what looks like a secret replaced; once more, it stays as it is."""
    lowered = _lowered(text)
    for rule in _RULES:
        clean = rule.applied(text, lowered)
        if clean != text:
            text, lowered = clean, _lowered(clean)
    return text


def _lowered(text: str) -> str:
    """In lower case, of the same length."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return re.sub("[A-Z]+", lambda found: found[0].lower(), text)  # a few become two letters
