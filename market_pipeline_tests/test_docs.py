"""The documentation says what the code does: links, commands, tables, flags, queries, examples."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
import typer
import yaml

from market_pipeline.books.flags import INVALIDATING, MEANING, BookFlag
from market_pipeline.capture.recorder import recorded_venue
from market_pipeline.cli.app import app
from market_pipeline.config.capture import CaptureSettings
from market_pipeline.config.instruments import load_instruments
from market_pipeline.config.settings import FIELDS, Settings
from market_pipeline.plots.plot import Plot
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, RawTable
from market_pipeline.sources.simulated import demo_plan, simulate
from market_pipeline.sources.venues import VENUES
from market_pipeline.sources.venues.venue import Venue
from market_pipeline.tables import TABLES, VIEWS
from market_pipeline.warehouse.catalogue import FILES_SCHEMA, connect
from market_pipeline.warehouse.tables import Table, View
from market_pipeline_tests.conftest import REPOSITORY
from market_pipeline_tests.published_day import publish_day
from market_pipeline_tests.test_repository import LAYERS

DOCS = REPOSITORY / "docs"
PAGES = (
    *(REPOSITORY / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted(DOCS.rglob("*.md")),
)
ANSWERED = ("README.md", "docs/sql.md", "docs/tour.md")
"""Pages whose queries are about the demo and therefore have an answer."""

NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.py"))

QUOTE = '"'
FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the words after the fence, and its text."""

    page: str
    info: str
    text: str


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


@cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def doc(name: str) -> str:
    return text_of(DOCS / name)


def prose_of(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", text_of(page))


@cache
def blocks() -> tuple[Block, ...]:
    return tuple(
        Block(name_of(page), info.strip(), textwrap.dedent(text))
        for page in PAGES
        for _, info, text in FENCE.findall(text_of(page))
    )


def blocks_in(language: str, below: str = "") -> list[Block]:
    return [
        block
        for block in blocks()
        if block.info.split()[:1] == [language] and block.page.startswith(below)
    ]


def named(found: list[Block]) -> list[object]:
    """Blocks as test parameters that say which page and which of its blocks it is."""
    counts: dict[str, int] = {}
    parameters = []
    for block in found:
        counts[block.page] = counts.get(block.page, 0) + 1
        parameters.append(pytest.param(block, id=f"{block.page}-{counts[block.page]}"))
    return parameters


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def level_of(column: str) -> re.Match[str] | None:
    """A match with side and part, if it is a column of one level, such as `bid_3_price`."""
    return re.fullmatch(r"(bid|ask)_\d+_((?:price|size)(?:_ticks|_lots)?)", column)


def links_of(page: Path) -> list[str]:
    links = re.findall(r"\]\(([^)\s]+)\)", prose_of(page))
    return [link for link in links if "://" not in link]


def section_of(text: str, heading: str) -> str:
    """The part of a page below a heading, up to the next of the same depth or higher."""
    depth = heading.split(" ", maxsplit=1)[0].count("#")
    begins = re.search(rf"^{re.escape(heading)}$", text, re.MULTILINE)
    if begins is None:
        return ""
    rest = text[begins.end() :]
    ends = re.search(rf"^#{{1,{depth}}} ", rest, re.MULTILINE)
    return rest[: ends.start()] if ends else rest


def counted(number: float | None, of: str) -> str:
    """A cell of a table of limits."""
    return "unknown" if number is None else f"{number:g} {of}"


def in_seconds(budget: tuple[int, float] | None) -> str:
    return "unknown" if budget is None else f"{budget[0]:,} in {budget[1]:g} s"


# --- a published day of the demo --------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demo's first day of both instruments, published below `data/demo`."""
    folder = tmp_path_factory.mktemp("demo")
    data_dir = folder / "data" / "demo"
    plan = demo_plan()
    today = [fault for fault in plan.faults if fault.day == plan.start]
    simulate(data_dir / "lake", plan.instruments, plan.start, plan.start, faults=today)
    instruments = tuple(each.as_instrument() for each in plan.instruments)
    settings = Settings(data_dir=data_dir, lake_uri=str(data_dir / "lake"))
    publish_day(settings, instruments, plan.start)
    return folder


@pytest.fixture
def connection(demo: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(demo / "data" / "demo") as opened:
        yield opened


@pytest.fixture(scope="module")
def ran(demo: Path) -> Callable[[str], tuple[Sequence[Any], Mapping[str, Any]]]:
    """What a notebook shows and what it defines, beside the demo's data; each is run once."""

    @cache
    def run(name: str) -> tuple[Sequence[Any], Mapping[str, Any]]:
        with chdir(demo):
            return runpy.run_path(str(DOCS / f"notebooks/{name}.py"))["app"].run()

    return run


# --- the tests --------------------------------------------------------------------------------


class TestLinks:
    @pytest.mark.parametrize("page", PAGES, ids=name_of)
    def test_resolve(self, page: Path) -> None:
        """Each relative link names a file that is there, and its anchor a heading of that file."""
        broken = []
        for link in links_of(page):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors_of(target)):
                broken.append(link)
        assert [] == broken

    def test_the_index_names_every_page(self) -> None:
        """No page of docs/ is missing from docs/README.md."""
        index = DOCS / "README.md"
        linked = {(DOCS / link.partition("#")[0]).resolve() for link in links_of(index)}
        assert [] == [name_of(page) for page in sorted({*DOCS.rglob("*.md")} - linked - {index})]

    @pytest.mark.parametrize("page", PAGES, ids=name_of)
    def test_no_folder_of_one_machine(self, page: Path) -> None:
        """The only absolute paths in a page are those of examples, below /srv."""
        paths = re.findall(r"(?<![\w.>:/~…])/(?!srv\b)\w+/[\w./]+", text_of(page))
        assert [] == paths


class TestExamples:
    @pytest.mark.parametrize("block", named(blocks_in("sql")))
    def test_queries_run(self, block: Block, connection: duckdb.DuckDBPyConnection) -> None:
        """Each query is valid; those about the demo return rows."""
        rows = connection.execute(block.text).fetchall()
        assert block.page not in ANSWERED or rows != []

    @pytest.mark.parametrize("block", named(blocks_in("python")))
    def test_python_compiles_and_runs_where_marked(
        self, block: Block, demo: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each Python block is valid; one marked `python run` runs beside the demo's data."""
        code = compile(block.text, block.page, "exec")
        names: dict[str, object] = {}
        if block.info == "python run":
            monkeypatch.chdir(demo)
            exec(code, names)
        assert block.info == "python" or set(names) > {"__builtins__"}

    @pytest.mark.parametrize("block", named(blocks_in("yaml")))
    def test_yaml_is_accepted(self, block: Block, tmp_path: Path) -> None:
        """Each YAML block is valid, and one that lists instruments is a usable instruments file."""
        content = yaml.safe_load(block.text)
        file = tmp_path / "instruments.yaml"
        file.write_text(block.text, encoding="utf-8")
        listed = content.get("instruments")
        assert listed is None or len(listed) == len(load_instruments(file))

    def test_commands_exist(self) -> None:
        """Each `market-pipeline` line of a shell block is accepted by the command line."""
        command = typer.main.get_command(app)
        lines = [
            line.partition("#")[0].partition(">")[0]
            for block in blocks_in("sh")
            for line in block.text.splitlines()
            if line.startswith("market-pipeline ")
        ]
        refused = []
        for line in lines:
            words = shlex.split(line)[1:]
            with command.make_context("market-pipeline", list(words)) as context:
                verb = command.get_command(context, words[0])
                try:
                    verb.make_context(words[0], words[1:], parent=context)
                except Exception as error:
                    refused.append(f"{line}: {error}")
        assert (True, []) == (len(lines) > 0, refused)

    def test_make_targets_exist(self) -> None:
        """Each `make` line of a shell block names a target of the Makefile."""
        makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
        targets = set(re.findall(r"^([a-z-]+):.* ##", makefile, re.MULTILINE))
        text = "\n".join(block.text for block in blocks_in("sh"))
        named_targets = set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE))
        assert (True, set()) == (len(named_targets) > 0, named_targets - targets)

    def test_settings_exist(self) -> None:
        """Each PIPELINE_… name in a page is a setting."""
        known = {f"PIPELINE_{name.upper()}" for name in {*FIELDS, *Settings.model_fields}}
        unknown = {
            f"{name_of(page)}: {name}"
            for page in PAGES
            for name in re.findall(r"\b[A-Z_]*PIPELINE_[A-Z_]*[A-Z]", text_of(page))
            if name not in known | {"PIPELINE_CONFIG_FILE", "MARKET_PIPELINE_SAMPLE_DATA"}
        }
        assert set() == unknown


@pytest.mark.slow
class TestNotebooks:
    @pytest.mark.parametrize("name", [notebook.stem for notebook in NOTEBOOKS])
    def test_runs(self, name: str, ran: Any) -> None:
        """Each cell of a notebook runs, and its pictures are SVG."""
        outputs, _ = ran(name)
        plots = [each.as_svg() for each in outputs if isinstance(each, Plot)]
        assert (True, set()) == (outputs != (), {svg[:4] for svg in plots} - {"<svg"})

    def test_first_look_sees_what_was_planted(self, ran: Any) -> None:
        """It says that the day is degraded, and its longest invalid span is the silence."""
        _, names = ran("first_look")
        condition = names["verdict"]["condition"]
        assert ("degraded", ["GAP"]) == (condition, [each["cause"] for each in names["worst"]])

    def test_spread_and_flow_add_up(self, ran: Any) -> None:
        """What the resting side keeps and what the market moves are the effective spread."""
        _, names = ran("spread_and_flow")
        sums = names["who_keeps"].select(
            "effective, ticks", kept=pl.col("realised, ticks") + pl.col("impact, ticks")
        )
        assert sums["kept"].to_list() == pytest.approx(sums["effective, ticks"].to_list(), abs=2e-3)

    def test_two_sources_sees_what_was_taken_out(self, ran: Any) -> None:
        """Each message taken out is missing, and without a resync the book stays wrong."""
        _, names = ran("two_sources")
        missing = names["by_message"]["messages missing"].to_list()
        resynced, never = names["by_message"]["differ, %"]
        assert ([names["lost"].len()] * 2, True) == (missing, 0 < 10 * resynced < never)

    def test_backtest_pays_its_fees(self, ran: Any) -> None:
        """Each setting has fees, and a place in front of the queue has more fills."""
        _, names = ran("backtest")
        back, _, front = names["table"].to_dicts()
        assert back["net"] < back["gross"]
        assert 0 < back["fills"] < front["fills"]

    def test_marimo_finds_nothing_wrong(self) -> None:
        """Marimo opens each as it is: no name defined twice, no cycle, nothing to format."""
        command = [sys.executable, "-m", "marimo", "check", "--strict", *map(str, NOTEBOOKS)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (0, "") == (ended.returncode, ended.stdout + ended.stderr)


class TestSql:
    @pytest.mark.parametrize("table", [*TABLES.values(), *VIEWS], ids=lambda table: table.sql_name)
    def test_describes_every_table(self, table: Table | View) -> None:
        """Each table has a section with its description and a line for each of its columns."""
        section = section_of(doc("sql.md"), f"### {table.sql_name}")
        told = re.search(r"The columns are those of `([\w.]+)`", section)
        same = section + (section_of(doc("sql.md"), f"### {told[1]}") if told else "")
        wanted = [
            f"| `{column.name}` | {column.type} | {column.description} |"
            for column in table.readable
            if not level_of(column.name)
        ]
        levels = {
            (*found.groups(), column.type)
            for column in table.readable
            if (found := level_of(column.name))
        }
        wanted += [
            f"| `{side}_0_{part}` … `{side}_19_{part}` | {kind} |" for side, part, kind in levels
        ]
        missing = [line for line in wanted if line not in same]
        assert (True, []) == (table.description in section, missing)

    def test_describes_nothing_else(self) -> None:
        """Each column line of a section is a column that the table has."""
        text = section_of(doc("sql.md"), "## Tables")
        found = set()
        for table in (*TABLES.values(), *VIEWS):
            names = {column.name for column in table.readable}
            lines = re.findall(r"^\| `(\w+)`", section_of(text, f"### {table.sql_name}"), re.M)
            found |= {f"{table.sql_name}.{name}" for name in lines if name not in names}
        assert set() == found

    def test_lists_what_the_catalogue_holds(self, connection: duckdb.DuckDBPyConnection) -> None:
        """The sections are exactly the tables and views of the catalogue."""
        held = connection.execute(
            "SELECT table_schema || '.' || table_name FROM information_schema.tables "
            "WHERE table_schema <> ?",
            [FILES_SCHEMA],
        ).fetchall()
        headings = re.findall(r"^### (.+)$", section_of(doc("sql.md"), "## Tables"), re.MULTILINE)
        assert sorted(name for (name,) in held) == sorted(headings)


class TestCommandLine:
    VERBS = tuple(typer.main.get_command(app).commands.items())

    def test_has_a_section_for_every_verb(self) -> None:
        """The sections after the exit codes are the verbs, in the order of the help."""
        headings = re.findall(r"^## (.+)$", prose_of(DOCS / "cli.md"), re.MULTILINE)
        assert ["Exit codes", *(name for name, _ in self.VERBS)] == headings

    @pytest.mark.parametrize(("name", "verb"), VERBS)
    def test_section_lists_every_option(self, name: str, verb: Any) -> None:
        """A verb's section has a line for each of its options and arguments, and for no other."""
        lines = re.findall(r"^\| `([^`]+)`", section_of(doc("cli.md"), f"## {name}"), re.MULTILINE)
        wanted = [
            name
            for each in verb.params
            for name in (each.opts if each.param_type_name == "option" else [each.name.upper()])
        ]
        assert sorted(wanted) == sorted(lines)

    def test_lists_the_options_before_a_verb(self) -> None:
        """The options of the script itself are listed, and `--help`."""
        options = [option for each in typer.main.get_command(app).params for option in each.opts]
        top = doc("cli.md").partition("## Exit codes")[0]
        lines = re.findall(r"^\| `(--[^`]+)`", top, re.MULTILINE)
        assert sorted({*options, "--help"}) == sorted(lines)


class TestFlags:
    def test_table_is_the_enumeration(self) -> None:
        """Each flag has its line with bit, value, name, meaning and whether it invalidates."""
        lines = re.findall(r"^\| \d+ \|.*$", doc("flags.md"), re.MULTILINE)
        wanted = [
            f"| {flag.bit_length() - 1} | {int(flag)} | `{flag.name}` | {MEANING[flag]} "
            f"| {'yes' if flag & INVALIDATING else 'no'} |"
            for flag in BookFlag
        ]
        assert wanted == lines

    def test_masks_in_queries_are_the_invalidating_bits(self) -> None:
        """Every `flags & N` in a query means the invalidating bits."""
        masks = {
            int(mask)
            for block in blocks_in("sql")
            for mask in re.findall(r"\bflags & (\d+)", block.text)
        }
        assert {int(INVALIDATING)} == masks

    def test_names_in_the_query_are_the_bits(self) -> None:
        """The query that names the flags gives each bit its name."""
        query = next(block for block in blocks_in("sql") if "'NOT_SEEDED'" in block.text)
        pairs = re.findall(r"\((\d+), '(\w+)'\)", query.text)
        assert [(str(f.bit_length() - 1), f.name) for f in BookFlag] == pairs


class TestCryptoLake:
    @pytest.mark.parametrize("table", [DELTAS, SNAPSHOTS, TRADES], ids=lambda table: table.name)
    def test_names_every_column(self, table: RawTable) -> None:
        """The page has the table and each of its columns; levels by their first and last."""
        text = section_of(doc("sources/crypto_lake.md"), "## Columns")
        shown = {"bid_0_price", "bid_0_size", "ask_19_price", "ask_19_size"}
        columns = [name for name in table.columns if not level_of(name) or name in shown]
        missing = [name for name in columns if f"`{name}`" not in text]
        assert (True, []) == (f"`{table.name}`" in text, missing)


class TestVenues:
    @pytest.mark.parametrize("venue", VENUES.values(), ids=lambda venue: venue.name)
    def test_page_is_the_declaration(self, venue: Venue) -> None:
        """The overview leads to a venue's page, which has its addresses, streams and limits."""
        found = re.search(rf"\[`{venue.name}`\]\((venues/\w+\.md)\)", doc("capture/venues.md"))
        assert found is not None
        page = doc(f"capture/{found[1]}")
        limits, alive = venue.limits, venue.keepalive
        cells = (
            f"`{venue.name}`",
            f"{limits.streams:,} streams" if limits.streams else counted(limits.symbols, "symbol"),
            counted(limits.messages_a_second, "a second"),
            in_seconds(limits.connects),
            counted(limits.life_s and limits.life_s / 3_600, "h"),
            in_seconds(limits.weight),
            f"`{alive.message}` every {alive.interval_s:g} s" if alive.message else "answers pings",
        )
        wanted = [
            f"| {' | '.join(cells)} |",
            *venue.websocket,
            *(
                f"| `{each.kind}` | `{each.topic.strip(QUOTE)}` "
                f"| {each.continuity.proof.replace('_', ' ')} |"
                for each in venue.channels
            ),
        ]
        assert [] == [line for line in wanted if line not in page]

    @pytest.mark.parametrize("block", named(blocks_in("yaml", "docs/capture/venues/")))
    def test_settings_can_be_recorded(self, block: Block) -> None:
        """The settings of a venue's page name one that the page is of, and streams that it has."""
        settings = CaptureSettings.model_validate(yaml.safe_load(block.text)["capture"])
        name = recorded_venue(settings).name
        assert f"`{name}`" in text_of(REPOSITORY / block.page)


class TestArchitecture:
    def test_modules_exist(self) -> None:
        """Each module or file that the page names is there."""
        text = doc("architecture.md")
        named_files = set(re.findall(r"`([\w./]+/[\w]+\.(?:py|yaml)|errors\.py)`", text))
        missing = [
            name
            for name in sorted(named_files)
            if not any(
                (top / name).is_file() for top in (REPOSITORY / "market_pipeline", REPOSITORY)
            )
        ]
        assert (True, []) == (len(named_files) > 0, missing)

    def test_layers_are_those_that_a_test_holds(self) -> None:
        """The list of layers is that of the import test, lowest first."""
        listed = re.findall(
            r"^([\w, ]+?)   ", section_of(doc("architecture.md"), "## Layers"), re.M
        )
        assert [", ".join(layer) for layer in LAYERS if layer != ("",)] == listed
