"""What a venue is: addresses, limits, streams, the forms of its frames, and what proves a loss.

All of it is data. A path such as `data.0.seqId` leads from a frame to one of its members; a number
in it counts in a list, -1 being its last. Topics and messages are templates with `$symbol`, as the
venue spells it, `$lower`, the same in lower case, and `$topics`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from string import Template
from typing import Any

from msgspec import Struct

__all__ = [
    "NO_PROOF",
    "BookForm",
    "Channel",
    "Classified",
    "ClockRequest",
    "Continuity",
    "Form",
    "Keepalive",
    "Kind",
    "Limits",
    "Proof",
    "Scope",
    "SnapshotRequest",
    "Subscription",
    "Venue",
]


class Kind(StrEnum):
    """What a frame is about; the settings name streams by the first six."""

    DEPTH = "depth"
    TRADES = "trades"
    AGG_TRADES = "agg_trades"
    QUOTES = "quotes"
    KLINES = "klines"
    FUNDING = "funding"
    SNAPSHOT = "snapshot"
    """The answer to a REST request; a snapshot among the messages is `DEPTH`."""
    CONTROL = "control"
    """Anything else that is a JSON object: answers, heartbeats, notices."""
    UNDECODABLE = "undecodable"


class Classified(Struct, frozen=True, gc=False):
    """What a frame says of itself; None is what its form does not have.

    Attributes:
        stream: `<kind>:<symbol>`, by which it is counted and watched; empty of `CONTROL`.
        symbol: In the venue's spelling; empty if the frame names none.
        first_id, last_id: The first and last of the venue's ids that the frame covers.
        previous_id: The last id of the frame that it continues.
        is_snapshot: Whether it is a whole book that replaces what was there.
        checksum: Of the book after it.
    """

    kind: Kind
    stream: str = ""
    symbol: str = ""
    first_id: int | None = None
    last_id: int | None = None
    previous_id: int | None = None
    event_time_ns: int | None = None
    is_snapshot: bool = False
    checksum: int | None = None


class Proof(StrEnum):
    """How frames show that none is missing."""

    ID_RANGE = "id_range"
    """The first id is one above the last id of the frame before."""
    CHAIN = "chain"
    """A frame names the last id of the frame before; ids may have holes."""
    COUNTER = "counter"
    """The id is one above that of the frame before."""
    CHECKSUM = "checksum"
    """The book after the frame has the checksum that the frame names."""
    NONE = "none"


class Scope(StrEnum):
    """What a row of ids is of."""

    SYMBOL = "symbol"
    CONNECTION = "connection"


@dataclass(frozen=True, slots=True)
class Continuity:
    """What a stream proves.

    Attributes:
        ids_may_fall: Whether a frame may follow another of a higher id, as after maintenance.
        snapshot_covers_its_id: Whether a frame that ends at the id of a REST snapshot is in it;
            else it is the first one to be applied.
        unknown_deletes: Whether removing a level that is not there is normal.
        depth: How many levels a side the venue keeps up to date, and a checksum may rely on; what
            lies beyond is to be dropped. None is all.
    """

    proof: Proof
    scope: Scope = Scope.SYMBOL
    ids_may_fall: bool = False
    snapshot_covers_its_id: bool = True
    unknown_deletes: bool = True
    depth: int | None = None

    @property
    def counts_losses(self) -> bool:
        """Whether a gap says how many ids are missing."""
        return self.proof in (Proof.ID_RANGE, Proof.COUNTER)

    @property
    def is_checked_after(self) -> bool:
        """Whether a frame is applied before it can be checked."""
        return self.proof is Proof.CHECKSUM

    def start(
        self, first_id: int | None, last_id: int | None, previous_id: int | None
    ) -> int | None:
        """The last id of the frame that this one continues; None if its ids do not say."""
        if self.proof is Proof.CHAIN:
            return previous_id
        lowest = first_id if self.proof is Proof.ID_RANGE else last_id
        return None if lowest is None or not self.counts_losses else lowest - 1


NO_PROOF = Continuity(Proof.NONE)


@dataclass(frozen=True, slots=True)
class BookForm:
    """Where a book's levels are.

    Attributes:
        bids, asks: Paths to the lists of both sides; without them all levels are at `updates`.
        price, size: Of a level, the place in its list or the name of its member.
        updates, side, bid: Path to the levels of both sides, the member that tells them apart, and
            its value on a bid.
    """

    bids: str = ""
    asks: str = ""
    price: int | str = 0
    size: int | str = 1
    updates: str = ""
    side: str = ""
    bid: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """Where the members of a kind of frame are; an empty path is none.

    Attributes:
        symbol, first_id, last_id, previous_id, event_time, checksum: Paths from the frame.
        snapshot: A path and the value there that make the frame a whole book; `("", "")` if every
            frame is one.
        book: Where the levels of a `DEPTH` frame are.
        items: Path to the list of records of any other kind; empty if a frame has one record, which
            is at `item`.
        fields: By the names of the record (see `venues.records`) paths from each item.
        values: By such a name what the venue's words mean: `{"is_buy": {"Sell": False}}`.
    """

    symbol: str = ""
    first_id: str = ""
    last_id: str = ""
    previous_id: str = ""
    event_time: str = ""
    checksum: str = ""
    snapshot: tuple[str, str] | None = None
    book: BookForm | None = None
    items: str = ""
    item: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[Any, object]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Channel:
    """A kind of stream.

    Attributes:
        key: What the venue's `Venue.keys` find in its frames.
        topic: How it is named in a subscription, for one symbol.
        route: What comes after the base address, where a venue splits its streams.
    """

    kind: Kind
    key: str
    topic: str
    form: Form
    continuity: Continuity = NO_PROOF
    route: str = ""


@dataclass(frozen=True, slots=True)
class Subscription:
    """How streams are asked for: by the address, or by messages once connected.

    Attributes:
        url: After base and route; `$topics` if the address names them.
        message: With `$topics`; empty if the address does.
        separator: Between topics.
        topics_a_message: None is no limit.
        always: Messages to send on every connection, `$symbol` being its first.
    """

    url: str = ""
    message: str = ""
    separator: str = ","
    topics_a_message: int | None = None
    always: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a venue allows, as it documents it; None is nothing documented.

    Attributes:
        streams, symbols: On one connection.
        messages_a_second: To the venue, pongs included.
        connects: How many, in how many seconds.
        life_s: After which a connection is closed.
        weight: The budget of REST requests, in how many seconds.
    """

    streams: int | None = None
    symbols: int | None = None
    messages_a_second: float | None = None
    connects: tuple[int, float] | None = None
    life_s: float | None = None
    weight: tuple[int, float] | None = None


@dataclass(frozen=True, slots=True)
class Keepalive:
    """What keeps a connection open.

    Attributes:
        message: A text to send every `interval_s`; empty if answering the venue's pings is enough.
        reply: The venue's answer, where that is no JSON.
        own_pings: Whether WebSocket pings of ours are welcome; else they count as messages.
    """

    message: str = ""
    interval_s: float = 0.0
    reply: str = ""
    own_pings: bool = False


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """A REST request for a whole book.

    Attributes:
        path: After the REST base, with `$symbol`.
        weight: What it takes of `Limits.weight`.
        used_weight: The header of an answer that says what was used of it.
        form: Of the answer.
    """

    path: str
    weight: int
    used_weight: str
    form: Form


@dataclass(frozen=True, slots=True)
class ClockRequest:
    """A REST request for the venue's time: what comes after the REST base, and where it stands."""

    path: str
    time: str


@dataclass(frozen=True, slots=True)
class Venue:
    """A venue's adapter.

    Attributes:
        name: As the settings name it.
        exchange: As instruments and raw tables name it.
        websocket, rest: Base addresses, the first of each being the primary.
        keys: Paths and patterns that lead to a channel's key; of the paths the first that leads to
            a text counts, of its pattern the first group. A group named `symbol` is the symbol.
        other: The form of frames of no channel.
        snapshot: None if a book begins with a snapshot among the messages.
        clock: None if the venue's time cannot be asked for.
    """

    name: str
    exchange: str
    websocket: tuple[str, ...]
    rest: tuple[str, ...]
    channels: tuple[Channel, ...]
    keys: tuple[tuple[str, str], ...]
    subscription: Subscription
    limits: Limits
    keepalive: Keepalive = Keepalive()
    snapshot: SnapshotRequest | None = None
    clock: ClockRequest | None = None
    other: Form = Form()

    def channel(self, kind: Kind) -> Channel:
        """The channel of a kind.

        Raises:
            KeyError: The venue has none.
        """
        for channel in self.channels:
            if channel.kind is kind:
                return channel
        raise KeyError(f"{self.name} has no stream {kind.value}")

    def address(self, base: str, kinds: Sequence[Kind], symbols: Sequence[str]) -> str:
        """The address of a connection that has these streams of these symbols.

        Raises:
            ValueError: The venue has them on different routes, so that it takes several.
        """
        routes = {self.channel(kind).route for kind in kinds}
        if len(routes) != 1:
            raise ValueError(f"{self.name} has {', '.join(kinds)} on {len(routes)} connections")
        topics = self.subscription.separator.join(self.topics(kinds, symbols))
        return base + routes.pop() + Template(self.subscription.url).substitute(topics=topics)

    def topics(self, kinds: Sequence[Kind], symbols: Sequence[str]) -> list[str]:
        """The venue's names of streams, those of a symbol together."""
        return [
            Template(self.channel(kind).topic).substitute(symbol=symbol, lower=symbol.lower())
            for symbol in symbols
            for kind in kinds
        ]

    def subscribe(self, kinds: Sequence[Kind], symbols: Sequence[str]) -> list[str]:
        """The messages that ask for streams once connected; none if the address does."""
        subscription = self.subscription
        if not subscription.message:
            return []
        topics = self.topics(kinds, symbols)
        size = subscription.topics_a_message or len(topics)
        parts = [topics[at : at + size] for at in range(0, len(topics), size)]
        message = Template(subscription.message)
        always = [Template(text).substitute(symbol=symbols[0]) for text in subscription.always]
        return always + [
            message.substitute(topics=subscription.separator.join(part)) for part in parts
        ]

    def snapshot_address(self, base: str, symbol: str) -> str:
        """The address of a REST snapshot.

        Raises:
            ValueError: The venue sends snapshots among the messages instead.
        """
        if self.snapshot is None:
            raise ValueError(f"{self.name} sends its snapshots among the messages")
        return base + Template(self.snapshot.path).substitute(symbol=symbol)
