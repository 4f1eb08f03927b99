"""Remote PEs: next hops of the VPN routes in Adj-RIB-In, imported or not, by use.

One-way VPNs are legitimate, so a PE whose routes nobody imports may still send to us: it is an endpoint too.
"""

from __future__ import annotations

from attrs import define, field

from stack.events import L3VPN_TUNNEL, EndpointRow

__all__ = ["Endpoints"]


@define(eq=False)
class Endpoints:
    """Address (IPv4: the transport network is) -> how many VPN routes have it as next hop."""

    uses: dict[bytes, int] = field(factory=dict)
    changed: set[bytes] = field(factory=set)
    own: frozenset[bytes] = frozenset()
    _offered: dict[bytes, EndpointRow] = field(factory=dict)

    def add(self, address: bytes, count: int) -> None:
        """`count` more routes (or fewer, if negative)."""
        uses = self.uses.get(address, 0) + count
        if uses:
            self.uses[address] = uses  # below 0 while a message that names a route twice is read
        else:
            self.uses.pop(address, None)
        self.changed.add(address)

    def set_own(self, own: frozenset[bytes]) -> None:
        self.changed |= (self.own ^ own) & self.uses.keys()
        self.own = own

    def rows(self) -> dict[tuple[str, bytes], EndpointRow | None]:
        """What to publish as EndpointOffered since the last call."""
        rows: dict[tuple[str, bytes], EndpointRow | None] = {}
        for address in self.changed:
            offered = self._offered.get(address)
            uses = self.uses.get(address, 0)
            row = EndpointRow(address, uses) if uses > 0 and len(address) == 4 and address not in self.own else None
            if row == offered:
                continue
            rows[L3VPN_TUNNEL, address] = row
            if row is None:
                del self._offered[address]
            else:
                self._offered[address] = row
        self.changed.clear()
        return rows
