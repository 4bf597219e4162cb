"""A real `dagster dev` on a small simulated lake, and a browser that looks at it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    StaleElementReferenceException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from market_pipeline.sources.simulated import Fault, FaultKind, simulate
from market_pipeline_tests.conftest import REPOSITORY
from market_pipeline_tests.defs.workspace import PATIENCE_SECONDS, Workspace
from market_pipeline_tests.ports import free_port
from market_pipeline_tests.sources.simulated.days import instrument

DAYS = tuple(date(2025, 3, 3) + timedelta(days=count) for count in range(3))
FAULTY_DAY = DAYS[0]
CLEAN, FAULTY = instrument("BTC-USDT-PERP"), instrument("ETH-USDT-PERP", seed=8)

_PAGE_SECONDS = 60
_LOCATION, _REPOSITORY_NAME = "market_pipeline", "__repository__"
_T = TypeVar("_T")


def eventually(
    look: Callable[[], _T | None],
    expected: str,
    tell: Callable[[], str],
    seconds: float,
    pause: float = 0.25,
) -> _T:
    """What `look` returns as soon as it is true; without that, fails and adds what `tell` says.

    Between two looks there is a pause in seconds.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(pause)
    pytest.fail(f"not within {seconds} s: {expected}\n{tell()}")


@pytest.fixture(scope="session")
def simulated_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days of two instruments; on the first the second one is silent and leaves the grid."""
    lake = tmp_path_factory.mktemp("simulated")
    hours = [(FaultKind.SILENCE_GAP, 6, 2), (FaultKind.OFF_TICK_PRICE, 14, 1)]
    faults = [
        Fault(
            kind=kind,
            symbol=FAULTY.symbol,
            day=FAULTY_DAY,
            at_s=start * 3600.0,
            duration_s=length * 3600.0,
        )
        for kind, start, length in hours
    ]
    simulate(
        lake,
        [CLEAN, FAULTY],
        DAYS[0],
        DAYS[-1],
        faults=faults,
        messages_per_day=8_000,
        snapshot_interval_s=20.0,
    )
    return lake


@dataclass
class Server:
    """`dagster dev` as `make ui` starts it, for a pipeline of its own whose lake fills up later."""

    workspace: Workspace
    source: Path
    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def graphql(self, query: str, **variables: object) -> dict[str, Any]:
        """The answer of the API that the UI itself uses."""
        request = urllib.request.Request(
            f"{self.url}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            told = json.load(answer)
        assert "errors" not in told, told["errors"]
        return told["data"]

    @property
    def repository(self) -> dict[str, str]:
        """How the API names our definitions."""
        return {"repositoryLocationName": _LOCATION, "repositoryName": _REPOSITORY_NAME}

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-4_000:]

    def eventually(self, look: Callable[[], _T | None], expected: str) -> _T:
        """As the function, with the log's end in a failure.

        It asks once a second: the server has to compute what it is asked.
        """
        return eventually(look, expected, self.said, PATIENCE_SECONDS, pause=1.0)

    def is_ready(self) -> bool:
        """Whether the web server answers and has loaded our definitions."""
        assert self.process.poll() is None, self.said()
        try:
            urllib.request.urlopen(f"{self.url}/server_info", timeout=5).close()
        except OSError:
            return False
        entry = self.graphql(
            """query($name: String!) { workspaceLocationEntryOrError(name: $name) {
                ... on WorkspaceLocationEntry { locationOrLoadError {
                    __typename ... on PythonError { message } } } } }""",
            name=_LOCATION,
        )["workspaceLocationEntryOrError"]
        loaded = (entry or {}).get("locationOrLoadError")
        assert loaded is None or loaded["__typename"] == "RepositoryLocation", loaded
        return loaded is not None

    def receive(self, day: date, *, settled: bool = True) -> None:
        """A day's raw files land in the lake, an hour ago, or an hour ahead if not settled."""
        changed = time.time() + (-3600 if settled else 3600)
        for folder in sorted(self.source.glob(f"*/*/*/dt={day}")):
            arrived = self.workspace.lake / folder.relative_to(self.source)
            shutil.copytree(folder, arrived, dirs_exist_ok=True)
            for file in arrived.iterdir():
                os.utime(file, (changed, changed))

    def forget(self) -> None:
        """The lake is empty again; what was published stays."""
        for table in self.workspace.lake.iterdir():
            shutil.rmtree(table)

    def conditions(self, day: date) -> dict[str, str]:
        """The published verdicts of a day, by symbol."""
        query = "SELECT symbol, condition FROM quality.validation_report WHERE dt = ?"
        return dict(self.workspace.sql(query, day).iter_rows())

    def runs(self, **tags: str) -> list[dict[str, Any]]:
        """The runs that carry these tags, each with its status and partition."""
        wanted = [
            {"key": f"dagster/{name}", "value": value} for name, value in sorted(tags.items())
        ]
        found = self.graphql(
            """query($tags: [ExecutionTag!]) { runsOrError(filter: {tags: $tags}) {
                ... on Runs { results { runId status jobName tags { key value } } }
                ... on PythonError { message } } }""",
            tags=wanted,
        )["runsOrError"]["results"]
        return [
            {
                "status": run["status"],
                "job": run["jobName"],
                **{tag["key"].removeprefix("dagster/"): tag["value"] for tag in run["tags"]},
            }
            for run in found
        ]


# Not for the session: an open page asks the server again and again, for a quarter of a core.
@pytest.fixture(scope="package")
def server(simulated_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A ready server; every process of it is gone afterwards, whatever happened."""
    root = tmp_path_factory.mktemp("server")
    more = {"PIPELINE_CHECKPOINT_SECONDS": "21600"}
    workspace = Workspace(root / "pipeline", root / "lake", start_date=DAYS[0], more=more)
    workspace.lake.mkdir()
    workspace.configure(CLEAN, FAULTY)
    port = free_port()
    log = root / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster", "dev", "-h", "127.0.0.1", "-p", str(port)],
            cwd=REPOSITORY,  # where workspace.yaml is
            env=workspace.environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the leader of a group of its own
        )
    try:
        started = Server(workspace, simulated_lake, process, f"http://127.0.0.1:{port}", log)
        started.eventually(started.is_ready, "dagster dev is up")
        yield started
    finally:
        _end_group(process)


def _end_group(leader: subprocess.Popen[bytes]) -> None:
    """Ends all processes of a group: politely, then not, and also those that outlive the leader."""
    for number, seconds in ((signal.SIGTERM, 20.0), (signal.SIGKILL, 20.0)):
        end = time.monotonic() + seconds
        try:
            os.killpg(leader.pid, number)
            while time.monotonic() < end:
                leader.poll()  # reaps the leader; the others are reaped by init
                os.killpg(leader.pid, 0)
                time.sleep(0.1)
        except ProcessLookupError:
            return
    raise TimeoutError(f"processes of the group {leader.pid} cannot be ended")


def _exactly(text: str) -> str:
    return f'//*[text()[normalize-space(.) = "{text}"]]'


@dataclass
class Browser:
    """A headless Chromium that looks at one server, and the folder its pictures go to."""

    driver: webdriver.Chrome
    server: Server
    pictures: Path

    def open(self, path: str) -> None:
        """Goes to a page of the UI."""
        self.driver.get(f"{self.server.url}{path}")

    def picture(self, name: str) -> None:
        """Saves what is to be seen now."""
        self.driver.save_screenshot(str(self.pictures / f"{name}.png"))

    def visible(self, xpath: str) -> list[WebElement]:
        """The elements that are to be seen now."""
        script = """const found = document.evaluate(arguments[0], document, null,
              XPathResult.ORDERED_NODE_SNAPSHOT_TYPE, null), seen = [];
            for (let i = 0; i < found.snapshotLength; i++) {
              const element = found.snapshotItem(i), box = element.getBoundingClientRect();
              if (box.width && box.height && element.checkVisibility()) seen.push(element);
            }
            return seen;"""
        # In one call: asked one by one, an element may be gone before its turn.
        return self.driver.execute_script(script, xpath)

    def see(self, text: str) -> str:
        """The text of the last element whose own text has `text` in it, once there is one."""
        return self.text(f'//*[text()[contains(normalize-space(.), "{text}")]]')

    def see_exactly(self, text: str) -> str:
        """The same for an element with exactly this text."""
        return self.text(_exactly(text))

    def text(self, xpath: str) -> str:
        """The text of the last such element, once it is drawn."""
        return self._eventually(lambda: self.visible(xpath)[-1].text, xpath)

    def click(self, text: str) -> None:
        """Clicks the last element with exactly this text, once nothing covers it."""
        self._eventually(lambda: self.visible(_exactly(text))[-1].click() or True, text)

    def _eventually(self, act: Callable[[], _T], expected: str) -> _T:
        """What `act` returns, as soon as the page holds still for it."""

        def attempt() -> _T | None:
            try:
                return act()
            except (IndexError, ElementClickInterceptedException, StaleElementReferenceException):
                return None

        def seen_instead() -> str:
            self.picture("unexpected")
            return self.driver.find_element(By.TAG_NAME, "body").text

        return eventually(attempt, f"{expected} on the page", seen_instead, _PAGE_SECONDS)


@pytest.fixture(scope="session")
def programs() -> dict[str, str]:
    """Where Chromium and its driver are; without them, the tests that look are skipped."""
    found = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    absent = [name for name, path in found.items() if path is None]
    if absent:
        pytest.skip(f"{' and '.join(absent)} not on PATH: nothing to look at the UI with")
    return {name: str(path) for name, path in found.items()}


@pytest.fixture(scope="package")
def browser(
    programs: dict[str, str], server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    """A Chromium with a profile of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    for flag in (
        "headless=new",
        "no-sandbox",  # root has none, and the only pages are our own
        "disable-gpu",
        "disable-quic",
        "disable-dev-shm-usage",  # in a container it is small
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "window-size=1600,1500",
        f"user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(f"--{flag}")
    named = os.environ.get("MARKET_PIPELINE_SCREENSHOTS")
    pictures = Path(named) if named else tmp_path_factory.mktemp("pictures")
    pictures.mkdir(parents=True, exist_ok=True)
    server.graphql("mutation { setNuxSeen }")  # the greeting of a first visit covers the page
    service = webdriver.ChromeService(programs["chromedriver"])
    with webdriver.Chrome(options, service) as driver:
        yield Browser(driver, server, pictures)
