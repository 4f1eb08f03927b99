"""What is offered, chosen and accepted, and that what is weak is neither."""

from __future__ import annotations

from itertools import permutations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from ikev2.config import IkeProposal, TransformSet
from ikev2.crypto.suites import (
    ENCRYPTION,
    ESP,
    GROUPS,
    IKE,
    INTEGRITY,
    PRF,
    EspSuite,
    IkeSuite,
    Kind,
    Mismatch,
    Prf,
    SuiteError,
    accept_esp,
    accept_ike,
    choose_esp,
    choose_ike,
    default_ike_proposals,
    esp_proposals,
    group_names,
    groups_of,
    ike_proposals,
    refused,
    refused_name,
    transform_name,
    without_groups,
)
from ikev2.wire.payloads import Proposal, Transform
from stack.esp import Cipher, Integrity

GCM256, GCM128, CBC256, CBC128 = (ENCRYPTION[n] for n in ("aes-gcm-256", "aes-gcm-128", "aes-cbc-256", "aes-cbc-128"))
DES3, NULL = Transform(1, 3), Transform(1, 11)
MD5, NO_INTEG = Transform(3, 1), Transform(3, 0)
ESN, NO_ESN = Transform(5, 1), Transform(5, 0)


def group(number: int) -> Transform:
    return Transform(Kind.GROUP, number)


def ike(*transforms: Transform, number: int = 1, spi: bytes = b"") -> Proposal:
    return Proposal(number, IKE, spi, transforms)


def esp(*transforms: Transform, number: int = 1, spi: bytes = b"abcd") -> Proposal:
    return Proposal(number, ESP, spi, transforms)


# --- names and numbers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "transform"),
    [
        # IANA's registries of IKEv2 transform types 1 to 3
        (Kind.ENCR, "aes-gcm-256", (1, 20, 256)),
        (Kind.ENCR, "aes-gcm-128", (1, 20, 128)),
        (Kind.ENCR, "chacha20-poly1305", (1, 28, 0)),
        (Kind.ENCR, "aes-cbc-256", (1, 12, 256)),
        (Kind.ENCR, "aes-cbc-192", (1, 12, 192)),
        (Kind.ENCR, "aes-cbc-128", (1, 12, 128)),
        (Kind.PRF, "sha1", (2, 2, 0)),
        (Kind.PRF, "sha256", (2, 5, 0)),
        (Kind.PRF, "sha384", (2, 6, 0)),
        (Kind.PRF, "sha512", (2, 7, 0)),
        (Kind.INTEG, "sha1", (3, 2, 0)),
        (Kind.INTEG, "sha256", (3, 12, 0)),
        (Kind.INTEG, "sha384", (3, 13, 0)),
        (Kind.INTEG, "sha512", (3, 14, 0)),
    ],
)
def test_names(kind: int, name: str, transform: tuple[int, int, int]) -> None:
    table = {Kind.ENCR: ENCRYPTION, Kind.PRF: PRF, Kind.INTEG: INTEGRITY}[kind]
    assert table[name] == Transform(*transform)
    assert transform_name(Transform(*transform)) == name
    assert refused(Transform(*transform), sha1=True) is None
    assert refused_name(kind, name, sha1=True) is None


def test_every_name_is_in_the_table_above() -> None:
    assert (len(ENCRYPTION), len(PRF), len(INTEGRITY)) == (6, 4, 4)
    assert sorted(GROUPS) == [14, 15, 16, 19, 20, 21, 31]


@pytest.mark.parametrize(
    ("transform", "why"),
    [
        (Transform(1, 2), "DES is broken"),
        (DES3, "3DES has blocks of 64 bits"),
        (NULL, "NULL encryption hides nothing"),
        (Transform(1, 21, 128), "NULL encryption hides nothing"),
        (Transform(1, 20, 192), "a key of 192 bits is unknown"),
        (Transform(1, 12), "a key of 0 bits is unknown"),
        (Transform(1, 28, 256), "a key of 256 bits is unknown"),
        (Transform(1, 7, 128), "unknown"),
        (Transform(2, 1), "MD5 is broken"),
        (Transform(2, 2), "SHA-1 is off"),
        (MD5, "MD5 is broken"),
        (NO_INTEG, "encryption without integrity"),
        (Transform(3, 2), "SHA-1 is off"),
        (group(0), "no Diffie-Hellman exchange"),
        (group(1), "group 1 has 768 bits"),
        (group(2), "group 2 has 1024 bits"),
        (group(5), "group 5 has 1536 bits"),
        (group(22), "group 22 has 1024 bits and a subgroup of 160"),
        (group(23), "unknown"),
        (Transform(4, 14, 2048), "unknown"),
        (Transform(1, 20, 256, ((0x8001, b"\0\0"),)), "an attribute of it is unknown"),
        (Transform(9, 1), "unknown"),
    ],
)
def test_rfc8247_what_is_refused_says_why(transform: Transform, why: str) -> None:
    assert refused(transform) == why


@pytest.mark.parametrize(
    ("kind", "name", "why"),
    [
        (Kind.ENCR, "3des", "3DES has blocks of 64 bits"),
        (Kind.ENCR, "des", "DES is broken"),
        (Kind.ENCR, "null", "NULL encryption hides nothing"),
        (Kind.ENCR, "aes-gcm-192", "unknown"),
        (Kind.INTEG, "md5", "MD5 is broken"),
        (Kind.PRF, "md5", "MD5 is broken"),
        (Kind.PRF, "sha1", "SHA-1 is off"),
        (Kind.GROUP, 5, "group 5 has 1536 bits"),
        (Kind.GROUP, "2", "group 2 has 1024 bits"),
        (Kind.GROUP, "x", "unknown"),
        (Kind.GROUP, 31, None),
        (9, "x", "unknown"),
    ],
)
def test_names_that_are_refused(kind: int, name: str | int, why: str | None) -> None:
    assert refused_name(kind, name) == why


@pytest.mark.parametrize(
    ("transform", "name"),
    [(DES3, "encryption-3"), (Transform(1, 20, 192), "encryption-20-192"), (group(19), "group19"), (group(5), "group-5"),
     (ESN, "esn"), (NO_ESN, "no-esn"), (Transform(6, 35), "type-6-35"), (NO_INTEG, "integrity-0")],
)  # fmt: skip
def test_names_of_the_rest(transform: Transform, name: str) -> None:
    assert transform_name(transform) == name


def test_key_bits() -> None:
    assert IkeSuite(Cipher.AES_GCM_256, Integrity.NONE, Prf.HMAC_SHA2_384, 31).key_bits == 256
    assert EspSuite(Cipher.AES_CBC_192, Integrity.HMAC_SHA2_256_128).key_bits == 192


def test_group_names() -> None:
    assert group_names((31, 14, 99)) == "31 (x25519), 14 (modp2048), 99"


# --- what we offer --------------------------------------------------------------------------------------------------------


def names(proposal: Proposal) -> list[str]:
    return [transform_name(each) for each in proposal.transforms]


def test_smart_defaults() -> None:
    groups = ["group31", "group19", "group20", "group21", "group14", "group15", "group16"]
    gcm, cbc = default_ike_proposals()
    assert names(gcm) == ["aes-gcm-256", "aes-gcm-128", "sha384", "sha256", *groups]
    shas = ["sha512", "sha384", "sha256"]
    assert names(cbc) == ["aes-cbc-256", "aes-cbc-192", "aes-cbc-128", *shas, *shas, *groups]
    assert [(each.number, each.protocol, each.spi) for each in (gcm, cbc)] == [(1, IKE, b""), (2, IKE, b"")]
    assert default_ike_proposals(sha1=True) == (gcm, cbc)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (IkeProposal("p", ("aes-gcm-256",), groups=(19,)), [["aes-gcm-256", "sha384", "group19"]]),
        (IkeProposal("p", ("aes-gcm-128",), groups=(19,)), [["aes-gcm-128", "sha256", "group19"]]),
        (IkeProposal("p", ("chacha20-poly1305",), groups=(31,)), [["chacha20-poly1305", "sha384", "group31"]]),
        (IkeProposal("p", ("aes-gcm-256",), prf=("sha512",), groups=(19,)), [["aes-gcm-256", "sha512", "group19"]]),
        (
            IkeProposal("p", ("aes-cbc-256",), ("sha512", "sha256"), groups=(14, 14)),
            [["aes-cbc-256", "sha512", "sha256", "sha512", "sha256", "group14"]],
        ),
        (
            IkeProposal("p", ("aes-cbc-128", "aes-gcm-128", "aes-cbc-256"), ("sha256",), groups=(14,)),
            [
                ["aes-cbc-128", "sha256", "sha256", "group14"],
                ["aes-gcm-128", "sha256", "group14"],
                ["aes-cbc-256", "sha256", "sha256", "group14"],
            ],
        ),
    ],
)
def test_rfc7296_3_3_aeads_stand_alone(config: IkeProposal, expected: list[list[str]]) -> None:
    made = ike_proposals(config)
    assert [names(each) for each in made] == expected
    assert [each.number for each in made] == list(range(1, len(made) + 1))


@pytest.mark.parametrize(
    ("config", "sha1", "name", "why"),
    [
        (IkeProposal("p", ("aes-cbc-256",)), False, "aes-cbc-256", "encryption without integrity"),
        (IkeProposal("p", ("3des",), ("sha256",)), False, "3des", "3DES has blocks of 64 bits"),
        (IkeProposal("p", ("aes-cbc-256",), ("md5",)), True, "md5", "MD5 is broken"),
        (IkeProposal("p", ("aes-cbc-256",), ("sha1",)), False, "sha1", "SHA-1 is off"),
        (IkeProposal("p", ("aes-gcm-256",), prf=("sha1",)), False, "sha1", "SHA-1 is off"),
        (IkeProposal("p", ("aes-gcm-256",), groups=(19, 2)), False, "group 2", "group 2 has 1024 bits"),
    ],
)
def test_a_weak_configuration_is_refused(config: IkeProposal, sha1: bool, name: str, why: str) -> None:
    with pytest.raises(SuiteError) as caught:
        ike_proposals(config, sha1)
    assert (caught.value.name, caught.value.reason) == (name, why)
    assert str(caught.value) == f"{name}: {why}"


def test_sha1_by_the_switch() -> None:
    (made,) = ike_proposals(IkeProposal("p", ("aes-cbc-128",), ("sha1",), groups=(14,)), sha1=True)
    assert made.transforms == (CBC128, PRF["sha1"], INTEGRITY["sha1"], group(14))
    found = choose_ike((made,), (made,))
    assert found == (0, made, IkeSuite(Cipher.AES_CBC_128, Integrity.HMAC_SHA1_96, Prf.HMAC_SHA1, 14))


def test_esp_proposals() -> None:
    sets = [TransformSet("a"), TransformSet("b", Cipher.AES_CBC_256, Integrity.HMAC_SHA2_256_128), TransformSet("a2")]
    assert [(p.number, p.protocol, p.spi, names(p)) for p in esp_proposals(sets, pfs_group=19)] == [
        (1, ESP, b"", ["aes-gcm-256", "group19", "esn", "no-esn"]),
        (2, ESP, b"", ["aes-cbc-256", "sha256", "group19", "esn", "no-esn"]),
    ]
    assert [names(p) for p in esp_proposals(sets[:1], esn=False)] == [["aes-gcm-256", "no-esn"]]
    bare = without_groups(esp_proposals(sets, pfs_group=19))
    assert bare == esp_proposals(sets)
    assert groups_of(esp_proposals(sets, pfs_group=19)) == (19,)
    assert groups_of(bare) == ()


@pytest.mark.parametrize(
    ("given_set", "group_number", "why"),
    [
        (TransformSet("t", Cipher.AES_CBC_256), None, "encryption without integrity"),
        (TransformSet("t", Cipher.AES_GCM_256, Integrity.HMAC_SHA2_256_128), None, "an AEAD takes no integrity"),
        (TransformSet("t", Cipher.AES_CBC_256, Integrity.HMAC_SHA1_96), None, "SHA-1 is off"),
        (TransformSet("t"), 5, "group 5 has 1536 bits"),
    ],
)
def test_a_weak_transform_set_is_refused(given_set: TransformSet, group_number: int | None, why: str) -> None:
    with pytest.raises(SuiteError) as caught:
        esp_proposals([given_set], True, group_number)
    assert caught.value.reason == why


def test_every_esp_cipher_can_be_agreed_with_and_without_esn() -> None:
    for cipher in Cipher:
        for integrity in (Integrity.NONE,) if cipher.aead else tuple(Integrity)[1:]:
            for esn in (True, False):
                ours = esp_proposals([TransformSet("t", cipher, integrity)], esn, 20, sha1=True)
                found = choose_esp(ours, ours)
                assert not isinstance(found, Mismatch)
                assert found[2] == EspSuite(cipher, integrity, esn, 20)
                assert accept_esp(ours, (found[1],)) == found[2]


# --- choosing -------------------------------------------------------------------------------------------------------------


def test_I15_weakest_proposal_first_our_strongest_wins() -> None:
    ours = ike_proposals(IkeProposal("p", ("aes-gcm-256", "aes-cbc-128"), ("sha256",), ("sha256",), (19, 14)))
    offered = (
        ike(DES3, PRF["sha256"], INTEGRITY["sha256"], group(2), number=1),
        ike(CBC128, PRF["sha256"], INTEGRITY["sha256"], group(14), number=2),
        ike(GCM256, PRF["sha256"], group(14), group(19), number=3, spi=b"rekeying"),
    )
    found = choose_ike(ours, offered)
    assert found == (
        2,
        ike(GCM256, PRF["sha256"], group(19), number=3, spi=b"rekeying"),
        IkeSuite(Cipher.AES_GCM_256, Integrity.NONE, Prf.HMAC_SHA2_256, 19),
    )


def test_I15_within_a_proposal_our_order_wins() -> None:
    ours = default_ike_proposals()
    for order in permutations((group(14), group(31), group(20))):
        found = choose_ike(ours, (ike(GCM128, GCM256, PRF["sha256"], PRF["sha384"], *order),))
        assert not isinstance(found, Mismatch)
        assert found[1].transforms == (GCM256, PRF["sha384"], group(31))


@pytest.mark.parametrize(
    ("offered", "kind", "says"),
    [
        (ike(NULL, PRF["sha256"], INTEGRITY["sha256"], group(19)), Kind.ENCR, "NULL encryption hides nothing"),
        (ike(DES3, PRF["sha256"], INTEGRITY["sha256"], group(19)), Kind.ENCR, "3DES"),
        (ike(CBC256, PRF["sha256"], group(19)), Kind.INTEG, "integrity"),
        (ike(CBC256, PRF["sha256"], NO_INTEG, group(19)), Kind.INTEG, "encryption without integrity"),
        (ike(CBC256, PRF["sha256"], MD5, group(19)), Kind.INTEG, "MD5"),
        (ike(CBC256, Transform(2, 1), INTEGRITY["sha256"], group(19)), Kind.PRF, "MD5"),
        (ike(CBC256, INTEGRITY["sha256"], group(19)), Kind.PRF, "PRF"),
        (ike(GCM256, PRF["sha256"], group(0)), Kind.GROUP, "no Diffie-Hellman"),
        (ike(GCM256, PRF["sha256"]), Kind.GROUP, "group"),
        (ike(GCM256, PRF["sha256"], group(2)), Kind.GROUP, "group 2 has 1024 bits"),
        (ike(GCM256, PRF["sha256"], INTEGRITY["sha256"], group(19)), Kind.INTEG, "integrity"),
        (ike(GCM256, PRF["sha256"], group(19), Transform(6, 35)), 0, "transform type 6"),
        (ike(GCM256, PRF["sha256"], group(19), NO_ESN), 0, "transform type 5"),
        (ike(Transform(1, 20, 256, ((0x8063, b"\0\1"),)), PRF["sha256"], group(19)), Kind.ENCR, "encryption"),
        (ike(Transform(1, 20, 192), PRF["sha256"], group(19)), Kind.ENCR, "encryption"),
        (esp(GCM256, NO_ESN), 0, "no proposal for this protocol"),
        (ike(), 0, "no proposal"),
    ],
)
def test_I15_what_is_weak_or_strange_is_never_chosen(offered: Proposal, kind: int, says: str) -> None:
    found = choose_ike(default_ike_proposals(sha1=True), (offered,))
    assert isinstance(found, Mismatch)
    assert found.kind == kind
    assert says in found.reason


def test_I15_nothing_configured_means_nothing_chosen() -> None:
    assert choose_ike((), default_ike_proposals()) == Mismatch("nothing is configured")
    assert choose_ike(default_ike_proposals(), ()) == Mismatch("no proposal for this protocol")


@pytest.mark.parametrize(
    "weak",
    [
        ike(DES3, PRF["sha256"], INTEGRITY["sha256"], group(19)),
        ike(NULL, PRF["sha256"], INTEGRITY["sha256"], group(19)),
        ike(CBC256, PRF["sha256"], NO_INTEG, group(19)),
        ike(CBC256, PRF["sha256"], group(19)),
        ike(CBC256, PRF["sha256"], MD5, group(19)),
        ike(GCM256, Transform(2, 1), group(19)),
        ike(GCM256, PRF["sha256"], group(2)),
        ike(GCM256, PRF["sha256"], group(0)),
        ike(GCM256, PRF["sha256"]),
        esp(NULL, INTEGRITY["sha256"], NO_ESN),
        esp(CBC256, NO_INTEG, NO_ESN),
        esp(CBC256, NO_ESN),
        esp(GCM256, group(2), NO_ESN),
    ],
)
def test_I15_weak_on_both_sides_is_still_refused(weak: Proposal) -> None:
    """Our own builders make none of these; should anything else hand them in, nothing comes of it."""
    choose, accept = (choose_ike, accept_ike) if weak.protocol == IKE else (choose_esp, accept_esp)
    assert isinstance(choose((weak,), (weak,)), Mismatch)
    assert isinstance(accept((weak,), (weak,)), Mismatch)


def test_rfc5282_8_an_aead_with_none_written_is_answered_with_it() -> None:
    found = choose_ike(default_ike_proposals(), (ike(GCM256, PRF["sha384"], NO_INTEG, group(31)),))
    assert not isinstance(found, Mismatch)
    assert found[1].transforms == (GCM256, PRF["sha384"], NO_INTEG, group(31))
    assert found[2] == IkeSuite(Cipher.AES_GCM_256, Integrity.NONE, Prf.HMAC_SHA2_384, 31)


def test_an_aead_mixed_with_cbc_in_one_proposal() -> None:
    """RFC 5282 8 forbids the offer, some peers make it. The AEAD goes with no integrity but NONE."""
    mixed = (GCM256, CBC256, PRF["sha256"], INTEGRITY["sha256"], group(19))
    found = choose_ike(default_ike_proposals(), (ike(*mixed),))
    assert not isinstance(found, Mismatch)
    assert found[2] == IkeSuite(Cipher.AES_CBC_256, Integrity.HMAC_SHA2_256_128, Prf.HMAC_SHA2_256, 19)
    found = choose_ike(default_ike_proposals(), (ike(*mixed, NO_INTEG),))
    assert not isinstance(found, Mismatch)
    assert found[2].cipher is Cipher.AES_GCM_256


def test_esp_groups() -> None:
    pfs = esp_proposals([TransformSet("t")], pfs_group=19)
    plain = esp_proposals([TransformSet("t")])
    cases = [
        (pfs, esp(GCM256, group(19), ESN), True, 19),
        (pfs, esp(GCM256, ESN), True, None),  # PFS is configured, the peer has none
        (pfs, esp(GCM256, group(0), ESN), True, None),
        (pfs, esp(GCM256, group(14), ESN), True, None),
        (plain, esp(GCM256, group(19), ESN), True, None),  # a group that was not configured
        (plain, esp(GCM256, group(19), group(0), ESN), True, 0),
        (plain, esp(GCM256, ESN), True, 0),
        (pfs, esp(GCM256, group(14), ESN), False, 0),  # IKE_AUTH: groups count for nothing
        (pfs, esp(GCM256, ESN), False, 0),
    ]
    for ours, offered, groups, expected in cases:
        found = choose_esp(ours, (offered,), groups=groups)
        if expected is None:
            assert isinstance(found, Mismatch)
            assert found.kind == Kind.GROUP
        else:
            assert not isinstance(found, Mismatch)
            assert found[2].group == expected
            assert found[1].spi == b"abcd"
            if not groups:
                assert all(each.kind != Kind.GROUP for each in found[1].transforms)


def test_rfc7296_3_3_3_esn_is_mandatory_and_taken_if_offered() -> None:
    ours = esp_proposals([TransformSet("t")])
    for transforms, esn in (((ESN,), True), ((NO_ESN,), False), ((NO_ESN, ESN), True)):
        found = choose_esp(ours, (esp(GCM256, *transforms),))
        assert not isinstance(found, Mismatch)
        assert found[2].esn is esn
    assert choose_esp(ours, (esp(GCM256),)) == Mismatch("no common ESN", Kind.ESN)
    without = esp_proposals([TransformSet("t")], esn=False)
    assert choose_esp(without, (esp(GCM256, ESN),)) == Mismatch("no common ESN", Kind.ESN)


@pytest.mark.parametrize(
    "offered",
    [
        esp(NULL, INTEGRITY["sha256"], NO_ESN),
        esp(CBC256, NO_ESN),
        esp(CBC256, NO_INTEG, NO_ESN),
        esp(Transform(1, 21, 256), NO_ESN),
        esp(GCM256, PRF["sha256"], NO_ESN),
        Proposal(1, 2, b"abcd", (INTEGRITY["sha256"], NO_ESN)),  # AH
    ],
)
def test_I15_esp_without_encryption_or_integrity_is_refused(offered: Proposal) -> None:
    ours = esp_proposals([TransformSet("t"), TransformSet("u", Cipher.AES_CBC_256, Integrity.HMAC_SHA2_256_128)])
    assert isinstance(choose_esp(ours, (offered,)), Mismatch)


# --- accepting ------------------------------------------------------------------------------------------------------------


def test_accept_ike() -> None:
    ours = default_ike_proposals()
    answer = ike(CBC256, PRF["sha256"], INTEGRITY["sha256"], group(14), number=2)
    assert accept_ike(ours, (answer,)) == IkeSuite(
        Cipher.AES_CBC_256, Integrity.HMAC_SHA2_256_128, Prf.HMAC_SHA2_256, 14
    )


@pytest.mark.parametrize(
    ("answered", "says"),
    [
        ((), "0 proposals"),
        ((ike(GCM256, PRF["sha384"], group(31)),) * 2, "2 proposals"),
        ((ike(GCM256, PRF["sha384"], group(31), number=3),), "no proposal of ours"),
        ((ike(GCM256, PRF["sha384"], group(31), number=2),), "encryption"),  # of proposal 1, under the name of 2
        ((esp(GCM256, NO_ESN),), "no proposal of ours"),
        ((ike(GCM256, GCM128, PRF["sha384"], group(31)),), "2 transforms of type 1"),
        ((ike(GCM256, PRF["sha384"], group(31), group(19)),), "2 transforms of type 4"),
        ((ike(GCM256, PRF["sha384"]),), "group"),
        ((ike(GCM256, PRF["sha384"], group(0)),), "group"),
        ((ike(PRF["sha384"], group(31)),), "encryption"),
        ((ike(GCM256, group(31)),), "PRF"),
        ((ike(GCM256, PRF["sha512"], group(31)),), "PRF"),  # only of proposal 2
        ((ike(NULL, PRF["sha384"], group(31)),), "encryption"),
        ((ike(CBC256, PRF["sha384"], NO_INTEG, group(31), number=2),), "integrity"),
        ((ike(CBC256, PRF["sha384"], group(31), number=2),), "integrity"),
        ((ike(GCM256, PRF["sha384"], group(2)),), "group"),
        ((ike(GCM256, PRF["sha384"], group(31), Transform(6, 35)),), "transform type 6"),
    ],
)
def test_I15_an_answer_that_is_not_of_our_offer_is_refused(answered: tuple[Proposal, ...], says: str) -> None:
    found = accept_ike(default_ike_proposals(), answered)
    assert isinstance(found, Mismatch)
    assert says in found.reason


def test_accept_esp_without_groups() -> None:
    ours = esp_proposals([TransformSet("t")], pfs_group=19)
    assert accept_esp(ours, (esp(GCM256, ESN),), groups=False) == EspSuite(Cipher.AES_GCM_256, esn=True)
    assert accept_esp(ours, (esp(GCM256, group(0), ESN),), groups=False) == EspSuite(Cipher.AES_GCM_256, esn=True)
    assert isinstance(accept_esp(ours, (esp(GCM256, group(19), ESN),), groups=False), Mismatch)
    assert isinstance(accept_esp(ours, (esp(GCM256, ESN),)), Mismatch)
    assert accept_esp(ours, (esp(GCM256, group(19), ESN),)) == EspSuite(Cipher.AES_GCM_256, esn=True, group=19)


# --- properties -----------------------------------------------------------------------------------------------------------

_ANY = st.one_of(
    st.sampled_from([
        *ENCRYPTION.values(), *PRF.values(), *INTEGRITY.values(), *map(group, GROUPS), ESN, NO_ESN, NO_INTEG, group(0),
        DES3, NULL, MD5, group(2), Transform(6, 35),
    ]),
    st.builds(Transform, st.integers(0, 255), st.integers(0, 65535), st.integers(0, 65535)),
)  # fmt: skip
_PROPOSAL = st.builds(
    Proposal, st.integers(0, 255), st.sampled_from([1, 1, 3, 3, 2, 9]), st.binary(max_size=8),
    st.lists(_ANY, max_size=12).map(tuple),
)  # fmt: skip
_OFFER = st.lists(_PROPOSAL, max_size=4).map(tuple)
_CONFIGURED = st.builds(
    IkeProposal,
    st.just("p"),
    st.lists(st.sampled_from(sorted(ENCRYPTION)), min_size=1, unique=True).map(tuple),
    st.lists(st.sampled_from(["sha256", "sha384", "sha512"]), min_size=1, unique=True).map(tuple),
    st.just(()),
    st.lists(st.sampled_from(sorted(GROUPS)), min_size=1, unique=True).map(tuple),
)


@given(_CONFIGURED, _OFFER)
def test_I15_a_choice_is_of_both_sides_and_strong(config: IkeProposal, offered: tuple[Proposal, ...]) -> None:
    ours = ike_proposals(config)
    found = choose_ike(ours, offered)
    if isinstance(found, Mismatch):
        return
    index, answer, suite = found
    kinds = [each.kind for each in answer.transforms]
    assert len(kinds) == len(set(kinds))
    assert set(answer.transforms) <= set(offered[index].transforms)
    assert set(answer.transforms) - {NO_INTEG} <= {t for own in ours for t in own.transforms}
    assert suite.cipher.aead == (suite.integrity is Integrity.NONE)
    renumbered = tuple(evolve(own, number=answer.number) for own in ours)
    assert any(accept_ike((own,), (answer,)) == suite for own in renumbered)


@given(_CONFIGURED, _CONFIGURED)
def test_two_ends_that_share_a_suite_agree(one: IkeProposal, other: IkeProposal) -> None:
    offer, ours = ike_proposals(one), ike_proposals(other)
    found = choose_ike(ours, offer)
    common_group = set(one.groups) & set(other.groups)
    common_cbc = {n for n in set(one.encryption) & set(other.encryption) if "cbc" in n}
    if common_cbc and common_group and set(one.integrity) & set(other.integrity):
        assert not isinstance(found, Mismatch)
    if not common_group:
        assert isinstance(found, Mismatch)
    if not isinstance(found, Mismatch):
        assert accept_ike(offer, (found[1],)) == found[2]


@given(_OFFER, st.booleans())
def test_esp_is_total(offered: tuple[Proposal, ...], groups: bool) -> None:
    ours = esp_proposals(
        [TransformSet("t"), TransformSet("u", Cipher.AES_CBC_128, Integrity.HMAC_SHA2_512_256)], True, 31
    )
    found = choose_esp(ours, offered, groups=groups)
    if not isinstance(found, Mismatch):
        assert set(found[1].transforms) <= set(offered[found[0]].transforms)
        assert found[2].group == (31 if groups else 0)
    accepted = accept_esp(ours, offered, groups=groups)
    assert isinstance(accepted, (EspSuite, Mismatch))
