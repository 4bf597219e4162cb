"""What the trials of an attack gave, as lines of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from market_pipeline_tests.detection.faults import CASES
from market_pipeline_tests.detection.trial import Trial

__all__ = ["by_class", "summary", "table", "unshown"]

KEPT_SHARE = 0.99
"""A fault that leaves the book to be rebuilt right should cost no more of the valid rows."""


def summary(trials: Sequence[Trial]) -> str:
    """The totals of all trials, a line each; where all rows are another day's, apart."""
    everything, trials = trials, [each for each in trials if not unshown(each)]
    valid, wrong = (sum(getattr(each, name) for each in trials) for name in ("valid", "wrong"))
    inside = sum(each.bbo.inside + each.depth.inside for each in trials)
    apart = [each for each in everything if unshown(each)]
    lines = [
        f"{len(everything)} cases of {len({each.fault for each in everything})} faults "
        f"in {len({each.base for each in everything})} days",
        f"of these all rows are another day's or instrument's, which nothing in the day can show: "
        f"{len(apart)}, with {sum(each.wrong for each in apart):,} rows that are not counted below",
        f"valid rows: {valid:,}",
        f"wrong valid rows: {wrong:,} ({inside:,} inside of intervals, {wrong - inside:,} outside; "
        f"{sum(each.bbo.wrong for each in trials):,} in books.bbo, "
        f"{sum(each.depth.wrong for each in trials):,} in books.depth), "
        f"in {sum(each.wrong > 0 for each in trials)} cases",
        f"silent wrong rows: {sum(each.silent for each in trials):,} "
        f"in {sum(each.silent > 0 for each in trials)} cases",
        "wrong rows called verified: "
        f"{sum(each.bbo.verified + each.depth.verified for each in trials):,}",
        f"valid rows outside the UTC day: "
        f"{sum(each.bbo.other_day + each.depth.other_day for each in trials):,}",
        f"available and should not be: {sum(each.wrongly_available for each in trials)}",
        f"crashed: {sum(each.crashed is not None for each in trials)}",
        "verdicts of the other instrument that are lost or changed: "
        f"{sum(each.neighbour != 'as before' for each in trials)}",
        f"more than a second claimed that nothing covers: "
        f"{sum(each.overclaimed_seconds > 1 for each in trials)} cases, "
        f"{sum(each.overclaimed_seconds for each in trials):,.0f} s",
        f"harmless faults that cost more than {1 - KEPT_SHARE:.0%} of the valid rows: "
        f"{sum(_is_harmless(each) and each.kept < KEPT_SHARE for each in trials)} "
        f"of {sum(_is_harmless(each) for each in trials)}",
    ]
    return "\n".join(f"- {line}" for line in lines)


def unshown(trial: Trial) -> str:
    """Why nothing in its day could show that all rows are wrong; empty if it could."""
    return CASES[trial.fault].kind.unshown if trial.fault in CASES else ""


def _is_harmless(trial: Trial) -> bool:
    return trial.fault in CASES and CASES[trial.fault].kind.is_harmless


def by_class(trials: Sequence[Trial]) -> Iterable[str]:
    """The lines of a Markdown table, one for each class of faults."""
    yield (
        "| class | cases | valid rows | wrong inside | wrong outside | cases with wrong rows "
        "| silent | silent cases | available and should not be | crashed |"
    )
    yield "|---" * 10 + "|"
    of_class: dict[str, list[Trial]] = {}
    for each in trials:
        name = CASES[each.fault].kind.module if each.fault in CASES else "pairs"
        of_class.setdefault(name, []).append(each)
    for name, some in of_class.items():
        counts = [
            len(some),
            sum(each.valid for each in some),
            sum(each.bbo.inside + each.depth.inside for each in some),
            sum(each.bbo.outside + each.depth.outside for each in some),
            sum(each.wrong > 0 for each in some),
            sum(each.silent for each in some),
            sum(each.silent > 0 for each in some),
            sum(each.wrongly_available for each in some),
            sum(each.crashed is not None for each in some),
        ]
        yield f"| {name.replace('_', ' ')} | {' | '.join(f'{count:,}' for count in counts)} |"


def table(trials: Sequence[Trial]) -> Iterable[str]:
    """The lines of a Markdown table, one for each case, its days together."""
    yield (
        "| fault | found by | valid rows | wrong inside | wrong outside | silent | verified "
        "and wrong | beyond the day | overclaimed s | right rows kept | verdict | neighbour |"
    )
    yield "|---" * 12 + "|"
    for name in dict.fromkeys(each.fault for each in trials):
        yield _line(name, [each for each in trials if each.fault == name])


def _line(name: str, trials: Sequence[Trial]) -> str:
    found = {check: severity for each in trials for check, severity in each.found.items()}
    missed = sum(not each.found for each in trials)
    words = [f"{check} {severity}" for check, severity in found.items()]
    words += [f"nothing ({missed} of {len(trials)})"] if missed else []
    verdicts = dict.fromkeys(
        f"**{each.condition}**" if each.wrongly_available else each.condition for each in trials
    )
    crashes = {each.crashed for each in trials if each.crashed}
    neighbours = {each.neighbour for each in trials} - {"as before"}
    counts = [
        sum(each.valid for each in trials),
        sum(each.bbo.inside + each.depth.inside for each in trials),
        sum(each.bbo.outside + each.depth.outside for each in trials),
        sum(each.silent for each in trials),
        sum(each.bbo.verified + each.depth.verified for each in trials),
        sum(each.bbo.other_day + each.depth.other_day for each in trials),
    ]
    cells = [
        name,
        ", ".join(words),
        *(f"{count:,}" for count in counts),
        f"{sum(each.overclaimed_seconds for each in trials):,.1f}",
        f"{min(each.kept for each in trials):.1%}",
        "; ".join([*verdicts, *crashes]).replace("|", "/"),
        ", ".join(sorted(neighbours)) or "as before",
    ]
    return f"| {' | '.join(cells)} |"
