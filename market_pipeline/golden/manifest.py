"""The manifest of a golden sample: what is kept, its hashes, and its figures when it was kept.

Each part has a hash of its own, so that it shows which one was edited. They have no key: they find
damage and edits by hand, not forgery.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import msgspec

from market_pipeline.errors import LakeFileError
from market_pipeline.golden.figures import Figures
from market_pipeline.warehouse.layout import written_whole

__all__ = ["MANIFEST", "VERSION", "GoldenFile", "Manifest", "edited_parts", "read_manifest"]
__all__ += ["utc", "write_manifest"]

MANIFEST = "manifest.json"
VERSION = 1
_LAST_NS = 2**63 - 1


class GoldenFile(msgspec.Struct, frozen=True):
    """A file of a sample: its path below the sample's folder, size, and SHA-256."""

    path: str
    size_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What a sample is.

    Attributes:
        version: Of this form.
        name: Of the sample and its folder.
        label: What whoever kept it says of the market, or of why it was kept.
        venue, exchange, symbol: As the recorder names them.
        start_ns, end_ns: The span, its end excluded, ns UTC.
        software: Name and version of what kept it.
        merged_from: Of which samples it is the union: the name of each by the hash of its manifest,
            as those of several hosts may have one name.
        files: By path.
        figures: As they were when it was kept.
        sha256: Of each of the parts above, by its name.
    """

    version: int
    name: str
    label: str
    venue: str
    exchange: str
    symbol: str
    start_ns: int
    end_ns: int
    software: str
    merged_from: dict[str, str]
    files: tuple[GoldenFile, ...]
    figures: Figures
    sha256: dict[str, str] = {}


_manifest = msgspec.json.Decoder(Manifest)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest of a sample with the hashes of its parts, mode 0600."""
    whole = msgspec.structs.replace(manifest, sha256=_hashes(manifest))
    with written_whole(folder / MANIFEST) as file:
        file.write(msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a sample.

    Raises:
        LakeFileError: There is none, it is none that is known here, or it names a file outside its
            folder or a time that is none.
    """
    path = folder / MANIFEST
    try:
        manifest = _manifest.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise LakeFileError(
            "The manifest of a golden sample cannot be read",
            next_step="Bring the folder back from a copy, or keep the span again.",
            file=path,
            expected=f"a manifest of version {VERSION}",
            found=str(error),
        ) from error
    if manifest.version != VERSION:
        raise LakeFileError(
            "The golden sample has a form that is not known here",
            next_step="Read it with the version of market-pipeline that kept it.",
            file=path,
            expected=f"version {VERSION}",
            found=f"version {manifest.version}",
        )
    if (wrong := _impossible(manifest)) is not None:
        raise LakeFileError(
            "The manifest of a golden sample cannot be one that was written here",
            next_step="Bring the folder back from a copy, or keep the span again.",
            file=path,
            expected="files below its folder, each once, and a span of time",
            found=wrong,
        )
    return manifest


def _impossible(manifest: Manifest) -> str | None:
    """What no sample has, whoever edited its hashes too: a file elsewhere, or a time that is none.

    What is read and copied goes by these, and a sample may come from anywhere.
    """
    paths = [each.path for each in manifest.files]
    for path in paths:
        own = PurePosixPath(path)  # `//x` is absolute too
        leads_out = own.is_absolute() or ".." in own.parts or "\0" in path
        if leads_out or str(own) != path or path in (".", MANIFEST):
            return f"the file {path!r}"
    if len(set(paths)) < len(paths):
        return f"the file {max(paths, key=paths.count)!r} more than once"
    if not 0 <= manifest.start_ns < manifest.end_ns <= _LAST_NS:
        return f"the span from {manifest.start_ns} to {manifest.end_ns}"
    return None


def edited_parts(manifest: Manifest) -> list[str]:
    """The names of parts that are not as they were written."""
    own = _hashes(manifest)
    return sorted(
        name for name in {*own, *manifest.sha256} if own.get(name) != manifest.sha256.get(name)
    )


def utc(wall_ns: int) -> str:
    """A time as text, to the second."""
    return f"{datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _hashes(manifest: Manifest) -> dict[str, str]:
    return {
        name: hashlib.sha256(
            msgspec.json.encode(getattr(manifest, name), order="sorted")
        ).hexdigest()
        for name in Manifest.__struct_fields__
        if name != "sha256"
    }
