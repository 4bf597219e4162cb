"""Golden samples: kept, verified, tampered with, merged, and never pruned."""

from __future__ import annotations

import json
import shutil
from datetime import date

import msgspec
import pyarrow.parquet as pq
import pytest

from market_pipeline.config.golden import GoldenSettings
from market_pipeline.config.settings import Settings
from market_pipeline.errors import LakeFileError, MissingDataError, SealError
from market_pipeline.golden.keep import FRAMES, GAPS, GOLDEN_FOLDER, keep, merge
from market_pipeline.golden.manifest import MANIFEST, GoldenFile, read_manifest, write_manifest
from market_pipeline.golden.verify import verify
from market_pipeline.security.sealing import seal_in_place
from market_pipeline.security.stored import is_sealed, sealed_path
from market_pipeline.sources.recording import (
    CONVERTER,
    HourlyRecorder,
    RecordingOf,
    RecordingWriter,
    RecordKind,
)
from market_pipeline.sources.recording.reader import read_footer
from market_pipeline.stages.retention.candidates import find_candidates
from market_pipeline.stages.retention.prune import Retention
from market_pipeline_tests.golden.recorded import (
    DEPTH,
    HOUR_NS,
    START_NS,
    STEPS,
    frame_of,
    record_host,
)
from market_pipeline_tests.security.keys import use_keys

BTC = ("BINANCE", "BTCUSDT")
LOW = GoldenSettings(min_hours=2.9, min_messages=2_000)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The folder of a sample of three whole hours of one host."""
    root = tmp_path_factory.mktemp("sample")
    record_host(root / "lake" / CONVERTER.name, "one")
    keep(root / "lake", root, "quiet", BTC, label="a quiet night")
    return root / GOLDEN_FOLDER / "quiet"


@pytest.fixture
def copied(sample, tmp_path):
    """A copy of it, to do harm to."""
    return shutil.copytree(sample, tmp_path / "copied")


def changes(folder):
    return [(each.file, each.place) for each in verify(folder, LOW).changes]


class TestKeep:
    def test_is_what_was_recorded(self, sample):
        """Bytes are those of the lake, the figures those of the market, files 0600."""
        manifest = read_manifest(sample)
        lake = sample.parent.parent / "lake"
        assert 3 == len(manifest.files)
        for each in manifest.files:
            assert (lake / each.path).read_bytes() == (sample / each.path).read_bytes()
            assert 0o600 == (sample / each.path).stat().st_mode & 0o777
        figures = manifest.figures
        assert ("a quiet night", 2 * STEPS, 0, 0.0) == (
            manifest.label,
            figures.messages,
            figures.out_of_order,
            figures.missing_share,
        )
        assert 0.1 == pytest.approx(figures.message_rate, rel=0.01)
        assert figures.verified_share > 0.999

    def test_sealed_recordings_make_a_sealed_sample(self, sample, tmp_path, monkeypatch):
        """It has the figures and hashes of the plain one, is verified, and a sealed file that was
        changed is an error that names it; without the key there is no sample.
        """
        ring = use_keys(monkeypatch, tmp_path, "captures")
        lake = shutil.copytree(sample.parent.parent / "lake", tmp_path / "lake")
        for file in lake.rglob("*.recording"):
            seal_in_place(file, ring, "captures")
        manifest = keep(lake, tmp_path, "quiet", BTC, label="a quiet night")
        assert read_manifest(sample) == manifest
        folder = tmp_path / GOLDEN_FOLDER / "quiet"
        assert [True] * 3 == [is_sealed(folder / each.path) for each in manifest.files]
        assert [] == verify(folder, LOW).changes
        damaged = sealed_path(folder / manifest.files[1].path)
        damaged.write_bytes(damaged.read_bytes()[:-1])
        with pytest.raises(SealError, match="not as it was sealed"):
            verify(folder, LOW)
        monkeypatch.delenv("PIPELINE_MASTER_KEY")
        with pytest.raises(SealError, match="no master key"):
            keep(lake, tmp_path, "other", BTC)

    def test_takes_the_files_of_the_span(self, sample, tmp_path):
        """Of a span of an hour the sample has the files of it, and counts nothing outside."""
        lake = sample.parent.parent / "lake"
        span = START_NS + HOUR_NS, START_NS + 2 * HOUR_NS
        manifest = keep(lake, tmp_path, "hour", BTC, span)
        assert (["01"], 720) == (
            [each.path.rpartition("/")[2][:2] for each in manifest.files],
            manifest.figures.messages,
        )

    def test_takes_a_file_whose_clock_was_set_back(self, tmp_path):
        """A file that begins after the span may have records of it."""
        recorder = HourlyRecorder(tmp_path / CONVERTER.name, RecordingOf(*BTC, "one", "run"))
        for at, wall_ns in enumerate((START_NS + HOUR_NS + 1, START_NS + HOUR_NS - 1)):
            recorder.append(RecordKind.FRAME, wall_ns, at, 1, DEPTH, frame_of(at, "depth"))
        recorder.close()
        manifest = keep(tmp_path, tmp_path, "back", BTC, (START_NS, START_NS + HOUR_NS))
        assert 1 == manifest.figures.messages

    def test_refuses_what_is_no_sample(self, sample, tmp_path):
        """An unknown symbol, an empty span, a name that is taken or none, and a file under way."""
        root, lake = sample.parent.parent, sample.parent.parent / "lake"
        with pytest.raises(MissingDataError):
            keep(lake, root, "other", ("BINANCE", "ETHUSDT"))
        with pytest.raises(MissingDataError):
            keep(lake, root, "other", BTC, (0, HOUR_NS))
        for name in ("quiet", "../quiet", ""):
            with pytest.raises(LakeFileError, match="name"):
                keep(lake, root, name, BTC)
        writer = RecordingWriter(tmp_path / CONVERTER.name, RecordingOf(*BTC, "one", "run"))
        writer.append(RecordKind.FRAME, START_NS, 0, 1, DEPTH, frame_of(0, "depth"))
        writer.flush()
        with pytest.raises(LakeFileError, match="not closed"):
            keep(tmp_path, tmp_path, "other", BTC, (START_NS, START_NS + HOUR_NS))
        with pytest.raises(MissingDataError):  # without a span it is not asked for
            keep(tmp_path, tmp_path, "other", BTC)
        writer.close()
        assert [".lock"] == [each.name for each in root.glob(f"{GOLDEN_FOLDER}/.*")]

    def test_is_never_pruned(self, sample):
        """However old everything is, and last copies too, nothing of a sample is a candidate."""
        settings = Settings(data_dir=sample.parent.parent, lake_uri="s3://none/lake")
        retention = Retention(date(2030, 1, 1), 1, 1, also_last_copies=True)
        paths = [
            path
            for each in find_candidates(settings, retention, None).candidates
            for path in each.paths
        ]
        assert [] == [path for path in paths if GOLDEN_FOLDER in str(path)]


class TestVerify:
    def test_is_unchanged(self, sample):
        """A sample as it was kept has no change, and passes what it meets."""
        found = verify(sample, LOW)
        assert ([], True) == (found.changes, found.ok)

    def test_thresholds(self, sample):
        """Each threshold that is not met is named, and the sample does not pass."""
        met = {each.name: each.ok for each in verify(sample, GoldenSettings()).thresholds}
        assert {
            "hours": False,
            "messages": False,
            "out_of_order": True,
            "missing_share": True,
            "verified_share": True,
        } == met

    def test_a_changed_byte_is_located(self, copied):
        """The file and the block of a changed byte are named, and what it cost in the figures."""
        path = sorted(copied.rglob("*.recording"))[1]
        block = read_footer(path).index[0].offset
        data = bytearray(path.read_bytes())
        data[block + 40] ^= 1
        path.write_bytes(data)
        found = changes(copied)
        name = str(path.relative_to(copied))
        assert [(name, True)] == [(f, p.startswith(f"bytes {block:,} to")) for f, p in found[:1]]
        assert (MANIFEST, "figures.messages") in found

    def test_a_file_that_is_gone_or_new(self, copied):
        """A file that was removed is named, and one that was added."""
        first, second, _ = sorted(copied.rglob("*.recording"))
        first.unlink()
        added = second.with_name("added.recording")
        shutil.copy(second, added)
        found = changes(copied)
        names = [str(each.relative_to(copied)) for each in (first, added)]
        assert [(name, "the file") for name in names] == found[:2]

    @pytest.mark.parametrize(
        ("part", "value"),
        [("label", "a wild night"), ("end_ns", 1_723_161_600_000_000_001), ("name", "other")],
    )
    def test_an_edited_manifest_is_located(self, copied, part, value):
        """The part of the manifest that was edited is named."""
        path = copied / MANIFEST
        path.write_text(json.dumps(json.loads(path.read_text()) | {part: value}))
        assert (MANIFEST, part) == changes(copied)[0]

    def test_an_edited_figure_is_located(self, copied):
        """A figure that the frames do not give is named, also where the hash was made to fit."""
        path = copied / MANIFEST
        content = json.loads(path.read_text())
        content["figures"]["streams"][DEPTH]["messages"] += 1
        path.write_text(json.dumps(content))
        assert [(MANIFEST, "figures"), (MANIFEST, f"figures.streams.{DEPTH}.messages")] == changes(
            copied
        )

    def test_no_manifest(self, copied):
        """Without a manifest, or with one that is no JSON, nothing can be verified."""
        for content in (None, "{}", "no"):
            (copied / MANIFEST).unlink()
            if content is not None:
                (copied / MANIFEST).write_text(content)
            with pytest.raises(LakeFileError, match="cannot be read"):
                verify(copied, LOW)
            (copied / MANIFEST).touch()

    @pytest.mark.parametrize(
        "path",
        [
            *("../escaped", "/etc/hostname", "//etc/hostname", "a/../../b"),
            *("./a", "a//b", ".", "", MANIFEST, "twice"),
        ],
    )
    def test_a_file_elsewhere_is_refused(self, copied, tmp_path, path):
        """Nothing is read, hashed or copied by a path that leads out of the sample's folder."""
        manifest = read_manifest(copied)
        files = (*manifest.files, *[GoldenFile(path, 1, "0")] * (2 if path == "twice" else 1))
        write_manifest(copied, msgspec.structs.replace(manifest, files=files))
        with pytest.raises(LakeFileError, match="cannot be one that was written here"):
            verify(copied, LOW)
        with pytest.raises(LakeFileError, match="cannot be one that was written here"):
            merge(tmp_path, "both", [copied])
        assert not (tmp_path / GOLDEN_FOLDER).exists()

    @pytest.mark.parametrize("span", [(-1, 1), (0, 2**63), (10**30, 10**31), (2, 1)])
    def test_a_time_that_is_none_is_refused(self, copied, span):
        """It ends neither the verb with a traceback nor the list of all samples."""
        manifest = read_manifest(copied)
        start, end = span
        write_manifest(copied, msgspec.structs.replace(manifest, start_ns=start, end_ns=end))
        with pytest.raises(LakeFileError, match="golden sample"):
            read_manifest(copied)

    def test_a_link_is_located(self, copied, sample, tmp_path):
        """A recording that a link replaces is named, not counted, and not merged."""
        path = sorted(copied.rglob("*.recording"))[0]
        name = str(path.relative_to(copied))
        path.unlink()
        path.symlink_to(sample / name)
        found = changes(copied)
        assert (name, "the file") == found[0]
        assert (MANIFEST, "figures.messages") in found
        with pytest.raises(LakeFileError, match="a link"):
            merge(tmp_path, "both", [copied])


class TestMerge:
    def test_each_host_fills_the_other(self, tmp_path):
        """Two hosts' samples make one without a gap but where both lost, which says of each frame
        which file it came from, and of each gap who filled it.
        """
        folders = []
        for host, lost in (("one", {100, 500, 700}), ("two", {500, 900})):
            record_host(tmp_path / host / "lake" / CONVERTER.name, host, lost)
            keep(tmp_path / host / "lake", tmp_path / host, host, BTC, label=host)
            folders.append(tmp_path / host / GOLDEN_FOLDER / host)
        manifest = merge(tmp_path, "both", folders)
        assert ["one", "two"] == sorted(manifest.merged_from.values())
        folder = tmp_path / GOLDEN_FOLDER / "both"
        gaps = manifest.figures.gaps
        assert ((4, 3, 1), "one / two") == ((gaps.found, gaps.filled, gaps.left), manifest.label)
        assert 2 * STEPS - 1 == manifest.figures.messages
        lines = [json.loads(line) for line in (folder / GAPS).read_text().splitlines()]
        assert {
            (200, "one", "2024-08-09/00_two_two1_0.recording"),
            (1400, "one", "2024-08-09/01_two_two1_0.recording"),
            (1800, "two", "2024-08-09/02_one_one1_0.recording"),
            (1000, None, None),
        } == {(line["after_id"], line["host"], line["filled_by"]) for line in lines}
        frames = pq.read_table(folder / FRAMES).to_pylist()
        filled = {
            each["last_id"]: each["file"]
            for each in frames
            if each["stream"] == DEPTH and each["last_id"] in (202, 1802)
        }
        assert {
            202: "2024-08-09/00_two_two1_0.recording",
            1802: "2024-08-09/02_one_one1_0.recording",
        } == filled
        assert (2 * STEPS - 1, True) == (len(frames), verify(folder, LOW).changes == [])

    def test_samples_of_one_name_are_all_named(self, sample, tmp_path):
        """Hosts may name theirs alike: each is there by the hash of its manifest."""
        record_host(tmp_path / "lake" / CONVERTER.name, "two")
        keep(tmp_path / "lake", tmp_path, "quiet", BTC)
        manifest = merge(tmp_path, "both", [sample, tmp_path / GOLDEN_FOLDER / "quiet"])
        assert ["quiet", "quiet"] == [*manifest.merged_from.values()]

    def test_refuses_an_edited_manifest(self, copied, tmp_path):
        """Its span and files would be believed."""
        path = copied / MANIFEST
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"start_ns": content["start_ns"] + 1}))
        with pytest.raises(LakeFileError, match="was edited"):
            merge(tmp_path, "both", [copied])

    def test_refuses_a_sample_that_was_changed(self, copied, tmp_path):
        """A file that is not the one that was kept is refused, and nothing is left behind."""
        path = sorted(copied.rglob("*.recording"))[0]
        path.write_bytes(path.read_bytes() + b"x")
        with pytest.raises(LakeFileError, match="not the one that was kept"):
            merge(tmp_path, "both", [copied])
        assert [".lock"] == [each.name for each in (tmp_path / GOLDEN_FOLDER).iterdir()]
