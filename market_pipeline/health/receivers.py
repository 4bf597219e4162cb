"""Receivers of alerts: what waits for them, and who refuses."""

from __future__ import annotations

from collections.abc import Iterator

from market_pipeline.alerts.outbox import Outbox
from market_pipeline.alerts.targets import configured_targets
from market_pipeline.config.settings import Settings
from market_pipeline.doctor.finding import Finding
from market_pipeline.warehouse.layout import Warehouse

__all__ = ["check_receivers"]

_LONGEST_SECONDS = 900.0
_LOOK = "`market-pipeline alerts receivers` shows each; `alerts test` tries them now."


def check_receivers(settings: Settings, now_s: float) -> Iterator[Finding]:
    """Is there somebody to report to, and has everybody what is to be reported?"""
    names = {target.name for target in configured_targets(settings) if target.kind != "log"}
    if not names:
        yield (
            "warn",
            "no receiver of alerts is named: whatever goes wrong is a line of a log",
            "Set one, such as PIPELINE_ALERT_EMAIL_TO, as docs/alerts.md says.",
        )
        return
    outbox = Outbox(Warehouse(settings.data_dir))
    standings = [each for each in outbox.standings() if each.target in names]
    wrong, is_error = [], False
    for each in standings:
        waits_s = each.oldest_waits_seconds(now_s) or 0.0
        is_late = waits_s > _LONGEST_SECONDS
        is_error |= is_late or each.dead > 0
        if is_late or each.dead or each.failing:
            why = f" ({each.error})" if each.failing else ""
            dead = f", {each.dead:,} are dead letters" if each.dead else ""
            waits = f"{each.waiting:,} wait for up to {waits_s:,.0f} s"
            wrong.append(f"{each.target}: {waits}{dead}{why}")
    if wrong:
        yield "error" if is_error else "warn", "; ".join(wrong), _LOOK
    else:
        yield "ok", f"{len(names)} receivers, and nothing waits long for any"
