from __future__ import annotations

import random

from market_pipeline.capture.limits import Backoff, Endpoints, WindowBudget


class TestWindowBudget:
    def test_never_more_than_the_weight_in_a_window(self):
        """Whoever waits as long as asked spends no more than the weight in any window."""
        chance, budget, now_s, spent = random.Random(1), WindowBudget(100, 60.0), 0.0, []
        for _ in range(500):
            weight = chance.choice([1, 20, 50])
            now_s += chance.random() * 5
            now_s += budget.wait_s(weight, now_s)
            budget.spend(weight, now_s)
            spent.append((now_s, weight))
            assert sum(w for at_s, w in spent if at_s > now_s - 60.0 + 1e-6) <= 100

    def test_refusal_closes_it(self):
        """For as long as `Retry-After` says nothing may be spent, whatever is left."""
        budget = WindowBudget(100, 60.0)
        budget.close(120.0, 10.0)
        assert (120.0, 20.0, 0.0) == tuple(budget.wait_s(1, at_s) for at_s in (10.0, 110.0, 130.0))

    def test_weight_that_others_used_counts(self):
        """The venue's own count is taken if it is above ours."""
        budget = WindowBudget(100, 60.0)
        budget.spend(10, 0.0)
        budget.used(95, 0.0)
        assert (0.0, 60.0) == (budget.wait_s(5, 0.0), budget.wait_s(6, 0.0))


class TestBackoff:
    def test_doubles_up_to_the_bound_with_jitter(self):
        """Each wait lies between half its bound and its bound; success begins anew."""
        backoff = Backoff(1.0, 8.0, chance=random.Random(1))
        bounds = [1.0, 2.0, 4.0, 8.0, 8.0]
        waits = [backoff.next_s() for _ in bounds]
        assert all(b / 2 <= wait <= b for wait, b in zip(waits, bounds, strict=True))
        backoff.reset()
        assert backoff.next_s() <= 1.0


class TestEndpoints:
    def test_breaker_leads_to_the_backup_and_back(self):
        """After so many failures in a row the backup is chosen, after its time the primary."""
        endpoints = Endpoints(("a", "b"), 2, 60.0)
        endpoints.failed("a", 0.0)
        endpoints.worked("a")
        endpoints.failed("a", 1.0)
        assert "a" == endpoints.choose(1.0)
        endpoints.failed("a", 2.0)
        assert ("b", False) == (endpoints.choose(2.0), endpoints.is_backup("b", 2.0))
        assert ("a", True) == (endpoints.choose(62.0), endpoints.is_backup("b", 62.0))

    def test_one_that_does_not_answer_is_left_at_once(self):
        """One failure to answer leads to the backup, where there is one."""
        endpoints = Endpoints(("a", "b"), 3, 60.0)
        assert endpoints.has_other("a", 0.0)
        endpoints.unreachable("a", 0.0)
        assert ("b", False) == (endpoints.choose(1.0), endpoints.has_other("b", 1.0))
        assert "a" == endpoints.choose(61.0)

    def test_all_open(self):
        """With every breaker open the one that closes first is tried."""
        endpoints = Endpoints(("a", "b"), 1, 60.0)
        endpoints.failed("b", 0.0)
        endpoints.failed("a", 1.0)
        assert "b" == endpoints.choose(2.0)
