"""Marks in a byte stream, cut anywhere."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.core.errors import MachineError
from runctl.transport.framing import Framed, Part

MARK = "\x1erunctl-0123"


def read(stream: bytes, cuts: list[int]) -> tuple[bytes, Framed]:
    seen = bytearray()
    framed = Framed(MARK, seen.extend)
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    for start, end in itertools.pairwise(places):
        framed.feed(stream[start:end])
    return bytes(seen), framed


bodies = st.lists(st.sampled_from([b"\x1e", b"\x1erunctl", b"\x1erunctl-0123", b"\n", b"x", b"\x00"])).map(
    b"".join
)


@given(
    noise=st.sampled_from([b"", b"welcome\n", b"\x1erunct", b"x" * 500]),
    body=bodies,
    code=st.integers(0, 255),
    cuts=st.lists(st.integers(0, 600)),
)
def test_the_body_is_what_stands_between_the_marks(
    noise: bytes, body: bytes, code: int, cuts: list[int]
) -> None:
    if MARK.encode() + b" " in body:
        return
    begin, end = f"{MARK} 4711\n".encode(), f"{MARK} {code}\n".encode()
    seen, framed = read(noise + begin + body + end + b"left behind", cuts)
    assert (seen, framed.process_id, framed.exit_code) == (body, 4711, code)
    assert framed.part is Part.AFTER


def test_a_stream_that_breaks_off_has_no_exit_code() -> None:
    seen, framed = read(f"{MARK} 1\nhalf".encode(), [])
    assert (seen, framed.exit_code, framed.part) == (b"half", None, Part.BODY)


def test_ordinary_output_is_not_held_back() -> None:
    seen: list[bytes] = []
    framed = Framed(MARK, seen.append)
    framed.feed(f"{MARK} 1\n".encode())
    framed.feed(b"Password: ")
    assert seen == [b"Password: "]


def test_nothing_but_noise_is_not_a_beginning() -> None:
    _, framed = read(b"This account is currently not available.\n", [])
    assert framed.part is Part.BEFORE


@pytest.mark.parametrize(
    "number", [b"x\n", b"\n", b"-1\n", b"1_0\n", b" 1\n", b"9" * 13 + b"\n", b"9" * 5000]
)
@pytest.mark.parametrize("begin", [b"", f"{MARK} 1\nbody".encode()])
def test_a_mark_without_a_number_is_the_machines_error(begin: bytes, number: bytes) -> None:
    with pytest.raises(MachineError) as caught:
        read(begin + f"{MARK} ".encode() + number, [])
    assert caught.value.code == "bad-answer"
