"""What the world records: bounded frames a link, pcapng that parses back, and tshark that has nothing to complain about."""

from __future__ import annotations

import asyncio
import io
import struct
import subprocess

import pytest

from stack.addr import parse_address
from stack.net import TcpOptions
from stack.testing import MemoryNetwork, SeededEntropy, run
from stack.testing.loop import EPOCH
from tests.conftest import require_tool
from tests.stack.testing.worlds import Acceptor, Peer, pair, routed


def blocks(octets: bytes):
    """(type, body) of each pcapng block; the two lengths of each must agree."""
    at = 0
    while at < len(octets):
        kind, size = struct.unpack_from("<II", octets, at)
        assert size % 4 == 0
        assert struct.unpack_from("<I", octets, at + size - 4) == (size,)
        yield kind, octets[at + 8 : at + size - 4]
        at += size
    assert at == len(octets)


def parsed(octets: bytes):
    """(interface names with link types, [(interface, seconds since EPOCH, frame)])."""
    interfaces, packets = [], []
    for kind, body in blocks(octets):
        if kind == 1:
            linktype, _, _, code, size = struct.unpack_from("<HHIHH", body)
            assert code == 2
            interfaces.append((body[12 : 12 + size].decode(), linktype))
        elif kind == 6:
            number, high, low, size, original = struct.unpack_from("<IIIII", body)
            assert size == original
            stamp = (high << 32 | low) / 1e9 - EPOCH
            packets.append((number, stamp, body[20 : 20 + size]))
    return interfaces, packets


def test_a_capture_parses_back_to_what_the_links_saw() -> None:
    async def body() -> None:
        world, a, _, _ = routed(loss=0.2, seed=5)
        world.tun_link(("a", "tun0"), ("ce", "eth0"))
        ce = world.node("ce")
        ce.address("eth0", "10.0.3.2/24")
        a.tun("tun0", 1500)
        file = io.BytesIO()
        capture = world.pcap(file)
        await a.ping("10.0.2.1", count=5)
        await ce.ping("10.0.3.1")
        interfaces, packets = parsed(file.getvalue())
        assert interfaces == [
            ("a:eth0--core:eth0", 1),
            ("core:eth1--b:eth0", 1),
            ("a:tun0--ce:eth0", 101),
        ]
        recorded = [(frame.link, frame.octets) for frame in world.frames()]
        assert sorted((interfaces[number][0], octets) for number, _, octets in packets) == sorted(recorded)
        assert "lost" in {frame.fate for frame in world.frames()}
        for (_, stamp, _), frame in zip(packets, world.frames(), strict=True):
            assert stamp == pytest.approx(frame.time, abs=2e-6)
        capture.close()
        size = len(file.getvalue())
        await ce.ping("10.0.3.1")
        assert len(file.getvalue()) == size

    run(body())


def test_the_same_seed_writes_the_same_file(tmp_path) -> None:
    async def body(path) -> None:
        with MemoryNetwork(seed=11, loss=0.1, jitter=0.01, reorder=0.2) as world:
            world.link(("a", "eth0"), ("b", "eth0"))
            a, b = world.node("a"), world.node("b")
            a.address("eth0", "192.0.2.1/24")
            b.address("eth0", "192.0.2.2/24")
            world.pcap(path)
            await a.ping("192.0.2.2", count=20)
            await b.listen_tcp(Acceptor(echo=True), TcpOptions())
            transport, client = await a.connect_tcp(Peer, TcpOptions(remote=parse_address("192.0.2.2")))
            transport.write(SeededEntropy(1)(50_000))
            await asyncio.sleep(60)
            assert len(client.got) == 50_000

    for name in ("one", "two"):
        run(body(tmp_path / name))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").stat().st_size > 100_000


def test_frames_are_remembered_within_bounds() -> None:
    async def body() -> None:
        world, a, _ = pair(kept=16)
        await a.ping("192.0.2.2", count=50)
        link = world.links[0]
        assert len(link.frames) == 16
        assert link.fates == {"carried": 102}
        link.drop_if = lambda octets: octets[12:14] == b"\x08\x00"
        assert not (await a.ping("192.0.2.2"))[0].ok
        assert link.fates["filtered"] == 1

    run(body())


@pytest.mark.interop
def test_tshark_finds_nothing_malformed_and_every_checksum_right(tmp_path) -> None:
    tshark = require_tool("tshark")

    async def body(path) -> None:
        world, a, core, b = routed()
        core.host.set_link("eth1", up=True, mtu=1300)
        with world.pcap(path):
            for address in ("10.0.2.1", "fd00:2::1"):
                remote = parse_address(address)
                await a.ping(address, count=2)
                await a.ping(address, size=3000)
                await a.ping(address, size=1400, df=True)
                await a.traceroute(address)
                a.udp(4000).send(b"to nobody", remote, 4001)
                for port, key in ((7000, b""), (7001, b"key")):
                    await b.listen_tcp(Acceptor(echo=True), TcpOptions(local=remote, port=port, md5=key))
                    transport, _ = await a.connect_tcp(Peer, TcpOptions(remote=remote, port=port, md5=key))
                    transport.write(b"some text " * 1000)
                    await asyncio.sleep(5)
                    transport.close()
                with pytest.raises(ConnectionRefusedError):
                    await a.connect_tcp(Peer, TcpOptions(remote=remote, port=9))
                a.ip.sockets[0].close()
            await a.ping("10.9.9.9")
            a.raw(253).send(bytes.fromhex("450000000000000040fd") + bytes(6) + parse_address("10.0.2.1") + bytes(9))
            await asyncio.sleep(1)

    path = tmp_path / "all.pcapng"
    run(body(path))
    checks = [word for name in ("ip", "tcp", "udp") for word in ("-o", f"{name}.check_checksum:TRUE")]
    checks += ["-o", "tcp.desegment_tcp_streams:FALSE"]  # it cannot follow segments that are cut anew for a smaller MTU

    def matching(condition: str) -> str:
        command = [tshark, "-r", str(path), *checks, "-Y", condition]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    bad = " || ".join(f"{name}.checksum.status == Bad" for name in ("ip", "tcp", "udp", "icmp", "icmpv6"))
    assert matching(f"_ws.malformed || {bad}") == ""
    for seen in ("arp", "icmp", "icmpv6", "tcp.options.md5", "ip.fragment", "ipv6.fragment", "icmpv6.type == 2"):
        assert matching(seen), seen
