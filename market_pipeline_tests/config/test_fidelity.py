from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from market_pipeline.config.fidelity import BookAddress, Fidelity
from market_pipeline.config.instruments import load_instruments
from market_pipeline.errors import InstrumentsError


def test_an_address_is_an_instrument_and_perhaps_a_folder():
    """What stands behind the first @ is a data folder; a folder may have one in its name."""
    assert ("A:B", None) == (BookAddress("A:B").instrument, BookAddress("A:B").data_dir)
    other = BookAddress("A:B@data/a@b")
    assert ("A:B", Path("data/a@b")) == (other.instrument, other.data_dir)
    assert Path.home() / "x" == BookAddress("A:B@~/x").data_dir


@pytest.mark.parametrize("golden", ["", "A", "A:", ":B", "@x", "A@x:B"])
def test_what_is_no_address_is_refused(golden: str):
    """A golden book is VENUE:SYMBOL, with or without a folder."""
    with pytest.raises(ValidationError, match="expected VENUE:SYMBOL"):
        Fidelity(golden=golden)


def entry(fidelity: str) -> str:
    return (
        "defaults: {fidelity: {mid_max_ticks: 3}}\n"
        f"instruments:\n  - {{venue: A, symbol: B, source: simulated, fidelity: {fidelity}}}\n"
    )


def test_defaults_are_laid_under_key_by_key(tmp_path: Path):
    """An instrument that names its golden book keeps the bounds of the defaults."""
    file = tmp_path / "instruments.yaml"
    file.write_text(entry("{golden: 'A:B@x', mismatch_share: 0}"))
    (own,) = load_instruments(file)
    assert ("A:B@x", 3.0, 0.0, 0.001) == (
        own.fidelity.golden,
        own.fidelity.mid_max_ticks,
        own.fidelity.mismatch_share,
        own.fidelity.missing_share,
    )


@pytest.mark.parametrize(
    ("fidelity", "text"),
    [
        ("{golden: 'A:B'}", "the instrument itself"),
        ("{golden: 'A:B@x', mismatch: 0}", "unknown key mismatch"),
        ("{mid_rms_ticks: -1}", "fidelity.mid_rms_ticks"),
    ],
    ids=["itself", "unknown", "negative"],
)
def test_what_is_wrong_is_named(tmp_path: Path, fidelity: str, text: str):
    """A day always equals itself; a key or a bound that is none is named with its place."""
    file = tmp_path / "instruments.yaml"
    file.write_text(entry(fidelity))
    with pytest.raises(InstrumentsError, match=text):
        load_instruments(file)
