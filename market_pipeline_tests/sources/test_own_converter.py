"""The converter that docs/sources/own.md shows works as it stands there, installed as a package."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from market_pipeline.config.instruments import known_sources, load_instruments
from market_pipeline.config.settings import load_settings
from market_pipeline.errors import InstrumentsError
from market_pipeline.sources.converter import Converter
from market_pipeline.sources.registry import converter_of
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import scan
from market_pipeline_tests.conftest import REPOSITORY
from market_pipeline_tests.published_day import MINUTES, publish_day

PAGE = REPOSITORY / "docs" / "sources" / "own.md"


@pytest.fixture
def example(tmp_path, monkeypatch) -> Path:
    """A folder of installed packages with the page's package in it, and the page's test."""
    converter, test = re.findall(
        r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL
    )
    (toml,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    group, entry = re.search(r'entry-points\."(.+?)"\]\n(.+)', toml).groups()
    site = tmp_path / "site"
    info = site / "my_converters-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-converters\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{entry.replace(chr(34), '')}\n")
    (site / "my_converters.py").write_text(converter, encoding="utf-8")
    (site / "test_my_converters.py").write_text(test, encoding="utf-8")
    monkeypatch.syspath_prepend(site)
    yield site
    for name in ("my_converters", "test_my_converters"):
        sys.modules.pop(name, None)


def test_the_page_s_own_test_passes(example, tmp_path):
    """It is run as it stands on the page."""
    module = importlib.import_module("test_my_converters")
    tests = [name for name in vars(module) if name.startswith("test_")]
    for name in tests:
        getattr(module, name)(tmp_path)
    assert ["test_the_day_is_converted"] == tests


def test_an_instrument_may_name_it_and_its_day_is_published(example, tmp_path):
    """The source is known by its entry point, and the proven loss is a gap of the day."""
    module = importlib.import_module("test_my_converters")
    instruments = tmp_path / "instruments.yaml"
    instruments.write_text(
        "instruments:\n  - {venue: SOMEWHERE, symbol: BTC-USD, source: plain_csv, lot: 0.5}\n"
    )
    (of,) = load_instruments(instruments)
    file = tmp_path / "lake" / "plain_csv" / of.venue / of.symbol / f"{module.DAY}.csv"
    file.parent.mkdir(parents=True)
    file.write_text(module.TEXT)
    settings = load_settings(lake_uri=tmp_path / "lake", data_dir=tmp_path / "data", **MINUTES)

    (validated,) = publish_day(settings, [of], module.DAY)

    assert "plain_csv" in known_sources() and isinstance(converter_of("plain_csv"), Converter)
    assert (2, 1, 1) == (
        validated.row.messages,
        validated.row.snapshots,
        validated.row.proven_gap_count,
    )
    bbo = scan(Warehouse(settings.data_dir), TABLES["book_bbo"], module.DAY).collect()
    assert [100.0, 100.0] == bbo["bid_price"].to_list()


def test_a_source_without_a_converter_is_refused(tmp_path):
    """The instruments file names what there is instead."""
    instruments = tmp_path / "instruments.yaml"
    instruments.write_text("instruments:\n  - {venue: A, symbol: B, source: plain_csv}\n")
    with pytest.raises(InstrumentsError, match="crypto_lake, simulated, tardis_csv"):
        load_instruments(instruments)
    with pytest.raises(InstrumentsError, match="has no converter"):
        converter_of("plain_csv")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise ValueError('broken')", "ValueError: broken"),
        ("CONVERTER = object()", "object object"),
        ("", "has no attribute 'CONVERTER'"),
    ],
    ids=["does not load", "is no converter", "is not there"],
)
def test_a_converter_that_cannot_be_used_is_named(example, code, told):
    """The error says which entry point it was, and what was found there."""
    (example / "my_converters.py").write_text(code)
    with pytest.raises(InstrumentsError, match="cannot be used") as error:
        converter_of("plain_csv")
    assert "my_converters:CONVERTER" in str(error.value.expected) and told in str(error.value.found)
