"""Whole speakers and strangers: floods, cookies, unknown SPIs, other versions, nonsense. It makes no state and ends nothing."""

from __future__ import annotations

import gc

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from ikev2.config import Limits
from ikev2.engine.admission import COMPLAINT_RATE, COOKIE_AFTER, HALF_OPEN, MAX_PER_SOURCE
from ikev2.engine.contract import Ends
from ikev2.engine.outputs import Log, Output, Send
from ikev2.engine.speaker import Speaker
from ikev2.wire import Message, Nonce, Notify, NotifyKind, decode, encode
from stack.addr import parse_address
from stack.testing import SeededEntropy
from tests.ikev2.nodes import EPOCH, Node, World, psk_config, two_ends

A, B = parse_address("192.0.2.1"), parse_address("192.0.2.2")
LEFT, RIGHT = "192.0.2.1", "192.0.2.2"


def an_init() -> bytes:
    """The IKE_SA_INIT of a real initiator."""
    world = World()
    a, _ = two_ends(world)
    a.want("Tunnel0", LEFT, RIGHT)
    return world.wire[0][1]


INIT = an_init()


def spoofed(number: int) -> tuple[bytes, Ends]:
    """The same, with another SPI, from another address."""
    octets = (0x1000000000000000 + number).to_bytes(8) + INIT[8:]
    return octets, Ends(B, b"\x0a" + number.to_bytes(3), 500, 500)


def responder(**config: object) -> tuple[World, Node]:
    world = World()
    b = world.node("b", RIGHT, evolve(psk_config(), **config))
    b.protect("Tunnel0", RIGHT, LEFT)
    return world, b


def flood(node: Node, first: int, count: int) -> list[Output]:
    found: list[Output] = []
    for number in range(first, first + count):
        octets, ends = spoofed(number)
        found += node.speaker.datagram(octets, ends, node.world.now)
    return found


def answers(outputs: list[Output]) -> list[Message]:
    return [decode(output.octets) for output in outputs if isinstance(output, Send)]


def size(node: Node) -> tuple[int, ...]:
    own = node.speaker.node
    return (
        len(own.peers),
        len(own.ike_spis),
        len(own.inits),
        len(own.esp_spis),
        len(own.timers),
        own.admission.half_open,
    )


def test_I04_a_flood_of_20000_leaves_state_flat_and_a_real_client_connects() -> None:
    """The first hundred get state; the others a cookie, as long as there are some in this second; that is all."""
    world = World()
    a, b = two_ends(world)
    flood(b, 0, COOKIE_AFTER)
    before = size(b)
    assert before[0] == COOKIE_AFTER
    flood(b, 1000, 2_000)
    gc.collect()
    early = len(gc.get_objects())
    for turn in range(18):
        world.now += 0.05
        flood(b, 10_000 + 1_000 * turn, 1_000)
    gc.collect()
    assert size(b) == before
    assert len(gc.get_objects()) - early < 50
    assert b.snapshot().admission.challenging
    # a real client, which shows a cookie, while the flood goes on
    a.want("Tunnel0", LEFT, RIGHT)
    for turn in range(10):
        world.run(0.01)
        flood(b, 50_000 + 100 * turn, 100)
    assert world.until(lambda: a.up("Tunnel0"), 3) < 3
    assert b.snapshot().admission.cookies_accepted >= 1
    # and what was half-open is gone after its time
    world.run(HALF_OPEN + 1)
    assert b.snapshot().admission.half_open == 0
    assert len(b.snapshot().ikes) == 1


def test_rfc7296_2_6_a_cookie_challenge() -> None:
    """HDR(A,0), SAi1, KEi, Ni  -->
                           <--  HDR(A,0), N(COOKIE)
    HDR(A,0), N(COOKIE), SAi1, KEi, Ni  -->
                           <--  HDR(A,B), SAr1, KEr, Nr
    """
    _, b = responder(cookie_challenge=0)
    octets, ends = spoofed(1)
    (challenge,) = answers(b.speaker.datagram(octets, ends, 0.0))
    assert challenge.responder_spi == bytes(8)
    assert (challenge.response, challenge.initiator, challenge.message_id) == (True, False, 0)
    (notify,) = challenge.payloads
    assert isinstance(notify, Notify)
    assert notify.kind == NotifyKind.COOKIE
    assert size(b)[0] == 0
    message = decode(octets)
    again = encode(evolve(message, payloads=(notify, *message.payloads)))
    (answer,) = answers(b.speaker.datagram(again, ends, 1.0))
    assert answer.responder_spi != bytes(8)
    assert size(b)[0] == 1


@pytest.mark.parametrize("case", ["mangled", "other address", "other nonce", "old", "unasked", "empty", "not first"])
def test_I05_wrong_cookies_make_no_state(case: str) -> None:
    _, b = responder(cookie_challenge=None if case == "unasked" else 0)
    octets, ends = spoofed(1)
    message = decode(octets)
    now = 0.0
    cookie = b"c" * 33
    if case != "unasked":
        (challenge,) = answers(b.speaker.datagram(octets, ends, now))
        (notify,) = challenge.payloads
        assert isinstance(notify, Notify)
        cookie = notify.octets
    match case:
        case "mangled":
            cookie = cookie[:-1] + bytes((cookie[-1] ^ 1,))
        case "other address":
            ends = evolve(ends, remote=parse_address("203.0.113.7"))
        case "other nonce":
            payloads = tuple(Nonce(b"x" * 32) if isinstance(p, Nonce) else p for p in message.payloads)
            message = evolve(message, payloads=payloads)
        case "old":
            now = 200.0
        case "empty":
            cookie = b""
    shown = Notify(NotifyKind.COOKIE, cookie)
    payloads = (*message.payloads, shown) if case == "not first" else (shown, *message.payloads)
    (answer,) = answers(b.speaker.datagram(encode(evolve(message, payloads=payloads)), ends, now))
    (notify,) = answer.payloads
    assert isinstance(notify, Notify)
    assert notify.kind == NotifyKind.COOKIE
    assert size(b) == (0, 0, 0, 0, 0, 0)


def test_I11_a_repeated_init_gets_the_same_answer_from_the_same_sa() -> None:
    _, b = responder()
    octets, ends = spoofed(1)
    first = b.speaker.datagram(octets, ends, 0.0)
    again = b.speaker.datagram(octets, ends, 0.5)
    assert [o.octets for o in first if isinstance(o, Send)] == [o.octets for o in again if isinstance(o, Send)]
    assert size(b)[0] == 1
    # from elsewhere it is somebody else's
    b.speaker.datagram(octets, evolve(ends, remote_port=1500), 1.0)
    assert size(b)[0] == 2


def test_I04_one_source_has_its_own_limit() -> None:
    _, b = responder(cookie_challenge=100_000, limits=Limits(max_in_negotiation=100_000))
    sent = []
    for number in range(2000):
        octets, ends = spoofed(number)
        ends = evolve(ends, remote=parse_address("203.0.113.7"))
        for answer in answers(b.speaker.datagram(octets, ends, 0.0)):
            first = answer.payloads[0]
            if isinstance(first, Notify) and first.kind == NotifyKind.COOKIE:
                message = decode(octets)
                octets = encode(evolve(message, payloads=(first, *message.payloads)))
                sent += b.speaker.datagram(octets, ends, 0.0)
    assert size(b)[0] == MAX_PER_SOURCE
    assert b.snapshot().admission.counters["too many in negotiation from one address"] == 2000 - MAX_PER_SOURCE


def header(**changed: object) -> bytes:
    message = Message(b"i" * 8, b"r" * 8, 37, 5, initiator=True, response=False)
    return encode(evolve(message, **changed))


def test_rfc7296_1_5_unknown_spis_are_answered_seldom_and_only_requests() -> None:
    _, b = responder()
    ends = Ends(B, A, 500, 500)
    found: list[Output] = []
    for _ in range(1000):
        found += b.speaker.datagram(header(), ends, 0.0)
    said = answers(found)
    assert len(said) == COMPLAINT_RATE
    assert said[0] == Message(
        b"i" * 8,
        b"r" * 8,
        37,
        5,
        initiator=False,
        response=True,
        payloads=(Notify(NotifyKind.INVALID_IKE_SPI),),
    )
    assert b.speaker.datagram(header(response=True), ends, 10.0) == []
    assert b.speaker.datagram(header(initiator=False, response=True), ends, 10.0) == []
    assert b.snapshot().admission.counters["unknown IKE SPI"] == 1000


def test_rfc7296_2_5_another_major_version() -> None:
    _, b = responder()
    ends = Ends(B, A, 500, 500)
    octets = bytearray(header())
    octets[17] = 0x30
    (said,) = answers(b.speaker.datagram(bytes(octets), ends, 0.0))
    assert said.payloads == (Notify(NotifyKind.INVALID_MAJOR_VERSION),)
    octets[17] = 0x10
    assert b.speaker.datagram(bytes(octets), ends, 0.0) == []
    assert b.snapshot().admission.counters["IKEv1"] == 1


def test_port_4500_wants_its_marker_and_gives_it_back() -> None:
    _, b = responder()
    octets, ends = spoofed(1)
    ends = evolve(ends, local_port=4500, remote_port=4500)
    assert b.speaker.datagram(octets, ends, 0.0) == []
    (answer,) = [o for o in b.speaker.datagram(bytes(4) + octets, ends, 0.0) if isinstance(o, Send)]
    assert answer.octets.startswith(bytes(4))
    (told,) = [o for o in b.speaker.datagram(bytes(4) + header(), ends, 0.0) if isinstance(o, Send)]
    assert told.octets.startswith(bytes(4))


def fresh() -> Speaker:
    speaker = Speaker(psk_config(), SeededEntropy("x"), epoch=EPOCH)
    speaker.start(0.0)
    return speaker


@settings(max_examples=300)
@given(st.binary(max_size=600), st.sampled_from([500, 4500]))
def test_I01_any_octets_are_survived(octets: bytes, port: int) -> None:
    speaker = fresh()
    outputs = speaker.datagram(octets, Ends(B, A, port, port), 0.0)
    assert not any(isinstance(output, Log) and output.level == "error" for output in outputs)
    assert len(speaker.node.peers) == 0


@settings(max_examples=300)
@given(st.data())
def test_I01_a_broken_init_makes_no_fault(data: st.DataObject) -> None:
    octets = bytearray(INIT)
    for _ in range(data.draw(st.integers(1, 6))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(octets[: data.draw(st.integers(28, len(octets)))])
    whole = cut[:24] + len(cut).to_bytes(4) + cut[28:]
    for each in (bytes(octets), cut, whole):
        speaker = fresh()
        outputs = speaker.datagram(each, Ends(B, A, 500, 500), 0.0)
        assert not any(isinstance(output, Log) and output.event == "an IKE SA failed" for output in outputs)
        assert len(speaker.node.peers) <= 1


def test_I07_spoofed_answers_do_not_end_an_initiator() -> None:
    world = World()
    a, b = two_ends(world)
    b.alive = False
    a.want("Tunnel0", LEFT, RIGHT)
    message = decode(world.wire[0][1])
    for kind in (NotifyKind.NO_PROPOSAL_CHOSEN, NotifyKind.AUTHENTICATION_FAILED, NotifyKind.INVALID_SYNTAX):
        forged = evolve(message, responder_spi=bytes(8), initiator=False, response=True, payloads=(Notify(kind),))
        a.perform(a.speaker.datagram(encode(forged), Ends(A, B), world.now))
    assert len(a.snapshot().ikes) == 1
    b.alive = True
    world.until(lambda: a.up("Tunnel0"))
