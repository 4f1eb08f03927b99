"""The values that IKEv2 payloads decode to (RFC 7296 3). Codecs are in the modules beside this one."""

from __future__ import annotations

from typing import NamedTuple

from attrs import field

from stack.esp import Selector
from stack.values import value

__all__ = [
    "Attribute",
    "Auth",
    "Certificate",
    "CertificateRequest",
    "Configuration",
    "Delete",
    "Encrypted",
    "EncryptedFragment",
    "Identity",
    "IdentityPayload",
    "KeyExchange",
    "Message",
    "Nonce",
    "Notify",
    "Payload",
    "Proposal",
    "SecurityAssociation",
    "TrafficSelectors",
    "Transform",
    "Unknown",
    "VendorId",
]


class Transform(NamedTuple):
    """3.3.2. `kind`: 1 ENCR, 2 PRF, 3 INTEG, 4 D-H group, 5 ESN. `key_length` in bits, 0: no such attribute.

    `others`: attributes that we do not know, (type with its format bit, octets). RFC 7296 3.3.6: a transform that has any is
    not to be chosen; one made of kind, number and key length is never equal to it.
    """

    kind: int
    number: int
    key_length: int = 0
    others: tuple[tuple[int, bytes], ...] = ()


@value
class Proposal:
    """3.3.1. `protocol`: 1 IKE, 2 AH, 3 ESP."""

    number: int
    protocol: int
    spi: bytes = b""
    transforms: tuple[Transform, ...] = ()


@value
class SecurityAssociation:
    proposals: tuple[Proposal, ...]


@value
class KeyExchange:
    group: int
    octets: bytes


@value
class Identity:
    """3.5. `kind`: 1 IPv4, 2 FQDN, 3 RFC 822, 5 IPv6, 9 DER DN, 11 key id."""

    kind: int
    octets: bytes


@value
class IdentityPayload:
    """IDi or IDr. `reserved`: as it came, since AUTH covers it (RFC 7296 2.15)."""

    identity: Identity
    initiator: bool
    reserved: bytes = bytes(3)


@value
class Certificate:
    """3.6. `encoding`: 4 is X.509 signature, 12 hash and URL, 7 CRL."""

    encoding: int
    octets: bytes


@value
class CertificateRequest:
    """3.7. `octets`: SHA-1 hashes of trusted public keys, 20 octets each."""

    encoding: int
    octets: bytes


@value
class Auth:
    """3.8. `method`: 1 RSA, 2 PSK, 14 digital signature (then `octets` begin with length and ASN.1 AlgorithmIdentifier)."""

    method: int
    octets: bytes = field(repr=False)


@value
class Nonce:
    octets: bytes


@value
class Notify:
    """3.10. `protocol` and `spi` are of the SA concerned (0 and empty: this IKE SA)."""

    kind: int
    octets: bytes = b""
    protocol: int = 0
    spi: bytes = b""


@value
class Delete:
    """3.11. `protocol` 1: this IKE SA, no SPIs; 3: ESP, the sender's inbound SPIs, four octets each."""

    protocol: int
    spis: tuple[bytes, ...] = ()


@value
class VendorId:
    octets: bytes


@value
class TrafficSelectors:
    initiator: bool
    selectors: tuple[Selector, ...]


class Attribute(NamedTuple):
    """3.15.1: a configuration attribute."""

    kind: int
    octets: bytes = b""


@value
class Configuration:
    """3.15. `kind`: 1 REQUEST, 2 REPLY, 3 SET, 4 ACK."""

    kind: int
    attributes: tuple[Attribute, ...] = ()


@value
class Encrypted:
    """3.14: still sealed (IV, ciphertext, ICV). `first`: type of the first payload inside. Always the last payload."""

    first: int
    octets: bytes = field(repr=False)


@value
class EncryptedFragment:
    """RFC 7383 2.5, still sealed. `first` is 0 but in fragment 1."""

    first: int
    number: int
    total: int
    octets: bytes = field(repr=False)


@value
class Unknown:
    """A payload of a type that we do not know. If `critical`, the message is refused (RFC 7296 2.5)."""

    kind: int
    critical: bool
    octets: bytes


Payload = (
    SecurityAssociation
    | KeyExchange
    | IdentityPayload
    | Certificate
    | CertificateRequest
    | Auth
    | Nonce
    | Notify
    | Delete
    | VendorId
    | TrafficSelectors
    | Configuration
    | Encrypted
    | EncryptedFragment
    | Unknown
)


@value
class Message:
    """3.1. `exchange`: 34 IKE_SA_INIT, 35 IKE_AUTH, 36 CREATE_CHILD_SA, 37 INFORMATIONAL. `initiator`: the sender is the IKE
    SA's original initiator; `response`: it answers a request."""

    initiator_spi: bytes
    responder_spi: bytes
    exchange: int
    message_id: int
    initiator: bool
    response: bool
    payloads: tuple[Payload, ...] = ()
    version: int = 0x20
