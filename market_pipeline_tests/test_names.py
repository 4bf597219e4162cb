"""Names in docstrings and comments are those of the code: who renames a thing renames these too."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from market_pipeline.capture.sinks import SINKS_GROUP
from market_pipeline.config.instruments import CONVERTERS_GROUP
from market_pipeline.security.services import KEY_SERVICES_GROUP
from market_pipeline.tables import RECORDS, TABLES, VIEWS
from market_pipeline_tests.test_repository import PACKAGE, ROOT, modules, nodes, parsed

_DOTTED = re.compile(r"`((?:\w+\.)+\w+)(?:\(\))?`")
_PATH = re.compile(r"`((?:\w+/)+\w+\.py)`")
_FILES = {"yaml", "py", "json", "jsonl", "duckdb", "parquet", "md", "gz", "PARQUET"}
NOT_OURS = {
    CONVERTERS_GROUP,
    KEY_SERVICES_GROUP,
    SINKS_GROUP,
    "Thread.start",
    "schema.name",
    "schema.table",
}


@cache
def defined() -> dict[str, set[str]]:
    """By every dotted end of a module's name, the names that it defines, imports or takes."""
    found: dict[str, set[str]] = {}
    for module, path in modules():
        names = set()
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.id if isinstance(node, ast.Name) else node.attr)
            elif isinstance(node, ast.alias):
                names.add((node.asname or node.name).split(".")[-1])
        parts = module.split(".")
        for start in range(len(parts)):
            found.setdefault(".".join(parts[start:]), set()).update(names)
    return found


@cache
def public() -> dict[str, set[str]]:
    """The functions and classes at the top of modules, with the names that stand in each class."""
    found: dict[str, set[str]] = {}
    for _, path in modules():
        for node in parsed(path).body:
            if isinstance(node, ast.FunctionDef):
                found.setdefault(node.name, set())
            elif isinstance(node, ast.ClassDef):
                inside = [each for each in ast.walk(node) if isinstance(each, ast.Name)]
                methods = [each for each in node.body if isinstance(each, ast.FunctionDef)]
                names = {each.id for each in inside} | {each.name for each in methods}
                found.setdefault(node.name, set()).update(names)
    return found


@cache
def tables() -> dict[str, set[str]]:
    """What is queried by SQL, with its columns."""
    every = (*TABLES.values(), *RECORDS, *VIEWS)
    return {table.sql_name: {each.name for each in table.columns} for table in every}


@cache
def folders_and_modules() -> set[str]:
    """Every part of a module's dotted name."""
    return {part for module, _ in modules() for part in module.split(".")}


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, in one, in a class, or a table or one of its columns."""
    name = name.removeprefix("market.")  # the catalogue, by the name of its file
    before, _, last = name.rpartition(".")
    if name in {*tables(), *defined(), *NOT_OURS} or last in tables().get(before, ()):
        return True
    owner = before.split(".")[-1]
    return last in defined().get(before, ()) or last in public().get(owner, ())


def is_ours(name: str) -> bool:
    """Whether a dotted name reads like one of this package."""
    first, *_, last = name.split(".")
    return last not in _FILES and (first in folders_and_modules() or last in public())


def arguments(path: Path) -> Iterator[tuple[str, set[str], set[str]]]:
    """Of each function or class that lists `Args:`, its name, what is listed and what it takes."""
    for node in nodes(path):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        listed = re.search(r"Args:\n((?:    .*\n?|\n)+)", ast.get_docstring(node) or "")
        if listed is None:
            continue
        entries = re.findall(r"^ {4}(\w[\w, *]*): ", listed[1], re.MULTILINE)
        names = {name.strip(" *") for entry in entries for name in entry.split(",")}
        takes = {each.arg for each in ast.walk(node) if isinstance(each, ast.arg)}
        if isinstance(node, ast.ClassDef):
            fields = [each.target for each in node.body if isinstance(each, ast.AnnAssign)]
            takes |= {each.id for each in fields if isinstance(each, ast.Name)}
        yield node.name, names, takes


def test_dotted_names_resolve():
    """A dotted name of ours in backticks, wherever, is a module, a name in one, or a table."""
    dangling = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for _, path in modules()
        for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        for name in _DOTTED.findall(text)
        if is_ours(name) and not resolves(name)
    ]
    assert [] == dangling


def test_paths_are_there():
    """A path of a Python file in backticks, below the package or the root, leads to a file."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    missing = [
        f"{path.relative_to(ROOT)} {name}"
        for path in (*pages, *(path for _, path in modules()))
        for name in _PATH.findall(path.read_text(encoding="utf-8"))
        if not any((top / name).is_file() for top in (PACKAGE, ROOT, PACKAGE / "stages"))
    ]
    assert [] == missing


def test_arguments_are_parameters():
    """Each entry below `Args:` is a parameter of its function, or of its class."""
    wrong = [
        f"{path.relative_to(ROOT)} {name}: {sorted(listed - takes)}"
        for _, path in modules()
        for name, listed, takes in arguments(path)
        if listed - takes
    ]
    assert [] == wrong
