"""The forms in which a secret may stand in a text: as it is, escaped in any way, in base64, in hex.

Escapes of single characters (URLs, JSON, Python, HTML, several times over) are a rule and no list:
a text is compared with its escapes undone. Base64 is found at each of its three alignments, so also
where the secret is a part of what was encoded, as in an HTTP login.
"""

from __future__ import annotations

import base64
import json
import re
from functools import lru_cache

__all__ = ["forms", "pattern", "plain"]

_ESCAPED = re.compile(
    r"%(?:25)*(?P<percent>[0-9A-Fa-f]{2})"
    r"|(?<!\\)\\+(?:"  # to try each of a million backslashes takes their square
    r"u(?P<pair>[dD][89abAB][0-9A-Fa-f]{2}\\+u[dD][c-fC-F][0-9A-Fa-f]{2})"
    r"|u(?P<unicode>[0-9A-Fa-f]{4})"
    r"|(?:U000|u\{)(?P<long>[0-9A-Fa-f]{1,5})\}?"
    r"|x(?P<hex>[0-9A-Fa-f]{2})"
    r"|(?P<octal>[0-3][0-7]{2}))"
    r"|&(?:amp;)*#(?P<decimal>\d{1,6});"
    r"|&(?:amp;)*#[xX](?P<html_hex>[0-9A-Fa-f]{1,5});"
    r"|&(?:amp;)*(?P<name>amp|lt|gt|quot|apos);"
)
_SIGNS = ("%", "&", "\\u", "\\U", "\\x", "\\0", "\\1", "\\2", "\\3")
"""One of these is in every text that holds what `_ESCAPED` matches."""
_BASES = {"octal": 8, "decimal": 10}
_NAMES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_NAME_OF = {char: name for name, char in _NAMES.items()}
_MOST_LEVELS = 5
_BEGIN = r"(?:(?<!\\)|(?!\\))"
"""Not within a run of backslashes: what matches there does so from the begin of the run as well."""
_EDGE = r"[A-Za-z0-9+/_-]{0,3}"
"""Characters of base64 beside a secret that hold a few of its bits."""


def forms(secret: str) -> tuple[str, ...]:
    """What of a `plain` text shows that the text holds the secret."""
    data = _bytes(secret)
    spaced = " ".join(secret.split())
    # A plain text has the letter of `\\t`, which JSON writes of other characters than Python does,
    # and no `%41` that the secret itself may have.
    escaped = json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]
    in_queries = (each.replace(" ", "+") for each in (secret, spaced))
    texts = [secret, spaced, *in_queries, *escaped]
    texts += [plain(each) for each in texts]
    found = [*texts, *(_bytes(each).decode("latin-1") for each in texts)]
    found += [*_base64_cores(data), data.hex(), data.hex().upper(), _base32(data)]
    return tuple(dict.fromkeys(map(_normal, found)))


def plain(text: str) -> str:
    """A text with the escapes of characters undone, however often they were escaped.

    It has no backslash, and the two characters in which the alphabets of base64 differ are one.
    """
    if any(sign in text for sign in _SIGNS):
        for _ in range(_MOST_LEVELS):
            before, text = text, _ESCAPED.sub(_character, text)
            if text == before:
                break
    return _normal(text)


def _bytes(text: str) -> bytes:
    """The bytes of a text, also of one with half a pair of UTF-16, as JSON may have it."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="surrogatepass")


def _normal(text: str) -> str:
    return text.replace("\\", "").replace("-", "+").replace("_", "/")


def _character(match: re.Match[str]) -> str:
    kind = match.lastgroup or ""
    if kind == "name":
        return _NAMES[match[kind]]
    if kind == "pair":
        high, low = (int(half, 16) for half in (match[kind][:4], match[kind][-4:]))
        return chr(0x10000 + ((high & 0x3FF) << 10) + (low & 0x3FF))
    code = int(match[kind], _BASES.get(kind, 16))
    return chr(code) if code < 0x110000 else match[0]


@lru_cache(maxsize=256)
def pattern(secret: str) -> re.Pattern[str]:
    """Matches every form in a text as it is; slow, for texts that are known to hold one."""
    data = _bytes(secret)
    written = {"".join(map(_char, each)): None for each in (secret, data.decode("latin-1"))}
    encoded = ["".join(map(_base64_char, core)) for core in _base64_cores(data)]
    return re.compile(
        rf"{_BEGIN}(?:{'|'.join(written)}|(?i:{data.hex()})"
        rf"|{_EDGE}(?:{'|'.join([*encoded, _base32(data)])}){_EDGE}(?:=|%(?:25)*3[Dd]){{0,2}})"
    )


def _char(char: str) -> str:
    """A character, written in any of the ways that `_ESCAPED` knows."""
    code = ord(char)
    literal = re.escape(char) if char.isalnum() else r"\\*" + re.escape(char)
    if char in "-_":  # a `plain` text has them no more
        literal = r"\\*[-_+/]"
    ways = [r"(?:\s|\\+[nrtbfv])+", r"\+"] if char.isspace() else [literal]
    if char == "\b":
        ways.append(r"\\+b")
    if code < 0x100:
        ways.append(rf"%(?:25)*(?i:{code:02x})|\\+x(?i:{code:02x})|\\+{code:03o}")
    if code < 0x10000:
        ways.append(rf"\\+u(?i:{code:04x})")
    else:
        high, low = 0xD800 + (code - 0x10000 >> 10), 0xDC00 + (code & 0x3FF)
        ways.append(rf"\\+u(?i:{high:x})\\+u(?i:{low:x})")
    ways.append(rf"\\+(?:U000|u\{{)0*(?i:{code:x})\}}?")
    ways.append(f"&(?:amp;)*#(?:0*{code}|[xX]0*(?i:{code:x}));")
    if char in _NAME_OF:
        ways.append(f"&(?:amp;)*{_NAME_OF[char]};")
    return f"(?:{'|'.join(ways)})"


def _base64_char(char: str) -> str:
    if char == "+":
        return r"(?:[+-]|%(?:25)*2[Bb]|\\+u002[Bb])"
    if char == "/":
        return r"(?:\\*[/_]|%(?:25)*2[Ff]|\\+u002[Ff])"
    return char


def _base64_cores(data: bytes) -> list[str]:
    """By alignment, the characters of base64 that hold nothing but bits of the data."""
    cores = []
    for before in range(3):
        text = base64.b64encode(bytes(before) + data).decode()
        cores.append(text[(0, 2, 3)[before] : (before + len(data)) * 8 // 6])
    return cores


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode()[: len(data) * 8 // 5]
