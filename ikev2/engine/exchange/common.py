"""What several exchanges look for in a message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from ikev2.wire.numbers import NotifyKind, is_error, name_of
from ikev2.wire.payloads import Notify, Payload, Unknown

__all__ = [
    "MIN_NONCE",
    "NONCE",
    "all_of",
    "critical_in",
    "error_in",
    "first_of",
    "good_nonce",
    "notify",
    "notify_of",
    "said",
]

NONCE = 32
"""Octets of our nonces: RFC 7296 2.10 wants half the PRF's key at least, and 16."""
MIN_NONCE, MAX_NONCE = 16, 256
"""RFC 7296 3.9."""

_P = TypeVar("_P")


def first_of(payloads: Iterable[Payload], kind: type[_P]) -> _P | None:
    for payload in payloads:
        if isinstance(payload, kind):
            return payload
    return None


def all_of(payloads: Iterable[Payload], kind: type[_P]) -> Iterator[_P]:
    return (payload for payload in payloads if isinstance(payload, kind))


def notify_of(payloads: Iterable[Payload], kind: int) -> Notify | None:
    for payload in payloads:
        if isinstance(payload, Notify) and payload.kind == kind:
            return payload
    return None


def error_in(payloads: Iterable[Payload]) -> Notify | None:
    """The first notify that is an error, whether its type is known or not (RFC 7296 3.10.1: an unknown error type means
    that the request failed)."""
    for payload in payloads:
        if isinstance(payload, Notify) and is_error(payload.kind):
            return payload
    return None


def notify(kind: int, octets: bytes = b"", protocol: int = 0, spi: bytes = b"") -> list[Payload]:
    return [Notify(kind, octets, protocol, spi)]


def critical_in(payloads: Iterable[Payload]) -> int:
    """The type of a payload that we do not know and must not ignore (RFC 7296 2.5); 0: none."""
    for payload in payloads:
        if isinstance(payload, Unknown) and payload.critical:
            return payload.kind
    return 0


def said(error: Notify) -> str:
    """For the log."""
    return name_of(NotifyKind, error.kind)


def good_nonce(octets: bytes) -> bool:
    return MIN_NONCE <= len(octets) <= MAX_NONCE
