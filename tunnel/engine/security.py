"""Protected tunnels: which SA a neighbour hangs on, what IKE is told of it, and what is left of the MTU. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from stack.esp import Cipher, EspForm, EspMode, Integrity
from stack.events import Interface, InterfaceKind, ProtectedRow, SaKey, SaRequest, SaRow, TunnelRow
from tunnel.config import TunnelInterface, TunnelMode
from tunnel.engine.profile import Provision, gre_overhead
from tunnel.engine.tunnels import Tunnels, tunnel_source

__all__ = ["NO_SA", "WORST_FORM", "Ends", "ends_of", "has_one", "protected_mtu", "sa_fault"]

NO_SA = "no security association"

WORST_FORM = EspForm(Cipher.AES_CBC_256, Integrity.HMAC_SHA2_256_128, udp=True)
"""Of the forms that are offered without being asked for, the one that leaves least: until the SA's own is known."""

IPV4 = 20


@frozen
class Ends:
    """The ends of a tunnel, in table `vrf`, and how they are protected: by IPsec profile `profile`, or not at all. `remote`
    empty: many far ends. `wanted`: we bring the SAs up (the peer of a clone did). `multipoint`: what is sent names its far end,
    even where one peer has proved to be there (a clone of a multipoint template)."""

    tunnel: str
    profile: str
    local: bytes
    remote: bytes = b""
    vrf: str = ""
    negotiated: bool = False
    wanted: bool = True
    multipoint: bool = False

    def row(self) -> TunnelRow:
        return TunnelRow(self.local, b"" if self.multipoint else self.remote, self.vrf, self.profile)

    def protection(self) -> ProtectedRow | None:
        if not self.profile:
            return None
        return ProtectedRow(self.profile, self.local, self.remote, self.vrf, self.negotiated)

    def request(self, key: SaKey) -> SaRequest | None:
        """The SA that `key` needs, which is one of this tunnel's neighbours; None: none from us."""
        remote = key.remote or self.remote
        unfit = not self.profile or not self.wanted or not remote or remote == self.local
        if unfit or bool(key.remote) == bool(self.remote):
            return None
        return SaRequest(self.profile, self.local, remote, self.vrf)


def ends_of(name: str, l3vpn: Provision | None, tunnels: Tunnels, interfaces: Mapping[str, Interface]) -> Ends | None:
    """None: no tunnel, or its own end is not known. A template never forwards, so it has none."""
    if l3vpn is not None and l3vpn.row.tunnel == name:
        own, profile = l3vpn.row.source, l3vpn.profile.protection
        return Ends(name, profile, own, multipoint=True) if own else None
    tunnel, interface = tunnels.get(name), interfaces.get(name)
    if tunnel is None or interface is None or interface.row.kind is not InterfaceKind.TUNNEL:
        return None
    _, source = tunnel_source(tunnel, interfaces)
    if not source:
        return None
    clone = tunnels.clones.get(name)
    return Ends(
        name,
        interface.row.protection,
        source,
        tunnel.destination if clone is None else clone.remote,
        tunnel.vrf,
        interface.row.negotiated,
        wanted=interface.row.admin_up and clone is None,
        multipoint=tunnel.mode is TunnelMode.MGRE,
    )


def has_one(tunnel: TunnelInterface, tunnels: Tunnels) -> bool:
    """Whether a tunnel has one neighbour only, whatever addresses it is called by."""
    return tunnel.mode is TunnelMode.GRE or tunnel.name in tunnels.clones


def sa_fault(row: SaRow | None) -> str:
    """Why a protected neighbour cannot be sent to ('' if it can): it fails closed (RFC 4301 5.1: no SA, no packet)."""
    if row is None:
        return f"{NO_SA}: none has been negotiated yet"
    return "" if row.up else f"{NO_SA}: {row.reason or 'it is down'}"


def protected_mtu(transport: int, key: int | None, row: SaRow | None) -> int:
    """The largest packet behind GRE and ESP in a transport packet of `transport` octets. In transport mode ESP protects what
    follows the outer IPv4 header, in tunnel mode that header too, behind one more."""
    form = (row.form if row is not None else None) or WORST_FORM
    gre = gre_overhead(key) - IPV4
    return max(0, form.room(transport) - gre - (IPV4 if form.mode is EspMode.TUNNEL else 0))
