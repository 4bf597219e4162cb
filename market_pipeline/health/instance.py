"""What Dagster's instance says of itself: daemons, and the schedules and sensors that were ever on.

It is asked in a process of its own: Dagster's libraries take a second to load, and whatever is
wrong with them or the instance is to be a finding. That process imports this module for its types,
so no library of data may be imported here.
"""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec

__all__ = ["Automation", "Instance", "dagster_instance"]

_STATE_MODULE = "market_pipeline.defs.instance_state"
_LONGEST_SECONDS = 60.0


class Automation(msgspec.Struct):
    """A schedule or a sensor that was ever on.

    Attributes:
        name: As in the UI.
        is_sensor: Whether it is a sensor.
        is_on: Whether it is to tick.
        ticked_s: When it last did, Unix time; null if never.
        error: Why that tick failed; empty if it did not.
    """

    name: str
    is_sensor: bool
    is_on: bool
    ticked_s: float | None
    error: str


class Instance(msgspec.Struct):
    """The daemons by name with the Unix time of their last heartbeat, and the automations."""

    daemons: dict[str, float]
    automations: list[Automation]


def dagster_instance(home: str) -> Instance | str:
    """The state of the instance of a DAGSTER_HOME, or in words why there is none."""
    try:
        ended = subprocess.run(
            [sys.executable, "-m", _STATE_MODULE],
            env=os.environ | {"DAGSTER_HOME": home},
            capture_output=True,
            text=True,
            timeout=_LONGEST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it does not answer within {_LONGEST_SECONDS:.0f} s"
    except OSError as error:
        return f"no process could be started ({error})"
    if ended.returncode:
        return (ended.stderr.strip().splitlines() or [f"it ended with {ended.returncode}"])[-1]
    try:
        return _instance.decode(ended.stdout.splitlines()[-1])
    except (IndexError, msgspec.DecodeError):
        return f"it answers {ended.stdout[-200:]!r}"


_instance = msgspec.json.Decoder(Instance)
