from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from market_pipeline.pages.reading import PageDay
from market_pipeline.pages.report import write_report_page
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
def opened(
    driver: webdriver.Chrome, days: list[PageDay], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The page of three instruments, open in the browser."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    write_report_page(file, DAY, [each.row for each in days], ("BINANCE:X",), iter(days))
    driver.get(file.as_uri())
    return file


def test_opens_offline_without_complaint(driver: webdriver.Chrome, opened: Path):
    """The browser asks for nothing but the file and writes nothing into its console."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = {
        event["params"]["request"]["url"].split(",")[0]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }

    assert [] == driver.get_log("browser")
    assert {opened.as_uri()} == {url for url in asked if url.startswith(("file:", "http"))}


def test_fits_the_window(driver: webdriver.Chrome, opened: Path):
    """Nothing sticks out at the side, and the plots are as wide as the text."""
    wide, room = driver.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    plots = driver.execute_script(
        "return [...document.querySelectorAll('figure svg')].map(svg => svg.clientWidth)"
    )

    assert (True, "report.html") == (wide <= room, opened.name)
    assert 4 == len(plots)
    assert [] == [width for width in plots if width < 1_000]


def test_takes_on_the_dark(driver: webdriver.Chrome, opened: Path):
    """In the dark scheme ground and text change, and the text in the plots with them."""

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

    assert opened.is_file()
    assert [True] * 3 == [one != other for one, other in zip(light, dark, strict=True)]
    assert [light[1], dark[1]] == [light[2], dark[2]]
