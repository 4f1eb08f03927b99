"""What holds for all octets and all values: a value or one typed error, stability, and that short cuts change nothing."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from bgp.wire import (
    FAMILIES,
    IPV4_UNICAST,
    VPNV4,
    Action,
    AddPath,
    AddPathMode,
    Aggregator,
    AsPath,
    Attributes,
    Family,
    FourOctetAs,
    GracefulRestart,
    LargeCommunity,
    Message,
    MessageError,
    Multiprotocol,
    Nlri,
    Notification,
    Open,
    RawAttribute,
    Reach,
    RestartFamily,
    RouteRefresh,
    Segment,
    SegmentKind,
    Session,
    UnknownCapability,
    Unreach,
    Update,
    decode,
    encode,
    encode_updates,
    ip_key,
    split,
)
from bgp.wire import scan as scan_module
from bgp.wire import update as update_module
from stack.addr import Prefix
from tests.bgp.wire.bgp_octets import base, message, update

families = st.sampled_from(sorted(FAMILIES))
sessions = st.builds(
    Session,
    asn4=st.booleans(),
    addpath=st.frozensets(families),
    extended_message=st.booleans(),
    multiple_labels=st.booleans(),
    ebgp=st.booleans(),
)
asns = st.integers(1, 0xFFFFFFFF)
uint32 = st.integers(0, 0xFFFFFFFF)
four, eight = st.binary(min_size=4, max_size=4), st.binary(min_size=8, max_size=8)


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def lists(strategy: st.SearchStrategy[Any], most: int = 5) -> st.SearchStrategy[Any]:
    return optional(st.lists(strategy, max_size=most))


segments = st.builds(Segment, st.sampled_from(SegmentKind), st.lists(asns, min_size=1, max_size=6).map(tuple))
sequences = st.builds(Segment, st.just(SegmentKind.SEQUENCE), st.lists(asns, min_size=1, max_size=6).map(tuple))
unknown = st.builds(RawAttribute, st.just(0xE0), st.sampled_from([40, 128, 200, 255]), st.binary(max_size=300))


@st.composite
def attribute_sets(draw: st.DrawFn, *, ebgp: bool = False, wide: bool = True) -> Attributes:
    """A set that a peer of this kind may send. Not `wide`: its AS numbers have two octets, so no form loses anything."""
    numbers = asns if wide else st.integers(1, 22222)
    kinds = sequences if ebgp else segments
    path = AsPath(
        tuple(Segment(one.kind, tuple(draw(numbers) for _ in one.asns)) for one in draw(st.lists(kinds, max_size=3)))
    )
    made = Attributes.of(
        origin=draw(st.integers(0, 2)),
        as_path=path,
        med=draw(optional(uint32)),
        local_pref=None if ebgp else draw(uint32),
        atomic_aggregate=draw(st.booleans()),
        aggregator=draw(optional(st.builds(Aggregator, numbers, four))),
        communities=draw(lists(uint32, 100)),
        originator_id=None if ebgp else draw(optional(four)),
        cluster_list=None if ebgp else draw(lists(four)),
        ext_communities=draw(lists(eight)),
        large_communities=draw(lists(st.builds(LargeCommunity, uint32, uint32, uint32))),
    )
    return made.with_raw(*draw(st.lists(unknown, max_size=2)))


def prefixes(family: Family) -> st.SearchStrategy[Prefix]:
    size = family.bits // 8
    return st.builds(Prefix.of, st.binary(min_size=size, max_size=size), st.integers(0, family.bits))


def routes(family: Family, session: Session, *, withdrawn: bool = False) -> st.SearchStrategy[Nlri]:
    rd = eight if family.vpn else st.just(b"")
    label = st.integers(0, (1 << 20) - 1)
    most = 2 if session.multiple_labels and not (family.vpn and family.afi == 2) else 1
    stacks = st.lists(label, min_size=1, max_size=most).map(tuple)
    if withdrawn or not family.labelled:
        stacks = st.just(())
    path_id = uint32 if family in session.addpath else st.just(0)
    return st.builds(
        lambda rd, prefix, labels, path: Nlri(rd + ip_key(prefix), labels, path), rd, prefixes(family), stacks, path_id
    )


def addresses(family: Family) -> st.SearchStrategy[bytes]:
    if family.afi == 1:
        return st.binary(min_size=3, max_size=3).map(lambda rest: b"\x0a" + rest)
    return st.binary(min_size=14, max_size=14).map(lambda rest: b"\x20\x01" + rest)


@st.composite
def valid_updates(draw: st.DrawFn, *, old: bool | None = None) -> tuple[Update, Session]:
    session = draw(sessions)
    if old is not None:
        session = evolve(session, asn4=not old)
    family, other = draw(families), draw(families)
    reach = draw(st.lists(routes(family, session), max_size=4))
    unreach = draw(st.lists(routes(other, session, withdrawn=True), max_size=4))
    attributes = draw(attribute_sets(ebgp=session.ebgp, wide=session.asn4)) if reach else None
    reached = (Reach(family, draw(addresses(family)), tuple(reach)),) if reach else ()
    withdrawn = (Unreach(other, tuple(unreach)),) if unreach else ()
    return Update(attributes, reached, withdrawn or (() if reach else (Unreach(other),))), session


@st.composite
def broken(draw: st.DrawFn, octets: bytes) -> bytes:
    """A message with a few octets changed, cut or put in, and its header put right again, or not."""
    made = bytearray(octets[19:])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(made) - 1)))
        what = draw(st.sampled_from(["flip", "set", "cut", "insert"]))
        if what == "flip" and made:
            made[at] ^= 1 << draw(st.integers(0, 7))
        elif what == "set" and made:
            made[at] = draw(st.sampled_from([0, 1, 2, 0x40, 0x7F, 0x80, 0xFF]))
        elif what == "cut":
            del made[at : at + draw(st.integers(1, 8))]
        else:
            made[at:at] = draw(st.binary(min_size=1, max_size=8))
    if draw(st.integers(0, 9)) == 0:
        return octets[:19] + bytes(made)
    return message(octets[18], bytes(made))


def outcome(octets: bytes, session: Session) -> Message | MessageError:
    """What comes of these octets; anything else than a value or the one error is a failure of the test."""
    try:
        return decode(octets, session)
    except MessageError as error:
        return error


def comparable(result: Message | MessageError) -> object:
    """Exceptions are equal by identity only; their fields are what counts."""
    if isinstance(result, MessageError):
        return (
            result.what,
            result.offset,
            result.field,
            result.rfc,
            result.code,
            result.subcode,
            result.data,
            result.faults,
        )
    return result


def check_total(octets: bytes, session: Session) -> Message | MessageError:
    """A value or one MessageError; offsets and NOTIFICATION data lie within what came."""
    value = outcome(octets, session)
    if isinstance(value, MessageError):
        assert 0 <= value.offset <= len(octets)
        assert value.data in octets or (value.code, value.subcode) == (2, 1)  # B13
        assert value.rfc.startswith("RFC ")
        assert 1 <= value.code <= 7
    elif isinstance(value, Update):
        assert value.action < Action.SESSION_RESET
        for fault in value.errors:
            assert 0 <= fault.offset <= len(octets)
            assert fault.data in octets
            assert (fault.family is not None) == (fault.action == Action.DISABLE_FAMILY)
        assert all(one.routes for one in value.reach)
        assert value.action != Action.TREAT_AS_WITHDRAW or value.reach == ()
    return value


@given(st.binary(max_size=300), sessions)
def test_any_octets_are_a_value_or_one_typed_error(octets: bytes, session: Session) -> None:
    check_total(octets, session)
    for kind in range(1, 6):
        check_total(message(kind, octets), session)


@given(st.binary(max_size=200), st.binary(max_size=60), st.binary(max_size=60), sessions)
def test_any_attributes_nlri_and_withdrawn_routes(
    attributes: bytes, nlri: bytes, gone: bytes, session: Session
) -> None:
    check_total(update(attributes.hex(), nlri.hex(), gone.hex()), session)


@settings(max_examples=150)
@given(st.data())
def test_broken_updates(data: st.DataObject) -> None:
    value, session = data.draw(valid_updates())
    octets = data.draw(broken(encode(value, session)))
    got = check_total(octets, session)
    if isinstance(got, Update) and got != Update() and not got.errors and len(got.unreach) < 2:
        roomy = evolve(session, extended_message=True)
        assert decode(encode(got, roomy), roomy) == got


@given(st.binary(max_size=40), st.integers(0, 50))
def test_split_never_reads_past_what_is_there(octets: bytes, offset: int) -> None:
    for buffer in (octets, b"\xff" * 16 + octets):
        try:
            size = split(buffer, Session(), offset)
        except MessageError:
            continue
        assert size is None or 19 <= size <= len(buffer) - offset


@settings(max_examples=100)
@given(valid_updates())
def test_updates_round_trip(made: tuple[Update, Session]) -> None:
    value, session = made
    octets = encode(value, session)
    got = decode(octets, session)
    assert got == value
    assert encode(got, session) == octets


@given(attribute_sets())
def test_attribute_sets_round_trip_by_value(attributes: Attributes) -> None:
    read = Attributes(attributes.octets)
    assert read == attributes
    assert Attributes.from_raw(read.raw.values()) == attributes
    assert (
        read.replace(
            origin=read.origin,
            as_path=read.as_path,
            med=read.med,
            local_pref=read.local_pref,
            atomic_aggregate=read.atomic_aggregate,
            aggregator=read.aggregator,
            communities=read.communities,
            originator_id=read.originator_id,
            cluster_list=read.cluster_list,
            ext_communities=read.ext_communities,
            large_communities=read.large_communities,
        )
        is read
    )


@given(attribute_sets(), st.lists(routes(VPNV4, Session()), min_size=1, max_size=5))
def test_rfc6793_4_2_2_an_old_session_loses_no_as_number(attributes: Attributes, given_routes: list[Nlri]) -> None:
    """What goes through an OLD speaker's form comes back: AS4_PATH holds what AS_TRANS hides.

    Not so for confederation segments (RFC 6793 3 keeps them out of AS4_PATH), which stay this side of it anyway.
    """
    confed = (SegmentKind.CONFED_SEQUENCE, SegmentKind.CONFED_SET)
    path = AsPath(tuple(one for one in attributes.as_path.segments if one.kind not in confed))
    attributes = attributes.replace(as_path=path)
    old = Session(asn4=False)
    (octets,) = encode_updates(VPNV4, attributes, b"\1\2\3\4", given_routes, old).messages
    got = decode(octets, old)
    assert isinstance(got, Update)
    assert got.attributes is not None
    assert list(got.attributes.as_path.asns) == list(path.asns)
    assert got.attributes.aggregator == attributes.aggregator


capabilities = st.one_of(
    st.builds(Multiprotocol, families),
    st.builds(FourOctetAs, asns),
    st.builds(
        GracefulRestart,
        st.integers(0, 4095),
        st.lists(st.builds(RestartFamily, families, st.booleans()), max_size=5).map(tuple),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(
        AddPath, st.lists(st.tuples(families, st.sampled_from([*AddPathMode, AddPathMode.BOTH])), max_size=5).map(tuple)
    ),
    st.builds(UnknownCapability, st.integers(128, 255), st.binary(max_size=255)),
)


@given(
    st.integers(1, 0xFFFF),
    st.integers(3, 0xFFFF),
    four.filter(any),
    st.lists(capabilities, max_size=12).map(tuple),
)
def test_opens_round_trip(asn: int, hold_time: int, identifier: bytes, offered: tuple[Any, ...]) -> None:
    real = next((one.asn for one in offered if isinstance(one, FourOctetAs)), asn)
    value = Open(real, hold_time, identifier, offered)
    octets = encode(value, Session())
    assert decode(octets, Session()) == value


@settings(max_examples=100)
@given(st.data())
def test_B02_broken_opens(data: st.DataObject) -> None:
    offered = tuple(data.draw(st.lists(capabilities, max_size=6)))
    octets = encode(Open(65000, 180, b"\x0a\0\0\1", offered), Session())
    check_total(data.draw(broken(octets)), Session())


@given(st.binary(max_size=50), st.integers(0, 255), st.integers(0, 255), sessions)
def test_small_messages_round_trip(data: bytes, one: int, two: int, session: Session) -> None:
    for value in (Notification(one, two, data), RouteRefresh(Family(one << 8 | two, two), one)):
        assert decode(encode(value, session), session) == value


@settings(max_examples=150)
@given(st.data())
def test_short_cuts_change_nothing(data: st.DataObject) -> None:
    """With every fast path and cache switched off, each message, good or broken, means the same."""
    value, session = data.draw(valid_updates(old=False))
    octets = encode(value, session)
    if data.draw(st.booleans()):
        octets = data.draw(broken(octets))
    quick = outcome(octets, session)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_module, "_flawless", lambda *_: None)
        patch.setattr(scan_module, "CACHED_SET_OCTETS", -1)
        patch.setattr(scan_module, "_CACHES", tuple(scan_module._Cache() for _ in range(4)))
        patch.setattr(update_module, "_only_reach", lambda *_: None)
        slow = outcome(octets, session)
    assert comparable(slow) == comparable(quick)


def test_the_attribute_cache_is_bounded() -> None:
    """Twice as many sets as it holds: it holds no more, and a long one is never held."""
    session = Session(ebgp=True)
    cache = scan_module._CACHES[0b11]
    fields = "".join(base(session).values())
    for number in range(2 * scan_module.CACHED_SETS):
        decode(update(fields + f"80 04 04 {number:08x}", "08 0a"), session)
        if number % 1000 == 0:
            assert len(cache.young) + len(cache.old) <= scan_module.CACHED_SETS
    assert len(cache.young) + len(cache.old) <= scan_module.CACHED_SETS
    long = update(fields + "d0 08 0204" + "fde80001" * 129, "08 0a")
    first, second = decode(long, session), decode(long, session)
    assert isinstance(first, Update)
    assert isinstance(second, Update)
    assert first.attributes == second.attributes
    assert first.attributes is not second.attributes
    assert first.reach[0].family == IPV4_UNICAST


def test_B23_broken_messages_leave_decode_only_as_typed_errors() -> None:
    """Seeded, so a failure repeats: every kind of message, broken 20,000 times, in every kind of session."""
    dice = Random(7)
    attributes = Attributes.of(
        origin=0,
        as_path=AsPath.of(65001, 200000),
        med=1,
        local_pref=100,
        aggregator=Aggregator(200000, b"\x0a\0\0\1"),
        communities=[1, 2],
        originator_id=b"\x0a\0\0\2",
        cluster_list=[b"\x0a\0\0\3"],
        ext_communities=[b"\0\2\0\x64\0\0\0\1"],
        tunnel_encapsulation=b"\0\2\0\4\4\2\x88\x0b",
        large_communities=[LargeCommunity(1, 2, 3)],
    )
    offered = (Multiprotocol(VPNV4), FourOctetAs(65000), GracefulRestart(120, (RestartFamily(VPNV4),)))
    seeds = [
        encode(Open(65000, 180, b"\x0a\0\0\1", offered), Session()),
        *encode_updates(VPNV4, attributes, b"\1\2\3\4", [Nlri(bytes(8) + b"\x0a\x08", (16,))], Session()).messages,
        encode(Update(attributes, (Reach(IPV4_UNICAST, b"\x0a\0\0\1", (Nlri(b"\x0a\x08"),)),)), Session(asn4=False)),
        encode(Update(unreach=(Unreach(VPNV4, (Nlri(bytes(8) + b"\x0a\x08"),)),)), Session()),
        encode(Notification(6, 2, b"bye"), Session()),
        encode(RouteRefresh(VPNV4), Session()),
    ]
    kinds = [Session(), Session(asn4=False), Session(ebgp=True), Session(addpath=FAMILIES, multiple_labels=True)]
    outcomes = {MessageError: 0, Update: 0}
    for _ in range(20_000):
        octets = dice.choice(seeds)
        made = bytearray(octets[19:])
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(made) + 1)
            made[at : at + dice.randint(0, 2)] = dice.randbytes(dice.randint(0, 2))
        result = check_total(message(octets[18], bytes(made)), dice.choice(kinds))
        outcomes[type(result)] = outcomes.get(type(result), 0) + 1
    assert outcomes[MessageError] > 1000
    assert outcomes[Update] > 1000
