"""Address families as BGP numbers them, and the key that a route has in every table."""

from __future__ import annotations

from typing import NamedTuple

from stack.addr import RD, Afi, LabelStack, Prefix, Safi

__all__ = [
    "FAMILIES",
    "IPV4_LABELLED",
    "IPV4_UNICAST",
    "IPV6_LABELLED",
    "IPV6_UNICAST",
    "VPNV4",
    "VPNV6",
    "Family",
    "Nlri",
    "ip_key",
    "ip_nlri",
    "key_text",
    "labelled_nlri",
    "prefix_of",
    "rd_of",
    "vpn_key",
    "vpn_nlri",
]


class Family(NamedTuple):
    """(AFI, SAFI). Any pair of numbers; those in `FAMILIES` have routes here, the others stay opaque octets."""

    afi: int
    safi: int

    @property
    def bits(self) -> int:
        """The longest prefix of a known family: 32 or 128."""
        return 32 if self.afi == Afi.IPV4 else 128

    @property
    def vpn(self) -> bool:
        return self.safi == Safi.VPN

    @property
    def labelled(self) -> bool:
        """Whether its NLRI carry labels (RFC 8277, RFC 4364)."""
        return self.safi in (Safi.LABELLED, Safi.VPN)

    def __str__(self) -> str:
        return _NAMES.get(self, f"afi {self.afi} safi {self.safi}")


IPV4_UNICAST = Family(1, 1)
IPV6_UNICAST = Family(2, 1)
IPV4_LABELLED = Family(1, 4)
IPV6_LABELLED = Family(2, 4)
VPNV4 = Family(1, 128)
VPNV6 = Family(2, 128)

_NAMES = {
    IPV4_UNICAST: "ipv4 unicast",
    IPV6_UNICAST: "ipv6 unicast",
    IPV4_LABELLED: "ipv4 labelled-unicast",
    IPV6_LABELLED: "ipv6 labelled-unicast",
    VPNV4: "vpnv4 unicast",
    VPNV6: "vpnv6 unicast",
}
FAMILIES = frozenset(_NAMES)
"""The families whose NLRI this codec reads."""


class Nlri(NamedTuple):
    """One route of one family. What a table is keyed by is `key`, or `(key, path_id)` where ADD-PATH was negotiated.

    `key` is packed: [RD, 8 octets, VPN families only] + the prefix's significant octets + one octet of prefix length,
    host bits zero. The length comes last because the rest is then one slice of the message, both ways.
    `labels` is empty in unlabelled families and in withdrawals; `path_id` is 0 without ADD-PATH.
    """

    key: bytes
    labels: LabelStack = ()
    path_id: int = 0


def ip_key(prefix: Prefix) -> bytes:
    """The key of a prefix in the unicast and labelled-unicast families."""
    return prefix.network[: (prefix.length + 7) >> 3] + bytes((prefix.length,))


def vpn_key(rd: bytes, prefix: Prefix) -> bytes:
    """The key of a prefix in the VPN families."""
    return rd + ip_key(prefix)


def prefix_of(family: Family, key: bytes) -> Prefix:
    """The prefix inside a key, without its RD."""
    significant = key[8:-1] if family.safi == Safi.VPN else key[:-1]
    return Prefix(significant.ljust(4 if family.afi == Afi.IPV4 else 16, b"\0"), key[-1])


def rd_of(key: bytes) -> RD:
    """The RD of a VPN key."""
    return RD(key[:8])


def key_text(family: Family, key: bytes) -> str:
    """`100:1:192.0.2.0/24` or `192.0.2.0/24`."""
    prefix = prefix_of(family, key)
    return f"{rd_of(key)}:{prefix}" if family.vpn else str(prefix)


def ip_nlri(prefix: Prefix, path_id: int = 0) -> Nlri:
    return Nlri(ip_key(prefix), (), path_id)


def labelled_nlri(prefix: Prefix, labels: LabelStack, path_id: int = 0) -> Nlri:
    return Nlri(ip_key(prefix), labels, path_id)


def vpn_nlri(rd: bytes, prefix: Prefix, labels: LabelStack, path_id: int = 0) -> Nlri:
    return Nlri(vpn_key(rd, prefix), labels, path_id)
