"""ESP with the Linux kernel's own: User-mode Linux as far PE, keys set by hand on both sides.

Two protected tunnels lead there, each under SAs of its own: an L3VPN profile's mGRE (labelled packets of VRF red), and Tunnel7,
GRE with IPv4 and IPv6. FRR says by BGP what is behind the former.

    red1 --- pe1 (ours, keys by hand) --- namespace `far`: FRR 192.0.2.9, tap --- User-mode Linux: 192.0.2.8, 192.0.2.18 --- h8
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from attrs import evolve, frozen

from stack.lab.capture import Capture
from stack.lab.namespace import Namespace, World
from stack.lab.probe import Prober
from tests.conftest import require_root, require_tool
from tests.interop import xfrm
from tests.interop.frr import Frr
from tests.interop.keyed import KeyedNode, Pair
from tests.interop.pes import customer, ip, pe_config
from tests.interop.test_linux_datapath import FAR_PE, FRR
from tests.interop.uml import ESP_MODULES, UserModeLinux

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.slow]

US, VPN, POINT = "192.0.2.1", "192.0.2.8", "192.0.2.18"

WAYS = {8: "198.51.100.9", 9: "198.51.100.9", 18: "198.51.100.9"}

TUNNEL7 = """
interface Tunnel7
 ip address 10.77.0.1 255.255.255.252
 ipv6 address 2001:db8:77::1/64
 tunnel source Loopback0
 tunnel destination 192.0.2.18
 tunnel mode gre ip
 tunnel protection ipsec profile core
!
"""

FAR_TUNNELS = """
ip addr add 192.0.2.18/32 dev lo
ip link add gre1 type gre local 192.0.2.8 remote 192.0.2.1 ttl 64 key 77
ip link set gre1 up mtu 1460 && sysctl -qw net.mpls.conf.gre1.input=1
ip route replace 10.1.1.0/24 vrf red encap mpls {v4} dev gre1
ip -6 route replace 2001:db8:1::/64 vrf red encap mpls {v6} dev gre1
ip link add gre7 type gre local 192.0.2.18 remote 192.0.2.1 ttl 64
ip link set gre7 up mtu 1460 && ip addr add 10.77.0.2/30 dev gre7 && ip addr add 2001:db8:77::2/64 dev gre7 nodad
"""

ENCAP = (
    "import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 4500)); "
    "s.setsockopt(socket.IPPROTO_UDP, 100, 2); time.sleep(999)"  # UDP_ENCAP, UDP_ENCAP_ESPINUDP
)

GCM = Pair("", "AES_GCM_256")


@frozen
class Far:
    world: World
    pe: KeyedNode
    uml: UserModeLinux
    far: Namespace

    def key(self, pair: Pair, *, wrong: bool = False) -> None:
        """Both tunnels anew with SAs of this kind, with numbers from the beginning; `wrong`: each side has keys of its own."""
        xfrm.flush(self.uml)
        self.uml.run("ip route flush cache")  # path MTUs that it learnt of larger forms
        for number, remote in enumerate((VPN, POINT), 1):
            mine = evolve(pair, remote=remote, spi_in=0x1000 + number, spi_out=0x2000 + number)
            mine = evolve(mine, key_in=xfrm.key_for(mine, number), key_out=xfrm.key_for(mine, 100 + number))
            xfrm.put(self.uml, mine, US)
            self.pe.keyed(evolve(mine, key_in=mine.key_out, key_out=mine.key_in) if wrong else mine)
        self.pe.until("show adjacency", lambda rows: all(row["complete"] for row in tunnels(rows)))
        self.pe.until("show ip cef vrf red", lambda value: "10.8.0.0/24" in str(value))

    def mtu(self, interface: str) -> int:
        """Of what goes there."""
        return next(int(row["mtu"]) for row in self.pe.show("show adjacency") if row["interface"] == interface)

    def drops(self) -> Any:
        return self.pe.show("show counters drops")["drops"]

    def count(self, reason: str) -> int:
        """Packets dropped for it."""
        return sum(row["packets"] for row in self.drops() if row["reason"] == reason)

    def count_of(self, interface: str, what: str) -> int:
        rows = self.pe.show("show counters interfaces")
        return sum(row[what] for row in rows if row["interface"] == interface)

    def ping(self, destination: str, *options: str, inside: str = "ip netns exec h8") -> str:
        """What `ping` says over there."""
        return self.uml.run(f"{inside} ping -c 3 -i 0.02 -W 2 {' '.join(options)} {destination}".strip(), check=False)

    def reaches(self, destination: str, size: int, source: str = "", *, df: bool = False) -> None:
        """From the customer's host, or from an address of pe1's own."""
        namespace = self.world.namespaces["pe1" if source else "red1"]
        with Prober(destination, namespace=namespace, source=source, size=size, df=df) as prober:
            replies = prober.ping(3, timeout=2)
        assert [reply.kind for reply in replies] == ["reply"] * 3, (replies, self.pe.text("show counters drops"))


def tunnels(rows: Any) -> list[Any]:
    return [row for row in rows if row["interface"].startswith("Tunnel")]


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    require_root()
    require_tool("bgpd")
    folder = tmp_path_factory.mktemp("far")
    with World() as world, ExitStack() as stack:
        pe, far = world.add("pe1"), world.add("far")
        world.cable(pe, "eth0", far, "eth0")
        customer(world, pe, 1)
        far.address("eth0", "198.51.100.9/24")
        far.address("lo", "192.0.2.9/32")
        far.sysctl(ipv4__ip_forward=1)
        far.route("192.0.2.1/32", via="198.51.100.1")
        config = pe_config(1, ways=WAYS, protocol="gre key 77\n protection ipsec profile core", more=TUNNEL7)
        bindings = {"Ethernet0/0": "eth0", "Ethernet0/1": "eth1"}
        node = stack.enter_context(KeyedNode(pe, config, bindings, folder))
        uml = stack.enter_context(UserModeLinux(far, folder, modules=ESP_MODULES))
        far.address("tap0", "203.0.113.1/30")
        for address in (VPN, POINT):
            far.route(f"{address}/32", via="203.0.113.2")
        stack.enter_context(Frr(far, FRR))
        table = node.until("show mpls forwarding-table", lambda value: len(value) == 2)
        labels = {row["fec"].removesuffix("[V]"): row["local-label"] for row in table}
        lines = FAR_PE + FAR_TUNNELS.format(v4=labels["10.1.1.0/24"], v6=labels["2001:db8:1::/64"])
        for line in lines.strip().splitlines():
            uml.run(line)
        uml.run(f'{sys.executable} -c "{ENCAP}" </dev/null >/dev/null 2>&1 &')
        node.until("show tunnel endpoints", lambda value: VPN in str(value))
        yield Far(world, node, uml, far)


KINDS = [
    GCM,
    Pair("", "AES_GCM_128"),
    Pair("", "CHACHA20_POLY1305"),
    Pair("", "AES_CBC_128", "HMAC_SHA2_256_128"),
    Pair("", "AES_CBC_192", "HMAC_SHA2_384_192"),
    Pair("", "AES_CBC_256", "HMAC_SHA2_512_256"),
    Pair("", "AES_CBC_256", "HMAC_SHA1_96"),
]


def named(pair: Pair) -> str:
    words = [pair.form.cipher.text, pair.form.integrity.text if not pair.form.cipher.aead else "", pair.form.mode.value]
    words += ["udp"] * pair.udp + ["esn"] * pair.esn + [f"window{pair.window}"]
    return "-".join(filter(None, words))


@pytest.mark.parametrize(
    "pair",
    [
        GCM,
        KINDS[2],
        KINDS[3],
        *(evolve(pair, esn=True, window=1024) for pair in KINDS),
        evolve(GCM, udp=True, esn=True),
        evolve(KINDS[3], udp=True),
        evolve(GCM, mode="TUNNEL"),
        evolve(KINDS[3], mode="TUNNEL", esn=True),
        evolve(GCM, mode="TUNNEL", udp=True),
    ],
    ids=named,
)
def test_rfc4303_packets_to_and_from_linux(far: Far, tmp_path: Path, pair: Pair) -> None:
    far.key(pair)
    dropped, refused = far.drops(), xfrm.counters(far.uml)
    labelled, plain = far.mtu("Tunnel0") - 4, far.mtu("Tunnel7")
    with Capture(far.far, "tap0", tmp_path / "far.pcap") as capture:
        for size in (56, labelled - 28):
            far.reaches("10.8.0.10", size)
        for size in (56, labelled - 48):
            far.reaches("2001:db8:8::10", size)
        far.reaches("10.77.0.2", plain - 28, "10.77.0.1", df=True)
        far.reaches("2001:db8:77::2", 1300, "2001:db8:77::1", df=True)
        for destination in ("10.1.1.10", "2001:db8:1::10"):
            assert " 3 received" in far.ping(destination)
        for destination in ("10.77.0.1", "2001:db8:77::1"):
            assert " 3 received" in far.ping(destination, inside="")
    assert (xfrm.errors(far.uml, refused), far.drops()) == ({}, dropped)
    wanted = 2 * 3 * (4 + 2 + 2 + 2)
    assert capture.total(protocol=17 if pair.udp else 50) == wanted
    assert capture.total(protocol=47) == capture.total(protocol=1) == capture.total(protocol=58) == 0
    assert 1514 - pair.form.cipher.block < max(len(frame) for frame in frames(tmp_path / "far.pcap")) <= 1514


ALMOST = (1 << 32) - 3


@pytest.mark.parametrize("pair", [GCM, KINDS[3]], ids=named)
def test_rfc4304_the_low_half_of_the_number_begins_anew_both_ways(far: Far, tmp_path: Path, pair: Pair) -> None:
    far.key(evolve(pair, esn=True, sent=ALMOST, taken=ALMOST))
    dropped, refused = far.drops(), xfrm.counters(far.uml)
    with Capture(far.far, "tap0", tmp_path / "far.pcap"):
        for _ in range(2):
            far.reaches("10.8.0.10", 56)
            assert " 3 received" in far.ping("10.1.1.10")
    assert (xfrm.errors(far.uml, refused), far.drops()) == ({}, dropped)
    for spi in (0x1001, 0x2001):
        lows = [esp.number for esp in packets(tmp_path / "far.pcap", spi)]
        assert lows == [*range(ALMOST + 1, 1 << 32), *range(len(lows) - 2)]


def test_without_an_sa_nothing_leaves_and_nothing_clear_is_let_in(far: Far, tmp_path: Path) -> None:
    far.key(GCM)
    far.pe.unkeyed(VPN)
    far.pe.unkeyed(POINT)
    xfrm.flush(far.uml)  # the kernel now sends in clear
    before = far.count("PROTECTED")
    with Capture(far.far, "eth0", tmp_path / "far.pcap") as capture:
        for destination in ("10.8.0.10", "2001:db8:8::10"):
            with Prober(destination, namespace=far.world.namespaces["red1"]) as prober:
                assert not any(reply.ok for reply in prober.ping(2, timeout=0.3))
        with Prober("10.77.0.2", namespace=far.world.namespaces["pe1"], source="10.77.0.1") as prober:
            assert not any(reply.ok for reply in prober.ping(2, timeout=0.3))
        assert capture.total(protocol=47) == capture.total(protocol=50) == capture.total(protocol=1) == 0
        assert " 0 received" in far.ping("10.1.1.10", "-W 0.3")
        assert " 0 received" in far.ping("10.77.0.1", "-W 0.3", inside="")
    assert capture.total(protocol=47) == 6  # the kernel's
    assert far.count("PROTECTED") - before >= 6
    far.key(GCM)
    far.reaches("10.8.0.10", 56)


def test_rfc4303_3_4_4_a_wrong_icv_is_dropped_on_either_side(far: Far) -> None:
    far.key(GCM, wrong=True)
    before, refused = far.count("ESP_INTEGRITY"), xfrm.counters(far.uml)
    with Prober("10.8.0.10", namespace=far.world.namespaces["red1"]) as prober:
        assert [reply.kind for reply in prober.ping(3, timeout=0.3)] == ["timeout"] * 3
    assert " 0 received" in far.ping("10.1.1.10", "-W 0.3")
    assert far.count("ESP_INTEGRITY") - before == 3
    assert xfrm.errors(far.uml, refused) == {"XfrmInStateProtoError": 3}


LATE = 80


def test_rfc4303_3_4_3_what_linux_sent_comes_late_and_twice(far: Far, tmp_path: Path) -> None:
    """80 packets are held up, and the last of them comes first: 63 more are within the window of 64, once."""
    far.key(GCM)
    replays, sent = far.count("ESP_REPLAY"), far.count_of("Tunnel0", "packets_in")
    with Capture(far.far, "tap0", tmp_path / "held.pcap"):
        ip(far.far, "route", "replace", "blackhole", f"{US}/32")
        far.ping("10.1.1.10", f"-c {LATE}", "-i 0.002", "-W 0.1")
    ip(far.far, "route", "replace", f"{US}/32", "via", "198.51.100.1")
    held = packets(tmp_path / "held.pcap", 0x1001)
    assert [esp.number for esp in held] == list(range(1, LATE + 1))
    inject(far.far, [held[-1], *held[:-1], *held])
    far.pe.until("show counters drops", lambda _: far.count("ESP_REPLAY") - replays >= 2 * LATE - 64)
    assert far.count("ESP_REPLAY") - replays == 2 * LATE - 64
    assert far.count_of("Tunnel0", "packets_in") - sent == 64


def test_rfc4303_3_4_3_what_we_sent_comes_late_and_twice_to_linux(far: Far, tmp_path: Path) -> None:
    far.key(GCM)
    refused, way = xfrm.counters(far.uml), f"{VPN}/32"
    with Capture(far.far, "eth0", tmp_path / "held.pcap"):
        ip(far.far, "route", "replace", "blackhole", way)
        command = [require_tool("ping"), "-q", "-c", str(LATE), "-i", "0.002", "-W", "0.1", "10.8.0.10"]
        far.world.namespaces["red1"].run(lambda: subprocess.run(command, capture_output=True, check=False))
    ip(far.far, "route", "replace", way, "via", "203.0.113.2")
    held = packets(tmp_path / "held.pcap", 0x2001)
    assert [esp.number for esp in held] == list(range(1, LATE + 1))
    with Capture(far.far, "tap0") as capture:
        inject(far.far, [held[-1], *held[:-1], *held])
        far.reaches("10.8.0.10", 56)  # behind all of them
    assert xfrm.errors(far.uml, refused) == {"XfrmInStateSeqError": 2 * LATE - 64}
    assert capture.total(protocol=50) == 2 * LATE + 64 + 2 * 3  # with the answers


class Esp(NamedTuple):
    """A packet that was captured; `octets` from its IPv4 header on."""

    spi: int
    number: int
    octets: bytes


def packets(pcap: Path, spi: int) -> list[Esp]:
    found = [
        Esp(*struct.unpack_from(">II", frame, 34), frame[14:])
        for frame in frames(pcap)
        if frame[12:14] == b"\x08\0" and frame[23] == 50
    ]
    return [esp for esp in found if esp.spi == spi]


def inject(namespace: Namespace, esps: list[Esp]) -> None:
    with namespace.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for esp in esps:
            raw.sendto(esp.octets, (socket.inet_ntoa(esp.octets[16:20]), 0))
            time.sleep(0.0005)  # so that no queue is too short


def frames(pcap: Path) -> list[bytes]:
    octets, at, found = pcap.read_bytes(), 24, []
    while at < len(octets):
        (length,) = struct.unpack_from("=I", octets, at + 8)
        found.append(octets[at + 16 : at + 16 + length])
        at += 16 + length
    return found
