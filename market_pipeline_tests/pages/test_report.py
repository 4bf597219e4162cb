from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from market_pipeline.pages.reading import PageDay
from market_pipeline.pages.report import write_report_page
from market_pipeline.quality.evaluate import CHECKS
from market_pipeline.tables import TABLES
from market_pipeline_tests.pages.conftest import BROKEN, FAULTY, GOOD
from market_pipeline_tests.sources.simulated.days import DAY

VOID = {"meta", "link", "img", "br", "hr", "input", "image", "use", "path"}
SCRIPT = "<script>alert('x')</script>"
PLACE = {
    "check": "gap",
    "place": "first",
    "ts_receipt_ns": 1_740_960_000_123_456_789,
    "end_ns": None,
    "sequence_number": 42,
    "file": f"book/{SCRIPT}",
    "row": 7,
    "column": "price",
    "value": SCRIPT,
    "expected": "a price & no tag",
    "note": SCRIPT,
}


class Outline(HTMLParser):
    """What a browser makes of a page: elements, headings and text by section, and every address."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.open: list[str] = []
        self.headings: list[tuple[str, str]] = []
        self.sections: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        named = dict(attrs)
        self.addresses += [
            named[name] for name in ("src", "href", "xlink:href", "action") if name in named
        ]
        self.ids += [named["id"]] if "id" in named else []
        if tag == "section":
            self.sections.append(named["id"])
        if tag in {"h1", "h2", "h3"}:
            self.headings.append((tag, ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert tag == self.open.pop()

    def handle_data(self, data):
        if {"h1", "h2", "h3"} & set(self.open):
            level, text = self.headings[-1]
            self.headings[-1] = (level, " ".join(f"{text} {data}".split()))


def written(file: Path, days: list[PageDay], unvalidated: tuple[str, ...] = ()) -> str:
    """The page of these days."""
    write_report_page(file, DAY, [each.row for each in days], unvalidated, iter(days))
    return file.read_text(encoding="utf-8")


@pytest.fixture
def page(days: list[PageDay], tmp_path: Path) -> str:
    """The page of the three instruments."""
    return written(tmp_path / "report.html", days)


def of_section(page: str, number: int) -> str:
    """The text of one instrument's section."""
    return page.split(f'id="i{number}">')[1].split("</section>", maxsplit=1)[0]


class TestPage:
    def test_outline(self, page):
        """Verdicts first, then a section for each instrument with the same parts in order.

        What was not rebuilt has its failure in place of the plots.
        """
        outline = Outline(page)
        rebuilt = ["Checks", "Through the day", "Intervals", "Raw files"]
        expected = {
            BROKEN.id: ["It was not rebuilt", "Checks", "Raw files"],
            FAULTY.id: ["Why it is degraded", "Checks", "By UTC hour", *rebuilt[1:]],
            GOOD.id: rebuilt,
        }
        found: dict[str, list[str]] = {}
        for level, text in outline.headings:
            if level == "h2":
                parts = found.setdefault(text.split()[0], [])
            elif level == "h3" and text != "Warnings":
                parts.append(text)

        assert ("h1", f"Order books of {DAY}") == outline.headings[0]
        assert {"Verdicts": [], **expected} == found
        assert ["verdicts", "i1", "i2", "i3"] == outline.sections
        assert [] == outline.open

    def test_ids_are_unique_and_links_lead_somewhere(self, page):
        """No id is there twice, and every link is to an id of the page."""
        outline = Outline(page)
        targets = {link[1:] for link in outline.addresses if link.startswith("#")}

        assert len(set(outline.ids)) == len(outline.ids)
        assert set() == targets - set(outline.ids)

    def test_fetches_nothing(self, page):
        """It has no script, no frame and no address but its own anchors and inline images.

        Its own policy forbids a browser to load or run anything.
        """
        outline = Outline(page)
        outside = [
            address
            for address in outline.addresses
            if not address.startswith(("#", "data:image/png;base64,"))
        ]

        assert [] == outside
        assert set() == {"script", "iframe", "link", "object", "embed"} & set(outline.elements)
        assert [] == re.findall(r"https?://|@import|url\((?!#)", page)
        assert "default-src 'none'" in page

    def test_tells_every_check(self, page, days):
        """Each instrument's table has a line for every check, with what it said and its page."""
        for number, shown in enumerate(days, start=1):
            section = of_section(page, number)
            assert [check.docs_page for check in CHECKS] == re.findall(
                r"<code>docs/(checks/\w+\.md)</code>", section
            )
            results = re.findall(r'class="result ?\w*">([\w ]+)<', section)
            assert [
                "not asked" if said is None else "passed" if said.passed else said.severity
                for _, said in shown.checks
            ] == results

    def test_tells_the_raw_files(self, page, days):
        """The SHA-256 and the path of every raw file are there, and the version of the code."""
        for number, shown in enumerate(days, start=1):
            section = of_section(page, number)
            files = [file for file in shown.raw_files if file["sha256"]]
            assert len(files) > 0
            assert [] == [
                file for file in files if not {file["sha256"], file["path"]} <= words(section)
            ]
            assert shown.row.code_version in section

    def test_not_rebuilt_says_why(self, page, days):
        """The section of a day that was not rebuilt has the whole error and no plot."""
        broken = of_section(page, 1)

        assert "LakeFileError" in broken
        assert days[0].row.failure.split("(")[0] in broken
        assert "<svg" not in broken
        assert 2 == of_section(page, 2).count("<svg")

    def test_every_column_has_its_figure(self, page):
        """All columns of the report are there with their meaning."""
        columns = TABLES["validation_report"].columns

        assert [] == [
            column.name
            for column in columns
            if f'<th scope="row">{column.name}</th>' not in of_section(page, 3)
        ]

    def test_is_small(self, page):
        """A page is below 1.5 MB for each instrument."""
        assert len(page) < 3 * 1_500_000


class TestEscaping:
    def test_what_others_wrote_is_text(self, days, tmp_path):
        """A tag in a failure, a reason, a path or a place is shown and not obeyed."""
        row = replace(
            days[1].row, reasons=(SCRIPT,), warnings=(SCRIPT,), seed=SCRIPT, code_version=SCRIPT
        )
        failed = replace(days[0].row, failure=SCRIPT, failure_kind=SCRIPT)
        shown = [
            replace(days[1], row=row, findings=[PLACE], raw_files=[], configured=False),
            replace(days[0], row=failed, raw_files=[{**days[0].raw_files[0], "path": SCRIPT}]),
        ]
        page = written(tmp_path / "report.html", shown, unvalidated=(SCRIPT,))

        assert "<script" not in page
        assert "script" not in Outline(page).elements
        assert page.count("&lt;script&gt;") > 10

    def test_symbol(self, days, tmp_path):
        """A symbol may hold what means something in HTML, also in the name of its plot."""
        odd = replace(days[2], row=replace(days[2].row, symbol='A"<b>&'))
        page = written(tmp_path / "report.html", [odd])

        assert "A&#34;&lt;b&gt;&amp;" in page
        assert "b" not in Outline(page).elements


class TestPlaces:
    def test_are_told_whole(self, days, tmp_path):
        """A place has its time to the nanosecond, its file and row, what was found and expected."""
        page = written(tmp_path / "report.html", [replace(days[2], findings=[PLACE])])
        section = of_section(page, 1)

        assert "Places: 1" in section
        assert [] == [
            text
            for text in (
                "2025-03-03 00:00:00.123456789",
                ", row 7",
                "a price &amp; no tag",
                "sequence number 42",
            )
            if text not in section
        ]


class TestFile:
    def test_only_its_owner_may_read_it(self, days, tmp_path):
        """The page's mode is 0600, and nothing else is left in the folder."""
        written(tmp_path / "report.html", days[:1])

        assert 0o600 == stat.S_IMODE((tmp_path / "report.html").stat().st_mode)
        assert ["report.html"] == [file.name for file in tmp_path.iterdir()]

    def test_old_page_stays_until_the_new_one_is_whole(self, days, tmp_path):
        """If an instrument cannot be read, the page that was there still is, and no half of one."""

        def broken() -> Iterator[PageDay]:
            yield days[0]
            raise RuntimeError("the disk is gone")

        old = written(tmp_path / "report.html", days[:1])
        with pytest.raises(RuntimeError):
            write_report_page(tmp_path / "report.html", DAY, [days[0].row], (), broken())

        assert old == (tmp_path / "report.html").read_text(encoding="utf-8")
        assert ["report.html"] == [file.name for file in tmp_path.iterdir()]

    def test_same_bytes_again(self, days, tmp_path):
        """The same day gives the same page."""
        assert written(tmp_path / "a.html", days) == written(tmp_path / "b.html", days)

    def test_unvalidated_are_named(self, days, tmp_path):
        """Instruments without a verdict are named, with the command that validates them."""
        page = written(tmp_path / "report.html", days, ("BINANCE:X",))

        assert "<code>BINANCE:X</code>" in page
        assert f"market-pipeline run --start-date {DAY} --end-date {DAY}" in page


def words(section: str) -> set[str]:
    """The texts between tags."""
    return set(re.findall(r">([^<>]+)<", section))
