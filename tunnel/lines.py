"""The IOS lines of package tunnel: rows of the one grammar table."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import evolve

from stack.addr import FIRST_UNRESERVED_LABEL, LAST_LABEL, Prefix, ReservedLabel
from stack.config import InterfaceConfig
from stack.events import InterfaceKind
from stack.ios.grammar import (
    CONFIG,
    INTERFACE,
    INTERFACE_MODE,
    Draft,
    Line,
    Loose,
    Place,
    Refusal,
    Sections,
    Values,
    entry,
    flag,
    opening,
    refused,
    setting,
    value,
)
from tunnel.config import L3vpnProfile, StaticBinding, TransportProtocol, TunnelConfig, TunnelInterface, TunnelMode

__all__ = ["LINES", "ONE_TUNNEL"]

PROFILE_MODE = "config-l3vpn-encap-ip"

ONE_TUNNEL = "each PE supports one tunnel configuration only"
"""Why a second profile is not provisioned (MPLS VPN over mGRE, restrictions)."""

# --- L3VPN encapsulation profiles -------------------------------------------------------------------------------------

_PROFILE: Place[L3vpnProfile] = entry(
    TunnelConfig, "profiles", "profile", lambda values: L3vpnProfile(values["profile"]), mode=PROFILE_MODE
)


def _put_transport(profile: L3vpnProfile, values: Values) -> L3vpnProfile:
    source = values.get("source", "")
    if source and source == profile.mdt_loopback:
        raise Refusal("mGRE and the multicast distribution tree must not share a loopback", "source")
    return evolve(profile, source=source)


def _put_mdt(profile: L3vpnProfile, values: Values) -> L3vpnProfile:
    if values["loopback"] == profile.source:
        raise Refusal("mGRE and the multicast distribution tree must not share a loopback", "loopback")
    return evolve(profile, mdt_loopback=values["loopback"])


def _put_protocol(profile: L3vpnProfile, values: Values) -> L3vpnProfile:
    if values.get("protocol") == TransportProtocol.MPLS_IN_IP.value:
        return evolve(profile, protocol=TransportProtocol.MPLS_IN_IP, key=None)
    return evolve(profile, protocol=TransportProtocol.GRE, key=values.get("key"))


def _show_protocol(profile: L3vpnProfile) -> Iterable[Values]:
    plain = profile.protocol is TransportProtocol.MPLS_IN_IP
    yield {"protocol": profile.protocol.value, "key": None if plain else profile.key}


def _finish_profile(draft: Draft, values: Values) -> Iterable[Loose]:
    """MPLS-in-IP has neither key nor protection: on a protected tunnel it would go round both."""
    profile = _PROFILE.fetch(draft, values)
    if profile is not None and profile.protocol is TransportProtocol.MPLS_IN_IP and profile.protection:
        yield Loose("protocol mpls-in-ip", "MPLS-in-IP would go round the protection of the tunnel: use `protocol gre`")


_LATER = "is not in this release: the tunnel runs over IPv4, with GRE or MPLS-in-IP"
_PROFILE_LINES = (
    opening(
        CONFIG,
        "l3vpn encapsulation ip {profile:name:profile}",
        _PROFILE,
        PROFILE_MODE,
        show=lambda profile: ({"profile": profile.name},),
        help="how VPN packets travel between PEs over an IP core",
        order=40,
        finish=_finish_profile,
    ),
    setting(
        PROFILE_MODE,
        "transport ipv4 [source {source:interface}]",
        _PROFILE,
        _put_transport,
        show=lambda profile: ({"source": profile.source},),
        remove=lambda profile, _values: evolve(profile, source=""),
        help="the interface whose address our packets come from; without it, BGP's update-source or `bgp next-hop`",
        order=1,
    ),
    setting(
        PROFILE_MODE,
        "transport source {source:interface}",
        _PROFILE,
        _put_transport,
        remove=lambda profile, _values: evolve(profile, source=""),
        help="the same as `transport ipv4 source`",
        printed="transport ipv4 source {source:interface}",
        order=1,
    ),
    setting(
        PROFILE_MODE,
        "protocol ({protocol:=gre} [key {key:int:0-4294967295}] | {protocol:=mpls-in-ip})",
        _PROFILE,
        _put_protocol,
        show=_show_protocol,
        remove=lambda profile, _values: evolve(profile, protocol=TransportProtocol.GRE, key=None),
        help="GRE, with a key or without, or MPLS straight in IP (protocol 137)",
        order=2,
    ),
    value(
        PROFILE_MODE,
        "protection ipsec profile {ipsec:name:ipsec-profile}",
        _PROFILE,
        "protection",
        "ipsec",
        help="protect the tunnel by IPsec, an SA an endpoint",
        order=3,
    ),
    setting(
        PROFILE_MODE,
        "mdt loopback {loopback:interface}",
        _PROFILE,
        _put_mdt,
        show=lambda profile: ({"loopback": profile.mdt_loopback},) if profile.mdt_loopback else (),
        remove=lambda profile, _values: evolve(profile, mdt_loopback=""),
        help="the loopback of the multicast distribution tree, which must be another",
        order=4,
    ),
    flag(
        PROFILE_MODE,
        "endpoint check",
        _PROFILE,
        "endpoint_check",
        help="take tunnel packets from known PEs only",
        order=5,
    ),
    refused(PROFILE_MODE, "transport {what:ipv6|mpls|l2tpv3} [{rest:text}]", f"that transport {_LATER}"),
    refused(PROFILE_MODE, "protocol {what:l2tpv3|ipv6|ip|mpls} [{rest:text}]", f"that protocol {_LATER}"),
)

# --- tunnel interfaces ------------------------------------------------------------------------------------------------


def _make_tunnel(values: Values) -> TunnelInterface:
    return TunnelInterface(values["interface"])


_TUNNEL: Place[TunnelInterface] = entry(
    TunnelConfig, "tunnels", "interface", _make_tunnel, mode=INTERFACE_MODE, sparse=True
)


def _must_be_tunnel(draft: Draft, values: Values) -> None:
    if INTERFACE.get(draft, values).kind not in (InterfaceKind.TUNNEL, InterfaceKind.TEMPLATE):
        raise Refusal(f"{values['interface']} is no tunnel")


def _tunnel(line: Line) -> Line:
    """A row that only tunnels take."""
    edit = line.edit
    assert edit is not None

    def checked(draft: Draft, values: Values) -> None:
        _must_be_tunnel(draft, values)
        edit(draft, values)

    return evolve(line, edit=checked)


def _put_source(tunnel: TunnelInterface, values: Values) -> TunnelInterface:
    return evolve(tunnel, source=values.get("source", ""), source_address=values.get("address", b""))


def _put_destination(tunnel: TunnelInterface, values: Values) -> TunnelInterface:
    if tunnel.mode is TunnelMode.MGRE:
        raise Refusal("a multipoint tunnel has many destinations: they come from BGP or NHRP", "destination")
    return evolve(tunnel, destination=values["destination"])


def _put_mode(draft: Draft, values: Values) -> None:
    """A multipoint tunnel is no point-to-point link: next hops out of it are to be told apart."""
    mode = TunnelMode.MGRE if values["shape"] == "multipoint" else TunnelMode.GRE
    tunnel = _TUNNEL.get(draft, values)
    if mode is TunnelMode.MGRE and tunnel.destination:
        raise Refusal("the tunnel has a destination: a multipoint tunnel has many", "shape")
    _TUNNEL.store(draft, values, evolve(tunnel, mode=mode))

    def put(interface: InterfaceConfig, _values: Values) -> InterfaceConfig:
        return evolve(interface, point_to_point=mode is TunnelMode.GRE)

    INTERFACE.change(draft, values, put)


def _put_protection(interface: InterfaceConfig, values: Values) -> InterfaceConfig:
    if "ike" in values:
        raise Refusal(
            "an IPsec profile has one IKEv2 profile here: give it `set ikev2-profile`, and the tunnel that IPsec profile",
            "ike",
        )
    if values.get("shared"):
        raise Refusal("each tunnel has security associations of its own here: none are shared", "shared")
    return evolve(interface, protection=values["ipsec"])


def _show_mode(sections: Sections, values: Values) -> Iterable[Values]:
    tunnel = _TUNNEL.fetch(sections, values)
    if tunnel is not None and tunnel.mode is not TunnelMode.GRE:
        yield {"shape": "multipoint"}


_TUNNEL_LINES = (
    _tunnel(
        setting(
            INTERFACE_MODE,
            "tunnel source ({address:address} | {source:interface})",
            _TUNNEL,
            _put_source,
            show=lambda t: (
                ({"source": t.source},) if t.source else ({"address": t.source_address},) if t.source_address else ()
            ),
            remove=lambda t, _values: evolve(t, source="", source_address=b""),
            help="where our end of the tunnel is",
            order=60,
        )
    ),
    _tunnel(
        setting(
            INTERFACE_MODE,
            "tunnel destination {destination:address}",
            _TUNNEL,
            _put_destination,
            show=lambda t: ({"destination": t.destination},) if t.destination else (),
            remove=lambda t, _values: evolve(t, destination=b""),
            help="where the other end is",
            order=61,
        )
    ),
    _tunnel(
        Line(
            (INTERFACE_MODE,),
            "tunnel mode gre {shape:ip|multipoint}",
            "one other end, or many",
            edit=_put_mode,
            undo=lambda draft, values: _put_mode(draft, {**values, "shape": "ip"}),
            show=_show_mode,
            place=_TUNNEL,
            no="tunnel mode [gre {shape:ip|multipoint}]",
            order=62,
        )
    ),
    _tunnel(
        setting(
            INTERFACE_MODE,
            "tunnel key {key:int:0-4294967295}",
            _TUNNEL,
            lambda t, values: evolve(t, key=values["key"]),
            show=lambda t: () if t.key is None else ({"key": t.key},),
            remove=lambda t, _values: evolve(t, key=None),
            help="the GRE key",
            order=63,
        )
    ),
    _tunnel(
        value(
            INTERFACE_MODE,
            "tunnel vrf {transport:name:vrf}",
            _TUNNEL,
            "vrf",
            "transport",
            help="the VRF in which the tunnel's own packets travel",
            order=64,
        )
    ),
    _tunnel(
        setting(
            INTERFACE_MODE,
            "tunnel protection ipsec profile {ipsec:name:ipsec-profile} [ikev2-profile {ike:name:ikev2-profile}] [shared]",
            INTERFACE,
            _put_protection,
            show=lambda interface: ({"ipsec": interface.protection},) if interface.protection else (),
            remove=lambda interface, _values: evolve(interface, protection=""),
            help="protect the tunnel by IPsec",
            no="tunnel protection [ipsec profile {ipsec:name:ipsec-profile}]",
            order=65,
        )
    ),
    flag(
        INTERFACE_MODE,
        "mpls bgp forwarding",
        INTERFACE,
        "mpls",
        help="send and take labelled packets here, with no LDP",
        order=66,
    ),
    refused(
        INTERFACE_MODE,
        "tunnel mode {what:ipip|ipv6ip|ipsec|gre6|mpls|l2tpv3|aurp|eon|iptalk|nos|cayman|dvmrp} [{rest:text}]",
        "tunnels here are GRE over IP: `tunnel mode gre ip` or `tunnel mode gre multipoint`",
    ),
    Line(
        (INTERFACE_MODE,),
        "mpls ip",
        "never: LDP would keep tunnels up, and there is none here",
        edit=lambda draft, values: _refuse_ldp(draft, values),
    ),
)


def _refuse_ldp(draft: Draft, values: Values) -> None:
    if INTERFACE.get(draft, values).kind in (InterfaceKind.TUNNEL, InterfaceKind.TEMPLATE):
        raise Refusal(
            "`mpls ip` must never be given on a tunnel interface or a virtual template: it starts LDP, whose hellos keep "
            "the spoke-to-spoke tunnel up for ever; `mpls bgp forwarding` or `mpls nhrp` is what sends labels here"
        )
    raise Refusal(
        "there is no LDP here: `mpls bgp forwarding` sends and takes labels, `mpls static binding` gives them"
    )


# --- static label bindings --------------------------------------------------------------------------------------------

_NULLS = {"implicit-null": ReservedLabel.IMPLICIT_NULL, "explicit-null": ReservedLabel.IPV4_EXPLICIT_NULL}
_NULL_WORDS = {int(label): word for word, label in _NULLS.items()}


def _binding_key(binding: StaticBinding) -> tuple[object, ...]:
    return binding.prefix, binding.next_hop if binding.local is None else None


def _bindings(draft: Draft) -> dict[object, StaticBinding]:
    return draft.pile(
        "static bindings",
        lambda: {_binding_key(one): one for one in draft[TunnelConfig].bindings},
        lambda draft, pile: draft.put(evolve(draft[TunnelConfig], bindings=tuple(pile.values()))),
    )


def _binding(values: Values) -> StaticBinding:
    prefix = Prefix.of(values["network"], values["mask"])
    if prefix.network != values["network"]:
        raise Refusal("the address has bits outside its mask", "network")
    if "next_hop" not in values:
        return StaticBinding(prefix, local=values.get("label"))
    output = _NULLS[values["null"]] if "null" in values else values.get("label")
    return StaticBinding(prefix, next_hop=values["next_hop"], output=None if output is None else int(output))


def _put_binding(draft: Draft, values: Values) -> None:
    binding = _binding(values)
    _bindings(draft)[_binding_key(binding)] = binding


def _remove_binding(draft: Draft, values: Values) -> None:
    """With neither label nor next hop: all of the prefix."""
    wanted, held = _binding(values), _bindings(draft)
    gone = [
        key
        for key, one in held.items()
        if one.prefix == wanted.prefix
        and ("next_hop" not in values or one.next_hop == wanted.next_hop)
        and (wanted.local is None or one.local == wanted.local)
    ]
    if not gone:
        raise Refusal("there is no such binding")
    for key in gone:
        del held[key]


def _show_bindings(sections: Sections, _values: Values) -> Iterable[Values]:
    for one in sections[TunnelConfig].bindings:
        said: dict[str, object] = {"network": one.prefix.network, "mask": one.prefix.length}
        if one.local is not None:
            yield {**said, "label": one.local}
        elif one.output in _NULL_WORDS:
            yield {**said, "next_hop": one.next_hop, "null": _NULL_WORDS[one.output]}
        elif one.output is not None:
            yield {**said, "next_hop": one.next_hop, "label": one.output}


_BINDING = "mpls static binding ipv4 {network:ipv4} {mask:mask}"
_LABEL = f"{{label:int:{FIRST_UNRESERVED_LABEL}-{LAST_LABEL}}}"
_OUTPUT = f"output {{next_hop:ipv4}} ({_LABEL} | {{null:implicit-null|explicit-null}})"
_BINDING_LINE = Line(
    (CONFIG,),
    f"{_BINDING} ({_LABEL} | input {_LABEL} | {_OUTPUT})",
    "a label of our own for a prefix, or the label to send with towards a next hop",
    edit=_put_binding,
    undo=_remove_binding,
    show=_show_bindings,
    no=f"{_BINDING} [input {_LABEL} | {_LABEL} | {_OUTPUT} | output {{next_hop:ipv4}}]",
    order=45,
)

LINES: tuple[Line, ...] = (*_PROFILE_LINES, *_TUNNEL_LINES, _BINDING_LINE)
"""The rows of package tunnel."""
