"""Two lists: lines that are real IOS, are taken, and do nothing here, each with the reason why; and lines of packages that
this release does not have."""

from __future__ import annotations

from stack.ios.grammar import CONFIG, INTERFACE_MODE, Line, later, no_effect, refused
from stack.ios.table import EXEC

__all__ = ["LATER", "NO_EFFECT"]

_ROUTER_MODES = ("config-router", "config-router-af")

_FORWARDING = "packets are always forwarded by the FIB; there is nothing to switch on or off"
_COSMETIC = "it concerns the platform, its console or its clock"
_SERVICES = "this node has no such service"
_LINK = "the host's own device is set up by the host"
_IGP = "there is no IGP here: the other PEs are reached by static routes, or by routes of the host"
_LDP = "there is no LDP here"
_CLASSFUL = "it has been the only way BGP works here"
_SHELL = "a command of the shell, not configuration"


def _config(reason: str, *lines: str, no: bool | None = None) -> tuple[Line, ...]:
    return tuple(no_effect(CONFIG, line, reason, no=no) for line in lines)


def _interface(reason: str, *lines: str, no: bool | None = None) -> tuple[Line, ...]:
    return tuple(no_effect(INTERFACE_MODE, line, reason, no=no) for line in lines)


NO_EFFECT: tuple[Line, ...] = (
    *_config(
        _FORWARDING,
        "ip cef [distributed]",
        "ipv6 cef [distributed]",
        "ip routing",
        "ipv6 unicast-routing",
        "ip classless",
        "ip subnet-zero",
        "ip forward-protocol nd",
        "ip source-route",
        "mpls traffic-eng tunnels",
    ),
    *_config(
        _COSMETIC,
        "boot-start-marker",
        "boot-end-marker",
        "boot system {rest:text}",
        "version {rest:text}",
        "upgrade {rest:text}",
        "platform {rest:text}",
        "license {rest:text}",
        "clock {what:timezone|summer-time|calendar-valid} {rest:text}",
        "service {rest:text}",
        "logging {rest:text}",
        "memory-size {rest:text}",
        "redundancy",
        "multilink bundle-name {rest:text}",
        "spanning-tree {rest:text}",
        "file {rest:text}",
        "alias {rest:text}",
    ),
    no_effect(CONFIG, "banner {rest:text}", "the shell greets in its own words", kept=False),
    *_config(
        _SERVICES,
        "ip domain lookup",
        "ip domain-lookup",
        "ip domain {what:name|list} {rest:text}",
        "ip domain-name {rest:text}",
        "ip name-server {rest:text}",
        "ip host {rest:text}",
        "ip http {what:server|secure-server}",
        "ip ssh {rest:text}",
        "ip bootp server",
        "ip finger",
        "ip multicast-routing",
        "cdp run",
        "lldp run",
        "snmp-server {rest:text}",
        "ntp {rest:text}",
    ),
    *_config(_LDP, "mpls ip", "mpls label protocol ldp", "mpls ldp {rest:text}"),
    *(no_effect(CONFIG, line, _SHELL, no=False, kept=False) for line in ("enable", "disable", "do {rest:text}")),
    *_interface(
        _LINK,
        "fair-queue",
        "serial restart-delay {rest:text}",
        "clock rate {rate:int}",
        "duplex {what:auto|full|half}",
        "speed {rest:text}",
        "negotiation auto",
        "keepalive [{rest:text}]",
        "bandwidth {rate:int}",
        "delay {time:int}",
        "load-interval {time:int}",
        "carrier-delay {rest:text}",
        "hold-queue {rest:text}",
        "media-type {rest:text}",
        "encapsulation {what:hdlc|ppp}",
        "logging event {rest:text}",
        "snmp trap {rest:text}",
        "cdp enable",
        "ip route-cache [{rest:text}]",
        "ip mroute-cache",
        "ipv6 enable",
    ),
    *_interface(_IGP, "ip router {rest:text}", "ipv6 router {rest:text}", "isis {rest:text}", "ip ospf {rest:text}"),
    *_interface("no ICMP redirect is ever sent", "ip redirects", no=True),
    *_interface("ARP is answered for the node's own addresses only", "ip proxy-arp", no=True),
    *_interface("no broadcast is ever forwarded", "ip directed-broadcast", no=True),
    *_interface("LDP is not needed, and not here, where static labels or `mpls bgp forwarding` do", "mpls ip", no=True),
    no_effect(("config-std-nacl", "config-ext-nacl"), "remark {rest:text}", "it is a remark", no=False),
    no_effect(_ROUTER_MODES, "synchronization", _CLASSFUL, no=True),
    no_effect(_ROUTER_MODES, "auto-summary", _CLASSFUL, no=True),
    Line(
        (CONFIG, EXEC),
        "configure terminal",
        "enter configuration",
        edit=lambda _draft, _values: None,
        enters=CONFIG,
        effect=False,
        reason=_SHELL,
        kept=False,
    ),
    no_effect(EXEC, "enable", _SHELL, no=False, kept=False),
    no_effect(EXEC, "disable", _SHELL, no=False, kept=False),
    no_effect(EXEC, "end", _SHELL, no=False, kept=False),
    no_effect(EXEC, "exit", _SHELL, no=False, kept=False),
    no_effect(EXEC, "show {rest:text}", _SHELL, no=False, kept=False),
    refused(
        _ROUTER_MODES,
        "synchronization",
        "BGP here never waits for an IGP: only `no synchronization` can be had",
    ),
    refused(
        _ROUTER_MODES,
        "auto-summary",
        "BGP here never summarises to classful networks: only `no auto-summary` can be had",
    ),
)
"""Every line that is taken and does nothing."""


LATER: tuple[later, ...] = ()
"""Lines of packages to come, the longer beginnings first. There are none."""
