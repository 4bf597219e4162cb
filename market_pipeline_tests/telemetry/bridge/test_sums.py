from __future__ import annotations

import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.telemetry import files
from market_pipeline.telemetry.bridge.sums import Bridge
from market_pipeline.telemetry.files import append_line, line_files
from market_pipeline.telemetry.metrics import capture_table

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def line(name: str, kind: str, role: str = "run", temporality: int = 1, **point: object) -> bytes:
    """A line with one point."""
    data = {"dataPoints": [point], "aggregationTemporality": temporality}
    role_of = {"key": "service.instance.id", "value": {"stringValue": role}}
    return (
        msgspec.json.encode(
            {
                "resourceMetrics": [
                    {
                        "resource": {"attributes": [role_of]},
                        "scopeMetrics": [
                            {"scope": {"name": "x"}, "metrics": [{"name": name, kind: data}]}
                        ],
                    }
                ]
            }
        )
        + b"\n"
    )


def values(bridge: Bridge, now_ns: int = 0) -> dict[tuple[str, str], float]:
    """The value of each series, by metric and role."""
    return {
        (name, each.labels["role"]): each.value
        for name, family in bridge.families(now_ns)
        for each in family.series.values()
    }


class TestSums:
    # What happens: a value is written by a role, the bridge reads, it begins anew, a day passes.
    STEPS = st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["run", "capture"]), st.integers(0, 9)),
            st.sampled_from(["read", "restart", "killed", "day"]),
        ),
        max_size=60,
    )

    @settings(max_examples=60)
    @given(steps=STEPS)
    def test_are_what_was_written(self, steps: list[object]):
        """Whenever files are cut and bridges begin anew, nothing counts twice and nothing less."""
        written: Counter[tuple[str, str]] = Counter()
        now = NOON
        with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "MAX_FILE_BYTES", 300)
            folder = Path(name)
            bridge = Bridge(folder)
            for step in steps:
                if isinstance(step, tuple):
                    role, value = step
                    append_line(folder, line("m", "sum", role, asInt=str(value)), now)
                    written["m", role] += value
                elif step == "day":
                    now += timedelta(days=1)
                elif step == "killed":  # half a line; the writer never came to the rest
                    for path in line_files(folder)[-1:]:
                        with path.open("ab") as file:
                            file.write(line("m", "sum", asInt="5")[:20])
                else:
                    bridge = Bridge(folder) if step == "restart" else bridge
                    bridge.update()
                    assert written == values(bridge)
            for last in (bridge, Bridge(folder)):
                last.update()
                assert written == values(last)

    def test_outlive_their_files(self, tmp_path: Path):
        """What a file came to stays after it was removed, also for a bridge that begins anew."""
        append_line(tmp_path, line("m", "sum", asInt="3"), NOON)
        Bridge(tmp_path).update()
        line_files(tmp_path)[0].unlink()
        append_line(tmp_path, line("m", "sum", asInt="4"), NOON + timedelta(days=1))
        again = Bridge(tmp_path)
        again.update()
        assert {("m", "run"): 7} == values(again)

    def test_of_a_damaged_state(self, tmp_path: Path, caplog: pytest.LogCaptureFixture):
        """The files that are there are added up anew, with a warning."""
        append_line(tmp_path, line("m", "sum", asInt="3"), NOON)
        Bridge(tmp_path).update()
        (tmp_path / "bridge.json").write_text("{")
        again = Bridge(tmp_path)
        again.update()
        assert {("m", "run"): 3} == values(again)
        assert "bridge.json cannot be read" in caplog.text


class TestPoints:
    def test_histograms_add_up(self, tmp_path: Path):
        """Counts, sums and buckets are added; with other bounds it begins anew."""
        point = {"count": "2", "sum": 1.5, "bucketCounts": ["1", "1"], "explicitBounds": [1.0]}
        for _ in range(2):
            append_line(tmp_path, line("h", "histogram", **point), NOON)
        bridge = Bridge(tmp_path)
        bridge.update()
        ((_, family),) = bridge.families(0)
        (series,) = family.series.values()
        assert (4, 3.0, [2, 2]) == (series.count, series.value, series.buckets)

        append_line(tmp_path, line("h", "histogram", **point | {"explicitBounds": [2.0]}), NOON)
        bridge.update()
        ((_, family),) = bridge.families(0)
        (series,) = family.series.values()
        assert (2, [2.0]) == (series.count, family.bounds)

    def test_the_newest_value_of_a_gauge(self, tmp_path: Path):
        """A value that is written late does not replace a newer one."""
        for value, time_ns in ((1.0, 10), (3.0, 30), (2.0, 20)):
            point = {"asDouble": value, "timeUnixNano": str(time_ns)}
            append_line(tmp_path, line("g", "gauge", **point), NOON)
        bridge = Bridge(tmp_path)
        bridge.update()
        assert {("g", "run"): 3.0} == values(bridge)

    def test_a_clock_that_was_set_back(self, tmp_path: Path):
        """A gauge follows the clock back, instead of standing still until that is there again."""
        now_ns = time.time_ns()
        for value, time_ns in ((1.0, now_ns + 10**15), (2.0, now_ns)):
            point = {"asDouble": value, "timeUnixNano": str(time_ns)}
            append_line(tmp_path, line("g", "gauge", **point), NOON)
        bridge = Bridge(tmp_path)
        bridge.update()
        assert ({("g", "run"): 2.0}, {"run": now_ns}) == (values(bridge), bridge.last_ns)

    def test_a_sum_too_large(self, tmp_path: Path):
        """What would make a sum infinite is left out: the sums are still kept and served."""
        for value in (1.5e308, 1.5e308, 1.0):
            append_line(tmp_path, line("m", "sum", asDouble=value), NOON)
        bridge = Bridge(tmp_path)
        bridge.update()
        expected = ({("m", "run"): 1.5e308}, 1)
        assert [expected] * 2 == [(values(b), b.unreadable) for b in (bridge, Bridge(tmp_path))]

    def test_a_gauge_that_nobody_renews(self, tmp_path: Path):
        """What was so while a process lived is not shown for ever after its end."""
        name, stale_s = capture_table.CAPTURE_QUEUE.name, capture_table.CAPTURE_QUEUE.stale_s
        point = {"asInt": "7", "timeUnixNano": "1000000000"}
        append_line(tmp_path, line(name, "gauge", "capture", **point), NOON)
        bridge = Bridge(tmp_path)
        bridge.update()
        assert stale_s is not None
        end_ns = int((1 + stale_s) * 1e9)
        assert ([7.0], []) == tuple([*values(bridge, end_ns + n).values()] for n in (0, 1))

    @pytest.mark.parametrize(
        "bad",
        [
            b"not JSON\n",
            b"[]\n",
            line("m", "sum", asInt="5").replace(b"service.instance.id", b"service.name"),
            line("m", "sum", temporality=2, asInt="5"),
            line("m", "sum"),
            line("m", "sum", asInt="x"),
            line("m", "histogram", count="1", bucketCounts=["1"], explicitBounds=[1.0]),
            line("m", "histogram", count="0", bucketCounts=["1", "-1"], explicitBounds=[1.0]),
            line("m", "sum", asInt="9" * 400),
            line("m", "sum", asInt="-5"),
            line("m", "sum", asInt="5", timeUnixNano="9" * 30),
            line("m", "sum", asDouble=1.5).replace(b"1.5", b"1e999"),
            b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
        ],
    )
    def test_what_cannot_be_added(self, tmp_path: Path, bad: bytes):
        """It is counted and passed over; what follows is read."""
        for each in (bad, line("n", "sum", asInt="1")):
            append_line(tmp_path, each, NOON)
        bridge = Bridge(tmp_path)
        bridge.update()
        assert {("n", "run"): 1} == values(bridge)
        assert 1 == bridge.unreadable
