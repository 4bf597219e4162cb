"""`market-pipeline access`: users, a group and modes for a machine that several users share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from market_pipeline.cli.output import console
from market_pipeline.errors import SettingsError

__all__ = ["access"]


def access(
    runner: Annotated[str, typer.Option(help="The user that runs the pipeline.")] = "market-run",
    keeper: Annotated[str, typer.Option(help="The user that keeps the keys.")] = "market-keys",
    key_file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="The keeper's file with the master key."),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Do it; else it is shown.")] = False,
) -> None:
    """Let the group PIPELINE_READERS_GROUP read what is published, and nobody anything else.

    Makes the users and the group that are not there, and gives data folder, DAGSTER_HOME, the
    backup folder and `.env` their owner and modes. What is as it should be is left alone.

    Exit code 0: all is as it should be. 1: something is to be done, and was shown. 2: it could not
    be done, as without root.
    """
    from market_pipeline.audit.record import acting_as, record
    from market_pipeline.config.env_copies import dagster_home
    from market_pipeline.config.settings import ENV_FILE, load_settings
    from market_pipeline.security.access import Roles, changes

    settings = load_settings()
    if settings.readers_group is None:
        raise SettingsError(["readers_group: not set; name the group, such as market-read"])
    roles = Roles(settings.readers_group, runner, keeper)
    others = [Path(home)] if (home := dagster_home()) else []
    others += [settings.backup_folder] if settings.backup_folder else []
    private = {ENV_FILE.absolute(): runner} if ENV_FILE.is_file() else {}
    if key_file is not None:
        private[key_file.absolute()] = keeper
    own_lake = settings.lake_path if settings.store_address is None else None
    if apply:
        acting_as("cli", "access")
        names = {"readers": roles.readers, "runner": runner, "keeper": keeper}
        record(settings.data_dir, "verb", {"verb": "access"} | names)
    out, found = console(), 0
    for change in changes(roles, [settings.data_dir, *others], own_lake, private):
        found += 1
        if apply:
            change.apply()
        out.print(change.text, soft_wrap=True)
    if not found:
        out.print("All is as it should be.")
    raise typer.Exit(1 if found and not apply else 0)
