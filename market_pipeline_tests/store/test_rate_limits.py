from __future__ import annotations

import threading
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.store.rate_limits import TokenBucket


class FakeClock:
    """Time in exact fractions of a second that passes only when somebody sleeps."""

    def __init__(self):
        self.now = Fraction(0)

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class ScheduleTwin:
    """The same limit told differently: when the taking that comes next would be due."""

    def __init__(self, per_second):
        self.per_second = Fraction(per_second)
        self.burst_seconds = max(Fraction(1), self.per_second) / self.per_second
        self.due = -self.burst_seconds

    def wait_seconds(self, now, units):
        self.due = max(self.due, now - self.burst_seconds) + units / self.per_second
        return max(Fraction(0), self.due - now)


fractions = st.fractions(min_value=0, max_value=20, max_denominator=8)
rates = st.fractions(min_value=Fraction(1, 8), max_value=50, max_denominator=8)
takings = st.lists(st.tuples(fractions, fractions), max_size=40)


def bucket_of(rate, clock):
    return TokenBucket(rate, clock=clock, sleep=clock.sleep)


@settings(max_examples=30)
@given(rate=rates, takings=takings)
def test_waits_as_its_twin(rate, takings):
    """Every wait, and their sum, is that of a plain schedule of when each taking is due."""
    clock = FakeClock()
    bucket, twin = bucket_of(rate, clock), ScheduleTwin(rate)
    waited = Fraction(0)
    for pause, units in takings:
        clock.now += pause
        expected = twin.wait_seconds(clock.now, units)
        assert expected == bucket.take(units)
        waited += expected
    assert (sum(units for _, units in takings), waited) == (bucket.taken, bucket.blocked_seconds)


@settings(max_examples=30)
@given(rate=rates, takings=takings)
def test_never_more_than_the_rate(rate, takings):
    """In no stretch of time is more let through than a second's worth and the rate times it."""
    clock = FakeClock()
    bucket = bucket_of(rate, clock)
    passed = []
    for pause, units in takings:
        clock.now += pause
        bucket.take(units)
        passed.append((clock.now, units))
    for first, (begin, _) in enumerate(passed):
        # The first of the stretch may have paid its debt before the stretch began.
        after = 0
        for end, units in passed[first + 1 :]:
            after += units
            assert after <= max(1, rate) + rate * (end - begin)


@settings(max_examples=30)
@given(takings=takings)
def test_no_limit(takings):
    """A rate of 0 never makes anybody wait but counts what was taken."""
    clock = FakeClock()
    bucket = bucket_of(0, clock)
    assert all(bucket.take(units) == 0 for _, units in takings)
    assert (sum(units for _, units in takings), 0) == (bucket.taken, bucket.blocked_seconds)


def test_threads():
    """Threads that take at once are due one after the other, and no taking is lost."""
    waits, lock = [], threading.Lock()

    def note(seconds):
        with lock:
            waits.append(seconds)

    bucket = TokenBucket(10.0, clock=lambda: 0.0, sleep=note)
    threads = [threading.Thread(target=bucket.take, args=(5.0,)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each / 2 for each in range(1, 11)] == sorted(waits)
    assert (60.0, sum(waits)) == (bucket.taken, bucket.blocked_seconds)
