"""Everything that crosses from one package to another: state topics with their rows, facts, and requests. Pure data.

State is what an owner holds to be true. It travels as rows of a topic, keyed, newest wins, `None` withdraws; a topic has
one owner or many (then the rows of each owner are kept apart). Facts have happened and may be dropped under load, counted.
Requests are synchronous look-ups with one server and no side effect. See docs/architecture.md, section 3.

Rows that exist once a route are NamedTuples (0.4 us to create, shared where equal); rare ones are attrs frozen.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Generic, NamedTuple, TypeVar

from attrs import field, frozen

from stack.addr import RD, RT, Afi, Fec, LabelStack, Prefix
from stack.esp import EspForm

K = TypeVar("K")
R = TypeVar("R")
A = TypeVar("A")


class Owners(Enum):
    ONE = "one owner"
    MANY = "many owners, their rows kept apart"


@frozen(eq=False)
class Topic(Generic[K, R]):
    """A kind of state. Compared by identity; `name` is unique and is what `show bus` prints."""

    name: str
    owners: Owners
    about: str

    def __repr__(self) -> str:
        return self.name


class Delta(NamedTuple):
    """Rows of one (topic, owner, table) that changed. A row of None is withdrawn. `rows` is the reader's own dict."""

    topic: Topic[Any, Any]
    owner: str
    incarnation: int
    table: str
    rows: Mapping[Any, Any]


class Synced(NamedTuple):
    """All that `owner` held when it was (re)started has been delivered; what is not there is gone."""

    topic: Topic[Any, Any]
    owner: str
    incarnation: int


@frozen
class Fact:
    """Base of all facts."""


@frozen
class Request(Generic[A]):
    """Base of all requests; `A` is the type of the answer."""


# --- supervision -------------------------------------------------------------------------------------------------------


@frozen
class ServiceUp(Fact):
    owner: str
    incarnation: int


@frozen
class ServiceDown(Fact):
    """`owner` ended, because of `reason` (one line, never a secret). Its rows are stale until it is back."""

    owner: str
    incarnation: int
    reason: str


# --- configuration that several packages read: owner `router` ---------------------------------------------------------


@frozen
class Vrf:
    """A VRF, and what is exported from it and imported into it, by address family."""

    name: str
    index: int
    rd: RD | None = None
    export_rts: Mapping[Afi, frozenset[RT]] = field(factory=dict)
    import_rts: Mapping[Afi, frozenset[RT]] = field(factory=dict)
    families: frozenset[Afi] = frozenset()
    description: str = ""


VrfState: Topic[str, Vrf] = Topic("VrfState", Owners.ONE, "name -> VRF, the default one (empty name) included")

PolicyState: Topic[tuple[str, str], Any] = Topic(
    "PolicyState",
    Owners.ONE,
    "(kind, name) -> policy; kind 'route-map': compiled, lists inside; other lists as they are",
)

# --- interfaces --------------------------------------------------------------------------------------------------------


class InterfaceKind(Enum):
    ETHERNET = "ethernet"
    LOOPBACK = "loopback"
    TUNNEL = "tunnel"
    TEMPLATE = "template"
    TUN = "tun"


@frozen
class InterfaceRow:
    """An interface as its owner wants it. `parent`: of a dot1Q sub-interface or of a template's clone.

    `point_to_point`: any next hop out of it is the far end. `mpls`: labelled packets are accepted and may be sent
    (`mpls bgp forwarding`, `mpls nhrp`). `device`: the host's device behind it ('' if none).
    """

    name: str
    kind: InterfaceKind
    vrf: str = ""
    mtu: int = 1500
    admin_up: bool = True
    description: str = ""
    parent: str = ""
    vlan: int | None = None
    device: str = ""
    unnumbered: str = ""
    point_to_point: bool = False
    mpls: bool = False
    unreachables: bool = True
    mss: int = 0
    network_id: int = 0
    redirect: bool = False
    protection: str = ""
    internal: bool = False
    negotiated: bool = False


class AddressRow(NamedTuple):
    """An interface's own address: prefix length, and where it came from (configured, negotiated, ...)."""

    length: int
    secondary: bool = False
    origin: str = "configured"


class LinkRow(NamedTuple):
    """What the data plane knows of an interface. `mac` is empty where there is none."""

    up: bool
    mtu: int
    mac: bytes = b""
    reason: str = ""


InterfaceOffered: Topic[str, InterfaceRow] = Topic(
    "InterfaceOffered", Owners.MANY, "name -> interface: configured (router) or dynamic (tunnel)"
)
AddressOffered: Topic[tuple[str, bytes], AddressRow] = Topic(
    "AddressOffered", Owners.MANY, "(interface, address) -> own address"
)
LinkState: Topic[str, LinkRow] = Topic("LinkState", Owners.ONE, "name -> carrier, MTU and MAC, as tunnel sees them")


@frozen
class Interface:
    """An interface as all see it: what was offered, merged by routing. `addresses` maps octets to AddressRow."""

    row: InterfaceRow
    index: int
    up: bool
    mtu: int
    mac: bytes = b""
    addresses: Mapping[bytes, AddressRow] = field(factory=dict)
    reason: str = ""

    @property
    def name(self) -> str:
        return self.row.name

    @property
    def vrf(self) -> str:
        return self.row.vrf


InterfaceState: Topic[str, Interface] = Topic("InterfaceState", Owners.ONE, "name -> interface, merged by routing")

# --- routes ------------------------------------------------------------------------------------------------------------


class Via(NamedTuple):
    """One way to a destination.

    `address` alone: recursive, in table `vrf`. `interface` alone: attached. Both: that neighbour. `encap`: the L3VPN
    profile whose endpoint `address` is. `labels`: what the far end wants to see (bottom part of the stack, top first).
    """

    address: bytes = b""
    interface: str = ""
    vrf: str = ""
    encap: str = ""
    labels: LabelStack = ()

    def key(self) -> NextHopKey:
        """The next hop that this way needs; the same for all routes that go there, whatever their labels."""
        if self.encap:
            return NextHopKey("", self.address, "", self.encap, labelled=True)
        return NextHopKey(self.vrf, self.address, self.interface, "", bool(self.labels))


class Route(NamedTuple):
    """A candidate of one owner for one prefix. No `vias`: discard (Null0). `kind` is its source code in `show ip route`
    (connected, local, static, ibgp, ebgp, nhrp, ...). `override`: takes the place of the winner's next hop and labels (NHO);
    where no other owner has a route for the prefix, it is one of its own (an H route)."""

    distance: int
    vias: tuple[Via, ...]
    kind: str
    metric: int = 0
    tag: int = 0
    override: bool = False


RouteOffered: Topic[Prefix, Route] = Topic(
    "RouteOffered", Owners.MANY, "table = VRF; prefix -> candidate, by owner (static, bgp, nhrp, ikev2)"
)


class Selected(NamedTuple):
    """The winner for a prefix. `next_hop`: id in the next-hop table (0 if discarded); `since` on the clock's scale."""

    owner: str
    route: Route
    next_hop: int
    since: float


RouteSelected: Topic[Prefix, Selected] = Topic(
    "RouteSelected", Owners.ONE, "table = VRF; prefix -> the route in use (its next hop resolves)"
)


class NextHopKey(NamedTuple):
    """A next hop as a client means it; `labelled`: it must carry labelled packets (a VPN or LSP route)."""

    vrf: str
    address: bytes
    interface: str = ""
    encap: str = ""
    labelled: bool = False


class NextHopRow(NamedTuple):
    """Whether it can be used now, and why not; `metric` of the route to it; `interface` it leaves by ('' if none). `closed`:
    not usable, but what goes there belongs into a protected tunnel, and must not go another way instead."""

    usable: bool
    reason: str
    metric: int = 0
    interface: str = ""
    id: int = 0
    closed: bool = False


NextHopWanted: Topic[NextHopKey, bool] = Topic(
    "NextHopWanted", Owners.MANY, "next hops whose state a client wants to be told"
)
NextHopState: Topic[NextHopKey, NextHopRow] = Topic("NextHopState", Owners.ONE, "what routing says of wanted next hops")

# --- labels ------------------------------------------------------------------------------------------------------------

SCOPE_MGRE, SCOPE_ETHERNET, SCOPE_PROTECTED = "mgre", "ethernet", "protected"
"""Kinds of ingress a label may arrive by (RFC 4023 8). A scope may also hold interface names, to bind a label closer."""


class LabelRequest(NamedTuple):
    """What a client wants a FEC's label to do. `next_hop` 0: pop and look up in the FEC's VRF, else pop and send there.
    `scope`: by which kinds of ingress (or interfaces) it may arrive. `fixed`: this label value and no other."""

    scope: frozenset[str]
    next_hop: int = 0
    fixed: int | None = None
    vrf: str = ""


class LabelRow(NamedTuple):
    """The local label of a FEC, or None and the reason why there is none."""

    label: int | None
    reason: str = ""


LabelWanted: Topic[Fec, LabelRequest] = Topic("LabelWanted", Owners.MANY, "FEC -> what its local label is for")
LabelBound: Topic[Fec, LabelRow] = Topic("LabelBound", Owners.ONE, "FEC -> local label; written after the ILM is")

BindingOffered: Topic[tuple[str, Prefix, bytes], LabelStack] = Topic(
    "BindingOffered",
    Owners.MANY,
    "(vrf, prefix, next hop; empty: any) -> remote labels; (3,) is implicit null",
)

# --- tunnels and adjacencies -------------------------------------------------------------------------------------------


class EndpointRow(NamedTuple):
    """Where an overlay address is reached, across the transport network. `uses`: how many routes of the owner lead there
    (bgp counts the VPN routes of a remote PE, so the row changes with them while the endpoint stays). `wanted`: the owner needs
    the way there, so a protected tunnel wants a security association for it. Who knows the endpoint only because there is one
    (ikev2) does not, or nothing would ever go down again."""

    transport: bytes
    uses: int = 1
    wanted: bool = True


L3VPN_TUNNEL = ""
"""In EndpointOffered: 'the mGRE tunnel of this node's L3VPN profile', whose name the client need not know."""

EndpointOffered: Topic[tuple[str, bytes], EndpointRow] = Topic(
    "EndpointOffered", Owners.MANY, "(tunnel interface, overlay address) -> transport address; a claim per owner"
)


class SourceRow(NamedTuple):
    """An interface that BGP uses as its own end. `use` is 'update-source' or 'bgp next-hop'; the latter wins."""

    use: str


SourceOffered: Topic[str, SourceRow] = Topic(
    "SourceOffered", Owners.MANY, "interface -> how BGP uses it as next hop: the automatic transport source"
)


class ProfileRow(NamedTuple):
    """An L3VPN encapsulation profile at work. `vrf` is its tunnel-encapsulation VRF; `source` our transport address;
    `protected`: packets travel by IPsec or not at all."""

    tunnel: str
    vrf: str
    source_interface: str
    source: bytes
    usable: bool
    reason: str = ""
    protected: bool = False


ProfileState: Topic[str, ProfileRow] = Topic("ProfileState", Owners.ONE, "L3VPN profile -> its tunnel and source")


class AdjacencyKey(NamedTuple):
    """A neighbour on an interface; `address` is empty on a point-to-point one."""

    interface: str
    address: bytes = b""


class AdjacencyRow(NamedTuple):
    """Whether a neighbour can be sent to. An Ethernet neighbour still being resolved is usable, with a reason.

    `transport`, in table `transport_vrf`: where a tunnel's outer packets go; routing refuses routes that would carry them
    into the tunnel itself. Empty: no tunnel.
    """

    usable: bool
    mtu: int
    reason: str = ""
    transport: bytes = b""
    transport_vrf: str = ""


AdjacencyWanted: Topic[AdjacencyKey, bool] = Topic(
    "AdjacencyWanted", Owners.MANY, "neighbours that routes need: tunnel resolves them (ARP, ND) and keeps them"
)
AdjacencyState: Topic[AdjacencyKey, AdjacencyRow] = Topic(
    "AdjacencyState", Owners.ONE, "neighbour -> usable or why not"
)


class HostPortRow(NamedTuple):
    """The device through which a VRF's own addresses live in the host's TCP/IP."""

    device: str
    mtu: int


HostPortState: Topic[str, HostPortRow] = Topic("HostPortState", Owners.ONE, "VRF -> its host port, opened by forwarder")

# --- security associations ------------------------------------------------------------------------------------------


class SaKey(NamedTuple):
    """A protected neighbour: a tunnel interface and, if that has many, the transport address of the far end (else empty).

    Who wants a neighbour that has no tunnel yet names a virtual template and the transport address: ikev2 calls it, or takes
    the SA that it has brought, and gives it a virtual-access interface (`SaRow.access`), whose own key carries packets."""

    interface: str
    remote: bytes = b""


class TunnelRow(NamedTuple):
    """A tunnel's own end and its far one (empty: many), octets, in table `vrf`: NBMA addresses. `profile`: the IPsec profile
    that protects it ('' if none does)."""

    local: bytes
    remote: bytes = b""
    vrf: str = ""
    profile: str = ""


TunnelState: Topic[str, TunnelRow] = Topic(
    "TunnelState", Owners.ONE, "tunnel interface whose own end is known -> its ends; templates are none"
)


class ProtectedRow(NamedTuple):
    """A tunnel that must be protected by IPsec profile `profile`. `local` and `remote` are its ends, in table `vrf`; `remote`
    empty: many. `negotiated`: it asks its peer for its own address (`ip address negotiated`)."""

    profile: str
    local: bytes
    remote: bytes = b""
    vrf: str = ""
    negotiated: bool = False


TunnelProtected: Topic[str, ProtectedRow] = Topic(
    "TunnelProtected", Owners.ONE, "tunnel interface -> its protection: what an IKE peer's proposal is held against"
)


class SaRequest(NamedTuple):
    """A CHILD_SA that a client needs; the row stands as long as it does. `profile`: the IPsec profile. The ends are in table
    `vrf`."""

    profile: str
    local: bytes
    remote: bytes
    vrf: str = ""


SaWanted: Topic[SaKey, SaRequest] = Topic(
    "SaWanted", Owners.MANY, "protected neighbour -> the security association it needs"
)


class SaRow(NamedTuple):
    """Whether a protected neighbour can be sent to, and if not, why. `form`: what ESP adds, for the MTU. `identity`: the
    peer's, as text. `since`: on the clock's scale. `child`: the CHILD_SA's number, which a rekey changes. `access`: of a key
    that names a virtual template, the virtual-access interface that the neighbour has got."""

    up: bool
    reason: str = ""
    form: EspForm | None = None
    identity: str = ""
    since: float = 0.0
    child: int = 0
    access: str = ""


SaState: Topic[SaKey, SaRow] = Topic("SaState", Owners.ONE, "protected neighbour -> its security association")


class AccessRow(NamedTuple):
    """A virtual-access interface that an authenticated peer gets: a clone of `template`, with its own ends (in table `vrf`).
    `mode` of the tunnel is the template's."""

    template: str
    local: bytes
    remote: bytes
    profile: str
    vrf: str = ""
    description: str = ""


AccessWanted: Topic[str, AccessRow] = Topic(
    "AccessWanted", Owners.ONE, "interface name (Virtual-Access1, ...) -> the clone that tunnel makes of a template"
)


class OverlayRow(NamedTuple):
    """Whose an overlay address is: IKEv2 assigned it to the peer `identity` (text) at `transport`. What else that peer says it
    is on that interface is not true."""

    identity: str
    transport: bytes


OverlayState: Topic[tuple[str, bytes], OverlayRow] = Topic(
    "OverlayState", Owners.ONE, "(interface, overlay address) -> the peer that it is assigned to: identity binding"
)


@frozen
class SaSoft(Fact):
    """An SA has carried as much as it should: time to rekey it."""

    spi: int
    inbound: bool


@frozen
class SaMoved(Fact):
    """A packet that an inbound SA has authenticated came from another address or UDP port than the SA's."""

    spi: int
    remote: bytes
    port: int


@frozen
class SaUnknown(Fact):
    """An ESP packet came, in transport VRF `vrf`, with an SPI that nobody has."""

    local: bytes
    remote: bytes
    spi: int
    vrf: str = ""


# --- what the packet path tells the others -----------------------------------------------------------------------------


class Ingress(NamedTuple):
    """How a packet came in: kept with it to egress. `endpoint` is the outer source (empty on an attachment)."""

    interface: str
    vrf: str
    endpoint: bytes = b""
    sa: int = 0
    in_label: int | None = None


@frozen
class Hairpin(Fact):
    """A packet left by an interface of the NHRP network it came in by. `header`: the IP header found under the stack, and the
    first eight octets behind it."""

    ingress: Ingress
    vrf: str
    egress: str
    header: bytes


@frozen
class NhrpReceived(Fact):
    """An NHRP packet that came in by `interface`, whose inside VRF is `vrf`. `outer_source`: of a protected tunnel the address
    that its SA belongs to. `sa`: the CHILD_SA's number (0: in clear). A password stands in
    `octets`, which are not said therefore."""

    interface: str
    vrf: str
    outer_source: bytes
    outer_destination: bytes
    sa: int
    octets: bytes = field(repr=False)


@frozen
class SendNhrp(Fact):
    """An NHRP packet for the wire. `nbma`: where to, on an interface with many far ends (else empty)."""

    interface: str
    nbma: bytes
    octets: bytes = field(repr=False)


@frozen
class NeighbourUnresolved(Fact):
    """The packet path has a packet for an attached neighbour that nobody resolved yet."""

    interface: str
    address: bytes


@frozen
class NeighbourPacket(Fact):
    """An ARP packet, or an IPv6 neighbour discovery packet, that came in by an attachment. `octets` is the frame's
    payload; `source` the frame's source MAC."""

    interface: str
    source: bytes
    arp: bool
    octets: bytes


@frozen
class SendNeighbourPacket(Fact):
    """tunnel's answer or question for the wire: an ARP (`ethertype` 0x0806) or ND (0x86DD) payload."""

    interface: str
    destination: bytes
    ethertype: int
    octets: bytes


@frozen
class LabelCounters(Request[Mapping[int, int]]):
    """Octets that came in under each label, since the packet path started. Served by whoever counts them."""


@frozen
class RoutesUsed(Request[frozenset[Prefix]]):
    """Which of `prefixes` of `vrf` packets have been sent to since they were asked about last (or first): of a shortcut that
    nobody uses no renewal is wanted. Served by whoever sends packets."""

    vrf: str
    prefixes: tuple[Prefix, ...]
