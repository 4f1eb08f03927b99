"""NHRP packets: octets <-> values, total.

    packet = decode(octets)              # WireError: offset, field, RFC section
    encode(packet)
    password_of(extension), cies_of(extension, packet), mpls_of(packet, oui)
    indication(code, offset, octets, own_nbma, own)        # the Error Indication about them, or None: say nothing

Standards: RFC 2332, RFC 2735 (error codes), Cisco's additions as FRR and tcpdump know them.
"""

from nhrp.wire.bounds import (
    MOST_CIES,
    MOST_ECHOED,
    MOST_EXTENSIONS,
    MOST_LABELS,
    MOST_OCTETS,
    DoesNotFitError,
)
from nhrp.wire.codec import decode, encode
from nhrp.wire.errors import error_of, indication, sender_of
from nhrp.wire.extensions import (
    PASSWORD_LIMIT,
    DeviceCapabilities,
    authentication,
    capabilities_of,
    cie_extension,
    cies_of,
    is_authentic,
    nat_addresses_of,
    offset_of,
    password_of,
)
from nhrp.wire.mpls import (
    Capability,
    ContextLabel,
    FecLabel,
    MplsBinding,
    NextHopLabel,
    Role,
    mpls_extension,
    mpls_of,
)
from nhrp.wire.packet import Cie, CieCode, ErrorCode, Extension, ExtensionKind, Flag, Kind, Packet
from stack.wire import WireError

__all__ = [
    "MOST_CIES",
    "MOST_ECHOED",
    "MOST_EXTENSIONS",
    "MOST_LABELS",
    "MOST_OCTETS",
    "PASSWORD_LIMIT",
    "Capability",
    "Cie",
    "CieCode",
    "ContextLabel",
    "DeviceCapabilities",
    "DoesNotFitError",
    "ErrorCode",
    "Extension",
    "ExtensionKind",
    "FecLabel",
    "Flag",
    "Kind",
    "MplsBinding",
    "NextHopLabel",
    "Packet",
    "Role",
    "WireError",
    "authentication",
    "capabilities_of",
    "cie_extension",
    "cies_of",
    "decode",
    "encode",
    "error_of",
    "indication",
    "is_authentic",
    "mpls_extension",
    "mpls_of",
    "nat_addresses_of",
    "offset_of",
    "password_of",
    "sender_of",
]
