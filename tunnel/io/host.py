"""The kernel mirror: makes the host's own tables hold what the engine wants, and no more.

What stood there before is adopted and never removed. Routes carry our protocol number, addresses our mark where the kernel
has one, so that after a kill -9 the next start finds and sweeps them; host ports vanish with their process and take their
addresses along. A change that the host refuses is logged once, listed in `refused`, and tried again with the next change of
the host or of the wanted state.

Routes may be 100,000. So only those that changed are touched, at most BURST in one turn (`work`), and what the kernel really
has is read (`reconcile`) only when `stale` says that it may be otherwise than we think.

The mirror outlives the control service: what it has put into the host is remembered here and nowhere else. While a new
incarnation is still being told what is wanted (`hold`), nothing is taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

from attrs import define, field

from stack.addr import Prefix, format_address
from stack.net import Device, Host, HostRoute
from tunnel.engine.mirror import HostChange, HostState

__all__ = ["BURST", "HostMirror"]

BURST = 500
"""Routes that are changed in one turn of the loop; the others wait for the next."""

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
    """`log` is a structlog logger. `hold`: only add. `stale`: the kernel's routes should be read again. `clash`: somebody
    has put a route there since; nothing goes on before that has been read, for to be refused so is dear."""

    host: Host
    log: Any
    hold: bool = False
    stale: bool = True
    clash: bool = False
    _refused: dict[str, str] = field(factory=dict)
    _known: dict[str, str] = field(factory=dict)
    _addresses: set[AddressKey] = field(factory=set)
    _indexes: dict[str, int] = field(factory=dict)
    _drops: dict[str, _Drop] = field(factory=dict)
    _local: HostChange = field(factory=HostChange)
    _wanted: dict[Prefix, HostRoute] = field(factory=dict)
    _routes: dict[Prefix, HostRoute] = field(factory=dict)
    _others: dict[Prefix, set[tuple[Any, ...]]] = field(factory=dict)
    _pending: dict[Prefix, None] = field(factory=dict)
    _refused_routes: dict[Prefix, dict[str, str]] = field(factory=dict)

    @property
    def refused(self) -> dict[str, str]:
        """What the host refuses now, and the reason; no longer than what is wanted."""
        return {
            **self._refused,
            **{what: reason for each in self._refused_routes.values() for what, reason in each.items()},
        }

    @property
    def busy(self) -> bool:
        """Whether routes wait for `work`."""
        return bool(self._pending) and not self.clash

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
        """The whole state that is wanted from now on."""
        self._local = HostChange(state.addresses, state.drops)
        self._wanted = {route.prefix: route for route in state.routes}
        self.retry()

    def change(self, change: HostChange) -> None:
        """What is wanted now and was not before."""
        if (change.addresses, change.drops) != (self._local.addresses, self._local.drops):
            self._local = HostChange(change.addresses, change.drops)
            self.retry_local()
        for prefix, route in change.routes.items():
            if route is None:
                self._wanted.pop(prefix, None)
            else:
                self._wanted[prefix] = route
            self._pending[prefix] = None
        self.work()

    def retry(self) -> None:
        """Bring the host to the wanted state, as far as it is not there."""
        self.retry_local()
        self.reconcile(self.read_routes())
        self.work()

    def retry_local(self) -> None:
        """What hangs on devices: addresses and filters at once, and the routes that were refused, in their turn."""
        self._known, self._refused = self._refused, {}
        devices = self._try("read devices", self.host.devices)
        if devices is not None:
            self._forget_gone({device.name: device.index for device in devices})
            self._apply_drops({device.name: device for device in devices})
        present = self._try("read addresses", lambda: set(self.host.addresses()))
        if present is not None:
            self._apply_addresses(present)
        self._pending.update(dict.fromkeys(self._refused_routes))

    def close(self) -> None:
        """Take back everything that is ours."""
        self.hold = False
        self.apply(HostState())
        for prefix in self._pending:
            self._apply_route(prefix)
        self._pending.clear()

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
        for name, vlans in self._local.drops.items():
            standing = self._drops.get(name)
            if name not in devices or (standing is not None and standing.vlans == vlans):
                continue
            undo = self._try(f"drop on {name}", self.host.drop_ingress, name, vlans=vlans)
            if undo is not None:
                self._undo(name)  # after the new one stands: no packet slips through between them
                self._drops[name] = _Drop(devices[name].index, vlans, undo)
        if not self.hold:
            for name in [name for name in self._drops if name not in self._local.drops]:
                self._undo(name)

    def _undo(self, name: str) -> None:
        if drop := self._drops.pop(name, None):
            self._try(f"end drop on {name}", drop.undo)

    # --- addresses ----------------------------------------------------------------------------------------------------

    def _apply_addresses(self, present: set[AddressKey]) -> None:
        wanted = self._local.addresses
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

    def read_routes(self) -> list[tuple[HostRoute, bool]] | None:
        """All that the kernel has, and whether it is ours; None if it would not say."""
        self.stale = True
        rows: list[tuple[HostRoute, bool]] | None = self._try("read routes", lambda: list(self.host.routes()))
        if rows is not None:
            self._refused.pop("read routes", None)
            self.stale = False
        return rows

    def reconcile(self, rows: Iterable[tuple[HostRoute, bool]] | None) -> None:
        """Routes go without notice when the kernel takes their device down: believe what `read_routes` found."""
        self.clash = False
        if rows is None:
            return
        ours: dict[Prefix, set[tuple[Any, ...]]] = {}
        self._others = {}
        for route, mine in rows:
            (ours if mine else self._others).setdefault(route.prefix, set()).add(_key(route))
        self._routes = {prefix: route for prefix, route in self._routes.items() if _key(route) in ours.get(prefix, ())}
        differ = [prefix for prefix, route in self._wanted.items() if self._routes.get(prefix) != route]
        differ += [prefix for prefix in self._routes if prefix not in self._wanted]
        self._pending.update(dict.fromkeys(differ))

    def work(self) -> None:
        """Bring the routes of up to BURST prefixes to what is wanted; `busy` tells whether others wait."""
        for _ in range(min(BURST, len(self._pending))):
            if self.clash:
                return
            prefix = next(iter(self._pending))
            del self._pending[prefix]
            self._apply_route(prefix)

    def _apply_route(self, prefix: Prefix) -> None:
        wanted, standing = self._wanted.get(prefix), self._routes.get(prefix)
        known = self._refused_routes.pop(prefix, None)
        if wanted == standing or (wanted is None and self.hold):
            return
        refused: dict[str, str] = {}
        removal, addition = f"remove route {prefix}", f"add route {prefix}"
        if standing and self._route_does(removal, self._remove, standing, known, refused):
            del self._routes[prefix]
        # What others have there already is adopted: it was there before us, and stays after us.
        adopted = wanted is not None and _key(wanted) in self._others.get(prefix, ())
        if wanted and not adopted and self._route_does(addition, self.host.add_route, wanted, known, refused):
            self._routes[prefix] = wanted
        if refused:
            self._refused_routes[prefix] = refused
            self.stale = True

    def _remove(self, route: HostRoute) -> None:
        with suppress(ProcessLookupError):  # the kernel took it along with its device
            self.host.remove_route(route)

    def _route_does(
        self,
        what: str,
        work: Callable[[HostRoute], None],
        route: HostRoute,
        known: dict[str, str] | None,
        refused: dict[str, str],
    ) -> bool:
        try:
            work(route)
        except OSError as error:
            self.clash = self.clash or (isinstance(error, FileExistsError) and route.prefix not in self._others)
            reason = refused[what] = error.strerror or str(error)
            if known is None or known.get(what) != reason:
                self.log.warning("the host refused", what=what, reason=reason)
            return False
        return True

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
            self._refused[what] = reason
            return None


def _is_there(device: Device | None, drop: _Drop) -> bool:
    return device is not None and device.index == drop.index


def _key(route: HostRoute) -> tuple[Any, ...]:
    """A route of some prefix without its source, which the kernel may have filled in."""
    return route.via, route.device
