"""Names of numbers."""

from __future__ import annotations

import pytest

from ikev2.wire import numbers as n


@pytest.mark.parametrize(
    ("enum", "number", "text"),
    [
        (n.Exchange, 34, "IKE_SA_INIT"),
        (n.Exchange, 99, "Exchange 99"),
        (n.NotifyKind, 14, "NO_PROPOSAL_CHOSEN"),
        (n.NotifyKind, 16418, "CHILDLESS_IKEV2_SUPPORTED"),
        (n.NotifyKind, 16430, "IKEV2_FRAGMENTATION_SUPPORTED"),
        (n.NotifyKind, 16431, "SIGNATURE_HASH_ALGORITHMS"),
        (n.NotifyKind, 40961, "NotifyKind 40961"),
        (n.AttributeKind, 28672, "UNITY_BANNER"),
        (n.AttributeKind, 28674, "UNITY_DEF_DOMAIN"),
        (n.AttributeKind, 28676, "UNITY_SPLIT_INCLUDE"),
        (n.AttributeKind, 28681, "UNITY_BACKUP_SERVERS"),
        (n.AttributeKind, 13, "INTERNAL_IP4_SUBNET"),
        (n.PayloadKind, 53, "SKF"),
    ],
)
def test_names(enum, number, text):
    assert n.name_of(enum, number) == text


@pytest.mark.parametrize(
    ("transform", "text"),
    [
        ((1, 20, 256), "AES_GCM_16-256"),
        ((2, 6), "HMAC_SHA2_384"),
        ((3, 12), "HMAC_SHA2_256_128"),
        ((4, 31), "CURVE25519"),
        ((6, 36), "ML_KEM_768"),
        ((5, 1), "ESN"),
        ((4, 9999), "GroupId 9999"),
        ((99, 3), "transform 99/3"),
    ],
)
def test_transforms(transform, text):
    assert n.transform_name(*transform) == text


def test_rfc7296_3_10_1_errors_are_below_16384():
    assert all(n.is_error(kind) == (kind < 16384) for kind in n.NotifyKind)
    assert n.is_error(n.NotifyKind.CHILD_SA_NOT_FOUND)
    assert not n.is_error(n.NotifyKind.INITIAL_CONTACT)
