"""In by a protected tunnel: SPI, window, ICV, padding, selectors, and only then the tunnel that the SA is for. RFC 4303 3.4,
RFC 4301 5.2, RFC 3948, RFC 4023 8."""

from __future__ import annotations

import hmac

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.esp import Selector
from stack.events import SCOPE_PROTECTED, NhrpReceived, SaKey, SaMoved, SaSoft, SaUnknown
from stack.tables.lfib import Operation
from tests.tunnel.io.esp_world import FORMS, GCM, Far, Protected, protected, sa
from tests.tunnel.io.world import (
    CE,
    CORE,
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
    frame,
    ip,
    labelled,
    lower_ttl,
    stacked,
    tunnelled,
    udp4,
    udp6,
)
from tunnel.io.counters import Drop, Slow
from tunnel.io.esp import MAX_PAIRS, opener_of
from tunnel.io.opening import MOVED_RATE, UNKNOWN_RATE
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


# --- E04, T03: clear text --------------------------------------------------------------------------------------------


def no_sa_yet(world: Protected) -> None:
    world.w["sad"].keep_only({}, {})


def in_the_middle_of_a_rekey(world: Protected) -> None:
    world.associate(PE2, generation=1)
    world.arrive(world.far[PE2].packet(gre_of(world.far[PE2])))


def after_a_crash_of_ikev2(world: Protected) -> None:
    world.tables.revoke("test")
    world.w["sad"] = world.tables.sad.writer("test")


def after_a_crash_of_the_forwarder(world: Protected) -> None:
    world.arrive(world.far[PE2].packet(gre_of(world.far[PE2])))
    world.restart()


def as_it_is(world: Protected) -> None:
    for _ in range(3):
        assert world.arrive(world.far[PE2].packet(gre_of(world.far[PE2])))


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize(
    "when", [no_sa_yet, in_the_middle_of_a_rekey, after_a_crash_of_ikev2, after_a_crash_of_the_forwarder, as_it_is]
)
def test_E04_T03_clear_text_for_a_protected_tunnel_is_dropped_rfc4023_8_1(when, batch):
    """Whatever was learnt of the same peer, key and label by way of ESP: it does not open a door for clear packets."""
    with protected(batch=batch) as world:
        when(world)
        clear = [labelled(INNER, 18), labelled(INNER, 40), tunnelled(INNER, gre.IPV4), tunnelled(b"nhrp", gre.NHRP)]
        for packet in clear:
            for _ in range(3):
                assert world.into("gre", packet, packet) == {}
        assert world.dropped() == {Drop.PROTECTED: 24}
        assert not world.facts
        assert world.into("mpls-in-ip", ipv4.encode(ipv4.Ipv4(PE2, US, 137, stacked(INNER, 18)))) == {}


def test_T03_scope_protected_only_by_esp(gcm):
    """A label that was given only over IPsec tunnels, from every side (RFC 4023 8.1)."""
    gcm.label(18, Operation.POP_LOOKUP, CUST1, frozenset((SCOPE_PROTECTED,)), 1)
    gcm.reception(evolve(gcm.tables.receptions.get(TUNNEL), scope=SCOPE_PROTECTED))
    gcm.reception(
        evolve(gcm.tables.receptions.get(TUNNEL), interface="Tunnel1", gre_key=9, scope="mgre", protected=False)
    )
    far = gcm.far[PE2]
    for _ in range(3):
        assert payloads(gcm.arrive(far.packet(gre_of(far)))) == [lower_ttl(INNER)]
        assert gcm.into("gre", labelled(INNER, 18, key=9)) == {}
        assert gcm.into("gre", labelled(INNER, 18)) == {}
        assert gcm.into(CORE, frame(stacked(INNER, 18), kind=0x8847)) == {}
    assert gcm.dropped() == {Drop.LABEL_SCOPE: 6, Drop.PROTECTED: 3}
    # whoever writes it so: still not in clear
    gcm.reception(evolve(gcm.tables.receptions.get(TUNNEL), protected=False))
    assert gcm.into("gre", labelled(INNER, 18)) == {}


def test_E04_an_sa_that_was_removed_opens_nothing(gcm):
    far = gcm.far[PE2]
    assert gcm.arrive(far.packet(gre_of(far)))
    gcm.w["sad"].remove_inbound(far.into.spi)
    assert gcm.arrive(far.packet(gre_of(far))) == {}
    assert gcm.dropped() == {Drop.ESP_UNKNOWN: 1}


def test_the_old_sa_and_the_new_one_both_open_during_a_rekey(gcm):
    old = gcm.far[PE2]
    new = gcm.associate(PE2, generation=1)
    out = gcm.arrive(old.packet(gre_of(old)), new.packet(gre_of(new)), old.packet(gre_of(old)))
    assert payloads(out) == [lower_ttl(INNER)] * 3


def test_an_spi_that_is_given_anew_leads_to_its_new_tunnel(gcm):
    """Nothing that was learnt by the old SA of the same number stays."""
    far = gcm.far[PE2]
    for _ in range(3):
        gcm.arrive(far.packet(gre_of(far)))
    again = sa(far.into.spi, PE2, GCM, key=SaKey("Tunnel7", PE2))
    gcm.w["sad"].put_inbound(again)
    new = Far(far.out, again)
    assert gcm.arrive(new.packet(gre_of(new))) == {}
    assert gcm.dropped() == {Drop.NOT_OURS: 1}


def test_a_restart_of_the_forwarder_keeps_the_window(world):
    far = world.far[PE2]
    packets = [far.packet(gre_of(far)) for _ in range(5)]
    world.arrive(*packets)
    world.restart()
    assert world.arrive(*packets) == {}
    assert world.dropped() == {Drop.ESP_REPLAY: 5}
    assert world.arrive(far.packet(gre_of(far)))


# --- E05: limits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gcm-256", "cbc-256 sha256"])
def test_E05_limits_inwards(name):
    for limit in ({"soft_packets": 3, "hard_packets": 6}, {"soft_octets": 150, "hard_octets": 320}):
        with protected(form=FORMS[name], more=limit) as world:
            far = world.far[PE2]
            assert len(gre_of(far)) == 52
            out = world.arrive(*[far.packet(gre_of(far)) for _ in range(4)])
            assert len(out[E0]) == 4
            assert world.facts == [SaSoft(far.into.spi, inbound=True)]
            out = world.arrive(*[far.packet(gre_of(far)) for _ in range(6)])
            assert len(out[E0]) in (2, 3)
            assert len(world.facts) == 1
            assert world.dropped() == {Drop.ESP_EXPIRED: 6 - len(out[E0])}
            assert far.into.use.sequence == 4 + len(out[E0])


def test_E05_past_its_time_nothing_is_taken_though_nobody_removed_it(gcm):
    far = gcm.associate(PE2, hard_time=gcm.now + 10)
    assert gcm.arrive(far.packet(gre_of(far)))
    gcm.now += 10
    assert gcm.arrive(far.packet(gre_of(far))) == {}
    assert gcm.dropped() == {Drop.ESP_EXPIRED: 1}


# --- E06: UDP --------------------------------------------------------------------------------------------------------


def test_E06_keepalives_are_ignored_rfc3948_2_3(gcm):
    far = Far(gcm.far[PE2].out, evolve(gcm.far[PE2].into, form=FORMS["gcm-128 udp"], ports=(4500, 4500)))
    assert gcm.into("esp udp", far.outer(b"\xff"), far.outer(b"\xff", remote=STRANGER, port=1)) == {}
    assert not gcm.dropped()
    assert not gcm.facts
    assert gcm.noted() == {Slow.NAT_KEEPALIVE: 2}


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", Drop.ESP_MALFORMED),
        (b"\xfe", Drop.ESP_MALFORMED),
        (b"\xff\xff", Drop.ESP_MALFORMED),
        (b"\xff" * 7, Drop.ESP_MALFORMED),
        (bytes(4), Drop.ESP_MALFORMED),
        (bytes(40), None),
        (bytes.fromhex("0123456789abcdef") + bytes(8) + bytes.fromhex("2120220800000000000001a4"), Drop.ESP_UNKNOWN),
    ],
    ids=["empty", "fe", "ffff", "ff*7", "marker alone", "marker", "IKE without a marker"],
)
def test_E06_demultiplexing_of_port_4500_rfc3948_2_2(octets, reason):
    """What has the marker is IKE's; IKE without one reads as ESP of an SPI that nobody has."""
    with protected(form=FORMS["gcm-128 udp"]) as world:
        far = world.far[PE2]
        assert world.arrive(far.outer(octets)) == {}
        assert world.dropped() == ({reason: 1} if reason else {})
        assert payloads(world.arrive(far.packet(gre_of(far)))) == [lower_ttl(INNER)]


def test_a_nat_that_changes_its_mind_is_told_of_rfc7296_2_23():
    """Only authenticated packets, only the newest one, and not too often."""
    with protected(form=FORMS["gcm-128 udp"]) as world:
        far = world.far[PE2]
        spi, port = far.into.spi, far.into.ports[1]
        late = far.packet(gre_of(far), remote=STRANGER)
        assert world.arrive(far.packet(gre_of(far)))
        assert not world.facts
        forged = bytearray(far.packet(gre_of(far), remote=STRANGER))
        forged[-1] ^= 1
        world.arrive(bytes(forged))
        assert world.arrive(late)
        assert not world.facts, "older than what came from the known address"
        assert payloads(world.arrive(far.packet(gre_of(far), remote=STRANGER))) == [lower_ttl(INNER)]
        assert payloads(world.arrive(far.packet(gre_of(far), port=9))) == [lower_ttl(INNER)]
        assert world.facts == [SaMoved(spi, STRANGER, port), SaMoved(spi, PE2, 9)]
        for _ in range(20):
            assert world.arrive(far.packet(gre_of(far), port=10))
        assert len(world.facts) == MOVED_RATE
        world.now += 1
        world.arrive(far.packet(gre_of(far), port=10))
        assert world.facts[-1] == SaMoved(spi, PE2, 10)


# --- vectors ---------------------------------------------------------------------------------------------------------


def vector(world, sa, esp: bytes) -> bytes:
    """What our reader makes of an ESP packet: the octets that it decrypts to."""
    arena = world.forwarder.arena
    packet = ipv4.encode(ipv4.Ipv4(sa.remote, sa.local, 50, esp))
    arena.octets[192 : 192 + len(packet)] = packet
    reader = world.readers["esp"]
    reader.open([len(packet)])
    body = 192 + 20 + 8 + sa.form.cipher.iv
    return bytes(arena.octets[body : 192 + len(packet) - sa.form.icv])


def test_rfc7634_appendix_A_esp_example():
    clear = bytes.fromhex(
        "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec100007362708090a0b0c0d0e0f10111213"
        "1415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363701020204"
    )
    sealed = bytes.fromhex(
        "24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c614ee8099d52844eb61aa95dfab4c02f7"
        "2aa71e7c4c4f64c9befe2facc638e8f3cbec163fac469b502773f6fb94e664da9165b82829f641e0"
    )
    with protected() as world:
        made = sa(
            0x01020304,
            PE2,
            FORMS["chacha"],
            encryption=bytes(range(0x80, 0xA0)),
            salt=bytes.fromhex("a0a1a2a3"),
        )
        world.w["sad"].put_inbound(made)
        # the ICV is the one that the example's packet has over its SPI and number 5
        icv = bytes.fromhex("76aaa8266b7fb0f7b11b369907e1ad43")
        esp = bytes.fromhex("0102030400000005 1011121314151617") + sealed + icv
        assert vector(world, made, esp) == clear
        assert (made.use.sequence, made.use.packets) == (5, 1)
        assert world.dropped() == {Drop.ESP_SELECTOR: 1}, "an ICMP packet of tunnel mode"


def test_rfc3602_4_case_5_transport_mode_esp_packet():
    sealed = bytes.fromhex(
        "f663c25d325c18c6a9453e194e120849a4870b66cc6b9965330013b4898dc856a4699e523a55db080b59ec3a8e4b7e52"
        "775b07d1db34ed9c538ab50c551b874aa269add047ad2d5913ac19b7cfbad4a6"
    )
    clear = bytes.fromhex(
        "08000ebda70a00008e9c083db95b070008090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f2021222324252627"
        "28292a2b2c2d2e2f30313233343536370102030405060708090a0b0c0d0e0e01"
    )
    with protected() as world:
        made = sa(
            0x4321, PE2, FORMS["cbc-128 sha1 tunnel"], encryption=bytes.fromhex("90d382b410eeba7ad938c46cec1a82bf")
        )
        world.w["sad"].put_inbound(made)
        esp = bytes.fromhex("00004321 00000001 e96e8c08ab465763fd098d45dd3ff893") + sealed
        esp += hmac.digest(made.integrity, esp, "sha1")[:12]  # the example has no ICV
        assert vector(world, made, esp) == clear
        assert world.dropped() == {Drop.ESP_SELECTOR: 1}
