"""Settings of sealed files: what is sealed, and the one secret that every key is derived from."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr

from market_pipeline.config.values import OptionalPath, OptionalText, blank_is_none, texts

__all__ = ["MASTER_KEY_BYTES", "Auditing", "SecuritySettings", "master_key_of"]

MASTER_KEY_BYTES = 32
_MIN_PASSPHRASE = 16

Auditing = Literal["on", "required", "off"]
"""Whether accesses are recorded: `required` refuses also a read that cannot be."""


def master_key_of(text: str) -> bytes:
    """The 32 bytes of a master key in base64.

    Raises:
        ValueError: It is none; the text is not shown.
    """
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != MASTER_KEY_BYTES:
        raise ValueError(f"expected {MASTER_KEY_BYTES} bytes in base64")
    return key


def _usable_key(value: SecretStr | None) -> SecretStr | None:
    if value is not None:
        master_key_of(value.get_secret_value())
    return value


def _usable_passphrase(value: SecretStr | None) -> SecretStr | None:
    if value is not None and len(value.get_secret_value()) < _MIN_PASSPHRASE:
        raise ValueError(f"expected {_MIN_PASSPHRASE} characters or more")
    return value


def _yaml_word(value: object) -> object:
    """The word that YAML took for a true/false value."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


def _not_of_root(group: str | None) -> str | None:
    if group == "root":
        raise ValueError(
            "root is no group for readers: the runner would be put into it, and could do what the "
            "system's own files allow their group; name one of its own, such as market-read"
        )
    return group


Sealed = Literal["captures", "raw", "exports", "backups"]


class SecuritySettings(BaseModel):
    """The part of the settings that is about keys; see `Settings`."""

    seal: Annotated[tuple[Sealed, ...], BeforeValidator(texts)] = Field(
        default=(),
        description=(
            "What is sealed as soon as it is whole, separated by commas: captures (recordings "
            "whose hour is over), raw (days that were downloaded or converted), exports, backups."
        ),
    )
    master_key: Annotated[
        SecretStr | None, BeforeValidator(blank_is_none), AfterValidator(_usable_key)
    ] = Field(
        default=None,
        description=(
            "The key that every key of sealed files is derived from: 32 bytes in base64. A secret."
        ),
    )
    master_key_file: OptionalPath = Field(
        default=None,
        description="A file that holds the master key, mode 0600, instead of the variable.",
    )
    master_passphrase: Annotated[
        SecretStr | None, BeforeValidator(blank_is_none), AfterValidator(_usable_passphrase)
    ] = Field(
        default=None,
        description="What the master key is derived from instead, 16 characters or more. A secret.",
    )
    audit: Annotated[Auditing, BeforeValidator(_yaml_word)] = Field(
        default="on",
        description=(
            "Whether every access to data is recorded below the data folder: on, off, or required, "
            "which refuses also a read that cannot be recorded."
        ),
    )
    readers_group: Annotated[OptionalText, AfterValidator(_not_of_root)] = Field(
        default=None,
        description=(
            "A group of this machine that may read the published tables and the catalogue, once "
            "`market-pipeline access` has opened them for it."
        ),
    )
    require_encrypted_disk: bool = Field(
        default=False,
        description=(
            "Whether verbs and Dagster's code refuse to begin where data, history of runs or "
            "temporary files lie on a disk that is not known to be encrypted."
        ),
    )
