"""Facts about the repository as a whole that no single module can hold."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import dagster as dg
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import market_pipeline
from market_pipeline.defs.event_log import EventLog

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "market_pipeline"
TESTS = ROOT / "market_pipeline_tests"
LOCKS = ("requirements.lock", "requirements-runtime.lock")
MAX_LINES = {PACKAGE: 400, TESTS: 500}
MAX_FUNCTION_LINES = 60

# Lowest first. A module imports from its own layer and from those before it. "" is the package's
# own __init__, which offers what notebooks use and therefore sits above all it offers; only its
# __version__ is for everybody.
LAYERS = (
    ("scrub",),
    ("shown",),
    ("errors", "mapped", "memory", "threads", "_by_address", "_lowering", "_machine_code", "jit"),
    ("config",),
    ("warehouse",),
    ("security",),
    ("audit",),
    ("telemetry",),
    ("store",),
    ("sources",),
    ("books",),
    ("quality",),
    ("metrics",),
    ("macros",),
    ("tables",),
    ("stages",),
    ("capture",),
    ("golden",),
    ("alerts",),
    ("backup",),
    ("notebook",),
    ("plots",),
    ("pages",),
    ("machine",),
    ("doctor",),
    ("health",),
    ("",),
    ("defs",),
    ("definitions",),
    ("cli",),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}

# Distributions that are pinned by another one and cannot be chosen on their own.
RELEASED_WITH = {
    "llvmlite": "numba",
    "mypy-boto3-s3": "boto3",  # its types, which only the type checker imports
    "pydantic-core": "pydantic",
}

# Put together from pieces, so that this file does not hold what it forbids.
FORBIDDEN = {
    "a package registry": ("py" + "pi.org", "python" + "hosted.org", "npm" + "js.org"),
    "a mirror of Debian": ("deb." + "debian.org", "debian.org" + "/debian"),
    "a folder of one machine": ("/wo" + "rk/", "/tm" + "p/w/", "/ro" + "ot/", "/ho" + "me/user"),
}


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def direct_requirements(*extras: str) -> list[Requirement]:
    project = pyproject()["project"]
    texts = list(project["dependencies"])
    for extra in extras:
        texts += project["optional-dependencies"][extra]
    return [Requirement(text) for text in texts]


def locked(name: str) -> dict[str, list[tuple[Version, list[str]]]]:
    """Each distribution of a lock with its versions (one for each marker) and their hashes."""
    pins: dict[str, list[tuple[Version, list[str]]]] = {}
    for entry in re.split(r"\n(?=\S)", (ROOT / name).read_text(encoding="utf-8").strip()):
        requirement, *hashes = re.split(r"\s+--hash=", entry.replace("\\\n", " "))
        parsed = Requirement(requirement.strip())
        (pin,) = parsed.specifier
        assert pin.operator == "==", entry
        versions = pins.setdefault(canonicalize_name(parsed.name), [])
        versions.append((Version(pin.version), [text.strip() for text in hashes]))
    return pins


@cache
def tracked_files() -> tuple[Path, ...]:
    """Files that are committed or would be: everything that is not ignored."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is no list of tracked files")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return tuple(path for path in paths if path.is_file())


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """All nodes of a file: to walk it takes longer than to parse it, and many tests do."""
    return tuple(ast.walk(parsed(path)))


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the package, by dotted name."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


@cache
def imported_names(module: str, path: Path) -> tuple[str, ...]:
    """Dotted names a module imports, also inside functions and for type checking only."""
    names: list[str] = []
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = module if path.name == "__init__.py" else module.rpartition(".")[0]
            above = package.split(".")[: len(package.split(".")) - (node.level - 1)]
            start = [*above, node.module] if node.level else [node.module]
            names += [".".join([*filter(None, start), alias.name]) for alias in node.names]
    return tuple(names)


def layer_of(dotted: str) -> str:
    """The layer's name of `market_pipeline.…`: its second part, if that is a module."""
    second = [*dotted.split("."), ""][1]
    is_module = (PACKAGE / second).is_dir() or (PACKAGE / f"{second}.py").is_file()
    return second if is_module else ""


def every_test() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
                "test"
            ):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def asserts_something(function: ast.AST) -> bool:
    """It has an assert, a `pytest.raises` or `warns`, or calls a helper named `assert_…`."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in {"raises", "warns"} or name.startswith("assert_"):
                return True
    return False


class TestLock:
    @pytest.mark.parametrize("name", LOCKS)
    def test_every_version_has_hashes(self, name):
        """Each pinned version carries at least one sha256 and nothing but sha256."""
        without = [
            f"{distribution} {version}"
            for distribution, versions in locked(name).items()
            for version, hashes in versions
            if not hashes or not all(re.fullmatch(r"sha256:[0-9a-f]{64}", h) for h in hashes)
        ]
        assert [] == without

    @pytest.mark.parametrize("name", LOCKS)
    def test_no_address(self, name):
        """The lock names no address and no index: any mirror can serve it."""
        text = (ROOT / name).read_text(encoding="utf-8")
        assert [] == re.findall(r"://| @ |^-.*|index-url|find-links", text, re.MULTILINE)

    def test_holds_every_direct_dependency(self):
        """Each dependency of pyproject.toml, extras too, is locked to a version it allows."""
        pins = locked("requirements.lock")
        extras = pyproject()["project"]["optional-dependencies"]
        missing = [
            str(requirement)
            for requirement in direct_requirements(*extras)
            if not any(
                version in requirement.specifier
                for version, _ in pins.get(canonicalize_name(requirement.name), [])
            )
        ]
        assert [] == missing, "run `make lock`"

    def test_image_installs_the_tested_versions(self):
        """The image's lock holds the run-time dependencies in the versions of the full lock."""
        full, image = locked("requirements.lock"), locked("requirements-runtime.lock")
        assert {name: full.get(name) for name in image} == image, "run `make lock`"
        wanted = {canonicalize_name(requirement.name) for requirement in direct_requirements()}
        assert set() == wanted - set(image)

    def test_holds_the_build_backend(self):
        """The build backend is locked, so an install needs no isolated build environment."""
        backend = {Requirement(text).name for text in pyproject()["build-system"]["requires"]}
        assert set() == backend - set(locked("requirements.lock"))


class TestVersion:
    def test_one_version_everywhere(self):
        """pyproject.toml, the newest change log entry and the installed package agree."""
        changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
        logged = re.findall(r"^## \[([^\]]+)\]", changelog, re.MULTILINE)
        declared = pyproject()["project"]["version"]
        assert (declared, declared) == (logged[0], market_pipeline.__version__)

    def test_change_log_is_newest_first(self):
        """Every version is logged once, the newest first."""
        changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
        logged = [Version(text) for text in re.findall(r"^## \[(.+?)\]", changelog, re.MULTILINE)]
        assert sorted(set(logged), reverse=True) == logged


class TestTrackedFiles:
    @pytest.mark.parametrize(
        "path",
        [
            ".env",
            ".env.local",
            "data/warehouse/market.duckdb",
            "data/demo/instruments.yaml",
            "dagster_home/event_log.db",
            "dagster_home/history/runs.db",
            "dagster_home/storage/run/compute_logs/step.out",
            ".venv/bin/python",
        ],
    )
    def test_secrets_data_and_state_are_ignored(self, path):
        """Secrets, data and run history cannot be committed by mistake."""
        tracked_files()  # skips outside a checkout
        ignored = subprocess.run(["git", "check-ignore", "--quiet", path], cwd=ROOT, check=False)
        assert 0 == ignored.returncode

    @pytest.mark.parametrize(
        "path", [".env.example", "dagster_home/dagster.yaml", "workspace.yaml"]
    )
    def test_configuration_is_not_ignored(self, path):
        """What a new user needs is committed."""
        tracked_files()
        ignored = subprocess.run(["git", "check-ignore", "--quiet", path], cwd=ROOT, check=False)
        assert 1 == ignored.returncode

    def test_no_registry_and_no_path_of_one_machine(self):
        """No file names a registry's host or a folder that exists on one machine only."""
        found = []
        for path in tracked_files():
            text = path.read_bytes().decode("utf-8", errors="ignore")
            found += [
                f"{path.relative_to(ROOT)}: {what}: {pattern}"
                for what, patterns in FORBIDDEN.items()
                for pattern in patterns
                if pattern in text and re.search(rf"(?<![\w.}}]){re.escape(pattern)}", text)
            ]
        assert [] == found


COINED = (
    *("exams?", "joint", "twins?", "doors?", "holdings", "landed", "told", "said", "mended"),
    *(r"(?:un)?judg\w*", "held (?:against|up)", "(?:go|goes|gone|going|went) on from"),
    *("let_through", "LetThrough", "(?:Raw)?surveys?", "seen_steps", r"\w*look_through"),
)
"""Words of our own for what the field has words for: validate, report, resume, compare with."""


class TestWords:
    def test_no_word_of_our_own(self):
        """Code and pages say it in the field's words; the glossary and the change log have both."""
        coined = re.compile(rf"(?<![A-Za-z])(?:{'|'.join(COINED)})(?![A-Za-z])", re.IGNORECASE)
        pages = set((ROOT / "docs").rglob("*.md")) | {ROOT / "README.md", ROOT / "CONTRIBUTING.md"}
        found = [
            f"{path.relative_to(ROOT)}: {word}"
            for path in sorted({*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.j2"), *pages})
            for word in coined.findall(path.read_text(encoding="utf-8"))
        ]
        assert [] == found


class TestModules:
    def test_files_stay_short(self):
        """No Python file is longer than a reader can hold in mind."""
        long = {
            str(path.relative_to(ROOT)): lines
            for top, most in MAX_LINES.items()
            for path in sorted(top.rglob("*.py"))
            if (lines := len(path.read_text(encoding="utf-8").splitlines())) > most
        }
        assert {} == long

    def test_functions_stay_short(self):
        """No function is longer than a page, but for kernels, which are one pass over the data."""
        long = {
            f"{path.relative_to(ROOT)}: {node.name}": lines
            for path in sorted(PACKAGE.rglob("*.py"))
            for node in nodes(path)
            if isinstance(node, ast.FunctionDef)
            if not re.search("kernel|njit", "".join(map(ast.unparse, node.decorator_list)))
            if (lines := node.end_lineno - node.lineno + 1) > MAX_FUNCTION_LINES
        }
        assert {} == long

    def test_types_are_decoded_by_decoders_made_on_import(self):
        """No type of ours is first made known to msgspec by a thread: two at once crash (0.22)."""
        late = [
            f"{path.relative_to(ROOT)}: {node.lineno}"
            for path in sorted(PACKAGE.rglob("*.py"))
            if "msgspec" in path.read_text(encoding="utf-8")
            for function in nodes(path)
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
            for node in ast.walk(function)
            if isinstance(node, ast.Call)
            if re.fullmatch(
                r"msgspec\.\w+\.(decode\(.*\btype=.*|Decoder\(\w+\b[^(]*)", ast.unparse(node)
            )
        ]
        assert [] == late

    def test_every_module_has_a_layer(self):
        """A new module or folder is given its place in LAYERS before anything imports it."""
        unplaced = {layer_of(module) for module, _ in modules()} - set(RANK)
        assert set() == unplaced

    def test_imports_point_downward(self):
        """No module imports from a layer above its own."""
        upward = [
            f"{module} imports {name}"
            for module, path in modules()
            for name in imported_names(module, path)
            if name.split(".")[0] == "market_pipeline"
            and name != "market_pipeline.__version__"
            and RANK.get(layer_of(name), 0) > RANK.get(layer_of(module), len(LAYERS))
        ]
        assert [] == upward

    def test_a_folder_imports_what_it_says(self):
        """The docstring of each folder names the layers that its modules import from."""
        undeclared = []
        for module, path in modules():
            folder = PACKAGE / layer_of(module) / "__init__.py"
            ours = (n for n in imported_names(module, path) if n.startswith("market_pipeline."))
            layers = {layer_of(name) for name in ours}
            if layer_of(module) in ("", "defs", "cli") or not folder.is_file():
                continue
            _, _, may = (ast.get_docstring(parsed(folder)) or "").partition("May import")
            others = layers - {"", layer_of(module), *re.findall(r"`(\w+)`", may)}
            undeclared += [f"{module} imports {layer}" for layer in others]
        assert [] == undeclared

    def test_a_private_module_has_one_user(self):
        """A module whose name begins with `_` serves one other, which lies beside it."""
        private = [module for module, path in modules() if re.match(r"_[a-z]", path.name)]
        users: dict[str, set[str]] = {module: set() for module in private}
        for importer, path in modules():
            for name in imported_names(importer, path):
                for module in {name, name.rpartition(".")[0]} & users.keys():
                    users[module].add(importer)
        shared = {
            module: importers
            for module, importers in users.items()
            if [module.rpartition(".")[0]] != [each.rpartition(".")[0] for each in importers]
        }
        assert ({}, True) == (shared, len(private) > 20)

    def test_nothing_below_defs_imports_dagster(self):
        """The pure code can be used without Dagster."""
        found = [
            f"{module} imports {name}"
            for module, path in modules()
            for name in imported_names(module, path)
            if re.match(r"dagster(_\w+)?(\.|$)", name)
            and RANK.get(layer_of(module), 0) < RANK["defs"]
        ]
        assert [] == found

    def test_every_import_is_declared(self):
        """What the package imports is a dependency of its own, not one of a dependency."""
        declared = {canonicalize_name(requirement.name) for requirement in direct_requirements()}
        distributions = packages_distributions()
        undeclared = set()
        for module, path in modules():
            for name in imported_names(module, path):
                top = name.split(".")[0]
                if top in sys.stdlib_module_names or top == "market_pipeline":
                    continue
                owners = {canonicalize_name(owner) for owner in distributions.get(top, [top])}
                owners = {RELEASED_WITH.get(owner, owner) for owner in owners}
                if not owners & declared:
                    undeclared.add(f"{module} imports {top}")
        assert set() == undeclared


class TestTests:
    def test_every_test_asserts(self):
        """A test without an assertion proves nothing."""
        assert [] == [where for where, function in every_test() if not asserts_something(function)]

    def test_every_test_states_its_fact(self):
        """Each test has a docstring saying what it proves."""
        assert [] == [where for where, function in every_test() if not ast.get_docstring(function)]

    def test_every_test_is_in_one_tier(self):
        """`.ci/run` runs both tiers, the first one counted; they are the two sides of one mark."""
        options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["addopts"]
        makefile = (ROOT / "Makefile").read_text()
        (slow,) = re.findall(r'\$\(PYTEST\) -m "(.+)"', makefile)
        (counted,) = re.findall(r"^lines:.*\n(?:\t.*\n)+", makefile, re.MULTILINE)
        ran = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line[:5] == "make "]

        assert ("not slow and not attack", "slow and not attack") == (options[-1], slow)
        assert ["make security", "make lines", "make test-all"] == ran
        assert "$(MAKE) --no-print-directory test \\\n\t\tCOUNTED=" in counted


class TestDagsterHome:
    @pytest.fixture
    def instance(self, tmp_path, monkeypatch):
        """The instance that dagster_home/dagster.yaml configures, in a folder of its own."""
        configuration = (ROOT / "dagster_home" / "dagster.yaml").read_text(encoding="utf-8")
        (tmp_path / "dagster.yaml").write_text(configuration, encoding="utf-8")
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
        with dg.DagsterInstance.get() as instance:
            yield instance

    def test_keeps_every_run_in_one_file_inside_it(self, instance, tmp_path):
        """Events go to one SQLite file below DAGSTER_HOME, not to one for each run."""

        @dg.asset
        def nothing() -> None:
            pass

        outcome = dg.materialize([nothing], instance=instance)
        assert isinstance(instance.event_log_storage, EventLog)
        assert instance.all_logs(outcome.run_id) != []
        assert [tmp_path / "event_log.db"] == sorted(tmp_path.rglob("event_log*.db"))
        assert [] == list(tmp_path.rglob(f"{outcome.run_id}.db"))

    def test_sends_nothing_and_runs_two_at_once(self, instance):
        """Telemetry is off, two runs go at once, and a failed step is not run again."""
        runs = instance.get_concurrency_config().run_queue_config
        assert (False, 2, False) == (
            instance.telemetry_enabled,
            runs.max_concurrent_runs,
            instance.run_retries_retry_on_asset_or_op_failure,
        )
