"""By which kinds of ingress our labels may come back (RFC 4023 8.1): those by which the neighbours who get them send.

A label that was given only to peers who reach us by IPsec must not be taken from anything else. A VPN neighbour sends by the
tunnel on which we reach it, or by the L3VPN profile's tunnel. What is not known yet counts as nothing; where nothing is known
a node that protects any tunnel takes labels by protected ones only, until a neighbour shows otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from attrs import define, field

from stack.addr import DEFAULT_VRF
from stack.events import SCOPE_ETHERNET, SCOPE_MGRE, SCOPE_PROTECTED, Interface, NextHopKey, NextHopRow, ProfileRow

__all__ = ["OPEN", "PROTECTED", "Scopes"]

OPEN = frozenset((SCOPE_MGRE, SCOPE_ETHERNET))
PROTECTED = frozenset((SCOPE_PROTECTED,))
_NOTHING: frozenset[str] = frozenset()

PeerKey = tuple[str, bytes]


@define(eq=False)
class Scopes:
    """`peers`: VPN neighbours that are up, and their addresses. `known` false: after a restart, until interfaces have been
    told, so that it is not seen yet whether the node protects anything. Bounded by the neighbours and the interfaces."""

    known: bool = True
    peers: dict[PeerKey, bytes] = field(factory=dict)
    _at: dict[bytes, set[PeerKey]] = field(factory=dict)
    _by: dict[bytes, str] = field(factory=dict)
    """Address of a neighbour -> the interface it is reached by, as far as it was ever known while it is up."""
    _over: dict[str, set[bytes]] = field(factory=dict)
    _protected: set[str] = field(factory=set)
    """Interfaces with protection, templates included."""
    _profiles: dict[str, ProfileRow] = field(factory=dict)
    changes: int = 0
    """Grows with every neighbour that comes or goes, or sends in another way."""
    _kinds: dict[bytes, frozenset[str]] = field(factory=dict)
    _counts: Counter[frozenset[str]] = field(factory=Counter)

    @property
    def scope(self) -> frozenset[str]:
        """Of all labels, unless they are told `apart`."""
        return PROTECTED if self._protects or not self.known else OPEN

    @property
    def apart(self) -> bool:
        """Whether labels differ: the node protects something, and has neighbours who send in clear."""
        return self._protects and OPEN in self._counts

    @property
    def _protects(self) -> bool:
        return bool(self._protected) or any(one.protected for one in self._profiles.values())

    def kind(self, address: bytes) -> frozenset[str]:
        """By what a neighbour sends; nothing while that is not known."""
        return self._kinds.get(address, _NOTHING)

    def join(self, key: PeerKey, address: bytes, row: NextHopRow | None) -> None:
        """A VPN neighbour is up; `row`: the way to it, if it is known."""
        if key in self.peers:
            return
        self.peers[key] = address
        self.changes += 1
        self._at.setdefault(address, set()).add(key)
        self._learn(address, row)

    def leave(self, key: PeerKey) -> None:
        address = self.peers.pop(key, None)
        if address is None:
            return
        self.changes += 1
        self._at[address].discard(key)
        if not self._at[address]:
            del self._at[address]
            self._leave_interface(address)
            self._set(address, None)

    def hops(self, rows: Mapping[NextHopKey, NextHopRow | None]) -> None:
        for key, row in rows.items():
            if key.address in self._at and key == NextHopKey(DEFAULT_VRF, key.address):
                self._learn(key.address, row)

    def interfaces(self, rows: Mapping[str, Interface | None]) -> None:
        for name, row in rows.items():
            protected = row is not None and bool(row.row.protection)
            if protected == (name in self._protected):
                continue
            (self._protected.add if protected else self._protected.discard)(name)
            self._judge(self._over.get(name, ()))

    def profiles(self, rows: Mapping[str, ProfileRow | None]) -> None:
        for name, row in rows.items():
            if row is None:
                self._profiles.pop(name, None)
            else:
                self._profiles[name] = row
        self._judge(self._at)

    def wanted(self) -> Iterable[NextHopKey]:
        """The ways that must be known."""
        return (NextHopKey(DEFAULT_VRF, address) for address in self._at)

    def _learn(self, address: bytes, row: NextHopRow | None) -> None:
        """A way that is lost for the moment is remembered: what is on its way to us came by it."""
        if row is not None and row.interface:
            self._leave_interface(address)
            self._by[address] = row.interface
            self._over.setdefault(row.interface, set()).add(address)
        self._judge((address,))

    def _leave_interface(self, address: bytes) -> None:
        name = self._by.pop(address, None)
        if name is not None:
            self._over[name].discard(address)
            if not self._over[name]:
                del self._over[name]

    def _judge(self, addresses: Iterable[bytes]) -> None:
        profile = next((one for one in self._profiles.values() if one.tunnel), None)
        for address in addresses:
            name = self._by.get(address)
            if name in self._protected or (profile is not None and profile.protected):
                self._set(address, PROTECTED)
            else:
                self._set(address, OPEN if name is not None else None)

    def _set(self, address: bytes, kind: frozenset[str] | None) -> None:
        old = self._kinds.pop(address, None)
        self.changes += old != kind
        if old is not None:
            self._counts[old] -= 1
            if not self._counts[old]:
                del self._counts[old]
        if kind is not None:
            self._kinds[address] = kind
            self._counts[kind] += 1
