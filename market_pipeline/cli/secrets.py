"""`market-pipeline secrets`: the sealed file of secrets, for the provider `sealed`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from market_pipeline.cli.options import AsJson
from market_pipeline.cli.output import console

if TYPE_CHECKING:
    from market_pipeline.security.providers.sealed import SecretFile

__all__ = ["secrets"]

secrets = typer.Typer(
    name="secrets",
    help="Keep secrets in a sealed file, from which PIPELINE_SECRETS__PROVIDER=sealed reads them.",
    no_args_is_help=True,
)
Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="A setting that is a secret, such as PIPELINE_ALERT_SLACK_URLS."
    ),
]
_MAX_CHARACTERS = 60_000


@secrets.command("set")
def set_secret(name: Name) -> None:
    """Put a secret into the file: a line of standard input, or what is typed, which is not shown.

    Exit code 0: it is in the file. 2: wrong usage, no master key, or the file cannot be opened.
    """
    variable = _variable(name)
    if sys.stdin.isatty():
        value = typer.prompt(f"{variable}", hide_input=True, confirmation_prompt=True)
    else:
        value = sys.stdin.read(_MAX_CHARACTERS + 1).rstrip("\r\n")
    if not value or len(value) > _MAX_CHARACTERS:
        raise typer.BadParameter(
            f"expected a value of 1 to {_MAX_CHARACTERS:,} characters on standard input",
            param_hint="NAME",
        )
    _file(name=variable, done="set").set(variable, value)
    console().print(f"{variable} is set.")


@secrets.command("list")
def list_secrets(as_json: AsJson = False) -> None:
    """Show the names of the secrets in the file, and no value.

    Exit code 0: shown. 1: there is none. 2: no master key, or the file cannot be opened.
    """
    names = sorted(_file().values())
    if as_json:
        typer.echo(json.dumps(names, indent=2))
    else:
        console().print("\n".join(names) or "No secret; `market-pipeline secrets set` keeps one.")
    raise typer.Exit(0 if names else 1)


@secrets.command("remove")
def remove(name: Name) -> None:
    """Take a secret out of the file.

    Exit code 0: taken out. 1: it was not there. 2: no master key, or the file cannot be opened.
    """
    variable = _variable(name)
    found = _file(name=variable, done="removed").remove(variable)
    console().print(f"{variable} {'is taken out' if found else 'was not there'}.")
    raise typer.Exit(0 if found else 1)


@secrets.command("rotate")
def rotate() -> None:
    """Seal the file with a new key, as when an old copy of it may be opened by others.

    Exit code 0: done. 2: no master key, or the file cannot be opened.
    """
    file = _file(name="*", done="sealed anew")
    console().print(f"{file.rotate()} opens the file from now on.")


def _file(**changes: str) -> SecretFile:
    """The file; what is to be changed in it is recorded first."""
    from market_pipeline.audit.record import record
    from market_pipeline.config.settings import load_settings
    from market_pipeline.security.providers.sealed import SecretFile

    settings = load_settings(secrets__provider=None)
    file = SecretFile(settings)
    if changes:
        record(settings.data_dir, "secret", changes)
    return file


def _variable(name: str) -> str:
    """The variable of a secret setting, or of a credential of the store.

    Raises:
        typer.BadParameter: It is neither.
    """
    from market_pipeline.config.settings import CREDENTIAL_VARIABLES, ENV_PREFIX, SECRETS

    if name.upper() in CREDENTIAL_VARIABLES:
        return name.upper()
    setting = name.lower().removeprefix(ENV_PREFIX.lower())
    if setting not in SECRETS:
        known = ", ".join([*(f"{ENV_PREFIX}{each.upper()}" for each in sorted(SECRETS))])
        raise typer.BadParameter(
            f"expected one of {known}, {', '.join(CREDENTIAL_VARIABLES)}", param_hint="NAME"
        )
    return f"{ENV_PREFIX}{setting.upper()}"
