"""The LIB: FEC -> label, with a use for every client that wants it, and the LFIB rows that follow. Sans-IO.

All clients of a FEC get the same label. It is freed when the last of them lets go, and rests before another FEC may have it.
A label may arrive by whatever any client named in its scope. The ILM is written before the label is told to anybody, and
removed before the label is free.

After a restart the labels that stand in the LFIB are adopted: a FEC that is wanted again keeps its label, the others are
freed by `sweep`. A label value that a client asks for (`fixed`) is given to nobody else; if another FEC has it, the client
is told whose it is and gets it when it is free.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from attrs import define, field

from mfi.config import MfiConfig
from mfi.engine.pool import Pool
from stack.addr import FIRST_UNRESERVED_LABEL, LAST_LABEL, Fec, NextHopFec, PrefixFec, ReservedLabel, SwapFec, VrfFec
from stack.events import LabelBound, LabelRequest, LabelRow, Topic
from stack.tables.lfib import LfibTable, Nhlfe, Operation
from stack.tables.table import Writer

__all__ = ["Binding", "Engine", "Publish", "Use", "fec_text", "nhlfe_of"]


class Publish(NamedTuple):
    topic: Topic[Any, Any]
    rows: Mapping[Any, Any]


class Use(NamedTuple):
    """A line of the LIB, for show."""

    fec: Fec
    label: int | None
    reason: str
    clients: tuple[str, ...]
    scope: frozenset[str]
    fixed: bool


@define(eq=False)
class Binding:
    """A FEC, what each client wants of it, and what it has. `adopted`: taken over from an earlier incarnation, and not
    claimed yet. `fixed`: its label was asked for by value. `told`: clients have had an answer."""

    fec: Fec
    clients: dict[str, LabelRequest] = field(factory=dict)
    label: int | None = None
    reason: str = ""
    adopted: bool = False
    fixed: bool = False
    told: bool = False

    def wish(self) -> tuple[LabelRequest, str]:
        """The clients' requests as one: scopes joined; a next hop goes before a look-up; of two, the first client's counts.
        And what they disagree on."""
        requests = [request for _, request in sorted(self.clients.items())]
        scope = frozenset().union(*(request.scope for request in requests))
        hop = next((request.next_hop for request in requests if request.next_hop), 0)
        vrf = next((request.vrf for request in requests if request.vrf), "")
        wanted = [r.fixed for r in requests if r.fixed is not None]
        conflict = f"clients ask for labels {wanted[0]} and {wanted[-1]}" if len(set(wanted)) > 1 else ""
        return LabelRequest(scope, hop, wanted[0] if wanted else None, vrf), conflict


@define(eq=False)
class Engine:
    """`config` and the one write handle of the LFIB. Bounded by what clients want and by the label ranges."""

    config: MfiConfig
    lfib: Writer[int, Nhlfe]
    pool: Pool = field(init=False)
    bindings: dict[Fec, Binding] = field(factory=dict)
    holders: dict[int, Fec] = field(factory=dict)
    """Label in use -> whose it is."""
    _waiting: dict[Fec, None] = field(factory=dict)
    """FECs that want a label and have none, longest waiting first."""
    _dirty: dict[Fec, None] = field(factory=dict)
    _rows: dict[Fec, LabelRow | None] = field(factory=dict)
    _retry: bool = False

    def __attrs_post_init__(self) -> None:
        c = self.config
        table = self.lfib.table
        resting = table.resting if isinstance(table, LfibTable) else {}
        self.pool = Pool(c.first, c.last, c.quarantine, c.static_first, c.static_last, resting)

    # --- start, restart, configuration ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Adopt what stands in the LFIB."""
        for label, row in list(self.lfib.table.rows.items()):
            if row.fec is None or row.fec in self.bindings:
                self.lfib.remove(label)
                continue
            self.pool.claim(label, row.fec)
            self.holders[label] = row.fec
            self.bindings[row.fec] = Binding(row.fec, label=label, adopted=True)

    def sweep(self, now: float) -> list[Publish]:
        """All clients have said what they want: adopted labels that nobody claimed are freed."""
        for binding in [b for b in self.bindings.values() if b.adopted and not b.clients]:
            self._dirty[binding.fec] = None
            binding.adopted = False
        return self.settle(now)

    def reconfigure(self, config: MfiConfig, now: float) -> list[Publish]:
        """Other ranges: labels in use keep their values, what waits is tried again."""
        self.config = config
        self.pool.configure(config.first, config.last, config.quarantine, config.static_first, config.static_last)
        self._retry = True
        return self.settle(now)

    # --- inputs ---------------------------------------------------------------------------------------------------------

    def feed(self, owner: str, rows: Mapping[Fec, LabelRequest | None]) -> None:
        """What a client wants, or (None) no longer wants. `settle` acts on it."""
        for fec, request in rows.items():
            binding = self.bindings.get(fec)
            if request is None:
                if binding is None or binding.clients.pop(owner, None) is None:
                    continue
            else:
                if binding is None:
                    binding = self.bindings[fec] = Binding(fec)
                binding.clients[owner] = request
                binding.adopted = False
            self._dirty[fec] = None

    def settle(self, now: float) -> list[Publish]:
        """Bring labels and LFIB up to date: first what is let go, then what is wanted, then who waited longest."""
        retry = bool(self.pool.expire(now)) or self._retry
        self._retry = False
        dirty, self._dirty = self._dirty, {}
        for fec in dirty:
            if fec in self.bindings and not self.bindings[fec].clients:
                self._let_go(self.bindings[fec], now)
                retry = True
        for fec in dirty:
            if fec in self.bindings and fec not in self._waiting:
                self._provide(self.bindings[fec], now)
        self._serve_waiting(dirty, now, everyone=retry)
        rows, self._rows = self._rows, {}
        return [Publish(LabelBound, rows)] if rows else []

    def _serve_waiting(self, dirty: Mapping[Fec, None], now: float, *, everyone: bool) -> None:
        """Those who wait, in order. Once the range has no more, only those who want a certain label are tried."""
        exhausted = False
        for fec in list(self._waiting) if everyone else [fec for fec in dirty if fec in self._waiting]:
            binding = self.bindings[fec]
            dynamic = all(request.fixed is None for request in binding.clients.values())
            if dynamic and exhausted and fec not in dirty:
                continue
            self._provide(binding, now)
            exhausted = exhausted or (dynamic and binding.label is None)

    def wake(self, now: float) -> list[Publish]:
        return self.settle(now)

    def deadline(self) -> float | None:
        """When a resting label becomes free."""
        return self.pool.deadline()

    # --- labels ---------------------------------------------------------------------------------------------------------

    def _let_go(self, binding: Binding, now: float) -> None:
        del self.bindings[binding.fec]
        self._waiting.pop(binding.fec, None)
        self._free(binding, now)
        self._rows[binding.fec] = None

    def _free(self, binding: Binding, now: float) -> None:
        if binding.label is not None:
            self.lfib.remove(binding.label)
            del self.holders[binding.label]
            self.pool.release(binding.label, binding.fec, now)
            binding.label = None

    def _provide(self, binding: Binding, now: float) -> None:
        """See that a FEC has the label it should have, and that the LFIB says so. A label that it has is kept until there
        is a better one: what other clients do with it goes on."""
        fec = binding.fec
        wish, conflict = binding.wish()
        old, told = binding.label, LabelRow(binding.label, binding.reason)
        reason = conflict
        if old is None or wish.fixed not in {None, old} or (binding.fixed and wish.fixed is None):
            label, why_not = self._choose(fec, wish.fixed)
            if label is not None:
                self._free(binding, now)
                binding.label, binding.fixed = label, wish.fixed is not None
                self.holders[label] = fec
            elif wish.fixed is not None or old is None:
                reason = why_not
        else:
            binding.fixed = wish.fixed is not None
        binding.reason = reason
        satisfied = binding.label is not None and wish.fixed in {None, binding.label}
        if satisfied:
            self._waiting.pop(fec, None)
        else:
            self._waiting[fec] = None
        if binding.label is not None:
            self.lfib.put(binding.label, nhlfe_of(fec, wish))
        row = LabelRow(binding.label, reason)
        if row != told or not binding.told:
            binding.told = True
            self._rows[fec] = row

    def _choose(self, fec: Fec, fixed: int | None) -> tuple[int | None, str]:
        """A label for `fec`, or why there is none."""
        if fixed is None:
            label = self.pool.take(fec)
            return label, "" if label is not None else self._exhausted()
        if fixed < FIRST_UNRESERVED_LABEL:
            return None, f"label {fixed} is reserved ({_reserved_name(fixed)})"
        if fixed > LAST_LABEL:
            return None, f"{fixed} is no label: {LAST_LABEL} is the last"
        if self.pool.claim(fixed, fec):
            return fixed, ""
        holder = self.holders.get(fixed)
        if holder is not None:
            return None, f"label {fixed} is bound to {fec_text(holder)}"
        return None, f"label {fixed} was freed a short time ago and rests"

    def _exhausted(self) -> str:
        pool = self.pool
        return (
            f"labels {pool.first}-{pool.last} are exhausted: {len(pool.used)} in use, {pool.resting} resting after use"
        )

    def snapshot(self) -> tuple[Use, ...]:
        """The LIB in order of labels, then what has none."""
        uses = []
        for binding in self.bindings.values():
            wish, _ = binding.wish()
            clients = tuple(sorted(binding.clients))
            uses.append(Use(binding.fec, binding.label, binding.reason, clients, wish.scope, wish.fixed is not None))
        return tuple(sorted(uses, key=lambda use: (use.label is None, use.label or 0, fec_text(use.fec))))


def nhlfe_of(fec: Fec, wish: LabelRequest) -> Nhlfe:
    """What the LFIB does with a packet under the label of `fec` (RFC 3031 3.10-3.11; RFC 4364 4.3.2 for VPN routes).

    Under a transport label (a FEC of the default VRF) there may be more labels, and any family under those.
    """
    operation = Operation.POP_FORWARD if wish.next_hop else Operation.POP_LOOKUP
    match fec:
        case VrfFec(vrf, afi):
            return Nhlfe(Operation.POP_LOOKUP, wish.vrf or vrf, wish.scope, int(afi), fec=fec)
        case PrefixFec(vrf, prefix):
            family = int(prefix.afi) if vrf else 0
            return Nhlfe(operation, wish.vrf or vrf, wish.scope, family, wish.next_hop, fec=fec)
        case NextHopFec(vrf, _, address):
            family = (1 if len(address) == 4 else 2) if vrf else 0
            return Nhlfe(operation, wish.vrf or vrf, wish.scope, family, wish.next_hop, fec=fec)
        case SwapFec(_, prefix, next_hop, out_labels):
            labels = tuple(label for label in out_labels if label != ReservedLabel.IMPLICIT_NULL)
            operation = Operation.SWAP if labels else Operation.POP_FORWARD
            return Nhlfe(operation, wish.vrf, wish.scope, int(prefix.afi), next_hop, labels, fec)


def _reserved_name(label: int) -> str:
    names: Iterable[str] = (known.name.lower().replace("_", "-") for known in ReservedLabel if known == label)
    return next(iter(names), "special-purpose")


def fec_text(fec: Fec) -> str:
    """A FEC in a few words, for reasons and logs."""
    match fec:
        case VrfFec(vrf, afi):
            return f"{'IPv4' if afi == 1 else 'IPv6'} VRF {vrf or 'default'}"
        case PrefixFec(vrf, prefix):
            return f"{prefix} in VRF {vrf}" if vrf else str(prefix)
        case NextHopFec(vrf, interface, address):
            return f"next hop {'.'.join(map(str, address)) if len(address) == 4 else address.hex()} on {interface}" + (
                f" in VRF {vrf}" if vrf else ""
            )
        case SwapFec(rd, prefix, next_hop, _):
            return f"{rd}:{prefix} by next hop {next_hop}"
