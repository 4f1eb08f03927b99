"""NHRP in and out by the packet path: GRE 0x2001 in clear and out of ESP. Fault rows T02, E04.

PE1 192.0.2.1 = Tunnel0 (multipoint, network 1) == PE2 192.0.2.2, PE3 192.0.2.3: known; 192.0.2.66: nobody knows it
"""

from __future__ import annotations

import errno

import pytest
from attrs import evolve

from stack.esp import EspMode
from stack.events import NhrpReceived, SaKey, SendNhrp
from stack.tables.reception import Reception
from tests.tunnel.io.esp_world import FORMS, Far, Protected, protected, sa
from tests.tunnel.io.world import (
    CE,
    E0,
    KEY,
    PE2,
    PE3,
    REMOTE,
    STRANGER,
    TUNNEL,
    US,
    World,
    frame,
    ip,
    labelled,
    stacked,
    tunnelled,
    udp4,
)
from tunnel.io.counters import Drop
from tunnel.io.path import NHRP_RATE
from tunnel.wire import gre, ipv4

TEXT = b"\0\1\x08\0whatever NHRP says"
INNER = udp4(REMOTE, CE)


@pytest.fixture
def hub(world):
    world.change_interface(TUNNEL, network_id=1)
    return world


def nhrp(source: bytes = STRANGER, text: bytes = TEXT, **more) -> bytes:
    return tunnelled(text, gre.NHRP, source=source, **more)


def send(world: World, nbma: bytes = STRANGER, text: bytes = TEXT, interface: str = TUNNEL) -> dict[str, list[bytes]]:
    world.forwarder.send_nhrp(SendNhrp(interface, nbma, text))
    return world.sent()


def point_to_point(world: World, key: int | None = 7, **more) -> None:
    row = Reception("Tunnel9", US, frozenset((47,)), "", key, frozenset((PE3,)), point_to_point=True, **more)
    world.reception(row)
    found = world.tables.interfaces.get(TUNNEL)
    world.w["interfaces"].put("Tunnel9", evolve(found, row=evolve(found.row, name="Tunnel9", network_id=1)))


# --- in: T02 ---------------------------------------------------------------------------------------------------------------


def test_T02_a_registration_of_a_stranger_is_heard_its_data_is_not(hub):
    """A spoke registers before it is known. That admits nothing else, before and after (RFC 4023 8.2)."""
    for _ in range(3):
        assert hub.into("gre", nhrp(), labelled(INNER, 18, source=STRANGER), nhrp()) == {}
        assert hub.into("gre", tunnelled(INNER, gre.IPV4, source=STRANGER)) == {}
    assert hub.facts == [NhrpReceived(TUNNEL, "", STRANGER, US, 0, TEXT)] * 6
    assert hub.dropped() == {Drop.UNKNOWN_ENDPOINT: 6}
    assert hub.into("gre", labelled(INNER, 18)), "who is known goes on"


def test_T02_the_key_is_asked_for_as_ever(hub):
    assert hub.into("gre", nhrp(key=None), nhrp(key=KEY + 1), nhrp(destination=PE3)) == {}
    assert hub.facts == []
    assert hub.dropped() == {Drop.GRE_KEY: 2, Drop.NOT_OURS: 1}


def test_without_a_network_nhrp_is_dropped_for_that_reason(world):
    world.into("gre", nhrp(PE2))
    world.into("gre", nhrp(STRANGER))
    assert world.facts == []
    assert world.dropped() == {Drop.NHRP_OFF: 1, Drop.UNKNOWN_ENDPOINT: 1}


def test_T02_a_point_to_point_tunnel_hears_its_far_end_only(world):
    point_to_point(world)
    world.into("gre", nhrp(PE3, key=7), nhrp(STRANGER, key=7), nhrp(PE2, key=7))
    assert world.facts == [NhrpReceived("Tunnel9", "", PE3, US, 0, TEXT)]
    assert world.dropped() == {Drop.UNKNOWN_ENDPOINT: 2}


def test_a_point_to_point_tunnel_comes_before_a_multipoint_one_with_the_same_key(hub):
    point_to_point(hub, KEY)
    hub.into("gre", nhrp(PE3), nhrp(STRANGER))
    assert [fact.interface for fact in hub.facts] == ["Tunnel9", TUNNEL]


def test_it_counts_as_what_came_in(hub):
    hub.into("gre", nhrp())
    (row,) = [row for row in hub.forwarder.snapshot().interfaces if row.interface == TUNNEL]
    assert (row.packets_in, row.octets_in) == (1, len(TEXT))


# --- out -------------------------------------------------------------------------------------------------------------------


def test_an_answer_to_a_stranger(hub):
    """A registration that is refused must be answered. Precedence 6, TTL 255, the tunnel's key, its own end."""
    out = send(hub)
    assert list(out) == ["gre"]
    octets = bytearray(out["gre"][0])
    octets[2:4] = len(octets).to_bytes(2)
    assert (
        octets[:20]
        == bytes.fromhex("45c0") + len(octets).to_bytes(2) + bytes.fromhex("00000000 ff2f0000") + US + STRANGER
    )
    assert octets[20:28] == bytes.fromhex("2000 2001") + KEY.to_bytes(4)
    assert octets[28:] == TEXT
    assert not hub.dropped()


def test_an_endpoint_that_is_known_is_sent_to_in_the_same_way(hub):
    assert send(hub, PE2)["gre"][0][16:20] == PE2
    assert not [name for name in hub.ports if name.startswith("raw")], "and no socket is opened for it"


def test_point_to_point_goes_to_the_far_end_whatever_is_said(world):
    point_to_point(world, None)
    for nbma in (b"", STRANGER):
        (packet,) = send(world, nbma, interface="Tunnel9")["gre"]
        assert (packet[16:20], packet[20:24]) == (PE3, bytes.fromhex("0000 2001"))


@pytest.mark.parametrize(
    ("nbma", "reason"),
    [
        (b"", Drop.UNRESOLVED),
        (bytes(16), Drop.UNRESOLVED),
        (ip("0.1.2.3"), Drop.MARTIAN),
        (ip("127.0.0.1"), Drop.MARTIAN),
        (ip("224.0.0.1"), Drop.MARTIAN),
        (ip("255.255.255.255"), Drop.MARTIAN),
        (US, Drop.MARTIAN),
    ],
)
def test_where_nothing_is_sent_to(hub, nbma, reason):
    assert send(hub, nbma) == {}
    assert hub.dropped() == {reason: 1}


def test_interfaces_that_send_no_nhrp(hub):
    assert send(hub, interface="Tunnel77") == {}
    hub.change_interface(TUNNEL, network_id=0)
    assert send(hub) == {}
    assert hub.dropped() == {Drop.NHRP_OFF: 2}
    hub.change_interface(TUNNEL, network_id=1)
    hub.w["interfaces"].put(TUNNEL, evolve(hub.tables.interfaces.get(TUNNEL), up=False))
    assert send(hub) == {}
    assert hub.dropped() == {Drop.NHRP_OFF: 2, Drop.INTERFACE_DOWN: 1}


def test_a_port_that_fails_costs_a_packet_and_nothing_else(hub):
    hub.ports["gre"].send_errors.extend([BlockingIOError(errno.EAGAIN, "full"), OSError(errno.ENETUNREACH, "no way")])
    assert send(hub) == {}
    assert send(hub) == {}
    assert hub.dropped() == {Drop.QUEUE_FULL: 1, Drop.PORT_ERROR: 1}
    assert send(hub)["gre"]
    assert send(hub, text=bytes(65_600)) == {}
    assert hub.dropped()[Drop.TOO_BIG] == 1


def test_sending_is_bounded_and_so_is_each_interface_by_itself(hub):
    for _ in range(NHRP_RATE + 5):
        hub.forwarder.send_nhrp(SendNhrp(TUNNEL, PE2, b""))
        if not hub.dropped():
            hub.sent()
    assert hub.dropped() == {Drop.PUNT_BUDGET: 5}
    hub.into("gre", nhrp())
    assert len(hub.facts) == 1, "what comes in has a budget of its own"


# --- protected: E04 ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=FORMS, ids=str)
def sealed(request):
    with protected(form=FORMS[request.param]) as made:
        made.change_interface(TUNNEL, network_id=1)
        yield made


@pytest.fixture
def gcm():
    with protected() as made:
        made.change_interface(TUNNEL, network_id=1)
        yield made


def stranger(world: Protected) -> Far:
    """A spoke with an SA, whom no client has claimed as an endpoint yet."""
    fields = {"key": SaKey(TUNNEL, STRANGER)}
    out, into = (sa(spi | 0x66, STRANGER, world.form, **fields) for spi in (0x10000, 0x20000))
    world.w["sad"].put_inbound(into)
    world.w["sad"].put_outbound(out)
    return Far(out, into)


def test_E04_nhrp_leaves_sealed_by_the_neighbours_own_sa(sealed):
    for pe in (PE2, PE3):
        out = send(sealed, pe)
        assert list(out) == [sealed.outer_of(pe)]
        inner = sealed.far[pe].carried(out[sealed.outer_of(pe)][0])
        assert (inner.protocol, inner.key, inner.payload) == (gre.NHRP, KEY, TEXT)
        opened = ipv4.decode(out[sealed.outer_of(pe)][0])
        assert opened.tos == 0xC0
    assert not sealed.dropped()


def test_E04_nhrp_of_a_protected_tunnel_never_leaves_in_clear(sealed):
    """Without an SA to that neighbour: for a stranger, before the first one, and after the last."""
    assert send(sealed, STRANGER) == {}
    sealed.w["sad"].keep_only({}, {})
    assert send(sealed, PE2) == {}
    sealed.far[PE2] = sealed.associate(PE2, 1)
    assert sealed.far[PE2].carried(send(sealed, PE2)[sealed.outer_of(PE2)][0]).payload == TEXT
    sealed.w["sad"].remove_outbound(SaKey(TUNNEL, PE2))
    assert send(sealed, PE2) == {}
    assert sealed.dropped() == {Drop.PROTECTED: 3}


def test_E04_nhrp_in_clear_to_a_protected_tunnel_is_dropped(sealed):
    """From known endpoints and others, before and after the same came by way of ESP."""
    far = sealed.far[PE2]
    for _ in range(2):
        assert sealed.into("gre", nhrp(PE2), nhrp(PE3), nhrp(STRANGER)) == {}
        sealed.arrive(far.packet(far.wrap(gre.NHRP, TEXT)))
    assert sealed.facts == [NhrpReceived(TUNNEL, "", PE2, US, far.into.child, TEXT)] * 2
    assert sealed.dropped() == {Drop.PROTECTED: 6}


def test_T02_a_stranger_with_an_sa_registers_but_sends_no_data(sealed):
    """The SA proves who it is; the endpoint database says what it may reach."""
    far = stranger(sealed)
    for _ in range(3):
        assert sealed.arrive(far.packet(far.wrap(gre.NHRP, TEXT))) == {}
        assert sealed.arrive(far.packet(far.wrap(gre.MPLS, stacked(INNER, 18)))) == {}
    assert sealed.facts == [NhrpReceived(TUNNEL, "", STRANGER, US, far.into.child, TEXT)] * 3
    assert sealed.dropped() == {Drop.UNKNOWN_ENDPOINT: 3}
    answer = send(sealed)[f"raw {17 if sealed.form.udp else 50} {STRANGER[-1]}"][0]
    assert far.carried(answer).payload == TEXT


def test_without_a_network_nhrp_out_of_esp_is_dropped_too(gcm):
    gcm.change_interface(TUNNEL, network_id=0)
    far = gcm.far[PE2]
    gcm.arrive(far.packet(far.wrap(gre.NHRP, TEXT)))
    assert send(gcm, PE2) == {}
    assert gcm.facts == []
    assert gcm.dropped() == {Drop.NHRP_OFF: 2}


def test_E04_a_point_to_point_tunnel_sends_by_its_one_sa(gcm):
    point_to_point(gcm, protected=True)
    assert send(gcm, interface="Tunnel9") == {}, "the SA of another tunnel with the same ends is not its own"
    assert gcm.dropped() == {Drop.PROTECTED: 1}
    out = sa(0x9999, PE3, gcm.form, key=SaKey("Tunnel9"))
    gcm.w["sad"].put_outbound(out)
    inner = Far(out, out).carried(send(gcm, STRANGER, interface="Tunnel9")["raw 50 3"][0])
    assert (inner.key, inner.payload) == (7, TEXT)


def test_a_clone_of_a_multipoint_template_sends_to_its_one_peer(gcm):
    """Its SA is under no address, and serves the peer by the one it has; nobody else."""
    gcm.w["sad"].keep_only({}, {})
    gcm.w["sad"].put_outbound(sa(0x9999, STRANGER, gcm.form, key=SaKey(TUNNEL)))
    assert list(send(gcm, STRANGER)) == ["raw 50 66"]
    assert send(gcm, ip("192.0.2.77")) == {}
    assert gcm.dropped() == {Drop.PROTECTED: 1}


def test_E05_an_sa_at_its_hard_limit_sends_nothing(gcm):
    gcm.associate(PE2, 1, hard_packets=1)
    assert send(gcm, PE2)
    assert send(gcm, PE2) == {}
    assert gcm.dropped() == {Drop.ESP_EXPIRED: 1}


def test_data_and_nhrp_share_the_numbers_of_their_sa(gcm):
    """Whatever goes by an SA counts with it: no number twice."""
    packets = []
    for _ in range(3):
        packets += send(gcm, PE2)["raw 50 2"]
        packets += gcm.into(E0, frame(udp4()))["raw 50 2"]
    assert [gcm.far[PE2].open(packet).sequence for packet in packets] == [1, 2, 3, 4, 5, 6]


def test_in_tunnel_mode_the_inner_header_is_whole():
    with protected(form=FORMS["gcm tunnel"]) as world:
        world.change_interface(TUNNEL, network_id=1)
        assert world.form.mode is EspMode.TUNNEL
        packet = send(world, PE2)["raw 50 2"][0]
        inner = ipv4.decode(world.far[PE2].open(packet).payload)
        assert (inner.ttl, inner.tos, inner.source, inner.destination) == (255, 0xC0, US, PE2)
