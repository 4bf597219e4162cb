"""Reading the YAML files a person writes: strictly, safely, with every problem as a sentence."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml

from market_pipeline.config.values import JsonValue

__all__ = ["nearest_known", "read_yaml_mapping"]


def nearest_known(key: str, known: Iterable[str]) -> str:
    """Say which known key the reader may have meant, or all of them if none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(key, names, n=1)
    return f"did you mean {near[0]}?" if near else f"known keys: {', '.join(names)}"


class _StrictLoader(yaml.SafeLoader):
    """The safe loader, but a key given twice is an error and a date stays text.

    YAML libraries let the last of two equal keys win, which silently drops a whole list of
    instruments if `instruments:` is written twice.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value} is given twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


yaml.add_constructor(
    "tag:yaml.org,2002:timestamp", yaml.SafeLoader.construct_yaml_str, Loader=_StrictLoader
)


def read_yaml_mapping(path: Path) -> tuple[dict[str, JsonValue], list[str]]:
    """Read a YAML file of keys and values, safely; an empty file has none.

    Dates stay text. Returns the mapping and the problems found (sentences without the file's
    name and without a full stop); with a problem the mapping is empty. Never raises for what the
    file holds or for a file that cannot be read.
    """
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except FileNotFoundError:
        return {}, ["the file does not exist; create it or name another"]
    except OSError as error:
        return {}, [f"the file cannot be read: {error.strerror}; fix its permissions or its path"]
    except UnicodeDecodeError as error:
        return {}, [f"the file is not UTF-8 text: {error.reason} at byte {error.start}"]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return {}, [f"the file is not valid YAML: {_yaml_reason(error)}; correct that place"]
    if loaded is None:
        return {}, []
    if not isinstance(loaded, dict):
        return {}, ["expected keys and values (`key: value` lines) at the top of the file"]
    odd = [key for key in loaded if not isinstance(key, str)]
    if odd:
        return {}, [f"the key {key!r} is not text; put it in quotes or remove it" for key in odd]
    return loaded, []


def _yaml_reason(error: Exception) -> str:
    """The reason without the quoted source line, which might hold a secret."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{error.problem} (line {mark.line + 1}, column {mark.column + 1})"
    return str(error).splitlines()[0]
