from __future__ import annotations

from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from market_pipeline.quality.checks.base import Check
from market_pipeline.quality.checks.gap import GAP
from market_pipeline.quality.checks.precision import PRECISION
from market_pipeline.tables import TABLES
from market_pipeline_tests.conftest import REPOSITORY
from market_pipeline_tests.ui.conftest import CLEAN, DAYS, FAULTY, FAULTY_DAY, Browser, Server

pytestmark = pytest.mark.browser

ASSETS_OF = {
    "lake": ("raw_",),
    "books": (
        *("book_bbo", "book_checkpoints", "book_depth", "book_intervals", "book_rebuilds"),
        *("trades", "funding", "open_interest"),
    ),
    "quality": ("validation_report", "quality_findings", "fidelity_report", "fidelity_metrics"),
    "metrics": ("book_metrics", "daily_metrics", "bars", "information_bars"),
}
GROUPS = tuple(ASSETS_OF)
LOCATION = "__repository__@market_pipeline"
BACKFILLED = DAYS[:2]
OPEN_DIALOG, SHOW_ALL, LAUNCH = "Materialize all…", "Show all partitions", "Launch backfill"


@pytest.fixture(scope="module")
def backfill(server: Server, browser: Browser) -> dict[str, Any]:
    """Two days, launched as docs/ui.md says, by mouse and keyboard, and seen through to the end."""
    for day in BACKFILLED:
        server.receive(day)
    browser.open("/asset-groups")
    browser.click(OPEN_DIALOG)
    browser.click(SHOW_ALL)
    field = browser.visible('//input[starts-with(@placeholder, "ex: ")]')[0]
    field.click()
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(f"[{BACKFILLED[0]}...{BACKFILLED[-1]}]", Keys.ENTER)
    browser.see_exactly("2 partitions")
    browser.picture("backfill_dialog")
    browser.click(LAUNCH)

    def launched() -> dict[str, Any] | None:
        found = server.graphql(
            """{ partitionBackfillsOrError { ... on PartitionBackfills { results {
                id status partitionNames assetSelection { path } } }
                ... on PythonError { message } } }"""
        )["partitionBackfillsOrError"]["results"]
        days = [str(day) for day in BACKFILLED]
        return next((each for each in found if each["partitionNames"] == days), None)

    def ended() -> dict[str, Any] | None:
        found = launched()
        return found if found and found["status"] not in {"REQUESTED", "FAILING"} else None

    server.eventually(launched, "the backfill is there")
    browser.driver.get("about:blank")  # a page of the UI would ask for news all the while
    return server.eventually(ended, "the backfill has ended")


def shown_plot(browser: Browser) -> tuple[int, int]:
    """The true width and height of the plot behind the last button for Markdown."""
    browser.click("[Show Markdown]")
    browser.see_exactly("Close")
    image = browser.driver.find_element("xpath", '//img[starts-with(@src, "data:image/svg+xml")]')
    return image.get_property("naturalWidth"), image.get_property("naturalHeight")


class TestAssetGraph:
    def test_shows_every_group(self, browser):
        """The graph has the four groups, folded."""
        browser.open("/asset-groups")
        seen = [browser.see_exactly(group) for group in GROUPS]
        browser.picture("asset_graph_folded")
        assert list(GROUPS) == seen

    @pytest.mark.parametrize("group", GROUPS)
    def test_lists_a_group(self, browser, group):
        """A group's own page lists its assets."""
        browser.open(f"/locations/{LOCATION}/asset-groups/{group}/list")
        assets = [name for name in TABLES if name.startswith(ASSETS_OF[group])]
        seen = [browser.see_exactly(asset) for asset in assets]
        browser.picture(f"group_{group}")
        assert assets == seen

    def test_catalogue_tells_what_each_asset_is(self, browser):
        """The list of assets shows the beginning of every asset's description."""
        browser.open("/assets")
        beginnings = [table.description[:40] for table in TABLES.values()]
        seen = [browser.see(beginning)[:40] for beginning in beginnings]
        browser.picture("assets")
        assert beginnings == seen


@pytest.mark.slow
class TestBackfill:
    def test_is_described_as_it_is_done(self):
        """docs/ui.md names what the test clicks on, in that order."""
        page = (REPOSITORY / "docs" / "ui.md").read_text(encoding="utf-8")
        places = [page.find(f"*{label}*") for label in (OPEN_DIALOG, SHOW_ALL, LAUNCH)]
        assert -1 < places[0] < places[1] < places[2]

    def test_completes_both_days_of_every_asset(self, backfill, server):
        """A range of two days launched in the UI becomes two runs that succeed, one for each."""
        days = [str(day) for day in BACKFILLED]
        assert ("COMPLETED_SUCCESS", days, set(TABLES)) == (
            backfill["status"],
            backfill["partitionNames"],
            {asset["path"][-1] for asset in backfill["assetSelection"]},
        )
        runs = server.runs(backfill=backfill["id"])
        assert [(day, "SUCCESS") for day in days] == sorted(
            (run["partition"], run["status"]) for run in runs
        )
        assert [
            {CLEAN.symbol: "available", FAULTY.symbol: "degraded"},
            {CLEAN.symbol: "available", FAULTY.symbol: "available"},
        ] == [server.conditions(day) for day in BACKFILLED]


@pytest.mark.slow
@pytest.mark.usefixtures("backfill")
class TestCheck:
    @pytest.mark.parametrize(
        ("check", "finding"), [(GAP, "suspected gap"), (PRECISION, "prices off the tick")]
    )
    def test_failure_is_located(self, browser, check: Check, finding):
        """A failed check of book_bbo says on its page which instrument and day failed and where."""
        browser.open(f"/assets/book_bbo?view=checks&checkDetail={check.name}")
        browser.see(check.sentence)
        browser.see("docs/checks/")
        browser.picture(f"check_{check.name}")
        browser.click("Execution history")
        evaluation = browser.text(f'//tr[td[contains(., "{FAULTY_DAY}")]]')
        browser.picture(f"check_{check.name}_history")
        assert [] == [part for part in ("Failed", FAULTY.id, finding) if part not in evaluation], (
            evaluation
        )
        assert CLEAN.id not in evaluation


@pytest.mark.slow
@pytest.mark.usefixtures("backfill")
class TestAssetPages:
    def test_report_shows_verdicts_reasons_and_a_plot(self, browser):
        """The report's day shows a verdict and its reasons for every instrument, and a plot."""
        browser.open(f"/assets/validation_report?view=partitions&partition={FAULTY_DAY}")
        verdicts = browser.text('//tr[td[1][normalize-space(.) = "verdicts"]]/td[2]//tbody')
        reasons = browser.text('//tr[td[1][normalize-space(.) = "reasons"]]/td[2]//tbody')
        browser.picture("validation_report")
        assert (True, True) == (
            f"{CLEAN.id} available" in " ".join(verdicts.split()),
            f"{FAULTY.id} degraded" in " ".join(verdicts.split()),
        ), verdicts
        assert "suspected gap" in reasons
        width, height = shown_plot(browser)
        browser.picture("validation_report_plot")
        assert (True, True) == (width > 300, height > 50)

    def test_book_shows_its_columns_and_a_plot(self, browser):
        """The page of book_bbo describes every column and plots mid and spread."""
        browser.open("/assets/book_bbo")
        flags = '//tr[td[1][normalize-space(.) = "flags"] and contains(., "USMALLINT")]'
        columns = browser.text(f"{flags}/parent::*")
        browser.picture("book_bbo")
        assert [] == [
            column.name
            for column in TABLES["book_bbo"].columns
            if column.name not in columns or column.description not in columns
        ], columns
        browser.open(f"/assets/book_bbo?view=partitions&partition={FAULTY_DAY}")
        width, height = shown_plot(browser)
        browser.picture("book_bbo_plot")
        assert (True, True) == (width > 300, height > 200)
