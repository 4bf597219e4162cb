from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from market_pipeline.config.fidelity import Fidelity
from market_pipeline.pages.fidelity import write_fidelity_page
from market_pipeline.pages.reading import PageDay
from market_pipeline.pages.report import write_report_page
from market_pipeline.quality.fidelity.compare import compare_books
from market_pipeline_tests.quality.fidelity.made_books import compared_book, taken, walked_rows
from market_pipeline_tests.sources.simulated.days import DAY

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def driver(
    programs: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[webdriver.Chrome]:
    """A headless Chromium without a network, which tells what it asked for and complained of."""
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    for flag in (
        "headless=new",
        "no-sandbox",  # root has none, and the only page is our own
        "disable-gpu",
        "disable-dev-shm-usage",  # in a container it is small
        "disable-background-networking",
        "window-size=1300,1000",
        f"user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(programs["chromedriver"])) as chromium:
        chromium.execute_cdp_cmd("Network.enable", {})
        chromium.execute_cdp_cmd(
            "Network.emulateNetworkConditions",
            {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0},
        )
        yield chromium


@pytest.fixture(scope="module")
def opened(days: list[PageDay], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of three instruments."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    write_report_page(file, DAY, [each.row for each in days], ("BINANCE:X",), iter(days))
    return file


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two books of which one lost messages."""
    whole = walked_rows(2_000)
    other = compared_book(taken(whole, [k for k in range(2_000) if k % 100]))
    file = tmp_path_factory.mktemp("page") / "fidelity.html"
    write_fidelity_page(file, compare_books(compared_book(whole), other, Fidelity()))
    return file


@pytest.mark.parametrize("page", ["report", "fidelity"])
def test_opens_offline_without_complaint(
    driver: webdriver.Chrome, opened: Path, compared: Path, page: str
):
    """The browser asks for nothing but the file and writes nothing into its console."""
    asked_for = {"report": opened, "fidelity": compared}[page]
    driver.get(asked_for.as_uri())
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = {
        event["params"]["request"]["url"].split(",")[0]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }

    assert [] == driver.get_log("browser")
    assert {asked_for.as_uri()} == {url for url in asked if url.startswith(("file:", "http"))}


@pytest.mark.parametrize(("page", "plots"), [("report", 4), ("fidelity", 1)])
def test_fits_the_window(
    driver: webdriver.Chrome, opened: Path, compared: Path, page: str, plots: int
):
    """Nothing sticks out at the side, and the plots are as wide as the text."""
    driver.get({"report": opened, "fidelity": compared}[page].as_uri())
    wide, room = driver.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    widths = driver.execute_script(
        "return [...document.querySelectorAll('figure svg')].map(svg => svg.clientWidth)"
    )

    assert wide <= room
    assert plots == len(widths)
    assert [] == [width for width in widths if width < 1_000]


@pytest.mark.parametrize("page", ["report", "fidelity"])
def test_takes_on_the_dark(driver: webdriver.Chrome, opened: Path, compared: Path, page: str):
    """In the dark scheme ground and text change, and the text in the plots with them."""
    driver.get({"report": opened, "fidelity": compared}[page].as_uri())

    def colours(scheme: str) -> list[str]:
        driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )
        return driver.execute_script(
            "const text = document.querySelector('figure svg text');"
            "return [getComputedStyle(document.body).backgroundColor,"
            " getComputedStyle(document.body).color, getComputedStyle(text).fill]"
        )

    light, dark = colours("light"), colours("dark")

    assert [True] * 3 == [one != other for one, other in zip(light, dark, strict=True)]
    assert [light[1], dark[1]] == [light[2], dark[2]]
