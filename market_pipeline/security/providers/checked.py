"""What a provider has, as names and values."""

from __future__ import annotations

from collections.abc import Mapping

from market_pipeline.errors import SettingsError

__all__ = ["refused", "required", "texts"]


def refused(provider: str, setting: str, reason: str) -> SettingsError:
    """The error of a provider that cannot be asked, or of what it has.

    Args:
        provider: Its name.
        setting: The key of the section `secrets` to look at.
        reason: What is wrong, without a full stop, a value or an address.
    """
    variable = f"PIPELINE_SECRETS__{setting.upper()}"
    return SettingsError(
        [f"provider {provider}: {variable}: {reason}. Correct it, or the provider."]
    )


def required(provider: str, setting: str, value: str | None) -> str:
    """The value of a setting that the provider needs.

    Raises:
        SettingsError: It is not set.
    """
    if value is None:
        raise refused(provider, setting, "it is needed and not set")
    return value


def texts(provider: str, values: object) -> dict[str, str]:
    """The names and values that a provider has.

    Raises:
        SettingsError: They are anything else.
    """
    if not isinstance(values, Mapping) or not all(
        isinstance(name, str) and isinstance(value, str) for name, value in values.items()
    ):
        raise refused(provider, "path", "expected names of settings, each with a text")
    return dict(values)
