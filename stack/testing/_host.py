"""The host's tables of an in-memory node: devices, addresses, routes. `stack.net.Host`, and the look-ups of its stack."""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from attrs import define, field

from stack.addr import Prefix, format_address
from stack.net import Device, HostRoute
from stack.testing import _packets as p
from stack.testing._nic import EthernetNic, Nic
from stack.testing._port import os_error

__all__ = ["Hop", "MemoryHost"]

_LOOPBACK = ((b"\x7f\0\0\1", 8), (bytes(15) + b"\1", 128))
_ROUTES = 200_000
_CACHED = 4096


class Hop(NamedTuple):
    """Where a packet goes: out of `nic` to the neighbour `via`. `source` is what a local packet is sent from."""

    nic: Nic
    via: bytes
    source: bytes


class _Way(NamedTuple):
    nic: Nic
    via: bytes
    source: bytes


@define(eq=False)
class MemoryHost:
    """One node's. The default VRF's tables are the host's; a host port of another VRF is an island with one exit."""

    node: str
    _nics: dict[str, Nic] = field(factory=dict, init=False)
    _indexes: int = field(default=0, init=False)
    _addresses: dict[str, list[tuple[bytes, int]]] = field(factory=dict, init=False)
    _routes: dict[Prefix, tuple[HostRoute, bool]] = field(factory=dict, init=False)
    _local: dict[tuple[str, bytes], str] = field(factory=dict, init=False)
    _tables: list[tuple[int, int, dict[int, _Way]]] | None = field(default=None, init=False)
    _cache: dict[bytes, Hop | None] = field(factory=dict, init=False)
    _changed: Callable[[], None] | None = field(default=None, init=False)
    _notice: asyncio.Handle | None = field(default=None, init=False)
    log: deque[str] = field(factory=lambda: deque(maxlen=256), init=False)

    # --- stack.net.Host ---

    def devices(self) -> tuple[Device, ...]:
        return tuple(Device(nic.name, nic.index, nic.mac, nic.mtu, nic.up) for nic in self._nics.values())

    def watch(self, changed: Callable[[], None] | None) -> None:
        """Devices and addresses: one call on the loop's next turn, however much changed."""
        self._changed = changed

    def addresses(self) -> Iterable[tuple[str, bytes, int]]:
        return [(device, *pair) for device, pairs in self._addresses.items() for pair in pairs]

    def add_address(self, device: str, address: bytes, length: int) -> None:
        nic = self.nic(device)
        if len(address) not in (4, 16) or not 0 <= length <= len(address) * 8:
            raise os_error(errno.EINVAL, f"{address.hex()}/{length}")
        held = self._addresses.setdefault(device, [])
        if any(address == other for other, _ in held):
            raise os_error(errno.EEXIST, f"{format_address(address)} on {device}")
        held.append((address, length))
        self._local.setdefault((nic.scope, address), device)
        self._log(f"address {format_address(address)}/{length} dev {device}")
        self.changed()

    def remove_address(self, device: str, address: bytes, length: int) -> None:
        scope = self.nic(device).scope
        held = self._addresses.get(device, [])
        if (address, length) not in held:
            raise os_error(errno.EADDRNOTAVAIL, f"{format_address(address)}/{length} on {device}")
        held.remove((address, length))
        self._log(f"no address {format_address(address)}/{length} dev {device}")
        self._relocate(scope, address)
        self.changed()

    def routes(self) -> Iterable[tuple[HostRoute, bool]]:
        """Connected ones too, as a kernel lists them; the flag says which were added here (`add_route`)."""
        connected = [
            (HostRoute(Prefix.of(address, length), device=device, source=address), False)
            for device, address, length in self.addresses()
            if length < len(address) * 8 and not self._nics[device].scope
        ]
        return connected + list(self._routes.values())

    def add_route(self, route: HostRoute) -> None:
        self.put_route(route, ours=True)

    def remove_route(self, route: HostRoute) -> None:
        held = self._routes.get(route.prefix)
        if held is None or (route.via, route.device or held[0].device) != (held[0].via, held[0].device):
            raise os_error(errno.ESRCH, str(route.prefix))
        del self._routes[route.prefix]
        self._log(f"no route {route.prefix}")
        self._stale()

    def set_link(self, device: str, *, up: bool, mtu: int | None = None) -> None:
        nic = self.nic(device)
        if mtu is not None and not 68 <= mtu <= 65535:
            raise os_error(errno.EINVAL, f"MTU {mtu}")
        if (nic.admin, nic.mtu) == (up, mtu or nic.mtu):
            return
        nic.admin, nic.mtu = up, mtu or nic.mtu
        if isinstance(nic, EthernetNic) and not up:
            nic.forget_neighbours()
        self._log(f"link {device} {'up' if up else 'down'} mtu {nic.mtu}")
        self.changed()

    def drop_ingress(self, device: str, *, vlans: Iterable[int | None]) -> Callable[[], None]:
        nic = self.ethernet(device)
        refused = frozenset(vlans)
        nic.refused.append(refused)
        undone = False

        def undo() -> None:
            nonlocal undone
            if not undone and refused in nic.refused:  # a killed process's rules are gone already
                nic.refused.remove(refused)
            undone = True

        return undo

    # --- for the stack above, and for tests ---

    def nic(self, device: str) -> Nic:
        try:
            return self._nics[device]
        except KeyError:
            raise os_error(errno.ENODEV, f"{device} on {self.node}") from None

    def ethernet(self, device: str) -> EthernetNic:
        nic = self.nic(device)
        if not isinstance(nic, EthernetNic):
            raise os_error(errno.EOPNOTSUPP, f"{device} carries no Ethernet")
        return nic

    def next_index(self) -> int:
        self._indexes += 1
        return self._indexes

    def add_nic(self, nic: Nic) -> None:
        if nic.name in self._nics:
            raise os_error(errno.EEXIST, f"{nic.name} on {self.node}")
        self._nics[nic.name] = nic
        if nic.name == "lo":
            for address, length in _LOOPBACK:
                self.add_address("lo", address, length)
        elif nic.mac:
            self.add_address(nic.name, p.eui64(nic.mac), 64)
        self.changed()

    def remove_nic(self, name: str) -> None:
        nic = self._nics.pop(name)
        for address, _ in self._addresses.pop(name, []):
            self._relocate(nic.scope, address)
        for prefix in [prefix for prefix, (route, _) in self._routes.items() if route.device == name]:
            del self._routes[prefix]
        self.changed()

    def scope_nic(self, scope: str) -> Nic | None:
        """The host port of a VRF."""
        return next((nic for nic in self._nics.values() if nic.scope == scope), None) if scope else None

    def put_route(self, route: HostRoute, *, ours: bool) -> None:
        if len(self._routes) >= _ROUTES:
            raise os_error(errno.ENOBUFS, "routes")
        clash = any(
            not nic.scope and length < len(address) * 8 and Prefix.of(address, length) == route.prefix
            for device, nic in self._nics.items()
            for address, length in self._addresses.get(device, ())
        )
        if route.prefix in self._routes or clash:
            raise os_error(errno.EEXIST, str(route.prefix))
        if route.via and not route.device:
            way = self._connected(route.via)
            if way is None:
                raise os_error(errno.ENETUNREACH, f"{route.prefix} via {format_address(route.via)}")
            route = HostRoute(route.prefix, route.via, way.nic.name, route.source)
        self.nic(route.device)
        self._routes[route.prefix] = (route, ours)
        self._log(f"route {route.prefix} via {format_address(route.via)} dev {route.device}")
        self._stale()

    def is_local(self, address: bytes, scope: str) -> bool:
        return (scope, address) in self._local or (not scope and len(address) == 4 and address[0] == 127)

    def first_address(self, nic: Nic, like: bytes) -> bytes:
        """An address of the device to speak to `like` from: same family, link-local only to link-local."""
        held = [address for address, _ in self._addresses.get(nic.name, ()) if len(address) == len(like)]
        alike = [address for address in held if p.link_local(address) == p.link_local(like)]
        return alike[0] if alike else b""

    def source_for(self, nic: Nic, destination: bytes) -> bytes:
        """As `first_address`, else any address of the node that fits: unnumbered devices borrow one."""
        here = self.first_address(nic, destination)
        if here or p.link_local(destination):
            return here
        others = (other for other in self._nics.values() if other.scope == nic.scope and other.name != "lo")
        found = next((address for other in others if (address := self.first_address(other, destination))), b"")
        lo = [address for address, _ in self._addresses.get("lo", ()) if len(address) == len(destination)]
        return found or next((address for address in lo if address not in (_LOOPBACK[0][0], _LOOPBACK[1][0])), b"")

    def route(self, destination: bytes, scope: str = "") -> Hop | None:
        """The way to `destination` (not a local address), or None."""
        if scope:
            port = self.scope_nic(scope)
            return Hop(port, destination, self.first_address(port, destination)) if port and port.up else None
        if destination not in self._cache:
            if len(self._cache) >= _CACHED:
                self._cache.clear()
            self._cache[destination] = self._look_up(destination)
        return self._cache[destination]

    def changed(self) -> None:
        """A device or an address changed: tell the watcher."""
        self._stale()
        if self._changed is not None and self._notice is None:
            self._notice = asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._notice = None
        if self._changed is not None:
            self._changed()

    # --- look-up ---

    def _look_up(self, destination: bytes) -> Hop | None:
        if p.link_local(destination) or p.multicast(destination):
            nic = next((nic for nic in self._nics.values() if nic.mac and nic.up), None)
            return Hop(nic, destination, self.first_address(nic, destination)) if nic else None
        way = self._match(destination)
        if way is None:
            return None
        source = way.source or self.source_for(way.nic, destination)
        return Hop(way.nic, way.via or destination, source)

    def _match(self, destination: bytes) -> _Way | None:
        if self._tables is None:
            self._tables = self._build()
        bits = len(destination) * 8
        value = int.from_bytes(destination)
        for size, length, table in self._tables:
            if size == bits:
                way = table.get(value >> (bits - length))
                if way is not None:
                    return way
        return None

    def _connected(self, address: bytes) -> _Way | None:
        """The device that has `address` on its subnet, whether it is up or not."""
        return next(
            (
                _Way(self._nics[device], b"", own)
                for device, own, length in self.addresses()
                if not self._nics[device].scope and length < len(own) * 8 and Prefix.of(own, length).covers(address)
            ),
            None,
        )

    def _build(self) -> list[tuple[int, int, dict[int, _Way]]]:
        tables: dict[tuple[int, int], dict[int, _Way]] = {}
        for route, _ in self.routes():
            nic = self._nics[route.device]
            if not nic.up or p.link_local(route.prefix.network):
                continue
            bits = len(route.prefix.network) * 8
            value = int.from_bytes(route.prefix.network) >> (bits - route.prefix.length)
            table = tables.setdefault((bits, route.prefix.length), {})
            table.setdefault(value, _Way(nic, route.via, route.source))  # connected ones come first, and win
        return [(*key, tables[key]) for key in sorted(tables, reverse=True)]

    def _stale(self) -> None:
        self._tables = None
        self._cache.clear()

    def _relocate(self, scope: str, address: bytes) -> None:
        """`address` left a device: another one of the scope may still have it."""
        self._local.pop((scope, address), None)
        for device, nic in self._nics.items():
            if nic.scope == scope and any(address == held for held, _ in self._addresses.get(device, ())):
                self._local[scope, address] = device
                return

    def _log(self, what: str) -> None:
        self.log.append(what)
