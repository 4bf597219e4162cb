"""The tables the rebuild publishes."""

from __future__ import annotations

from market_pipeline.books.state import DEPTH_LEVELS
from market_pipeline.warehouse.tables import Column, Computed, Table

__all__ = ["BBO", "CHECKPOINTS", "DEPTH", "IDENTITY", "INTERVALS", "REBUILDS"]

IDENTITY = (
    Column("exchange", "VARCHAR", "Venue, upper case."),
    Column("symbol", "VARCHAR", "Symbol at the venue, upper case."),
    Column("dt", "DATE", "UTC day of receipt."),
)
_EVENT = (
    Column("ts_origin_ns", "BIGINT", "Exchange time of the message, ns UTC."),
    Column("ts_receipt_ns", "BIGINT", "Time the vendor received it, ns UTC; may be the earlier."),
    Column("sequence_number", "BIGINT", "The venue's last update id in the message."),
)
_FLAGS = Column("flags", "USMALLINT", "Why the book is not to be trusted; 0 is valid (see docs).")

_VERIFIED = Column(
    "verified",
    "BOOLEAN",
    "The row lies between two pieces of evidence that agree: snapshots, or a proof by ids.",
)

BBO = Table(
    schema="books",
    name="bbo",
    description="Best bid and ask after every message.",
    columns=(
        *IDENTITY,
        *_EVENT,
        Column("bid_price_ticks", "BIGINT", "Best bid in ticks; null if there is no bid."),
        Column("bid_size_lots", "BIGINT", "Its size in lots; null if there is no bid."),
        Column("ask_price_ticks", "BIGINT", "Best ask in ticks; null if there is no ask."),
        Column("ask_size_lots", "BIGINT", "Its size in lots; null if there is no ask."),
        Column("bid_price", "DOUBLE", "Best bid; null if there is no bid."),
        Column("bid_size", "DOUBLE", "Its size; null if there is no bid."),
        Column("ask_price", "DOUBLE", "Best ask; null if there is no ask."),
        Column("ask_size", "DOUBLE", "Its size; null if there is no ask."),
        _FLAGS,
        _VERIFIED,
    ),
    storage="delta",
)

_LEVELS = [(side, level) for side in ("bid", "ask") for level in range(DEPTH_LEVELS)]
_PARTS = (("price", "ticks"), ("size", "lots"))

DEPTH = Table(
    schema="books",
    name="depth",
    description=f"The top {DEPTH_LEVELS} levels a side, after the last message of each interval.",
    columns=(
        *IDENTITY,
        *_EVENT,
        _FLAGS,
        Column("price_multiplier", "BIGINT", "Price: ticks * price_multiplier / price_divisor."),
        Column("price_divisor", "BIGINT", "A power of ten; see price_multiplier."),
        Column("size_multiplier", "BIGINT", "Size: lots * size_multiplier / size_divisor."),
        Column("size_divisor", "BIGINT", "A power of ten; see size_multiplier."),
        *(
            Column(
                f"{side}_{level}_{part}_{unit}",
                "BIGINT",
                f"{part.capitalize()} in {unit} of level {level} of the {side}s, 0 the best; "
                "null if there is none.",
            )
            for side, level in _LEVELS
            for part, unit in _PARTS
        ),
        _VERIFIED,
        *(
            Column(
                f"{side}_levels_confirmed",
                "TINYINT",
                f"How many of the best {side} levels lie where snapshots show every level; unknown "
                "ones may stand among the further ones.",
            )
            for side in ("bid", "ask")
        ),
    ),
    storage="delta",
    computed=tuple(
        Computed(
            Column(
                f"{side}_{level}_{part}",
                "DOUBLE",
                f"{part.capitalize()} of level {level} of the {side}s, 0 the best; "
                "null if there is none.",
            ),
            steps=f"{side}_{level}_{part}_{unit}",
            multiplier=f"{part}_multiplier",
            divisor=f"{part}_divisor",
        )
        for side, level in _LEVELS
        for part, unit in _PARTS
    ),
)

CHECKPOINTS = Table(
    schema="books",
    name="checkpoints",
    description="The full book every few minutes and at the day's end.",
    columns=(
        *IDENTITY,
        Column("kind", "VARCHAR", "keyframe, or closing for the state after the last message."),
        *_EVENT,
        Column("messages", "BIGINT", "Messages of the day applied so far."),
        Column("flags", "USMALLINT", "Why this book is not to be trusted; 0 is valid (see docs)."),
        Column("tick", "VARCHAR", "The tick of that day, an exact decimal."),
        Column("lot", "VARCHAR", "The lot of that day, an exact decimal."),
        Column("bid_price_ticks", "BIGINT[]", "All bids in ticks, best first."),
        Column("bid_size_lots", "BIGINT[]", "Their sizes in lots."),
        Column("ask_price_ticks", "BIGINT[]", "All asks in ticks, best first."),
        Column("ask_size_lots", "BIGINT[]", "Their sizes in lots."),
        Column("bid_horizon_ticks", "BIGINT", "Lowest bid a snapshot confirmed; null before one."),
        Column("ask_horizon_ticks", "BIGINT", "Highest ask a snapshot confirmed; null before one."),
        Column("checksum", "VARCHAR", "SHA-256 of the book (see `books.arrow.checksum`)."),
        Column("format_version", "INTEGER", "Version of this row's meaning."),
    ),
    storage="delta",
)

INTERVALS = Table(
    schema="books",
    name="intervals",
    description="Spans in which a book flag is set, and repairs, with cause, action and evidence.",
    columns=(
        *IDENTITY,
        Column("start_ns", "BIGINT", "Receipt time it begins at, ns UTC."),
        Column(
            "end_ns", "BIGINT", "Receipt time it is over at, ns UTC; start_ns if it took no time."
        ),
        Column("cause", "VARCHAR", "Name of the book flag, or POLICY (see docs)."),
        Column("invalidates", "BOOLEAN", "The span is not part of the day's valid time."),
        Column(
            "action", "VARCHAR", "What ended it: seed, resync, confirmed, uncross, none or open."
        ),
        Column("start_sequence_number", "BIGINT", "Sequence number of the message at start_ns."),
        Column(
            "end_sequence_number", "BIGINT", "The first message after it; null if the day ended."
        ),
        Column("first_message", "BIGINT", "Its first row in books.bbo, the day's first being 0."),
        Column("messages", "BIGINT", "How many rows carry the flag; 0 for a repair none shows."),
        Column("evidence", "VARCHAR", "What shows it and what ended it, in a sentence."),
    ),
    storage="delta",
)

REBUILDS = Table(
    schema="books",
    name="rebuilds",
    description="How each instrument's day was rebuilt, or why it could not be.",
    columns=(
        *IDENTITY,
        Column("outcome", "VARCHAR", "rebuilt, no_data (nothing there) or quarantined."),
        Column("failure_kind", "VARCHAR", "Class of the error; null if rebuilt."),
        Column("failure", "VARCHAR", "The error in full; null if rebuilt."),
        Column("strategy", "VARCHAR", "full_deltas, snapshots_only (a row per snapshot) or none."),
        Column("strategy_reason", "VARCHAR", "Why that one, in a sentence."),
        Column("policies", "VARCHAR", "The instrument's policies in force, a JSON object."),
        Column("tick", "VARCHAR", "Tick of that day, an exact decimal."),
        Column("lot", "VARCHAR", "Lot of that day, an exact decimal."),
        Column("tick_inferred", "BOOLEAN", "The tick was inferred from the day's prices."),
        Column("lot_inferred", "BOOLEAN", "The lot was inferred from the day's sizes."),
        Column("rows", "BIGINT", "Delta rows applied or refused."),
        Column("messages", "BIGINT", "Messages, each one row of books.bbo."),
        Column("snapshots", "BIGINT", "Snapshots met."),
        Column("snapshots_unusable", "BIGINT", "Snapshots that are no book (crossed, off grid)."),
        Column(
            "snapshots_unplaced",
            "BIGINT",
            "Snapshots whose number never came or had passed.",
        ),
        Column("snapshots_uncompared", "BIGINT", "Snapshots after the seed compared with nothing."),
        Column("first_uncompared_ns", "BIGINT", "Receipt time of the first of them, ns UTC."),
        Column(
            "longest_uncompared_seconds",
            "DOUBLE",
            "Longest time from one compared snapshot to the next while others came.",
        ),
        Column("longest_uncompared_ns", "BIGINT", "When that time began, ns UTC."),
        Column("uncompared_reasons", "VARCHAR", "Why they were not compared; null if all were."),
        Column(
            "snapshots_off_number",
            "BIGINT",
            "Compared snapshots whose number is not that of a message.",
        ),
        Column(
            "snapshots_misplaced",
            "BIGINT",
            "Snapshots that disagree at their number and agree at a neighbouring message.",
        ),
        Column("first_misplaced_ns", "BIGINT", "Receipt time of the first of them, ns UTC."),
        Column("first_misplaced_sequence_number", "BIGINT", "Its sequence number."),
        Column(
            "snapshots_stale",
            "BIGINT",
            "Snapshots that disagree and repeat the content of an earlier one.",
        ),
        Column("first_stale_ns", "BIGINT", "Receipt time of the first of them, ns UTC."),
        Column("first_stale_sequence_number", "BIGINT", "Its sequence number."),
        Column("repeated_messages", "BIGINT", "Messages whose number came before; not applied."),
        Column(
            "late_messages", "BIGINT", "Messages applied late, as far as none had overtaken them."
        ),
        Column("stale_messages", "BIGINT", "Messages older than what is remembered; not applied."),
        Column("first_old_ns", "BIGINT", "Receipt time of the first of these three, ns UTC."),
        Column("first_old_sequence_number", "BIGINT", "Its sequence number."),
        Column("restarts", "BIGINT", "Times the sequence numbers began anew."),
        Column("first_restart_ns", "BIGINT", "Receipt time of the first, ns UTC."),
        Column("split_messages", "BIGINT", "Messages that are only a part of the next one."),
        Column("first_split_ns", "BIGINT", "Receipt time of the first, ns UTC."),
        Column("bad_sequences", "BIGINT", "Messages with a number that others contradict."),
        Column("first_bad_sequence_ns", "BIGINT", "Receipt time of the first, ns UTC."),
        Column(
            "bad_receipt_stamps",
            "BIGINT",
            "Messages whose receipt time contradicts those around it.",
        ),
        Column(
            "bad_origin_stamps",
            "BIGINT",
            "Messages whose exchange time contradicts those around it.",
        ),
        Column("outside_day_messages", "BIGINT", "Messages received outside the UTC day."),
        Column("seed", "VARCHAR", "What the day began with: first_snapshot or previous_close."),
        Column("seed_sequence_number", "BIGINT", "Its sequence number; null if there was none."),
        Column("seed_ts_receipt_ns", "BIGINT", "Its receipt time, ns UTC."),
        Column("seed_refused", "VARCHAR", "Why the previous close was not used, if asked for."),
        Column("resyncs", "BIGINT", "Times a later snapshot replaced the book in its window."),
        Column(
            "levels_learned",
            "BIGINT",
            "Levels beyond the horizon learned from snapshots that matched.",
        ),
        Column("gaps", "BIGINT", "Messages before which others are lost, suspected or proven."),
        Column("crossed_messages", "BIGINT", "Rows of books.bbo with the bid above the ask."),
        Column("crossed_seconds", "DOUBLE", "Time from such rows to the next ones."),
        Column("locked_messages", "BIGINT", "Rows of books.bbo with the bid equal to the ask."),
        Column("locked_seconds", "DOUBLE", "Time from such rows to the next ones."),
        Column("uncrossed_levels", "BIGINT", "Stale levels removed by the policy uncross."),
        Column("min_latency_ms", "DOUBLE", "Smallest receipt minus exchange time of a message."),
        Column("max_latency_ms", "DOUBLE", "Largest receipt minus exchange time of a message."),
        Column("negative_latency_messages", "BIGINT", "Messages received before they were sent."),
        Column("unknown_removals", "BIGINT", "Removals of a price the book did not hold."),
        Column(
            "snapshots_compared", "BIGINT", "Later snapshots compared at their own sequence number."
        ),
        Column("snapshots_mismatched", "BIGINT", "Of these, with a level other than ours."),
        Column("first_mismatch_ns", "BIGINT", "Receipt time of the first of them, ns UTC."),
        Column("first_mismatch_sequence_number", "BIGINT", "Its sequence number."),
        Column("first_mismatch_levels_differing", "BIGINT", "Levels that differed in it."),
        Column("first_mismatch_ours", "VARCHAR", "Our best bid and ask then, with sizes."),
        Column("first_mismatch_theirs", "VARCHAR", "Those of the snapshot."),
        Column(
            "worst_mismatch_ns",
            "BIGINT",
            "Receipt time of the mismatch with the largest difference of the mid, then of levels.",
        ),
        Column("worst_mismatch_sequence_number", "BIGINT", "Its sequence number."),
        Column("worst_mismatch_levels_differing", "BIGINT", "Levels that differed in it."),
        Column("worst_mismatch_ours", "VARCHAR", "Our best bid and ask then, with sizes."),
        Column("worst_mismatch_theirs", "VARCHAR", "Those of the snapshot."),
        Column("snapshot_levels", "BIGINT", "Snapshot levels compared, within the known horizon."),
        Column("snapshot_levels_matching", "BIGINT", "Of these, equal in price and size."),
        Column("snapshot_levels_missing", "BIGINT", "Of these, not in our book."),
        Column("snapshot_levels_ours", "BIGINT", "Our levels in the snapshots' windows."),
        Column("snapshot_levels_ghost", "BIGINT", "Of these, not in the snapshot."),
        Column(
            "snapshot_size_error",
            "DOUBLE",
            "Size differences of all levels over the snapshots' sizes.",
        ),
        Column(
            "max_mid_deviation_ticks", "DOUBLE", "Largest difference of the mid to a snapshot's."
        ),
        Column(
            "snapshots_compared_per_hour",
            "BIGINT[]",
            "Compared snapshots in each UTC hour, 24 entries.",
        ),
        Column("snapshots_mismatched_per_hour", "BIGINT[]", "Mismatches in each UTC hour."),
        Column(
            "snapshot_levels_differing_per_hour",
            "BIGINT[]",
            "Levels that differed in each UTC hour.",
        ),
        Column("known_low_price", "DOUBLE", "Lowest confirmed price; null without a snapshot."),
        Column("known_high_price", "DOUBLE", "Highest confirmed price; null without a snapshot."),
        Column("price_losses", "BIGINT", "Prices that are not on the tick."),
        Column("size_losses", "BIGINT", "Sizes that are not on the lot."),
        Column("price_loss_files", "VARCHAR[]", "Files of the first ten of these prices."),
        Column("price_loss_rows", "BIGINT[]", "Their rows."),
        Column("price_loss_values", "DOUBLE[]", "Their values."),
        Column("size_loss_files", "VARCHAR[]", "Files of the first ten of these sizes."),
        Column("size_loss_rows", "BIGINT[]", "Their rows."),
        Column("size_loss_values", "DOUBLE[]", "Their values."),
        Column("streamed_row_groups", "BIGINT", "Raw row groups too large to be decoded whole."),
        Column("bytes_in_flight", "BIGINT", "Most decoded bytes of raw rows held at once."),
        Column("input_sha256", "VARCHAR[]", "SHA-256 of the raw files read, in order."),
        Column("output_sha256", "VARCHAR", "SHA-256 over those of the published books.bbo files."),
        Column("code_version", "VARCHAR", "Version of the code that rebuilt the day."),
    ),
    storage="duckdb",
)
