"""A speaker's snapshot with something of everything, for the tests of what is shown."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from nhrp.engine.snapshot import (
    BindingKind,
    BindingSnapshot,
    NhsSnapshot,
    PeerSnapshot,
    PendingSnapshot,
    SpeakerSnapshot,
)
from stack.addr import Prefix
from stack.addr import parse_address as a
from stack.events import AddressRow, Interface, InterfaceKind, InterfaceRow, SaKey, SaRow, TunnelRow

__all__ = ["INTERFACES", "NOW", "SAS", "SNAPSHOT", "TUNNELS", "snapshot"]

NOW = 7_000_000.0
MINUTES = 60.0


def binding(prefix: str, next_hop: str, nbma: str, age: float, left: float | None, **more: Any) -> BindingSnapshot:
    said: dict[str, Any] = {
        "interface": "Tunnel4",
        "vrf": "",
        "kind": BindingKind.DYNAMIC,
        "created": NOW - age,
        "expires": None if left is None else NOW + left,
    }
    hop, at = a(next_hop) if next_hop else b"", a(nbma) if nbma else b""
    return BindingSnapshot(prefix=Prefix.parse(prefix), next_hop=hop, nbma=at, **{**said, **more})


BINDINGS = (
    binding("10.77.0.1/32", "10.77.0.1", "203.0.113.1", 71 * 24 * 3600.0, None, kind=BindingKind.STATIC),
    binding("10.77.0.9/32", "10.77.0.9", "203.0.113.9", 32.0, 147.0, flags=("router", "implicit", "used", "nhop")),
    binding("10.77.0.8/32", "10.77.0.8", "203.0.113.80", 610.0, 6590.0, claimed=a("192.168.80.8"),
            flags=("unique", "registered", "nat")),
    binding("10.44.9.0/24", "10.77.0.9", "203.0.113.9", 32.0, 147.0, vrf="Blue Corp", labels=(61, 3),
            flags=("router", "rib", "nho"), took=0.03312),
    binding("10.45.9.0/24", "10.77.0.9", "203.0.113.9", 31.0, 148.0, flags=("router", "rib")),
    binding("10.44.1.0/24", "10.77.0.4", "203.0.113.4", 30.0, 149.0, vrf="Blue Corp", kind=BindingKind.LOCAL,
            local_label=44, flags=("router", "unique", "local"), request_id=97, took=0.0214, waited=0.0187,
            requesters=((a("10.77.0.9"), a("203.0.113.9")), (a("10.77.0.8"), a("203.0.113.80")))),
    binding("10.46.0.7/32", "", "", 5.0, 175.0, kind=BindingKind.NEGATIVE, reason="no binding (code 12)"),
    binding("10.99.0.2/32", "10.99.0.2", "198.51.100.2", 3 * 3600.0, 4200.0, interface="Virtual-Access12",
            vrf="Blue Corp", flags=("unique", "registered")),
    binding("2001:db8:77::9/128", "2001:db8:77::9", "203.0.113.9", 45.0, 134.0, flags=("router", "implicit")),
    binding("2001:db8:9::/48", "2001:db8:77::9", "203.0.113.9", 44.0, 135.0, flags=("router", "rib")),
)  # fmt: skip

SNAPSHOT = SpeakerSnapshot(
    bindings=BINDINGS,
    nhs=(
        NhsSnapshot("Tunnel4", a("10.77.0.1"), a("203.0.113.1"), 0, "RE", 42, 42, NOW - 49.0, NOW + 2351.0),
        NhsSnapshot("Tunnel4", a("10.77.0.2"), b"", 10, "W", 0, 0, cluster=2),
        NhsSnapshot("Tunnel12", a("10.88.0.1"), a("203.0.113.66"), 0, "E", 7, 0, None, NOW + 64.0, "no answer"),
        NhsSnapshot("Tunnel4", a("2001:db8:77::1"), a("203.0.113.1"), 0, "RE", 3, 2, NOW - 3.0, NOW + 600.0),
    ),
    peers=(
        PeerSnapshot("Tunnel4", a("203.0.113.1"), (a("10.77.0.1"), a("2001:db8:77::1")), "S", up=True,
                     since=NOW - 71 * 24 * 3600.0, state="UP"),
        PeerSnapshot("Tunnel4", a("203.0.113.9"), (a("10.77.0.9"), a("2001:db8:77::9")), "D", up=True, since=NOW - 31.0,
                     state="UP"),
        PeerSnapshot("Tunnel4", a("203.0.113.80"), (a("10.77.0.8"),), "DNX", up=False, since=NOW - 11.0, state="IKE"),
        PeerSnapshot("Tunnel12", a("203.0.113.66"), (a("10.88.0.1"),), "S", up=False, since=0.0, state="NHRP"),
        PeerSnapshot("Virtual-Access12", a("198.51.100.2"), (a("10.99.0.2"),), "D", up=True, since=NOW - 3 * 3600.0,
                     state="UP"),
    ),
    pending=(
        PendingSnapshot("Tunnel4", "Blue Corp", a("10.44.7.7"), 4711, NOW - 3.0, 2),
        PendingSnapshot("Tunnel4", "", a("10.46.0.7"), 4712, NOW - 5.0, 1),  # its entry says the same
        PendingSnapshot("Tunnel4", "", a("2001:db8:46::7"), 4713, NOW - 1.0, 1),
    ),
    counters={
        "registrations taken": 5,
        "redirects sent": 12,
        "redirect not sent: told a short time ago": 88,
        "refused: its authentication is not ours": 3,
        "refused: malformed (checksum)": 2,
        "shortcuts installed": 4,
    },
    traffic={
        ("Tunnel4", "in", "registration-request"): 5,
        ("Tunnel4", "out", "registration-reply"): 5,
        ("Tunnel4", "out", "traffic-indication"): 12,
        ("Tunnel4", "out", "redirect-suppress"): 88,
        ("Tunnel4", "in", "resolution-request"): 2,
        ("Tunnel4", "out", "resolution-reply"): 2,
        ("Tunnel12", "out", "registration-request"): 7,
    },
    networks={"Tunnel4": 1, "Tunnel12": 2, "Virtual-Access12": 1},
)  # fmt: skip


def snapshot(**changed: Any) -> SpeakerSnapshot:
    return evolve(SNAPSHOT, **changed)


def _interface(name: str, *addresses: str, vrf: str = "", up: bool = True, **more: Any) -> Interface:
    row = InterfaceRow(name, InterfaceKind.TUNNEL, vrf=vrf, **more)
    return Interface(row, 1, up, 1400, addresses={a(one): AddressRow(24) for one in addresses})


INTERFACES = {
    "Tunnel4": _interface("Tunnel4", "10.77.0.4", "2001:db8:77::4", protection="core"),
    "Tunnel12": _interface("Tunnel12", "10.88.0.4", up=False),
    "Virtual-Access12": _interface(
        "Virtual-Access12", "10.99.0.1", vrf="Blue Corp", parent="Virtual-Template3", redirect=True, point_to_point=True
    ),
}
TUNNELS = {
    "Tunnel4": TunnelRow(a("203.0.113.4"), profile="core"),
    "Virtual-Access12": TunnelRow(a("203.0.113.4"), a("198.51.100.2"), "outside", "core"),
}
SAS = {
    SaKey("Tunnel4", a("203.0.113.9")): SaRow(up=True, identity="\x1b[31mspoke9.example"),
    SaKey("Tunnel4", a("203.0.113.80")): SaRow(up=False, reason="no answer"),
    SaKey("Virtual-Access12"): SaRow(up=True, identity="spoke2.example"),
    SaKey("Tunnel99", a("203.0.113.99")): SaRow(up=True),
}
