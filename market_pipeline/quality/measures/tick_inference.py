"""The tick and lot that a day's values show, and whether they changed since the day before.

What is **seen** is the coarsest step that fits the values of a day but for a few outliers, as
`books.step_inference.StepInference` finds it. It may be coarser than the venue's, by chance, if the
values are few: a change from one day to the next is only reported if chance does not explain it.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.scale import Scale
from market_pipeline.books.step_inference import StepInference
from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import MissingDataError
from market_pipeline.quality.profile import Profile
from market_pipeline.quality.words import measured

__all__ = ["LATE_ROWS", "SeenStep", "StepScan", "choose_scales", "seen_step", "step_change"]

# Values that show a step come once in so many rows; without one in 20 times as many the step has
# changed: by chance that happens once in e^20 days.
_CHANCE_FACTOR = 20

LATE_ROWS = 1_000
"""A tick that so many rows do without is not the tick of those rows: the venue changed it during
the day, or a price is wrong. Lots are no such rule: fine sizes may be rare.
"""


@dataclass(frozen=True, slots=True)
class SeenStep:
    """The coarsest step that fits the prices or sizes of a raw table on one day, outliers apart.

    Attributes:
        step: The step.
        settled_rows: So many rows it took until those on the step had shown it.
        rows: Rows in all.
    """

    step: Decimal
    settled_rows: int
    rows: int


class StepScan:
    """Finds the step that is seen, batch by batch, and how soon it was."""

    def __init__(self) -> None:
        self._inference = StepInference()
        self._rows = 0

    def add(self, values: NDArray[np.float64]) -> int | None:
        """Takes a batch of float64 values into account; those that are no price or size show none.

        Rows are counted by values, whatever these are.

        Returns:
            The position of the value that settled the step; None if it is of a batch before. It
            need not be the last one reported: what refined the step can turn out to be an outlier.
        """
        rows = self._rows
        self._rows += values.size
        if not self._inference.add(values):
            return None
        settled = self.settled_rows
        return settled - rows - 1 if settled > rows else None

    @property
    def settled_rows(self) -> int:
        """So many rows it took until those on the step had shown it."""
        return self._inference.settled_rows

    @property
    def seen(self) -> SeenStep | None:
        """What was found; None before the first value above zero."""
        scale = self._inference.scale
        if scale is None:
            return None
        return SeenStep(scale.step, self.settled_rows, self._rows)

    @property
    def before(self) -> Decimal | None:
        """The coarser step before the value that settled it, outliers apart, if any showed."""
        scale = self._inference.before
        return None if scale is None else scale.step


def step_change(
    name: Literal["tick", "lot"], today: SeenStep | None, before: SeenStep | None
) -> str | None:
    """What changed between two days' ticks (or lots), as a part of a sentence; None if nothing did.

    Two days that show different steps need not be of different steps: few values may all be
    multiples of more than the venue's step. A coarser step is believed if that day has 20 times as
    many rows as it took the other day to show the finer one. A finer tick is always reported,
    because no price of the venue's becomes finer by chance.
    """
    if today is None or before is None or today.step == before.step:
        return None
    finer, coarser = sorted((today, before), key=lambda seen: seen.step)
    by_chance = (
        coarser.step % finer.step == 0 and coarser.rows < _CHANCE_FACTOR * finer.settled_rows
    )
    if by_chance and not (name == "tick" and finer is today):
        return None
    values = {"tick": "prices", "lot": "sizes"}[name]
    return (
        f"the {values} show a {name} of {today.step:f}, those of the day before {before.step:f} "
        f"(as of row {finer.settled_rows:,} of the day with the finer one)"
    )


def seen_step(profile: Profile | None, name: Literal["tick", "lot"]) -> SeenStep | None:
    """What a raw table showed by its row of `lake.profiles`; None if it showed none."""
    if profile is None:
        return None
    step, rows = profile.tick_seen, profile.tick_settled_rows
    if name == "lot":
        step, rows = profile.lot_seen, profile.lot_settled_rows
    if step is None:
        return None
    return SeenStep(Decimal(step), measured(rows), measured(profile.rows))


def choose_scales(instrument: Instrument, profile: Profile | None) -> tuple[Scale, Scale]:
    """The tick and the lot of a day: configured, or those that its profile saw.

    Args:
        instrument: Whose.
        profile: Of the table that the book is rebuilt from.

    Raises:
        MissingDataError: One is to be inferred, and the table was not looked through.
    """

    def scale(name: Literal["tick", "lot"], configured: Decimal | Literal["infer"]) -> Scale:
        if configured != "infer":
            return Scale.of(configured)
        if profile is None:
            raise MissingDataError(
                f"The {name} is to be inferred, and the raw tables were not looked through",
                next_step="Materialize raw_profiles of this day, then the books.",
                exchange=instrument.venue,
                symbol=instrument.symbol,
            )
        seen = seen_step(profile, name)
        # A day of nothing but removals shows no lot; any step then represents its sizes, all 0.
        return Scale.of(seen.step if seen else Decimal(1))

    return scale("tick", instrument.tick), scale("lot", instrument.lot)
