"""Rows that every packet is held against, found without looking at all of them: a hub has ten thousand peers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple

from stack.addr import DEFAULT_VRF
from stack.events import Interface, OverlayRow, TunnelRow

__all__ = ["NO_NETWORK", "Interfaces", "Network", "Overlays", "Tunnels"]


class Network(NamedTuple):
    """An NHRP network: interfaces of one VRF that have the same `network-id`. Overlay addresses mean something in their VRF
    only, so two VRFs that use one id are two networks. False: in none."""

    number: int
    vrf: str

    def __bool__(self) -> bool:
        return bool(self.number)

    @classmethod
    def of(cls, interface: Interface) -> Network:
        return cls(interface.row.network_id, interface.vrf) if interface.row.network_id else NO_NETWORK


NO_NETWORK = Network(0, DEFAULT_VRF)


class Overlays(MutableMapping[tuple[str, bytes], OverlayRow]):
    """(interface, overlay address) -> the peer that it is assigned to; also by interface and transport, and by address."""

    def __init__(self, rows: Mapping[tuple[str, bytes], OverlayRow] | None = None) -> None:
        self._rows: dict[tuple[str, bytes], OverlayRow] = {}
        self._behind: dict[tuple[str, bytes], dict[bytes, OverlayRow]] = {}
        self._on: dict[str, dict[bytes, OverlayRow]] = {}
        self._at: dict[bytes, dict[str, OverlayRow]] = {}
        self.update(rows or {})

    def __getitem__(self, key: tuple[str, bytes]) -> OverlayRow:
        return self._rows[key]

    def __setitem__(self, key: tuple[str, bytes], row: OverlayRow) -> None:
        self.pop(key, None)
        interface, address = key
        self._rows[key] = row
        self._behind.setdefault((interface, row.transport), {})[address] = row
        self._on.setdefault(interface, {})[address] = row
        self._at.setdefault(address, {})[interface] = row

    def __delitem__(self, key: tuple[str, bytes]) -> None:
        row = self._rows.pop(key)
        interface, address = key
        _take(self._behind, (interface, row.transport), address)
        _take(self._on, interface, address)
        _take(self._at, address, interface)

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def behind(self, interface: str, transport: bytes) -> Mapping[bytes, OverlayRow]:
        """Address -> row, of the peer at `transport`."""
        return self._behind.get((interface, transport), {})

    def on(self, interface: str) -> Mapping[bytes, OverlayRow]:
        return self._on.get(interface, {})

    def at(self, address: bytes) -> Mapping[str, OverlayRow]:
        """Interface -> row, of whoever has that address."""
        return self._at.get(address, {})


class Interfaces(MutableMapping[str, Interface]):
    """Name -> interface; also by own address, and by NHRP network."""

    def __init__(self, rows: Mapping[str, Interface] | None = None) -> None:
        self._rows: dict[str, Interface] = {}
        self._own: dict[tuple[str, bytes], dict[str, None]] = {}
        self._members: dict[Network, dict[str, None]] = {}
        self.update(rows or {})

    def __getitem__(self, name: str) -> Interface:
        return self._rows[name]

    def __setitem__(self, name: str, row: Interface) -> None:
        before = self._rows.get(name)
        if before is not None:
            self._forget(before)
        self._rows[name] = row
        for address in row.addresses:
            self._own.setdefault((row.vrf, address), {})[name] = None
        if row.row.network_id:
            self._members.setdefault(Network.of(row), {})[name] = None

    def __delitem__(self, name: str) -> None:
        self._forget(self._rows.pop(name))

    def _forget(self, row: Interface) -> None:
        for address in row.addresses:
            _take(self._own, (row.vrf, address), row.name)
        if row.row.network_id:
            _take(self._members, Network.of(row), row.name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def own(self, vrf: str, address: bytes) -> Iterable[str]:
        """The interfaces that have `address` for their own."""
        return self._own.get((vrf, address), ())

    def members(self, network: Network) -> Iterable[str]:
        return self._members.get(network, ())


class Tunnels(MutableMapping[str, TunnelRow]):
    """Name -> tunnel; also by the addresses of its ends."""

    def __init__(self, rows: Mapping[str, TunnelRow] | None = None) -> None:
        self._rows: dict[str, TunnelRow] = {}
        self._ends: dict[tuple[str, bytes], dict[str, None]] = {}
        self.update(rows or {})

    def __getitem__(self, name: str) -> TunnelRow:
        return self._rows[name]

    def __setitem__(self, name: str, row: TunnelRow) -> None:
        self.pop(name, None)
        self._rows[name] = row
        for address in {row.local, row.remote} - {b""}:
            self._ends.setdefault((row.vrf, address), {})[name] = None

    def __delitem__(self, name: str) -> None:
        row = self._rows.pop(name)
        for address in {row.local, row.remote} - {b""}:
            _take(self._ends, (row.vrf, address), name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def is_end(self, vrf: str, address: bytes) -> bool:
        """Whether a tunnel begins or ends at `address`, in transport VRF `vrf`."""
        return (vrf, address) in self._ends


def _take(index: dict[Any, dict[Any, Any]], key: Any, member: Any) -> None:
    members = index[key]
    members.pop(member, None)
    if not members:
        del index[key]
