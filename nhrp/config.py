"""What the NHRP speaker is told. The IOS lines that set it are in nhrp.lines.

`network-id` and `redirect` stand in the interface's own row (stack.config.InterfaceConfig), because the packet path needs
them; all else that NHRP knows of an interface is here, once for each family of overlay addresses.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from stack.addr import Afi

__all__ = ["HOLDING_TIME", "REDIRECT_TIMEOUT", "NhrpConfig", "NhrpFamily", "NhrpInterface", "Nhs", "StaticMap"]

HOLDING_TIME = 7200
"""Seconds; IOS's default of old, and FRR's."""

REDIRECT_TIMEOUT = 8
"""Seconds in which a pair of source and destination is told of a better way once."""


@frozen
class Nhs:
    """`ip nhrp nhs {ADDRESS | dynamic} [nbma NBMA] [multicast] [priority P] [cluster C]`. `address` empty: the server says
    what its own is. `nbma` empty: a `map` says it. `priority`: 0 is best; servers of one priority are all used, the next ones
    when none of those answers; each `cluster` by itself. `multicast` is kept, and means nothing: none crosses a tunnel here."""

    address: bytes = b""
    nbma: bytes = b""
    priority: int = 0
    cluster: int = 0
    multicast: bool = False


@frozen
class StaticMap:
    """`ip nhrp map ADDRESS NBMA`."""

    address: bytes
    nbma: bytes


@frozen
class NhrpFamily:
    """NHRP of one family of overlay addresses on one interface; it runs if the interface has a network id.

    `holding_time`: of what we register and answer, seconds. `registration_timeout` 0: a third of it. `unique`: nobody else may
    register our address from elsewhere. `virtual_template`: of shortcuts (None: this interface has many far ends itself).
    `network`, `redirect`: the line stands for this family; what it says is in the interface's own row, for both.
    """

    authentication: str = field(default="", repr=False)
    holding_time: int = HOLDING_TIME
    registration_timeout: int = 0
    unique: bool = True
    nhs: tuple[Nhs, ...] = ()
    maps: tuple[StaticMap, ...] = ()
    shortcut: bool = False
    virtual_template: int | None = None
    redirect_timeout: int = REDIRECT_TIMEOUT
    network: bool = False
    redirect: bool = False


@frozen
class NhrpInterface:
    """`mpls`: `mpls nhrp` stands here (labels travel in NHRP, and by this interface)."""

    name: str
    families: Mapping[Afi, NhrpFamily] = field(factory=dict)
    mpls: bool = False

    def family(self, afi: Afi) -> NhrpFamily:
        return self.families.get(afi) or NhrpFamily()


@frozen
class NhrpConfig:
    """`cache_limit`, `pending_limit`: entries at once, of all networks together. `oui`: of the label extension, which is
    our own and no registered one; both ends of a shortcut must have the same."""

    interfaces: Mapping[str, NhrpInterface] = field(factory=dict)
    cache_limit: int = 65_536
    pending_limit: int = 4_096
    oui: bytes = b"\x02\x4d\x46"

    def of(self, interface: str, parent: str = "") -> NhrpInterface:
        """Of an interface; a virtual-access interface has its template's."""
        return self.interfaces.get(interface) or self.interfaces.get(parent) or NhrpInterface(interface)
