"""Sealed segments against Tink, and against whoever changes them."""

from __future__ import annotations

import hashlib
import io
import os
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.errors import SealError
from market_pipeline.security.segments import SEGMENT_BYTES, SealedBytes, SealingStream

KEY, BOUND_TO = bytes(range(32)), b"market-pipeline"
FIRST, OTHER = SEGMENT_BYTES - 56, SEGMENT_BYTES - 16
# What Tink 1.15 made of `plain(size)` under KEY and BOUND_TO: its header, and SHA-256 of all.
TINK = [
    (
        0,
        "28654321c96abd331f5491645a898d99f2ff13a824f02147a8e7073a6c50aec28f923e089572ecaa",
        "7077bb404c49d44d21c12df7a04db00921efc554a9ca62e5463ddd3ebcf57d29",
    ),
    (
        FIRST - 1,
        "28478be0289eab24f601ee13cd66e3dd3d4015e1c9355656d121d8bea41b8dca3aab9d1ca7f9d43e",
        "6c92d1325dcc2b8cc9ad1c138c4c8c42b4cda01927a072f6538802c5b291fbfd",
    ),
    (
        FIRST,
        "2836beb3f50df56f684d43d2e40a930cefd7285e60d7a2815754ce6c31473e6dcff50e090e4f7aeb",
        "e240f8f74240ff98dd0b10b12c1970f147bca5627563b830696fa88bfa7fe851",
    ),
    (
        FIRST + 1,
        "2816c46e5bad83d8f0b7c7b9168c135f133f2b339b5fc2e86853f00451c6ed83ab1b97a4e68854ce",
        "e801e133b456ab875670ac4c5a31eec22a1bcb4e1228f19fbacde72443aaf21a",
    ),
    (
        2_500_000,
        "281617c9d727ff59d5a1907d2ff66ec29dcbd71ebf752f3cf3cea921e58a5478a56bbb763dcf5f68",
        "3f24e6d69994b61876d03163bac8391d80c5843ec8efb8c853a4ed5a0fd05208",
    ),
    (
        FIRST + OTHER,
        "2872223bd1529be14e7271217ee4286a8ce0f0181e7a036978ccafa0515018dfa79193bf7cbff91f",
        "50fb6e5e4992348e6b48642899d01baeff141def14be051772d3c39774fe4a3b",
    ),
]


def plain(size: int) -> bytes:
    return hashlib.shake_256(b"plain").digest(size)


def sealed(content: bytes, bound_to: bytes = BOUND_TO, parts: tuple[int, ...] = ()) -> bytes:
    """What `content` is sealed to, written in parts of those sizes."""
    out = io.BytesIO()
    stream = SealingStream(out, KEY, bound_to)
    at = 0
    for size in (*parts, len(content)):
        stream.write(content[at : at + size])
        at = min(len(content), at + size)
    stream.finish()
    return out.getvalue()


def opened(path, content: bytes, bound_to: bytes = BOUND_TO, **how) -> bytes:
    """What is sealed, every segment of it."""
    path.write_bytes(content)
    with path.open("rb") as file:
        found = SealedBytes(file.fileno(), path, 0, KEY, bound_to, **how)
        whole = b"".join(found.segment(number) for number in range(found.segments))
    assert found.size == len(whole)
    return whole


@pytest.mark.parametrize(("size", "header", "digest"), TINK, ids=lambda value: str(value)[:9])
def test_bytes_are_those_of_tink(monkeypatch, tmp_path, size, header, digest):
    """With the salt and prefix that Tink chose, every byte is the one Tink wrote, and is read."""
    chosen = io.BytesIO(bytes.fromhex(header)[1:])
    with monkeypatch.context() as patch:
        patch.setattr(os, "urandom", chosen.read)
        content = sealed(plain(size))
    assert digest == hashlib.sha256(content).hexdigest()
    assert plain(size) == opened(tmp_path / "file", content)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 17, FIRST, OTHER, SEGMENT_BYTES]), max_size=4))
def test_how_it_is_written_leaves_no_trace(tmp_path_factory, parts):
    """Whatever the parts it is written in, what is read is what was written."""
    content = plain(sum(parts) + 5)
    path = tmp_path_factory.getbasetemp() / "parts"
    assert content == opened(path, sealed(content, parts=tuple(parts)))


def test_no_two_files_share_a_key_of_segments():
    """The same bytes under the same file key seal to others each time: the salt is new."""
    assert sealed(b"x")[40:] != sealed(b"x")[40:]


LONG = plain(2_500_000)
S0, S1, S2 = (slice(n * SEGMENT_BYTES, (n + 1) * SEGMENT_BYTES) for n in range(3))
CHANGES = {
    **{f"cut at byte {at:,}": (lambda text, at=at: text[:at]) for at in (0, 1, 39, 40, 41, 55)},
    "cut inside the first": lambda text: text[:500_000],
    "cut behind the first": lambda text: text[S0],
    "cut inside the second": lambda text: text[: SEGMENT_BYTES + 9],
    "cut behind the second": lambda text: text[: 2 * SEGMENT_BYTES],
    "cut by a byte": lambda text: text[:-1],
    "a byte more": lambda text: text + b"\0",
    "a segment more": lambda text: text + text[S1],
    "swapped": lambda text: text[S1] + text[S0] + text[S2],
    "the second twice": lambda text: text[S0] + text[S1] + text[S1] + text[S2],
    "without the second": lambda text: text[S0] + text[S2],
    "spliced": lambda text: text[S0] + sealed(LONG)[S1] + text[S2],
    "a head of another": lambda text: sealed(LONG)[:40] + text[40:],
    "bound to another": lambda text: sealed(LONG, b"another"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_changed_is_refused(tmp_path, change):
    """Cut, swapped, spliced, repeated or bound to another file: refused, with the place."""
    with pytest.raises(SealError, match="not as it was sealed") as caught:
        opened(tmp_path / "file", change(sealed(LONG)))
    assert str(tmp_path / "file") == caught.value.file
    assert "at byte " in caught.value.found


def test_every_flipped_byte_is_refused(tmp_path):
    """A bit changed in any byte of the header, and of a segment, is found."""
    content = bytearray(sealed(b"some rows"))
    accepted = []
    for at in range(len(content)):
        content[at] ^= 1 << at % 8
        try:
            opened(tmp_path / "file", bytes(content))
        except SealError:
            pass
        else:
            accepted.append(at)
        content[at] ^= 1 << at % 8
    assert [] == accepted
    assert b"some rows" == opened(tmp_path / "file", bytes(content))


@pytest.mark.parametrize(
    ("size", "whole"),
    [
        (41, 0),
        (SEGMENT_BYTES - 1, 0),
        (SEGMENT_BYTES, FIRST),
        (SEGMENT_BYTES + 1, FIRST),
        (2 * SEGMENT_BYTES, FIRST + OTHER),
        (2 * SEGMENT_BYTES + 7, FIRST + OTHER),
        (None, len(LONG)),
    ],
)
def test_of_a_crashed_file_the_whole_segments_count(tmp_path, size, whole):
    """What was sealed up to the last whole segment is read, and a finished file to its end."""
    assert LONG[:whole] == opened(tmp_path / "file", sealed(LONG)[:size], crashed=True)


def test_more_segments_than_can_be_counted_are_refused():
    """A nonce is never used twice: the segment after the last that 4 bytes count is an error."""
    stream = SealingStream(io.BytesIO(), KEY, BOUND_TO)
    stream._number = 2**32
    with pytest.raises(OverflowError):
        stream.finish()


class _Full(io.BytesIO):
    def write(self, data):
        if self.tell() == 0:
            return super().write(data)
        self.nonces = [*getattr(self, "nonces", []), bytes(data)]
        raise OSError(28, "No space left on device")


def test_a_failed_write_uses_up_its_nonce():
    """Sealed once more after an error, the same bytes are sealed to others."""
    out = _Full()
    stream = SealingStream(out, KEY, BOUND_TO)
    for _ in range(2):
        stream.write(b"x")
        with pytest.raises(OSError, match="space"):
            stream.finish()
    assert out.nonces[0] != out.nonces[1]


@pytest.mark.parametrize(
    "offset", [0, 1, FIRST - 1, FIRST, FIRST + 1, FIRST + OTHER - 1, FIRST + OTHER]
)
def test_the_segment_of_a_place(offset):
    """It is the segment in which a walk over the segments arrives at the place."""
    begin = 0
    for number in count():
        size = OTHER if number else FIRST
        if offset < begin + size:
            break
        begin += size
    assert (number, begin) == SealedBytes.place(offset)
