from __future__ import annotations

import _thread
import threading
import weakref
from collections.abc import Iterator

import pytest

from market_pipeline.stages.rebuild.prefetch import Background, read_ahead

PATIENCE_SECONDS = 30


@pytest.fixture(autouse=True)
def _no_thread_stays():
    """Whatever a test does with these helpers, no thread of theirs is left after it."""
    before = _thread._count()
    yield
    assert before == _thread._count()


class Source:
    """Numbers from 0, each made when it is asked for; one of them cannot be made."""

    def __init__(self, count: int, bad: int | None = None) -> None:
        self.count, self.bad = count, bad
        self.made: list[int] = []
        self.makers: set[int] = set()
        self.another = threading.Condition()

    def __iter__(self) -> Iterator[int]:
        for number in range(self.count):
            with self.another:
                self.made.append(number)
                self.makers.add(threading.get_ident())
                self.another.notify_all()
            if number == self.bad:
                raise OSError(f"{number} cannot be read")
            yield number

    def until_made(self, number: int) -> bool:
        with self.another:
            return self.another.wait_for(lambda: number in self.made, PATIENCE_SECONDS)


class TestReadAhead:
    def test_in_order_and_by_one_other_thread(self):
        """All items come, in order, and none is made by the thread that takes them."""
        source = Source(20)

        assert list(read_ahead(source)) == list(range(20))
        assert len(source.makers) == 1
        assert threading.get_ident() not in source.makers

    def test_an_item_is_let_go_before_the_next_is_waited_for(self):
        """Of two batches of a day, only the one that is being read is in memory."""
        gone = threading.Event()

        def items() -> Iterator[object]:
            first = Source(0)
            weakref.finalize(first, gone.set)
            yield first
            del first
            yield gone.wait(PATIENCE_SECONDS)

        taken = read_ahead(items())
        next(taken)

        assert next(taken) is True
        assert list(taken) == []

    def test_one_item_ahead_and_no_more(self):
        """While an item is worked on the next is made, and the one after it is not."""
        source = Source(9)
        items = read_ahead(source)
        seen = []
        for number in (0, 1, 2):
            assert next(items) == number
            assert source.until_made(number + 1)
            seen.append(max(source.made))
        items.close()

        assert seen == [1, 2, 3]

    def test_nothing_is_made_before_it_is_asked_for(self):
        """Reading ahead begins with the first item, so what is never iterated starts no thread."""
        source = Source(3)
        items = read_ahead(source)

        assert source.made == []
        items.close()

    def test_without_overlap(self):
        """Told not to overlap, it is the plain iteration in the thread that takes the items."""
        source = Source(5)
        items = read_ahead(source, overlap=False)
        first = next(items)
        made = list(source.made)

        assert (first, made, list(items)) == (0, [0], [1, 2, 3, 4])
        assert source.makers == {threading.get_ident()}

    def test_an_error_comes_where_its_item_would(self):
        """The items before a bad one are all handed out, and then its error is raised."""
        taken: list[int] = []
        with pytest.raises(OSError, match="3 cannot be read"):
            taken.extend(read_ahead(Source(9, bad=3)))
        for number in read_ahead(Source(3)):
            taken.append(number)

        assert taken[-3:] == [0, 1, 2]
        source = Source(9, bad=3)
        items = read_ahead(source)
        assert [next(items), next(items), next(items)] == [0, 1, 2]
        with pytest.raises(OSError, match="3 cannot be read"):
            next(items)
        assert max(source.made) == 3

    @pytest.mark.parametrize("taken", [1, 5])
    def test_leaves_no_thread(self, taken):
        """Neither after the last item nor when somebody stops early does a thread stay."""
        before = _thread._count()
        items = read_ahead(Source(5))
        for _ in range(taken):
            next(items)
        during = _thread._count()
        items.close()

        assert (before + 1, before) == (during, _thread._count())


class TestBackground:
    def test_one_after_the_other_in_another_thread(self):
        """Jobs run in the order they were added in, by one thread that is gone at the end."""
        done: list[tuple[int, int]] = []
        with Background() as background:
            for number in range(50):
                background.add(lambda n: done.append((n, threading.get_ident())), number)
            background.settle()
            settled = len(done)

        assert settled == 50
        assert [number for number, _ in done] == list(range(50))
        assert {maker for _, maker in done}.isdisjoint({threading.get_ident()})

    def test_add_waits_while_enough_is_waiting(self):
        """Adding a third job returns only when the first is done: what they hold is bounded."""
        may_end, added = threading.Event(), threading.Event()
        with Background() as background:

            def add_a_third() -> None:
                background.add(lambda: None)
                added.set()

            background.add(may_end.wait, PATIENCE_SECONDS)
            background.add(lambda: None)
            adder = threading.Thread(target=add_a_third)
            adder.start()
            early = added.wait(0.05)
            may_end.set()
            late = added.wait(PATIENCE_SECONDS)
            adder.join()

        assert (early, late) == (False, True)

    def test_without_overlap(self):
        """Told not to overlap, each job is done, or has failed, when `add` returns."""
        done: list[int] = []
        with Background(overlap=False) as background:
            background.add(lambda: done.append(threading.get_ident()))
            with pytest.raises(ZeroDivisionError):
                background.add(lambda: 1 // 0)
            background.settle()

        assert done == [threading.get_ident()]

    @pytest.mark.parametrize("more", [0, 5])
    def test_an_error_is_raised_later(self, more):
        """What a job raises comes out of a later `add`, at the latest of `settle`."""

        def full() -> None:
            raise OSError(28, "No space left on device")

        with Background() as background:
            background.add(full)
            with pytest.raises(OSError, match="No space left"):
                for _ in range(more):
                    background.add(lambda: None)
                background.settle()

    def test_leaving_early_drops_what_waits(self):
        """When the block raises, the job under way ends and the one behind it never begins."""
        begun, may_end = threading.Event(), threading.Event()
        ran: list[str] = []

        def first() -> None:
            begun.set()
            may_end.wait(PATIENCE_SECONDS)
            ran.append("first")

        with pytest.raises(ZeroDivisionError), Background() as background:
            background.add(first)
            background.add(ran.append, "later")
            assert begun.wait(PATIENCE_SECONDS)
            threading.Timer(0.05, may_end.set).start()
            raise ZeroDivisionError

        assert ran == ["first"]
