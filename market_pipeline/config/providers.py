"""Where secrets come from besides the environment and files: a provider, asked again in time.

A provider is a module of `security.providers`, loaded by its name: it may use what lies above the
settings, such as the keys of sealed files.
"""

from __future__ import annotations

import logging
import time
from importlib import import_module
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr

from market_pipeline.config.addresses import OptionalEndpoint
from market_pipeline.config.values import (
    OptionalPath,
    OptionalText,
    Real,
    SettingsModel,
    blank_is_none,
)
from market_pipeline.errors import SettingsError

if TYPE_CHECKING:
    from market_pipeline.config.settings import Settings

__all__ = ["ProviderName", "SecretsSettings", "ask_provider", "forget_provided", "provided"]

ProviderName = Literal["vault", "aws", "sealed"]

_LOG = logging.getLogger(__name__)


class SecretsSettings(SettingsModel):
    """The section `secrets` of the settings; see `market_pipeline.config.settings`."""

    provider: Annotated[ProviderName | None, BeforeValidator(blank_is_none)] = Field(
        default=None,
        description=(
            "Where secrets come from that neither the environment nor a file sets: vault, aws "
            "(Secrets Manager) or sealed (`market-pipeline secrets set`); without it nowhere."
        ),
    )
    address: OptionalEndpoint = Field(
        default=None,
        description="The address of Vault, https://host:port, or of another AWS than Amazon's.",
    )
    path: OptionalText = Field(
        default=None,
        description=(
            "Which secret: of Vault mount/path of the key-value store, version 2; of AWS its name "
            "or ARN. It holds names of settings, or of credentials of the store, and their values."
        ),
    )
    token: Annotated[SecretStr | None, BeforeValidator(blank_is_none)] = Field(
        default=None, description="The token for Vault. A secret."
    )
    token_file: OptionalPath = Field(
        default=None,
        description="A file with the token for Vault instead, read anew each time.",
    )
    region: OptionalText = Field(
        default=None, description="The region of AWS; without it the AWS configuration decides."
    )
    ca_bundle: OptionalPath = Field(
        default=None,
        description="A PEM file of authorities to trust for it, instead of the usual ones.",
    )
    lifetime_seconds: Real = Field(
        default=300.0,
        gt=0,
        description="Seconds until a process asks the provider again, so that it has new secrets.",
    )


_lock = Lock()
_kept: dict[SecretsSettings, tuple[float, dict[str, str]]] = {}
"""What each provider gave to this process, and until when that is used."""


def provided(settings: Settings) -> dict[str, str]:
    """The secrets of the provider, by the names that it has them under.

    If it cannot be asked again, what it gave before is used, and that is logged.

    Args:
        settings: All of them but what the provider gives.

    Raises:
        SettingsError: It cannot be asked, or what it has is not usable.
    """
    secrets = settings.secrets
    with _lock:
        until_s, values = _kept.get(secrets, (float("-inf"), None))
        if values is None or time.monotonic() >= until_s:
            try:
                values = ask_provider(settings)
            except SettingsError as error:
                if values is None:
                    raise
                _LOG.warning("secrets of before are used: %s", error)
            _kept[secrets] = (time.monotonic() + secrets.lifetime_seconds, values)
    return dict(values)


def ask_provider(settings: Settings) -> dict[str, str]:
    """As `provided`, of now.

    Raises:
        SettingsError: As `provided` does.
    """
    name = settings.secrets.provider
    module = import_module(f"market_pipeline.security.providers.{name}")
    try:
        values: dict[str, str] = module.read(settings)
    except SettingsError:
        raise
    except Exception as error:  # of a library: its text may hold what was sent or received
        raise SettingsError(
            [f"provider {name}: it cannot be asked ({type(error).__name__}). Correct its settings."]
        ) from None
    return values


def forget_provided() -> None:
    """Has the provider asked at the next reading of settings, as after a secret was set."""
    _kept.clear()
