"""Out by a protected tunnel: sealed, numbered, limited, and never in clear. RFC 4303 3.3, RFC 4106, RFC 3948, RFC 4301 5.1."""

from __future__ import annotations

import errno

import pytest
from attrs import evolve
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stack.events import SaKey, SaSoft
from stack.tables.adjacency import AdjacencyKind
from stack.tables.fib import LeafKind
from stack.tables.lfib import Operation
from tests.tunnel.io.esp_world import CBC_FORM, FORMS, GCM, Far, Protected, protected, sa
from tests.tunnel.io.world import (
    CE,
    CORE,
    CUST1,
    E0,
    P_MAC,
    PE2,
    PE3,
    REMOTE,
    TUN0,
    TUNNEL,
    US,
    echo4,
    frame,
    ip,
    lower_ttl,
    stacked,
    tcp4,
    udp4,
    udp6,
)
from tunnel.io import esp
from tunnel.io.counters import Drop
from tunnel.wire import gre, ipv4, mpls

HEADROOMS = [(10, False), (10, True), (0, False)]


@pytest.fixture(params=FORMS, ids=str)
def form(request):
    return FORMS[request.param]


@pytest.fixture(params=HEADROOMS, ids=["one by one", "batch", "bare frames"])
def world(request, form):
    headroom, batch = request.param
    with protected(headroom=headroom, batch=batch, form=form) as made:
        yield made


@pytest.fixture(params=[True, False], ids=["batch", "one by one"])
def gcm(request):
    with protected(batch=request.param) as made:
        yield made


def under(carried: gre.Gre) -> tuple[list[int], bytes]:
    stack = mpls.decode(carried.payload)
    return [entry.label for entry in stack], carried.payload[4 * len(stack) :]


# --- what leaves -----------------------------------------------------------------------------------------------------------


def test_rfc4303_3_3_every_form_is_what_an_independent_receiver_opens(world):
    far = world.far[PE2]
    for size in (0, 1, 2, 3, 7, 20, 21, 400, 1300):
        packet = udp4(size=size)
        for count in (1, 1, 3):
            out = world.into(E0, *[frame(packet)] * count)
            assert list(out) == [world.outer_of(PE2)]
            assert len(out[world.outer_of(PE2)]) == count
            for octets in out[world.outer_of(PE2)]:
                far.sequence += 1
                assert far.open(octets).sequence == far.sequence
                carried = far.carried(octets)
                assert under(carried) == ([102], lower_ttl(packet))
                assert carried.key == 0x1234
    use = far.out.use
    assert (use.sequence, use.packets, use.last) == (far.sequence, far.sequence, world.now)
    tallies = world.forwarder.counters.sent[TUNNEL]
    assert tallies[0] == far.sequence
    assert not world.dropped()


@pytest.mark.parametrize("esn", [False, True])
def test_rfc4303_2_2_1_extended_sequence_numbers_are_authenticated_whole(form, esn):
    with protected(form=form, more={"esn": esn}) as world:
        far = world.far[PE2]
        if esn:
            far.out.use.sequence, far.high = (7 << 32) - 2, 6
            (octets,) = world.into(E0, frame(udp4()))[world.outer_of(PE2)]
            assert far.open(octets).sequence == (7 << 32) - 1
            far.high = 7
        (octets,) = world.into(E0, frame(udp4()))[world.outer_of(PE2)]
        assert far.open(octets).sequence == (7 << 32 if esn else 1)


def test_rfc4106_3_1_the_iv_is_the_sequence_number(gcm):
    far = gcm.far[PE2]
    for number in range(1, 5):
        (octets,) = gcm.into(E0, frame(udp4()))["raw 50 2"]
        assert far.open(octets).nonce == number.to_bytes(8)


def test_rfc3602_3_ivs_of_cbc_never_repeat_nor_count():
    with protected(form=CBC_FORM) as world:
        far = world.far[PE2]
        out = world.into(E0, *[frame(udp4())] * 64)["raw 50 2"] + world.into(E0, frame(udp4()))["raw 50 2"]
        ivs = [far.open(octets).nonce for octets in out]
        assert len(set(ivs)) == 65
        assert all(iv[:8] != bytes(8) for iv in ivs)


@pytest.mark.parametrize("tos", [None, 0x28])
def test_outer_tos_and_ttl_are_those_of_the_tunnel(form, tos):
    with protected(form=form) as world:
        world.change_adjacency(TUNNEL, PE2, tos=tos, ttl=77)
        for dscp in (0, 0xB8):
            (octets,) = world.into(E0, frame(udp4(tos=dscp)))[world.outer_of(PE2)]
            outer = world.far[PE2].open(octets).outer
            assert (outer.tos, outer.ttl) == (tos if tos is not None else dscp & 0xE0, 77)


def test_room_of_the_form_is_what_fits(form):
    """EspForm.room: a packet as large as the MTU allows fills the path's 1500 octets, but for padding."""
    with protected(form=form) as world:
        room = form.room(1500) - (20 if form.mode.value == "tunnel" else 0)
        world.change_adjacency(TUNNEL, PE2, mtu=room - 8)
        largest = room - 8 - 4  # GRE with a key, one label
        (octets,) = world.into(E0, frame(udp4(size=largest - 20)))[world.outer_of(PE2)]
        assert 1500 - max(form.cipher.block, 4) < len(octets) <= 1500


def test_fragments_are_made_before_encryption_rfc4301_8_1(world):
    world.change_adjacency(TUNNEL, PE2, mtu=604)
    packet = udp4(size=1000)
    out = world.into(E0, frame(packet))
    far, parts = world.far[PE2], []
    for octets in out[world.outer_of(PE2)]:
        _, part = under(far.carried(octets))
        parts.append(ipv4.decode(part))
    assert len(parts) == 2
    assert b"".join(part.payload for part in parts) == ipv4.decode(packet).payload


def test_a_rekey_needs_no_flush(gcm):
    """The rewrite in the cache holds the bundle, which has another SA now."""
    old = gcm.far[PE2]
    gcm.into(E0, frame(udp4()))
    (made,) = {id(rewrite) for rewrite in gcm.forwarder.path.inlets[E0].flows[CUST1].four.values()}
    new = gcm.associate(PE2, generation=1)
    (octets,) = gcm.into(E0, frame(udp4()))["raw 50 2"]
    assert new.open(octets).sequence == 1
    assert {id(rewrite) for rewrite in gcm.forwarder.path.inlets[E0].flows[CUST1].four.values()} == {made}
    assert old.out.use.packets == 1


def test_a_peer_that_moves_goes_on_counting(gcm):
    far = gcm.far[PE2]
    gcm.into(E0, frame(udp4()))
    moved = evolve(far.out, remote=PE3, form=evolve(far.out.form, udp=True), ports=(4500, 5555))
    gcm.w["sad"].put_outbound(moved)
    (octets,) = gcm.into(E0, frame(udp4()))["raw 17 3"]
    assert Far(moved, far.into).open(octets).sequence == 2


def test_one_batch_to_two_neighbours_keeps_them_apart(gcm):
    gcm.route(CUST1, "10.3.128.0/17", LeafKind.FORWARD, 2, (333,))
    packets = [udp4(), udp4(destination=ip("10.3.200.1"))] * 20
    gcm.into(E0, *map(frame, packets))
    out = gcm.into(E0, *map(frame, packets))
    assert {name: len(octets) for name, octets in out.items()} == {"raw 50 2": 20, "raw 50 3": 20}
    assert {under(gcm.far[PE2].carried(o))[0][0] for o in out["raw 50 2"]} == {102}
    assert {under(gcm.far[PE3].carried(o))[0][0] for o in out["raw 50 3"]} == {333}


@pytest.mark.parametrize(
    ("code", "reason", "left"), [(errno.ENOBUFS, Drop.PORT_ERROR, 2), (errno.EAGAIN, Drop.QUEUE_FULL, 0)]
)
def test_a_packet_that_the_port_refuses_is_counted_and_sealed_once(code, reason, left):
    """Those that were sealed keep their numbers; one that did not go is lost, not sent under another number."""
    with protected() as world:
        far = world.far[PE2]
        world.into(E0, *[frame(udp4())] * 2)
        world.ports["raw 50 2"].send_errors.extend([OSError(code, "no"), OSError(code, "no")])
        out = world.into(E0, *[frame(udp4())] * 3).get("raw 50 2", [])
        assert [far.open(octets).sequence for octets in out] == [3, 4, 5][3 - left :]
        assert world.dropped() == {reason: 3 - left}
        assert world.forwarder.counters.sent[TUNNEL] == [2 + left, (2 + left) * 40]
        world.ports["raw 50 2"].send_errors.clear()
        (octets,) = world.into(E0, frame(udp4()))["raw 50 2"]
        assert far.open(octets).sequence == 6


def test_no_raw_socket_no_packet(gcm):
    gcm.refused = OSError(errno.EPERM, "no")
    assert gcm.into(E0, frame(udp4()), frame(udp4())) == {}
    assert gcm.dropped() == {Drop.PORT_ERROR: 2}
    assert gcm.far[PE2].out.use.sequence == 0
    gcm.refused = None
    assert list(gcm.into(E0, frame(udp4()))) == ["raw 50 2"]


def test_a_key_of_the_wrong_size_carries_nothing(gcm):
    gcm.w["sad"].put_outbound(evolve(gcm.far[PE2].out, encryption=b"short"))
    assert gcm.into(E0, frame(udp4()), frame(udp4())) == {}
    assert gcm.dropped() == {Drop.PROTECTED: 2}


# --- nothing in clear ------------------------------------------------------------------------------------------------------


SECRET = b"this must never be seen outside"


def every_way_out(world: Protected) -> None:
    """Every way in which a packet can leave by the tunnel: fast and slow, IP and labels, from attachments, other tunnels and
    the host, in fragments, as an answer of ours, as an ICMP error of ours."""
    world.route("", "10.44.0.0/16", LeafKind.FORWARD, 1)
    world.route(CUST1, "10.44.0.0/16", LeafKind.FORWARD, 1)
    world.route(CUST1, "2001:db8:44::/48", LeafKind.FORWARD, 1)
    world.route(CUST1, "10.45.0.0/16", LeafKind.FORWARD, 1, (100, 101))
    world.label(70, Operation.SWAP, "", frozenset(("ethernet", "mgre")), 0, 1, (170,))
    world.label(71, Operation.POP_FORWARD, "", frozenset(("ethernet", "mgre")), 0, 1)
    far = ip("10.44.0.1")
    plain = [
        udp4(size=0),
        udp4(tos=0xB8),
        udp4(destination=far),
        udp4(destination=ip("10.45.0.1")),
        tcp4(flags=2, options=bytes.fromhex("020405b4")),
        udp6(),
        udp6(destination=ip("2001:db8:44::1")),
        udp4(size=1400 - 20),
        udp4(size=2000),
        ipv4.encode(ipv4.Ipv4(CE, REMOTE, 17, SECRET, options=bytes.fromhex("94040000"))),
    ]
    plain += [ipv4.encode(ipv4.Ipv4(CE, REMOTE, 17, SECRET * 20)), echo4(CE, REMOTE)]
    world.change_interface(TUNNEL, mss=1000)
    for _ in range(2):
        for packet in plain:
            world.into(E0, frame(packet), frame(packet))
            world.into(TUN0, packet, packet)
            world.into(f"host {CUST1}", packet, packet)
            for label in (70, 71):
                labels = frame(stacked(packet, label), source=P_MAC, kind=0x8847)
                deep = frame(stacked(packet, label, 9000), source=P_MAC, kind=0x8847)
                world.into(CORE, labels, labels, deep)
        world.into("host ", udp4(US, far), udp4(US, far))
        # an echo reply and errors of ours, to someone behind the tunnel
        world.into(f"host {CUST1}", echo4(ip("10.1.0.1"), REMOTE))
        world.into(E0, frame(echo4(REMOTE, ip("10.1.0.1"))), frame(udp4(REMOTE, ip("10.66.0.1"))))
        world.into(E0, frame(udp4(REMOTE, ip("10.77.0.1"))), frame(udp4(REMOTE, ip("10.2.0.9"), ttl=1)))
        world.into(E0, frame(udp4(REMOTE, ip("10.2.0.9"), size=2000, dont_fragment=True)))
        world.change_interface(TUNNEL, mss=0)


class Watched(Protected):
    """Keeps all that any port was given."""

    def __attrs_post_init__(self):
        self.all = {}
        super().__attrs_post_init__()

    def sent(self):
        out = super().sent()
        for name, packets in out.items():
            self.all.setdefault(name, []).extend(packets)
        return out


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("name", ["gcm-256", "gcm tunnel udp", "cbc-256 sha256"])
def test_E04_T03_every_way_out_of_a_protected_tunnel_is_sealed(name, batch):
    world = Watched(batch=batch, form=FORMS[name])
    every_way_out(world)
    raw = {port: packets for port, packets in world.all.items() if port.startswith("raw")}
    assert set(raw) == {world.outer_of(PE2)}
    far = world.far[PE2]
    kinds, seen = set(), set()
    for octets in raw[world.outer_of(PE2)]:
        assert SECRET not in octets
        opened = far.open(octets)  # raises if it is anything but what the SA seals
        assert opened.sequence not in seen
        seen.add(opened.sequence)
        kinds.add(far.carried(octets).protocol)
    assert kinds == {gre.IPV4, gre.IPV6, gre.MPLS}
    assert len(seen) > 150
    world.forwarder.close()


def bundle_gone(world):
    world.w["sad"].remove_outbound(SaKey(TUNNEL, PE2))


def nothing_installed(world):
    world.w["sad"].keep_only({}, {})


def no_key(world):
    world.change_adjacency(TUNNEL, PE2, sa=None)


def other_key(world):
    world.change_adjacency(TUNNEL, PE2, sa=SaKey("Tunnel9", PE2))


def other_kind(world):
    world.change_adjacency(TUNNEL, PE2, kind=AdjacencyKind.MPLS_IN_IP)


def expired(world):
    world.w["sad"].put_outbound(evolve(world.far[PE2].out, hard_time=world.now))


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("fault", [bundle_gone, nothing_installed, no_key, other_key, other_kind, expired])
def test_E04_without_an_sa_nothing_leaves_in_any_way_rfc4301_5_1(fault, warm, batch):
    """Before the first SA, after the last one, and with a cache that knows the way from when there was one."""
    world = Watched(batch=batch)
    if warm:
        every_way_out(world)
        world.all.clear()
    fault(world)
    every_way_out(world)
    assert not [port for port in world.all if port.startswith("raw")]
    reasons = world.dropped()
    assert reasons[Drop.ESP_EXPIRED if fault is expired else Drop.PROTECTED] > 100
    world.forwarder.close()


def test_E04_an_sa_that_goes_between_two_batches_and_comes_back(gcm):
    """With warm caches: gone, nothing leaves; back again, as another bundle, it carries."""
    gcm.into(E0, frame(udp4()))
    gcm.w["sad"].remove_outbound(SaKey(TUNNEL, PE2))
    assert gcm.into(E0, frame(udp4()), frame(udp4())) == {}
    assert gcm.dropped() == {Drop.PROTECTED: 2}
    far = gcm.associate(PE2, generation=2)
    (octets,) = gcm.into(E0, frame(udp4()))["raw 50 2"]
    assert far.open(octets).sequence == 1


def test_E04_a_tunnel_that_becomes_protected_sends_no_more_in_clear(gcm):
    gcm.change_adjacency(TUNNEL, PE2, protection="", sa=None)
    assert list(gcm.into(E0, frame(udp4()))) == ["raw 47 2"]
    gcm.change_adjacency(TUNNEL, PE2, protection="ipsec", sa=SaKey(TUNNEL, PE2))
    assert list(gcm.into(E0, frame(udp4()), frame(udp4()))) == ["raw 50 2"]


def test_more_labels_than_a_sealed_packet_has_room_for(gcm):
    gcm.route(CUST1, "10.46.0.0/16", LeafKind.FORWARD, 1, tuple(range(100, 116)))
    assert gcm.into(E0, frame(udp4(destination=ip("10.46.0.1")))) == {}
    assert gcm.dropped() == {Drop.LABEL_DEPTH: 1}


# --- limits ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [True, False])
def test_E05_the_sequence_number_never_wraps_rfc4303_3_3_3(batch):
    with protected(batch=batch) as world:
        far = world.far[PE2]
        far.out.use.sequence = (1 << 32) - 4
        out = world.into(E0, *[frame(udp4())] * 10)["raw 50 2"]
        assert [far.open(octets).sequence for octets in out] == [(1 << 32) - 3, (1 << 32) - 2, (1 << 32) - 1]
        assert world.into(E0, *[frame(udp4())] * 3) == {}
        assert world.into(f"host {CUST1}", udp4()) == {}
        assert world.dropped() == {Drop.ESP_EXPIRED: 11}
        assert far.out.use.refused == 11
        assert world.forwarder.counters.sent[TUNNEL] == [3, 3 * 40]


def test_E05_with_esn_the_last_number_is_2_to_64_less_one():
    with protected(more={"esn": True}) as world:
        far = world.far[PE2]
        far.out.use.sequence, far.high = (1 << 64) - 3, (1 << 32) - 1
        out = world.into(E0, *[frame(udp4())] * 5)["raw 50 2"]
        assert [far.open(octets).sequence for octets in out] == [(1 << 64) - 2, (1 << 64) - 1]
        assert world.dropped() == {Drop.ESP_EXPIRED: 3}


@pytest.mark.parametrize("name", ["gcm-256", "gcm tunnel", "cbc-256 sha256"])
@pytest.mark.parametrize("batch", [True, False])
def test_E05_hard_limits_stop_and_soft_ones_are_told_once(name, batch):
    size = 40 + 4 + 8 + (20 if "tunnel" in name else 0)  # what is protected of udp4()
    for limit in ({"soft_packets": 3, "hard_packets": 6}, {"soft_octets": 3 * size, "hard_octets": 7 * size - 1}):
        with protected(batch=batch, form=FORMS[name], more=limit) as world:
            use = world.far[PE2].out.use
            world.into(E0, frame(udp4()), frame(udp4()))
            assert not world.facts
            world.into(E0, frame(udp4()))
            assert world.facts == [SaSoft(0x10002, inbound=False)]
            out = world.into(E0, *[frame(udp4())] * 10)
            out = {name: len(octets) for name, octets in out.items()}
            assert out == {world.outer_of(PE2): 3}
            assert world.into(f"host {CUST1}", udp4()) == {}
            assert len(world.facts) == 1
            assert (use.packets, use.octets) == (6, 6 * size)
            assert world.dropped() == {Drop.ESP_EXPIRED: 8}


def test_E05_numbers_that_run_out_ask_for_a_successor(gcm):
    gcm.far[PE2].out.use.sequence = (7 << 29) - 2
    gcm.into(E0, frame(udp4()))
    gcm.into(E0, frame(udp4()))
    assert gcm.facts == [SaSoft(0x10002, inbound=False)]


@pytest.mark.parametrize("name", ["gcm-256", "chacha", "cbc-256 sha256", "gcm tunnel"])
def test_E05_no_nonce_comes_twice_across_a_restart_of_the_forwarder(name):
    """Nor after a failure in the middle, nor when ikev2 writes the SA anew with the same counters."""
    with protected(form=FORMS[name]) as world:
        far, nonces, numbers = world.far[PE2], [], []

        def run(count: int) -> None:
            for octets in world.into(E0, *[frame(udp4())] * count).get("raw 50 2", ()):
                opened = far.open(octets)
                nonces.append(opened.nonce)
                numbers.append(opened.sequence)

        run(5)
        world.restart()
        run(3)
        world.w["sad"].put_outbound(evolve(far.out, identity="the same"))
        run(2)
        sealer = far.out.use.handle
        seal, sealer.seal = sealer.seal, lambda *_: (_ for _ in ()).throw(RuntimeError("in the middle"))
        with pytest.raises(RuntimeError):
            run(4)
        world.restart()
        sealer.seal = seal
        run(3)
        assert len(set(nonces)) == len(nonces) == 13
        assert numbers == [*range(1, 11), 15, 16, 17]


def test_a_closed_socket_of_a_neighbour_is_opened_again(gcm):
    gcm.into(E0, frame(udp4()))
    gcm.change_interface(TUNNEL, description="")
    gcm.w["sad"].remove_outbound(SaKey(TUNNEL, PE2))
    gcm.change_interface(TUNNEL, description="again")
    gcm.into(E0, frame(udp4()))
    assert gcm.ports["raw 50 2"].closed
    far = gcm.associate(PE2, generation=1)
    (octets,) = gcm.into(E0, frame(udp4()))["raw 50 2"]
    assert far.open(octets).sequence == 1


def test_no_key_in_a_repr():
    one = sa(0x10002, PE2, GCM)
    assert one.encryption.hex() not in repr(one)
    assert repr(one.encryption) not in repr(one)


def test_an_older_cryptography_seals_and_opens_the_same(monkeypatch):
    """Before release 47 its AEADs only return new octets."""

    class Old:
        def __init__(self, key: bytes) -> None:
            made = AESGCM(key)
            self.encrypt, self.decrypt = made.encrypt, made.decrypt

    monkeypatch.setattr(esp, "AESGCM", Old)
    with protected() as world:
        far = world.far[PE2]
        packet = udp4()
        (octets,) = world.into(E0, frame(packet))["raw 50 2"]
        assert under(far.carried(octets)) == ([102], lower_ttl(packet))
        inner = far.wrap(gre.MPLS, stacked(udp4(REMOTE, CE), 18))
        forged = bytearray(far.packet(inner))
        forged[-1] ^= 1
        assert world.arrive(bytes(forged)) == {}
        assert list(world.arrive(far.packet(inner))) == [E0]
