from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from market_pipeline.config.fidelity import Fidelity
from market_pipeline.config.instruments import (
    GapRule,
    InformationBars,
    Instrument,
    Policies,
    load_instruments,
    select_instruments,
)
from market_pipeline.config.thresholds import Thresholds
from market_pipeline.errors import InstrumentsError
from market_pipeline_tests.conftest import REPOSITORY

ONE = "instruments:\n  - {venue: BINANCE, symbol: BTC-USDT, source: crypto_lake}\n"


@pytest.fixture
def load(tmp_path):
    """Load instruments from a text."""

    def load_text(text):
        path = tmp_path / "instruments.yaml"
        path.write_text(text)
        return load_instruments(path)

    return load_text


@pytest.fixture
def problems(load):
    """List the problems of a text that is refused."""

    def problems_of(text):
        with pytest.raises(InstrumentsError) as caught:
            load(text)
        return [line.removeprefix("  - ") for line in caught.value.found.splitlines()[1:]]

    return problems_of


def instrument(**fields):
    """Make a simulated instrument with some fields of its own."""
    return Instrument(**{"venue": "BINANCE", "symbol": "BTC-USDT", "source": "simulated", **fields})


class TestLoad:
    def test_minimal_entry(self, load):
        """Venue, symbol and source suffice; steps are inferred and policies are the defaults."""
        (only,) = load(ONE)
        assert ("BINANCE:BTC-USDT", "crypto_lake", "infer", "infer") == (
            only.id,
            only.source,
            only.tick,
            only.lot,
        )
        assert (Policies(), Thresholds()) == (only.policies, only.thresholds)

    def test_bars_of_equal_activity(self, load):
        """A step or a list of them for each kind, exact and ascending; `defaults` lie under it."""
        (only,) = load(
            """
defaults: {source: simulated, bars: {tick: [5, 2], value: 7}}
instruments:
  - {venue: A, symbol: X, bars: {volume: [0.1, "0.07"], value: []}}
"""
        )
        expected = InformationBars(tick=(2, 5), volume=(Decimal("0.07"), Decimal("0.1")), value=())
        assert expected == only.bars

    @pytest.mark.parametrize(
        ("bars", "problem"),
        [
            ("tick: [0]", "bars.tick.0: must be greater than or equal to 1; found 0"),
            ("tick: yes", "bars.tick.0: expected a number but it is a true/false value; found"),
            ("tick: [3, 3]", "bars.tick: expected each step once; found [3, 3]"),
            ("volume: -1", "bars.volume.0: expected a positive number such as 0.01; found -1"),
            ("values: 1", "bars: unknown key values; did you mean value?"),
        ],
    )
    def test_no_bars(self, problems, bars, problem):
        """A step that is none is refused with its place."""
        text = ONE.replace("crypto_lake}", f"crypto_lake, bars: {{{bars}}}}}")
        (found,) = problems(text)
        assert problem in found

    def test_order_of_the_file(self, load):
        """Instruments come in the order of the file."""
        text = ONE + "  - {venue: AAA, symbol: A, source: simulated}\n"
        assert ["BINANCE:BTC-USDT", "AAA:A"] == [each.id for each in load(text)]

    def test_defaults_lie_under_entries_key_by_key(self, load):
        """An entry's own keys win, and only those: the others come from `defaults`."""
        first, second = load(
            """
defaults:
  source: crypto_lake
  policies: {resync: always, crossed_resync_seconds: 5}
  thresholds: {gap_warn_seconds: 3}
instruments:
  - {venue: A, symbol: X, policies: {crossed_resync_seconds: 1}, thresholds: {skew_warn_ms: 9}}
  - {venue: A, symbol: Y, source: simulated}
"""
        )
        assert Policies(resync="always", crossed_resync_seconds=1) == first.policies
        assert Thresholds(gap_warn_seconds=3, skew_warn_ms=9) == first.thresholds
        assert ("simulated", Policies(resync="always", crossed_resync_seconds=5)) == (
            second.source,
            second.policies,
        )

    def test_example_file(self):
        """The example file is valid and holds more than one venue."""
        loaded = load_instruments(REPOSITORY / "instruments.example.yaml")
        assert {"BINANCE", "BINANCE_FUTURES", "BINANCE_DELIVERY"} == {e.venue for e in loaded}

    def test_json_round_trip(self, load):
        """An instrument survives JSON, so that its parameters can be recorded and compared."""
        before = instrument(tick="0.10", thresholds=Thresholds(gap_warn_seconds=2))
        assert before == Instrument.model_validate_json(before.model_dump_json())


class TestRefusal:
    def test_all_problems_at_once(self, load, tmp_path):
        """One error names the file and every problem in it with its place."""
        with pytest.raises(InstrumentsError) as caught:
            load(
                """
defaults: {sources: crypto_lake}
instrument: []
instruments:
  - {venue: binance, symbol: BTC-USDT, source: crypto_lake, tik: 1}
  - {venue: BINANCE, symbol: BTC-USDT, thresholds: {gap_eror_share: 1}}
  - just text
"""
            )
        assert str(tmp_path / "instruments.yaml") == caught.value.file
        lines = [line.removeprefix("  - ") for line in caught.value.found.splitlines()[1:]]
        assert [
            "unknown key instrument; did you mean instruments?",
            "defaults: unknown key sources; did you mean source?",
            "instruments[0] (binance:BTC-USDT).venue: expected upper-case letters, digits and _ "
            "(at most 64), such as BINANCE_FUTURES; found 'binance'",
            "instruments[0] (binance:BTC-USDT): unknown key tik; did you mean tick?",
            "instruments[1] (BINANCE:BTC-USDT).thresholds: unknown key gap_eror_share; "
            "did you mean gap_error_share?",
            "instruments[2]: expected keys and values such as `venue: BINANCE`",
        ] == lines

    def test_duplicate(self, problems):
        """The same venue and symbol twice is refused."""
        line = ONE.splitlines()[1]
        (problem,) = problems(f"{ONE}{line}\n")
        assert problem.endswith("the same instrument is already instruments[0]")

    def test_key_given_twice(self, problems):
        """A second `instruments:` does not silently replace the first."""
        (problem,) = problems(ONE + ONE)
        assert "the key instruments is given twice (line 3, column 1)" in problem

    @pytest.mark.parametrize(
        "text", ["", "instruments:\n", "instruments: []\n", "instruments: {a: 1}\n", "defaults: {}"]
    )
    def test_no_instrument(self, problems, text):
        """A file without instruments is refused."""
        assert "instruments: expected a list of at least one instrument" in problems(text)

    @pytest.mark.parametrize("text", ["instruments: [", "- a\n", "'", "a: \0"])
    def test_not_usable_yaml(self, problems, text):
        """A file that is not YAML of keys and values is one problem."""
        assert 1 == len(problems(text))

    def test_defaults_that_are_no_mapping(self, problems):
        """`defaults:` with nothing below it is refused, and the entries are still validated."""
        first, second = problems("defaults:\ninstruments:\n  - {venue: A, symbol: b}\n")
        assert first.startswith("defaults: must be ")
        assert second.startswith("instruments[0] (A:b).symbol: ")

    def test_missing_file(self, tmp_path):
        """A missing file is an InstrumentsError that names it."""
        with pytest.raises(InstrumentsError, match="does not exist") as caught:
            load_instruments(tmp_path / "no.yaml")
        assert str(tmp_path / "no.yaml") == caught.value.file

    @pytest.mark.parametrize("text", ["NO", "1000", "null", "1.5"])
    def test_symbol_that_yaml_reads_as_something_else(self, problems, text):
        """A symbol that YAML takes for a truth value or a number asks for quotes."""
        entry = f"{{venue: A, symbol: {text}, source: simulated}}"
        (problem,) = problems(f"instruments:\n  - {entry}\n")
        assert "must be a valid string; put it in quotes" in problem

    def test_missing_key(self, problems):
        """A key that every entry needs is named."""
        (problem,) = problems("instruments:\n  - {venue: A, symbol: B}\n")
        assert "instruments[0] (A:B).source: expected a value" in problem


class TestNames:
    @pytest.mark.parametrize("venue", ["BINANCE", "BINANCE_FUTURES", "OKX2"])
    @pytest.mark.parametrize("symbol", ["BTC-USDT-PERP", "1INCH-USDT", "BTC_USD.P"])
    def test_accepted(self, venue, symbol):
        """Upper-case names of the lake are accepted and make the id."""
        assert f"{venue}:{symbol}" == instrument(venue=venue, symbol=symbol).id

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "btc",
            "A/B",
            "..",
            "A..B",
            ".A",
            "-A",
            "A B",
            "A:B",
            "A\n",
            "Ä",
            "A" * 65,
            "A=B",
            "*",
        ],
    )
    def test_refused(self, name):
        """A name that is not safe in a path, or not as the lake spells it, is refused."""
        with pytest.raises(ValidationError):
            instrument(symbol=name)
        with pytest.raises(ValidationError):
            instrument(venue=name)

    def test_venue_has_no_dash(self):
        """A dash belongs to symbols only."""
        with pytest.raises(ValidationError):
            instrument(venue="BINANCE-FUTURES")


class TestSteps:
    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ("0.1", "0.1"),
            ("'0.1'", "0.1"),
            ("1", "1"),
            ("1e-8", "1E-8"),
            ("0.00000001", "1E-8"),
            ("100", "100"),
            ("0.000000000000001", "1E-15"),
            ("9223372036854775807", "9223372036854775807"),
        ],
    )
    def test_exact(self, load, written, expected):
        """A step is the decimal as written, in quotes or not."""
        entry = f"{{venue: A, symbol: B, source: simulated, tick: {written}, lot: {written}}}"
        (only,) = load(f"instruments:\n  - {entry}\n")
        assert (Decimal(expected), Decimal(expected)) == (only.tick, only.lot)

    @pytest.mark.parametrize(
        "value",
        [
            0, -1, "0", "-0.1", "nan", "inf", float("nan"), float("inf"), True, None, "", "abc",
            [], "INFER", "1e-16", "0.1234567890123456", "1e999999999", "1e-999999999",
            "9223372036854775808", "9223372036854775807.5", "10000000000.000000001",
        ],
    )  # fmt: skip
    def test_refused(self, value):
        """Not positive, not finite, more than 15 decimals or too large for int64 is refused."""
        with pytest.raises(ValidationError):
            instrument(tick=value)

    @settings(max_examples=60, deadline=None)
    @given(digits=st.integers(1, 10**9), decimals=st.integers(0, 9))
    def test_float_without_noise(self, digits, decimals):
        """A float of a short decimal becomes exactly that decimal."""
        exact = Decimal(digits).scaleb(-decimals)
        assert exact == instrument(tick=float(exact)).tick


class TestModels:
    @pytest.mark.parametrize(
        "fields",
        [
            {"gap_error_share": 1.1},
            {"precision_error_count": -1},
            {"precision_error_count": 0.5},
            {"skew_warn_ms": float("inf")},
            {"gap_warn_seconds": "1"},
        ],
    )
    def test_threshold_outside_its_range(self, fields):
        """A threshold that could never be met, or is no number, is refused."""
        with pytest.raises(ValidationError):
            Thresholds(**fields)

    @pytest.mark.parametrize("fields", [{"silence_quantile": 1.0}, {"silence_factor": 0.0}])
    def test_gap_rule_outside_its_range(self, fields):
        """So is a gap rule by which every time would be a gap, or none."""
        with pytest.raises(ValidationError):
            GapRule(**fields)

    def test_immutable(self):
        """Instruments, policies and thresholds cannot be changed."""
        only = instrument()
        for part, name in [(only, "venue"), (only.policies, "resync"), (only.thresholds, "x")]:
            with pytest.raises(ValidationError):
                setattr(part, name, "never")

    def test_documented(self):
        """docs/instruments.md holds every key with its default and meaning."""
        text = (REPOSITORY / "docs" / "instruments.md").read_text()
        for model in (Policies, Thresholds, Fidelity):
            for name, field in model.model_fields.items():
                assert f"| `{name}` | `{field.default}` | {field.description} |" in text
        for name, field in InformationBars.model_fields.items():
            default = ", ".join(f"`{step}`" for step in field.default) or "none"
            assert f"| `{name}` | {default} | {field.description} |" in text
        assert all(f"| `{name}` |" in text for name in Instrument.model_fields)


class TestSelect:
    CONFIGURED = (instrument(symbol="A"), instrument(symbol="B"), instrument(symbol="C"))

    def test_none_means_all(self):
        """No ids select every instrument."""
        assert self.CONFIGURED == select_instruments(self.CONFIGURED, [])

    def test_order_of_the_file(self):
        """The selection keeps the file's order and takes an id given twice once."""
        chosen = select_instruments(self.CONFIGURED, ["BINANCE:C", "BINANCE:A", "BINANCE:C"])
        assert (self.CONFIGURED[0], self.CONFIGURED[2]) == chosen

    def test_unknown(self):
        """An unknown id is refused with those that exist."""
        with pytest.raises(InstrumentsError) as caught:
            select_instruments(self.CONFIGURED, ["BINANCE:A", "BINANCE:Z", "A"])
        assert ("A, BINANCE:Z", "one of BINANCE:A, BINANCE:B, BINANCE:C") == (
            caught.value.found,
            caught.value.expected,
        )
