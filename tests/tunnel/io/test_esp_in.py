"""In by a protected tunnel: SPI, window, ICV, padding, selectors, and only then the tunnel that the SA is for. RFC 4303 3.4,
RFC 4301 5.2, RFC 3948, RFC 4023 8."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.esp import Selector
from stack.events import NhrpReceived, SaKey, SaMoved, SaUnknown
from tests.tunnel.io.esp_world import FORMS, GCM, Far, protected
from tests.tunnel.io.world import (
    CE,
    CUST1,
    E0,
    E1,
    KEY,
    PE2,
    PE3,
    REMOTE,
    STRANGER,
    TUNNEL,
    US,
    echo4,
    ip,
    lower_ttl,
    stacked,
    udp4,
    udp6,
)
from tunnel.io.counters import Drop, Slow
from tunnel.io.esp import MAX_PAIRS, opener_of
from tunnel.io.opening import UNKNOWN_RATE
from tunnel.wire import ethernet, gre, ipv4

INNER = udp4(REMOTE, CE)


@pytest.fixture(params=FORMS, ids=str)
def form(request):
    return FORMS[request.param]


UDP_FORMS = pytest.mark.parametrize("udp_form", [form for form in FORMS.values() if form.udp], ids=str)


@pytest.fixture(params=[(10, False), (10, True), (0, False)], ids=["one by one", "batch", "bare frames"])
def world(request, form):
    headroom, batch = request.param
    with protected(headroom=headroom, batch=batch, form=form) as made:
        yield made


@pytest.fixture(params=[True, False], ids=["batch", "one by one"])
def gcm(request):
    with protected(batch=request.param) as made:
        yield made


def gre_of(far: Far, packet: bytes = INNER, label: int = 18, **more) -> bytes:
    return far.wrap(gre.MPLS, stacked(packet, label), **more)


def payloads(out: dict[str, list[bytes]], name: str = E0) -> list[bytes]:
    assert set(out) <= {name}
    return [ethernet.decode(octets).payload for octets in out.get(name, ())]


# --- what comes out --------------------------------------------------------------------------------------------------


def test_rfc4303_3_4_every_form_of_an_independent_sender_is_opened(world):
    far = world.far[PE2]
    for size in (0, 1, 2, 3, 15, 16, 17, 400, 1300):
        packet = udp4(REMOTE, CE, size=size)
        for count in (1, 1, 3):
            out = world.arrive(*[far.packet(gre_of(far, packet)) for _ in range(count)])
            assert payloads(out) == [lower_ttl(packet)] * count
    use = far.into.use
    assert (use.sequence, use.packets, use.last) == (far.sequence, far.sequence, world.now)
    assert use.window == (1 << min(far.sequence, 64)) - 1
    assert world.forwarder.counters.received[TUNNEL][0] == far.sequence
    assert not world.dropped()


def test_both_vrfs_and_both_versions_by_one_sa(world):
    far = world.far[PE2]
    for label, packet, name in ((18, INNER, E0), (28, INNER, E1), (30, INNER, E0)):
        for _ in range(3):
            out = world.arrive(far.packet(gre_of(far, packet, label)))
            assert payloads(out, name) == [lower_ttl(packet)]
    six = udp6(ip("2001:db8:2::4"), ip("2001:db8:1::2"))
    for _ in range(3):
        assert payloads(world.arrive(far.packet(gre_of(far, six, 19)))) == [lower_ttl(six)]


def test_hub_from_one_protected_neighbour_to_another(world):
    """Opened, the label swapped, sealed for PE3, in one slot."""
    far, other = world.far[PE2], world.far[PE3]
    for count in (1, 1, 5):
        out = world.arrive(*[far.packet(gre_of(far, INNER, 40)) for _ in range(count)])
        assert list(out) == [world.outer_of(PE3)]
        for octets in out[world.outer_of(PE3)]:
            assert other.carried(octets).payload == stacked(INNER, 140, ttl=63)


def test_unlabelled_ip_goes_into_the_tunnels_vrf(world):
    world.reception(evolve(world.tables.receptions.get(TUNNEL), ip=True, vrf=CUST1))
    far = world.far[PE2]
    for _ in range(3):
        assert payloads(world.arrive(far.packet(far.wrap(gre.IPV4, INNER)))) == [lower_ttl(INNER)]
    out = world.arrive(far.packet(far.wrap(gre.IPV4, echo4(REMOTE, ip("10.1.0.1")))))
    assert list(out) == [world.outer_of(PE2)], "the answer goes back sealed"


def test_mixed_batch_of_two_peers_and_of_junk(gcm):
    two, three = gcm.far[PE2], gcm.far[PE3]
    packets = []
    for n in range(20):
        a, b = (udp4(REMOTE, CE, size=n + at) for at in (0, 20))
        packets += [two.packet(gre_of(two, a)), b"E", three.packet(gre_of(three, b, 28)), two.outer(b"\0" * 60)]
    out = gcm.arrive(*packets[:64])
    assert len(out[E0]) == len(out[E1]) == 16
    out = gcm.arrive(*packets[64:])
    assert len(out[E0]) == len(out[E1]) == 4


def test_the_child_sa_is_told_to_whom_it_concerns(gcm):
    """NHRP inside, and the outer source; Ingress.sa."""
    far = gcm.far[PE2]
    gcm.change_interface(TUNNEL, network_id=1)
    gcm.arrive(far.packet(far.wrap(gre.NHRP, b"nhrp")))
    assert gcm.facts == [NhrpReceived(TUNNEL, "", PE2, US, far.into.child, b"nhrp")]


def test_a_packet_with_options_in_its_outer_header(form):
    with protected(form=form) as world:
        far = world.far[PE2]
        outer = ipv4.decode(far.packet(gre_of(far)))
        assert payloads(world.arrive(ipv4.encode(evolve(outer, options=b"\1" * 8)))) == [lower_ttl(INNER)]


@UDP_FORMS
def test_octets_behind_the_udp_datagram_are_not_its(udp_form):
    with protected(form=udp_form) as world:
        far = world.far[PE2]
        outer = ipv4.decode(far.packet(gre_of(far)))
        packet = ipv4.encode(evolve(outer, payload=outer.payload + b"behind"))
        assert payloads(world.arrive(packet)) == [lower_ttl(INNER)]
        short = bytearray(far.packet(gre_of(far)))
        short[24:26] = (len(short) - 20 + 1).to_bytes(2)
        assert world.arrive(bytes(short)) == {}
        assert world.dropped() == {Drop.ESP_MALFORMED: 1}


def test_rfc7296_2_23_either_encapsulation_is_taken_whatever_we_use():
    with protected() as world:
        far = world.far[PE2]
        udp_far = Far(far.out, evolve(far.into, form=evolve(GCM, udp=True), ports=(4500, 4500)))
        assert payloads(world.into("esp udp", udp_far.packet(gre_of(far)))) == [lower_ttl(INNER)]
        assert payloads(world.into("esp", far.packet(gre_of(far), sequence=2))) == [lower_ttl(INNER)]
        assert not world.facts


# --- E01: replay -----------------------------------------------------------------------------------------------------------


def test_E01_every_packet_replayed(world):
    far = world.far[PE2]
    packets = [far.packet(gre_of(far)) for _ in range(40)]
    assert len(payloads(world.arrive(*packets))) == 40
    assert world.arrive(*packets) == {}
    for packet in packets:
        assert world.arrive(packet) == {}
    assert world.dropped() == {Drop.ESP_REPLAY: 80}
    assert far.into.use.replays == 80


@pytest.mark.parametrize("esn", [False, True])
@pytest.mark.parametrize("window", [64, 128, 1024, 8192])
def test_E01_window_edge_rfc4303_3_4_3(window, esn):
    with protected(more={"window": window, "esn": esn}) as world:
        far = world.far[PE2]

        def takes(sequence: int) -> bool:
            return bool(world.arrive(far.packet(gre_of(far), sequence=sequence)))

        top = 3 * window
        assert takes(top)
        assert not takes(top - window), "just behind it"
        assert takes(top - window + 1), "the oldest place"
        assert not takes(top - window + 1)
        assert takes(top + 1)
        assert not takes(top - window + 1), "fallen out"
        assert takes(top - 1)
        assert takes(top + window)
        assert takes(top + 2)
        assert not takes(top + 1)
        assert far.into.use.window < 1 << window


def test_E01_a_window_larger_than_8192_is_8192():
    with protected(more={"window": 1 << 40}) as world:
        far = world.far[PE2]
        assert world.arrive(far.packet(gre_of(far), sequence=10_000))
        assert not world.arrive(far.packet(gre_of(far), sequence=10_000 - 8192))
        assert world.arrive(far.packet(gre_of(far), sequence=10_000 - 8191))


def test_E01_jump_of_2_to_31_costs_no_memory():
    with protected(more={"window": 8192}) as world:
        far = world.far[PE2]
        for sequence in (1, 1 << 31, (1 << 32) - 1):
            assert world.arrive(far.packet(gre_of(far), sequence=sequence))
            assert far.into.use.window == 1
            assert far.into.use.sequence == sequence


@pytest.mark.parametrize("esn", [False, True])
def test_E01_sequence_number_zero_is_never_sent_rfc4303_3_3_3(esn):
    with protected(more={"esn": esn}) as world:
        far = world.far[PE2]
        assert world.arrive(far.packet(gre_of(far), sequence=0)) == {}
        assert world.dropped() == {Drop.ESP_REPLAY: 1}
        if esn:  # the low half may be zero later
            far.into.use.sequence = (1 << 32) - 2
            assert world.arrive(far.packet(gre_of(far), sequence=(1 << 32) - 1))
            assert world.arrive(far.packet(gre_of(far), sequence=1 << 32))
            assert far.into.use.sequence == 1 << 32


@pytest.mark.parametrize("name", ["gcm-256", "cbc-256 sha256"])
@pytest.mark.parametrize("break_it", [-1, 20 + 8 + 8])
def test_E01_the_window_moves_only_after_the_icv_is_right(name, break_it):
    """A forged packet far ahead, or at the number that comes next, changes nothing."""
    with protected(form=FORMS[name]) as world:
        far = world.far[PE2]
        world.arrive(far.packet(gre_of(far), sequence=5))
        before = far.into.use.sequence, far.into.use.window, far.into.use.packets
        for sequence in (4, 6, 1 << 31, (1 << 32) - 1):
            packet = bytearray(far.packet(gre_of(far), sequence=sequence))
            packet[break_it] ^= 1
            assert world.arrive(bytes(packet)) == {}
        assert (far.into.use.sequence, far.into.use.window, far.into.use.packets) == before
        assert world.dropped() == {Drop.ESP_INTEGRITY: 4}
        assert far.into.use.integrity_failures == 4
        assert world.arrive(far.packet(gre_of(far), sequence=4))
        assert world.arrive(far.packet(gre_of(far), sequence=6))


def test_E01_without_replay_protection_all_is_taken():
    with protected(more={"window": 0}) as world:
        far = world.far[PE2]
        for sequence in (7, 7, 1, 1 << 31, 1):
            assert world.arrive(far.packet(gre_of(far), sequence=sequence))
        assert far.into.use.window == 0
        assert not world.dropped()


@pytest.mark.parametrize("name", ["gcm-256", "chacha", "cbc-256 sha256", "gcm tunnel udp"])
def test_E01_esn_wraps_rfc4303_A2(name):
    """RFC 4303 A2.2: the window lies across the wrap, and packets of both sides of it come in any order."""
    with protected(form=FORMS[name], more={"esn": True}) as world:
        far = world.far[PE2]
        far.into.use.sequence = (1 << 32) - 3
        for ahead in (-1, 2, 0, 5, 1, 3, -20):
            sequence = (1 << 32) + ahead
            assert world.arrive(far.packet(gre_of(far), sequence=sequence)), ahead
            assert world.arrive(far.packet(gre_of(far), sequence=sequence)) == {}
        assert far.into.use.sequence == (1 << 32) + 5
        # from the time before the wrap, too old: taken for one that is nearly 2^32 ahead, so its ICV is wrong
        assert world.arrive(far.packet(gre_of(far), sequence=(1 << 32) - 100)) == {}
        assert world.dropped() == {Drop.ESP_REPLAY: 7, Drop.ESP_INTEGRITY: 1}


@pytest.mark.parametrize("esn", [False, True])
@given(
    start=st.sampled_from([0, 1, 60, 64, 65, (1 << 32) - 70, (1 << 32) - 1, (5 << 32) + 3]),
    steps=st.lists(st.integers(-140, 140), max_size=60),
    window=st.sampled_from([1, 31, 64, 128]),
)
@settings(max_examples=60, deadline=None)
def test_E01_the_window_is_a_set_of_numbers(esn, start, steps, window):
    """Against a model that remembers every number."""
    if not esn:
        start = min(start, (1 << 32) - 1)
    with protected(more={"window": window, "esn": esn}) as world:
        far = world.far[PE2]
        far.into.use.sequence, far.into.use.window = start, 1 if start else 0
        top, taken, at = start, {start} if start else set(), start
        for step in steps:
            at = max(1, top + step)
            if not esn and at >= 1 << 32:
                continue
            fresh = at not in taken and at > top - window
            assert bool(world.arrive(far.packet(gre_of(far), sequence=at))) == fresh
            if fresh:
                taken.add(at)
                top = max(top, at)


# --- E02: broken packets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gcm-256", "gcm-128 udp", "chacha", "cbc-256 sha256", "cbc-128 sha1 tunnel"])
def test_E02_a_flip_of_any_bit_drops_the_packet(name):
    """From the SPI to the ICV; nothing is sent, to nobody, and only counters tell why."""
    with protected(form=FORMS[name]) as world:
        far = world.far[PE2]
        packet = far.packet(gre_of(far, udp4(REMOTE, CE, size=0)))
        first = 28 if FORMS[name].udp else 20
        for bit in range(first * 8, len(packet) * 8):
            broken = bytearray(packet)
            broken[bit >> 3] ^= 0x80 >> (bit & 7)
            assert world.arrive(bytes(broken)) == {}
        # one flip in the SPI makes it PE3's, whose key is another; one in the sequence number makes it 0
        rest = (len(packet) - first) * 8 - 32
        assert world.dropped() == {Drop.ESP_UNKNOWN: 31, Drop.ESP_REPLAY: 1, Drop.ESP_INTEGRITY: rest}
        assert {type(fact) for fact in world.facts} <= {SaUnknown}
        assert far.into.use.packets == 0
        assert payloads(world.arrive(packet)) == [lower_ttl(udp4(REMOTE, CE, size=0))], "and whole, it is taken"


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("name", ["gcm-256", "gcm-128 udp", "cbc-256 sha256", "gcm tunnel"])
def test_E02_truncated_anywhere(name, batch):
    """Also behind a longer packet, whose octets still lie in the slot."""
    with protected(form=FORMS[name], batch=batch) as world:
        far = world.far[PE2]
        packet = far.packet(gre_of(far))
        for length in range(1, len(packet)):
            cut = bytearray(packet[:length])
            if FORMS[name].udp and length >= 28:
                cut[24:26] = (length - 20).to_bytes(2)
            assert world.arrive(bytes(cut)) == {}
        assert set(world.dropped()) == {Drop.ESP_MALFORMED, Drop.ESP_INTEGRITY}
        assert far.into.use.packets == 0
        assert payloads(world.arrive(packet)) == [lower_ttl(INNER)]


@pytest.mark.parametrize("name", ["gcm-256", "gcm-128 udp", "cbc-256 sha256"])
def test_E02_longer_than_it_was(name):
    with protected(form=FORMS[name]) as world:
        far = world.far[PE2]
        for extra in range(1, 40):
            assert world.arrive(far.outer(far.seal(gre_of(far)) + bytes(extra))) == {}
        assert set(world.dropped()) == {Drop.ESP_MALFORMED, Drop.ESP_INTEGRITY}


BAD_PADS = [b"\0", b"\1\1", b"\1\2\4", b"\3\2\1", bytes(16), bytes(range(255)), bytes(range(1, 255)) + b"\0"]


@pytest.mark.parametrize("form_name", ["gcm-256", "cbc-256 sha256"])
@pytest.mark.parametrize("pad", BAD_PADS, ids=len)
def test_E02_padding_is_1_2_3_rfc4303_2_4(form_name, pad):
    with protected(form=FORMS[form_name]) as world:
        far = world.far[PE2]
        block = 16 if "cbc" in form_name else 4
        inner = gre_of(far)
        inner += bytes(-(len(inner) + len(pad) + 2) % block)  # TFC padding behind the packet inside makes it even
        assert world.arrive(far.packet(inner, pad=pad)) == {}
        assert world.dropped() == {Drop.ESP_PADDING: 1}
        good = bytes(range(1, len(pad) + 1))
        assert payloads(world.arrive(far.packet(inner, pad=good))) == [lower_ttl(INNER)], "as much, but right"


@pytest.mark.parametrize("form_name", ["gcm-256", "cbc-256 sha256", "gcm tunnel"])
def test_E02_pad_length_past_the_payload(form_name):
    with protected(form=FORMS[form_name]) as world:
        far = world.far[PE2]
        for length in (31, 100, 255):
            assert world.arrive(far.packet(bytes(30), pad=b"", pad_length=length)) == {}
        assert world.dropped() == {Drop.ESP_PADDING: 3}
        assert world.arrive(far.packet(bytes(range(1, 31)), pad=b"", pad_length=30)) == {}
        assert world.dropped()[Drop.ESP_PADDING] == 3, "padding and nothing else is an empty payload"


def test_E02_a_sound_icv_over_too_little(form):
    """Nothing inside, one octet inside, ...: no packet of an authenticated peer does harm either."""
    with protected(form=form) as world:
        far = world.far[PE2]
        for size in range(64):
            assert world.arrive(far.packet(bytes(size))) == {}
        assert sum(world.dropped().values()) == 64
        assert far.into.use.packets == 64


@pytest.mark.parametrize("name", ["gcm-256", "gcm-128 udp"])
def test_E02_unknown_spi_is_told_within_a_budget_rfc4303_3_4_2(name):
    with protected(form=FORMS[name]) as world:
        far = world.far[PE2]
        packet = far.packet(gre_of(far), spi=0xDEADBEEF)
        for _ in range(4):
            assert world.arrive(*[packet] * 60) == {}
        assert world.dropped() == {Drop.ESP_UNKNOWN: 240}
        assert world.facts == [SaUnknown(US, PE2, 0xDEADBEEF)] * int(UNKNOWN_RATE)
        world.now += 1
        world.arrive(packet)
        assert len(world.facts) == UNKNOWN_RATE + 1


@pytest.mark.parametrize("udp_port", [False, True])
@given(st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_E02_any_octets_at_all(udp_port, octets):
    with protected(form=FORMS["gcm-128 udp" if udp_port else "gcm-256"]) as world:
        for packet in (
            octets,
            b"\x45" + octets,
            world.far[PE2].outer(octets),
            world.far[PE2].outer(b"\0\2\0\2" + octets),
        ):
            if packet:
                assert world.arrive(packet) == {}


@given(
    name=st.sampled_from(sorted(FORMS)),
    where=st.floats(0, 1, exclude_max=True),
    cut=st.integers(0, 30),
    put=st.binary(max_size=30),
    esn=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_E02_mutated_packets_never_pass_nor_raise(name, where, cut, put, esn):
    with protected(form=FORMS[name], more={"esn": esn}) as world:
        far = world.far[PE2]
        packet = far.packet(gre_of(far))
        first = 28 if FORMS[name].udp else 20
        at = first + int(where * (len(packet) - first))
        mutated = packet[:at] + put + packet[at + cut :]
        out = world.arrive(mutated)
        expected = [lower_ttl(INNER)] if mutated == packet else []
        assert payloads(out) == expected


@given(
    name=st.sampled_from(sorted(FORMS)), inner=st.binary(max_size=120), next_header=st.sampled_from([4, 41, 47, 59, 0])
)
@settings(max_examples=200, deadline=None)
def test_E02_authenticated_nonsense_never_raises(name, inner, next_header):
    with protected(form=FORMS[name]) as world:
        far = world.far[PE2]
        for octets in (
            inner,
            far.wrap(gre.MPLS, inner),
            far.wrap(gre.IPV4, inner),
            ipv4.encode(ipv4.Ipv4(PE2, US, 47, inner)),
        ):
            world.arrive(far.packet(octets, next_header=next_header))


# --- E03: selectors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("next_header", [0, 1, 4, 6, 17, 41, 50, 137])
def test_E03_only_gre_in_transport_mode(next_header):
    with protected() as world:
        far = world.far[PE2]
        assert world.arrive(far.packet(gre_of(far), next_header=next_header)) == {}
        assert world.dropped() == {Drop.ESP_SELECTOR: 1}
        assert far.into.use.refused == 1


@pytest.mark.parametrize("next_header", [0, 1, 6, 17, 41, 47, 137])
def test_E03_only_ipv4_in_tunnel_mode(next_header):
    with protected(form=FORMS["gcm tunnel"]) as world:
        far = world.far[PE2]
        assert world.arrive(far.packet(gre_of(far), next_header=next_header)) == {}
        assert world.dropped() == {Drop.ESP_SELECTOR: 1}


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize(
    "change",
    [
        {"source": STRANGER},
        {"source": US},
        {"destination": PE3},
        {"protocol": 17},
        {"protocol": 137},
        {"source": US, "destination": PE2},
    ],
    ids=str,
)
def test_E03_the_inner_packet_must_match_rfc4301_5_2_step_4(change, warm):
    with protected(form=FORMS["gcm tunnel"]) as world:
        far = world.far[PE2]
        if warm:
            assert world.arrive(far.packet(gre_of(far)))
        inner = ipv4.encode(evolve(ipv4.decode(gre_of(far)), **change))
        assert world.arrive(far.packet(inner)) == {}
        assert world.dropped() == {Drop.ESP_SELECTOR: 1}


@pytest.mark.parametrize(
    "selectors",
    [
        {"own": ()},
        {"far": ()},
        {"own": (Selector(PE3, PE3, 47),)},
        {"far": (Selector(PE3, PE3, 47),)},
        {"far": (Selector(PE2, PE2, 17),)},
        {"own": (Selector(bytes(16), b"\xff" * 16),)},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["gcm-256", "gcm tunnel"])
def test_E03_selectors_that_do_not_cover_gre_between_the_ends(name, selectors):
    with protected(form=FORMS[name], more=selectors) as world:
        far = world.far[PE2]
        assert world.arrive(far.packet(gre_of(far))) == {}
        assert world.dropped() == {Drop.ESP_SELECTOR: 1}


def test_E03_ranges_of_selectors():
    wide = {
        "own": (Selector(bytes(4), b"\xff" * 4),),
        "far": (Selector(ip("10.0.0.0"), ip("10.0.0.1")), Selector(PE2, PE3, 0)),
    }
    with protected(more=wide) as world:
        far = world.far[PE2]
        assert world.arrive(far.packet(gre_of(far)))


def test_E03_many_inner_sources_are_looked_at_one_by_one():
    """Tunnel mode with a wide selector: each source must be an endpoint, and what is remembered is bounded."""
    with protected(form=FORMS["gcm tunnel"], more={"far": (Selector(bytes(4), b"\xff" * 4),)}) as world:
        far = world.far[PE2]
        for n in range(3 * MAX_PAIRS):
            inner = ipv4.decode(gre_of(far))
            world.arrive(far.packet(ipv4.encode(evolve(inner, source=bytes((10, 0, n >> 8, n & 255))))))
            assert len(opener_of(far.into).pairs) <= MAX_PAIRS


def broken_checksum(inner: bytes) -> bytes:
    return inner[:10] + bytes((inner[10] ^ 1,)) + inner[11:]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: p[:19], Drop.ESP_MALFORMED),
        (lambda p: b"\x65" + p[1:], Drop.ESP_MALFORMED),
        (lambda p: b"\x44" + p[1:], Drop.ESP_MALFORMED),
        (lambda p: b"\x4f" + p[1:], Drop.CHECKSUM),
        (lambda p: p[:2] + b"\xff\xff" + p[4:], Drop.ESP_MALFORMED),
        (broken_checksum, Drop.CHECKSUM),
        (lambda p: ipv4.encode(evolve(ipv4.decode(p), more=True)), Drop.ESP_FRAGMENT),
        (lambda p: ipv4.encode(evolve(ipv4.decode(p), offset=8)), Drop.ESP_FRAGMENT),
    ],
)
def test_E03_inner_headers_of_tunnel_mode_are_checked(change, reason):
    with protected(form=FORMS["gcm tunnel"]) as world:
        far = world.far[PE2]
        assert world.arrive(far.packet(change(gre_of(far)))) == {}
        assert world.dropped() == {reason: 1}


def test_inner_headers_with_options_and_tfc_padding_rfc4303_2_7():
    with protected(form=FORMS["gcm tunnel"]) as world:
        far = world.far[PE2]
        inner = ipv4.encode(evolve(ipv4.decode(gre_of(far)), options=b"\1" * 4))
        for packet in (inner, gre_of(far) + bytes(100), inner + bytes(1)):
            assert payloads(world.arrive(far.packet(packet))) == [lower_ttl(INNER)]


def test_dummy_packets_are_discarded_without_a_word_rfc4303_2_6(form):
    with protected(form=form) as world:
        far = world.far[PE2]
        assert world.arrive(far.packet(bytes(50), next_header=59), far.packet(b"", next_header=59)) == {}
        assert not world.dropped()
        assert world.noted() == {Slow.ESP_DUMMY: 2}
        assert far.into.use.window == 0b11


# --- whose tunnel ----------------------------------------------------------------------------------------------------


def test_outer_destination_is_the_sas(form):
    with protected(form=form) as world:
        far = world.far[PE2]
        assert world.arrive(far.outer(far.seal(gre_of(far)), local=PE3)) == {}
        assert world.dropped() == {Drop.ESP_DESTINATION: 1}
        assert far.into.use.sequence == 0


def test_E04_what_comes_out_enters_by_the_sas_own_tunnel_only(gcm):
    """Another reception would take it: it is not asked."""
    far = gcm.far[PE2]
    gcm.reception(evolve(gcm.tables.receptions.get(TUNNEL), interface="Tunnel1", gre_key=None, ip=True, protected=True))
    assert gcm.arrive(far.packet(gre_of(far, key=None))) == {}
    assert gcm.dropped() == {Drop.GRE_KEY: 1}
    gcm.w["receptions"].remove(TUNNEL)
    assert gcm.arrive(far.packet(gre_of(far))) == {}
    assert gcm.dropped() == {Drop.GRE_KEY: 1, Drop.NOT_OURS: 1}


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"protected": False}, Drop.ESP_UNASKED),
        ({"protocols": frozenset((137,))}, Drop.TUNNEL_PROTOCOL),
        ({"gre_key": 7}, Drop.GRE_KEY),
        ({"gre_key": None}, Drop.GRE_KEY),
        ({"sources": frozenset((PE3,))}, Drop.UNKNOWN_ENDPOINT),
        ({"mpls": False}, Drop.LABEL_INTERFACE),
    ],
    ids=str,
)
def test_the_reception_of_the_sas_tunnel_decides(gcm, change, reason, warm):
    far = gcm.far[PE2]
    if warm:
        assert gcm.arrive(far.packet(gre_of(far)))
    gcm.reception(evolve(gcm.tables.receptions.get(TUNNEL), **change))
    assert gcm.arrive(far.packet(gre_of(far)), far.packet(gre_of(far))) == {}
    assert gcm.dropped() == {reason: 2}


def test_T02_the_allow_list_holds_for_a_peer_with_an_sa_too(gcm):
    """mGRE: the endpoint is who the SA was made for, wherever its packets come from."""
    far = gcm.associate(STRANGER)
    assert gcm.arrive(far.packet(gre_of(far))) == {}
    assert gcm.dropped() == {Drop.UNKNOWN_ENDPOINT: 1}


def test_a_point_to_point_tunnel_takes_its_peer_from_anywhere():
    """RFC 7296 2.23: behind a NAT that has changed its mind; the SA proves who it is."""
    with protected(form=FORMS["gcm-128 udp"]) as world:
        world.reception(evolve(world.tables.receptions.get(TUNNEL), point_to_point=True, sources=frozenset((PE2,))))
        far = world.associate(PE2, key=SaKey(TUNNEL), remote=STRANGER, far=(Selector(STRANGER, STRANGER, 47),))
        assert world.arrive(far.packet(gre_of(far), remote=PE3, port=9))
        assert world.facts == [SaMoved(far.into.spi, PE3, 9)]


def test_an_interface_that_is_down_takes_nothing(gcm):
    far = gcm.far[PE2]
    gcm.w["interfaces"].put(TUNNEL, evolve(gcm.tables.interfaces.get(TUNNEL), up=False))
    assert gcm.arrive(far.packet(gre_of(far))) == {}
    assert gcm.dropped() == {Drop.INTERFACE_DOWN: 1}


def test_gre_sequence_numbers_inside_are_looked_at(gcm):
    far = gcm.far[PE2]
    packets = [gre.encode(gre.Gre(gre.MPLS, stacked(INNER, 18), key=KEY, sequence=n)) for n in (5, 6, 5)]
    assert len(payloads(gcm.arrive(*map(far.packet, packets)))) == 2
    assert gcm.dropped() == {Drop.GRE_SEQUENCE: 1}


@pytest.mark.parametrize("bad", ["0001", "4000"])
def test_T01_gre_rules_hold_inside(gcm, bad):
    far = gcm.far[PE2]
    assert gcm.arrive(far.packet(bytes.fromhex(bad) + gre_of(far)[2:])) == {}
    assert set(gcm.dropped()) <= {Drop.GRE_VERSION, Drop.GRE_RESERVED}
