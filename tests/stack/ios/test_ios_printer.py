"""`show running-config`: reading what was printed gives the same configuration, whatever it is."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bgp.config import (
    BgpConfig,
    ConnectionMode,
    FamilyConfig,
    LabelMode,
    ListenRange,
    NeighborConfig,
    NeighborFamily,
    Redistribute,
    Timers,
)
from bgp.lines import LINES as BGP_LINES
from mfi.config import MfiConfig
from mfi.lines import LINES as MFI_LINES
from stack.addr import RD, RT, Afi, Prefix, Safi, parse_address
from stack.config import Config, InterfaceAddress, InterfaceConfig, NodeConfig, StaticRoute, VrfConfig, VrfStyle
from stack.events import InterfaceKind
from stack.ios.interfaces import interface_kind, parent_of
from stack.ios.node_lines import LINES as NODE_LINES
from stack.ios.printer import route_map_text, running_config
from stack.ios.reader import read
from stack.ios.table import Table
from stack.policy.lists import (
    AccessEntry,
    AccessList,
    CommunityEntry,
    CommunityList,
    ExtCommunityEntry,
    ExtCommunityList,
    PrefixEntry,
    PrefixList,
)
from stack.policy.routemap import (
    MatchAccess,
    MatchCommunity,
    MatchExtCommunity,
    MatchLocalPreference,
    MatchMetric,
    MatchNextHop,
    MatchPrefix,
    MatchTag,
    RouteMap,
    Sequence,
    SetAsPathPrepend,
    SetCommunity,
    SetEncapsulate,
    SetLocalPreference,
    SetMetric,
    SetNextHop,
    SetRouteTarget,
    SetTag,
    SetWeight,
)
from tunnel.config import L3vpnProfile, StaticBinding, TransportProtocol, TunnelConfig, TunnelInterface, TunnelMode
from tunnel.lines import LINES as TUNNEL_LINES

# --- golden: IOS's layout -----------------------------------------------------------------------------------------------

TEXT = """\
!
hostname North-PE
enable secret 0 open sesame
!
vrf definition Blue Team
 description the blue ones
 rd 65010:7
 route-target export 65010:70
 route-target import 65010:70
 route-target import 65010:71
 !
 address-family ipv4
 exit-address-family
 !
 address-family ipv6
  route-target export 65010:76
 exit-address-family
!
ip vrf red
 rd 192.0.2.3:9
 route-target export 65010:90
!
mpls label range 1000 2000 static 3000 3999
mpls label quarantine 2.5
!
mpls label mode vrf "Blue Team" protocol bgp-vpnv4 per-vrf
mpls label mode all-vrfs protocol bgp-vpnv6 per-vrf
!
l3vpn encapsulation ip core transport
 transport ipv4 source Loopback3
 protocol gre key 0
 mdt loopback Loopback4
 no endpoint check
!
mpls static binding ipv4 198.51.100.0 255.255.255.0 3001
mpls static binding ipv4 192.0.2.9 255.255.255.255 output 192.0.2.33 implicit-null
!
interface Loopback3
 ip address 192.0.2.3 255.255.255.255
!
interface Ethernet0/1
 description to the core
 ip address 192.0.2.34 255.255.255.252
 ip address 198.51.100.1 255.255.255.0 secondary
 ipv6 address 2001:db8::34/64
 mtu 9000
 no ip unreachables
 mpls bgp forwarding
!
interface Ethernet0/2.10
 encapsulation dot1Q 10
 vrf forwarding Blue Team
 ip address 192.0.2.65 255.255.255.192
 ipv6 address 2001:db8:1::/64 eui-64
 ipv6 address fe80::1 link-local
 shutdown
!
interface Tunnel5
 ip unnumbered Loopback3
 ip mtu 1400
 ip tcp adjust-mss 1300
 tunnel source Loopback3
 tunnel destination 203.0.113.5
 tunnel key 77
 tunnel vrf red
!
router bgp 65010
 bgp router-id 192.0.2.3
 no bgp log-neighbor-changes
 bgp listen range 203.0.113.0/24 peer-group far
 bgp listen limit 40
 bgp next-hop Loopback3
 timers bgp 10 30
 neighbor far peer-group
 neighbor far remote-as 65020
 neighbor far transport connection-mode passive
 neighbor 192.0.2.9 remote-as 65010
 neighbor 192.0.2.9 update-source Loopback3
 neighbor 192.0.2.9 password 0 a b c
 !
 address-family ipv4
  neighbor far activate
  no neighbor 192.0.2.9 activate
 exit-address-family
 !
 address-family vpnv4
  neighbor 192.0.2.9 activate
  neighbor 192.0.2.9 send-community extended
  neighbor 192.0.2.9 route-map "over the core" in
 exit-address-family
 !
 address-family ipv4 vrf Blue Team
  neighbor 192.0.2.66 remote-as 65030
  redistribute connected
  default-information originate
  network 192.0.2.128 mask 255.255.255.192
  neighbor 192.0.2.66 activate
 exit-address-family
!
ip route 0.0.0.0 0.0.0.0 192.0.2.33
ip route vrf "Blue Team" 198.51.100.0 255.255.255.0 Ethernet0/2.10 192.0.2.66 200 tag 7 name backup
ip route vrf red 0.0.0.0 0.0.0.0 Null0
!
ipv6 route 2001:db8:9::/48 Ethernet0/1 fe80::9
!
ip access-list standard near
 10 permit 192.0.2.0 0.0.0.255
 20 deny any
!
ip community-list standard kept permit 65010:1 no-export
!
ip prefix-list customers seq 5 permit 198.51.100.0/24 ge 25 le 28
!
route-map over the core permit 10
"""


def test_golden_layout_reads_and_prints_to_itself(loads, table):
    text = TEXT.removesuffix("route-map over the core permit 10\n")
    text += 'route-map "over the core" deny 5\n match tag 7\n!\nroute-map "over the core" permit 10\n'
    text += " set ip next-hop encapsulate l3vpn core transport\n!\nend\n"
    assert running_config(loads(text).config, table=table) == text


def test_indentation_means_nothing(loads, table):
    flat = "\n".join(line.strip() for line in TEXT.splitlines())
    assert loads(flat).config == loads(TEXT).config


def test_control_characters_in_a_model_cannot_add_lines(table):
    """Models come from Python and TOML too."""
    evil = InterfaceConfig("Loopback1", InterfaceKind.LOOPBACK, description="x\nhostname owned\x1b[2J")
    text = running_config(Config({NodeConfig: NodeConfig(interfaces={"Loopback1": evil})}), table=table)
    assert "\nhostname owned" not in text
    assert "\x1b" not in text
    assert read(text, table=table).config.node.hostname == "Router"


def test_route_map_text_is_the_layout_of_show_route_map():
    sequence = Sequence(
        20, matches=(MatchTag((7, 9)),), sets=(SetEncapsulate(Afi.IPV6, "core transport"), SetLocalPreference(50))
    )
    lines, plain = route_map_text(RouteMap("X", (sequence,)))
    assert lines == [
        "route-map X, permit, sequence 20",
        "  Match clauses:",
        "    tag 7 9",
        "  Set clauses:",
        "    ipv6 next-hop encapsulate l3vpn core transport",
        "    local-preference 50",
    ]
    assert plain[0]["match"] == ["tag 7 9"]


# --- any configuration ----------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["Blue", "Customer A", "two  blanks", 'a "q"', "in", "x-1", "permit"]) | st.text(
    st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1, max_size=8
)
WORDS = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8)
TEXTS = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8) | st.just(
    "some words here"
)
V4 = st.integers(0x0B000001, 0xDFFFFFFF).filter(lambda n: n >> 24 != 127).map(lambda n: n.to_bytes(4))
V6 = st.integers(0x2000 << 112, (0x4000 << 112) - 1).map(lambda n: n.to_bytes(16))
P4 = st.builds(Prefix.of, V4, st.integers(1, 32))
P6 = st.builds(Prefix.of, V6, st.integers(1, 128))
RTS = st.builds(lambda a, n: RT.parse(f"{a}:{n}"), st.integers(1, 70000), st.integers(0, 65535))
RDS = st.builds(lambda a, n: RD.parse(f"{a}:{n}"), st.integers(1, 70000), st.integers(0, 65535))
U32 = st.integers(0, 0xFFFFFFFF)
IFNAMES = st.sampled_from(
    ["Loopback0", "Ethernet0/0", "Ethernet0/1.10", "Serial2/0", "eth0", "Tunnel1", "Virtual-Template1"]
)


@st.composite
def vrfs(draw):
    style = draw(st.sampled_from(VrfStyle))
    families = (
        frozenset({Afi.IPV4})
        if style is VrfStyle.IP_VRF
        else frozenset(draw(st.sets(st.sampled_from(Afi), min_size=1)))
    )
    both = draw(st.frozensets(RTS, max_size=2)), draw(st.frozensets(RTS, max_size=2))
    apart = style is VrfStyle.DEFINITION and draw(st.booleans())
    exports, imports = {}, {}
    for afi in families:
        export, learn = (draw(st.frozensets(RTS, max_size=2)), draw(st.frozensets(RTS, max_size=2))) if apart else both
        exports |= {afi: export} if export else {}
        imports |= {afi: learn} if learn else {}
    name = draw(NAMES.filter(lambda n: n.lower() != "default" and not n.startswith("forwarding ")))
    return VrfConfig(name, draw(st.none() | RDS), exports, imports, families, draw(st.just("") | TEXTS), style)


@st.composite
def interfaces(draw, vrf_names):
    name = draw(IFNAMES)
    kind = interface_kind(name)
    addresses = []
    if draw(st.booleans()):
        addresses.append(InterfaceAddress(draw(V4), 32))
    if draw(st.booleans()):
        addresses.append(InterfaceAddress(draw(V6), draw(st.integers(1, 128))))
    return InterfaceConfig(
        name,
        kind,
        vrf=draw(st.sampled_from(["", *vrf_names])),
        addresses=tuple(addresses),
        mtu=draw(st.just(0) | st.integers(68, 9000)),
        shutdown=draw(st.booleans()),
        description=draw(st.just("") | TEXTS),
        vlan=draw(st.none() | st.integers(1, 4094)) if parent_of(name) else None,
        parent=parent_of(name),
        unreachables=draw(st.booleans()),
        mss=draw(st.just(0) | st.integers(500, 1460)),
        mpls=draw(st.booleans()),
        point_to_point=kind in (InterfaceKind.TUNNEL, InterfaceKind.TEMPLATE),
    )


@st.composite
def static_routes(draw, vrf_names):
    v6 = draw(st.booleans())
    prefix = draw(P6 if v6 else P4)
    how = draw(st.sampled_from(["null", "via", "out", "both"]))
    return StaticRoute(
        draw(st.sampled_from(["", *vrf_names])),
        prefix,
        address=draw(V6 if v6 else V4) if how in ("via", "both") else b"",
        interface=draw(IFNAMES) if how in ("out", "both") else "",
        distance=draw(st.integers(1, 255)),
        tag=draw(st.just(0) | st.integers(1, 9999)),
        name=draw(st.just("") | NAMES),
        null=how == "null",
    )


LIST_NAMES = st.lists(NAMES, min_size=1, max_size=3).map(tuple)
MATCHES = st.one_of(
    st.builds(MatchPrefix, st.sampled_from(Afi), LIST_NAMES),
    st.builds(MatchNextHop, st.sampled_from(Afi), LIST_NAMES),
    st.builds(
        MatchAccess, st.sampled_from(Afi), st.lists(WORDS.map(lambda w: f"L{w}"), min_size=1, max_size=2).map(tuple)
    ),
    st.builds(MatchTag, st.frozensets(U32, min_size=1, max_size=3)),
    st.builds(MatchMetric, st.frozensets(U32, min_size=1, max_size=3)),
    st.builds(MatchLocalPreference, st.frozensets(U32, min_size=1, max_size=3)),
    st.builds(MatchCommunity, st.lists(st.sampled_from(["c1", "c2"]), min_size=1).map(tuple), st.booleans()),
    st.builds(MatchExtCommunity, LIST_NAMES),
)
SETS = st.one_of(
    st.builds(SetEncapsulate, st.sampled_from(Afi), NAMES.filter(lambda n: n.lower() != "l3vpn")),
    st.builds(SetNextHop, st.just(Afi.IPV4), V4),
    st.builds(SetNextHop, st.just(Afi.IPV6), V6),
    st.builds(SetLocalPreference, U32),
    st.builds(SetMetric, U32, st.booleans()),
    st.builds(SetTag, U32),
    st.builds(SetWeight, st.integers(0, 65535)),
    st.builds(SetCommunity, st.frozensets(U32, min_size=1, max_size=3), st.booleans()),
    st.just(SetCommunity(())),
    st.builds(SetRouteTarget, st.frozensets(RTS, min_size=1, max_size=3), st.booleans()),
    st.builds(SetAsPathPrepend, st.lists(st.integers(1, 70000), min_size=1, max_size=4).map(tuple)),
)
SEQUENCES = st.builds(
    Sequence,
    st.integers(0, 65535),
    st.booleans(),
    st.lists(MATCHES, unique=True, max_size=3).map(tuple),
    st.lists(SETS, unique_by=lambda s: (type(s), getattr(s, "afi", None)), max_size=4).map(tuple),
    st.just("") | TEXTS,
)


@st.composite
def prefix_lists(draw, name):
    afi = draw(st.sampled_from(Afi))
    entries = []
    for number in draw(st.lists(st.integers(1, 999), unique=True, min_size=1, max_size=4)):
        prefix = draw(P6 if afi is Afi.IPV6 else P4)
        low = draw(st.none() | st.integers(prefix.length, len(prefix.network) * 8))
        high = draw(st.none() | st.integers(low or prefix.length, len(prefix.network) * 8))
        entries.append(PrefixEntry(number, draw(st.booleans()), prefix, low, high))
    return PrefixList(name, afi, tuple(entries), draw(st.just("") | TEXTS))


NUMBERS = st.lists(st.integers(1, 99), unique=True, min_size=1, max_size=3)
COMMUNITY_LISTS = NUMBERS.flatmap(
    lambda numbers: st.tuples(
        *(
            st.builds(CommunityEntry, st.just(n), st.booleans(), st.frozensets(U32, min_size=1, max_size=3))
            for n in numbers
        )
    )
)
EXT_LISTS = NUMBERS.flatmap(
    lambda numbers: st.tuples(
        *(
            st.builds(
                ExtCommunityEntry, st.just(n), st.booleans(), st.frozensets(RTS.map(bytes), min_size=1, max_size=3)
            )
            for n in numbers
        )
    )
)
ACCESS_LISTS = NUMBERS.flatmap(
    lambda numbers: st.tuples(
        *(st.builds(AccessEntry, st.just(n), st.booleans(), V4, st.just(b"") | V4) for n in numbers)
    )
)


@st.composite
def nodes(draw):
    made = draw(st.lists(vrfs(), unique_by=lambda v: v.name, max_size=3))
    names = [vrf.name for vrf in made]
    held = draw(st.lists(interfaces(names), unique_by=lambda i: i.name, max_size=4))
    routes = draw(
        st.lists(static_routes(names), unique_by=lambda r: (r.vrf, r.prefix, r.address, r.interface), max_size=4)
    )
    maps = draw(
        st.dictionaries(NAMES, st.lists(SEQUENCES, unique_by=lambda s: s.number, min_size=1, max_size=3), max_size=2)
    )
    lists = {name: draw(prefix_lists(name)) for name in draw(st.sets(NAMES, max_size=2))}
    return NodeConfig(
        hostname=draw(WORDS),
        enable_secret=draw(st.just("") | TEXTS),
        vrfs={vrf.name: vrf for vrf in made},
        interfaces={interface.name: interface for interface in held},
        static_routes=tuple(sorted(routes, key=lambda r: len(r.prefix.network))),  # IPv4 prints first
        prefix_lists=lists,
        access_lists={
            n: AccessList(n, entries=e) for n, e in draw(st.dictionaries(WORDS, ACCESS_LISTS, max_size=2)).items()
        },
        community_lists={
            n: CommunityList(n, e) for n, e in draw(st.dictionaries(NAMES, COMMUNITY_LISTS, max_size=2)).items()
        },
        extcommunity_lists={
            n: ExtCommunityList(n, e) for n, e in draw(st.dictionaries(NAMES, EXT_LISTS, max_size=2)).items()
        },
        route_maps={name: RouteMap(name, tuple(sequences)) for name, sequences in maps.items()},
    )


MEMBERS = st.builds(
    NeighborFamily,
    activate=st.booleans(),
    send_standard=st.booleans(),
    send_extended=st.booleans(),
    next_hop_self=st.booleans(),
    next_hop_unchanged=st.booleans(),
    route_map_in=st.just("") | NAMES,
    route_map_out=st.just("") | NAMES,
    prefix_list_in=st.just("") | NAMES,
    prefix_list_out=st.just("") | NAMES,
    maximum_prefix=st.just(0) | st.integers(1, 99),
    soft_reconfiguration=st.booleans(),
    route_reflector_client=st.booleans(),
    allowas_in=st.integers(0, 10),
    default_originate=st.booleans(),
    as_override=st.booleans(),
)
FAMILIES = st.tuples(st.sampled_from(Afi), st.sampled_from([Safi.UNICAST, Safi.VPN]))


def _three_times(keepalive, more, retry):
    return Timers(keepalive, keepalive * 3 + more, retry)


TIMERS = st.none() | st.builds(_three_times, st.integers(1, 100), st.integers(0, 9), st.integers(1, 99))


def _neighbors(address, vrf, families):
    return st.builds(
        NeighborConfig,
        address=address,
        vrf=vrf,
        remote_as=st.integers(1, 70000),
        update_source=st.just("") | IFNAMES,
        ebgp_multihop=st.integers(0, 255),
        ttl_security=st.just(0) | st.integers(1, 254),
        mode=st.sampled_from(ConnectionMode),
        password=st.just("") | TEXTS,
        description=st.just("") | TEXTS,
        shutdown=st.booleans(),
        timers=TIMERS,
        families=st.dictionaries(families, MEMBERS, max_size=3),
    )


NETWORKS = st.lists(st.tuples(P4, st.just("") | NAMES), unique_by=lambda n: n[0], max_size=2).map(tuple)


SOURCES = st.sets(st.sampled_from(["connected", "static"]))
MODES = st.dictionaries(st.tuples(st.sampled_from(Afi), st.just("*") | NAMES), st.sampled_from(LabelMode), max_size=3)


@st.composite
def speakers(draw):
    vrf = draw(NAMES.filter(lambda n: n.lower() != "default"))
    inside = st.just((Afi.IPV4, Safi.UNICAST))
    everyone = draw(st.lists(_neighbors(V4, st.just(""), FAMILIES) | _neighbors(V4, st.just(vrf), inside), max_size=4))
    groups = draw(
        st.dictionaries(st.sampled_from(["mpls", "far.away"]), _neighbors(st.just(b""), st.just(""), FAMILIES))
    )
    keys = {(*family, one.vrf) for one in (*everyone, *groups.values()) for family in one.families}
    families = {key: FamilyConfig() for key in keys}
    families[Afi.IPV4, Safi.UNICAST, vrf] = FamilyConfig(
        tuple(
            Redistribute(source, draw(st.just("") | NAMES))
            for source in draw(st.sets(st.sampled_from(["connected", "static"])))
        ),
        draw(NETWORKS),
        draw(st.booleans()),
    )
    for one in everyone:
        if one.vrf and not one.families:
            families.setdefault((Afi.IPV4, Safi.UNICAST, one.vrf), FamilyConfig())
    ranges = (
        draw(
            st.lists(
                st.builds(ListenRange, P4, st.sampled_from(sorted(groups))), unique_by=lambda r: r.prefix, max_size=2
            )
        )
        if groups
        else []
    )
    return BgpConfig(
        asn=draw(st.integers(1, 70000)),
        router_id=draw(st.just(b"") | V4),
        log_neighbor_changes=draw(st.booleans()),
        neighbors={(one.vrf, one.address): one for one in everyone},
        peer_groups=groups,
        listen_ranges=tuple(one for one in ranges if one.peer_group),
        listen_limit=draw(st.integers(1, 5000)),
        families=families,
        next_hop_interface=draw(st.just("") | IFNAMES),
        label_modes=draw(MODES),
        timers=draw(TIMERS) or Timers(),
        default_ipv4_unicast=draw(st.booleans()),
        graceful_restart=draw(st.booleans()),
        retain_all_route_targets=draw(st.booleans()),
        port=draw(st.just(179) | st.integers(1, 65535)),
    )


@st.composite
def tunnels(draw):
    profiles = {}
    for name in draw(st.lists(NAMES, unique=True, max_size=2)):
        plain = draw(st.booleans())
        profiles[name] = L3vpnProfile(
            name,
            source=draw(st.sampled_from(["", "Loopback0"])),
            protocol=TransportProtocol.MPLS_IN_IP if plain else TransportProtocol.GRE,
            key=None if plain else draw(st.none() | U32),
            protection="" if plain else draw(st.just("") | NAMES),
            mdt_loopback=draw(st.sampled_from(["", "Loopback1"])),
            endpoint_check=draw(st.booleans()),
        )
    bindings = draw(
        st.lists(
            st.builds(StaticBinding, P4, local=st.integers(16, 99))
            | st.builds(StaticBinding, P4, next_hop=V4, output=st.sampled_from([0, 3, 16, 1048575])),
            unique_by=lambda b: (b.prefix, b.next_hop),
            max_size=3,
        )
    )
    return TunnelConfig(profiles, {}, tuple(bindings))


TABLE = Table.of([*NODE_LINES, *BGP_LINES, *MFI_LINES, *TUNNEL_LINES])

SLOW = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def same(config, table):
    text = running_config(config, table=table)
    again = read(text, "printed.cfg", table=table).config
    for kind in (NodeConfig, BgpConfig, MfiConfig, TunnelConfig):
        assert again[kind] == config[kind], text
    assert running_config(again, table=table) == text


@SLOW
@given(node=nodes())
def test_any_node_reads_back(node):
    same(Config({NodeConfig: node}), TABLE)


@SLOW
@given(bgp=speakers())
def test_any_speaker_reads_back(bgp):
    same(Config({BgpConfig: bgp}), TABLE)


@SLOW
@given(tunnel=tunnels(), first=st.integers(16, 500), size=st.integers(1, 500), quarantine=st.integers(0, 99))
def test_any_tunnel_and_label_range_read_back(tunnel, first, size, quarantine):
    same(Config({TunnelConfig: tunnel, MfiConfig: MfiConfig(first, first + size, quarantine=quarantine / 4)}), TABLE)


@pytest.mark.parametrize(
    ("mode", "point_to_point"), [(TunnelMode.GRE, True), (TunnelMode.MGRE, False)], ids=["point to point", "multipoint"]
)
def test_tunnel_interface_reads_back(table, mode, point_to_point):
    tunnel = TunnelInterface(
        "Tunnel9",
        source_address=parse_address("192.0.2.1"),
        destination=parse_address("192.0.2.2") if point_to_point else b"",
        mode=mode,
        key=0,
        vrf="Blue Team",
    )
    interface = InterfaceConfig("Tunnel9", InterfaceKind.TUNNEL, point_to_point=point_to_point, protection="P")
    config = Config(
        {
            NodeConfig: NodeConfig(interfaces={"Tunnel9": interface}),
            TunnelConfig: TunnelConfig(tunnels={"Tunnel9": tunnel}),
        }
    )
    same(config, table)
    same(
        config.replace(TunnelConfig(tunnels={"Tunnel9": evolve(tunnel, source="Loopback0", source_address=b"")})), table
    )
