"""Words and columns that the BGP commands share: prefixes without their natural mask, ages, codes, plain values."""

from __future__ import annotations

from bgp.engine.rib.snapshot import PathView
from bgp.wire import Origin, WellKnownCommunity
from stack.addr import RT, Prefix, format_address

__all__ = [
    "ORIGIN_CODES",
    "STATUS_CODES",
    "community",
    "extended_community",
    "network",
    "origin_code",
    "origin_word",
    "status",
]

STATUS_CODES = (
    "Status codes: s suppressed, d damped, h history, * valid, > best, i - internal, \n"
    "              r RIB-failure, S Stale, m multipath, b backup-path, x best-external, f RT-Filter, \n"
    "              a additional-path\n"
)
ORIGIN_CODES = "Origin codes: i - IGP, e - EGP, ? - incomplete\n"

_ORIGINS = {Origin.IGP: ("i", "IGP"), Origin.EGP: ("e", "EGP"), Origin.INCOMPLETE: ("?", "incomplete")}
_COMMUNITIES = {
    WellKnownCommunity.NO_EXPORT: "no-export",
    WellKnownCommunity.NO_ADVERTISE: "no-advertise",
    WellKnownCommunity.NO_EXPORT_SUBCONFED: "local-AS",
    WellKnownCommunity.GRACEFUL_SHUTDOWN: "gshut",
    WellKnownCommunity.BLACKHOLE: "blackhole",
}
_NATURAL = ((128, 8), (192, 16), (224, 24))
"""First octets below the first number have a natural mask of the second: classes A, B and C."""


def network(prefix: Prefix) -> str:
    """As IOS lists it: the length is left out where it is the natural one, and of the default route."""
    if len(prefix.network) == 4:
        natural = next((length for below, length in _NATURAL if prefix.network[0] < below), 32)
        if prefix.length == natural or (prefix.length == 0 and prefix.network == b"\0\0\0\0"):
            return format_address(prefix.network)
    return str(prefix)


def origin_code(path: PathView) -> str:
    return _ORIGINS[path.attributes.origin or Origin.IGP][0]


def origin_word(path: PathView) -> str:
    return _ORIGINS[path.attributes.origin or Origin.IGP][1]


def status(path: PathView) -> str:
    """The three columns before a network: valid, best, internal."""
    valid = "S" if path.stale else "*" if path.valid else " "
    best = ">" if path.best else " "
    internal = "i" if path.peer is not None and not path.external else " "
    return f"{valid}{best}{internal}"


def community(value: int) -> str:
    return _COMMUNITIES.get(WellKnownCommunity(value)) or str(value) if value in _WELL_KNOWN else _plain(value)


_WELL_KNOWN = frozenset(WellKnownCommunity)


def _plain(value: int) -> str:
    return f"{value >> 16}:{value & 0xFFFF}"


def extended_community(octets: bytes) -> str:
    """`RT:1:1`, `SoO:1:1`, else its octets."""
    if octets[0] <= 2 and octets[1] in (2, 3):
        return f"{'RT' if octets[1] == 2 else 'SoO'}:{RT(octets[:1] + bytes((2,)) + octets[2:])}"
    return f"0x{octets.hex()}"
