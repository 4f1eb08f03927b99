"""Messages as people read them in logs: `describe` names what is there, `explain` says what is negotiated too. Neither shows
keys, nonces, proofs or certificates; what a peer has chosen freely is made printable and cut."""

from __future__ import annotations

from collections.abc import Iterable

from ikev2.wire.numbers import (
    AttributeKind,
    AuthMethod,
    CertEncoding,
    ConfigKind,
    Exchange,
    GroupId,
    IdKind,
    NotifyKind,
    ProtocolId,
    name_of,
    transform_name,
)
from ikev2.wire.payloads import (
    Attribute,
    Auth,
    Certificate,
    Configuration,
    Delete,
    Encrypted,
    EncryptedFragment,
    Identity,
    IdentityPayload,
    KeyExchange,
    Message,
    Notify,
    Payload,
    Proposal,
    SecurityAssociation,
    TrafficSelectors,
    Unknown,
)
from ikev2.wire.rows import row_of
from stack.addr import format_address
from stack.esp import Selector

__all__ = ["MAX_TEXT", "describe", "describe_payloads", "explain", "explain_payloads"]

MAX_TEXT = 1200
"""Characters of a message that is explained: a stranger may send proposals without end."""
_MAX_NAME = 64

_ADDRESSES = {AttributeKind.INTERNAL_IP4_ADDRESS, AttributeKind.INTERNAL_IP4_NETMASK, AttributeKind.INTERNAL_IP4_DNS}
_PRINTABLE = {IdKind.FQDN, IdKind.RFC822_ADDR}


def describe(message: Message) -> str:
    """`IKE_SA_INIT request 0 [SA KE NONCE N(NAT_DETECTION_SOURCE_IP)]`."""
    return f"{_head(message.exchange, message.message_id, message.response)} [{describe_payloads(message.payloads)}]"


def describe_payloads(payloads: Iterable[Payload]) -> str:
    return " ".join(_one(payload) for payload in payloads)


def explain(message: Message) -> str:
    """`IKE_SA_INIT request 0 [SA(IKE: AES_GCM_16-256 HMAC_SHA2_384 CURVE25519) KE(CURVE25519) NONCE ...]`."""
    return explain_payloads(message.exchange, message.message_id, message.payloads, response=message.response)


def explain_payloads(exchange: int, message_id: int, payloads: Iterable[Payload], *, response: bool) -> str:
    """The same of a message whose payloads were sealed."""
    text = f"{_head(exchange, message_id, response)} [{' '.join(_explained(payload) for payload in payloads)}]"
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "..."


def _head(exchange: int, message_id: int, response: bool) -> str:
    return f"{name_of(Exchange, exchange)} {'response' if response else 'request'} {message_id}"


def _one(payload: Payload) -> str:
    if isinstance(payload, Notify):
        return f"N({name_of(NotifyKind, payload.kind)})"
    if isinstance(payload, Configuration):
        return f"CP({name_of(ConfigKind, payload.kind)})"
    if isinstance(payload, Encrypted):
        return "SK"
    if isinstance(payload, EncryptedFragment):
        return f"SKF({payload.number}/{payload.total})"
    if isinstance(payload, Unknown):
        return f"payload {payload.kind}{' critical' if payload.critical else ''}"
    return row_of(payload).kind.name


def _explained(payload: Payload) -> str:
    name = _one(payload)
    match payload:
        case SecurityAssociation(proposals):
            return f"{name}({' | '.join(_proposal(one) for one in proposals)})"
        case KeyExchange(group):
            return f"{name}({name_of(GroupId, group)})"
        case IdentityPayload(identity):
            return f"{name}({_identity(identity)})"
        case Certificate(encoding, octets):
            return f"{name}({name_of(CertEncoding, encoding)}, {len(octets)} octets)"
        case Auth(method):
            return f"{name}({name_of(AuthMethod, method)})"
        case TrafficSelectors(_, selectors):
            return f"{name}({', '.join(_selector(one) for one in selectors)})"
        case Delete(protocol, spis):
            return f"{name}({' '.join((name_of(ProtocolId, protocol), *(spi.hex() for spi in spis)))})"
        case Notify(protocol=protocol, spi=spi) if spi:
            return f"{name[:-1]} {name_of(ProtocolId, protocol)} {spi.hex()})"
        case Configuration(attributes=attributes) if attributes:
            return f"{name[:-1]}: {' '.join(_attribute(one) for one in attributes)})"
    return name


def _proposal(one: Proposal) -> str:
    names = " ".join(transform_name(t.kind, t.number, t.key_length) for t in one.transforms)
    return f"{name_of(ProtocolId, one.protocol)}: {names}"


def _identity(identity: Identity) -> str:
    kind, octets = name_of(IdKind, identity.kind), identity.octets
    if identity.kind in _PRINTABLE:
        return f"{kind} {_plain(octets)}"
    if (identity.kind, len(octets)) in {(IdKind.IPV4_ADDR, 4), (IdKind.IPV6_ADDR, 16)}:
        return f"{kind} {format_address(octets)}"
    return f"{kind}, {len(octets)} octets"


def _selector(one: Selector) -> str:
    first, last = format_address(one.first), format_address(one.last)
    ports = "" if (one.first_port, one.last_port) == (0, 65535) else f" ports {one.first_port}-{one.last_port}"
    return f"{first if first == last else f'{first}-{last}'} protocol {one.protocol or 'any'}{ports}"


def _attribute(one: Attribute) -> str:
    name = name_of(AttributeKind, one.kind)
    if one.kind in _ADDRESSES and len(one.octets) == 4:
        return f"{name}={format_address(one.octets)}"
    if one.kind == AttributeKind.INTERNAL_IP4_SUBNET and len(one.octets) == 8:
        return f"{name}={format_address(one.octets[:4])}/{format_address(one.octets[4:])}"
    return name


def _plain(octets: bytes) -> str:
    text = "".join(chr(o) if 0x20 < o < 0x7F else "?" for o in octets[:_MAX_NAME])
    return text if len(octets) <= _MAX_NAME else text + "..."
