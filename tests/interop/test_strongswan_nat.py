"""A NAT between strongSwan and our node: either is behind it and asks; its mappings are lost while traffic goes on.

    us 192.0.2.1 --- 198.51.100.2 nat 198.51.101.1 --- strongSwan 192.0.2.N

The NAT maps every flow to a random port of its own address.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from stack.lab.capture import Capture
from stack.lab.namespace import Namespace
from stack.lab.probe import Prober
from tests.conftest import require_root
from tests.interop.grend import GreEnd
from tests.interop.strongswan import US, Bench, Peer, benched, wait

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.slow]

ITS = Peer(10, seen="198.51.100.2", child="local_ts = 198.51.100.2/32[gre]")
OURS = Peer(
    12,
    ours=True,
    mode="tunnel",  # else it takes us for the NAT's address in the selectors, as RFC 7296 2.23.1 has it
    connection="remote_addrs = 198.51.101.1",
    ike_profile="dpd 2 2 periodic",
)
SILENT = evolve(OURS, number=14, ike_profile="nat keepalive 5")
PEERS = [ITS, OURS, SILENT]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    require_root()
    with benched(tmp_path_factory.mktemp("nat"), PEERS, nat=True) as bench:
        bench.start_all(PEERS)
        yield bench


@pytest.fixture(scope="module")
def wire(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("wire") / "nat.pcap"
    with Capture(bench.world.namespaces["us"], "eth0", path) as capture:
        yield path
    assert capture.total(protocol=47) == 0
    assert capture.total(protocol=50) == 0


@pytest.fixture(scope="module")
def far(bench: Bench, wire: Path) -> Iterator[GreEnd]:
    with GreEnd(bench.world.namespaces["far"]) as end:
        yield end


def from_us(bench: Bench, peer: Peer) -> list[str]:
    own, other = f"10.{peer.number}.0.1", f"10.{peer.number}.0.2"
    with Prober(other, namespace=bench.world.namespaces["us"], source=own) as prober:
        return [reply.kind for reply in prober.ping(3, timeout=2)]


def from_it(far: GreEnd, peer: Peer, count: int = 3) -> int:
    return far.ping(peer.seen or peer.address, US, f"10.{peer.number}.0.2", f"10.{peer.number}.0.1", count)


def ike(bench: Bench, peer: Peer) -> Any:
    (found,) = bench.ike(peer)
    return found


def forget_mappings(nat: Namespace) -> None:
    """Flush its connection tracking (nfnetlink: IPCTNL_MSG_CT_DELETE of everything)."""
    request, ack = 0x1, 0x4
    message = struct.pack("=IHHII", 20, (1 << 8) | 2, request | ack, 1, 0) + struct.pack("=BBH", 0, 0, 0)
    with nat.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as netfilter:
        netfilter.send(message)
        answer = netfilter.recv(4096)
    assert struct.unpack_from("=i", answer, 16)[0] == 0


def test_it_is_behind_the_nat(bench: Bench, far: GreEnd) -> None:
    bench.up(ITS)
    found = ike(bench, ITS)
    assert found["remote-address"] == "198.51.100.2"
    assert found["remote-port"] not in {500, 4500}
    assert found["nat"]["remote"]
    assert from_us(bench, ITS) == ["reply"] * 3
    assert from_it(far, ITS) == 3


def test_we_are_behind_the_nat(bench: Bench, far: GreEnd) -> None:
    bench.up(OURS)
    assert ike(bench, OURS)["nat"]["local"]
    assert "remote host is behind NAT" in bench.its_log(OURS)
    assert from_us(bench, OURS) == ["reply"] * 3
    assert from_it(far, OURS) == 3


def test_its_mapping_is_lost(bench: Bench, far: GreEnd) -> None:
    """RFC 7296 2.23: the next packet that proves itself shows where it is now; traffic and both kinds of rekey go on."""
    number, before = bench.up(ITS)["number"], ike(bench, ITS)["remote-port"]
    forget_mappings(bench.world.namespaces["nat"])
    assert from_it(far, ITS, 5) >= 4
    wait(lambda: ike(bench, ITS)["remote-port"] != before)
    assert from_us(bench, ITS) == ["reply"] * 3
    assert bench.up(ITS)["number"] == number
    at = len(bench.swan(ITS).log)
    bench.swan(ITS).swanctl("--rekey", "--child", ITS.conn)
    bench.up(ITS, other_than=number)
    bench.swan(ITS).swanctl("--rekey", "--ike", ITS.conn)
    bench.its(ITS, r"IKE_SA \S+ rekeyed", since=at)
    assert from_us(bench, ITS) == ["reply"] * 3
    assert from_it(far, ITS) == 3


def test_our_mapping_is_lost(bench: Bench, far: GreEnd) -> None:
    """strongSwan follows the next message of IKE, of which dead peer detection has one soon; its ESP cannot, so it rekeys."""
    number, at = bench.up(OURS)["number"], len(bench.swan(OURS).log)
    forget_mappings(bench.world.namespaces["nat"])
    bench.its(OURS, "remote endpoint changed", since=at)
    bench.up(OURS, other_than=number)
    assert from_us(bench, OURS) == ["reply"] * 3
    assert from_it(far, OURS) == 3


def test_we_keep_the_mapping_open(bench: Bench, far: GreEnd, wire: Path) -> None:
    """Where nothing else is said."""
    bench.up(SILENT)
    wait(lambda: keepalives(wire), within=10)


def keepalives(path: Path) -> int:
    """RFC 3948 2.3: datagrams of one octet, 0xFF, from us to port 4500."""
    octets, count, at = path.read_bytes(), 0, 24
    while at + 16 <= len(octets):
        size = struct.unpack_from("=I", octets, at + 8)[0]
        frame = octets[at + 16 : at + 16 + size]
        count += frame[26:30] == bytes((192, 0, 2, 1)) and frame[36:43] == b"\x11\x94\x00\x09" + frame[40:42] + b"\xff"
        at += 16 + size
    return count
