"""Prints what Dagster's instance says of itself as JSON: `health.instance` starts it."""

from __future__ import annotations

import sys

import dagster as dg
import msgspec
from dagster._core.scheduler.instigation import InstigatorStatus, TickStatus

from market_pipeline.health.instance import Automation, Instance

__all__ = ["main"]


def main() -> None:
    """Prints the `Instance` of DAGSTER_HOME."""
    with dg.DagsterInstance.get() as instance:
        beats, needed = instance.get_daemon_heartbeats(), instance.get_required_daemon_types()
        daemons = {name: beats[name].timestamp for name in needed if name in beats}
        automations = []
        for state in instance.all_instigator_state():
            ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
            tick = ticks[0] if ticks else None
            error = tick.error if tick and tick.status == TickStatus.FAILURE else None
            automations.append(
                Automation(
                    state.name,
                    state.instigator_type.value == "SENSOR",
                    state.status != InstigatorStatus.STOPPED,
                    None if tick is None else tick.timestamp,
                    "" if error is None else error.message.strip(),
                )
            )
    sys.stdout.buffer.write(msgspec.json.encode(Instance(daemons, automations)))


if __name__ == "__main__":
    main()
