"""The cursor that all codecs stand on: its bounds, its errors, and the Internet checksum."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from stack.wire import Reader, WireError, internet_checksum

RFC = "RFC 9999 1"


def reader(octets: bytes = b"abcdefgh") -> Reader:
    return Reader.of(octets, RFC)


def test_reading() -> None:
    cursor = reader()
    assert (cursor.take(2, "first"), cursor.uint(2, "second"), cursor.left) == (b"ab", 0x6364, 4)
    assert (cursor.rest(), cursor.left, cursor.rest()) == (b"efgh", 0, b"")
    assert cursor.uint(0, "nothing") == 0


@pytest.mark.parametrize("count", [9, -1, 1 << 70])
def test_it_never_reads_past_the_end(count: int) -> None:
    cursor = reader()
    with pytest.raises(WireError) as caught:
        cursor.take(count, "field")
    error = caught.value
    assert (error.offset, error.field, error.rfc) == (0, "field", RFC)
    assert error.what == f"{count} octets wanted, 8 left"
    assert cursor.offset == 0


def test_an_error_says_what_where_and_by_which_text() -> None:
    cursor = reader()
    cursor.take(5, "head")
    assert str(cursor.fail("wrong", "flags", back=2)) == "wrong in flags at offset 3 (RFC 9999 1)"
    assert str(cursor.fail("wrong", "flags", rfc="RFC 1 2")) == "wrong in flags at offset 5 (RFC 1 2)"


def test_an_error_can_be_raised_chained_noted_and_raised_again() -> None:
    """WireError is frozen; what Python itself sets on an exception must still work."""

    def chained() -> None:
        try:
            raise reader().fail("first", "a")
        except WireError as first:
            first.add_note("seen on the way")
            raise reader().fail("second", "b") from first

    with pytest.raises(WireError) as caught:
        chained()
    assert isinstance(caught.value.__cause__, WireError)
    with pytest.raises(WireError):
        raise caught.value.with_traceback(None)
    with pytest.raises(AttributeError):
        caught.value.offset = 3  # type: ignore[misc]


def test_a_part_of_a_memoryview_gives_bytes() -> None:
    cursor = Reader(memoryview(b"abcdefgh"), 2, 5, RFC)
    taken = cursor.take(2, "x")
    assert (taken, type(taken), cursor.left) == (b"cd", bytes, 1)
    with pytest.raises(WireError, match="2 octets wanted, 1 left"):
        cursor.take(2, "x")


def test_restrict_to_refuses_over_consumption() -> None:
    cursor = reader()
    with pytest.raises(WireError, match="4 octets wanted, 3 left in x at offset 0"), cursor.restrict_to(3, "body"):
        cursor.take(4, "x")


def test_restrict_to_refuses_under_consumption() -> None:
    cursor = reader()
    with pytest.raises(WireError, match="2 octets too many in body at offset 1"), cursor.restrict_to(3, "body"):
        cursor.take(1, "x")


@pytest.mark.parametrize("count", [9, -1])
def test_restrict_to_refuses_what_runs_past_the_end(count: int) -> None:
    cursor = reader()
    with pytest.raises(WireError, match=f"length {count} runs past the end, 8 left"), cursor.restrict_to(count, "body"):
        pytest.fail("not reached")
    assert (cursor.offset, cursor.left) == (0, 8)


def test_restrict_to_nests_and_ends() -> None:
    cursor = reader()
    with cursor.restrict_to(6, "outer"):
        with cursor.restrict_to(2, "inner"):
            assert cursor.rest() == b"ab"
        assert cursor.left == 4
        with pytest.raises(WireError, match="length 5 runs past the end, 4 left"), cursor.restrict_to(5, "inner"):
            pytest.fail("not reached")
        assert cursor.rest() == b"cdef"
    assert cursor.rest() == b"gh"


def test_after_an_error_inside_the_rest_of_the_message_can_still_be_read() -> None:
    """RFC 7606: one attribute is malformed, the message goes on."""
    cursor = reader()
    for fault in ("over", "under"):
        start = cursor.offset
        with pytest.raises(WireError), cursor.restrict_to(3, fault):
            cursor.take(4 if fault == "over" else 1, "x")
        cursor.offset = start + 3
    assert cursor.rest() == b"gh"


class ReaderMachine(RuleBasedStateMachine):
    """Whatever is asked, what comes out is a prefix of what is left, or a WireError that changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.octets = bytes(range(40))
        self.cursor = Reader.of(memoryview(self.octets), RFC)
        self.at = 0

    @rule(count=st.integers(-2, 12))
    def take(self, count: int) -> None:
        try:
            got = self.cursor.take(count, "x")
        except WireError as error:
            assert not 0 <= count <= len(self.octets) - self.at
            assert error.offset == self.at  # noqa: PT017  (whether it is raised is what the model says)
        else:
            assert got == self.octets[self.at : self.at + count]
            self.at += count

    @rule(count=st.integers(-2, 12), inner=st.integers(0, 12))
    def restrict(self, count: int, inner: int) -> None:
        try:
            with self.cursor.restrict_to(count, "part"):
                self.cursor.take(inner, "x")
                self.at += inner
        except WireError:
            assert inner != count or not 0 <= count <= len(self.octets) - self.at
        else:
            assert inner == count

    @invariant()
    def at_the_same_place(self) -> None:
        assert (self.cursor.offset, self.cursor.end) == (self.at, len(self.octets))


TestReaderMachine = ReaderMachine.TestCase


@pytest.mark.parametrize(
    ("octets", "checksum"),
    [
        ("", 0xFFFF),
        ("00", 0xFFFF),
        ("0000", 0xFFFF),
        ("ffff", 0x0000),
        ("ffffffff", 0x0000),
        ("01", 0xFEFF),
        ("0001f203f4f5f6f7", 0x220D),  # the RFC's own example
    ],
)
def test_rfc1071_2_checksums(octets: str, checksum: int) -> None:
    assert internet_checksum(bytes.fromhex(octets)) == checksum


def naive(octets: bytes, start: int) -> int:
    """RFC 1071 4.1, in words."""
    total = start
    for index in range(0, len(octets) - 1, 2):
        total += octets[index] << 8 | octets[index + 1]
    if len(octets) % 2:
        total += octets[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@given(st.binary(max_size=300), st.integers(0, 1 << 32))
@example(b"\xff\xff", 0)
@example(b"", 0xFFFF)
def test_rfc1071_1_checksums_are_the_naive_ones(octets: bytes, start: int) -> None:
    assert internet_checksum(octets, start) == naive(octets, start)
    assert internet_checksum(memoryview(octets), start) == internet_checksum(bytearray(octets), start)


@given(st.binary(min_size=2, max_size=200).filter(lambda octets: len(octets) % 2 == 0))
def test_rfc1071_1_a_packet_with_its_checksum_sums_to_zero(octets: bytes) -> None:
    packet = octets + internet_checksum(octets).to_bytes(2)
    assert internet_checksum(packet) == 0
