"""ESP in, what must not pass: clear text, limits, ESP in UDP beside what is not ESP; and vectors of others."""

from __future__ import annotations

import hmac

import pytest
from attrs import evolve

from stack.events import SCOPE_PROTECTED, SaKey, SaMoved, SaSoft
from stack.tables.lfib import Operation
from tests.tunnel.io.esp_world import FORMS, GCM, Far, Protected, protected, sa
from tests.tunnel.io.world import (
    CE,
    CORE,
    CUST1,
    E0,
    PE2,
    REMOTE,
    STRANGER,
    TUNNEL,
    US,
    frame,
    labelled,
    lower_ttl,
    stacked,
    tunnelled,
    udp4,
)
from tunnel.io.counters import Drop, Slow
from tunnel.io.opening import MOVED_RATE
from tunnel.wire import ethernet, gre, ipv4

INNER = udp4(REMOTE, CE)


@pytest.fixture(params=FORMS, ids=str)
def form(request):
    return FORMS[request.param]


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
