"""Every way in which a secret may be written: what scans of files and of texts look for."""

from __future__ import annotations

import base64
import html
import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote, quote_plus


def ways(secret: str) -> Iterator[tuple[str, str]]:
    """A secret by the name of the way in which it is written."""
    data = secret.encode()
    once = json.dumps(secret)
    yield from {
        "plain": secret,
        "JSON": once[1:-1],
        "JSON in JSON": json.dumps(once)[1:-1],
        "JSON three times": json.dumps(json.dumps(once))[1:-1],
        "JSON with other letters": json.dumps(secret, ensure_ascii=False)[1:-1],
        "Python": repr(secret)[1:-1],
        "Python in Python": repr(repr(secret))[2:-2],
        "Python's bytes": repr(data)[2:-1],
        "ASCII": ascii(secret)[1:-1],
        "URL": quote(secret),
        "URL with every sign": quote(secret, safe=""),
        "URL twice": quote(quote(secret, safe=""), safe=""),
        "query": quote_plus(secret),
        "percent": "".join(f"%{each:02x}" for each in data),
        "code points": "".join(f"\\u{ord(each):04x}" for each in secret),
        "bytes": "".join(f"\\x{each:02X}" for each in data),
        "octal": "".join(f"\\{each:03o}" for each in data),
        "HTML": html.escape(secret),
        "HTML twice": html.escape(html.escape(secret)),
        "HTML numbers": "".join(f"&#{ord(each)};" for each in secret),
        "HTML hexadecimal": "".join(f"&#x{ord(each):X};" for each in secret),
        "hexadecimal": data.hex(),
        "HEXADECIMAL": data.hex().upper(),
        "base32": base64.b32encode(data).decode(),
    }.items()
    for before in (b"", b"u:", b"user:", b"ab:"):
        for behind in (b"", b"x", b"xy"):
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                text = encode(before + data + behind).decode()
                name = f"base64 {before!r} {behind!r}"
                yield name, text
                yield f"{name} open", text.rstrip("=")
                yield f"{name} URL", quote(text, safe="")
                yield f"{name} JSON", text.replace("/", "\\/")


def leaks(secrets: Iterable[str], folders: Iterable[Path]) -> list[str]:
    """Where one of some secrets stands in any byte below some folders, by file and way.

    Also in what Dagster keeps compressed in its databases.
    """
    looked_for = {
        (secret, name): text.encode()
        for secret in secrets
        for name, text in dict((text, (name, text)) for name, text in ways(secret)).values()
    }
    found = []
    for path in sorted(file for folder in folders for file in folder.rglob("*") if file.is_file()):
        for what, data in (("", path.read_bytes()), *_unpacked(path)):
            found += [
                f"{path}{what}: {secret[:4]}…, {name}"
                for (secret, name), written in looked_for.items()
                if written in data
            ]
    return found


def _unpacked(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.suffix == ".db":
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for (table,) in tables.fetchall():
                for row in database.execute(f'SELECT * FROM "{table}"'):
                    for value in row:
                        if isinstance(value, bytes):
                            with suppress(zlib.error):
                                yield f" {table}", zlib.decompress(value)
