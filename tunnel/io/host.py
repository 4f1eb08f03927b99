"""The kernel mirror: makes the host's own tables hold what the engine wants, and no more.

What stood there before is adopted and never removed. Routes carry our protocol number, addresses our mark where the kernel
has one, so that after a kill -9 the next start finds and sweeps them; host ports vanish with their process and take their
addresses along. A change that the host refuses is logged once, listed in `refused`, and tried again with the next change of
the host or of the wanted state.

The mirror outlives the control service: what it has put into the host is remembered here and nowhere else. While a new
incarnation is still being told what is wanted (`hold`), nothing is taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable

from attrs import define, field

from stack.addr import format_address
from stack.net import Device, Host, HostRoute
from tunnel.engine.mirror import HostState

__all__ = ["HostMirror"]

AddressKey = tuple[str, bytes, int]
"""(device, address, length)."""

Vlans = frozenset[int | None]


class _Mark(Protocol):
    device: str
    address: bytes
    length: int


@runtime_checkable
class _Marking(Protocol):
    """A host whose addresses tell who added them."""

    def ours(self) -> tuple[Iterable[_Mark], Iterable[HostRoute]]: ...


@define
class _Drop:
    """A device whose customer packets are kept from the kernel. `index` tells the device from a later one of its name."""

    index: int
    vlans: Vlans
    undo: Callable[[], None]


@define(eq=False)
class HostMirror:
    """`log` is a structlog logger. `refused` maps what the host refuses now to the reason; it is no longer than what is
    wanted. `hold`: only add."""

    host: Host
    log: Any
    hold: bool = False
    refused: dict[str, str] = field(factory=dict)
    _known: dict[str, str] = field(factory=dict)
    _addresses: set[AddressKey] = field(factory=set)
    _indexes: dict[str, int] = field(factory=dict)
    _routes: set[HostRoute] = field(factory=set)
    _drops: dict[str, _Drop] = field(factory=dict)
    _state: HostState = field(factory=HostState)

    def sweep(self) -> None:
        """Remove routes of ours that an earlier process left, and take over its addresses: `apply` removes them if nobody
        wants them any more."""
        for route, ours in self._try("read routes", lambda: list(self.host.routes())) or ():
            if ours:
                self._try(f"remove route {route.prefix}", self.host.remove_route, route)
        host: object = self.host
        if isinstance(host, _Marking):
            marked, _ = self._try("read addresses", host.ours) or ((), ())
            self._addresses.update((each.device, each.address, each.length) for each in marked)

    def apply(self, state: HostState) -> None:
        self._state = state
        self.retry()

    def retry(self) -> None:
        """Bring the host to the wanted state, as far as it is not there."""
        self._known, self.refused = self.refused, {}
        devices = self._try("read devices", self.host.devices)
        if devices is not None:
            self._forget_gone({device.name: device.index for device in devices})
            self._apply_drops({device.name: device for device in devices})
        present = self._try("read addresses", lambda: set(self.host.addresses()))
        if present is not None:
            self._apply_addresses(present)
        self._apply_routes()

    def close(self) -> None:
        """Take back everything that is ours."""
        self.hold = False
        self.apply(HostState())

    def _forget_gone(self, indexes: dict[str, int]) -> None:
        """An address goes with its device: what stands on a later one of that name is somebody else's."""
        before, self._indexes = self._indexes, indexes
        self._addresses = {
            row
            for row in self._addresses
            if row[0] in indexes and before.get(row[0], indexes[row[0]]) == indexes[row[0]]
        }

    # --- customer packets that the kernel must not see --------------------------------------------------------------

    def _apply_drops(self, devices: dict[str, Device]) -> None:
        for name in [name for name, drop in self._drops.items() if not _is_there(devices.get(name), drop)]:
            self._undo(name)  # the device went, and its filter with it; one of the same name is another device
        for name, vlans in self._state.drops.items():
            standing = self._drops.get(name)
            if name not in devices or (standing is not None and standing.vlans == vlans):
                continue
            undo = self._try(f"drop on {name}", self.host.drop_ingress, name, vlans=vlans)
            if undo is not None:
                self._undo(name)  # after the new one stands: no packet slips through between them
                self._drops[name] = _Drop(devices[name].index, vlans, undo)
        if not self.hold:
            for name in [name for name in self._drops if name not in self._state.drops]:
                self._undo(name)

    def _undo(self, name: str) -> None:
        if drop := self._drops.pop(name, None):
            self._try(f"end drop on {name}", drop.undo)

    # --- addresses ----------------------------------------------------------------------------------------------------

    def _apply_addresses(self, present: set[AddressKey]) -> None:
        wanted = self._state.addresses
        self._addresses &= present
        if not self.hold:
            for row in self._addresses - wanted:
                what = f"remove address {format_address(row[1])} from {row[0]}"
                if self._does(what, self.host.remove_address, *row):
                    self._addresses.discard(row)
        for row in wanted - present:
            if self._does(f"add address {format_address(row[1])} to {row[0]}", self.host.add_address, *row):
                self._addresses.add(row)

    # --- routes -------------------------------------------------------------------------------------------------------

    def _apply_routes(self) -> None:
        """Routes go without notice when the kernel takes their device down, so the host is asked what it really has."""
        wanted = self._state.routes
        if not wanted and not self._routes:
            return
        rows = self._try("read routes", lambda: list(self.host.routes()))
        if rows is None:
            return
        ours = {_key(route) for route, mine in rows if mine}
        others = {_key(route) for route, mine in rows if not mine}
        self._routes = {route for route in self._routes if _key(route) in ours}
        replaced = {route.prefix for route in wanted}
        for route in self._routes - wanted:
            if self.hold and route.prefix not in replaced:
                continue
            if self._does(f"remove route {route.prefix}", self.host.remove_route, route):
                self._routes.discard(route)
        for route in wanted - self._routes:
            if _key(route) in others:
                continue  # adopted: it was there before us and stays after us
            if self._does(f"add route {route.prefix}", self.host.add_route, route):
                self._routes.add(route)

    # --- what the host refuses ----------------------------------------------------------------------------------------

    def _does(self, what: str, work: Callable[..., None], *arguments: Any) -> bool:
        """Whether the host did it."""

        def done() -> bool:
            work(*arguments)
            return True

        return self._try(what, done) is True

    def _try(self, what: str, work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """What `work` returns; None if the host refused."""
        try:
            return work(*arguments, **named)
        except OSError as error:
            reason = error.strerror or str(error)
            if self._known.get(what) != reason:
                self.log.warning("the host refused", what=what, reason=reason)
            self.refused[what] = reason
            return None


def _is_there(device: Device | None, drop: _Drop) -> bool:
    return device is not None and device.index == drop.index


def _key(route: HostRoute) -> tuple[Any, ...]:
    """A route without its source, which the kernel may have filled in."""
    return route.prefix, route.via, route.device
