"""Routes into UPDATEs: as few as hold them, none too long, nothing truncated."""

from __future__ import annotations

import pytest

from bgp.wire import (
    FAMILIES,
    IPV4_LABELLED,
    IPV4_UNICAST,
    IPV6_UNICAST,
    VPNV4,
    VPNV6,
    AsPath,
    Attributes,
    DoesNotFitError,
    Family,
    Nlri,
    RawAttribute,
    Reach,
    Session,
    Unreach,
    Update,
    decode,
    encode,
    encode_updates,
    encode_withdrawals,
    ip_nlri,
    labelled_nlri,
    vpn_nlri,
)
from stack.addr import RD, Prefix
from tests.bgp.wire.bgp_octets import AS_PATH, LOCAL_PREF, NEXT_HOP, NLRI, ORIGIN, VPN_NLRI, VPN_REACH, octets, update

SESSION, LONG = Session(), Session(extended_message=True)
ATTRIBUTES = Attributes.of(origin=0, as_path=AsPath.of(65001), local_pref=100)
RD1 = RD.parse("100:1")
V4, V6 = b"\x01\x02\x03\x04", bytes(10) + b"\xff\xff\x01\x02\x03\x04"
ONE = vpn_nlri(RD1, Prefix.parse("192.0.2.0/24"), (16,))


def routes_of(family: Family, count: int) -> list[Nlri]:
    bits = family.bits
    prefixes = (Prefix((number << (bits - 24)).to_bytes(bits // 8), 24) for number in range(0x0A0000, 0x0A0000 + count))
    if family.vpn:
        return [vpn_nlri(RD1, prefix, (16 + at % 7,)) for at, prefix in enumerate(prefixes)]
    if family.labelled:
        return [labelled_nlri(prefix, (16 + at % 7,)) for at, prefix in enumerate(prefixes)]
    return [ip_nlri(prefix) for prefix in prefixes]


def updates(messages: tuple[bytes, ...], session: Session) -> list[Update]:
    read = [decode(message, session) for message in messages]
    assert all(isinstance(one, Update) for one in read)
    return [one for one in read if isinstance(one, Update)]


def test_rfc7606_5_1_mp_reach_comes_first() -> None:
    packed = encode_updates(VPNV4, ATTRIBUTES, V4, [ONE], SESSION)
    assert packed.messages == (update(VPN_REACH + ORIGIN + AS_PATH + LOCAL_PREF),)
    assert packed.suppressed == ()


def test_rfc4271_5_ipv4_has_its_next_hop_in_place_and_its_routes_in_the_nlri_field() -> None:
    route = ip_nlri(Prefix.parse("192.0.2.0/24"))
    packed = encode_updates(IPV4_UNICAST, ATTRIBUTES, b"\x0a\0\0\1", [route], SESSION)
    assert packed.messages == (update(ORIGIN + AS_PATH + NEXT_HOP + LOCAL_PREF, NLRI),)


def test_rfc8950_4_ipv4_with_an_ipv6_next_hop_goes_into_mp_reach() -> None:
    route = ip_nlri(Prefix.parse("192.0.2.0/24"))
    (got,) = updates(
        encode_updates(IPV4_UNICAST, ATTRIBUTES, b"\x20\1" + bytes(13) + b"\1", [route], SESSION).messages, SESSION
    )
    assert got.reach == (Reach(IPV4_UNICAST, b"\x20\1" + bytes(13) + b"\1", (route,)),)


def test_rfc8277_2_4_withdrawals() -> None:
    (message,) = encode_withdrawals(VPNV4, [ONE], SESSION)
    assert message == update("80 0f 12 0001 80 70 800000 0000006400000001 c00002")
    (message,) = encode_withdrawals(IPV4_UNICAST, [ip_nlri(Prefix.parse("192.0.2.0/24"))], SESSION)
    assert message == update("", withdrawn=NLRI)


@pytest.mark.parametrize("session", [SESSION, LONG, Session(asn4=False), Session(addpath=FAMILIES)], ids=str)
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_as_few_messages_as_hold_the_routes(family: Family, session: Session) -> None:
    """All routes arrive, in order, and no message could have taken the first route of the next one."""
    routes = routes_of(family, 3000)
    next_hop = V4 if family.afi == 1 else V6
    packed = encode_updates(family, ATTRIBUTES, next_hop, routes, session)
    assert packed.suppressed == ()
    got = updates(packed.messages, session)
    assert [route for one in got for route in one.reach[0].routes] == routes
    assert {one.reach[0].next_hop for one in got} == {next_hop}
    assert {one.attributes for one in got} == {ATTRIBUTES}
    largest = 28 + 4
    assert all(session.limit - largest <= len(message) <= session.limit for message in packed.messages[:-1])

    gone = encode_withdrawals(family, routes, session)
    read = updates(gone, session)
    assert [(key, path) for one in read for key, _, path in one.unreach[0].routes] == [
        (r.key, r.path_id) for r in routes
    ]
    assert all(session.limit - largest <= len(message) <= session.limit for message in gone[:-1])


def test_no_routes_no_messages() -> None:
    assert encode_updates(VPNV4, ATTRIBUTES, V4, [], SESSION).messages == ()
    assert encode_withdrawals(VPNV4, [], SESSION) == ()


def test_one_message_filled_to_the_last_octet() -> None:
    """4096 - 23 of the message, 17 of MP_REACH before its NLRI and 4 of its header: the filler makes it exact."""
    room = 4096 - 23 - 4 - 17 - len(ATTRIBUTES.octets)
    filler = (room - 4) % 15
    attributes = ATTRIBUTES.with_raw(RawAttribute(0xE0, 200, bytes(filler)))
    room = 4096 - 23 - 4 - 17 - len(attributes.octets)
    count, left = divmod(room, 15)
    assert left in (0, 1)
    packed = encode_updates(VPNV4, attributes, V4, routes_of(VPNV4, count), SESSION)
    assert [len(message) for message in packed.messages] == [4096 - left]
    packed = encode_updates(VPNV4, attributes, V4, routes_of(VPNV4, count + 1), SESSION)
    assert len(packed.messages) == 2


@pytest.mark.parametrize("size", [4000, 4026, 4050, 4096, 60000])
def test_B11_attributes_that_leave_no_room_suppress_the_routes(size: int) -> None:
    """RFC 4271 9.2: an UPDATE that does not fit MUST NOT be sent. Nothing is truncated, and RFC 8654 sends it."""
    attributes = ATTRIBUTES.with_raw(RawAttribute(0xE0, 200, b"\xaa" * size))
    fits = 23 + 4 + 17 + len(attributes.octets) + 15 <= 4096
    packed = encode_updates(VPNV4, attributes, V4, [ONE, ONE], SESSION)
    if fits:
        assert packed.suppressed == ()
    else:
        assert packed.messages == ()
        assert packed.suppressed == (ONE, ONE)
        assert packed.reason is not None
        assert packed.reason.limit == 4096 < packed.reason.needed
        assert "vpnv4" in str(packed.reason)
    packed = encode_updates(VPNV4, attributes, V4, [ONE, ONE], LONG)
    assert packed.suppressed == ()
    assert updates(packed.messages, LONG)[0].attributes == attributes


def test_B11_unknown_attribute_of_4000_octets_leaves_one_route_a_message() -> None:
    """23 + 4 + 17 + attributes + 15 or 30: two routes do not fit beside it, one does."""
    spare = 4096 - 23 - 4 - 17 - len(ATTRIBUTES.octets) - 4 - 20
    attributes = ATTRIBUTES.with_raw(RawAttribute(0xE0, 255, b"\xaa" * spare))
    packed = encode_updates(VPNV4, attributes, V4, routes_of(VPNV4, 5), SESSION)
    assert packed.suppressed == ()
    assert [len(one.reach[0].routes) for one in updates(packed.messages, SESSION)] == [1] * 5


def test_B11_only_the_routes_that_do_not_fit_are_suppressed() -> None:

    spare = 4096 - 23 - len(ATTRIBUTES.octets) - 7 - 4 - 4
    attributes = ATTRIBUTES.with_raw(RawAttribute(0xE0, 200, bytes(spare)))
    routes = [ip_nlri(Prefix.parse(text)) for text in ("10.0.0.0/8", "192.0.2.1/32", "172.16.0.0/12", "11.0.0.0/8")]
    packed = encode_updates(IPV4_UNICAST, attributes, V4, routes, SESSION)
    assert packed.suppressed == (routes[1],)
    got = [route for one in updates(packed.messages, SESSION) for route in one.reach[0].routes]
    assert got == [routes[0], routes[2], routes[3]]


def test_rfc8277_2_1_label_stacks_only_where_agreed() -> None:
    stacked = vpn_nlri(RD1, Prefix.parse("192.0.2.0/24"), (16, 17))
    none = vpn_nlri(RD1, Prefix.parse("192.0.2.0/24"), ())
    packed = encode_updates(VPNV4, ATTRIBUTES, V4, [ONE, stacked, none], SESSION)
    assert packed.suppressed == (stacked, none)
    assert packed.reason is not None
    assert updates(packed.messages, SESSION)[0].reach[0].routes == (ONE,)
    session = Session(multiple_labels=True)
    packed = encode_updates(VPNV4, ATTRIBUTES, V4, [ONE, stacked], session)
    assert updates(packed.messages, session)[0].reach[0].routes == (ONE, stacked)


def test_rfc8277_2_1_stacks_that_no_length_octet_can_say() -> None:
    session = Session(multiple_labels=True)
    deep = vpn_nlri(RD1, Prefix.parse("2001:db8::/128"), (16, 17, 18))
    assert encode_updates(VPNV6, ATTRIBUTES, V6, [deep], session).suppressed == (deep,)


def test_two_octet_form_is_made_once_a_set() -> None:
    old = Session(asn4=False)
    attributes = Attributes.of(origin=0, as_path=AsPath.of(200000), local_pref=100)
    first = encode_updates(VPNV4, attributes, V4, [ONE], old)
    kept = attributes.narrow
    assert kept is not None
    assert encode_updates(VPNV4, attributes, V4, [ONE], old) == first
    assert attributes.narrow is kept
    assert updates(first.messages, old)[0].attributes == attributes


# --- encode(Update): one message or a reason why not ----------------------------------------------------------------------


def test_encode_refuses_what_is_not_one_message() -> None:
    two = Update(ATTRIBUTES, (Reach(VPNV4, V4, (ONE,)), Reach(VPNV6, V6, (ONE,))))
    with pytest.raises(ValueError, match="more families"):
        encode(two, SESSION)
    with pytest.raises(ValueError, match="End-of-RIB"):
        encode(Update(), SESSION)
    with pytest.raises(ValueError, match="next hop of 5"):
        encode(
            Update(ATTRIBUTES, (Reach(IPV4_LABELLED, b"12345", (labelled_nlri(Prefix.parse("10.0.0.0/8"), (16,)),)),)),
            SESSION,
        )
    with pytest.raises(ValueError, match="label stack"):
        encode(Update(ATTRIBUTES, (Reach(VPNV4, V4, (vpn_nlri(RD1, Prefix.parse("10.0.0.0/8"), ()),)),)), SESSION)
    many = Update(ATTRIBUTES, (Reach(VPNV4, V4, tuple(routes_of(VPNV4, 300))),))
    with pytest.raises(DoesNotFitError) as caught:
        encode(many, SESSION)
    assert caught.value.needed > caught.value.limit == 4096
    assert len(encode(many, LONG)) == caught.value.needed
    with pytest.raises(DoesNotFitError):
        encode(Update(ATTRIBUTES, (Reach(VPNV4, V4, tuple(routes_of(VPNV4, 5000))),)), LONG)


def test_encode_all_fields_at_once() -> None:
    ipv4 = ip_nlri(Prefix.parse("192.0.2.0/24"))
    everything = Update(
        ATTRIBUTES,
        (Reach(VPNV4, V4, (ONE,)), Reach(IPV4_UNICAST, b"\x0a\0\0\1", (ipv4,))),
        (Unreach(IPV4_UNICAST, (ipv4,)), Unreach(IPV6_UNICAST, (ip_nlri(Prefix.parse("2001:db8::/32")),))),
    )
    written = encode(everything, SESSION)
    assert octets(VPN_NLRI) in written
    got = decode(written, SESSION)
    assert isinstance(got, Update)
    assert set(got.reach) == set(everything.reach)
    assert set(got.unreach) == set(everything.unreach)
    assert got.attributes == ATTRIBUTES
