"""Chains, revocation and name constraints (RFC 5280 6.1), with the fault rows that aim at them."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import IPv4Network
from warnings import catch_warnings, simplefilter

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from ikev2.pki.authority import Authority, Request, issue, make_crl
from ikev2.pki.certificate import (
    MAX_ALTERNATIVE_NAMES,
    MAX_CERTIFICATE,
    ParsedCertificate,
    parse_certificate,
    parse_crl,
)
from ikev2.pki.chain import MAX_DEPTH, MAX_VERIFICATIONS, Anchor
from ikev2.pki.errors import CertificateError, RevokedError
from ikev2.pki.names import parse_dn
from ikev2.pki.store import MAX_CACHED, MAX_PEER_CERTIFICATES, TrustStore
from tests.ikev2 import pki
from tests.ikev2.pki import DAY, NOW, World, forge, key

DN = "cn=R3,o=Cisco"


def refused(store: TrustStore, chain: tuple[bytes, ...], words: str, when: float = NOW) -> None:
    with pytest.raises(CertificateError, match=words):
        store.verify(chain, when)


def anchored(*anchors: bytes, **options: object) -> TrustStore:
    return TrustStore(tuple(Anchor(parse_certificate(one), "CA", ("none",)) for one in anchors), **options)  # type: ignore


def usage(**bits: bool) -> x509.KeyUsage:
    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign "
        "encipher_only decipher_only"
    )
    return x509.KeyUsage(**{name: bits.get(name, False) for name in names.split()})


CA = (x509.BasicConstraints(ca=True, path_length=None), True)
ROOT_DN, ROOT_KEY = "cn=Test root CA,o=Cisco", key("ed25519", "root")


# --- what holds -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", pki.KINDS)
@pytest.mark.parametrize("ca_kind", pki.KINDS)
def test_a_chain_of_every_kind_of_key_holds(kind: str, ca_kind: str) -> None:
    world = World(kind=ca_kind)
    leaf = world.leaf(DN, kind)
    found = world.store().verify(leaf.chain, NOW)
    assert found.octets == leaf.der
    assert (found.subject, found.trustpoint) == (DN, "CA")
    assert [one.subject for one in found.above] == ["cn=Test Intermediate CA,o=Cisco", "cn=Test root CA,o=Cisco"]
    assert found.expires == parse_certificate(leaf.der).not_after


def test_the_fixture_makes_the_same_octets_every_time() -> None:
    assert World().leaf(DN).chain == World().leaf(DN).chain


def test_the_order_of_the_others_does_not_matter_nor_what_cannot_be_read() -> None:
    leaf, *others = pki.LEAVES["ec256"].chain
    stranger = World(name="stranger").root.chain[-1]
    found = pki.store().verify((leaf, b"\x30\x00", stranger, *others, *others), NOW)
    assert len(found.above) == 2


def test_an_intermediate_that_we_hold_need_not_be_sent() -> None:
    world = World()
    leaf = world.leaf(DN)
    refused(world.store(), leaf.chain[:1], "nobody that is trusted has issued")
    store = world.store()
    store.intermediates = (parse_certificate(leaf.chain[1]),)
    assert store.verify(leaf.chain[:1], NOW).subject == DN


def test_an_intermediate_may_be_the_anchor() -> None:
    world = World()
    leaf = world.leaf(DN)
    assert len(anchored(leaf.chain[1]).verify(leaf.chain, NOW).above) == 1


def test_another_path_is_sought_when_the_first_fails() -> None:
    # Two certificates of one CA, same name and key: the first has expired.
    world = World()
    leaf = world.leaf(DN)
    old = Request(parse_dn("cn=Test Intermediate CA,o=Cisco"), ca=True, days=1)
    stale = issue(world.root, world.intermediate.key.public_key(), old, 77, NOW - 10 * DAY)
    assert world.store().verify((leaf.der, *stale, *leaf.chain[1:]), NOW).above[0].serial != 77


SHA1_SIGNED = bytes.fromhex(
    "308202063081efa003020102020163300d06092a864886f70d01010505003027310e300c060355040a0c05436973636f3115301306035504"
    "030c0c5465737420726f6f74204341301e170d3236313132353030303633315a170d3336313132323030303633315a300d310b3009060355"
    "04030c025233302a300506032b6570032100b3f36edb97b27f86ac921dde6715084afed126e356467c8d3f215fe43da8e389a3523050300e"
    "0603551d0f0101ff040403020780301d0603551d0e04160414ba35f38454ff084c4bd2725be02a1f23904e4d52301f0603551d2304183016"
    "801420d68ee298432f59ff0c90a10337960b57f8e989300d06092a864886f70d01010505000382010100a935e433e353c5d74a0bad5f5b9d"
    "1b72332222e6871e15867144f8058f6a5794e28cab36e908fdb146431bf96738919995927fe65bbd04db1b64914aab76aa08d7b9e8fdf692"
    "97a18f9066de8413827f50f1b4f29b7c206333fb34ca11782fad72fb5e512c165c67cdc61e28cf85ef34d9b98a14155b71ba2dd742594e30"
    "b4009ba7d8e89609a0c3513d8c258c86fbd08d2e9a237379a07a8775d9d26e4452e9fe6c6a0ae437f34c3277bfd902854251dc7a79dc2bbd"
    "9d538aae10fa41abd5ec9fb17ae0d996403068e835c7eaccd569d7158229531146bf3610f5dd9272381c6f7dff6d820ecda0666386602759"
    "b5a7e48af255ec3109d09fdb6a6a7de58e71"
)
"""cn=R3, issued by the root of World(kind="rsa2048") with sha1WithRSAEncryption, by another tool: ours makes no such thing."""


def test_sha1_is_taken_under_its_switch_alone() -> None:
    root, when = World(kind="rsa2048").root.chain[-1], 1_800_000_000.0
    refused(anchored(root), (SHA1_SIGNED,), "is signed with sha1", when)
    assert anchored(root, sha1=True).verify((SHA1_SIGNED,), when).subject == "cn=R3"
    broken = SHA1_SIGNED[:-1] + bytes([SHA1_SIGNED[-1] ^ 1])
    refused(anchored(root, sha1=True), (broken,), "the signature of cn=R3 is not by", when)


# --- what does not ----------------------------------------------------------------------------------------------------


def test_I09_expired_and_not_yet_valid() -> None:
    refused(pki.store(), pki.expired.chain, "cn=R8-spoke.cisco.com,ou=FLEX,o=Cisco has expired")
    refused(pki.store(), pki.LEAVES["ec256"].chain, "is not yet valid", NOW - DAY)
    refused(pki.store(), pki.LEAVES["ec256"].chain, "has expired", NOW + 366 * DAY)


def test_I09_an_issuer_out_of_date_does_not_count_be_it_the_anchor() -> None:
    world = World()
    leaf = world.leaf(DN, days=20000.0)
    refused(world.store(), leaf.chain, "Test Intermediate CA,o=Cisco has expired", NOW + 1826 * DAY)
    direct = world.leaf(DN, of=world.root, days=20000.0)
    refused(world.store(), direct.chain, "Test root CA,o=Cisco has expired", NOW + 3651 * DAY)


def test_I09_validity_counts_also_for_a_chain_that_is_remembered() -> None:
    store, chain = pki.store(), pki.LEAVES["ec256"].chain
    assert store.verify(chain, NOW)
    assert store.cached[1] == 1
    refused(store, chain, "has expired", NOW + 366 * DAY)
    assert store.verify(chain, NOW)


def test_I09_a_leaf_cannot_issue() -> None:
    # R3's own certificate (CA:FALSE) signs one for the hub.
    world = World()
    spoke = world.leaf(DN)
    forged = issue(
        Authority(spoke.key, spoke.chain), key("ec256", "evil").public_key(), Request(parse_dn("cn=R1-hub")), 5, NOW
    )
    refused(world.store(), (*forged, *spoke.chain), r"cn=R3,o=Cisco is no CA \(basicConstraints\)")


@pytest.mark.parametrize(
    ("extensions", "words"),
    [
        ((), "is no CA"),
        (((x509.BasicConstraints(ca=False, path_length=None), True),), "is no CA"),
        ((CA, (usage(digital_signature=True, crl_sign=True), True)), r"may not sign certificates \(keyUsage\)"),
        ((CA, (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\5\0"), True)), "not known: 1.2.3"),
        ((CA, (x509.PolicyConstraints(0, None), True)), "not known: 2.5.29.36"),
    ],
    ids=["none", "false", "usage", "unknown", "policy"],
)
def test_I09_what_an_issuer_must_be(extensions: tuple[tuple[x509.ExtensionType, bool], ...], words: str) -> None:
    world = World()
    middle = key("ed25519", "middle")
    issuer = forge("cn=Middle", middle, ROOT_DN, ROOT_KEY, *extensions)
    leaf = forge(DN, key("ec256", "x"), "cn=Middle", middle)
    refused(world.store(), (leaf, issuer), words)


@pytest.mark.parametrize(
    ("extension", "words"),
    [
        ((usage(key_encipherment=True), True), r"may not sign \(keyUsage\)"),
        ((usage(digital_signature=True), True), ""),
        ((usage(content_commitment=True), False), ""),
        ((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False), "is not for IKE"),
        ((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.IPSEC_IKE]), True), ""),
        ((x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.8.2.2")]), True), ""),
        ((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\5\0"), True), "not known: 1.2.3"),
        ((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\5\0"), False), ""),
    ],
)
def test_what_a_peers_own_certificate_must_be(extension: tuple[x509.ExtensionType, bool], words: str) -> None:
    world = World()
    leaf = forge(DN, key("ec256", "x"), ROOT_DN, ROOT_KEY, extension)
    if words:
        refused(world.store(), (leaf,), words)
    else:
        assert world.store().verify((leaf,), NOW).subject == DN


def test_path_length() -> None:
    world = World(constraints={"path_length": 0})
    assert world.store().verify(world.leaf(DN).chain, NOW)
    below = world.authority("Below", of=world.intermediate)
    refused(world.store(), world.leaf(DN, of=below).chain, "allows 0 CAs below it, and there are 1")


def test_depth_is_bounded() -> None:
    world = World()
    above = world.root
    for number in range(MAX_DEPTH - 2):
        above = world.authority(f"Level {number}", of=above)
    assert len(world.store().verify(world.leaf(DN, of=above).chain, NOW).above) == MAX_DEPTH - 1
    above = world.authority("One more", of=above)
    refused(world.store(), world.leaf(DN, of=above).chain, f"more than {MAX_DEPTH} certificates")


def test_a_stranger_of_the_same_name_is_not_believed() -> None:
    # Same names all the way up, other keys.
    ours, theirs = World(), World(kind="ec256")
    assert theirs.root.cert.subject == ours.root.cert.subject
    refused(ours.store(), theirs.leaf(DN).chain, "signature")
    refused(ours.store(), (*theirs.leaf(DN).chain, theirs.root.chain[-1]), "signature")


def test_certificates_that_issue_each_other_end() -> None:
    one, other = key("ed25519", "a"), key("ed25519", "b")
    a = forge("cn=A", one, "cn=B", other, CA)
    b = forge("cn=B", other, "cn=A", one, CA)
    leaf = forge(DN, key("ec256", "x"), "cn=A", one)
    refused(World().store(), (leaf, a, b), "nobody that is trusted has issued")


def test_a_self_signed_certificate_is_not_its_own_anchor() -> None:
    refused(World().store(), (World(name="root").root.chain[-1],), "may not sign|nobody")


def test_I10_many_issuers_of_one_name_do_not_make_the_search_branch() -> None:
    # Every level has three certificates of one name and key, so 3^5 ways up, none of which ends at an anchor.
    keys = [key("ed25519", f"level {level}") for level in range(6)]
    others = [
        forge(f"cn=L{level}", keys[level], f"cn=L{level + 1}", keys[level + 1], CA, serial=serial)
        for level in range(5)
        for serial in (1, 2, 3)
    ]
    leaf = forge(DN, key("ec256", "x"), "cn=L0", keys[0])
    refused(World().store(), (leaf, *others), f"more than {MAX_VERIFICATIONS} signatures")


# --- revocation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("revocation", [("crl",), ("crl", "none")])
def test_I09_revoked(revocation: tuple[str, ...]) -> None:
    """`none` after `crl` counts only where no CRL can be had; never for what a CRL revokes."""
    store = pki.store(revocation)
    with pytest.raises(RevokedError, match=r"cn=R9-spoke\.cisco\.com,ou=FLEX,o=Cisco, serial [0-9A-F]+, is revoked"):
        store.verify(pki.revoked.chain, NOW)
    assert store.verify(pki.LEAVES["ec256"].chain, NOW)


def test_I09_a_revoked_intermediate_ca() -> None:
    world = World()
    leaf = world.leaf(DN)
    refused(
        world.store((parse_certificate(leaf.chain[1]).serial,)), leaf.chain, "Test Intermediate CA,o=Cisco, serial 2"
    )


def test_without_a_crl_the_next_method_counts() -> None:
    world = World()
    leaf = world.leaf(DN)
    assert world.store(revocation=("crl", "none"), crls=()).verify(leaf.chain, NOW)
    assert world.store(revocation=("none",), crls=()).verify(leaf.chain, NOW)
    refused(world.store(revocation=("crl",), crls=()), leaf.chain, "no valid CRL of cn=Test Intermediate CA")
    refused(world.store(revocation=(), crls=()), leaf.chain, "no valid CRL")
    # The intermediate's CRL alone does not speak of the intermediate itself.
    refused(world.store(revocation=("crl",), crls=world.crls()[1:]), leaf.chain, "no valid CRL of cn=Test root CA")


def test_a_crl_out_of_date_says_nothing_good_but_still_revokes() -> None:
    world = World()
    leaf = world.leaf(DN)
    old = world.crls(when=NOW - 60 * DAY)
    refused(world.store(revocation=("crl",), crls=old), leaf.chain, "no valid CRL")
    assert world.store(revocation=("crl", "none"), crls=old).verify(leaf.chain, NOW)
    stale = world.crls((leaf.serial,), when=NOW - 60 * DAY)
    refused(world.store(revocation=("crl", "none"), crls=stale), leaf.chain, "is revoked")
    # One in force that no longer lists it (it was on hold) outweighs the stale one.
    assert world.store(revocation=("crl",), crls=(*stale, *world.crls())).verify(leaf.chain, NOW)


def test_a_crl_of_tomorrow_does_not_count_yet() -> None:
    world = World()
    leaf = world.leaf(DN)
    store = world.store(revocation=("crl",), crls=world.crls(when=NOW + DAY))
    refused(store, leaf.chain, "no valid CRL")
    assert store.verify(leaf.chain, NOW + DAY)


def test_a_crl_signed_by_somebody_else_does_not_count() -> None:
    world, stranger = World(), World(kind="ec256")
    leaf = world.leaf(DN)
    assert stranger.root.cert.subject == world.root.cert.subject
    forged = stranger.crls((leaf.serial,))
    assert world.store(revocation=("crl", "none"), crls=forged).verify(leaf.chain, NOW)
    refused(world.store(revocation=("crl",), crls=forged), leaf.chain, "no valid CRL")


def test_a_crl_counts_only_by_a_ca_that_may_sign_crls() -> None:
    silent = forge(ROOT_DN, ROOT_KEY, ROOT_DN, ROOT_KEY, CA, (usage(key_cert_sign=True), True))
    leaf = forge(DN, key("ec256", "x"), ROOT_DN, ROOT_KEY)
    crls = (parse_crl(World().crls()[0]),)
    for anchor, holds in ((World().root.chain[-1], True), (silent, False)):
        store = TrustStore((Anchor(parse_certificate(anchor), "CA", ("crl",)),), crls=crls)
        if holds:
            assert store.verify((leaf,), NOW)
        else:
            refused(store, (leaf,), "no valid CRL")


def test_a_crl_about_a_part_of_the_certificates_does_not_count() -> None:
    # issuingDistributionPoint is critical: what it leaves out is not known to be good.
    world = World()
    leaf = world.leaf(DN, of=world.root)
    part = x509.IssuingDistributionPoint(None, None, only_contains_user_certs=False, only_contains_ca_certs=True,
        only_some_reasons=None, indirect_crl=False, only_contains_attribute_certs=False)  # fmt: skip
    whole = x509.load_der_x509_crl(make_crl(world.root, {}, 1, NOW))
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(whole.issuer)
        .last_update(whole.last_update_utc)
        .next_update(whole.next_update_utc)
        .add_extension(part, critical=True)
    )
    octets = builder.sign(world.root.key, None).public_bytes(Encoding.DER)
    refused(world.store(revocation=("crl",), crls=(octets,)), leaf.chain, "no valid CRL")


def test_revocation_counts_also_for_a_chain_that_is_remembered() -> None:
    world = World()
    leaf = world.leaf(DN)
    store = world.store()
    assert store.verify(leaf.chain, NOW)
    store.crls = tuple(parse_crl(one) for one in world.crls((leaf.serial,), when=NOW + 1))
    refused(store, leaf.chain, "is revoked", NOW + 1)


# --- name constraints -------------------------------------------------------------------------------------------------

DNS, MAIL, DIR = x509.DNSName, x509.RFC822Name, lambda text: x509.DirectoryName(parse_dn(text))
NET = lambda text: x509.IPAddress(IPv4Network(text))

CONSTRAINED = [
    # permitted, excluded, fields of the request, whether it holds
    ([DNS("cisco.com")], [], {"fqdns": ("r3.cisco.com",)}, True),
    ([DNS("cisco.com")], [], {"fqdns": ("R3.CISCO.COM", "cisco.com")}, True),
    ([DNS("cisco.com")], [], {"fqdns": ("r3.cisco.com", "r3.example.org")}, False),
    ([DNS("cisco.com")], [], {"fqdns": ("evilcisco.com",)}, False),
    ([DNS(".cisco.com")], [], {"fqdns": ("r3.cisco.com",)}, True),
    ([DNS(".cisco.com")], [], {"fqdns": ("cisco.com",)}, False),
    ([], [DNS("hub.cisco.com")], {"fqdns": ("r3.cisco.com",)}, True),
    ([], [DNS("hub.cisco.com")], {"fqdns": ("hub.cisco.com",)}, False),
    # Without a dNSName a common name can serve as host name, so it is constrained as one.
    ([DNS("cisco.com")], [], {"subject": parse_dn("cn=r3.cisco.com")}, True),
    ([DNS("cisco.com")], [], {"subject": parse_dn("cn=r3.example.org")}, False),
    ([DNS("cisco.com")], [], {"subject": parse_dn("cn=Router No 3")}, True),
    ([MAIL("cisco.com")], [], {"emails": ("a@cisco.com",)}, True),
    ([MAIL("cisco.com")], [], {"emails": ("a@sub.cisco.com",)}, False),
    ([MAIL(".cisco.com")], [], {"emails": ("a@sub.cisco.com",)}, True),
    ([], [MAIL("root@cisco.com")], {"emails": ("a@cisco.com",)}, True),
    ([], [MAIL("root@cisco.com")], {"emails": ("root@Cisco.com",)}, False),
    ([MAIL("cisco.com")], [], {"subject": parse_dn("cn=a b,e=x@example.org")}, False),
    ([NET("10.0.0.0/8")], [], {"addresses": (bytes([10, 1, 2, 3]),)}, True),
    ([NET("10.0.0.0/8")], [], {"addresses": (bytes([11, 1, 2, 3]),)}, False),
    ([NET("10.0.0.0/8")], [], {"addresses": (bytes(16),)}, False),
    ([], [NET("10.0.0.0/24")], {"addresses": (bytes([10, 0, 0, 1]),)}, False),
    ([DIR("o=Cisco")], [], {"subject": parse_dn("cn=R3,ou=FLEX,o=CISCO")}, True),
    ([DIR("o=Cisco")], [], {"subject": parse_dn("cn=R3,o=Other")}, False),
    ([DIR("o=Cisco")], [], {"subject": parse_dn("o=Cisco,cn=R3")}, False),
    ([], [DIR("ou=HUBS,o=Cisco")], {"subject": parse_dn("cn=R3,ou=hubs,o=cisco")}, False),
    # Names of another form are not constrained.
    ([DNS("cisco.com")], [], {"emails": ("a@example.org",)}, True),
    # A kind that is not handled here, in a critical extension: refused.
    ([x509.UniformResourceIdentifier("cisco.com")], [], {}, False),
]  # fmt: skip


@pytest.mark.parametrize(("permitted", "excluded", "fields", "holds"), CONSTRAINED)
def test_I09_name_constraints(permitted: list, excluded: list, fields: dict, holds: bool) -> None:
    world = World(constraints={"permitted": tuple(permitted), "excluded": tuple(excluded)})
    fields = {"subject": parse_dn("cn=Router 3"), **fields}
    leaf = world.leaf("cn=unused", **fields)
    if holds:
        assert world.store().verify(leaf.chain, NOW)
    else:
        refused(world.store(), leaf.chain, "nameConstraints|constrains names of a kind that is not known")


def test_I09_constraints_bind_what_is_two_levels_below_and_cas_too() -> None:
    world = World(constraints={"permitted": (DIR("o=Cisco"),)})
    below = world.authority("Below", of=world.intermediate)
    assert world.store().verify(world.leaf("cn=R3,o=Cisco", of=below).chain, NOW)
    refused(world.store(), world.leaf("cn=R3,o=Other", of=below).chain, "nameConstraints")


def test_I09_a_constraint_of_the_anchor_counts() -> None:
    constraint = (x509.NameConstraints([DNS("cisco.com")], None), True)
    anchor = forge(ROOT_DN, ROOT_KEY, ROOT_DN, ROOT_KEY, CA, constraint)
    good, bad = (
        forge(DN, key("ec256", "x"), ROOT_DN, ROOT_KEY, (x509.SubjectAlternativeName([DNS(name)]), False))
        for name in ("r3.cisco.com", "r3.example.org")
    )
    assert anchored(anchor).verify((good,), NOW)
    refused(anchored(anchor), (bad,), "nameConstraints")


def test_rfc5280_6_1_3_a_self_issued_ca_is_exempt_and_the_peers_own_certificate_is_not() -> None:
    # The root may certify o=Below alone, but its own new key, of its own name, is not held to that.
    constraint = (x509.NameConstraints([DIR("o=Below")], None), True)
    anchor = forge(ROOT_DN, ROOT_KEY, ROOT_DN, ROOT_KEY, CA, constraint)
    new_key = key("ed25519", "rollover")
    rollover = forge(ROOT_DN, new_key, ROOT_DN, ROOT_KEY, CA)
    store = anchored(anchor)
    assert store.verify((forge("cn=R3,o=Below", key("ec256", "x"), ROOT_DN, new_key), rollover), NOW)
    refused(store, (forge("cn=R3,o=Other", key("ec256", "x"), ROOT_DN, new_key), rollover), "nameConstraints")
    refused(store, (forge(ROOT_DN, key("ec256", "x"), ROOT_DN, ROOT_KEY),), "nameConstraints")
    other = forge("cn=Sub,o=Other", new_key, ROOT_DN, ROOT_KEY, CA)
    refused(store, (forge("cn=R3,o=Below", key("ec256", "x"), "cn=Sub,o=Other", new_key), other), "nameConstraints")


@pytest.mark.parametrize(
    ("name", "holds"), [(DNS("r3.cisco.com"), True), (x509.UniformResourceIdentifier("ike://r3.cisco.com"), False)]
)
def test_I09_a_constraint_of_an_unknown_kind_that_is_not_critical(name: x509.GeneralName, holds: bool) -> None:
    # It may be passed over only while no name of that kind stands below (RFC 5280 4.2.1.10).
    constraint = (x509.NameConstraints(None, [x509.UniformResourceIdentifier("evil.org")]), False)
    anchor = forge(ROOT_DN, ROOT_KEY, ROOT_DN, ROOT_KEY, CA, constraint)
    leaf = forge(DN, key("ec256", "x"), ROOT_DN, ROOT_KEY, (x509.SubjectAlternativeName([name]), False))
    if holds:
        assert anchored(anchor).verify((leaf,), NOW)
    else:
        refused(anchored(anchor), (leaf,), "of a kind that is not known here: UniformResourceIdentifier")


# --- limits -----------------------------------------------------------------------------------------------------------


def parsed_leaf(*names: x509.GeneralName, **fields: object) -> ParsedCertificate:
    extension = (x509.SubjectAlternativeName(names), False)
    return parse_certificate(forge(DN, key("ec256", "x"), ROOT_DN, ROOT_KEY, extension))


def test_I10_alternative_names_are_bounded() -> None:
    names = [DNS(f"r{number}.de") for number in range(MAX_ALTERNATIVE_NAMES)]
    assert len(parsed_leaf(*names).dns) == MAX_ALTERNATIVE_NAMES
    with pytest.raises(CertificateError, match="257 subject alternative names, 256 at most"):
        parsed_leaf(*names, DNS("one.more"))


def test_I10_a_certificate_of_10000_names_is_not_even_read() -> None:
    names = x509.SubjectAlternativeName([DNS(f"r{number}.example.org") for number in range(10_000)])
    octets = forge(DN, key("ec256", "x"), ROOT_DN, ROOT_KEY, (names, False))
    assert len(octets) > MAX_CERTIFICATE
    refused(World().store(), (octets,), "octets, 16384 at most")


@pytest.mark.parametrize(("bits", "taken"), [(1024, False), (2040, False), (2048, True), (8192, True), (16384, False)])
def test_I10_rsa_keys_are_bounded(bits: int, taken: bool) -> None:
    # No key at all, but a modulus of that size: whoever verified by it would work for nothing.
    public = rsa.RSAPublicNumbers(65537, (1 << (bits - 1)) + 12345).public_key()
    octets = issue_raw(public)
    if taken:
        assert World().store().verify((octets,), NOW)
    else:
        refused(World().store(), (octets,), f"an RSA key of {bits} bits, 2048 to 8192 are taken")


def test_I10_rsa_exponents_are_bounded() -> None:
    public = rsa.RSAPublicNumbers((1 << 1024) + 1, (1 << 2047) + 12345).public_key()
    refused(World().store(), (issue_raw(public),), "an RSA exponent of 1025 bits, 33 at most")


def issue_raw(public: rsa.RSAPublicKey) -> bytes:
    """A certificate for a public key to which there is no private one."""
    builder = x509.CertificateBuilder(
        parse_dn(ROOT_DN), parse_dn(DN), public, 5, datetime.fromtimestamp(NOW, UTC), datetime.fromtimestamp(NOW, UTC)
    )
    return builder.sign(ROOT_KEY, None).public_bytes(Encoding.DER)


def test_I10_other_curves_are_refused() -> None:
    octets = forge(DN, ec.derive_private_key(5, ec.SECP256K1()), ROOT_DN, ROOT_KEY)
    refused(World().store(), (octets,), "a key on the curve secp256k1")


def test_I10_certificates_of_a_peer_are_bounded() -> None:
    leaf = pki.LEAVES["ec256"].chain
    full = (*leaf, *leaf[1:] * (MAX_PEER_CERTIFICATES - len(leaf)))
    assert pki.store().verify(full, NOW)
    refused(pki.store(), (*full, leaf[1]), "17 certificates, 16 at most")
    refused(pki.store(), (), "has sent no certificate")


def test_I10_a_cache_filled_with_variants_stays_bounded() -> None:
    store, leaf = pki.store(), pki.LEAVES["ec256"].chain
    for number in range(MAX_CACHED + 50):
        # One valid chain with something else behind it each time: all are found good, each another set of octets.
        noise = forge(f"cn=N{number}", ROOT_KEY, ROOT_DN, ROOT_KEY, serial=number + 1)
        assert store.verify((*leaf, noise), NOW)
    assert store.cached[:2] == (MAX_CACHED, MAX_CACHED)
    assert store.cached[2] <= MAX_CACHED


def test_I10_nothing_is_fetched() -> None:
    # A CRL distribution point at a file and at the loopback: it is not looked at, so with `crl` alone the chain fails.
    points = [
        x509.DistributionPoint([x509.UniformResourceIdentifier(uri)], None, None, None)
        for uri in ("file:///etc/passwd", "http://127.0.0.1:1/x.crl")
    ]
    leaf = forge(DN, key("ec256", "x"), ROOT_DN, ROOT_KEY, (x509.CRLDistributionPoints(points), False))
    refused(World().store(revocation=("crl",), crls=()), (leaf,), "no valid CRL")


# --- any octets -------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=300))
def test_any_octets_are_a_typed_error(octets: bytes) -> None:
    for parse in (parse_certificate, parse_crl):
        with pytest.raises(CertificateError):
            parse(octets)


@given(st.data())
def test_a_certificate_with_other_octets_is_read_or_refused_and_never_believed(data: st.DataObject) -> None:
    chain = pki.LEAVES[data.draw(st.sampled_from(pki.KINDS))].chain
    octets = bytearray(chain[0])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(octets) - 1))
        octets[place] = data.draw(st.integers(0, 255))
    octets = octets[: data.draw(st.integers(len(octets) - 3, len(octets)))]
    if bytes(octets) == chain[0]:
        return
    store = pki.store(("none",))
    try:
        found = store.verify((bytes(octets), *chain[1:]), NOW)
    except CertificateError:
        return
    # Believed only if what its issuer signed is what was read: the outside of that may differ in nothing that counts.
    assert found.certificate.cert.tbs_certificate_bytes == parse_certificate(chain[0]).cert.tbs_certificate_bytes


def test_what_a_peer_sends_makes_the_library_warn_nobody() -> None:
    # A country of one letter, and a serial number of 0.
    with catch_warnings():
        simplefilter("ignore")
        country = x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "X", _validate=False)])
    leaf = World().leaf("cn=x", subject=country)
    zero = forge(DN, key("ec256", "x"), ROOT_DN, ROOT_KEY, serial=0x7F).replace(b"\x02\x01\x7f", b"\x02\x01\x00", 1)
    with catch_warnings():
        simplefilter("error")
        assert parse_certificate(leaf.der).subject == "c=X"
        with pytest.raises(CertificateError, match="a serial number that is not positive"):
            parse_certificate(zero)


@given(st.data())
def test_a_crl_with_other_octets_is_read_or_refused(data: st.DataObject) -> None:
    octets = bytearray(pki.crl[1])
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_crl(bytes(octets))
    except CertificateError:
        pass
