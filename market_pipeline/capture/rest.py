"""REST beside the streams: whole books within a budget of weight, and the venue's clock."""

from __future__ import annotations

import asyncio
import ctypes
import ssl
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec

from market_pipeline.capture.limits import WindowBudget
from market_pipeline.sources.recording.format import Clock
from market_pipeline.sources.venues.reading import time_ns
from market_pipeline.sources.venues.venue import Venue

__all__ = ["Answer", "RestClient", "kernel_clock"]

_REFUSED = (429, 418)
_TIMEOUT_S = 10.0
_WHOLE_S = 60.0
_MOST_BYTES = 64 << 20
_RETRY_AFTER_S, _LONGEST_S = 60.0, 3 * 86_400.0
"""After a refusal that does not say how long, and at most: the longest ban of Binance."""
_object = msgspec.json.Decoder(dict[str, Any])
_UNSYNCHRONISED = 5  # `TIME_ERROR` of adjtimex(2)


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of an answer, with both clocks when it was whole."""

    wall_ns: int
    monotonic_ns: int
    body: bytes


class RestClient:
    """Asks a venue, never more than its budget allows.

    Args:
        venue: Whose limits and addresses.
        base: The address before the paths.
        context: TLS.

    Attributes:
        refused: How often the venue answered 429 or 418.
    """

    def __init__(self, venue: Venue, base: str, context: ssl.SSLContext) -> None:
        self.refused = 0
        self._venue, self._base = venue, base
        weight, window_s = venue.limits.weight or (None, 60.0)
        # Half is left to others behind the same address.
        self._budget = WindowBudget(None if weight is None else weight / 2, window_s)
        self._client = httpx.AsyncClient(verify=context, timeout=_TIMEOUT_S)

    async def close(self) -> None:
        """Closes its connections."""
        await self._client.aclose()

    async def snapshot(self, symbol: str) -> Answer | None:
        """A whole book; None if the venue has none over REST or did not give it.

        Raises:
            httpx.HTTPError: The venue cannot be reached.
        """
        request = self._venue.snapshot
        if request is None:
            return None
        address = self._venue.snapshot_address(self._base, symbol)
        return await self._get(address, request.weight, request.used_weight)

    async def clock(self) -> Clock:
        """The state of the machine's clock, and how far it is ahead of the venue's.

        Raises:
            httpx.HTTPError: The venue cannot be reached.
        """
        request, sent_ns = self._venue.clock, time.time_ns()
        answer = None if request is None else await self._get(self._base + request.path, 1, "")
        synchronised, error_ns = kernel_clock()
        if answer is None or request is None:
            return Clock(synchronised=synchronised, estimated_error_ns=error_ns)
        venue_ns = None
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            venue_ns = time_ns(_object.decode(answer.body).get(request.time))
        middle_ns = (sent_ns + answer.wall_ns) // 2
        return Clock(
            None if venue_ns is None else middle_ns - venue_ns,
            answer.wall_ns - sent_ns,
            synchronised,
            error_ns,
        )

    async def _get(self, address: str, weight: int, used_weight: str) -> Answer | None:
        while (wait_s := self._budget.wait_s(weight, time.monotonic())) > 0:
            await asyncio.sleep(wait_s)
        self._budget.spend(weight, time.monotonic())
        response, body = await self._whole(address)
        answer = Answer(time.time_ns(), time.monotonic_ns(), body)
        if response.status_code in _REFUSED:
            self.refused += 1
            after = response.headers.get("Retry-After", "")
            seconds = float(after) if after.isdecimal() else _RETRY_AFTER_S
            self._budget.close(min(seconds, _LONGEST_S), time.monotonic())
            return None
        used = response.headers.get(used_weight, "") if used_weight else ""
        if used.isdecimal():
            self._budget.used(float(used), time.monotonic())
        return answer if response.is_success else None

    async def _whole(self, address: str) -> tuple[httpx.Response, bytes]:
        """An answer, unless it is larger or takes longer than any that is worth having."""
        body = bytearray()
        try:
            async with (
                asyncio.timeout(_WHOLE_S),
                self._client.stream("GET", address) as response,
            ):
                async for data in response.aiter_bytes():
                    body += data
                    if len(body) > _MOST_BYTES:
                        raise httpx.DecodingError(f"an answer of more than {_MOST_BYTES:,} bytes")
        except TimeoutError as error:
            raise httpx.ReadTimeout(f"no whole answer in {_WHOLE_S:g} s") from error
        return response, bytes(body)


def kernel_clock() -> tuple[bool | None, int | None]:
    """Whether the kernel calls its clock synchronised, and its estimate of the error in ns.

    None of both where the system is not Linux or does not say.
    """
    if sys.platform != "linux":
        return None, None
    words = (ctypes.c_long * 64)()
    state = ctypes.CDLL(None).adjtimex(words)
    if state < 0:
        return None, None
    # struct timex: modes, offset, freq, maxerror, esterror, in words of 8 bytes.
    return state != _UNSYNCHRONISED, words[4] * 1_000
