"""Secrets in a tree of files: `python -m supply_chain.secrets [FOLDER]`.

Without a folder it looks through what git has or would take; with one, such as an unpacked image,
through all files below it. A finding is a line `path rule fingerprint`, never the secret. Exit code
0: none, or all accepted. 1: there is one. It knows forms of keys and passwords and no other ones: a
password without a name beside it is not found.
"""

from __future__ import annotations

import hashlib
import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from supply_chain.exceptions import accepted, expired

__all__ = ["Secret", "secrets_in", "tree"]

_RULES = {
    "private-key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s*[A-Za-z0-9+/=\s]{64,}",
    "aws-access-key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "aws-secret-key": r"(?i)aws.{0,20}secret.{0,20}[=:]\s*[\"']?([A-Za-z0-9/+]{40})\b",
    "github-token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})\b",
    "gitlab-token": r"\bglpat-[A-Za-z0-9_-]{20,}\b",
    "slack-token": r"\bxox[abprs]-[A-Za-z0-9-]{20,}\b",
    "slack-webhook": r"hooks\.slack\.com/services/T[A-Z0-9]{6,}/B[A-Z0-9]{6,}/[A-Za-z0-9]{20,}",
    "google-key": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "stripe-key": r"\b[rs]k_live_[0-9A-Za-z]{20,}\b",
    "vault-token": r"\bhv[sbr]\.[A-Za-z0-9_-]{24,}\b",
    "package-token": r"\b(?:pypi-AgEI[A-Za-z0-9_-]{50,}|npm_[A-Za-z0-9]{36})\b",
    "web-token": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}",
    "master-key": r"PIPELINE_MASTER_(?:KEY|PASSPHRASE)\s*=\s*[\"']?([A-Za-z0-9+/=]{16,})",
    "named-secret": (
        r"(?i)(?:secret|token|passw(?:or)?d|passphrase|api_?key)[\w\"']{0,12}\s*[:=]\s*"
        r"[\"']([^\"'\s{}<>$]{20,})[\"']"
    ),
}
_PATTERNS = {name: re.compile(pattern.encode()) for name, pattern in _RULES.items()}
_MOST_BYTES = 5_000_000
# Text made by a person has fewer bits a character than a key in base64.
_LEAST_BITS = {"named-secret": 4.0}


class Secret(NamedTuple):
    """What looks like a secret, and where; the fingerprint is of its bytes."""

    path: str
    line: int
    rule: str
    fingerprint: str

    @property
    def finding(self) -> str:
        """What an exception names it by; it stays the same when lines are added above."""
        return f"{self.path} {self.rule} {self.fingerprint}"


def secrets_in(content: bytes, path: str) -> Iterator[Secret]:
    """What in a file looks like a secret."""
    for rule, pattern in _PATTERNS.items():
        for match in pattern.finditer(content):
            secret = match[match.lastindex or 0]
            if _bits(secret) >= _LEAST_BITS.get(rule, 0.0):
                line = content.count(b"\n", 0, match.start()) + 1
                yield Secret(path, line, rule, hashlib.sha256(secret).hexdigest()[:12])


def tree(root: Path, folder: Path | None) -> Iterator[tuple[str, bytes]]:
    """The files to look through, by their path, without those that are too large for text."""
    if folder is None:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            check=True,
            capture_output=True,
            text=True,
        )
        paths: Iterable[Path] = (root / name for name in listed.stdout.split("\0") if name)
    else:
        root, paths = folder, sorted(folder.rglob("*"))
    for path in paths:
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= _MOST_BYTES:
            yield path.relative_to(root).as_posix(), path.read_bytes()


def _bits(secret: bytes) -> float:
    """Shannon's entropy in bits a byte."""
    return -sum(n / len(secret) * math.log2(n / len(secret)) for n in Counter(secret).values())


def _main(arguments: list[str]) -> int:
    folder = Path(arguments[0]) if arguments else None
    reviewed = accepted("secret")
    known = {each.finding for each in reviewed if each not in expired(reviewed)}
    files, found = 0, []
    for path, content in tree(Path(__file__).resolve().parents[1], folder):
        files += 1
        found += [each for each in secrets_in(content, path) if each.finding not in known]
    for each in found:
        sys.stdout.write(f"{each.finding}  (line {each.line})\n")
    sys.stderr.write(f"secrets: {files} files, {len(found)} findings\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
