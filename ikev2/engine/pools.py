"""Overlay addresses given to peers: `ip local pool`, with leases that a peer finds again when it comes back.

A lease belongs to an identity. While an IKE SA uses it, it is nobody else's; afterwards it is remembered for whom it was, until
the pool has no address left that never had a holder: then the one that has been unused the longest is given away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from attrs import define, field

from ikev2.config import IpPool
from ikev2.engine.snapshot import LeaseSnapshot, PoolSnapshot

__all__ = ["MAX_POOL", "MAX_REMEMBERED", "Lease", "Pool", "Pools"]

MAX_POOL = 65_536
"""Addresses of one pool that are used; what a range has on top stays unused."""

MAX_REMEMBERED = 8_192
"""Leases of peers that are away, of one pool. The oldest is forgotten first."""


@define(eq=False)
class Lease:
    """`holder`: whose it is. `text`: the identity, for people. `users`: numbers of the IKE SAs that use it. `since`: when it
    was first given, or when it fell out of use."""

    address: bytes
    holder: bytes
    text: str
    since: float
    users: set[int] = field(factory=set)


@define(eq=False)
class Pool:
    config: IpPool
    _by_holder: dict[bytes, Lease] = field(factory=dict)
    _taken: dict[bytes, Lease] = field(factory=dict)
    """Address -> lease, those that are only remembered too."""
    _unused: dict[bytes, Lease] = field(factory=dict)
    """Address -> remembered lease, longest unused first."""
    _next: int = 0
    """Offset below which every address has had a holder, but for those in `_returned`."""
    _returned: list[bytes] = field(factory=list)
    """Addresses whose holders were forgotten."""

    @property
    def first(self) -> int:
        return int.from_bytes(self.config.first)

    @property
    def size(self) -> int:
        return max(0, min(int.from_bytes(self.config.last) - self.first + 1, MAX_POOL))

    def contains(self, address: bytes) -> bool:
        return len(address) == len(self.config.first) and self.first <= int.from_bytes(address) < self.first + self.size

    def lease(self, holder: bytes, text: str, user: int, now: float, *, wish: bytes = b"") -> bytes | None:
        """An address for `holder`, used by IKE SA `user`: the one that it has or had; else `wish`, if that is free; else one
        that nobody had; else the one that has been out of use the longest. None: all are in use."""
        held = self._by_holder.get(holder)
        if held is None:
            address = self._free(wish)
            if address is None:
                return None
            held = self._by_holder[holder] = self._taken[address] = Lease(address, holder, text, now)
        elif not held.users:
            self._unused.pop(held.address, None)
            held.since = now
        held.users.add(user)
        return held.address

    def release(self, user: int, address: bytes, now: float) -> None:
        """IKE SA `user` uses it no more. It is remembered for its holder."""
        held = self._taken.get(address)
        if held is None or user not in held.users:
            return
        held.users.discard(user)
        if held.users:
            return
        if not self.contains(address):
            del self._taken[address], self._by_holder[held.holder]
            return
        held.since = now
        self._unused[address] = held
        if len(self._unused) > MAX_REMEMBERED:
            self._returned.append(self._forget())

    def adopt(self, lease: Lease) -> None:
        """One in use, of the pool that was here before: nobody else gets its address, be it in our range or not."""
        self._by_holder[lease.holder] = self._taken[lease.address] = lease

    def restore(self, address: bytes, holder: bytes, text: str, since: float) -> None:
        """A lease that an earlier incarnation gave: remembered for its holder."""
        if self.contains(address) and address not in self._taken and holder not in self._by_holder:
            held = self._by_holder[holder] = self._taken[address] = Lease(address, holder, text, since)
            self._unused[address] = held
            if len(self._unused) > MAX_REMEMBERED:
                self._returned.append(self._forget())

    def leases(self) -> Iterator[Lease]:
        return iter(self._taken.values())

    def snapshot(self) -> PoolSnapshot:
        leases = sorted(self._taken.values(), key=lambda lease: lease.address)
        return PoolSnapshot(
            self.config.name,
            self.config.first,
            self.config.last,
            self.size,
            sum(bool(lease.users) for lease in leases),
            tuple(LeaseSnapshot(lease.address, lease.text, bool(lease.users), lease.since) for lease in leases),
        )

    def _free(self, wish: bytes) -> bytes | None:
        if wish and self.contains(wish) and wish not in self._taken:
            if wish in self._returned:
                self._returned.remove(wish)
            return wish
        while self._next < self.size:
            address = (self.first + self._next).to_bytes(len(self.config.first))
            self._next += 1
            if address not in self._taken:
                return address
        while self._returned:
            address = self._returned.pop(0)
            if address not in self._taken:
                return address
        return self._forget() if self._unused else None

    def _forget(self) -> bytes:
        """Take the lease that has been out of use the longest from its holder: the address."""
        address, held = next(iter(self._unused.items()))
        del self._unused[address], self._taken[address], self._by_holder[held.holder]
        return address


@define(eq=False)
class Pools:
    """All pools by name. What a reconfiguration takes away stays in use by who has it."""

    _pools: dict[str, Pool] = field(factory=dict)
    _gone: dict[str, Pool] = field(factory=dict)
    """Taken out of the configuration while addresses of theirs were in use."""

    def configure(self, pools: Mapping[str, IpPool]) -> None:
        """A pool whose range changed starts anew; leases inside its new range stay, and so do those in use."""
        for name in [name for name in self._pools if name not in pools]:
            self._gone[name] = self._pools.pop(name)
            self._sweep(name)
        for name, config in pools.items():
            old = self._pools.get(name) or self._gone.pop(name, None)
            if old is not None and old.config == config:
                self._pools[name] = old
                continue
            pool = self._pools[name] = Pool(config)
            leases = list(old.leases()) if old is not None else []
            for lease in leases:
                if lease.users:
                    pool.adopt(lease)
            for lease in leases:
                if not lease.users:
                    pool.restore(lease.address, lease.holder, lease.text, lease.since)

    def _sweep(self, name: str) -> None:
        if not any(lease.users for lease in self._gone[name].leases()):
            del self._gone[name]

    def get(self, name: str) -> Pool | None:
        return self._pools.get(name)

    def leases(self) -> Iterator[tuple[str, Lease]]:
        for name, pool in self._pools.items():
            for lease in pool.leases():
                yield name, lease

    def restore(self, leases: Iterable[tuple[str, bytes, bytes, str, float]]) -> None:
        """(pool, address, holder, text, since) of an earlier incarnation."""
        for name, address, holder, text, since in leases:
            if (pool := self._pools.get(name)) is not None:
                pool.restore(address, holder, text, since)

    def release(self, user: int, name: str, address: bytes, now: float) -> None:
        if (pool := self._pools.get(name)) is not None:
            pool.release(user, address, now)
        elif (pool := self._gone.get(name)) is not None:
            pool.release(user, address, now)
            self._sweep(name)

    def snapshot(self) -> tuple[PoolSnapshot, ...]:
        return tuple(self._pools[name].snapshot() for name in sorted(self._pools))
