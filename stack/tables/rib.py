"""The RIB of each VRF: the candidates of every owner, the best by distance, and one override slot a prefix.

Written by routing from RouteOffered. Readers may look with some owners left out: NHRP reads with `exclude={"nhrp"}`, so
that a shortcut never answers its own renewal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from attrs import define, field

from stack.addr import Afi, Prefix
from stack.events import Route
from stack.tables.table import WriteRule

__all__ = ["HOSTS", "Candidate", "Entry", "RibTable", "RibWriter", "preferred"]

HOSTS = "kernel"
"""Kind of the routes that the host has of its own."""


class Candidate(NamedTuple):
    """An owner's route; `usable` false while no next hop of it resolves, for `reason`; `next_hop` is the id in use. Usable
    with a reason: it leads into a protected tunnel that cannot be sent to, and stands so that its packets go nowhere else."""

    owner: str
    route: Route
    next_hop: int
    usable: bool
    reason: str
    since: float


def preferred(usable: Iterable[Candidate]) -> Candidate | None:
    """Of usable candidates in order of distance the first without a reason; one with a reason only if there is no other. What
    the host merely has, such as a default route of DHCP's, takes nothing over from a protected tunnel: nobody configured it
    for that, and it leads out in clear."""
    closed: Candidate | None = None
    for one in usable:
        if not one.reason and not (closed is not None and one.route.kind == HOSTS):
            return one
        closed = closed or one
    return closed


class Entry(NamedTuple):
    """All that is known of one prefix: candidates by owner, best first, and the override (NHO) in force."""

    candidates: tuple[Candidate, ...]
    override: Candidate | None = None

    def best(self, exclude: frozenset[str] = frozenset()) -> Candidate | None:
        """The usable candidate of least distance (the override is not one); see `preferred`."""
        return preferred(one for one in self.candidates if one.usable and one.owner not in exclude)


@define(eq=False)
class RibTable:
    """VRF -> prefix -> Entry."""

    rule: WriteRule = field(factory=lambda: WriteRule("rib"))
    ribs: dict[str, dict[Prefix, Entry]] = field(factory=dict)

    def get(self, vrf: str, prefix: Prefix) -> Entry | None:
        return self.ribs.get(vrf, {}).get(prefix)

    def items(self, vrf: str, afi: Afi) -> Iterator[tuple[Prefix, Entry]]:
        """Rows of one family of one VRF, in no order."""
        for prefix, entry in list(self.ribs.get(vrf, {}).items()):
            if prefix.afi == afi:
                yield prefix, entry

    def match(self, vrf: str, address: bytes, exclude: frozenset[str] = frozenset()) -> tuple[Prefix, Candidate] | None:
        """The longest prefix that covers `address` and has a usable candidate of an owner not in `exclude`."""
        rib = self.ribs.get(vrf)
        if rib:
            for length in range(len(address) * 8, -1, -1):
                prefix = Prefix.of(address, length)
                entry = rib.get(prefix)
                if entry and (best := entry.best(exclude)):
                    return prefix, best
        return None

    def writer(self, owner: str) -> RibWriter:
        """The one write handle. Raises SecondWriter."""
        return RibWriter(self, self.rule.claim(owner))

    def revoke(self, owner: str) -> None:
        self.rule.revoke(owner)


@define(eq=False)
class RibWriter:
    table: RibTable
    epoch: int

    def put(self, vrf: str, prefix: Prefix, entry: Entry) -> None:
        self.table.rule.check(self.epoch)
        self.table.ribs.setdefault(vrf, {})[prefix] = entry

    def remove(self, vrf: str, prefix: Prefix) -> None:
        self.table.rule.check(self.epoch)
        self.table.ribs.get(vrf, {}).pop(prefix, None)

    def drop(self, vrf: str) -> None:
        self.table.rule.check(self.epoch)
        self.table.ribs.pop(vrf, None)
