"""Messages as people read them in logs: names and no contents."""

from __future__ import annotations

from collections.abc import Iterable

from ikev2.wire.numbers import ConfigKind, Exchange, NotifyKind, name_of
from ikev2.wire.payloads import (
    Configuration,
    Encrypted,
    EncryptedFragment,
    Message,
    Notify,
    Payload,
    Unknown,
)
from ikev2.wire.rows import row_of

__all__ = ["describe", "describe_payloads"]


def describe(message: Message) -> str:
    """`IKE_SA_INIT request 0 [SA KE NONCE N(NAT_DETECTION_SOURCE_IP)]`."""
    role = "response" if message.response else "request"
    exchange = name_of(Exchange, message.exchange)
    return f"{exchange} {role} {message.message_id} [{describe_payloads(message.payloads)}]"


def describe_payloads(payloads: Iterable[Payload]) -> str:
    return " ".join(_one(payload) for payload in payloads)


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
