from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from market_pipeline.errors import LakeFileError
from market_pipeline.sources.binance_capture import MEANING, FindingKind, Findings, lines
from market_pipeline.sources.binance_capture.lines import read_lines, to_ns
from market_pipeline_tests.conftest import REPOSITORY
from market_pipeline_tests.sources.capture_files import capture, told

NS = 1_723_161_600_000_000_000


def numbered(count: int, first: int = 1) -> list[bytes]:
    return [b'%d {"n":%d}' % (NS + n, n) for n in range(first, first + count)]


def texts(path: Path, findings: Findings | None = None) -> list[tuple[int, bytes]]:
    """(line number, JSON) of every line."""
    found = read_lines(path, Findings() if findings is None else findings)
    return [(number, text) for number, _, text in found]


class TestStamps:
    @pytest.mark.parametrize(
        ("stamp", "ns"),
        [
            (1_723_161_600_123, 1_723_161_600_123_000_000),
            (1_723_161_600_123_456, 1_723_161_600_123_456_000),
            (1_723_161_600_123_456_789, 1_723_161_600_123_456_789),
            (1_723_161_600, None),
            (17_231_616_001_234, None),
            (9_999_999_999_999_999_999, None),
            (0, None),
        ],
    )
    def test_the_number_of_digits_is_the_unit(self, stamp, ns):
        """13 digits are ms, 16 are µs and 19 are ns; another number of digits is no time."""
        assert ns == to_ns(stamp)

    @pytest.mark.parametrize("unit", [1, 10**3, 10**6])
    def test_local_stamps(self, tmp_path: Path, unit):
        """The local stamp of a line may be in any of the three."""
        path = capture(tmp_path / "c.gz", [b"%d {}" % (NS // unit)])
        assert [(1, NS, b"{}")] == list(read_lines(path, Findings()))


class TestLines:
    @pytest.mark.parametrize("chunk", [1, 7, 1 << 16])
    def test_where_the_file_is_cut_into_chunks_changes_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk
    ):
        """Lines across chunks are whole, numbered from 1, and nothing is found wrong."""
        monkeypatch.setattr(lines, "_CHUNK_BYTES", chunk)
        path = capture(tmp_path / "c.gz", numbered(50))
        findings = Findings()
        assert [(n, b'{"n":%d}' % n) for n in range(1, 51)] == texts(path, findings)
        assert [] == findings.located

    @pytest.mark.parametrize("chunk", [2, 1 << 16])
    def test_only_lines_that_contain_something(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk
    ):
        """Lines that are looked for keep their numbers, whatever is passed over before them."""
        monkeypatch.setattr(lines, "_CHUNK_BYTES", chunk)
        path = capture(tmp_path / "c.gz", numbered(300))
        found = read_lines(path, Findings(), containing=b'"n":29')
        assert [29, *range(290, 300)] == [number for number, _, _ in found]

    def test_several_gzip_members(self, tmp_path: Path):
        """A file appended to by several runs is one text; a member may end inside a line."""
        text = b"\n".join(numbered(40)) + b"\n"
        path = tmp_path / "c.gz"
        path.write_bytes(b"".join(gzip.compress(text[k : k + 77]) for k in range(0, 2_000, 77)))
        findings = Findings()
        assert 40 == len(texts(path, findings))
        assert [] == findings.located

    def test_no_line_break_at_the_end(self, tmp_path: Path):
        """The last line needs no line break."""
        path = tmp_path / "c.gz"
        path.write_bytes(gzip.compress(b"\n".join(numbered(3))))
        assert [1, 2, 3] == [number for number, _ in texts(path)]

    @pytest.mark.parametrize(
        ("bad", "kind"),
        [
            (b"17231616", "truncated_line"),
            (b"", "undecodable"),
            (b"%d " % NS, "undecodable"),
            (b"noise {}", "undecodable"),
            (b"17231616 {}", "undecodable"),
            (b"-1723161600000 {}", "undecodable"),
        ],
    )
    def test_a_line_that_is_none(self, tmp_path: Path, bad, kind):
        """It is left out and told with its number, and the lines around it are read."""
        path = capture(tmp_path / "c.gz", [*numbered(2), bad, *numbered(1, 4)])
        findings = Findings()
        assert [1, 2, 4] == [number for number, _ in texts(path, findings)]
        assert [(kind, "c.gz", 3)] == told(findings)


class TestDamage:
    @pytest.mark.parametrize("chunk", [2, 1 << 16])
    def test_truncated_gzip(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk):
        """Whole lines before the cut are used, and the line that is cut is told."""
        monkeypatch.setattr(lines, "_CHUNK_BYTES", chunk)
        path = capture(tmp_path / "c.gz", numbered(200))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        findings = Findings()
        read = texts(path, findings)
        assert 0 < len(read) < 200
        assert [("truncated_gzip", "c.gz", len(read) + 1)] == told(findings)

    def test_every_length_but_the_whole_is_truncated(self, tmp_path: Path):
        """Cut after any byte, nothing but one finding tells of it, at the line after the last."""
        path = capture(tmp_path / "c.gz", numbered(3))
        whole = path.read_bytes()
        for size in range(len(whole)):
            path.write_bytes(whole[:size])
            findings = Findings()
            read = texts(path, findings)
            assert [("truncated_gzip", "c.gz", len(read) + 1)] == told(findings)

    def test_a_later_member_is_truncated(self, tmp_path: Path):
        """The members before it are used."""
        path = tmp_path / "c.gz"
        members = [gzip.compress(each + b"\n") for each in numbered(3)]
        path.write_bytes(b"".join(members)[:-12])
        findings = Findings()
        assert [1, 2] == [number for number, _ in texts(path, findings)]
        assert [("truncated_gzip", "c.gz", 3)] == told(findings)

    def test_wrong_checksum(self, tmp_path: Path):
        """All lines are used, and the file is told to be damaged at its end."""
        path = capture(tmp_path / "c.gz", numbered(5))
        whole = bytearray(path.read_bytes())
        whole[-8] ^= 0xFF
        path.write_bytes(whole)
        findings = Findings()
        assert 5 == len(texts(path, findings))
        assert [("damaged_gzip", "c.gz", 6)] == told(findings)
        assert "incorrect data check" in findings.located[0].found

    def test_bytes_after_the_stream(self, tmp_path: Path):
        """What follows the last member and is none is damage."""
        path = capture(tmp_path / "c.gz", numbered(2))
        path.write_bytes(path.read_bytes() + b"left over")
        findings = Findings()
        assert 2 == len(texts(path, findings))
        assert [("damaged_gzip", "c.gz", 3)] == told(findings)

    def test_no_gzip(self, tmp_path: Path):
        """A file that is no gzip at all is refused: there is nothing to go on with."""
        path = tmp_path / "c.gz"
        path.write_bytes(b"<html>")
        with pytest.raises(LakeFileError, match="not a gzip file") as caught:
            texts(path)
        assert (str(path), "3c 68") == (caught.value.file, caught.value.found)

    def test_no_file(self, tmp_path: Path):
        """A path that is not there is refused with its name."""
        with pytest.raises(LakeFileError, match="cannot be opened") as caught:
            texts(tmp_path / "c.gz")
        assert str(tmp_path / "c.gz") == caught.value.file


class TestFindings:
    def test_all_are_counted_and_the_first_are_located(self):
        """Memory stays bounded on a file of noise: a hundred of a kind are kept, all counted."""
        findings = Findings()
        for number in range(1, 1_001):
            findings.add(FindingKind.UNDECODABLE, Path("c"), number, "this", "that")
        findings.add(FindingKind.GAP, Path("c"), 5, "pu=1", "pu=2")
        assert {FindingKind.UNDECODABLE: 1_000, FindingKind.GAP: 1} == findings.counts
        assert [*range(1, 101), 5] == [each.line for each in findings.located]
        assert 0 == findings.counts[FindingKind.DUPLICATE]

    def test_every_kind_is_documented(self):
        """The page lists each kind with its sentence."""
        page = (REPOSITORY / "docs/sources/binance_capture.md").read_text(encoding="utf-8")
        missing = [kind for kind in FindingKind if f"| `{kind}` | {MEANING[kind]} |" not in page]
        assert [] == missing


class TestLargeLines:
    @pytest.mark.parametrize("chunk", [64, 1 << 16])
    def test_a_line_without_an_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
    ):
        """The file is refused at that line, and the lines before it were given."""
        monkeypatch.setattr(lines, "_CHUNK_BYTES", chunk)
        monkeypatch.setattr(lines, "LINE_BYTES", 50_000)
        monkeypatch.setattr(lines, "_BLOCK_BYTES", 10_000)
        path = capture(tmp_path / "c.gz", [*numbered(3), b"[" * 100_000, *numbered(1, 5)])
        read = []
        with pytest.raises(LakeFileError, match="Line 4 of the capture does not end") as error:
            read += [number for number, _, _ in read_lines(path, Findings())]
        assert (3, "a line of at most 50000 bytes") == (error.value.row, error.value.expected)

    @pytest.mark.parametrize("block", [1, 13, 1 << 20])
    def test_where_the_text_is_cut_into_blocks_changes_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
    ):
        """Neither in the lines, nor in what a damaged file still gives."""
        monkeypatch.setattr(lines, "_BLOCK_BYTES", block)
        path = capture(tmp_path / "c.gz", numbered(200))
        assert list(range(1, 201)) == [number for number, _ in texts(path)]
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        findings = Findings()
        read = len(texts(path, findings))
        assert [("truncated_gzip", "c.gz", read + 1)] == told(findings)
        assert 50 < read

    def test_a_stamp_of_many_digits(self, tmp_path: Path):
        """It is no stamp, and its length is no error of ours."""
        path = capture(tmp_path / "c.gz", [b"1" * 10_000 + b" {}", *numbered(1, 2)])
        findings = Findings()
        assert [2] == [number for number, _ in texts(path, findings)]
        assert [("undecodable", "c.gz", 1)] == told(findings)
