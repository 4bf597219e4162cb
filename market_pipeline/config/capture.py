"""Settings of the live capture: what is recorded, over which connections, and within which limits.

Durations are settings, so that a day's life of a connection can be lived in a test in seconds.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from market_pipeline.config.values import (
    Integer,
    Names,
    OptionalInteger,
    OptionalPath,
    OptionalText,
    Real,
    SettingsModel,
    texts,
)

__all__ = ["CaptureSettings"]

_LONGEST_S, _LONGEST_MS = 31_536_000.0, 3_600_000.0
_Seconds = Annotated[Real, Field(ge=0.001, le=_LONGEST_S)]
_Milliseconds = Annotated[Real, Field(ge=0.1, le=_LONGEST_MS)]
"""With less nothing but waiting would be done, and more no timer of the system counts."""
_MOST_SYMBOL_CHARACTERS = 64

Stream = Literal["depth", "trades", "agg_trades", "quotes", "klines", "funding"]


def _given_once(values: tuple[str, ...]) -> tuple[str, ...]:
    if len({each.casefold() for each in values}) < len(values):
        raise ValueError("expected each of them once")
    return values


def _names_of_folders(symbols: tuple[str, ...]) -> tuple[str, ...]:
    """Symbols name folders of the record, below that of their exchange and nowhere else."""
    for symbol in symbols:
        parts = symbol.split("/")
        is_plain = symbol.isprintable() and not {*"\\ \t"} & {*symbol}
        is_below = not any(part in {"", ".", ".."} for part in parts)
        if not (is_plain and is_below and len(symbol) <= _MOST_SYMBOL_CHARACTERS):
            raise ValueError("expected symbols as the venue spells them, such as BTCUSDT")
    return symbols


_Distinct = Annotated[Names, AfterValidator(_given_once)]
_Streams = Annotated[tuple[Stream, ...], BeforeValidator(texts)]


class CaptureSettings(SettingsModel):
    """The section `capture` of the settings; see `market_pipeline.config.settings`."""

    venue: OptionalText = Field(
        default=None, description="The venue to record, such as binance_spot."
    )
    symbols: Annotated[_Distinct, AfterValidator(_names_of_folders)] = Field(
        default=(), description="What to record, as the venue spells it, separated by commas."
    )
    streams: Annotated[_Streams, AfterValidator(_given_once)] = Field(
        default=("depth", "trades"),
        description=(
            "Streams of each symbol, separated by commas: depth, trades, agg_trades, quotes, "
            "klines, funding."
        ),
    )
    redundancy: Integer = Field(
        default=2,
        ge=1,
        le=4,
        description="Connections that receive the same streams; what one loses another may have.",
    )
    websocket_urls: _Distinct = Field(
        default=(),
        description=(
            "Base addresses of the streams, the primary first and its backups after it, separated "
            "by commas; without them those of the venue."
        ),
    )
    rest_url: OptionalText = Field(
        default=None,
        description="The base address of REST snapshots; without it that of the venue.",
    )
    ca_bundle: OptionalPath = Field(
        default=None,
        description="A PEM file of authorities to trust for the venue, instead of the usual ones.",
    )
    connect_timeout_seconds: _Seconds = Field(
        default=10.0,
        description="Seconds for a connection to be open and subscribed.",
    )
    renewal_seconds: _Seconds = Field(
        default=82_800.0,
        description=(
            "Seconds until a connection is replaced by a new one, which receives before the old "
            "one is closed; the ages of redundant connections are spread over them."
        ),
    )
    retry_first_seconds: _Seconds = Field(
        default=0.5,
        description="The longest first wait before connecting again; each later one is doubled.",
    )
    retry_longest_seconds: _Seconds = Field(
        default=30.0,
        description="The longest wait before connecting again.",
    )
    breaker_failures: Integer = Field(
        default=3,
        ge=1,
        description="Failures in a row after which an endpoint is left for the next one.",
    )
    breaker_seconds: _Seconds = Field(
        default=60.0,
        description="Seconds until an endpoint that was left is used again, the primary first.",
    )
    silent_warning_seconds: _Seconds = Field(
        default=120.0,
        description=(
            "Seconds of silence after which a stream is warned of; less for a stream whose 20 "
            "usual intervals are less."
        ),
    )
    silent_error_seconds: _Seconds = Field(
        default=300.0,
        description="Seconds of silence after which a stream is an error and is connected anew.",
    )
    fill_ms: Real = Field(
        default=500.0,
        ge=0,
        le=_LONGEST_MS,
        description=(
            "Milliseconds to wait for another connection to have what one has lost, before it is "
            "recorded as a gap."
        ),
    )
    snapshot_seconds: _Seconds = Field(
        default=300.0,
        description="Seconds between two REST snapshots of a book, where the venue has them.",
    )
    clock_seconds: _Seconds = Field(
        default=3600.0,
        description="Seconds between two looks at the clock's state.",
    )
    flush_ms: _Milliseconds = Field(
        default=2.0,
        description="Milliseconds until a frame is given to the system.",
    )
    sync_seconds: _Seconds = Field(
        default=1.0,
        description="Seconds between two syncs: the most a power cut may take.",
    )
    status_seconds: _Seconds = Field(
        default=1.0,
        description="Seconds between two states of the capture that are shown.",
    )
    keep_days: OptionalInteger = Field(
        default=None,
        ge=1,
        description=(
            "Days that recordings are kept before `prune` removes those of days that were "
            "converted; without it for ever."
        ),
    )
    live: bool = Field(
        default=True,
        description="Whether books are kept live, with bars and best quotes, beside the record.",
    )
    sinks: _Distinct = Field(
        default=(),
        description=(
            "Where bars, best quotes and metrics go, separated by commas: jsonl, parquet, delta, "
            "or an entry point of market_pipeline.sinks; without any nowhere."
        ),
    )
    sink_folder: OptionalPath = Field(
        default=None,
        description=("The folder of the sinks' files; without it live/<venue> in the data folder."),
    )
    sink_file_seconds: _Seconds = Field(
        default=60.0,
        description="Seconds of rows that parquet puts into one file, and delta into one commit.",
    )
    sink_policy: Literal["block", "drop_oldest", "drop_newest"] = Field(
        default="drop_oldest",
        description=(
            "What becomes of rows for a sink that is behind: drop_oldest, drop_newest, or block, "
            "by which books and bars wait for it, and never the record."
        ),
    )
    sink_batches: Integer = Field(
        default=200, ge=1, description="Batches of rows that wait for each sink."
    )
    sink_workers: Integer = Field(
        default=2, ge=1, description="How many sinks write at the same time."
    )
    sink_rows_per_second: Real = Field(
        default=2_000.0, gt=0, description="Rows a second that each sink is given at most."
    )
    sink_rows_burst: Real = Field(
        default=2_000.0, gt=0, description="Rows that each sink is given at once after a pause."
    )
    sink_end_seconds: _Seconds = Field(
        default=10.0,
        description="Seconds that sinks have at the end of a capture to write what waits.",
    )
    batch_rows: Integer = Field(
        default=1_000, ge=1, description="Frames after which a batch goes to books and bars."
    )
    batch_bytes: Integer = Field(
        default=1_048_576, ge=1, description="Bytes of frames after which a batch goes to them."
    )
    batch_ms: _Milliseconds = Field(
        default=50.0,
        description="Milliseconds after which a batch goes to them.",
    )
    queue_batches: Integer = Field(
        default=16,
        ge=1,
        description=(
            "Batches that wait for books and bars; further frames are recorded and not given to "
            "them, and the books begin again."
        ),
    )
    bar_width_seconds: Integer = Field(
        default=60, ge=1, le=86_400, description="Seconds of each bar of prints."
    )
    bar_lateness_seconds: Real = Field(
        default=5.0,
        ge=0,
        le=_LONGEST_S,
        description="Seconds that a print may be behind the latest one and still be in its bar.",
    )
    metrics_seconds: Integer = Field(
        default=1, ge=1, le=86_400, description="Seconds of each interval of live touch metrics."
    )
