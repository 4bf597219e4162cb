from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from market_pipeline import __version__
from market_pipeline_tests.defs.workspace import Workspace

VERBS = (
    *("analyze", "inventory", "fetch", "run", "verdict", "coverage", "report", "lineage"),
    *("prune", "doctor", "simulate", "demo", "alerts"),
)
ASK_FOR_HELP = """
import sys
from typer.testing import CliRunner
from market_pipeline.cli.app import app
for verb in ["", *sys.argv[1:]]:
    arguments = [verb] if verb else []
    answer = CliRunner().invoke(app, [*arguments, "--help"])
    print(answer.exit_code, "Usage" in answer.output, *arguments)
heavy = {"dagster", "numba", "polars", "pyarrow", "numpy", "duckdb", "deltalake", "boto3"}
print(*sorted(heavy & {name.split(".")[0] for name in sys.modules}))
"""
INTERRUPTED_WHILE_LOADING = """
import os, signal, sys
class Interrupts:
    def find_spec(self, name, *_):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupts())
from market_pipeline.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def helped() -> list[str]:
    """What a fresh process says about the help of each verb, and what it had to import for it."""
    finished = subprocess.run(
        [sys.executable, "-c", ASK_FOR_HELP, *VERBS],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return finished.stdout.splitlines()


def test_help_of_every_verb(helped: list[str]):
    """The program and each of its verbs explain themselves."""
    assert [f"0 True {verb}".strip() for verb in ("", *VERBS)] == helped[:-1]


def test_help_is_light(helped: list[str]):
    """Help waits for no library that works on data or runs steps: those take up to seconds."""
    assert "" == helped[-1]


def test_exit_codes_are_in_the_help(workspace: Workspace):
    """The verbs that a script calls tell their exit codes."""
    told = {
        verb: workspace.run(verb, "--help").output
        for verb in ("run", "verdict", "coverage", "report", "doctor")
    }

    assert [] == [verb for verb, text in told.items() if "Exit code 0" not in text]


def test_installed_command(workspace: Workspace):
    """The console script is installed, prints its version, and ends with the verb's exit code."""
    version = workspace.command("market-pipeline", "--version")
    refused = workspace.command(
        "market-pipeline",
        *("run", "--start-date", "2025-03-03", "--end-date", "2025-03-03", "--instrument", "X:Y"),
    )

    assert (0, f"{__version__}\n") == (version.returncode, version.stdout)
    assert (2, "") == (refused.returncode, refused.stdout)
    assert refused.stderr.startswith("error: An instrument was asked for that is not configured")


def test_no_verb(workspace: Workspace):
    """Called without a verb the program shows its help."""
    finished = workspace.run()

    assert "Usage: market-pipeline" in finished.output + finished.errors


@pytest.mark.parametrize("arguments", [("--version",), ("doctor",), ("alerts", "list", "--json")])
def test_output_that_is_full(workspace: Workspace, arguments):
    """Output that cannot be written ends with 2 and one line, however little it is."""
    with Path("/dev/full").open("wb") as full:
        finished = subprocess.run(
            [Path(sys.executable).with_name("market-pipeline"), *arguments],
            env=workspace.environment(),
            cwd=workspace.root,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert 2 == finished.returncode
    assert finished.stderr.startswith("error: The disk is full (file=standard output, ")
    assert 1 == len(finished.stderr.splitlines())


def test_output_that_takes_a_part(workspace: Workspace, tmp_path: Path):
    """Output that is cut ends with 2 also where Python is asked to have no buffer."""
    with (tmp_path / "cut").open("wb") as cut:
        finished = subprocess.run(
            [Path(sys.executable).with_name("market-pipeline"), "doctor"],
            env=workspace.environment() | {"PYTHONUNBUFFERED": "1"},
            cwd=workspace.root,
            stdout=cut,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000)),
        )

    assert 2 == finished.returncode
    assert finished.stderr.startswith("error: A file may not grow so large (file=standard output, ")


@pytest.mark.parametrize("loaded", ["cli.script", "errors", "cli.app", "cli.verdict"])
def test_interrupted_while_loading(loaded: str):
    """Ctrl-C in the first second ends any verb without a traceback, whatever is loading."""
    finished = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_WHILE_LOADING, f"market_pipeline.{loaded}"],
        capture_output=True,
        check=False,
    )

    assert (-signal.SIGINT, b"", b"") == (finished.returncode, finished.stdout, finished.stderr)


def test_little_is_loaded_before():
    """Of the package only its entry is loaded, and no version looked up, before Ctrl-C ends it."""
    entry = "import sys, market_pipeline.cli.main; print(*sorted(sys.modules))"
    finished = subprocess.run(
        [sys.executable, "-c", entry], capture_output=True, text=True, check=True
    )
    loaded = finished.stdout.split()

    assert ["market_pipeline", "market_pipeline.cli", "market_pipeline.cli.main"] == [
        name for name in loaded if name.startswith("market_pipeline")
    ]
    assert not {"importlib.metadata", "pathlib", "logging"} & {*loaded}


@pytest.mark.parametrize(
    ("kind", "most"), [(resource.RLIMIT_AS, 1 << 30), (resource.RLIMIT_DATA, 1 << 29)]
)
def test_too_little_memory(workspace: Workspace, kind, most):
    """A limit of memory that the libraries do not load in is reported, with what is needed."""
    finished = workspace.limited(kind, most, "verdict").finish()

    assert (2, "") == (finished.exit_code, finished.output)
    assert finished.errors.startswith("error: There is not enough memory (expected=4,294,967,296 ")
    assert f"a limit of {most:,} bytes" in finished.errors
    assert 1 == len(finished.errors.splitlines())


@pytest.mark.parametrize("arguments", [("prune", "--yes"), ("verdict",), ("alerts", "list")])
def test_too_few_open_files(workspace: Workspace, arguments):
    """A limit of open files that libraries panic at is reported before any verb begins."""
    finished = workspace.limited(resource.RLIMIT_NOFILE, 64, *arguments).finish()

    assert (2, "") == (finished.exit_code, finished.output)
    assert finished.errors.startswith("error: No further file can be opened (expected=128 open ")
    assert 1 == len(finished.errors.splitlines())
