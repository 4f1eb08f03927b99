"""strongSwan's own exchanges, opened and recomputed: fragments (RFC 7383), CREATE_CHILD_SA of a CHILD_SA and of the IKE SA."""

from __future__ import annotations

import pytest

from ikev2.crypto.keys import child_keys, ike_keys, rekeyed_ike_keys
from ikev2.crypto.sealing import Sealer
from ikev2.crypto.suites import EspSuite, IkeSuite, Prf
from ikev2.wire import (
    Certificate,
    Delete,
    KeyExchange,
    Nonce,
    Notify,
    NotifyKind,
    Payload,
    SecurityAssociation,
    decode,
    decode_payloads,
    sealed,
)
from stack.esp import Cipher, Integrity
from tests.ikev2 import swan_rekey_vectors as swan

IKE = IkeSuite(Cipher.AES_GCM_256, Integrity.NONE, Prf.HMAC_SHA2_384, 31)
ESP = EspSuite(Cipher.AES_GCM_256)

MESSAGES = [
    ("AUTH_REQUEST_1", swan.SK_EI),
    ("AUTH_REQUEST_2", swan.SK_EI),
    ("AUTH_RESPONSE_1", swan.SK_ER),
    ("AUTH_RESPONSE_2", swan.SK_ER),
    ("REKEY_CHILD_REQUEST", swan.SK_EI),
    ("REKEY_CHILD_RESPONSE", swan.SK_ER),
    ("DELETE_CHILD_REQUEST", swan.SK_EI),
    ("DELETE_CHILD_RESPONSE", swan.SK_ER),
    ("REKEY_IKE_REQUEST", swan.SK_EI),
    ("REKEY_IKE_RESPONSE", swan.SK_ER),
    ("DELETE_IKE_REQUEST", swan.SK_EI),
    ("DELETE_IKE_RESPONSE", swan.SK_ER),
]


def opened(name: str, key: bytes) -> tuple[int, bytes]:
    """(the first payload inside, what is inside)."""
    aad, payload = sealed(getattr(swan, name))
    sealer = Sealer(Cipher.AES_GCM_256, Integrity.NONE, key, b"", lambda _: b"")
    return payload.first, sealer.open(aad, payload.octets)


def inside(name: str, key: bytes) -> tuple[Payload, ...]:
    return decode_payloads(*opened(name, key))


def one(payloads: tuple[Payload, ...], kind: type) -> Payload:
    (found,) = [payload for payload in payloads if isinstance(payload, kind)]
    return found


@pytest.mark.parametrize(("name", "key"), MESSAGES)
def test_messages_open(name: str, key: bytes) -> None:
    assert opened(name, key)[1] == getattr(swan, f"{name}_INSIDE")


@pytest.mark.parametrize(("name", "key"), [("AUTH_REQUEST", swan.SK_EI), ("AUTH_RESPONSE", swan.SK_ER)])
def test_rfc7383_2_6_fragments_are_one_message(name: str, key: bytes) -> None:
    (first, start), (none, rest) = (opened(f"{name}_{n}", key) for n in (1, 2))
    assert none == 0
    certificate = one(decode_payloads(first, start + rest), Certificate)
    assert certificate.octets[:2] == b"\x30\x82"


def nonces(request: tuple[Payload, ...], response: tuple[Payload, ...]) -> tuple[bytes, bytes]:
    return one(request, Nonce).octets, one(response, Nonce).octets


def spis(octets: bytes) -> tuple[bytes, bytes]:
    message = decode(octets)
    return message.initiator_spi, message.responder_spi


def test_rfc7296_2_14_keys_of_the_ike_sa_and_of_its_first_child() -> None:
    request, response = (decode(octets).payloads for octets in (swan.SA_INIT_REQUEST, swan.SA_INIT_RESPONSE))
    keys = ike_keys(IKE, swan.SHARED_SECRET, *nonces(request, response), *spis(swan.SA_INIT_RESPONSE))
    assert (keys.d, keys.ei, keys.er) == (swan.SK_D, swan.SK_EI, swan.SK_ER)
    assert (keys.pi, keys.pr) == (swan.SK_PI, swan.SK_PR)
    child = child_keys(Prf.HMAC_SHA2_384, swan.SK_D, ESP, *nonces(request, response))
    assert child.initiator.encryption + child.initiator.salt == swan.CHILD_I
    assert child.responder.encryption + child.responder.salt == swan.CHILD_R


def test_rfc7296_2_17_keys_of_a_rekeyed_child_with_a_key_exchange_of_its_own() -> None:
    request = inside("REKEY_CHILD_REQUEST", swan.SK_EI)
    response = inside("REKEY_CHILD_RESPONSE", swan.SK_ER)
    assert one(request, Notify).kind == NotifyKind.REKEY_SA
    assert one(request, KeyExchange).group == one(response, KeyExchange).group == 31
    child = child_keys(Prf.HMAC_SHA2_384, swan.SK_D, ESP, *nonces(request, response), shared=swan.SHARED_SECRET_CHILD)
    assert child.initiator.encryption + child.initiator.salt == swan.CHILD_I_REKEYED
    assert child.responder.encryption + child.responder.salt == swan.CHILD_R_REKEYED
    # each deletes its own side of the old one: the SPI that REKEY_SA named is the initiator's
    assert one(inside("DELETE_CHILD_REQUEST", swan.SK_EI), Delete).spis == (one(request, Notify).spi,)


def test_rfc7296_2_18_keys_of_a_rekeyed_ike_sa() -> None:
    request = inside("REKEY_IKE_REQUEST", swan.SK_EI)
    response = inside("REKEY_IKE_RESPONSE", swan.SK_ER)
    new = [one(payloads, SecurityAssociation).proposals[0].spi for payloads in (request, response)]
    keys = rekeyed_ike_keys(
        IKE, Prf.HMAC_SHA2_384, swan.SK_D, swan.SHARED_SECRET_IKE_REKEYED, *nonces(request, response), *new
    )
    assert (keys.d, keys.ei, keys.er) == (swan.SK_D_REKEYED, swan.SK_EI_REKEYED, swan.SK_ER_REKEYED)
    assert (keys.pi, keys.pr) == (swan.SK_PI_REKEYED, swan.SK_PR_REKEYED)
