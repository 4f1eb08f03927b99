"""Our own addresses as BGP needs them: which one to bind to, which neighbours are on a subnet of ours, our router id.

Fed from InterfaceState. An address counts while its interface is up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from attrs import define, field

from stack.addr import DEFAULT_VRF, Prefix
from stack.events import Interface, InterfaceKind

__all__ = ["LocalAddresses", "OwnAddress"]


class OwnAddress(NamedTuple):
    interface: str
    address: bytes
    length: int


@define(eq=False)
class LocalAddresses:
    """The interfaces of the node, by name: bounded by its configuration and its virtual accesses. `changes` grows whenever
    addresses that a session may have for its end come or go; that one more interface borrows another's means nothing."""

    interfaces: dict[str, Interface] = field(factory=dict)
    changes: int = 0
    _usable: Counter[tuple[str, bytes]] = field(factory=Counter)
    """(VRF, address) -> how many interfaces that are up have it: thousands may borrow one."""
    _by_vrf: dict[str, tuple[OwnAddress, ...]] | None = None
    _subnets: dict[tuple[str, int], dict[int, dict[bytes, list[OwnAddress]]]] | None = None
    """(VRF, octets of an address) -> prefix length, longest first -> network -> ours on it."""

    def apply(self, rows: Mapping[str, Interface | None]) -> set[tuple[str, bytes]]:
        """What changed. Answers which (VRF, address) are ours, and usable, no longer."""
        touched: set[tuple[str, bytes]] = set()
        fresh = own = False
        for name, row in rows.items():
            old = self.interfaces.get(name)
            if row is None:
                self.interfaces.pop(name, None)
            else:
                self.interfaces[name] = row
            own |= not (_borrows(old) and _borrows(row))
            before, after = _usable(old), _usable(row)
            touched |= before - after
            self._usable.subtract(before)
            self._usable.update(after)
            fresh |= any(self._usable[place] == 1 for place in after - before)
        gone = {place for place in touched if not self._usable[place]}
        for place in touched:
            if not self._usable[place]:
                del self._usable[place]
        if own or fresh or gone:
            self.changes += 1
            self._by_vrf = self._subnets = None
        return gone

    def own(self, vrf: str) -> tuple[OwnAddress, ...]:
        """Usable addresses of `vrf`, loopbacks' first, then in the interfaces' order."""
        if self._by_vrf is None:
            found: dict[str, list[OwnAddress]] = {}
            for one in sorted(self.interfaces.values(), key=_rank):
                if one.up:
                    found.setdefault(one.vrf, []).extend(_addresses(one))
            self._by_vrf = {name: tuple(addresses) for name, addresses in found.items()}
        return self._by_vrf.get(vrf, ())

    def has(self, vrf: str, address: bytes) -> bool:
        return any(own.address == address for own in self.own(vrf))

    def source(self, interface: str, size: int) -> bytes:
        """The address of `size` octets that `update-source INTERFACE` means, or b'' while there is none."""
        one = self.interfaces.get(interface)
        if one is None or not one.up:
            return b""
        addresses = list(_addresses(one))
        if not addresses and one.row.unnumbered:
            lender = self.interfaces.get(one.row.unnumbered)
            addresses = list(_addresses(lender)) if lender is not None and lender.up else []
        return next((own.address for own in addresses if len(own.address) == size), b"")

    def connected(self, vrf: str, remote: bytes) -> OwnAddress | None:
        """Our address on the subnet that `remote` is on: the longest one. Its cost does not grow with the interfaces."""
        if self._subnets is None:
            self._subnets = self._index()
        for length, networks in self._subnets.get((vrf, len(remote)), {}).items():
            for own in networks.get(Prefix.of(remote, length).network, ()):
                if own.address != remote:
                    return own
        return None

    def _index(self) -> dict[tuple[str, int], dict[int, dict[bytes, list[OwnAddress]]]]:
        self.own(DEFAULT_VRF)
        found: dict[tuple[str, int], dict[int, dict[bytes, list[OwnAddress]]]] = {}
        for vrf, owns in (self._by_vrf or {}).items():
            for own in sorted(owns, key=lambda own: -own.length):
                lengths = found.setdefault((vrf, len(own.address)), {})
                network = Prefix.of(own.address, own.length).network
                lengths.setdefault(own.length, {}).setdefault(network, []).append(own)
        return found

    def towards(self, vrf: str, remote: bytes) -> bytes:
        """The address to connect to `remote` from when nothing is configured. In the default VRF the host may choose."""
        on = self.connected(vrf, remote)
        if on is not None:
            return on.address
        if vrf == DEFAULT_VRF:
            return b""
        return next((own.address for own in self.own(vrf) if len(own.address) == len(remote)), b"")

    def router_id(self) -> bytes:
        """The highest IPv4 address of a loopback in the default VRF, else of any interface there; b'' if there is none."""
        own = [one for one in self.own(DEFAULT_VRF) if len(one.address) == 4]
        loopbacks = [one for one in own if self._is_loopback(one.interface)]
        return max((one.address for one in loopbacks or own), default=b"")

    def _is_loopback(self, name: str) -> bool:
        one = self.interfaces.get(name)
        return one is not None and one.row.kind is InterfaceKind.LOOPBACK


def _usable(one: Interface | None) -> set[tuple[str, bytes]]:
    return {(one.vrf, address) for address in one.addresses} if one is not None and one.up else set()


def _borrows(one: Interface | None) -> bool:
    """Whether it has no address of its own."""
    return one is None or all(row.origin == "unnumbered" for row in one.addresses.values())


def _rank(one: Interface) -> tuple[bool, int]:
    return one.row.kind is not InterfaceKind.LOOPBACK, one.index


def _addresses(one: Interface) -> Iterator[OwnAddress]:
    """Primary addresses before secondary ones; link-local ones are nobody's session end here."""
    rows = sorted(one.addresses.items(), key=lambda pair: pair[1].secondary)
    for address, row in rows:
        if not address.startswith(b"\xfe\x80") or len(address) == 4:
            yield OwnAddress(one.name, address, row.length)
