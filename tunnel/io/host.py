"""The kernel mirror: makes the host's own tables hold what the engine wants, and no more.

What stood there before is adopted and never removed. Routes carry our protocol number, so that after a kill -9 the next
start finds and sweeps them; host ports vanish with their process and take their addresses along. A change that the host
refuses is counted, logged once, and tried again with the next change of the host or of the wanted state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field

from stack.addr import format_address
from stack.net import Host, HostRoute
from tunnel.engine.mirror import HostState

__all__ = ["HostMirror"]


@define(eq=False)
class HostMirror:
    """`log` is a structlog logger. `refused` maps what the host refused to the reason."""

    host: Host
    log: Any
    refused: dict[str, str] = field(factory=dict)
    _addresses: set[tuple[str, bytes, int]] = field(factory=set)
    _routes: set[HostRoute] = field(factory=set)
    _drops: dict[str, tuple[frozenset[int | None], Callable[[], None]]] = field(factory=dict)
    _state: HostState = field(factory=HostState)

    def sweep(self) -> None:
        """Remove routes of ours that an earlier process left."""
        for route, ours in list(self.host.routes()):
            if ours:
                self._try(f"remove route {route.prefix}", self.host.remove_route, route)

    def apply(self, state: HostState) -> None:
        self._state = state
        self.retry()

    def retry(self) -> None:
        """Bring the host to the wanted state, as far as it is not there."""
        self._apply_drops()
        present = set(self.host.addresses())
        self._apply_addresses(present)
        self._apply_routes()

    def _apply_drops(self) -> None:
        devices = {device.name for device in self.host.devices()}
        for device in [device for device in self._drops if self._drops[device][0] != self._state.drops.get(device)]:
            self._drops.pop(device)[1]()
        for device, vlans in self._state.drops.items():
            if device in self._drops or device not in devices:
                continue
            undo = self._try(f"drop on {device}", lambda d=device, v=vlans: self.host.drop_ingress(d, vlans=v))
            if undo is not None:
                self._drops[device] = (vlans, undo)

    def _apply_addresses(self, present: set[tuple[str, bytes, int]]) -> None:
        wanted = self._state.addresses
        for row in self._addresses - wanted:
            self._try(f"remove address {format_address(row[1])}", self.host.remove_address, *row)
        self._addresses &= wanted
        self._addresses &= present
        for row in wanted - present:
            device, address, _ = row
            if self._try(f"add address {format_address(address)} to {device}", self._add_address, *row):
                self._addresses.add(row)

    def _add_address(self, device: str, address: bytes, length: int) -> bool:
        self.host.add_address(device, address, length)
        return True

    def _apply_routes(self) -> None:
        for route in self._routes - self._state.routes:
            self._try(f"remove route {route.prefix}", self.host.remove_route, route)
        self._routes &= self._state.routes
        wanted = self._state.routes - self._routes
        if not wanted:
            return
        standing = {(route.prefix, route.via, route.device) for route, ours in self.host.routes() if not ours}
        for route in wanted:
            if (route.prefix, route.via, route.device) in standing:
                continue  # adopted: it was there before us and stays after us
            if self._try(f"add route {route.prefix}", self._add_route, route):
                self._routes.add(route)

    def _add_route(self, route: HostRoute) -> bool:
        self.host.add_route(route)
        return True

    def _try(self, what: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """What `work` returns; None if the host refused."""
        try:
            result = work(*arguments)
        except OSError as error:
            reason = error.strerror or str(error)
            if self.refused.get(what) != reason:
                self.log.warning("the host refused", what=what, reason=reason)
            self.refused[what] = reason
            return None
        self.refused.pop(what, None)
        return result

    def close(self) -> None:
        """Take back everything that is ours."""
        self.apply(HostState())
