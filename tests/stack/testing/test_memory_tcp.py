"""TCP in memory: the handshake and its refusals, loss and reordering, ends of every kind, flow control, options."""

from __future__ import annotations

import asyncio
import errno
import hashlib
from itertools import pairwise

import pytest

from stack.addr import parse_address
from stack.net import TcpOptions
from stack.testing import SeededEntropy, run
from stack.testing import _packets as p
from stack.testing._tcp import State
from tests.stack.testing.worlds import Acceptor, Peer, pair, routed

A, B = parse_address("192.0.2.1"), parse_address("192.0.2.2")


def segments(world, *, sender: str = "") -> list[p.Segment]:
    found = []
    for link in world.links[:1]:
        for frame in link.frames:
            ip = p.parse_ip(frame.octets[14:]) if frame.ethertype in (p.ETHER_IPV4, p.ETHER_IPV6) else None
            if ip is not None and ip.protocol == p.TCP and frame.sender.startswith(sender):
                found.append(p.parse_tcp(ip))
    return found


async def connected(a, b, *, echo=False, half_open=False, remote=B, **options):
    """(acceptor, client transport, client protocol, server protocol)."""
    acceptor = Acceptor(echo, half_open)
    await b.listen_tcp(acceptor, TcpOptions(port=179, **options))
    transport, client = await a.connect_tcp(
        lambda: Peer(half_open=half_open), TcpOptions(remote=remote, port=179, **options)
    )
    await asyncio.sleep(1)
    return acceptor, transport, client, acceptor.peers[0]


def test_rfc9293_3_5_handshake_and_names() -> None:
    async def body() -> None:
        world, a, b = pair()
        _, transport, client, server = await connected(a, b, dscp=48, ttl=1)
        # a -> SYN, b -> SYN+ACK, a -> ACK
        flags = [segment.flags for segment in segments(world)]
        assert flags == [p.Flags.SYN, p.Flags.SYN | p.Flags.ACK, p.Flags.ACK]
        assert [segment.mss for segment in segments(world)] == [1460, 1460, 0]
        port = transport.get_extra_info("sockname")[1]
        assert transport.get_extra_info("sockname") == ("192.0.2.1", port)
        assert transport.get_extra_info("peername") == ("192.0.2.2", 179)
        assert server.transport.get_extra_info("peername") == ("192.0.2.1", port)
        assert transport.get_extra_info("socket", "none") == "none"
        assert client.events == server.events == ["made"]
        (syn, *_) = [frame for frame in world.links[0].frames if frame.ethertype == p.ETHER_IPV4]
        ip = p.parse_ip(syn.octets[14:])
        assert (ip.ttl, ip.tos, ip.df) == (1, 0xC0, True)

    run(body())


def test_ipv6_names_have_four_parts() -> None:
    async def body() -> None:
        _, a, b = pair()
        _, transport, _, server = await connected(a, b, echo=True, remote=parse_address("2001:db8::2"))
        assert transport.get_extra_info("peername") == ("2001:db8::2", 179, 0, 0)
        transport.write(b"six")
        await asyncio.sleep(1)
        assert server.got == b"six"

    run(body())


async def megabyte(seed: int, remote: str) -> tuple[str, list[object], int]:
    """a ==1 MB==> b across the core, 5 % of the frames lost and 10 % overtaken on each link."""
    world, a, _, b = routed(seed=seed, loss=0.05, reorder=0.1, jitter=0.0005, kept=100_000)
    acceptor, transport, _, server = await connected(a, b, remote=parse_address(remote))
    blob = SeededEntropy(seed)(1 << 20)
    transport.write(blob)
    transport.write_eof()
    await server.ended.wait()
    assert bytes(server.got) == blob
    assert len(acceptor.peers) == 1
    return hashlib.sha256(repr(world.frames()).encode()).hexdigest(), world.frames(), transport.retransmitted


@pytest.mark.parametrize("remote", ["10.0.2.1", "fd00:2::1"])
def test_a_lossy_megabyte_is_complete_and_the_same_twice(remote) -> None:
    first, again, other = (run(megabyte(seed, remote), limit=600) for seed in (1, 1, 2))
    assert first[0] == again[0]
    assert first[0] != other[0]
    assert first[2] > 50
    assert {frame.fate for frame in first[1]} == {"carried", "lost"}


def test_both_ways_at_once_under_loss() -> None:
    async def body() -> None:
        _, a, b = pair(seed=3, loss=0.1, reorder=0.2)
        _, transport, client, server = await connected(a, b)
        blobs = SeededEntropy(1)(200_000), SeededEntropy(2)(200_000)
        transport.write(blobs[0])
        server.transport.write(blobs[1])
        await asyncio.sleep(600)
        assert (bytes(server.got), bytes(client.got)) == blobs

    run(body())


def test_rfc9293_3_6_close_by_one_side() -> None:
    async def body() -> None:
        _, a, b = pair()
        _, transport, client, server = await connected(a, b)
        transport.write(b"last words")
        transport.close()
        assert transport.is_closing()
        transport.write(b"too late")
        await asyncio.sleep(1)
        assert server.got == b"last words"
        assert server.events == ["made", "eof", "lost"]
        assert client.events == ["made", "lost"]
        assert (client.error, server.error) == (None, None)
        assert [each.state for each in a.tcp.connections.values()] == [State.TIME_WAIT]
        assert not b.tcp.connections
        await asyncio.sleep(61)
        assert not a.tcp.connections

    run(body())


def test_rfc9293_3_6_half_close() -> None:
    async def body() -> None:
        _, a, b = pair()
        _, transport, client, server = await connected(a, b, half_open=True)
        transport.write(b"a question")
        transport.write_eof()
        with pytest.raises(RuntimeError, match="write after write_eof"):
            transport.write(b"x")
        await asyncio.sleep(300)
        assert server.events == ["made", "eof"]
        server.transport.write(b"a long answer" * 1000)
        await asyncio.sleep(1)
        assert client.got == b"a long answer" * 1000
        assert client.events == ["made"]
        server.transport.close()
        await asyncio.sleep(1)
        assert client.events == ["made", "eof"]
        transport.close()
        await asyncio.sleep(100)
        assert client.events == ["made", "eof", "lost"]
        assert not a.tcp.connections
        assert not b.tcp.connections

    run(body())


def test_both_close_at_once() -> None:
    async def body() -> None:
        _, a, b = pair()
        _, transport, client, server = await connected(a, b)
        transport.close()
        server.transport.close()
        await asyncio.sleep(1)
        assert [each.state for each in (transport, server.transport)] == [State.TIME_WAIT, State.TIME_WAIT]
        assert client.events == server.events == ["made", "lost"]

    run(body())


def test_rfc9293_3_10_7_4_abort_resets_the_peer() -> None:
    async def body() -> None:
        _, a, b = pair()
        _, transport, client, server = await connected(a, b)
        transport.abort()
        await asyncio.sleep(1)
        assert isinstance(server.error, ConnectionResetError)
        assert client.error is None
        assert not a.tcp.connections
        assert not b.tcp.connections
        transport.abort()
        assert client.events == ["made", "lost"]

    run(body())


def test_data_for_who_has_closed_is_reset() -> None:
    async def body() -> None:
        _, a, b = pair()
        _, transport, _, server = await connected(a, b, half_open=True)
        transport.close()
        await asyncio.sleep(1)
        server.transport.write(b"is anybody there")
        await asyncio.sleep(1)
        assert isinstance(server.error, ConnectionResetError)

    run(body())


@pytest.mark.parametrize("remote", ["192.0.2.2", "2001:db8::2"])
def test_connecting_to_nobody_is_refused(remote) -> None:
    async def body() -> None:
        _, a, b = pair()
        with pytest.raises(ConnectionRefusedError):
            await a.connect_tcp(Peer, TcpOptions(remote=parse_address(remote)))
        assert b.tcp.drops["no connection"] == 1
        assert not a.tcp.connections

    run(body())


def test_connecting_in_vain() -> None:
    async def body() -> None:
        world, a, core, _ = routed()
        loop = asyncio.get_running_loop()
        for remote, error, least, most in (
            ("10.9.9.9", errno.EHOSTUNREACH, 0, 0.1),  # the router says so
            ("10.0.1.77", errno.EHOSTUNREACH, 2.9, 3.1),  # ARP says so
            ("10.0.2.1", errno.ETIMEDOUT, 120, 130),  # nobody says a word: 1 + 2 + 4 + ... s
        ):
            if error == errno.ETIMEDOUT:
                core.forwarding = False
            began = loop.time()
            with pytest.raises(OSError) as caught:
                await a.connect_tcp(Peer, TcpOptions(remote=parse_address(remote)))
            assert caught.value.errno == error
            assert least < loop.time() - began <= most
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await a.connect_tcp(Peer, TcpOptions(remote=parse_address("10.0.2.1")))
        assert not a.tcp.connections
        for options, error in (
            (TcpOptions(remote=b""), errno.EINVAL),
            (TcpOptions(remote=parse_address("10.0.2.1"), local=parse_address("10.8.8.8")), errno.EADDRNOTAVAIL),
            (TcpOptions(remote=parse_address("10.0.2.1"), vrf="red"), errno.ENODEV),
        ):
            with pytest.raises(OSError) as caught:
                await a.connect_tcp(Peer, options)
            assert caught.value.errno == error
        with pytest.raises(OSError) as caught:
            await world.node("lonely").connect_tcp(Peer, TcpOptions(remote=B))
        assert caught.value.errno == errno.ENETUNREACH

    run(body())


def test_a_cut_link_stalls_and_a_healed_one_goes_on() -> None:
    async def body() -> None:
        world, a, b = pair()
        _, transport, client, server = await connected(a, b)
        world.links[0].cut()
        transport.write(b"across the gap")
        await asyncio.sleep(30)
        assert not server.got
        gaps = [
            frame.time for frame in world.links[0].frames if frame.fate == "cut" and frame.ethertype == p.ETHER_IPV4
        ]
        waits = [round(later - sooner, 3) for sooner, later in pairwise(gaps)]
        assert waits == [waits[0] * 2**power for power in range(len(waits))]  # RFC 6298 5.5: the timer doubles
        assert len(waits) >= 4
        world.links[0].heal()
        await asyncio.sleep(60)
        assert server.got == b"across the gap"
        assert client.events == ["made"]

    run(body())


def test_a_link_that_stays_cut_ends_the_connection() -> None:
    async def body() -> None:
        world, a, b = pair()
        _, transport, client, server = await connected(a, b)
        transport.write(b"x")
        world.partition({"a"}, {"b"})
        await asyncio.wait_for(client.lost.wait(), 2000)
        assert client.error.errno == errno.ETIMEDOUT
        assert asyncio.get_running_loop().time() > 300
        assert server.events == ["made"]  # which has nothing to say, and so does not know

    run(body())


def test_a_closed_connection_finishes_in_the_background() -> None:
    async def body() -> None:
        world, a, b = pair()
        _, transport, client, server = await connected(a, b)
        world.links[0].cut()
        transport.write(b"goodbye")
        transport.close()
        await asyncio.sleep(1)
        assert client.events == ["made", "lost"]  # as with a kernel: the owner need not wait
        world.links[0].heal()
        await asyncio.sleep(10)
        assert server.got == b"goodbye"
        assert server.events == ["made", "eof", "lost"]

    run(body())


def test_flow_control_stops_the_writer_and_loses_nothing() -> None:
    async def body() -> None:
        _, a, b = pair()
        _, transport, client, server = await connected(a, b)
        blob = SeededEntropy(5)(400_000)
        server.transport.pause_reading()
        assert not server.transport.is_reading()
        transport.write(blob)
        await asyncio.sleep(200)  # zero-window probes all the while
        assert client.events == ["made", "pause"]
        assert not server.got
        assert len(server.transport.unread) == 65535
        assert transport.get_write_buffer_size() >= 400_000 - 65535 - 1
        transport.close()
        server.transport.resume_reading()
        await asyncio.sleep(200)
        assert bytes(server.got) == blob
        assert server.events == ["made", "eof", "lost"]
        assert client.events[:3] == ["made", "pause", "resume"]

    run(body())


def test_a_window_that_opens_is_used_at_once_and_the_probe_is_not_lost() -> None:
    async def body() -> None:
        world, a, b = pair()
        _, transport, _, server = await connected(a, b)
        loop = asyncio.get_running_loop()
        for delay in (0.3, 5.0, 33.3):
            blob = SeededEntropy(str(delay))(70_000)
            server.got.clear()
            server.transport.pause_reading()
            transport.write(blob)
            await asyncio.sleep(delay)
            began = loop.time()
            server.transport.resume_reading()
            while len(server.got) < len(blob):  # noqa: ASYNC110  (virtual time, which is measured here)
                await asyncio.sleep(0.01)
            assert bytes(server.got) == blob
            assert loop.time() - began < 0.05
        assert world.links[0].fates["carried"] < 600

    run(body())


def test_write_buffer_limits() -> None:
    async def body() -> None:
        _, a, b = pair()
        _, transport, client, server = await connected(a, b)
        assert transport.get_write_buffer_limits() == (16384, 65536)
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        transport.set_write_buffer_limits(low=10)
        assert transport.get_write_buffer_limits() == (10, 40)
        with pytest.raises(ValueError, match="high"):
            transport.set_write_buffer_limits(high=1, low=2)
        transport.writelines([b"a" * 40_000, b"b" * 40_000])
        assert client.events == ["made", "pause"]
        await asyncio.sleep(1)
        assert client.events == ["made", "pause", "resume"]
        assert len(server.got) == 80_000

    run(body())


def test_streams_run_on_it() -> None:
    async def body() -> None:
        _, a, b = pair(seed=2, loss=0.1)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            writer.write_eof()

        loop = asyncio.get_running_loop()
        await b.listen_tcp(lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(), serve), TcpOptions(port=7))
        reader = asyncio.StreamReader()
        transport, protocol = await a.connect_tcp(
            lambda: asyncio.StreamReaderProtocol(reader), TcpOptions(remote=B, port=7)
        )
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        writer.write(b"said over streams\n")
        await writer.drain()
        assert await reader.read() == b"said over streams\n"
        writer.close()
        await writer.wait_closed()

    run(body())


def test_rfc5082_gtsm() -> None:
    """RFC 5082 3: what comes from farther away than allowed is dropped without an answer."""

    async def body() -> None:
        _, a, b = pair()
        await b.listen_tcp(Acceptor(), TcpOptions(port=179, ttl=255, min_ttl=255))
        transport, _ = await a.connect_tcp(Peer, TcpOptions(remote=B, ttl=255, min_ttl=255))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(a.connect_tcp(Peer, TcpOptions(remote=B, ttl=254)), 10)
        assert b.tcp.drops["GTSM"] == 4
        transport.options = TcpOptions(local=A, remote=B, ttl=64)
        transport.write(b"from afar")
        await asyncio.sleep(5)
        assert b.tcp.drops["GTSM"] > 4

    run(body())


def test_rfc2385_2_0_md5() -> None:
    async def body() -> None:
        world, a, b = pair()
        _, transport, _, server = await connected(a, b, md5=b"secret", echo=True)
        transport.write(b"z" * 3000)
        await asyncio.sleep(1)
        assert server.got == b"z" * 3000
        assert all(len(segment.signature) == 16 for segment in segments(world))
        assert max(len(segment.data) for segment in segments(world)) == 1440
        for key in (b"wrong", b""):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(a.connect_tcp(Peer, TcpOptions(remote=B, md5=key)), 10)
        assert b.tcp.drops["MD5"] == 8
        assert "secret" not in repr(TcpOptions(md5=b"secret"))

    run(body())


def test_the_path_mtu_is_learnt() -> None:
    """RFC 1191 3: segments carry DF; a router's "fragmentation needed" makes them smaller."""

    async def body() -> None:
        world, a, core, b = routed()
        core.host.set_link("eth1", up=True, mtu=1300)
        for remote in ("10.0.2.1", "fd00:2::1"):
            server = Acceptor()
            listener = await b.listen_tcp(server, TcpOptions(port=179))
            transport, _ = await a.connect_tcp(Peer, TcpOptions(remote=parse_address(remote)))
            blob = SeededEntropy(remote)(100_000)
            transport.write(blob)
            await asyncio.sleep(20)
            same = server.peers[0].got == blob  # a diff of so much would take pytest minutes
            assert same
            listener.close()
        assert max(len(frame.octets) for frame in world.between("core", "b").frames) == 1314
        assert core.ip.drops["too big"] > 0

    run(body())


@pytest.mark.parametrize(
    ("flags", "shift", "reset"),
    [
        (p.Flags.RST, 0, True),
        (p.Flags.RST, 100, False),  # RFC 5961 3.2: inside the window, but not exact
        (p.Flags.RST, 70_000, False),
        (p.Flags.RST, -1, False),
        (p.Flags.SYN, 0, False),  # RFC 5961 4.2
    ],
)
def test_rfc5961_3_2_forged_segments(flags, shift, reset) -> None:
    async def body() -> None:
        _, a, b = pair()
        _, transport, _, server = await connected(a, b)
        port = transport.get_extra_info("sockname")[1]
        seq = (server.transport.rcv + shift) & 0xFFFFFFFF
        forged = p.build_tcp(A, B, p.Segment(port, 179, seq, 0, flags, 0, 0, b"", b""))
        b.ip.receive(p.build_ip(A, B, p.TCP, forged), b.host.nic("eth0"))
        await asyncio.sleep(1)
        assert (server.error is not None) == reset
        if not reset:
            transport.write(b"still here")
            await asyncio.sleep(1)
            assert server.got == b"still here"

    run(body())


def test_forged_icmp_about_another_sequence_is_ignored() -> None:
    """RFC 5927 4.1."""

    async def body() -> None:
        _, a, b = pair()
        _, transport, _, _ = await connected(a, b)
        port = transport.get_extra_info("sockname")[1]
        for seq in (transport.una + 9999, transport.una - 1):
            segment = p.build_tcp(A, B, p.Segment(port, 179, seq & 0xFFFFFFFF, 0, p.Flags.ACK, 0, 0, b"", b""))
            about = p.parse_ip(p.build_ip(A, B, p.TCP, segment))
            error = p.build_trouble(B, about, p.Trouble.TOO_BIG, 576)
            a.ip.receive(p.build_ip(B, A, p.ICMP, error), a.host.nic("eth0"))
        assert a.tcp.drops["ICMP about another sequence"] == 2

    run(body())


def test_listeners_the_closest_wins_and_the_second_is_refused() -> None:
    async def body() -> None:
        _, a, b = pair()
        b.address("lo", "198.51.100.1/32")
        a.route("198.51.100.1/32", "192.0.2.2")
        anybody, local, peer = Acceptor(), Acceptor(), Acceptor()
        await b.listen_tcp(anybody, TcpOptions(port=179))
        await b.listen_tcp(local, TcpOptions(port=179, local=B))
        listener = await b.listen_tcp(peer, TcpOptions(port=179, remote=A))
        with pytest.raises(OSError, match="in use"):
            await b.listen_tcp(anybody, TcpOptions(port=179))
        with pytest.raises(OSError) as caught:
            await b.listen_tcp(anybody, TcpOptions(port=179, local=A))
        assert caught.value.errno == errno.EADDRNOTAVAIL
        await a.connect_tcp(Peer, TcpOptions(remote=B))
        await asyncio.sleep(1)
        listener.close()
        listener.close()
        await a.connect_tcp(Peer, TcpOptions(remote=B))
        await a.connect_tcp(Peer, TcpOptions(remote=parse_address("198.51.100.1")))
        await asyncio.sleep(1)
        assert [len(each.peers) for each in (peer, local, anybody)] == [1, 1, 1]

    run(body())


def test_half_open_connections_are_bounded() -> None:
    async def body() -> None:
        _, a, b = pair()
        await b.listen_tcp(Acceptor(), TcpOptions(port=179))
        await a.ping(B)
        for port in range(1000, 1300):
            octets = p.build_tcp(A, B, p.Segment(port, 179, 1, 0, p.Flags.SYN, 0, 0, b"", b""))
            b.ip.receive(p.build_ip(A, B, p.TCP, octets), b.host.nic("eth0"))
        assert len(b.tcp.connections) == 128
        assert b.tcp.drops["half-open"] == 172
        await asyncio.sleep(1)  # a answers with RST: it knows nothing of them
        assert not b.tcp.connections

    run(body())


def test_a_protocol_that_raises_loses_its_connection_only() -> None:
    class Broken(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            raise KeyError(data)

    def no_factory() -> Peer:
        raise ValueError("no")

    async def body() -> None:
        _, a, b = pair()
        await b.listen_tcp(Broken, TcpOptions(port=1))
        await b.listen_tcp(no_factory, TcpOptions(port=2))
        for port in (1, 2):
            transport, client = await a.connect_tcp(Peer, TcpOptions(remote=B, port=port))
            transport.write(b"x")
            await asyncio.sleep(1)
            assert isinstance(client.error, ConnectionResetError)
        assert len(asyncio.get_running_loop().unhandled) == 2
        assert all(result.ok for result in await a.ping(B))

    run(body(), strict=False)


def test_a_killed_process_leaves_what_a_kernel_leaves() -> None:
    async def body() -> None:
        _, a, b = pair()
        _, transport, client, server = await connected(a, b)
        frames = a.frames("eth0", None)
        a.host.drop_ingress("eth0", vlans=[7])
        a.kill()
        await asyncio.sleep(1)
        assert server.events == ["made", "eof", "lost"]
        assert client.events == ["made"]
        with pytest.raises(OSError, match="closed"):
            frames.send(bytes(64))
        await asyncio.sleep(61)
        assert not a.tcp.connections
        assert not a.host.ethernet("eth0").refused
        with pytest.raises(ConnectionRefusedError):
            await b.connect_tcp(Peer, TcpOptions(remote=A))
        assert transport.is_closing()

    run(body())


def test_a_power_failure_is_silent() -> None:
    async def body() -> None:
        world, a, b = pair()
        _, transport, client, server = await connected(a, b)
        world.links[0].frames.clear()
        a.kill(silent=True)
        await asyncio.sleep(100)
        assert not world.links[0].frames
        assert (client.events, server.events) == (["made"], ["made"])
        server.transport.write(b"is anybody there")  # a is back, and knows of nothing
        await asyncio.sleep(1)
        assert isinstance(server.error, ConnectionResetError)
        assert transport.is_closing()

    run(body())


def test_to_the_node_itself() -> None:
    async def body() -> None:
        _, a, _ = pair()
        acceptor = Acceptor(echo=True)
        await a.listen_tcp(acceptor, TcpOptions(port=179))
        transport, client = await a.connect_tcp(Peer, TcpOptions(remote=A))
        transport.write(b"to myself" * 10_000)
        await asyncio.sleep(1)
        assert client.got == b"to myself" * 10_000

    run(body())
