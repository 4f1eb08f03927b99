"""ESP where things end: the largest packet, the last slot, the last number, and tables that change while packets wait."""

from __future__ import annotations

import pytest
from attrs import evolve

from stack.esp import EspMode
from stack.events import NhrpReceived, SaKey
from stack.tables.fib import LeafKind
from stack.tables.lfib import Operation
from stack.tables.reception import Reception
from tests.tunnel.io.esp_world import FORMS, Protected, protected
from tests.tunnel.io.test_offload import unfilled, vnet
from tests.tunnel.io.world import (
    CE,
    CE6,
    CE_MAC,
    E0,
    OUR_MAC,
    PE2,
    PE3,
    REMOTE,
    REMOTE6,
    TUNNEL,
    US,
    frame,
    ip,
    labelled,
    lower_ttl,
    stacked,
    tcp4,
    tcp_segment,
    udp4,
    udp6,
)
from tunnel.io import batch
from tunnel.io.batch import BATCH
from tunnel.io.counters import Drop
from tunnel.io.readers import Reader
from tunnel.wire import gre, icmp, ipv4, ipv6

KEYED, LABEL = 8, 4
"""Octets of GRE with its key, and of one label."""


@pytest.fixture(params=FORMS, ids=str)
def form(request):
    return FORMS[request.param]


def fitted(world: Protected, mtu: int) -> int:
    """Set the tunnel's MTU as `tunnel` does for a path of `mtu`; the largest customer packet."""
    form = world.form
    room = form.room(mtu) - KEYED - (20 if form.mode is EspMode.TUNNEL else 0)
    for pe in (PE2, PE3):
        world.change_adjacency(TUNNEL, pe, mtu=room)
    return room - LABEL


def inner(world: Protected, octets: bytes) -> bytes:
    return world.far[PE2].carried(octets).payload[LABEL:]


# --- the largest ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [True, False], ids=["batch", "one by one"])
@pytest.mark.parametrize("mtu", [576, 1280, 1499, 1500, 9000])
def test_the_largest_packets_fill_the_path_and_never_more(form, mtu, batch):
    with protected(form=form, batch=batch) as world:
        largest = fitted(world, mtu)
        packets = [udp4(size=size - 20) for size in range(largest - 18, largest + 1)]
        for warm in (False, True):
            out = world.into(E0, *[frame(packet) for packet in packets])[world.outer_of(PE2)]
            sizes = [len(octets) for octets in out]
            assert max(sizes) == sizes[-1] <= mtu < sizes[-1] + max(form.cipher.block, 4), warm
            assert [inner(world, octets) for octets in out] == [lower_ttl(packet) for packet in packets]
        # One octet more, not to be fragmented: the sender hears what would have fitted.
        out = world.into(E0, frame(udp4(size=largest - 19, dont_fragment=True)))
        (answer,) = out.pop(E0)
        assert out == {}
        error = icmp.decode(ipv4.decode(answer[14:]).payload)
        assert (error.kind, error.code, int.from_bytes(error.rest[2:])) == (3, 4, largest)
        # To be fragmented: every piece fits.
        out = world.into(E0, frame(udp4(size=largest * 3)))[world.outer_of(PE2)]
        assert len(out) == 4
        assert all(len(octets) <= mtu for octets in out)
        pieces = [ipv4.decode(inner(world, octets)) for octets in out]
        assert sum(len(piece.payload) for piece in pieces) == largest * 3


def test_ipv6_too_big_for_a_protected_tunnel_hears_its_mtu(form):
    with protected(form=form) as world:
        largest = fitted(world, 1500)
        packet = udp6(size=largest - 40)
        (octets,) = world.into(E0, frame(packet))[world.outer_of(PE2)]
        assert inner(world, octets) == lower_ttl(packet)
        out = world.into(E0, frame(udp6(size=largest - 39)))
        (answer,) = out.pop(E0)
        assert out == {}
        decoded = ipv6.decode(answer[14:])
        error = icmp.decode6(decoded.payload, decoded.source, decoded.destination)
        assert (error.kind, int.from_bytes(error.rest)) == (2, largest)


@pytest.mark.parametrize("batch", [True, False], ids=["batch", "one by one"])
def test_64_of_the_largest_in_one_batch_to_two_neighbours(form, batch):
    with protected(form=form, batch=batch) as world:
        largest = fitted(world, 9000)
        world.route("cust1", "10.2.9.0/24", world.tables.fib.get("cust1").lookup(REMOTE).kind, 2, (102,))
        ends = [REMOTE if n % 3 else ip("10.2.9.9") for n in range(BATCH)]
        packets = [udp4(destination=end, size=largest - 20 - n % 5) for n, end in enumerate(ends)]
        for _ in range(2):
            out = world.into(E0, *[frame(packet) for packet in packets])
            for pe, whose in ((PE2, REMOTE), (PE3, ip("10.2.9.9"))):
                got = [world.far[pe].carried(octets).payload[LABEL:] for octets in out[world.outer_of(pe)]]
                assert got == [lower_ttl(p) for p, end in zip(packets, ends, strict=True) if end == whose]
        assert not world.dropped()


@pytest.mark.parametrize("batch", [True, False], ids=["batch", "one by one"])
def test_hub_64_of_the_largest_out_of_one_sa_into_another(form, batch):
    with protected(form=form, batch=batch) as world:
        fitted(world, 9000)
        world.label(40, Operation.SWAP, "cust1", frozenset(("protected",)), 0, 2, (140,))
        world.reception(evolve(world.tables.receptions.get(TUNNEL), scope="protected"))
        room = world.tables.adjacencies.rows[next(k for k in world.tables.adjacencies.rows if k.address == PE3)].mtu
        packets = [udp4(size=room - LABEL - 20 - n) for n in range(BATCH)]
        far = world.far[PE2]
        for _ in range(2):
            out = world.arrive(*[far.packet(far.wrap(gre.MPLS, stacked(packet, 40))) for packet in packets])
            got = [world.far[PE3].carried(octets).payload for octets in out[world.outer_of(PE3)]]
            assert [octets[LABEL:] for octets in got] == packets
        assert not world.dropped()


# --- many out of one ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mss", [88, 536, 1300])
@pytest.mark.parametrize("family", [4, 6])
def test_offloaded_tcp_of_64_kilobytes_is_sealed_piece_by_piece(form, mss, family):
    """The pieces lie in the slot that they came in, each with room for its headers and its trailer."""
    with protected(form=form, batch=True) as world:
        fitted(world, 1500)
        body = bytes(n * 7 & 255 for n in range(60_000))
        if family == 4:
            packet, start = tcp4(body=body), 20
            decoded = ipv4.decode(packet)
            packet = ipv4.encode(evolve(decoded, ttl=64))
        else:
            segment = tcp_segment(CE6, REMOTE6, 0x10, body=body)
            packet, start = ipv6.encode(ipv6.Ipv6(CE6, REMOTE6, 6, segment)), 40
        header = vnet(flags=1, kind=1 if family == 4 else 4, header=start + 34, size=mss, start=start + 14, offset=16)
        octets = header + CE_MAC_FRAME[family] + unfilled(packet, start, start + 16)
        for _ in range(2):
            world.ports[E0].put(octets)
            world.readers[E0].drain()
            out = world.sent()[world.outer_of(PE2)]
            assert len(out) == -(-len(body) // mss)
            parts = [inner(world, part) for part in out]
            assert b"".join(part[start + 20 :] for part in parts) == body
        sequence = world.far[PE2].out.use.sequence
        assert sequence == 2 * len(out) == world.far[PE2].open(out[-1]).sequence
        assert not world.dropped()


CE_MAC_FRAME = {4: OUR_MAC + CE_MAC + b"\x08\x00", 6: OUR_MAC + CE_MAC + b"\x86\xdd"}


# --- while packets wait -----------------------------------------------------------------------------------------------------


def warm(world: Protected) -> None:
    world.into(E0, frame(udp4()))


@pytest.mark.parametrize("batch", [True, False], ids=["batch", "one by one"])
def test_a_rekey_while_a_batch_waits(form, batch, monkeypatch):
    with protected(form=form, batch=batch) as world:
        warm(world)
        made = []
        _before_flush(monkeypatch, world, lambda: made.append(world.associate(PE2, 1)))
        out = world.into(E0, *[frame(udp4(size=n)) for n in range(BATCH)])[world.outer_of(PE2)]
        assert [made[0].open(octets).sequence for octets in out] == list(range(1, BATCH + 1))
        assert world.far[PE2].out.use.sequence == 1
        assert not world.dropped()


@pytest.mark.parametrize("what", ["removed", "removed and put", "other key", "half its life"])
def test_E04_an_sa_that_goes_while_a_batch_waits(form, what, monkeypatch):
    with protected(form=form, batch=True) as world:
        warm(world)
        far = world.far[PE2]

        def change() -> None:
            if what.startswith("removed"):
                world.w["sad"].remove_outbound(SaKey(TUNNEL, PE2))
            if what == "removed and put":
                world.associate(PE2, 1)
            if what == "other key":
                world.w["sad"].put_outbound(evolve(far.out, encryption=b"too short"))
            if what == "half its life":
                world.w["sad"].put_outbound(evolve(far.out, hard_packets=1 + BATCH // 2))

        _before_flush(monkeypatch, world, change)
        out = world.into(E0, *[frame(udp4(size=n)) for n in range(BATCH)])
        if what == "half its life":
            assert len(out[world.outer_of(PE2)]) == BATCH // 2
            assert world.dropped() == {Drop.ESP_EXPIRED: BATCH // 2}
            assert [far.open(octets).sequence for octets in out[world.outer_of(PE2)]] == list(range(2, 2 + BATCH // 2))
        else:
            assert out == {}
            assert world.dropped() == {Drop.PROTECTED: BATCH}
        assert world.forwarder.counters.sent[TUNNEL][0] == 1 + sum(map(len, out.values()))
        if what == "removed and put":
            (octets,) = world.into(E0, frame(udp4()))[world.outer_of(PE2)]
            assert int.from_bytes(octets[20 + 8 * form.udp :][:4]) == 0x10102


def _before_flush(monkeypatch, world: Protected, what) -> None:
    """`what` happens when a whole batch waits, just before it is sent."""
    flush = Reader.flush

    def once(reader) -> None:
        if reader.arena.touched and not done:
            done.append(True)
            what()
        flush(reader)

    done: list[bool] = []
    monkeypatch.setattr(Reader, "flush", once)


@pytest.mark.parametrize("kind", ["gcm-256", "cbc-256 sha256"])
def test_E05_whoever_crashes_while_a_batch_is_sealed_uses_no_number_twice(kind, monkeypatch):
    """Numbers are taken before anything is encrypted."""
    with protected(form=FORMS[kind], batch=True) as world:
        warm(world)
        far = world.far[PE2]
        sealer = far.out.use.handle
        seal, seen = sealer.seal, []

        def breaks(octets, view, parts, origin, count, sequence):
            seal(octets, view, parts, origin, count // 2, sequence)
            raise MemoryError

        sealer.seal = breaks
        with pytest.raises(MemoryError):
            world.into(E0, *[frame(udp4())] * 10)
        sealer.seal = seal
        world.restart()
        for _ in range(2):
            out = world.into(E0, *[frame(udp4())] * 3)[world.outer_of(PE2)]
            seen += [far.open(octets).sequence for octets in out]
        assert seen == list(range(12, 18))


# --- numbers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [(1 << 32) - BATCH // 2, (5 << 32) - 1, (1 << 32) - 1])
def test_a_batch_that_crosses_the_low_half_rfc4303_2_2_1(form, start):
    with protected(form=form, batch=True, more={"esn": True}) as world:
        warm(world)
        far = world.far[PE2]
        far.out.use.sequence = start - 1
        out = world.into(E0, *[frame(udp4(size=n)) for n in range(BATCH)])[world.outer_of(PE2)]
        for number, octets in enumerate(out, start):
            far.high = number >> 32
            assert far.open(octets).sequence == number
        assert len({far_iv(form, octets) for octets in out}) == BATCH


def far_iv(form, octets: bytes) -> bytes:
    at = 20 + 8 * form.udp + 8
    return octets[at : at + form.cipher.iv]


@pytest.mark.parametrize("kind", ["gcm-256", "cbc-256 sha256", "chacha"])
@pytest.mark.parametrize("window", [32, 64, 8192])
def test_E01_loss_around_the_wrap_of_the_low_half_both_ways(kind, window):
    """RFC 4303 A2.2: what is inferred stays right as long as no gap is half the space; packets from before the wrap that come
    after it are taken while they are in the window, and never twice."""
    with protected(form=FORMS[kind], more={"esn": True, "window": window}) as world:
        far = world.far[PE2]
        far.into.use.sequence = (1 << 32) - 100
        before, after = (1 << 32) - 10, (1 << 32) + 7
        text = far.wrap(gre.MPLS, stacked(udp4(REMOTE, CE), 18))
        world.label(18, Operation.POP_LOOKUP, "cust1", frozenset(("mgre",)), 1)
        order = [before, after, before + 3, (1 << 32) - 1, 1 << 32, (1 << 32) + 1, before + 1, after + (1 << 30), after]
        for turn in range(2):
            taken = [bool(world.arrive(far.packet(text, sequence=number))) for number in order]
            assert taken == ([True] * 8 + [False] if not turn else [False] * 9)
        assert far.into.use.sequence == after + (1 << 30)
        # From before the wrap again, under the number that it would be taken for now: not authentic.
        assert not world.arrive(far.packet(text, sequence=before))
        assert world.dropped()[Drop.ESP_INTEGRITY] >= 1 or world.dropped()[Drop.ESP_REPLAY] >= 10


@pytest.mark.parametrize("limit", range(1, 8))
def test_E05_octets_to_the_very_last(limit):
    """Packets of 28 + n octets of payload against a limit anywhere: as many go as fit, wholly."""
    for many in (True, False):
        size = len(gre.encode(gre.Gre(gre.MPLS, stacked(udp4(), 102), key=1)))
        with protected(batch=many, more={"hard_octets": limit * size + size // 2}) as world:
            out = world.into(E0, *[frame(udp4())] * 10)
            assert len(out["raw 50 2"]) == limit
            assert world.far[PE2].out.use.octets == limit * size
            assert world.into(E0, frame(udp4())) == {}
            assert world.dropped() == {Drop.ESP_EXPIRED: 11 - limit}


# --- scope ------------------------------------------------------------------------------------------------------------------


SCOPES = {"protected": "protected", "mgre": "mgre", "ethernet": "ethernet"}


@pytest.mark.parametrize("given", SCOPES)
def test_T03_a_label_comes_in_only_as_it_was_given_out(given):
    """RFC 4023 8.1, and the other way round: each label by each of the three ways."""
    with protected() as world:
        world.reception(evolve(world.tables.receptions.get(TUNNEL), scope="protected"))
        world.reception(
            Reception("Tunnel9", ip("192.0.2.9"), frozenset((47,)), "", None, frozenset((PE2, PE3)), ip=False)
        )
        world.label(70, Operation.POP_LOOKUP, "cust1", frozenset((given,)), 1)
        packet, far = udp4(REMOTE, CE), world.far[PE2]
        for _ in range(2):
            by_esp = world.arrive(far.packet(far.wrap(gre.MPLS, stacked(packet, 70))))
            by_gre = world.into("gre", labelled(packet, 70, key=None, destination=ip("192.0.2.9")))
            by_wire = world.into("Ethernet1/0", frame(stacked(packet, 70), kind=0x8847))
            assert [bool(by_esp), bool(by_gre), bool(by_wire)] == [given == way for way in SCOPES]
        assert world.dropped()[Drop.LABEL_SCOPE] == 4


def test_T03_a_warm_label_is_refused_once_its_scope_has_changed():
    with protected() as world:
        world.reception(evolve(world.tables.receptions.get(TUNNEL), scope="protected"))
        world.label(70, Operation.POP_LOOKUP, "cust1", frozenset(("protected",)), 1)
        far = world.far[PE2]
        text = far.wrap(gre.MPLS, stacked(udp4(REMOTE, CE), 70))
        for _ in range(3):
            assert world.arrive(far.packet(text))
        world.label(70, Operation.POP_LOOKUP, "cust1", frozenset(("mgre",)), 1)
        assert not world.arrive(far.packet(text))


def test_nhrp_in_esp_says_by_which_child_sa_it_came():
    with protected() as world:
        far = world.far[PE2]
        world.change_interface(TUNNEL, network_id=1)
        text = b"\0\1nhrp, whatever it is"
        world.arrive(far.packet(far.wrap(gre.NHRP, text)))
        (fact,) = world.facts
        assert fact == NhrpReceived(TUNNEL, "", PE2, US, far.into.child, text)


@pytest.mark.parametrize("protocol", [0, 0x8848, 0x6558, 0x22EB])
def test_what_else_gre_may_hold_goes_nowhere(protocol):
    """A keepalive (protocol 0) of others among it: nothing is answered, in clear or sealed."""
    with protected() as world:
        far = world.far[PE2]
        keepalive = ipv4.encode(ipv4.Ipv4(US, PE2, 47, gre.encode(gre.Gre(0, b""))))
        assert world.arrive(far.packet(far.wrap(protocol, keepalive))) == {}
        assert sum(world.dropped().values()) == 1


# --- the host ---------------------------------------------------------------------------------------------------------------


def test_a_host_without_sendmmsg_seals_all_the_same(monkeypatch):
    monkeypatch.setattr(batch, "_sendmmsg", None)
    with protected(batch=True) as world:
        out = world.into(E0, *[frame(udp4(size=n)) for n in range(BATCH)])["raw 50 2"]
        assert [world.far[PE2].open(octets).sequence for octets in out] == list(range(1, BATCH + 1))


def test_a_tunnel_that_becomes_protected_keeps_no_socket_for_gre():
    with protected() as world:
        world.change_adjacency(TUNNEL, PE2, protection="", sa=None)
        world.change_adjacency(TUNNEL, PE3, protection="", sa=None)
        assert list(world.into(E0, frame(udp4()))) == ["raw 47 2"]
        world.change_adjacency(TUNNEL, PE2, protection="ipsec", sa=SaKey(TUNNEL, PE2))
        assert list(world.into(E0, frame(udp4()))) == ["raw 50 2"]
        assert world.ports["raw 47 2"].closed


def test_E04_what_waited_for_a_neighbour_goes_by_what_the_tables_say_then():
    """Its route has moved into a tunnel that was in clear when somebody last sent there, and is protected now."""
    with protected() as world:
        world.change_adjacency(TUNNEL, PE2, protection="", sa=None)
        assert list(world.into(E0, frame(udp4()))) == ["raw 47 2"]
        world.change_adjacency(E0, CE, complete=False)
        assert world.into(E0, frame(udp4(destination=CE), source=CE_MAC)) == {}
        assert len(world.forwarder.path.waiting) == 1
        world.route("cust1", "10.1.0.2/32", LeafKind.FORWARD, 1, (102,))
        world.change_adjacency(TUNNEL, PE2, protection="ipsec", sa=SaKey(TUNNEL, PE2))
        world.change_adjacency(E0, CE, complete=True)
        world.forwarder.path.tick()
        assert list(world.sent()) == ["raw 50 2"]
