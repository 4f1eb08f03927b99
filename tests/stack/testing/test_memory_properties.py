"""What holds whatever happens: TCP under any weather and any doings, parsers under any octets."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from stack.addr import parse_address
from stack.net import TcpOptions
from stack.testing import SeededEntropy, run
from stack.testing import _packets as p
from tests.stack.testing.worlds import Acceptor, Peer, pair

A, B = parse_address("192.0.2.1"), parse_address("192.0.2.2")

weather = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 1 << 16),
        "loss": st.sampled_from([0.0, 0.02, 0.2]),
        "reorder": st.sampled_from([0.0, 0.3]),
        "jitter": st.sampled_from([0.0, 0.003]),
    }
)
doing = st.tuples(
    st.sampled_from(["write", "write", "write", "pause", "resume", "cut", "heal", "narrow", "eof"]),
    st.booleans(),
    st.integers(1, 30_000),
    st.floats(0, 3),
)


async def play(options, script) -> None:
    """Two ends write, pause, end, and lose their link for a while; in the end all that was said was heard, in order."""
    world, a, b = pair(**options | {"loss": 0.0})
    link = world.links[0]
    acceptor = Acceptor(half_open=True)
    await b.listen_tcp(acceptor, TcpOptions())
    _, client = await a.connect_tcp(lambda: Peer(half_open=True), TcpOptions(remote=B))
    await asyncio.sleep(1)
    link.loss = options["loss"]
    server = acceptor.peers[0]
    ends = (client, server)
    said: tuple[bytearray, bytearray] = (bytearray(), bytearray())
    ended = set()
    for number, (what, side, size, pause) in enumerate(script):
        end = ends[side]
        match what:
            case "write" if side not in ended:
                octets = SeededEntropy(number)(size)
                said[side].extend(octets)
                end.transport.write(octets)
            case "pause":
                end.transport.pause_reading()
            case "resume":
                end.transport.resume_reading()
            case "cut":
                link.cut()
            case "heal":
                link.heal()
            case "narrow":
                a.host.set_link("eth0", up=True, mtu=600 + size % 900)
            case "eof" if side not in ended:
                ended.add(side)
                end.transport.write_eof()
        await asyncio.sleep(pause)
    link.heal()
    link.loss = 0.0
    for end in ends:
        end.transport.resume_reading()
    await asyncio.sleep(300)
    assert client.got == said[1]
    assert server.got == said[0]
    for side, end in enumerate(ends):
        assert ("eof" in ends[1 - side].events) == (side in ended)
        end.transport.close()
    await asyncio.sleep(400)
    assert [end.events.count("lost") for end in ends] == [1, 1]
    assert [end.error for end in ends] == [None, None]
    assert not a.tcp.connections
    assert not b.tcp.connections


@settings(max_examples=150, deadline=None)
@given(weather, st.lists(doing, max_size=12))
def test_tcp_delivers_all_that_was_said_in_order_and_leaves_nothing(options, script) -> None:
    run(play(options, script), limit=100_000)


segment = st.builds(
    p.Segment,
    st.just(0),
    st.just(179),
    st.integers(-70_000, 70_000),
    st.integers(-70_000, 70_000),
    st.integers(0, 31).map(p.Flags),
    st.integers(0, 65535),
    st.sampled_from([0, 1, 536]),
    st.just(b""),
    st.binary(max_size=80),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(segment, max_size=20), st.booleans())
def test_no_segment_breaks_a_connection_in_any_other_way_than_a_reset(segments, closing) -> None:
    async def body() -> None:
        _, a, b = pair()
        acceptor = Acceptor()
        await b.listen_tcp(acceptor, TcpOptions())
        transport, _ = await a.connect_tcp(Peer, TcpOptions(remote=B))
        await asyncio.sleep(1)
        port = transport.get_extra_info("sockname")[1]
        server = acceptor.peers[0]
        if closing:
            server.transport.close()
        for each in segments:
            near = each._replace(
                sport=port,
                seq=each.seq + server.transport.rcv & 0xFFFFFFFF,
                ack=each.ack + server.transport.nxt & 0xFFFFFFFF,
            )
            b.ip.receive(p.build_ip(A, B, p.TCP, p.build_tcp(A, B, near)), b.host.nic("eth0"))
            assert len(server.transport.unread) <= 65535
            assert server.transport.una <= server.transport.nxt
        a.host.set_link("eth0", up=False)
        await asyncio.sleep(3000)
        assert server.error is None or isinstance(server.error, OSError)
        assert server.events.count("lost") <= 1

    run(body(), limit=10_000)


@given(st.binary(max_size=120), st.booleans())
def test_any_octets_are_a_packet_or_nothing(octets, quoted) -> None:
    for version in (0x45, 0x4F, 0x60, None):
        packet = bytes((version,)) + octets if version else octets
        ip = p.parse_ip(packet, quoted=quoted)
        if ip is None:
            continue
        assert len(ip.source) == len(ip.destination)
        assert packet.startswith(ip.packet)
        for parse in (p.parse_tcp, p.parse_udp, p.parse_nd):
            parse(ip)
        if len(ip.payload) >= 8:
            p.read_trouble(ip)
            p.icmp_is_right(ip)
    p.parse_arp(octets)
    p.untagged(octets)


addresses = st.sampled_from([(A, B), (parse_address("2001:db8::1"), parse_address("2001:db8::2"))])


@given(addresses, st.binary(max_size=5000), st.integers(1280, 1500), st.integers(1, 0xFFFF))
def test_fragments_put_together_again_are_the_packet(pair_of, payload, mtu, ident) -> None:
    whole = p.build_ip(*pair_of, 253, payload, ident=ident)
    pieces = p.fragments(whole, mtu, ident) if len(whole) > mtu else [whole]
    parsed = [p.parse_ip(piece) for piece in pieces]
    assert all(len(piece) <= mtu for piece in pieces)
    assert b"".join(piece.payload for piece in sorted(parsed, key=lambda ip: ip.offset)) == payload
    assert [piece.more for piece in parsed] == [True] * (len(parsed) - 1) + [False]
    if len(pieces) > 1:
        assert {piece.ident for piece in parsed} == {ident}


@given(addresses, st.binary(max_size=100), st.binary(min_size=1, max_size=20), st.integers(0, 31).map(p.Flags))
def test_rfc2385_2_0_a_signature_is_for_this_key_and_these_octets(pair_of, data, key, flags) -> None:
    sent = p.Segment(1, 2, 3, 4, flags, 5, 1460, b"", data)
    ip = p.parse_ip(p.build_ip(*pair_of, p.TCP, p.build_tcp(*pair_of, sent, key)))
    got = p.parse_tcp(ip)
    assert got._replace(signature=b"") == sent
    assert p.signed_with(ip, got, key)
    assert not p.signed_with(ip, got, key + b"x")
    assert not p.signed_with(ip, got, b"")
    assert not p.signed_with(ip, got._replace(data=data + b"x"), key)
