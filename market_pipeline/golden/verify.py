"""What a golden sample is worth: whether it is what was kept, and whether it meets thresholds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from market_pipeline.config.golden import GoldenSettings
from market_pipeline.errors import LakeFileError
from market_pipeline.golden.figures import Figures, measure
from market_pipeline.golden.keep import is_linked, recordings_of
from market_pipeline.golden.manifest import MANIFEST, Manifest, edited_parts, read_manifest
from market_pipeline.security.stored import is_stored, stored_in, stored_size
from market_pipeline.sources.recording.check import check_recording, hash_of, read_facts
from market_pipeline.sources.recording.heads import venue_of
from market_pipeline.sources.recording.reader import Damage
from market_pipeline.sources.recording.union import by_host

__all__ = ["Change", "Threshold", "Verified", "thresholds", "verify"]


class Change(msgspec.Struct, frozen=True):
    """Something that is not as it was kept.

    Attributes:
        file: Its path below the sample's folder.
        place: Where in it: bytes, or the part of the manifest.
        found: What is there instead.
    """

    file: str
    place: str
    found: str


class Threshold(msgspec.Struct, frozen=True):
    """A threshold and what was found; `found` is null where nothing of it can be known."""

    name: str
    limit: str
    found: float | None
    ok: bool


class Verified(msgspec.Struct, frozen=True):
    """What was found of a sample, every byte read.

    Attributes:
        figures: As they are now.
        changes: What is not as it was kept; none if it is.
        thresholds: Each, met or not.
    """

    manifest: Manifest
    figures: Figures
    changes: list[Change]
    thresholds: list[Threshold]

    @property
    def ok(self) -> bool:
        """Whether it is as it was kept and meets every threshold."""
        return not self.changes and all(each.ok for each in self.thresholds)


def verify(folder: Path, settings: GoldenSettings) -> Verified:
    """Reads every byte of a sample and measures it again, with the code that is installed now.

    Args:
        folder: Of the sample.
        settings: The thresholds.

    Raises:
        LakeFileError: The manifest cannot be read.
    """
    manifest = read_manifest(folder)
    changes = [
        Change(MANIFEST, part, "it was edited: its hash is another one")
        for part in edited_parts(manifest)
    ]
    changes += _changed_files(folder, manifest)
    damages: list[Damage] = []
    readable = [each for each in recordings_of(folder, manifest) if read_facts(each).header]
    span_ns = manifest.start_ns, manifest.end_ns
    figures = measure(
        venue_of(manifest.exchange), by_host(readable), span_ns, on_damage=damages.append
    )
    changes += [
        Change(MANIFEST, f"figures.{name}", f"{now} now, {before} when it was kept")
        for name, before, now in _differences(
            "", msgspec.to_builtins(manifest.figures), msgspec.to_builtins(figures)
        )
    ]
    return Verified(manifest, figures, changes, thresholds(figures, settings))


def thresholds(figures: Figures, settings: GoldenSettings) -> list[Threshold]:
    """Each threshold and whether figures meet it; one that cannot be known is not met."""
    missing, verified = figures.missing_share, figures.verified_share
    return [
        Threshold(
            "hours",
            f">= {settings.min_hours:g}",
            figures.hours,
            figures.hours >= settings.min_hours,
        ),
        Threshold(
            "messages",
            f">= {settings.min_messages:,}",
            figures.messages,
            figures.messages >= settings.min_messages,
        ),
        Threshold(
            "out_of_order",
            f"<= {settings.max_out_of_order:,}",
            figures.out_of_order,
            figures.out_of_order <= settings.max_out_of_order,
        ),
        Threshold(
            "missing_share",
            f"< {settings.max_missing_share:g}",
            missing,
            missing is not None and missing < settings.max_missing_share,
        ),
        Threshold(
            "verified_share",
            f">= {settings.min_verified_share:g}",
            verified,
            verified is not None and verified >= settings.min_verified_share,
        ),
    ]


def _changed_files(folder: Path, manifest: Manifest) -> Iterator[Change]:
    kept = {each.path: each for each in manifest.files}
    folders = (folder, *(each for each in folder.rglob("*") if each.is_dir()))
    files = (each for inner in folders for each in stored_in(inner) if is_stored(each))
    there = {str(each.relative_to(folder)) for each in files} - {MANIFEST}
    for path, file in sorted(kept.items()):
        if is_linked(folder, path):
            yield Change(path, "the file", "a link leads to it, so it is not kept here")
        elif path not in there:
            yield Change(path, "the file", "it is gone")
        elif hash_of(folder / path) != file.sha256:
            yield from _located(folder, path, file.size_bytes)
    for path in sorted(there - kept.keys()):
        yield Change(path, "the file", "it is not in the manifest")


def _located(folder: Path, path: str, size_bytes: int) -> Iterator[Change]:
    """Where a file differs from the one that was kept, as far as its own checksums show it."""
    size = stored_size(folder / path)
    if size != size_bytes:
        yield Change(path, "its size", f"{size:,} bytes, {size_bytes:,} when it was kept")
    try:
        damages = check_recording(folder / path).damages
    except LakeFileError:
        damages = ()
    for damage in damages:
        end = damage.offset + damage.size_bytes
        yield Change(path, f"bytes {damage.offset:,} to {end:,}", damage.found)
    if not damages and size == size_bytes:
        yield Change(path, "the file", "other bytes, whole in themselves")


def _differences(path: str, before: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """The members that differ, by their path."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted({*before, *now}):
            inner = f"{path}.{name}" if path else name
            yield from _differences(inner, before.get(name), now.get(name))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for at, pair in enumerate(zip(before, now, strict=True)):
            yield from _differences(f"{path}.{at}", *pair)
    elif before != now:
        yield path, before, now
