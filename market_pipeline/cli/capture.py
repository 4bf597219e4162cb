"""`market-pipeline capture`: records a venue live, or replays a record, and shows how it goes."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from queue import Full, Queue
from typing import TYPE_CHECKING, Annotated

import typer

from market_pipeline.cli.options import AsJson
from market_pipeline.cli.output import (
    bytes_text,
    console,
    errors_console,
    say_if_kernels_compile,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from market_pipeline.alerts.capture import CaptureAlerts
    from market_pipeline.capture.figures import StatusFigures
    from market_pipeline.capture.recorder import Recorder
    from market_pipeline.capture.replay import Replay
    from market_pipeline.capture.status import SinkStatus, Status, StreamStatus
    from market_pipeline.config.settings import Settings
    from market_pipeline.warehouse.heartbeats import Sign

__all__ = ["capture"]

_STYLES = {"info": "", "warning": "yellow", "error": "red"}
_PLAIN_EVERY_S = 10.0
_WAITING_LINES, _END_S = 1_000, 5.0
_LOOK_S = 5.0
"""Missing frames are looked for so often, however rarely the state is shown."""


def capture(
    venue: Annotated[str | None, typer.Option(help="The venue, such as binance_spot.")] = None,
    symbol: Annotated[
        list[str] | None, typer.Option(help="A symbol as the venue spells it; may be repeated.")
    ] = None,
    stream: Annotated[
        list[str] | None, typer.Option(help="A kind of stream, such as depth; may be repeated.")
    ] = None,
    redundancy: Annotated[
        int | None, typer.Option(help="Connections that receive the same streams.")
    ] = None,
    sink: Annotated[
        list[str] | None,
        typer.Option(
            help="Where bars, best quotes and metrics go, such as jsonl; may be repeated."
        ),
    ] = None,
    replay: Annotated[
        list[Path] | None,
        typer.Option(exists=True, help="Recorded files or folders to replay; nothing is recorded."),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(min=0.001, help="Of a replay: 1 as received; without it as fast as possible."),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="End after so long; without it when stopped.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Record streams of a venue as they come, until Ctrl-C or SIGTERM; or replay what was recorded.

    A replay makes books, bars and rows for the sinks again, and records nothing.

    Exit code 0: ended as asked, and no message is known to be missing. 1: ended as asked, with
    gaps. 2: it could not start, or could not go on.
    """
    from market_pipeline.config.current import CurrentSettings
    from market_pipeline.config.settings import load_settings

    flags = {"venue": venue, "symbols": symbol, "streams": stream, "redundancy": redundancy}
    if replay and any(flags.values()):
        text = "recorded files say what they are of"
        raise typer.BadParameter(text, param_hint="--replay")
    flags["sinks"] = sink
    read = partial(
        load_settings, **{f"capture__{name}": each for name, each in flags.items() if each}
    )
    settings = read()
    if replay or settings.capture.venue == "simulated":
        gaps = _replayed(settings, replay, speed, seconds, as_json=as_json)
    elif speed is not None:
        raise typer.BadParameter("a venue has its own speed", param_hint="--speed")
    else:
        gaps = _recorded(CurrentSettings(settings, read), seconds, as_json=as_json)
    raise typer.Exit(1 if gaps else 0)


def _recorded(current: Callable[[], Settings], seconds: float | None, *, as_json: bool) -> int:
    """Records; how many gaps there are."""
    from market_pipeline.alerts.capture import CaptureAlerts
    from market_pipeline.capture.derived import derived_part
    from market_pipeline.capture.figures import StatusFigures
    from market_pipeline.capture.files import recording_files
    from market_pipeline.capture.kernels import load_kernels
    from market_pipeline.capture.recorder import Recorder, recorded_venue
    from market_pipeline.telemetry.metrics.recording import begin
    from market_pipeline.warehouse.heartbeats import Sign
    from market_pipeline.warehouse.layout import Warehouse

    settings = current()
    recorded = recorded_venue(settings.capture)
    with CaptureAlerts(current, recorded.exchange) as alerts, recording_files(current) as files:
        view = _View(console(), errors_console(), settings.data_dir, as_json=as_json)
        derived = derived_part(settings, recorded, view.report)
        if derived is not None:
            say_if_kernels_compile(errors_console())
            load_kernels(with_metrics=bool(settings.capture.sinks))
        recorder = Recorder(settings.capture, files, report=view.report, derived=derived)
        sign = Sign(Warehouse(settings.data_dir), f"capture-{recorded.exchange}")
        reports = _Reports(alerts, sign, StatusFigures(recorded.exchange))
        begin(settings, "capture")
        asyncio.run(_record(recorder, view, reports, seconds, settings.capture.status_seconds))
        sign.stop()
        reports.ended()
    if view.is_stuck:  # at its end the interpreter would wait for whoever is to read the output
        os._exit(1 if recorder.status.gaps else 0)
    return recorder.status.gaps


def _replayed(
    settings: Settings,
    places: list[Path] | None,
    speed: float | None,
    seconds: float | None,
    *,
    as_json: bool,
) -> int:
    """Replays files, or without any a day of the simulated venue; how many gaps there are."""
    from market_pipeline.capture.derived import derived_part
    from market_pipeline.capture.replay import Replay, recorded, recorded_settings
    from market_pipeline.capture.simulated import SIMULATED, simulated_day, simulated_settings
    from market_pipeline.sources.recording.check import find_recordings
    from market_pipeline.sources.recording.reader import Damage

    view = _View(console(), errors_console(), settings.data_dir, as_json=as_json)

    def passed_over(damage: Damage) -> None:
        where = f"{damage.path}, byte {damage.offset}: {damage.found}"
        view.report("warning", f"passed over: {where}")

    if places:
        files = find_recordings(places)
        chosen, venue = recorded_settings(settings, files)
        records = recorded(files, passed_over)
    else:
        chosen, venue = simulated_settings(settings), SIMULATED
        records = simulated_day(chosen.capture.symbols)
    derived = derived_part(chosen, venue, view.report)
    assert derived is not None  # a replay is nothing else
    source = Replay(
        records, chosen.capture, venue, report=view.report, derived=derived, speed=speed
    )
    asyncio.run(_record(source, view, None, seconds, settings.capture.status_seconds))
    return source.status.gaps


async def _record(
    recorder: Recorder | Replay,
    view: _View,
    reports: _Reports | None,
    seconds: float | None,
    every_s: float,
) -> None:
    """Runs until a signal, or the end of time or record, and shows and watches the state."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as with nohup
            loop.add_signal_handler(number, stop.set)
    if seconds is not None:
        loop.call_later(seconds, stop.set)
    task = asyncio.create_task(recorder.run(stop))
    frames, shown_s = 0, time.monotonic()
    with view:
        while not task.done():
            await asyncio.wait({task}, timeout=min(every_s, _LOOK_S))
            now_s = time.monotonic()
            recorder.refresh(now_s - shown_s, frames)
            if reports is not None:
                await reports.look(recorder.status)
            if task.done() or now_s - shown_s >= every_s:
                frames, shown_s = recorder.status.frames, now_s
                view.show(recorder.status, last=task.done())
            if reports is not None:
                reports.record(recorder.status, last=task.done())
    try:
        await task
    except Exception as error:
        if reports is not None:
            reports.alerts.ended(error)
        raise


class _Reports:
    """What is reported of a recording besides its view: alerts, its heartbeat, and its figures."""

    def __init__(self, alerts: CaptureAlerts, sign: Sign, figures: StatusFigures) -> None:
        self.alerts, self._sign, self._figures = alerts, sign, figures
        self._recorded_s = float("-inf")
        sign.beat()  # before a file is open: with the sign of one that was killed it would hang

    async def look(self, status: Status) -> None:
        """Takes the state for alerts, and beats when that is due."""
        import msgspec

        self.alerts.look(status)
        if self._sign.is_due:
            await asyncio.to_thread(self._sign.beat, msgspec.json.encode(status))

    def record(self, status: Status, *, last: bool) -> None:
        """Records the figures of the state when they are due, and at the end."""
        from market_pipeline.capture.figures import EVERY_S

        if last or time.monotonic() - self._recorded_s >= EVERY_S:
            self._recorded_s = time.monotonic()
            self._figures.look(status)

    def ended(self) -> None:
        """Records that the recording has ended as it was asked to."""
        self._figures.ended()


class _View:
    """A table that stays in place on a terminal, and lines elsewhere.

    Printed by a thread of its own: a terminal or a pipe that takes nothing keeps nobody from
    recording, and neither does one that is gone. What it has no time for is left out.
    """

    def __init__(self, out: Console, errors: Console, folder: Path, *, as_json: bool) -> None:
        from rich.live import Live

        self._out, self._errors, self._folder, self._as_json = out, errors, folder, as_json
        self._live = Live(console=out) if out.is_terminal and not as_json else None
        self._printed_s = float("-inf")
        self._waiting: Queue[Callable[[], object] | None] = Queue(_WAITING_LINES)
        self._thread = threading.Thread(target=self._print, name="view", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._say(None)
        self._thread.join(_END_S)

    @property
    def is_stuck(self) -> bool:
        """Whether nobody takes the output, so that what there is could not be printed."""
        return self._thread.is_alive()

    def report(self, level: str, text: str) -> None:
        """Prints what happened, on standard error, and has the log say it."""
        from market_pipeline.telemetry.logs.process_log import LEVELS, note

        note(LEVELS[level], __name__, text)
        line = f"{level}: {text}"
        self._say(lambda: self._errors.print(line, style=_STYLES[level], soft_wrap=True))

    def show(self, status: Status, *, last: bool) -> None:
        """Shows the state: each time on a terminal or as JSON, else every 10 s and at the end."""
        import msgspec

        status.free_bytes = _free_bytes(self._folder)
        if self._as_json:
            line = msgspec.json.encode(status).decode()
            self._say(lambda: typer.echo(line))
        elif self._live is not None:
            live, table = self._live, _table(status)
            self._say(lambda: live.update(table))
        elif last or time.monotonic() - self._printed_s >= _PLAIN_EVERY_S:
            self._printed_s = time.monotonic()
            lines = [_line(status)]
            lines += [f"  {name}: {_seconds_text(each)}" for name, each in status.streams.items()]
            self._say(lambda: self._out.print("\n".join(lines), soft_wrap=True))

    def _say(self, what: Callable[[], object] | None) -> None:
        with suppress(Full):
            self._waiting.put_nowait(what)

    def _print(self) -> None:
        with self._live or nullcontext():
            while (what := self._waiting.get()) is not None:
                with suppress(OSError):  # whoever read it has ended
                    what()


def _free_bytes(folder: Path) -> int:
    """What the disk has left, also where somebody has removed the folder."""
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    return shutil.disk_usage(there).free


def _line(status: Status) -> str:
    lag = "" if status.lag_p99_ms is None else f", lag p99 {status.lag_p99_ms:.1f} ms"
    offset = "" if status.offset_ms is None else f", clock {status.offset_ms:+.1f} ms"
    share = status.verified_share
    verified = "" if share is None else f", {100 * share:.2f} % verified"
    return (
        f"{status.connections} of {status.links} connections, {status.frames:,} frames, "
        f"{status.frames_per_second:,.0f}/s{lag}, {status.waiting:,} waiting, "
        f"{status.gaps} gaps{verified}{offset}, {bytes_text(status.free_bytes)} free"
        + (f", {status.derived_dropped:,} left out of books" if status.derived_dropped else "")
        + "".join(f", sink {name}: {_sink_text(each)}" for name, each in status.sinks.items())
        + (f", OFF: {', '.join(status.switched_off)}" if status.switched_off else "")
        + (f", DISK: {status.disk}" if status.disk else "")
    )


def _sink_text(sink: SinkStatus) -> str:
    dropped = f", {sink.dropped:,} batches dropped" if sink.dropped else ""
    failed = f", {sink.failures:,} failed" if sink.failures else ""
    commits = f" in {sink.commits:,} commits" if sink.commits else ""
    left = f", {sink.left_out:,} rows left out" if sink.left_out else ""
    return (
        f"{sink.written:,} rows{commits}{failed}{left}, {sink.waiting:,} batches waiting{dropped}"
    )


def _seconds_text(stream: StreamStatus) -> str:
    book = f"book {stream.book}, " if stream.book else _klines_text(stream)
    return book + ", ".join(
        f"{name} {seconds:,.1f} s"
        for name, seconds in (
            ("verified", stream.verified_s),
            ("unverifiable", stream.unverifiable_s),
            ("gap", stream.gap_s),
            ("downtime", stream.downtime_s),
        )
    )


def _klines_text(stream: StreamStatus) -> str:
    if not stream.klines_equal + stream.klines_different:
        return ""
    return f"klines {stream.klines_equal:,} equal, {stream.klines_different:,} different, "


def _table(status: Status) -> Table:
    from rich.table import Table

    table = Table(title=_line(status), title_justify="left")
    table.add_column("stream", no_wrap=True)
    seconds = ("verified s", "unverifiable s", "gap s", "downtime s")
    for name in ("frames", "messages", "filled", "gaps", *seconds, "age s"):
        table.add_column(name, justify="right")
    table.add_column("book or klines")
    table.add_column("silence")
    for name, stream in status.streams.items():
        ns = stream.last_wall_ns
        age = "" if ns is None else f"{(status.wall_ns - ns) / 1e9:,.1f}"
        numbers = (stream.frames, stream.messages, stream.filled, stream.gaps)
        times = (stream.verified_s, stream.unverifiable_s, stream.gap_s, stream.downtime_s)
        table.add_row(
            name,
            *(f"{each:,}" for each in numbers),
            *(f"{each:,.1f}" for each in times),
            age,
            stream.book or _klines_text(stream).removeprefix("klines ").rstrip(", "),
            stream.silence,
        )
    return table
