"""Our own addresses, and which of them we put as next hop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from attrs import define, field

from bgp.config import BgpConfig
from bgp.engine.outputs import PeerView
from bgp.wire import Family
from stack.addr import DEFAULT_VRF, Afi, mapped_v4
from stack.events import Interface, ProfileRow

__all__ = ["OwnAddresses"]


@define(eq=False)
class OwnAddresses:
    """Interfaces and L3VPN profiles as the bus tells them, and the local ends of sessions."""

    config: BgpConfig
    interfaces: dict[str, Interface] = field(factory=dict)
    profiles: dict[str, ProfileRow] = field(factory=dict)
    _sessions: Counter[tuple[str, bytes]] = field(factory=Counter)
    _held: Counter[tuple[str, bytes]] = field(factory=Counter)
    """(VRF, address) -> how many interfaces have it: thousands may borrow one."""

    def add_session(self, vrf: str, local: bytes) -> None:
        self._sessions[vrf, local] += 1

    def remove_session(self, vrf: str, local: bytes) -> None:
        self._sessions[vrf, local] -= 1
        if self._sessions[vrf, local] <= 0:
            del self._sessions[vrf, local]

    def receive_interfaces(self, rows: Mapping[str, Interface | None]) -> bool:
        """Whether an address came or went. That one more interface borrows an address of another's means nothing."""
        changed = False
        for name, row in rows.items():
            old = self.interfaces.get(name)
            if row is None:
                self.interfaces.pop(name, None)
            else:
                self.interfaces[name] = row
            if _place(old) == _place(row):
                continue
            before, after = _held(old), _held(row)
            self._held.update(after)
            self._held.subtract(before)
            changed |= name == self.config.next_hop_interface or not (_borrows(old) and _borrows(row))
            changed |= any(not self._held[place] for place in before)
            changed |= any(self._held[place] == 1 for place in after)
            for place in before:
                if not self._held[place]:
                    del self._held[place]
        return changed

    def receive_profiles(self, rows: Mapping[str, ProfileRow | None]) -> bool:
        """Whether our transport source changed."""
        before = self.transport_source()
        for name, row in rows.items():
            if row is None:
                self.profiles.pop(name, None)
            else:
                self.profiles[name] = row
        return before != self.transport_source()

    def addresses(self) -> dict[str, frozenset[bytes]]:
        """By VRF. The local ends of sessions count too: an embedder may run us without interfaces."""
        found: dict[str, set[bytes]] = {}
        for vrf, address in self._sessions:
            found.setdefault(vrf, set()).add(address)
        for vrf, address in self._held:
            found.setdefault(vrf, set()).add(address)
        return {vrf: frozenset(addresses) for vrf, addresses in found.items()}

    def transport_source(self) -> bytes:
        """Of the L3VPN profile that is at work; empty if none is."""
        for name in sorted(self.profiles):
            if self.profiles[name].source:
                return self.profiles[name].source
        return b""

    def next_hop(self, view: PeerView, family: Family) -> bytes:
        """What `next hop self` means towards a neighbour; empty if we have no address of the right kind.

        VPN routes: `bgp next-hop IF` if it is set, else the transport source of the L3VPN profile, since tunnel packets
        must arrive there, else our end of the session. VPNv6 over IPv4: `::ffff:a.b.c.d` (RFC 4659 3.2.1.2).
        """
        if family.vpn:
            address = self._of_interface(self.config.next_hop_interface, DEFAULT_VRF, 4)
            address = address or self.transport_source() or view.local
            if family.afi == Afi.IPV6:
                return mapped_v4(address) if len(address) == 4 else address
            return address
        size = 4 if family.afi == Afi.IPV4 else 16
        if len(view.local) == size:
            return view.local
        beside = next((i for i in self.interfaces.values() if i.vrf == view.vrf and view.local in i.addresses), None)
        if beside is not None and (found := self._of_interface(beside.name, view.vrf, size)):
            return found
        return mapped_v4(view.local) if size == 16 and len(view.local) == 4 else b""

    def _of_interface(self, name: str, vrf: str, size: int) -> bytes:
        """The primary address of that size (link-local ones are no next hops here)."""
        interface = self.interfaces.get(name)
        if interface is None or interface.vrf != vrf:
            return b""
        fit = [a for a in interface.addresses if len(a) == size and not (size == 16 and a[0] == 0xFE and a[1] >= 0x80)]
        return next((a for a in fit if not interface.addresses[a].secondary), fit[0] if fit else b"")


def _held(interface: Interface | None) -> set[tuple[str, bytes]]:
    return {(interface.vrf, address) for address in interface.addresses} if interface is not None else set()


def _borrows(interface: Interface | None) -> bool:
    """Whether it has no address of its own."""
    return interface is None or all(row.origin == "unnumbered" for row in interface.addresses.values())


def _place(interface: Interface | None) -> object:
    return None if interface is None else (interface.vrf, dict(interface.addresses))
