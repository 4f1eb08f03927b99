"""`tunnel vrf`: tunnels whose own packets travel in a VRF. Fault rows T01, T02, T04, T05, E04, E06.

                  CE1 10.1.0.2 -- Ethernet0/0  (cust1, 10.1.0.1) = Tunnel5, inside cust2, key 5
                  CE2 10.1.0.2 -- Ethernet0/1.20  (cust2, 10.1.0.1) = Tunnel6, inside cust1, key 5

Both tunnels have the same ends and the same key, in two VRFs; each carries what belongs to the other's transport VRF. Behind
Tunnel5 is 10.55.0.0/16 of cust2, behind Tunnel6 10.66.6.0/24 of cust1.
"""

from __future__ import annotations

import pytest
from attrs import define, evolve, field
from hypothesis import given
from hypothesis import strategies as st

from stack.addr import Prefix
from stack.esp import EspForm, Selector
from stack.events import InterfaceKind, NhrpReceived, SaKey, SaUnknown, SendNhrp
from stack.tables.adjacency import AdjacencyKind
from stack.tables.fib import LeafKind
from stack.tables.lfib import Operation
from stack.tables.reception import Reception
from tests.tunnel.io.esp_world import FORMS, GCM, Far, sa
from tests.tunnel.io.world import (
    CE,
    CE_MAC,
    CUST1,
    CUST2,
    E0,
    E1,
    OUR_MAC,
    OURS,
    PE2,
    World,
    frame,
    interface,
    ip,
    lower_ttl,
    stacked,
    tunnelled,
    udp4,
    unwrapped,
)
from tunnel.io import transport
from tunnel.io.counters import Drop
from tunnel.io.reassembly import MAX_OCTETS, MAX_PIECES, MAX_SETS, SECONDS, Reassembly
from tunnel.wire import ethernet, gre, ipv4, udp

T5, T6, KEY = "Tunnel5", "Tunnel6", 5
BEHIND5, BEHIND6 = ip("10.55.0.9"), ip("10.66.6.9")
FAR = {T5: BEHIND5, T6: BEHIND6}
INTO = {T5: (E0, CUST1), T6: (E1, CUST2)}
"""Tunnel -> the attachment by which its own packets come, and the VRF in which they travel."""
READERS = "gre", "mpls-in-ip", "esp", "esp in udp"
TEXT = b"what NHRP says"


@define(eq=False, slots=False)
class Vrfs(World):
    form: EspForm = GCM
    sealed: bool = False
    far: dict[str, Far] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.w["sad"] = self.tables.sad.writer("test")
        for index, (name, (_, vrf)) in enumerate(INTO.items()):
            inside = CUST2 if vrf == CUST1 else CUST1
            row = interface(name, InterfaceKind.TUNNEL, 20 + index, vrf=inside, mpls=True, network_id=1, mtu=1400)
            self.w["interfaces"].put(name, row)
            fields = {"protection": "gold", "sa": SaKey(name)} if self.sealed else {}
            ends = {"source": OURS, "destination": CE, "gre_key": KEY, "transport_vrf": vrf}
            self.adjacency(name, b"", AdjacencyKind.GRE, mtu=1400, **ends, **fields)
            self.next_hop(50 + index, name, b"")
            self.reception(
                Reception(
                    name, OURS, frozenset((47,)), inside, KEY, frozenset((CE,)),
                    point_to_point=True, protected=self.sealed, transport_vrf=vrf,
                    scope="protected" if self.sealed else "mgre",
                )
            )  # fmt: skip
            self.route(inside, f"{'10.55.0.0/16' if name == T5 else '10.66.6.0/24'}", LeafKind.FORWARD, 50 + index)
            self.open_transport(vrf)
            if self.sealed:
                self.associate(name)

    def open_transport(self, vrf: str) -> None:
        pairs = self.forwarder.add_transport(vrf)
        for name, (_, reader) in zip(READERS, pairs, strict=True):
            self.readers[f"{name} {vrf}"] = reader

    def associate(self, name: str, generation: int = 0, **more) -> Far:
        fields = {"key": SaKey(name), "local": OURS, "vrf": INTO[name][1], **more}
        base = (generation << 8) + int(name[-1])
        out, into = (sa(spi | base, CE, self.form, **fields) for spi in (0x30000, 0x40000))
        out, into = (evolve(each, own=_selector(OURS), far=_selector(CE), use=type(each.use)()) for each in (out, into))
        self.w["sad"].put_inbound(into)
        self.w["sad"].put_outbound(out)
        self.far[name] = Far(out, into)
        return self.far[name]

    def arrive(self, name: str, *packets: bytes, by: str = "") -> dict[str, list[bytes]]:
        """Outer packets come to the transport VRF of a tunnel, and everything that waits is drained."""
        door = by or INTO[name][0]
        for packet in packets:
            octets = ethernet.encode(ethernet.Ethernet(OUR_MAC, CE_MAC, 0x0800, packet))
            self.ports[door].put(bytes(self.ports[door].headroom) + octets)
        self.readers[door].drain()
        for key, reader in self.readers.items():
            if key.endswith((CUST1, CUST2)) and not key.startswith("host"):
                reader.drain()
        return self.sent()


def _selector(address: bytes) -> tuple[Selector, ...]:
    return (Selector(address, address, 47),)


def outer(payload: bytes, protocol: int = gre.IPV4, source: bytes = CE, destination: bytes = OURS, **more) -> bytes:
    return tunnelled(payload, protocol, source, destination, **{"key": KEY, **more})


def inside(name: str, **more) -> bytes:
    """A packet of the inside VRF that goes to the attachment of that VRF."""
    return udp4(FAR[name], CE, **more)


@pytest.fixture(params=["one by one", "batch", "bare frames"])
def world(request):
    made = Vrfs(headroom=0 if request.param == "bare frames" else 10, batch=request.param == "batch")
    yield made
    for port in made.ports.values():
        port.close()


@pytest.fixture(params=FORMS, ids=str)
def sealed(request):
    return Vrfs(form=FORMS[request.param], sealed=True)


@pytest.fixture
def gcm():
    return Vrfs(sealed=True)


def other(name: str) -> str:
    return T6 if name == T5 else T5


def packets_out(world: Vrfs, name: str, out: dict[str, list[bytes]]) -> list[bytes]:
    """What left by the transport VRF of a tunnel; nothing may have left in another way."""
    door, vrf = INTO[name]
    assert set(out) <= {door}
    vlan = 4 if vrf == CUST2 else 0
    return [octets[14 + vlan :] for octets in out.get(door, ())]


# --- out -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [T5, T6])
def test_out_by_the_transport_vrf(world, name):
    """In by the attachment of the inside VRF, out by that of the other one, as a whole IPv4 packet of our own."""
    packet = udp4(CE, FAR[name])
    numbers = set()
    for _ in range(3):
        (sent,) = packets_out(world, name, world.into(INTO[other(name)][0], frame(packet)))
        header, inner, _, under = unwrapped(sent)
        assert (header.source, header.destination, header.ttl, header.dont_fragment) == (OURS, CE, 255, False)
        assert (inner.key, inner.protocol, under) == (KEY, gre.IPV4, lower_ttl(packet))
        numbers.add(header.identification)
    assert len(numbers) == 3
    assert 0 not in numbers, "RFC 6864 4.1: what may be fragmented has a number of its own"
    assert not world.dropped()


def test_no_socket_of_the_hosts_is_opened_for_it(world):
    world.into(E1, frame(udp4(CE, BEHIND5)))
    assert not [name for name in world.ports if name.startswith("raw")]


def test_labels_go_the_same_way(world):
    world.route(CUST2, "10.55.0.0/16", LeafKind.FORWARD, 50, (777,))
    (sent,) = packets_out(world, T5, world.into(E1, frame(udp4(CE, BEHIND5))))
    _, _, stack, under = unwrapped(sent)
    assert (stack[0].label, under) == (777, lower_ttl(udp4(CE, BEHIND5)))


def test_an_outer_packet_larger_than_the_way_is_fragmented(world):
    """DF is clear on every outer packet, as in the default VRF: the path may cut it, and the far end puts it together."""
    world.change_adjacency(E0, CE, mtu=600)
    packet = udp4(CE, BEHIND5, size=1000)
    parts = [ipv4.decode(sent) for sent in packets_out(world, T5, world.into(E1, frame(packet)))]
    assert len(parts) == 2
    assert len({part.identification for part in parts}) == 1
    whole = b"".join(part.payload for part in sorted(parts, key=lambda part: part.offset))
    assert gre.decode(whole).payload == lower_ttl(packet)


def test_a_neighbour_that_is_not_resolved_yet_gets_the_packet_later(world):
    key = next(a.key for a in world.tables.adjacencies if a.key.interface == E0 and a.key.address == CE)
    found = world.tables.adjacencies.get(key)
    world.w["adjacencies"].remove(key)
    assert world.into(E1, frame(udp4(CE, BEHIND5))) == {}
    world.w["adjacencies"].put(key, found)
    world.forwarder.path.tick()
    (sent,) = packets_out(world, T5, world.sent())
    assert unwrapped(sent)[3] == lower_ttl(udp4(CE, BEHIND5))


def test_the_way_is_looked_up_anew_when_the_vrfs_routes_change(world):
    for _ in range(3):
        assert world.into(E1, frame(udp4(CE, BEHIND5)))
    world.route(CUST1, "10.1.0.2/32", LeafKind.DISCARD)
    assert world.into(E1, frame(udp4(CE, BEHIND5))) == {}
    assert world.dropped() == {Drop.DISCARD: 1}
    world.w["fib"].remove(CUST1, Prefix.parse("10.1.0.2/32"))
    assert world.into(E1, frame(udp4(CE, BEHIND5)))


def test_a_transport_vrf_that_is_closed_sends_nothing(world):
    assert world.into(E1, frame(udp4(CE, BEHIND5)))
    world.forwarder.remove_transport(CUST1)
    assert world.into(E1, frame(udp4(CE, BEHIND5))) == {}
    assert world.dropped() == {Drop.PORT_ERROR: 1}
    world.open_transport(CUST1)
    assert world.into(E1, frame(udp4(CE, BEHIND5)))


def test_T04_a_tunnel_that_leads_into_itself_ends(world):
    """Routing refuses it; should it happen all the same, a packet is put into so many tunnels and no more."""
    world.route(CUST1, "10.1.0.2/32", LeafKind.FORWARD, 51)
    world.route(CUST2, "10.1.0.2/32", LeafKind.FORWARD, 50)
    assert world.into(E1, frame(udp4(CE, BEHIND5))) == {}
    assert world.dropped() == {Drop.NESTED: 1}
    assert world.forwarder.path.nested == 0


def test_a_tunnel_in_a_vrf_that_is_reached_by_another_tunnel(world):
    """Two deep: 10.55.0.0/16 by Tunnel5, whose far end is behind the tunnel of the core."""
    world.route(CUST1, "10.1.0.2/32", LeafKind.FORWARD, 1, (102,))
    for _ in range(2):
        (sent,) = world.into(E1, frame(udp4(CE, BEHIND5)))["raw 47 2"]
        _, _, stack, middle = unwrapped(sent)
        assert stack[0].label == 102
        assert unwrapped(middle)[3] == lower_ttl(udp4(CE, BEHIND5))


# --- in --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [T5, T6])
def test_T02_two_tunnels_with_the_same_ends_in_two_vrfs_never_mix(world, name):
    """In by one attachment, out by that of the inside VRF; the other tunnel, with the same ends and key, has no part."""
    packet = inside(name)
    for _ in range(3):
        out = world.arrive(name, outer(packet), outer(packet))
        assert [ethernet.decode(octets).payload[-len(packet) :] for octets in out[INTO[other(name)][0]]] == [
            lower_ttl(packet)
        ] * 2
        assert set(out) == {INTO[other(name)][0]}
    rows = {row.interface: row.packets_in for row in world.forwarder.snapshot().interfaces}
    assert (rows[name], rows.get(other(name), 0)) == (6, 0)


def test_T02_the_other_vrf_and_the_hosts_own_socket_are_no_way_in(world):
    """What Tunnel5 takes in cust1 is nothing in cust2 once Tunnel6 is gone, nor by the raw socket of the default VRF."""
    assert world.arrive(T5, outer(inside(T5)))
    world.w["receptions"].remove(T6)
    for _ in range(2):
        assert world.arrive(T6, outer(inside(T5))) == {}
        assert world.into("gre", outer(inside(T5))) == {}
        assert world.into("gre", tunnelled(inside(T5), gre.IPV4, CE, OURS, key=KEY)) == {}
    assert world.dropped() == {Drop.NESTED: 2, Drop.NOT_OURS: 4}
    assert world.arrive(T5, outer(inside(T5)))


def test_T01_T02_what_a_tunnel_refuses_it_refuses_in_a_vrf_too(world):
    refused = {
        Drop.GRE_KEY: outer(inside(T5), key=None),
        Drop.UNKNOWN_ENDPOINT: outer(inside(T5), source=ip("10.1.0.77")),
        Drop.GRE_VERSION: ipv4.encode(ipv4.Ipv4(CE, OURS, 47, b"\x20\x01\x08\0" + KEY.to_bytes(4) + inside(T5))),
    }
    for packet in refused.values():
        assert world.arrive(T5, packet) == {}
    assert world.dropped() == dict.fromkeys(refused, 1)


def test_what_came_once_is_not_believed_for_ever(world):
    """The pair of addresses is remembered; header, length, fragments and whether the address is ours are looked at anew."""
    good = outer(inside(T5))
    for _ in range(3):
        assert list(world.arrive(T5, good)) == [E1]
    broken = bytearray(good)
    broken[10] ^= 1
    assert world.arrive(T5, bytes(broken), good[:30], good[:5]) == {}
    assert world.dropped() == {Drop.CHECKSUM: 1, Drop.MALFORMED: 2}
    assert world.arrive(T5, good + bytes(9)), "padding of the link"
    parts = cut(outer(inside(T5, size=700)), 576)
    assert len(world.arrive(T5, *parts)[E1]) == 1
    world.route(CUST1, "10.1.0.1/32", LeafKind.DISCARD)
    assert E1 not in world.arrive(T5, good)
    assert world.dropped()[Drop.DISCARD] == 1
    world.route(CUST1, "10.1.0.1/32", LeafKind.RECEIVE)
    world.w["receptions"].remove(T5)
    assert world.arrive(T5, good) == {}
    assert world.dropped()[Drop.NESTED] == 1, "no tunnel travels here any more"


def test_our_own_address_as_source_is_a_martian(world):
    assert world.arrive(T5, outer(inside(T5), source=OURS)) == {}
    assert world.dropped() == {Drop.MARTIAN: 1}


def test_T04_a_tunnel_packet_out_of_a_tunnel_is_not_taken_off_again(world):
    """Out of Tunnel6 into cust1, in which Tunnel5's own packets travel."""
    assert world.arrive(T6, outer(outer(inside(T5)))) == {}
    assert world.dropped() == {Drop.NESTED: 1}


def test_a_vrf_without_tunnels_is_as_ever(world):
    world.forwarder.remove_transport(CUST1)
    assert world.arrive(T5, outer(inside(T5))) == {}
    assert world.dropped() == {Drop.NESTED: 1}


def test_labels_come_in_and_are_popped(world):
    world.label(70, Operation.POP_LOOKUP, CUST2, frozenset((T5,)), 1)
    for _ in range(3):
        out = world.arrive(T5, outer(stacked(inside(T5), 70), gre.MPLS))
        assert list(out) == [E1]
    assert world.arrive(T6, outer(stacked(inside(T5), 70), gre.MPLS)) == {}
    assert world.dropped() == {Drop.LABEL_SCOPE: 1}


def test_mpls_in_ip_in_a_vrf(world):
    world.reception(
        Reception("Tunnel7", OURS, frozenset((137,)), CUST2, None, frozenset((CE,)), transport_vrf=CUST1, ip=False)
    )
    world.label(70, Operation.POP_LOOKUP, CUST2, frozenset(("mgre",)), 1)
    packet = ipv4.encode(ipv4.Ipv4(CE, OURS, 137, stacked(inside(T5), 70)))
    assert list(world.arrive(T5, packet)) == [E1]
    assert world.into("mpls-in-ip", packet) == {}
    assert world.dropped() == {Drop.NOT_OURS: 1}


def test_what_waits_for_a_reader_is_bounded(world, monkeypatch):
    monkeypatch.setattr(transport, "MAX_OUTER", 3)
    for _ in range(5):
        world.into(E0, frame(outer(inside(T5))))
    assert world.dropped() == {Drop.QUEUE_FULL: 2}
    assert len(world.arrive(T5)[E1]) == 3


def test_the_reader_is_called_when_something_has_come():
    """And again as long as something is left, as a socket's would be."""
    calls = []
    made = Vrfs()
    port = transport.OuterIn("x", calls.append)
    heard = []
    port.listen(lambda: heard.append(port.recv_into(bytearray(9))))
    assert not calls
    assert port.push(b"one")
    assert port.push(b"three")
    assert len(calls) == 1, "it is called once, however much comes"
    calls.pop()()
    assert heard == [3]
    calls.pop()()
    assert heard == [3, 5]
    assert not calls
    port.push(b"x")
    port.close()
    calls.pop()()
    assert heard == [3, 5]
    with pytest.raises(BlockingIOError):
        port.recv_into(bytearray(9))
    with pytest.raises(OSError):
        port.send(b"")
    assert made.tables.receptions.get(T5)


# --- T05: fragments ---------------------------------------------------------------------------------------------------------


def cut(packet: bytes, mtu: int) -> list[bytes]:
    return [ipv4.encode(part) for part in ipv4.fragments(ipv4.decode(packet), mtu)]


def test_T05_fragments_of_an_outer_packet_are_put_together(world):
    packet = inside(T5, size=1200)
    for number, order in enumerate(([0, 1, 2], [2, 1, 0], [1, 0, 2]), 1):
        parts = cut(ipv4.encode(evolve(ipv4.decode(outer(packet)), identification=number)), 576)
        assert len(parts) == 3
        (sent,) = world.arrive(T5, *(parts[n] for n in order))[E1]
        assert ethernet.decode(sent).payload[-len(packet) :] == lower_ttl(packet)
    assert not world.dropped()


def test_T05_fragments_that_overlap_or_never_end_are_dropped_and_counted(world):
    first, *_, last = cut(outer(inside(T5, size=1200)), 576)
    forged = bytearray(ipv4.encode(evolve(ipv4.decode(first), payload=bytes(552))))
    assert world.arrive(T5, first, bytes(forged), last) == {}
    assert world.dropped() == {Drop.FRAGMENT: 1}
    world.now += SECONDS + 1
    for number in range(MAX_SETS + 10):
        world.arrive(T5, ipv4.encode(evolve(ipv4.decode(first), identification=number + 100)))
    assert world.dropped() == {Drop.FRAGMENT: 1 + 1 + 10}


PIECES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6), st.booleans(), st.integers(0, 2)), max_size=60)


@given(PIECES)
def test_T05_whatever_pieces_come_it_stays_within_its_bounds(pieces):
    """(offset and size in units of eight octets, more, which packet)."""
    one, now = Reassembly(), 0.0
    for offset, size, more, number in pieces:
        now += 0.3
        part = ipv4.Ipv4(CE, OURS, 47, bytes(size * 8), identification=number, more=more, offset=offset * 8)
        whole = one.add(ipv4.encode(part), now)
        if whole is not None:
            decoded = ipv4.decode(whole)  # its length and checksum are right
            assert (decoded.more, decoded.offset, decoded.identification) == (False, 0, number)
        sets = one._sets.values()
        assert len(sets) <= MAX_SETS
        assert all(len(held.pieces) <= MAX_PIECES for held in sets)
        assert sum(held.octets for held in sets) == one._octets <= MAX_OCTETS


@given(st.binary(min_size=9, max_size=3000), st.integers(28, 600), st.randoms())
def test_T05_any_cut_in_any_order_gives_the_packet_back(payload, mtu, random):
    parts = cut(ipv4.encode(ipv4.Ipv4(CE, OURS, 47, payload, identification=7, options=b"\1" * 4)), max(mtu, 72))
    random.shuffle(parts)
    one = Reassembly()
    found = [one.add(part, 0.0) if int.from_bytes(part[6:8]) & 0x3FFF else part for part in parts + parts[:1]]
    whole = [ipv4.decode(each) for each in found if each is not None]
    assert [each.payload for each in whole[:1]] == [payload]


def test_T05_octets_in_all_are_bounded():
    one = Reassembly()
    for number in range(40):
        head = ipv4.Ipv4(CE, OURS, 47, bytes(32_000), identification=number, more=True)
        assert one.add(ipv4.encode(head), 0.0) is None
    assert one._octets <= MAX_OCTETS
    assert one.take_lost() > 0
    assert one.take_lost() == 0


# --- ESP ---------------------------------------------------------------------------------------------------------------------


def esp_packet(world: Vrfs, name: str, text: bytes, protocol: int = gre.IPV4, far: Far | None = None) -> bytes:
    far = far or world.far[name]
    inner = gre.encode(gre.Gre(protocol, text, key=KEY))
    if far.into.form.mode.value == "tunnel":
        inner = ipv4.encode(ipv4.Ipv4(CE, OURS, 47, inner))
    return far.outer(far.seal(inner), local=OURS)


def carried(far: Far, packet: bytes) -> gre.Gre:
    opened = far.open(packet)
    return gre.decode(opened.payload if opened.next_header == 47 else ipv4.decode(opened.payload).payload)


@pytest.mark.parametrize("name", [T5, T6])
def test_sealed_both_ways(sealed, name):
    packet = udp4(CE, FAR[name])
    for _ in range(3):
        (sent,) = packets_out(sealed, name, sealed.into(INTO[other(name)][0], frame(packet)))
        assert carried(sealed.far[name], sent).payload == lower_ttl(packet)
        out = sealed.arrive(name, *(esp_packet(sealed, name, inside(name)) for _ in range(2)))
        assert set(out) == {INTO[other(name)][0]}
        assert len(out[INTO[other(name)][0]]) == 2
    assert not sealed.dropped()


def test_E04_the_esp_of_one_vrf_is_nothing_in_another(sealed):
    """It is refused before anything of it is believed: no window moves, and nobody hears of a peer that moved."""
    packet = esp_packet(sealed, T5, inside(T5))
    assert sealed.arrive(T6, packet) == {}
    use = sealed.far[T5].into.use
    assert (use.packets, use.sequence, use.refused) == (0, 0, 1)
    assert sealed.dropped() == {Drop.ESP_DESTINATION: 1}
    assert not sealed.facts
    assert sealed.arrive(T5, packet)


def test_E04_nor_by_the_hosts_own_sockets(sealed):
    door = "esp udp" if sealed.form.udp else "esp"
    sealed.readers[door] = sealed.forwarder.esp(sealed.port(door, 0), udp=sealed.form.udp)
    packet = esp_packet(sealed, T5, inside(T5))
    assert sealed.into(door, packet) == {}
    assert sealed.dropped() == {Drop.ESP_DESTINATION: 1}
    assert sealed.arrive(T5, packet)


def test_E04_clear_text_for_a_protected_tunnel_in_a_vrf_is_dropped_both_ways(gcm):
    gcm.arrive(T5, esp_packet(gcm, T5, inside(T5)))
    for text, protocol in ((inside(T5), gre.IPV4), (TEXT, gre.NHRP), (stacked(inside(T5), 18), gre.MPLS)):
        assert gcm.arrive(T5, outer(text, protocol)) == {}
    gcm.w["sad"].remove_outbound(SaKey(T5))
    assert gcm.into(E1, frame(udp4(CE, BEHIND5))) == {}
    gcm.forwarder.send_nhrp(SendNhrp(T5, b"", TEXT))
    assert gcm.sent() == {}
    assert gcm.dropped() == {Drop.PROTECTED: 5}


def test_E04_an_sa_of_another_vrf_carries_nothing_out(gcm):
    """Whoever wrote it so: fail closed."""
    gcm.associate(T5, 1, vrf="")
    assert gcm.into(E1, frame(udp4(CE, BEHIND5))) == {}
    gcm.associate(T5, 2, vrf=CUST2)
    assert gcm.into(E1, frame(udp4(CE, BEHIND5))) == {}
    assert gcm.dropped() == {Drop.PROTECTED: 2}
    gcm.associate(T5, 3)
    assert gcm.into(E1, frame(udp4(CE, BEHIND5)))


def test_T05_sealed_packets_in_fragments(sealed):
    packet = inside(T5, size=1200)
    parts = cut(esp_packet(sealed, T5, packet), 576)
    assert len(parts) >= 3
    (sent,) = sealed.arrive(T5, *parts)[E1]
    assert ethernet.decode(sent).payload[-len(packet) :] == lower_ttl(packet)


def test_an_unknown_spi_is_told_with_its_vrf(gcm):
    far = gcm.far[T5]
    packet = esp_packet(gcm, T5, inside(T5))
    gcm.w["sad"].remove_inbound(far.into.spi)
    assert gcm.arrive(T5, packet) == {}
    assert gcm.facts == [SaUnknown(OURS, CE, far.into.spi, CUST1)]


def test_E06_ike_is_the_hosts_and_esp_in_udp_is_ours():
    """UDP 4500 in a VRF: with the marker to the host port, without to the readers; keepalives vanish; other ports are the
    host's."""
    world = Vrfs(form=FORMS["gcm-128 udp"], sealed=True)

    def datagram(octets: bytes, port: int = 4500) -> bytes:
        return ipv4.encode(ipv4.Ipv4(CE, OURS, 17, udp.encode(udp.Udp(4500, port, octets))))

    ike = datagram(bytes(4) + b"an IKE message")
    assert world.arrive(T5, ike) == {f"host {CUST1}": [ike]}
    assert world.arrive(T6, ike) == {f"host {CUST2}": [ike]}
    plain = datagram(b"\1\2\3\4 another protocol", 500)
    assert world.arrive(T5, plain) == {f"host {CUST1}": [plain]}
    assert world.arrive(T5, datagram(b"\xff")) == {}
    assert world.arrive(T5, esp_packet(world, T5, inside(T5)))[E1]
    assert not world.dropped()
    large = datagram(bytes(4) + b"IKE" * 900)
    assert world.arrive(T5, *cut(large, 1500)) == {f"host {CUST1}": [large]}, "its fragments are put together here"


def test_E06_in_a_vrf_without_a_protected_tunnel_udp_4500_is_the_hosts(world):
    packet = ipv4.encode(ipv4.Ipv4(CE, OURS, 17, udp.encode(udp.Udp(4500, 4500, b"\1\2\3\4 esp"))))
    assert world.arrive(T5, packet) == {f"host {CUST1}": [packet]}


# --- NHRP --------------------------------------------------------------------------------------------------------------------


def test_nhrp_of_a_tunnel_in_a_vrf(world):
    world.arrive(T5, outer(TEXT, gre.NHRP))
    world.arrive(T6, outer(TEXT, gre.NHRP))
    assert world.facts == [NhrpReceived(T5, CUST2, CE, OURS, 0, TEXT), NhrpReceived(T6, CUST1, CE, OURS, 0, TEXT)]
    world.forwarder.send_nhrp(SendNhrp(T5, b"", TEXT))
    (sent,) = packets_out(world, T5, world.sent())
    header, inner, _, under = unwrapped(sent)
    assert (header.tos, header.ttl, inner.protocol, inner.key, under) == (0xC0, 255, gre.NHRP, KEY, TEXT)


def test_T02_a_stranger_registers_by_a_multipoint_tunnel_in_a_vrf(world):
    row = world.tables.receptions.get(T5)
    world.reception(evolve(row, point_to_point=False, sources=frozenset((PE2,))))
    world.arrive(T5, outer(TEXT, gre.NHRP), outer(inside(T5)), outer(TEXT, gre.NHRP))
    assert [type(fact) for fact in world.facts] == [NhrpReceived] * 2
    assert world.dropped() == {Drop.UNKNOWN_ENDPOINT: 1}
    world.forwarder.send_nhrp(SendNhrp(T5, CE, TEXT))
    assert packets_out(world, T5, world.sent())[0][16:20] == CE


def test_nhrp_of_a_protected_tunnel_in_a_vrf(sealed):
    sealed.arrive(T5, esp_packet(sealed, T5, TEXT, gre.NHRP))
    assert sealed.facts == [NhrpReceived(T5, CUST2, CE, OURS, sealed.far[T5].into.child, TEXT)]
    sealed.forwarder.send_nhrp(SendNhrp(T5, b"", TEXT))
    (sent,) = packets_out(sealed, T5, sealed.sent())
    assert carried(sealed.far[T5], sent).payload == TEXT
