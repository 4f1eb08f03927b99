"""The table of bindings: which overlay address is at which NBMA address, who says so, and for how long."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import define, field

from nhrp.engine.node import Node
from nhrp.engine.snapshot import BindingSnapshot
from stack.addr import Prefix

__all__ = ["Binding", "Bindings", "Source"]


@define(eq=False)
class Bindings:
    node: Node
    gone: list[Callable[["Binding", str], None]] = field(factory=list)

    def find(self, network: int, address: bytes) -> "Binding | None": ...
    def on(self, interface: str, address: bytes) -> "Binding | None":
        """find, by an interface of the network."""

    def learn(
        self,
        interface: str,
        address: bytes,
        nbma: bytes,
        holding_time: int,
        *,
        claimed: bytes = b"",
        nat: bool = False,
        stable: bool = True,
        mtu: int = 0,
    ) -> "Binding | None":
        """A requester (RFC 2332 6.2.1): only if its S bit (`stable`) is set and the holding time is not 0 (N06), never over a
        registration or a static map. None: not learned (counted). Claims the endpoint and, if need be, a host route."""

    def unlearn(self, interface: str, address: bytes, reason: str = "cleared") -> None: ...
    def of(self, interface: str) -> "Iterator[Binding]": ...
    def at(self, interface: str, nbma: bytes) -> "tuple[Binding, ...]": ...
    def inside(self, interface: str, prefix: Prefix) -> "list[Binding]": ...
    def __len__(self) -> int: ...
    @property
    def full(self) -> bool:
        """config.cache_limit is reached, by these and `others()` (set by whoever keeps other entries)."""

    def clear(self, address: bytes | None = None) -> int:
        """`clear ip nhrp`: dynamic ones."""

    def due(self, key: tuple) -> None:
        """Timer keys ("binding", (network, address))."""

    def interface_changed(self, name: str) -> None: ...
    def reconfigured(self) -> None: ...
    def snapshot(self) -> tuple[BindingSnapshot, ...]: ...
    def stop(self) -> None: ...
