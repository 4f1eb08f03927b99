"""What the speaker knows of one peer: its IKE SAs (two while one is rekeyed) and all that hangs on them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import define, field

from ikev2.config import AuthorizationPolicy, RouteAccept
from ikev2.engine.contract import AccessRequest, Ends
from ikev2.engine.sa import IkeSa
from ikev2.wire.payloads import Attribute, Identity
from stack.addr import Prefix
from stack.events import SaKey
from stack.tables.sad import Sa

__all__ = ["Carriers", "Child", "Peer"]


@define(eq=False)
class Child:
    key: SaKey
    number: int
    inbound: Sa
    outbound: Sa
    since: float


@define(eq=False)
class Peer:
    """`number`: of its IKE SA, which rekeys keep. `key`: the wanted neighbour that it was started for. `holder`: profile and
    identity, once proved. `leases`: (pool, address). `inbound`: SPIs in the SAD."""

    number: int
    ends: Ends
    initiator: bool
    since: float
    profile: str = ""
    ipsec: str = ""
    key: SaKey | None = None
    asks_address: bool = False
    """It was begun for a tunnel that asks for its address."""
    sas: list[IkeSa] = field(factory=list)
    spis: set[bytes] = field(factory=set)
    home: bytes = b""
    """Where it was when it began, and has shown to receive: whose neighbour it is does not change when a NAT, or who says that
    there is one, moves it."""
    init: bytes = b""
    identity: Identity | None = None
    text: str = ""
    holder: tuple[str, bytes] = ("", b"")
    certificate: Any = None
    established: float | None = None
    flexvpn: bool = False
    policy: AuthorizationPolicy | None = None
    request: AccessRequest | None = None
    asking: bool = False
    """The embedder has yet to say whether it may come in."""
    interface: str = ""
    access: str = ""
    template: str = ""
    leases: list[tuple[str, bytes]] = field(factory=list)
    assigned: tuple[bytes, ...] = ()
    received: tuple[bytes, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    """Of its CFG_REPLY."""
    set_attributes: tuple[Attribute, ...] = ()
    """Of its last CFG_SET."""
    routes: tuple[Prefix, ...] = ()
    refused: dict[Prefix, str] = field(factory=dict)
    accept: RouteAccept | None = None
    """Whether and how its routes are taken."""
    pushed: tuple[Attribute, ...] = ()
    children: dict[int, Child] = field(factory=dict)
    inbound: set[int] = field(factory=set)
    outbound: set[tuple[SaKey, int]] = field(factory=set)
    reserved: set[int] = field(factory=set)
    closing: str = ""
    """Why it is being ended by us."""
    doomed: str = ""
    """Why it is to be ended as soon as we have its answer to IKE_AUTH: the peer believes by then that all is well."""
    lingers: bool = False
    """What it holds in the SAD may still be used for what is in flight."""
    checked: float = -1e9
    doubted: bool = False
    """It may have lost its IKE SAs: a new one has been begun beside this one."""

    def __attrs_post_init__(self) -> None:
        self.home = self.home or self.ends.remote

    @property
    def sa(self) -> IkeSa:
        """The newest that has taken over."""
        return self.sas[-1]

    @property
    def remote(self) -> bytes:
        return self.ends.remote

    @property
    def place(self) -> tuple[str, bytes]:
        """Where it is: VRF and address."""
        return self.ends.vrf, self.ends.remote


@define(eq=False)
class Carriers:
    """By which outbound SAs each neighbour can be reached, one a peer, the one that it is sent to last."""

    _by_key: dict[SaKey, list[tuple[int, Sa]]] = field(factory=dict)
    _by_spi: dict[int, set[int]] = field(factory=dict)
    """The peer's SPI -> peers. Peers choose them, so several may have the same."""

    def put(self, peer: int, sa: Sa) -> int | None:
        """It is sent to by `sa` from now on. What the same peer sent by until now is forgotten: its SPI, if there was one."""
        carriers = self._by_key.setdefault(sa.key, [])
        before = next((one.spi for number, one in carriers if number == peer), None)
        carriers[:] = [*(one for one in carriers if one[0] != peer), (peer, sa)]
        if before is not None:
            self._unlist(before, peer)
        self._by_spi.setdefault(sa.spi, set()).add(peer)
        return before

    def remove(self, peer: int, key: SaKey, spi: int) -> tuple[bool, Sa | None]:
        """Whether the neighbour was sent to by that SA, and the one that is left for it, if any."""
        carriers = self._by_key.get(key)
        if not carriers:
            return False, None
        current = carriers[-1][1].spi == spi and carriers[-1][0] == peer
        self._drop(key, spi, peer)
        left = self._by_key.get(key)
        return current, left[-1][1] if left else None

    def _drop(self, key: SaKey, spi: int, peer: int) -> None:
        carriers = self._by_key.get(key)
        if carriers is None:
            return
        left = [one for one in carriers if one[0] != peer or one[1].spi != spi]
        if len(left) < len(carriers):
            self._unlist(spi, peer)
        carriers[:] = left
        if not carriers:
            del self._by_key[key]

    def _unlist(self, spi: int, peer: int) -> None:
        peers = self._by_spi.get(spi, set())
        peers.discard(peer)
        if not peers:
            self._by_spi.pop(spi, None)

    def by_spi(self, spi: int) -> list[int]:
        return list(self._by_spi.get(spi, ()))

    def current(self, key: SaKey) -> tuple[int, Sa] | None:
        """(peer, SA)."""
        carriers = self._by_key.get(key)
        return carriers[-1] if carriers else None

    def peers(self, key: SaKey) -> list[int]:
        return list(dict.fromkeys(peer for peer, _ in self._by_key.get(key, ())))

    def __iter__(self) -> Iterator[SaKey]:
        return iter(list(self._by_key))
