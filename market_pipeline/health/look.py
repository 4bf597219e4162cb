"""One look at everything that is to be there and to run, in an order from the ground up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from market_pipeline.config.env_copies import dagster_home
from market_pipeline.config.instruments import Instrument, load_instruments
from market_pipeline.config.settings import FIELDS, Settings
from market_pipeline.doctor.finding import Diagnosis, Finding
from market_pipeline.doctor.run import collect
from market_pipeline.health import backup, capture, days, disk, expiry, processes, receivers
from market_pipeline.health.disk import FreeBytes
from market_pipeline.health.expiry import Expiry
from market_pipeline.health.instance import dagster_instance
from market_pipeline.health.report import ExpectedDay, Health
from market_pipeline.quality.intervals import NS_PER_SECOND
from market_pipeline.warehouse.heartbeats import Heartbeat, heartbeats
from market_pipeline.warehouse.layout import Warehouse

__all__ = ["DAYS", "look"]

DAYS = 7
"""So many days that are due are looked at."""


def look(
    settings: Settings,
    problems: Sequence[str],
    samples: Sequence[FreeBytes],
    now_s: float,
    number: int = DAYS,
) -> Health:
    """Finds what is not as it is to be; whatever goes wrong meanwhile is a finding too.

    Args:
        settings: Those that are usable.
        problems: What is not usable in them.
        samples: What disks had left before.
        now_s: Unix time.
        number: So many days that are due are looked at.
    """
    now_ns = round(now_s * NS_PER_SECOND)
    findings = [_of_settings(problems)]
    free: list[FreeBytes] = []
    findings += collect("disk", _disks, settings, samples, now_s, free)
    instruments: list[Instrument] = []
    findings += collect("instruments", _load, settings, instruments)
    expected: list[ExpectedDay] = []
    findings += collect("days", _days, settings, instruments, now_s, number, expected)
    findings += collect("coverage", days.check_coverage, expected)
    beats: list[Heartbeat] = []
    findings += collect("heartbeats", _heartbeats, settings, now_ns, beats)
    captures = capture.statuses(beats)
    findings += collect("capture", capture.check_captures, captures, settings.capture, now_ns)
    findings += collect("clock", capture.check_clock, captures)
    if home := dagster_home():
        instance = dagster_instance(home)
        findings += collect("daemon", processes.check_daemon, instance, now_s)
        findings += collect("sensors", processes.check_automations, instance, settings, now_s)
    findings += collect("receivers", receivers.check_receivers, settings, now_s)
    ends: list[Expiry] = []
    findings += collect("certificates", _certificates, settings, now_s, ends)
    # Each by itself: where one cannot be known, the other is.
    findings += collect("credentials", _session, now_s, ends)
    findings += collect("credentials", _token, settings, now_s, ends)
    backups: list[float] = []
    findings += collect("backup", _backup, settings, now_s, backups)
    ended_s = backups[0] if backups else None
    return Health(now_ns, tuple(findings), tuple(expected), tuple(ends), tuple(free), ended_s)


def _of_settings(problems: Sequence[str]) -> Diagnosis:
    if not problems:
        return Diagnosis("settings", "ok", f"{len(FIELDS)} settings are usable")
    return Diagnosis(
        "settings",
        "error",
        f"{len(problems)} settings are not usable, so nothing of the pipeline starts: "
        + "; ".join(problems),
        "Fix what is listed; `market-pipeline doctor` shows the same.",
    )


def _disks(
    settings: Settings, samples: Sequence[FreeBytes], now_s: float, free: list[FreeBytes]
) -> Iterator[Finding]:
    """Looks at the disks, and hands on what they have left."""
    free += disk.free_bytes(settings, now_s)
    yield from disk.check_disks(samples, free)


def _heartbeats(settings: Settings, now_ns: int, beats: list[Heartbeat]) -> Iterator[Finding]:
    """Looks at the heartbeats, and hands them on."""
    beats += heartbeats(Warehouse(settings.data_dir))
    yield from processes.check_heartbeats(beats, now_ns)


def _certificates(settings: Settings, now_s: float, ends: list[Expiry]) -> Iterator[Finding]:
    yield from expiry.check_bundles(settings)
    ends += expiry.certificates(settings, now_s)
    yield from expiry.check_servers(settings)
    yield from expiry.check_expiries(ends, "certificate", now_s)


def _session(now_s: float, ends: list[Expiry]) -> Iterator[Finding]:
    found = expiry.session_of_store()
    ends += found
    if found:
        yield from expiry.check_expiries(found, "credential", now_s)


def _token(settings: Settings, now_s: float, ends: list[Expiry]) -> Iterator[Finding]:
    known = len(ends)
    ends += expiry.token_for_vault(settings, now_s)
    yield from expiry.check_expiries(ends[known:], "credential", now_s)


def _backup(settings: Settings, now_s: float, backups: list[float]) -> Iterator[Finding]:
    """Looks at the last backup where the settings say how, and hands its time on."""
    if settings.backup_ended is not None:
        backups.append(backup.backup_end(settings.backup_ended))
        yield from backup.check_backup(backups[0], now_s)


def _load(settings: Settings, instruments: list[Instrument]) -> Iterator[Finding]:
    """Is the instruments file usable? Hands its instruments on."""
    instruments += load_instruments(settings.instruments_file)
    yield "ok", f"{len(instruments):,} instruments"


def _days(
    settings: Settings,
    instruments: Sequence[Instrument],
    now_s: float,
    number: int,
    expected: list[ExpectedDay],
) -> Iterator[Finding]:
    if not instruments:
        return  # nobody knows what is expected
    expected += days.expected_days(settings, instruments, now_s, number)
    yield from days.check_days(expected)
