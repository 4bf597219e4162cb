"""The sources of settings, each read as it is: what it sets, under which keys, and what is wrong.

Every secret is made known to `scrub` as soon as it is read, also one that is refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from market_pipeline.config.env_copies import ENV_FILE, copies
from market_pipeline.config.secret_values import (
    learn_address,
    learn_environment,
    learn_secret,
    learn_variables,
)
from market_pipeline.config.values import absolute_path
from market_pipeline.config.yaml_files import nearest_known, read_yaml_mapping

__all__ = ["CREDENTIAL_VARIABLES", "ENV_PREFIX", "Known", "Layer", "provider_layer", "read_layers"]

ENV_PREFIX = "PIPELINE_"

# Dagster reads the same `.env`, so its variables may stand there beside ours.
_NEIGHBOUR_PREFIX = "DAGSTER_"
_MAX_SECRET_BYTES = 1 << 16

CREDENTIAL_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
)
"""What may stand in `.env` and with other secrets for the object store."""


class Known(NamedTuple):
    """What there is to be set: names in lower case, which of them are secrets, and sections."""

    fields: Collection[str]
    secrets: Collection[str]
    sections: Collection[str]


@dataclass(slots=True)
class Layer:
    """One source of settings: known values and their keys as spelt there, and its problems.

    `credentials` are those of the object store, which are no settings.
    """

    label: str
    known: Known
    values: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    credentials: dict[str, str] = field(default_factory=dict)

    def add(self, spelt: str, name: str, value: object, spelling: Callable[[str], str]) -> None:
        """Take one key of the source, or list it as a problem if no field has that name."""
        if isinstance(value, str):
            (learn_secret if name in self.known.secrets else learn_address)(value)
        if name in self.known.fields:
            if name in self.values:
                self.problems.append(
                    f"{self.label}: {spelt} is given twice, the first time as {self.keys[name]}. "
                    "Remove one of them."
                )
            self.values[name] = value
            self.keys[name] = spelt
            return
        known = [spelling(known_name) for known_name in self.known.fields]
        self.problems.append(
            f"{self.label}: {spelt} is not a known key ({nearest_known(spelt, known)}). "
            "Rename or remove it."
        )


def read_layers(arguments: Mapping[str, Any], known: Known) -> list[Layer]:
    """Every source but the provider, the strongest first; the last one may hold no secret."""
    layers = [_read_arguments(arguments, known), _read_environment(known), _read_env_file(known)]

    def named(name: str) -> object:
        return next((each.values[name] for each in layers if name in each.values), None)

    layers.append(_read_secrets_dir(named("secrets_dir"), known))
    layers.append(_read_config_file(named("config_file"), known))
    return layers


def provider_layer(label: str, values: Mapping[str, str], known: Known) -> Layer:
    """What a provider gives: secrets by the names of settings or of their variables."""
    layer = Layer(label, known)
    learn_variables(values)
    for spelt, value in values.items():
        if spelt in CREDENTIAL_VARIABLES:
            layer.credentials[spelt] = value
            continue
        name = spelt.lower().removeprefix(ENV_PREFIX.lower())
        if name in known.fields and name not in known.secrets:
            layer.problems.append(
                f"{label}: {spelt} is no secret. Set {_variable(name)} where settings are."
            )
        else:
            layer.add(spelt, name, value, _variable)
    return layer


def _read_arguments(arguments: Mapping[str, Any], known: Known) -> Layer:
    layer = Layer("argument", known)
    for name, value in arguments.items():
        layer.add(name, name, value, str)
    return layer


def _variable(name: str) -> str:
    return ENV_PREFIX + name.upper()


def _read_environment(known: Known) -> Layer:
    layer = Layer("environment", known)
    learn_environment()
    left_to_file = {*copies()}
    for spelt, text in os.environ.items():
        if spelt.upper().startswith(ENV_PREFIX) and spelt not in left_to_file:
            layer.add(spelt, spelt[len(ENV_PREFIX) :].lower(), text, _variable)
    return layer


def _read_env_file(known: Known) -> Layer:
    layer = Layer(str(ENV_FILE), known)
    if not ENV_FILE.exists():
        return layer
    try:
        text = ENV_FILE.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        layer.problems.append(f"{ENV_FILE}: cannot be read: {error}. Make it a readable text file.")
        return layer
    understood = StringIO()
    given: set[str] = set()
    for line in parse_stream(StringIO(text)):
        if line.key is not None and line.key in given:
            layer.problems.append(
                f"{ENV_FILE}: line {line.original.line} gives {line.key} a second time. Remove one."
            )
        given.update([line.key] if line.key else [])
        if line.error or (line.key is not None and line.value is None):
            layer.problems.append(
                f"{ENV_FILE}: line {line.original.line} is not KEY=value. Correct or remove it."
            )
        else:
            understood.write(line.original.string)
    understood.seek(0)
    values = dotenv_values(stream=understood)
    learn_variables(values)
    for spelt, value in values.items():
        if value is None or spelt.upper().startswith(_NEIGHBOUR_PREFIX):
            continue
        if spelt in CREDENTIAL_VARIABLES:
            layer.credentials[spelt] = value
            continue
        own = spelt.upper().startswith(ENV_PREFIX)
        layer.add(spelt, spelt[len(ENV_PREFIX) :].lower() if own else "", value, _variable)
    return layer


def _read_secrets_dir(named: object, known: Known) -> Layer:
    """A file for each setting, as Kubernetes mounts secrets; hidden files are not looked at."""
    layer = Layer(f"{named}", known)
    if not isinstance(named, str | Path) or not str(named).strip():
        return layer
    try:
        files = sorted(each for each in absolute_path(Path(named)).iterdir() if each.is_file())
        for file in files:
            if file.name.startswith("."):
                continue
            with file.open("rb") as opened:
                data = opened.read(_MAX_SECRET_BYTES + 1)
            text = data.decode().rstrip("\r\n")
            if len(data) > _MAX_SECRET_BYTES or "\0" in text:
                raise ValueError
            if file.name in CREDENTIAL_VARIABLES:
                learn_secret(text)
                layer.credentials[file.name] = text
            else:
                name = file.name.lower().removeprefix(ENV_PREFIX.lower())
                layer.add(file.name, name, text, str)
    except OSError as error:
        layer.problems.append(
            f"{error.filename or named}: cannot be read: {error.strerror}. Make it readable, or "
            "set PIPELINE_SECRETS_DIR to another folder."
        )
    except ValueError:  # the text of an error of decoding shows a byte
        layer.problems.append(
            f"{file}: is no text of {_MAX_SECRET_BYTES:,} bytes or fewer. Make it the value of a "
            "setting, and nothing else."
        )
    return layer


def _read_config_file(named: object, known: Known) -> Layer:
    """The layer of the file that `config_file` names, or of `config.yaml` if it is not set."""
    if named is not None and not (isinstance(named, str | Path) and str(named).strip()):
        return Layer("config.yaml", known)  # `config_file` itself is refused where it was set
    path = Path("config.yaml") if named is None else Path(named)
    layer = Layer(str(path), known)
    try:
        path = absolute_path(path)
    except ValueError:
        return layer
    if named is None and not path.exists():
        return layer
    values, problems = read_yaml_mapping(path)
    layer.problems.extend(f"{layer.label}: {problem}." for problem in problems)
    for name, value in values.items():
        if name in ("config_file", "secrets_dir"):
            layer.problems.append(
                f"{layer.label}: {name} cannot be set in a settings file. Set "
                f"{_variable(name)} in the environment or in {ENV_FILE}."
            )
        elif name in known.sections:
            _add_section(layer, name, value)
        else:
            _add_public(layer, name, name, value)
    return layer


def _add_public(layer: Layer, spelt: str, name: str, value: object) -> None:
    """Takes a key of a file that may hold no secret."""
    if name in layer.known.secrets:
        learn_secret(f"{value}")
        layer.problems.append(
            f"{layer.label}: {spelt} is a secret and cannot stand in a settings file. Remove it "
            f"and set {_variable(name)} in the environment or in {ENV_FILE}."
        )
    else:
        layer.add(spelt, name, value, _dotted)


def _dotted(name: str) -> str:
    return name.replace("__", ".")


def _add_section(layer: Layer, section: str, values: object) -> None:
    if not isinstance(values, Mapping):
        layer.problems.append(
            f"{layer.label}: {section} is a section. Write its keys below it, indented."
        )
        return
    for name, value in values.items():
        spelt = f"{section}.{name}"
        _add_public(layer, spelt, f"{section}__{name}", value)
