"""The typed model of a node: what all three doors (IOS text, Python objects, TOML) lead to.

`Config` is a mapping from config class to instance. `NodeConfig` is the floor's own: VRFs, interfaces, static routes,
policy. Every package brings one class more. All are frozen; a change is a new object.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from attrs import evolve, field, frozen

from stack.addr import RD, RT, Afi, Prefix
from stack.events import InterfaceKind
from stack.policy.lists import AccessList, CommunityList, ExtCommunityList, PrefixList
from stack.policy.routemap import RouteMap

__all__ = ["Config", "InterfaceAddress", "InterfaceConfig", "NodeConfig", "StaticRoute", "VrfConfig", "VrfStyle"]

C = TypeVar("C")


class VrfStyle(Enum):
    """How a VRF was written, so that it prints back likewise."""

    DEFINITION = "vrf definition"
    IP_VRF = "ip vrf"


@frozen
class VrfConfig:
    """`families` empty under `vrf definition`: no address family was opened. Route targets by address family.

    `own_rts`: families whose route targets were written in their own address family, not for the whole VRF. It only says
    where they print.
    """

    name: str
    rd: RD | None = None
    export_rts: Mapping[Afi, frozenset[RT]] = field(factory=dict)
    import_rts: Mapping[Afi, frozenset[RT]] = field(factory=dict)
    families: frozenset[Afi] = frozenset()
    description: str = ""
    style: VrfStyle = VrfStyle.DEFINITION
    own_rts: frozenset[Afi] = field(default=frozenset(), eq=False)


@frozen
class InterfaceAddress:
    """`eui64`: the low 64 bits come from the interface's MAC (`ipv6 address P eui-64`), known only at run time."""

    address: bytes
    length: int
    secondary: bool = False
    eui64: bool = False


@frozen
class InterfaceConfig:
    """An interface as configured. `addresses` in the order written, primary IPv4 first. `mtu` 0: the default of its kind.

    Tunnel-only lines (source, destination, key, ...) are package tunnel's; they meet here only by name.
    """

    name: str
    kind: InterfaceKind
    vrf: str = ""
    addresses: tuple[InterfaceAddress, ...] = ()
    negotiated: bool = False
    unnumbered: str = ""
    mtu: int = 0
    shutdown: bool = False
    description: str = ""
    vlan: int | None = None
    parent: str = ""
    unreachables: bool = True
    mss: int = 0
    mpls: bool = False
    mpls_nhrp: bool = False
    """`mpls nhrp`: as `mpls`, by its other name; each prints its own line."""
    network_id: int = 0
    redirect: bool = False
    protection: str = ""
    point_to_point: bool = False


@frozen
class StaticRoute:
    """`ip route [vrf V] PREFIX ...`. `address` and `interface` both empty: Null0."""

    vrf: str
    prefix: Prefix
    address: bytes = b""
    interface: str = ""
    distance: int = 1
    tag: int = 0
    name: str = ""
    null: bool = False


@frozen
class NodeConfig:
    """What the floor itself runs on. Interfaces in the order written; policy lists and maps by name."""

    hostname: str = "Router"
    enable_secret: str = field(default="", repr=False)
    vrfs: Mapping[str, VrfConfig] = field(factory=dict)
    interfaces: Mapping[str, InterfaceConfig] = field(factory=dict)
    static_routes: tuple[StaticRoute, ...] = ()
    prefix_lists: Mapping[str, PrefixList] = field(factory=dict)
    access_lists: Mapping[str, AccessList] = field(factory=dict)
    community_lists: Mapping[str, CommunityList] = field(factory=dict)
    extcommunity_lists: Mapping[str, ExtCommunityList] = field(factory=dict)
    route_maps: Mapping[str, RouteMap] = field(factory=dict)
    no_effect: tuple[str, ...] = field(default=(), repr=False)
    """Lines that are kept as they are; other services' passwords may be in them."""


@frozen
class Config:
    """Everything one node was told: `config[BgpConfig]` is the instance of that class, or its default."""

    sections: Mapping[type[Any], Any] = field(factory=dict)

    def __getitem__(self, kind: type[C]) -> C:
        """Raises KeyError if `kind` has no default and the node says nothing of it."""
        found: C | None = self.sections.get(kind)
        return kind() if found is None else found

    def get(self, kind: type[C]) -> C | None:
        """None: the node says nothing of it."""
        return self.sections.get(kind)

    def replace(self, section: Any) -> Config:
        """The same node with one section changed."""
        return evolve(self, sections={**self.sections, type(section): section})

    @property
    def node(self) -> NodeConfig:
        return self[NodeConfig]

    @classmethod
    def from_ios(cls, text: str, *, source: str = "<text>") -> Config:
        """Read IOS-style text. Raises stack.ios.reader.ConfigError with every fault found (line, mode, caret)."""
        from stack.ios.reader import read

        return read(text, source=source).config

    @classmethod
    def from_toml(cls, text: str, *, source: str = "<text>") -> Config:
        """Read the same lines as TOML, where keys are lines and tables are modes (stack.ios.toml). Raises ConfigError."""
        from stack.ios.toml import read_toml

        return read_toml(text, source).config

    @classmethod
    def from_file(cls, path: Path) -> Config:
        """Read a file, as TOML if its name says so. Raises OSError, ConfigError."""
        read = cls.from_toml if path.suffix == ".toml" else cls.from_ios
        return read(path.read_text(encoding="utf-8", errors="replace"), source=str(path))
