"""The SAD: security associations, and which one each protected neighbour is sent to by (RFC 4301 4.4.2). Written by ikev2.

Keys reach the packet path by this table and no other way. What changes with every packet (sequence number, replay window,
octets) is in an SA's `use`, which is the packet path's to write: it outlives both services, so that a key is never used with a
counter that began anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice

from attrs import define, field, frozen

from stack.esp import EspForm, Selector
from stack.events import SaKey
from stack.tables.table import JOURNAL, WriteRule

__all__ = ["MAX_SAS", "Bundle", "Sa", "SaUse", "SadTable", "SadWriter"]

MAX_SAS = 65_536
"""Inbound SAs at once."""


@define(eq=False)
class SaUse:
    """Of one SA. `sequence`: the last number sent, or the highest one taken. `window`: bit n is set if `sequence` - n was
    taken. `octets`: of payload. `last`: when the last packet went or came, on the clock's scale (None: never yet)."""

    sequence: int = 0
    window: int = 0
    packets: int = 0
    octets: int = 0
    last: float | None = None
    integrity_failures: int = 0
    replays: int = 0
    refused: int = 0
    """Packets that the selectors, the padding or a limit refused."""
    told: bool = False
    """The soft limit was reported (`SaSoft`)."""
    handle: object = field(default=None, init=False, repr=False)
    """What the packet path has made of the SA's keys; nobody else's business."""


@frozen(eq=False)
class Sa:
    """One direction of a CHILD_SA. `local` and `remote` are the outer addresses, ours and theirs, either way; `ports`, ours and
    theirs, if in UDP. Limits of 0 are none; `soft` ones are reported once, at `hard` ones the SA carries nothing more.
    `own` and `far`: the selectors of our side and of theirs. `child` is the CHILD_SA's number, the same in both directions."""

    spi: int
    key: SaKey
    local: bytes
    remote: bytes
    form: EspForm
    encryption: bytes = field(repr=False)
    salt: bytes = field(default=b"", repr=False)
    integrity: bytes = field(default=b"", repr=False)
    esn: bool = False
    window: int = 64
    ports: tuple[int, int] = (0, 0)
    own: tuple[Selector, ...] = ()
    far: tuple[Selector, ...] = ()
    soft_packets: int = 0
    hard_packets: int = 0
    soft_octets: int = 0
    hard_octets: int = 0
    hard_time: float = 0.0
    """When it must be gone at the latest, on the clock's scale; whoever wrote it sees to that."""
    child: int = 0
    identity: str = ""
    """The peer's, for people."""
    vrf: str = ""
    """In which `local` and `remote` are: by no other VRF do its packets come or go (`tunnel vrf`)."""
    use: SaUse = field(factory=SaUse)


@define(eq=False)
class Bundle:
    """A protected neighbour's slot: rewrites hold the bundle, a rekey replaces `outbound`. None: nothing may be sent."""

    key: SaKey
    outbound: Sa | None = None


@define(eq=False)
class SadTable:
    """`generation` grows when a bundle comes or goes, not with rekeys."""

    rule: WriteRule = field(factory=lambda: WriteRule("sad"))
    inbound: dict[int, Sa] = field(factory=dict)
    """SPI -> SA. Every SPI is ours, whatever address it was sent to."""
    bundles: dict[SaKey, Bundle] = field(factory=dict)
    generation: int = 0
    _journal: deque[SaKey] = field(factory=lambda: deque(maxlen=JOURNAL))

    def changed(self, key: SaKey) -> None:
        """For the writer: the bundle of `key` has come or gone."""
        self.generation += 1
        self._journal.append(key)

    def changed_since(self, generation: int) -> set[SaKey] | None:
        """The keys whose bundle came or went after `generation`; None: too many to remember."""
        count = self.generation - generation
        if generation < 0 or count > len(self._journal):
            return None
        return set(islice(reversed(self._journal), count))

    def get(self, key: SaKey) -> Bundle | None:
        return self.bundles.get(key)

    def __iter__(self) -> Iterator[Bundle]:
        return iter(list(self.bundles.values()))

    def __len__(self) -> int:
        return len(self.bundles)

    def writer(self, owner: str) -> SadWriter:
        """The one write handle. Raises SecondWriter."""
        return SadWriter(self, self.rule.claim(owner))

    def revoke(self, owner: str) -> None:
        self.rule.revoke(owner)


@define(eq=False)
class SadWriter:
    table: SadTable
    epoch: int

    def put_inbound(self, sa: Sa) -> bool:
        """False if the table is full."""
        table = self.table
        table.rule.check(self.epoch)
        if sa.spi not in table.inbound and len(table.inbound) >= MAX_SAS:
            return False
        table.inbound[sa.spi] = sa
        return True

    def remove_inbound(self, spi: int) -> Sa | None:
        self.table.rule.check(self.epoch)
        return self.table.inbound.pop(spi, None)

    def put_outbound(self, sa: Sa) -> None:
        """From now on the neighbour is sent to by this SA."""
        table = self.table
        table.rule.check(self.epoch)
        bundle = table.bundles.get(sa.key)
        if bundle is None:
            bundle = table.bundles[sa.key] = Bundle(sa.key)
            table.changed(sa.key)
        bundle.outbound = sa

    def remove_outbound(self, key: SaKey, spi: int | None = None) -> Sa | None:
        """Nothing more is sent there; with `spi`, only if it is that SA that stands there. The bundle goes, so whoever still
        holds it sends nothing."""
        table = self.table
        table.rule.check(self.epoch)
        bundle = table.bundles.get(key)
        if bundle is None or (spi is not None and (bundle.outbound is None or bundle.outbound.spi != spi)):
            return None
        gone, bundle.outbound = bundle.outbound, None
        del table.bundles[key]
        table.changed(key)
        return gone

    def keep_only(self, inbound: Mapping[int, object], outbound: Mapping[SaKey, object]) -> None:
        """Remove every SA that is not wanted (after a re-sync)."""
        for spi in [spi for spi in self.table.inbound if spi not in inbound]:
            self.remove_inbound(spi)
        for key in [key for key in self.table.bundles if key not in outbound]:
            self.remove_outbound(key)
