"""A DMVPN for the tests with real peers: the NBMA network is one bridge, on which our nodes and nhrpds meet, and every frame
that crosses it is kept.

    192.0.2.N = NBMA address of the node that is 10.0.0.N in the overlay and has 192.168.N.0/24 behind it
"""

from __future__ import annotations

import re
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from attrs import define, field, frozen

from nhrp.wire.codec import decode as decode_nhrp
from nhrp.wire.packet import Kind, Packet
from stack.addr import format_address
from stack.lab.namespace import Namespace, World
from tests.conftest import require_tool
from tests.interop.nodes import Node
from tests.interop.pes import ip
from tests.interop.tshark import decode, faults

__all__ = ["Gre", "Nbma", "Probe", "clean", "config", "host_pings", "nbma", "overlay", "ttls", "until"]

T = TypeVar("T")

GRE, NHRP, IPV4 = 47, 0x2001, 0x0800
_ETH_P_ALL, _OUTGOING = 3, 4
_PCAP = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
_RECORD = struct.Struct("=IIII")


def nbma(number: int) -> str:
    return f"192.0.2.{number}"


def overlay(number: int) -> str:
    return f"10.0.0.{number}"


def until(what: Callable[[], T], *, within: float = 30.0, why: Callable[[], str] = str) -> T:
    """The first true answer of `what`. `why`: what to say if there is none."""
    end = time.monotonic() + within
    while not (answer := what()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {within} s: {answer!r} {why()}")
        time.sleep(0.05)
    return answer


@frozen
class Gre:
    """A GRE packet on the wire: outer addresses, the key (None: no key field) and what is inside."""

    at: float
    source: str
    destination: str
    ttl: int
    tos: int
    key: int | None
    protocol: int
    payload: bytes
    frame: bytes = field(repr=False)

    @property
    def nhrp(self) -> Packet:
        return decode_nhrp(self.payload)

    @property
    def inner(self) -> tuple[str, str]:
        """Source and destination of an IPv4 packet inside."""
        return format_address(self.payload[12:16]), format_address(self.payload[16:20])


def _gre(at: float, frame: bytes) -> Gre | None:
    if frame[12:14] != b"\x08\0" or frame[23] != GRE:
        return None
    outer = frame[14 : 14 + struct.unpack_from(">H", frame, 16)[0]]
    body = outer[(outer[0] & 15) * 4 :]
    flags, protocol = struct.unpack_from(">HH", body)
    key, payload = None, body[4:]
    if flags & 0x2000:
        key, payload = int.from_bytes(payload[:4]), payload[4:]
    source, destination = format_address(outer[12:16]), format_address(outer[16:20])
    return Gre(at, source, destination, outer[8], outer[1], key, protocol, payload, frame)


class _Wire:
    """Every frame that enters a port of the bridge, once."""

    def __init__(self, namespace: Namespace) -> None:
        self._socket = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.packets: list[Gre] = []
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wire", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ends.is_set():
            if select.select([self._socket], [], [], 0.1)[0]:
                frame, address = self._socket.recvfrom(65536)
                if address[2] != _OUTGOING and (found := _gre(time.time(), frame)):
                    self.packets.append(found)

    def close(self) -> None:
        self._ends.set()
        self._thread.join()
        self._socket.close()


@define(eq=False)
class Nbma:
    """The bridge. `packets`: all GRE packets that crossed it so far."""

    folder: Path
    world: World = field(factory=World)
    wan: Namespace = field(init=False)
    _wire: _Wire = field(init=False)

    def __enter__(self) -> Self:
        self.wan = self.world.add("wan")
        ip(self.wan, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
        ip(self.wan, "link", "set", "br0", "up")
        self._wire = _Wire(self.wan)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wire.close()
        self.world.close()

    def plug(self, device: str) -> None:
        """A device of the bridge's namespace becomes a port."""
        ip(self.wan, "link", "set", device, "master", "br0")

    def attach(self, name: str) -> Namespace:
        """A namespace with an eth0 on the bridge, without address."""
        namespace = self.world.add(name)
        self.world.cable(namespace, "eth0", self.wan, f"to-{name}")
        self.plug(f"to-{name}")
        return namespace

    def site(self, number: int) -> tuple[Namespace, Namespace]:
        """Namespaces for a node of ours (eth0: NBMA, eth1: inside) and for a host behind it. Made once."""
        names = f"n{number}", f"h{number}"
        if names[0] not in self.world.namespaces:
            node, host = self.attach(names[0]), self.world.add(names[1])
            self.world.cable(node, "eth1", host, "eth0")
            node.sysctl(ipv4__ip_forward=1)  # the kernel has the interfaces of the global table
            host.address("eth0", f"192.168.{number}.10/24")
            host.route("default", via=f"192.168.{number}.1")
        return self.world.namespaces[names[0]], self.world.namespaces[names[1]]

    def our_node(self, number: int, text: str) -> Node:
        """Not started."""
        namespace, _ = self.site(number)
        return Node(namespace, text, {"Ethernet0/0": "eth0", "Ethernet0/1": "eth1"}, self.folder)

    # --- what crossed ---

    @property
    def packets(self) -> list[Gre]:
        return list(self._wire.packets)

    def mark(self) -> int:
        """For `since`."""
        return len(self._wire.packets)

    def nhrp(self, kind: Kind, *, since: int = 0, source: str = "", destination: str = "") -> list[Gre]:
        """NHRP packets of a kind, by outer addresses."""
        return [
            one
            for one in self.packets[since:]
            if one.protocol == NHRP
            and one.payload[17] == kind
            and (not source or one.source == source)
            and (not destination or one.destination == destination)
        ]

    def data(self, source: int, destination: int, *, since: int = 0) -> list[Gre]:
        """IPv4 packets in GRE from one node's NBMA address straight to another's."""
        ends = nbma(source), nbma(destination)
        return [one for one in self.packets[since:] if one.protocol == IPV4 and (one.source, one.destination) == ends]

    def write(self, path: Path, *, since: int = 0, source: str = "") -> Path:
        """A pcap file of what crossed, for tshark."""
        with path.open("wb") as file:
            file.write(_PCAP)
            for one in self.packets[since:]:
                if not source or one.source == source:
                    at = divmod(int(one.at * 1_000_000), 1_000_000)
                    file.write(_RECORD.pack(*at, len(one.frame), len(one.frame)) + one.frame)
        return path


# --- somebody who speaks NHRP and nothing else -------------------------------------------------------------------


class Probe:
    """A host on the bridge, 192.0.2.N, that sends GRE as it is told. What it gets is among the bridge's packets."""

    def __init__(self, cloud: Nbma, number: int, *, key: int | None = 42) -> None:
        self.cloud = cloud
        self.number = number
        self._key = b"" if key is None else key.to_bytes(4)
        namespace = cloud.attach(f"probe{number}")
        namespace.address("eth0", f"{nbma(number)}/24")
        self._socket = namespace.socket(socket.AF_INET, socket.SOCK_RAW, GRE)

    def send(self, to: int, octets: bytes, *, protocol: int = NHRP) -> None:
        head = struct.pack(">HH", 0x2000 if self._key else 0, protocol) + self._key
        self._socket.sendto(head + octets, (nbma(to), 0))

    def ask(self, to: int, octets: bytes, answer: Kind, *, within: float = 10.0) -> Gre:
        """Send NHRP, and the first packet of kind `answer` that then comes here."""
        since = self.cloud.mark()
        self.send(to, octets)
        found = until(lambda: self.cloud.nhrp(answer, since=since, destination=nbma(self.number)), within=within)
        return found[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()


# --- our configurations ------------------------------------------------------------------------------------------------------

_OURS = """
hostname n{number}
interface Ethernet0/0
 ip address 192.0.2.{number} 255.255.255.0
!
interface Ethernet0/1
 ip address 192.168.{number}.1 255.255.255.0
!
interface Tunnel0
 ip address 10.0.0.{number} {mask}
 ip nhrp network-id 1
 ip nhrp holdtime {hold}
{lines} tunnel source Ethernet0/0
 tunnel mode gre multipoint
{key}!
{routes}end
"""


def config(
    number: int,
    *,
    lines: Sequence[str],
    routes: Sequence[tuple[str, str]],
    key: int | None = 42,
    hold: int = 9,
    mask: str = "255.255.255.0",
) -> str:
    """`lines`: of the tunnel. `routes`: `192.168.12.0 255.255.255.0` and the overlay address that it is behind."""
    return _OURS.format(
        number=number,
        mask=mask,
        hold=hold,
        lines="".join(f" {line}\n" for line in lines),
        key="" if key is None else f" tunnel key {key}\n",
        routes="".join(f"ip route {to} {via}\n" for to, via in routes),
    )


# --- pings --------------------------------------------------------------------------------------------------------------------


def ttls(said: str) -> list[int]:
    """Of the answers, in what the program `ping` says."""
    return [int(found) for found in re.findall(r"ttl=(\d+)", said)]


def host_pings(host: Namespace, destination: str, *, count: int = 1) -> list[int]:
    """The TTLs of the answers to pings from a namespace."""
    command = ["ping", "-c", str(count), "-i", "0.2", "-W", "1", destination]
    done = host.run(lambda: subprocess.run(command, capture_output=True, text=True, timeout=30, check=False))
    return ttls(done.stdout)


# --- tshark -----------------------------------------------------------------------------------------------------


def clean(capture: Path) -> set[int]:
    """The kinds of NHRP packets in a capture. tshark must find nothing wrong with any packet, and have seen each checksum."""
    assert faults(decode(capture)) == []
    command = [require_tool("tshark"), "-n", "-r", str(capture), "-Y", "nhrp", "-T", "fields"]
    command += [word for name in ("nhrp.hdr.op.type", "nhrp.hdr.chksum.status") for word in ("-e", name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    # An Error Indication has the packet that it is about inside, and tshark looks at that too.
    assert all(set(statuses.split(",")) == {"1"} for _, statuses in rows), rows
    return {int(kinds.split(",")[0]) for kinds, _ in rows}
