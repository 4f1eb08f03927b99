"""The only way out of a protected tunnel: a queue that seals what waits in it.

A rewrite of a protected adjacency has a `SealQueue` for its queue, and that queue's `send_one` for its `send`; no port that
would take its packets as they are is ever opened for it. Which SA seals is read from the bundle with every batch, so a rekey
needs nobody's notice; without one the packets are dropped (RFC 4301 5.1: fail closed).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

from attrs import define, field

from stack.events import Fact, SaKey, SaSoft
from stack.net import Port
from stack.tables.sad import Bundle, SadTable
from tunnel.io.batch import HEAD, Arena, SendQueue
from tunnel.io.counters import Counters, Drop
from tunnel.io.esp import FRONT, TAIL, Sealer, sealer_of
from tunnel.io.ports import Outlets, Unsent

__all__ = ["ESP", "MAX_SEALED_HEADER", "UDP", "NotSealed", "SealQueue", "Seals", "esp_remotes"]

MAX_SEALED_HEADER = HEAD - FRONT - TAIL
"""The longest header of a rewrite that is sealed, so that packets in one slot stay apart."""

UDP, ESP = 17, 50
_BEFORE = 64


class NotSealed(Unsent):
    """And never in clear."""


@define(eq=False)
class SealQueue(SendQueue):
    """The queue of one protected neighbour. Packets in it lie in clear, until `send` has sealed them all, once."""

    bundle: Bundle = field(kw_only=True)
    seals: Seals = field(kw_only=True)
    ttl: int = field(kw_only=True)
    vrf: str = field(default="", kw_only=True)
    """In which its tunnel's own packets travel; an SA of another VRF carries nothing of it."""
    _port: Port | None = field(default=None, init=False)
    _clear: Sequence[int] = field(default=(), init=False)
    """What the packets measured in clear; set once they are sealed."""

    @property
    def name(self) -> str:
        return f"esp {self.bundle.key.interface}"

    def send(self, first: int) -> int:
        if not self._clear:
            self._seal()
            if not self.used:
                return 0
        port = self._port
        assert port is not None
        self.descriptor = self.descriptor_of(port)
        if self.descriptor >= 0:
            return super().send(first)
        return self._one_by_one(port, first)

    def clear(self) -> None:
        self.used.clear()
        self._clear, self._port = (), None

    def size(self, place: int) -> int:
        return self._clear[place]

    def _seal(self) -> None:
        """All that waits; what must not go leaves the queue, counted."""
        count, arena = len(self.used), self.seals.arena
        sizes = self.parts[1 : count << 1 : 2]
        reason, allowed = Drop.PROTECTED, 0
        sealer = self._sealer()
        if isinstance(sealer, Drop):
            reason = sealer
        else:
            reason = Drop.ESP_EXPIRED
            allowed, sequence = sealer.reserve(sizes, self.seals.now())
            sealer.seal(arena.octets, arena.view, self.parts, arena.origin, allowed, sequence)
            self._tell(sealer)
        for rewrite, size in zip(self.used[allowed:], sizes[allowed:], strict=True):
            self.seals.counters.drop(reason, rewrite.interface)
            rewrite.tally[0] -= 1
            rewrite.tally[1] -= size - rewrite.size
        del self.used[allowed:]
        self._clear = sizes[:allowed]

    def _sealer(self) -> Sealer | Drop:
        sa = self.bundle.outbound
        sealer = sealer_of(sa, self.ttl) if sa is not None else None
        if sa is None or sealer is None or sa.vrf != self.vrf:
            return Drop.PROTECTED
        self._port = self.seals.outlets.remote(UDP if sa.form.udp else ESP, sa.remote, self.vrf)
        return sealer if self._port is not None else Drop.PORT_ERROR

    def _tell(self, sealer: Sealer) -> None:
        if sealer.soft():
            sealer.sa.use.told = self.seals.punt(SaSoft(sealer.sa.spi, inbound=False), self.bundle.key.interface)

    def _one_by_one(self, port: Port, first: int) -> int:
        arena, sent = self.seals.arena, 0
        for place in range(first, len(self.used)):
            start = self.parts[2 * place] - arena.origin
            try:
                port.send(arena.view[start : start + self.parts[2 * place + 1]])
            except OSError:
                if not sent:
                    raise
                break
            sent += 1
        return sent

    def send_one(self, octets: bytes | bytearray | memoryview) -> int:
        """A packet that does not wait: IPv4, GRE and all behind it. Raises NotSealed, or OSError of the port's."""
        sealer = self._sealer()
        port, self._port = self._port, None
        if isinstance(sealer, Drop) or port is None:
            raise NotSealed(sealer if isinstance(sealer, Drop) else Drop.PORT_ERROR)
        size = len(octets)
        allowed, sequence = sealer.reserve((size,), self.seals.now())
        self._tell(sealer)
        if not allowed:
            raise NotSealed(Drop.ESP_EXPIRED)
        buffer, parts = bytearray(_BEFORE + size + TAIL + 15), array("Q", (_BEFORE, size))
        buffer[_BEFORE : _BEFORE + size] = octets
        view = memoryview(buffer)
        sealer.seal(buffer, view, parts, 0, 1, sequence)
        return port.send(view[parts[0] : parts[0] + parts[1]])


@define(eq=False)
class Seals:
    """The queues of all protected neighbours. `punt` posts a fact within a budget, and says whether it did."""

    arena: Arena
    outlets: Outlets
    counters: Counters
    now: Callable[[], float]
    punt: Callable[[Fact, str], bool]
    _queues: dict[SaKey, SealQueue] = field(factory=dict, init=False)
    """Bounded by the rewrites that are remembered."""
    _seen: int = field(default=-1, init=False)
    """The SAD's generation, when all queues were those of bundles that stand in it."""

    def of(self, bundle: Bundle, vrf: str, ttl: int = 255) -> SealQueue:
        queue = self._queues.get(bundle.key)
        if queue is None or queue.bundle is not bundle or (queue.ttl, queue.vrf) != (ttl, vrf):
            queue = self._queues[bundle.key] = SealQueue(-1, bundle=bundle, seals=self, ttl=ttl, vrf=vrf)
        return queue

    def forget(self, sad: SadTable) -> None:
        """Keep what still stands in the SAD."""
        for key in self._stale(sad):
            del self._queues[key]
        self._seen = sad.generation

    def moved(self, sad: SadTable) -> bool:
        """Whether a neighbour that something was made for has another bundle now, or none."""
        if self._stale(sad):
            return True
        self._seen = sad.generation
        return False

    def _stale(self, sad: SadTable) -> list[SaKey]:
        changed, queues = sad.changed_since(self._seen), self._queues
        keys = queues.keys() if changed is None else changed & queues.keys()
        return [key for key in keys if sad.get(key) is not queues[key].bundle]


def esp_remotes(sad: SadTable) -> set[tuple[int, bytes]]:
    """(protocol, address) of the raw sockets that outbound SAs need."""
    found = (bundle.outbound for bundle in sad)
    return {(UDP if sa.form.udp else ESP, sa.remote) for sa in found if sa is not None and not sa.vrf}
