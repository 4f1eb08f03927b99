"""What holds of any value and of any octets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from ikev2.wire import MOST_PARTS, Message, decode, decode_payloads, describe, encode, encode_payloads, split_header
from stack.wire import WireError
from tests.ikev2 import swan_vectors as swan
from tests.ikev2.wire_values import ISPI, RSPI, chains, message_hex, messages

T = TypeVar("T")

REAL = [
    swan.SA_INIT_REQUEST,
    swan.SA_INIT_RESPONSE,
    message_hex(35, swan.AUTH_REQUEST_INSIDE, exchange=35, message_id=1),
    message_hex(36, swan.AUTH_RESPONSE_INSIDE, exchange=35, flags=0x20, message_id=1),
]
"""The last two with their content in the clear, so that every payload is there to be broken."""


@given(messages())
def test_messages_come_back_as_they_were(message):
    octets = encode(message)
    assert decode(octets) == message
    assert encode(decode(octets)) == octets
    assert split_header(octets).length == len(octets)
    assert describe(message)


@given(chains, st.integers(0, 60_000))
def test_chains_come_back_as_they_were(payloads, offset):
    first, octets = encode_payloads(payloads)
    assert decode_payloads(first, octets, offset=offset) == payloads


def outcome(read: Callable[[], T]) -> T | WireError:
    try:
        return read()
    except WireError as problem:
        return problem


def total(octets: bytes) -> Message | None:
    """decode, held to its promise: a value that is encoded again, or one WireError inside the message."""
    message = outcome(lambda: decode(octets))
    if isinstance(message, WireError):
        assert 0 <= message.offset <= max(len(octets), 28)
        assert message.field
        assert message.rfc.startswith("RFC ")
        return None
    assert decode(encode(message)) == message
    return message


@given(st.binary(max_size=400))
def test_I01_any_octets_give_a_value_or_one_typed_error(octets):
    total(octets)


@settings(max_examples=400)
@given(st.integers(0, 60), st.binary(max_size=400), st.integers(0, 255))
def test_I01_any_octets_behind_a_right_header(first, body, flags):
    total(message_hex(first, body, flags=flags))
    offset = 1000
    inside = outcome(lambda: decode_payloads(first, body, offset=offset))
    if isinstance(inside, WireError):
        assert offset <= inside.offset <= offset + len(body)
    else:
        assert decode_payloads(*encode_payloads(inside)) == inside


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A real message with octets changed, cut, doubled or put in, its length made right again more often than not."""
    octets = bytearray(draw(st.sampled_from(REAL)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(octets) - 1))
        what = draw(st.sampled_from(("set", "set16", "cut", "double", "insert")))
        if what == "set":
            octets[at] = draw(st.sampled_from((0, 1, 2, 3, 4, 7, 8, 0x7F, 0x80, 0xFF)))
        elif what == "set16":
            octets[at : at + 2] = draw(st.integers(0, 65535)).to_bytes(2)
        elif what == "cut":
            del octets[at : at + draw(st.integers(1, 40))]
        elif what == "double":
            octets[at:at] = octets[at : at + draw(st.integers(1, 40))]
        else:
            octets[at:at] = draw(st.binary(max_size=12))
        if not octets:
            break
    if len(octets) >= 28 and draw(st.integers(0, 3)):
        octets[24:28] = len(octets).to_bytes(4)
        octets[17] = 0x20
    return bytes(octets)


@settings(max_examples=600)
@given(mutations())
def test_I01_broken_real_messages_give_a_value_or_one_typed_error(octets):
    total(octets)


@given(st.integers(1, 64), st.integers(0, 255), st.binary(min_size=1, max_size=64))
def test_I01_64_kilobytes_of_a_pattern_are_as_little_work(first, flags, pattern):
    body = (pattern * (65_000 // len(pattern) + 1))[:65_000]
    message = total(message_hex(first, body, flags=flags))
    assert message is None or len(message.payloads) <= MOST_PARTS


def test_the_real_messages_are_right():
    for octets in REAL:
        assert total(octets) is not None
    assert Message(ISPI, RSPI, 35, 1, True, False, decode(REAL[2]).payloads) == decode(REAL[2])
