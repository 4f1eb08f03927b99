"""Devices of an in-memory node: bare IP (loopback, TUN), Ethernet with ARP and ND, and its VLANs."""

from __future__ import annotations

import asyncio
import errno
from collections import Counter, deque
from collections.abc import Callable
from typing import Protocol

from attrs import define, field

from stack.testing import _packets as p
from stack.testing._port import QueuePort, os_error

__all__ = ["EthernetNic", "Nic", "PortNic", "Tap", "VlanNic"]

_NEIGHBOURS = 1024
_WAITING = 32
"""Packets that wait for one neighbour's MAC; more push the oldest out, as Linux does."""
_TRIES, _TRY_AGAIN, _REACHABLE = 3, 1.0, 60.0


class Above(Protocol):
    """The host stack, as a device sees it."""

    def receive(self, packet: bytes, nic: Nic) -> None: ...
    def owns(self, address: bytes, scope: str) -> bool: ...
    def address_towards(self, nic: Nic, neighbour: bytes) -> bytes: ...
    def unresolved(self, packet: bytes, nic: Nic) -> None: ...
    def device_changed(self) -> None: ...


@define(eq=False)
class Nic:
    """A device that carries bare IP. `wire` takes what is sent; `scope` is the VRF whose host port this is."""

    name: str
    index: int
    mtu: int
    above: Above = field(repr=False)
    mac: bytes = b""
    scope: str = ""
    admin: bool = True
    carrier: bool = True
    wire: Callable[[bytes], None] | None = None
    drops: Counter[str] = field(factory=Counter, init=False)

    @property
    def up(self) -> bool:
        return self.admin and self.carrier

    def set_carrier(self, *, up: bool) -> None:
        if up != self.carrier:
            self.carrier = up
            self.above.device_changed()

    def send_ip(self, packet: bytes, hop: bytes) -> None:  # noqa: ARG002  (Ethernet needs it)
        """Send one packet to the neighbour `hop` (which a bare IP device need not know)."""
        self.transmit(packet)

    def transmit(self, octets: bytes) -> None:
        if not self.up:
            self.drops["down"] += 1
        elif self.wire is None:
            self.drops["not attached"] += 1
        else:
            self.wire(octets)

    def arrived(self, octets: bytes) -> None:
        if self.up:
            self.above.receive(octets, self)
        else:
            self.drops["down"] += 1


@define(eq=False)
class PortNic(Nic):
    """The near end of a TUN attachment: what arrives is for the port's reader, not for the host."""

    port: QueuePort | None = None

    def arrived(self, octets: bytes) -> None:
        if self.port is not None:
            self.port.push(octets)


@define(eq=False)
class _Neighbour:
    """An ARP or ND entry. A known MAC stays in use while it is asked for again."""

    mac: bytes = b""
    expires: float = 0.0
    tries: int = 0
    waiting: deque[bytes] = field(factory=lambda: deque(maxlen=_WAITING), repr=False)
    timer: asyncio.TimerHandle | None = None


@define(eq=False)
class Tap:
    """A port on an Ethernet device: frames of one VLAN (None: untagged), or labelled ones with ARP and ND."""

    port: QueuePort
    vlan: int | None = None
    labelled: bool = False

    def offer(self, vlan: int | None, frame: bytes) -> None:
        if vlan == self.vlan and (not self.labelled or _label_business(frame)):
            self.port.push(frame)


def _label_business(frame: bytes) -> bool:
    ethertype = int.from_bytes(frame[12:14])
    if ethertype in (p.ETHER_MPLS, p.ETHER_ARP):
        return True
    return ethertype == p.ETHER_IPV6 and len(frame) > 54 and frame[20] == p.ICMPV6 and frame[54] in (135, 136)


@define(eq=False)
class EthernetNic(Nic):
    """Taps see every frame that comes in; the host stack only untagged ones for its MAC, unless its ingress is dropped."""

    taps: list[Tap] = field(factory=list, init=False)
    vlans: dict[int, VlanNic] = field(factory=dict, init=False)
    refused: list[frozenset[int | None]] = field(factory=list, init=False)
    neighbours: dict[bytes, _Neighbour] = field(factory=dict, init=False)

    # --- frames ---

    def send_frame(self, frame: bytes) -> None:
        """What a port sends: a whole frame with its own tag. OSError as sendmsg(2)."""
        if len(frame) < 14:
            raise os_error(errno.EINVAL, f"a frame of {len(frame)} octets")
        if len(frame) > self.mtu + (18 if frame[12:14] == b"\x81\x00" else 14):
            raise os_error(errno.EMSGSIZE, self.name)
        if not self.up:
            raise os_error(errno.ENETDOWN, self.name)
        self.transmit(frame)

    def arrived(self, octets: bytes) -> None:
        if not self.up:
            self.drops["down"] += 1
            return
        if len(octets) < 14:
            self.drops["malformed"] += 1
            return
        vlan, frame = p.untagged(octets)
        for tap in tuple(self.taps):
            tap.offer(vlan, frame)
        if any(vlan in refused for refused in self.refused):
            self.drops["ingress dropped"] += 1
        elif vlan is None:
            self.take(frame)
        elif vlan in self.vlans:
            self.vlans[vlan].arrived(frame)
        else:
            self.drops["unknown VLAN"] += 1

    def take(self, frame: bytes) -> None:
        """An untagged frame, for the host stack."""
        if frame[:6] != self.mac and not frame[0] & 1:
            self.drops["for another MAC"] += 1
            return
        ethertype = int.from_bytes(frame[12:14])
        if ethertype == p.ETHER_ARP:
            self._arp(frame[14:])
        elif ethertype in (p.ETHER_IPV4, p.ETHER_IPV6):
            self.above.receive(frame[14:], self)
        else:
            self.drops["unknown EtherType"] += 1

    def send_ip(self, packet: bytes, hop: bytes) -> None:
        if p.multicast(hop):
            self._frame(p.group_mac(hop), packet)
            return
        now = asyncio.get_running_loop().time()
        entry = self.neighbours.get(hop) or self._new(hop)
        if entry.timer is None and now >= entry.expires:
            entry.tries = 0
            self._ask(hop, entry)
        if entry.mac:
            self._frame(entry.mac, packet)
        else:
            entry.waiting.append(packet)

    def _frame(self, mac: bytes, packet: bytes) -> None:
        self.transmit(p.build_frame(mac, self.mac, p.ETHER_IPV4 if packet[0] >> 4 == 4 else p.ETHER_IPV6, packet))

    # --- neighbours ---

    def _ask(self, hop: bytes, entry: _Neighbour) -> None:
        if entry.tries == _TRIES:
            self._forget(hop)
            for packet in entry.waiting:
                self.above.unresolved(packet, self)
            return
        entry.tries += 1
        entry.timer = asyncio.get_running_loop().call_later(_TRY_AGAIN, self._ask, hop, entry)
        source = self.above.address_towards(self, hop)
        if not source:
            self.drops["no address to ask from"] += 1
        elif len(hop) == 4:
            request = p.build_arp(1, self.mac, source, bytes(6), hop)
            self.transmit(p.build_frame(p.BROADCAST, self.mac, p.ETHER_ARP, request))
        else:
            group = p.solicited_node(hop)
            self._frame(p.group_mac(group), p.build_nd(source, group, 135, hop, self.mac))

    def _new(self, hop: bytes) -> _Neighbour:
        while len(self.neighbours) >= _NEIGHBOURS:
            self._forget(next(iter(self.neighbours)))
        entry = self.neighbours[hop] = _Neighbour()
        return entry

    def _forget(self, hop: bytes) -> None:
        entry = self.neighbours.pop(hop)
        if entry.timer is not None:
            entry.timer.cancel()

    def forget_neighbours(self) -> None:
        for hop in tuple(self.neighbours):
            self._forget(hop)

    def _learn(self, hop: bytes, mac: bytes, *, asks_us: bool = False) -> None:
        """Refresh an entry; make one only for who asks for one of our addresses (RFC 826, RFC 4861 7.2.3)."""
        entry = self.neighbours.get(hop) or (self._new(hop) if asks_us and any(hop) else None)
        if entry is None:
            return
        entry.mac, entry.tries = mac, 0
        entry.expires = asyncio.get_running_loop().time() + _REACHABLE
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        while entry.waiting:
            self._frame(mac, entry.waiting.popleft())

    def _arp(self, octets: bytes) -> None:
        parsed = p.parse_arp(octets)
        if parsed is None:
            self.drops["malformed ARP"] += 1
            return
        operation, mac, sender, target = parsed
        asks_us = operation == 1 and self.above.owns(target, self.scope)
        self._learn(sender, mac, asks_us=asks_us)
        if asks_us:
            reply = p.build_arp(2, self.mac, target, mac, sender)
            self.transmit(p.build_frame(mac, self.mac, p.ETHER_ARP, reply))

    def neighbour_discovery(self, ip: p.Ip) -> None:
        parsed = p.parse_nd(ip)
        if parsed is None:
            self.drops["malformed ND"] += 1
            return
        kind, target, mac = parsed
        if kind == 136:
            if mac:
                self._learn(target, mac)
            return
        asks_us = self.above.owns(target, self.scope)
        if mac:
            self._learn(ip.source, mac, asks_us=asks_us)
        if asks_us and any(ip.source):
            packet = p.build_nd(target, ip.source, 136, target, self.mac)
            if mac:
                self._frame(mac, packet)
            else:
                self.send_ip(packet, ip.source)


@define(eq=False)
class VlanNic(EthernetNic):
    """One VLAN of a device, as its own device of the host stack (for customers behind a trunk)."""

    parent: EthernetNic = field(kw_only=True)
    vlan: int = field(kw_only=True)

    def __attrs_post_init__(self) -> None:
        self.parent.vlans[self.vlan] = self

    @property
    def up(self) -> bool:
        return self.admin and self.parent.up

    def transmit(self, octets: bytes) -> None:
        if self.up:
            self.parent.transmit(p.tagged(octets, self.vlan))
        else:
            self.drops["down"] += 1
