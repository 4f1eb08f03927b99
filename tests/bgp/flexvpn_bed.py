"""A hub and its spokes with the real services `routing`, `mfi` and `bgp`, each on its own bus. What tunnel and ikev2 would
say is said by hand (`Underlay`); TCP runs on the in-memory network, over a link that stands for the tunnel.

    spoke1  Tunnel0 <--------> Virtual-Access1
                                                hub  Loopback0 10.20.0.1
    spoke2  Tunnel0 <--------> Virtual-Access2
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from attrs import define, field
from structlog.testing import LogCapture

from bgp.engine.fsm import State
from bgp.engine.peers import PeerSnapshot
from bgp.service import SERVICE as BGP
from bgp.service import BgpService
from mfi.service import SERVICE as MFI
from stack.addr import Prefix, format_address, parse_address
from stack.bus import Message
from stack.config import Config
from stack.events import (
    AddressOffered,
    AddressRow,
    AdjacencyRow,
    AdjacencyState,
    AdjacencyWanted,
    BindingOffered,
    Delta,
    InterfaceKind,
    InterfaceOffered,
    InterfaceRow,
    LinkRow,
    LinkState,
    OverlayRow,
    OverlayState,
    Route,
    RouteOffered,
    Via,
)
from stack.registry import ServiceSpec
from stack.router import Router
from stack.routing.service import SERVICE as ROUTING
from stack.service import ServiceShell
from stack.testing import MemoryNetwork, SeededEntropy, VirtualClock

HUB, HUB_ADDRESS = "hub", parse_address("10.20.0.1")
IMPLICIT_NULL = (3,)

HUB_TEXT = """
hostname hub
vrf definition gold
 rd 64510:1
 route-target export 64510:1
 route-target import 64510:1
 address-family ipv4
 exit-address-family
!
vrf definition iron
 rd 64510:2
 route-target export 64510:2
 route-target import 64510:2
 address-family ipv4
 exit-address-family
!
interface Loopback0
 ip address 10.20.0.1 255.255.255.255
!
interface Ethernet0/2
 vrf forwarding gold
 ip address 192.168.60.1 255.255.255.0
!
interface Ethernet0/3
 vrf forwarding iron
 ip address 192.168.61.1 255.255.255.0
!
router bgp 64510
 bgp listen range 0.0.0.0/0 peer-group spokes
 bgp listen limit {limit}
 neighbor spokes peer-group
 neighbor spokes remote-as 64600
 neighbor spokes transport connection-mode passive
 neighbor spokes update-source Loopback0
 neighbor spokes ebgp-multihop 255
 timers bgp 5 15
 !
 address-family ipv4
  redistribute static route-map global
  neighbor spokes activate
  neighbor spokes next-hop-self
 exit-address-family
 !
 address-family vpnv4
  neighbor spokes activate
  neighbor spokes send-community both
 exit-address-family
 !
 address-family ipv4 vrf gold
  redistribute connected
  redistribute static route-map gold
  {originate}
 exit-address-family
 !
 address-family ipv4 vrf iron
  redistribute connected
  redistribute static route-map iron
  default-information originate
 exit-address-family
!
{default}
ip route vrf iron 0.0.0.0 0.0.0.0 Null0 tag 778
ip route vrf gold 10.77.0.0 255.255.0.0 Null0 tag 5
ip route 203.0.113.0 255.255.255.0 Null0 tag 9
!
route-map gold permit 10
 match tag 777
route-map gold permit 20
 match tag 5
 set metric 70
 set tag 6
 set community 64510:70
route-map iron permit 10
 match tag 778
{maps}
"""

SPOKE_TEXT = """
hostname spoke{n}
vrf definition gold
 rd 64510:1
 route-target export 64510:1
 route-target import 64510:1
 address-family ipv4
 exit-address-family
!
vrf definition iron
 rd 64510:2
 route-target export 64510:2
 route-target import 64510:2
 address-family ipv4
 exit-address-family
!
interface Tunnel0
 ip address negotiated
 mpls bgp forwarding
 tunnel source Ethernet0/0
 tunnel destination 172.30.0.1
!
interface Ethernet0/0
 ip address 172.30.1.10{n} 255.255.255.0
!
interface Ethernet0/1
 vrf forwarding gold
 ip address 192.168.{gold}.1 255.255.255.0
!
interface Ethernet0/2
 vrf forwarding iron
 ip address 192.168.{iron}.1 255.255.255.0
!
router bgp 64600
 neighbor 10.20.0.1 remote-as 64510
 neighbor 10.20.0.1 ebgp-multihop 255
 neighbor 10.20.0.1 update-source Tunnel0
 timers bgp 5 15
 !
 address-family ipv4
  neighbor 10.20.0.1 activate
 exit-address-family
 !
 address-family vpnv4
  neighbor 10.20.0.1 activate
  neighbor 10.20.0.1 send-community both
  {allowas}
 exit-address-family
 !
 address-family ipv4 vrf gold
  redistribute connected
 exit-address-family
 !
 address-family ipv4 vrf iron
  redistribute connected
 exit-address-family
!
ip route 10.20.0.1 255.255.255.255 Tunnel0
"""


def hub_text(*, limit: int = 50, originate: bool = True, default: bool = True, maps: str = "") -> str:
    return HUB_TEXT.format(
        limit=limit,
        originate="default-information originate" if originate else "!",
        default="ip route vrf gold 0.0.0.0 0.0.0.0 Null0 tag 777" if default else "!",
        maps=maps,
    )


def spoke_text(n: int, *, allowas_in: bool = False) -> str:
    allowas = "neighbor 10.20.0.1 allowas-in 1" if allowas_in else "!"
    return SPOKE_TEXT.format(n=n, gold=62 + n, iron=72 + n, allowas=allowas)


class Underlay(ServiceShell):
    """tunnel and ikev2, as far as others hear them: links are up, neighbours behind an interface that is up can be sent to."""

    name = "underlay"
    produces = frozenset(
        {
            LinkState,
            AdjacencyState,
            InterfaceOffered,
            AddressOffered,
            RouteOffered,
            BindingOffered,
            OverlayState,
        }
    )
    consumes = frozenset({AdjacencyWanted})

    async def begin(self) -> None:
        self._told: dict[Any, AdjacencyRow | None] = {}
        self.seat.subscribe(AdjacencyWanted)

    def receive(self, message: Message) -> None:
        if isinstance(message, Delta):
            rows = {key: AdjacencyRow(True, 1400) if row else None for key, row in message.rows.items()}
            changed = {key: row for key, row in rows.items() if self._told.get(key) != row}
            self._told.update(changed)
            self.seat.publish(AdjacencyState, changed)


UNDERLAY = ServiceSpec(
    name="underlay",
    factory=lambda _config, context: Underlay(context),
    produces=Underlay.produces,
    consumes=Underlay.consumes,
    rank=5,
)
QUIET = 20


@define(eq=False)
class Box:
    """A node."""

    name: str
    router: Router
    capture: LogCapture

    def say(self, topic: Any, rows: dict[Any, Any], table: str = "") -> None:
        underlay = self.router.service("underlay")
        assert isinstance(underlay, Underlay)
        underlay.seat.publish(topic, rows, table)

    @property
    def bgp(self) -> BgpService:
        service = self.router.service("bgp")
        assert isinstance(service, BgpService)
        return service

    def peer(self, address: bytes) -> PeerSnapshot | None:
        return next((one for one in self.bgp.snapshot().peers if one.key == ("", address)), None)

    def up(self, address: bytes) -> bool:
        peer = self.peer(address)
        return peer is not None and peer.state is State.ESTABLISHED

    def routes(self, vrf: str = "") -> dict[str, str]:
        """Prefix -> owner of the best."""
        rib = self.router.tables.rib.ribs.get(vrf, {})
        return {str(prefix): best.owner for prefix, entry in rib.items() if (best := entry.best()) is not None}

    def leaf(self, vrf: str, address: str) -> Any:
        fib = self.router.tables.fib.get(vrf)
        assert fib is not None
        return fib.lookup(parse_address(address))

    def lfib(self) -> dict[int, Any]:
        return dict(self.router.tables.lfib.rows)

    def text(self, command: str) -> str:
        return self.router.execute(command).text


@define(eq=False)
class Bed:
    world: MemoryNetwork = field(factory=lambda: MemoryNetwork(seed=11))
    boxes: dict[str, Box] = field(factory=dict)
    _routed: set[bytes] = field(factory=set)

    async def box(self, name: str, text: str) -> Box:
        capture = LogCapture()
        log = structlog.wrap_logger(
            structlog.ReturnLogger(), processors=[capture], wrapper_class=structlog.make_filtering_bound_logger(QUIET)
        )
        router = Router(
            Config.from_ios(text, source=name),
            network=self.world.node(name),
            clock=VirtualClock(),
            entropy=SeededEntropy(f"bed/{name}"),
            specs=(UNDERLAY, ROUTING, MFI, BGP),
            log=log,
        )
        await router.start()
        made = self.boxes[name] = Box(name, router, capture)
        names = [name for name in router.config.node.interfaces if not name.startswith("Loopback")]
        made.say(LinkState, {name: LinkRow(True, 1500) for name in names})
        return made

    async def hub(self, **named: Any) -> Box:
        self.world.node(HUB).address("lo", "10.20.0.1/32")
        return await self.box(HUB, hub_text(**named))

    async def spoke(self, n: int, **named: Any) -> Box:
        """Linked with the hub; its tunnel has no address yet."""
        name = f"spoke{n}"
        self.world.link((HUB, f"va{n}"), (name, "tun0"))
        self.world.node(name).route("10.20.0.1/32", device="tun0")
        box = await self.box(name, spoke_text(n, **named))
        box.say(BindingOffered, {("", Prefix.host(HUB_ADDRESS), b""): IMPLICIT_NULL})
        return box

    def assign(self, n: int, address: bytes, identity: str = "", *, hub_says: bool = True) -> None:
        """IKEv2 gives spoke `n` its address; the hub has a virtual-access interface for it, a route and a binding."""
        spoke, identity = f"spoke{n}", identity or f"spoke {n}"
        self.world.node(spoke).host.add_address("tun0", address, 32)
        if address not in self._routed:
            self._routed.add(address)
            self.world.node(HUB).route(f"{format_address(address)}/32", device=f"va{n}")
        hub, name, host = self.boxes[HUB], f"Virtual-Access{n}", Prefix.host(address)
        if hub_says:
            hub.say(OverlayState, {(name, address): OverlayRow(identity, bytes((172, 30, 1, 100 + n)))})
        row = InterfaceRow(
            name,
            InterfaceKind.TUNNEL,
            unnumbered="Loopback0",
            point_to_point=True,
            mpls=True,
            protection="default",
            parent="Virtual-Template1",
        )
        hub.say(InterfaceOffered, {name: row})
        hub.say(LinkState, {name: LinkRow(True, 1400)})
        hub.say(RouteOffered, {host: Route(1, (Via(interface=name),), "static")})
        hub.say(BindingOffered, {("", host, b""): IMPLICIT_NULL})
        self.boxes[spoke].say(AddressOffered, {("Tunnel0", address): AddressRow(32, origin="negotiated")})

    def withdraw(self, n: int, address: bytes, *, both: bool = True) -> None:
        """The SA is gone: what came with it goes, at the hub and (`both`) at the spoke."""
        hub, spoke, host = self.boxes[HUB], f"spoke{n}", Prefix.host(address)
        hub.say(OverlayState, {(f"Virtual-Access{n}", address): None})
        hub.say(RouteOffered, {host: None})
        hub.say(BindingOffered, {("", host, b""): None})
        hub.say(InterfaceOffered, {f"Virtual-Access{n}": None})
        if both:
            self.boxes[spoke].say(AddressOffered, {("Tunnel0", address): None})
            self.world.node(spoke).host.remove_address("tun0", address, 32)

    async def until(self, holds: Callable[[], Any], within: float, what: str = "") -> float:
        """How long it took, in virtual time."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while not holds():
            assert loop.time() - begun < within, what or "not in time"
            await asyncio.sleep(0.05)
        return loop.time() - begun

    async def stop(self) -> None:
        for box in self.boxes.values():
            await box.router.stop()


def spoke_address(n: int, host: int = 0) -> bytes:
    return bytes((10, 21, host, n))
