"""Distinguished names, and certificate maps held against them."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from ikev2.config import CertificateMap, Condition, MatchRule
from ikev2.pki.certificate import parse_certificate
from ikev2.pki.errors import CertificateError
from ikev2.pki.maps import FIELDS, holds, matches
from ikev2.pki.names import dn_der, dn_text, parse_dn, parse_dn_der, rdn_keys, same_name
from tests.ikev2.pki import LEAVES, World

EQ, NE, CO, NC = MatchRule


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("cn=R3-spoke.cisco.com,ou=FLEX,o=Cisco", "cn=R3-spoke.cisco.com,ou=FLEX,o=Cisco"),
        (" CN = R3 , OU = FLEX VPN ,O=Cisco ", "cn=R3,ou=FLEX VPN,o=Cisco"),
        ("cn=R3,emailAddress=a@b.c,s=Bavaria,c=DE", "cn=R3,e=a@b.c,st=Bavaria,c=DE"),
        (r"cn=Acme\, Inc.,o=x=y", r"cn=Acme\, Inc.,o=x=y"),
        ("unstructuredName=R3.cisco.com,serialNumber=9AB", "hostname=R3.cisco.com,serialnumber=9AB"),
        ("cn=Zoë", "cn=Zoë"),
    ],
)
def test_dn_text(text: str, printed: str) -> None:
    name = parse_dn(text)
    assert dn_text(name) == printed
    assert dn_text(parse_dn(printed)) == printed
    # Most specific first in the text, last in DER.
    assert list(name)[-1].value == printed.split(",", maxsplit=1)[0].partition("=")[2] or "\\" in printed
    assert dn_text(parse_dn_der(dn_der(name))) == printed


@pytest.mark.parametrize(
    "text", ["", "R3", "cn=", "cn=R3,", "xx=R3", "cn=R3,,o=x", "c=Germany", "cn=" + "x" * 99, "e=ä@b"]
)
def test_what_is_no_dn(text: str) -> None:
    with pytest.raises(CertificateError):
        parse_dn(text)


VALUE = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).filter(
    lambda text: text == text.strip()
)


@given(st.lists(st.tuples(st.sampled_from(["cn", "ou", "o", "l", "st", "uid"]), VALUE), min_size=1, max_size=5))
def test_a_dn_is_read_as_it_is_printed(parts: list[tuple[str, str]]) -> None:
    oids = {"cn": NameOID.COMMON_NAME, "ou": NameOID.ORGANIZATIONAL_UNIT_NAME, "o": NameOID.ORGANIZATION_NAME}
    oids |= {"l": NameOID.LOCALITY_NAME, "st": NameOID.STATE_OR_PROVINCE_NAME, "uid": NameOID.USER_ID}
    name = x509.Name([x509.NameAttribute(oids[label], value) for label, value in parts])
    assert same_name(parse_dn_der(dn_der(name)), name)
    text = dn_text(name)
    assert text.isprintable()
    if all(value.isprintable() for _, value in parts):
        assert parse_dn(text) == name


@given(st.binary(max_size=80))
def test_any_octets_as_a_dn_are_a_name_or_a_typed_error(octets: bytes) -> None:
    try:
        name = parse_dn_der(octets)
    except CertificateError:
        return
    assert dn_der(name) == octets


def test_a_name_with_something_behind_it_is_refused() -> None:
    octets = dn_der(parse_dn("cn=R3"))
    spki = bytes.fromhex("302a300506032b6570032100" + "00" * 32)
    for more in (b"\0", octets, spki, spki + b"\xa0\0"):
        with pytest.raises(CertificateError):
            parse_dn_der(octets + more)
    with pytest.raises(CertificateError, match="4096 at most"):
        parse_dn_der(bytes(5000))


def test_names_are_compared_without_case_blanks_and_string_types() -> None:
    printable = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "R3  Spoke", x509.name._ASN1Type.PrintableString)])
    assert rdn_keys(printable) == rdn_keys(parse_dn("cn=r3 spoke"))
    assert not same_name(parse_dn("cn=r3,o=x"), parse_dn("o=x,cn=r3"))
    assert not same_name(parse_dn("cn=r3"), parse_dn("ou=r3"))


# --- certificate maps -------------------------------------------------------------------------------------------------

R3 = parse_certificate(LEAVES["ec256"].der)

CONDITIONS = [
    # cn=R3-spoke.cisco.com,ou=FLEX,o=Cisco; R3-Spoke.cisco.com, r3@cisco.com, 10.0.0.3
    ("subject-name", CO, "ou = flex", True),
    ("subject-name", CO, "OU=Flex", True),
    ("subject-name", CO, "ou =  flex ", True),
    ("subject-name", CO, "flex", True),
    ("subject-name", CO, "cn = R3-spoke.cisco.com , ou = flex", True),
    ("subject-name", CO, "o = cisco, ou = flex", True),
    ("subject-name", CO, "ou = hub", False),
    ("subject-name", CO, "o = flex", False),
    ("subject-name", CO, "", False),
    ("subject-name", NC, "", False),
    ("subject-name", NC, "ou = hub", True),
    ("subject-name", NC, "ou = flex", False),
    ("subject-name", EQ, "cn=r3-spoke.cisco.com, ou=flex, o=cisco", True),
    ("subject-name", EQ, "o = cisco, ou = flex, cn = r3-spoke.cisco.com", True),
    ("subject-name", EQ, "cn=r3-spoke.cisco.com", False),
    ("subject-name", NE, "cn=r3-spoke.cisco.com", True),
    ("subject-name", NE, "cn=R3-spoke.cisco.com,ou=FLEX,o=Cisco", False),
    ("issuer-name", CO, "cn = test intermediate", True),
    ("issuer-name", CO, "r3", False),
    ("alt-subject-name", EQ, "r3-spoke.cisco.com", True),
    ("alt-subject-name", CO, "@cisco", True),
    ("alt-subject-name", EQ, "10.0.0.3", True),
    ("alt-subject-name", NC, "10.0.0", False),
    ("alt-subject-name", NE, "r4", True),
    ("name", CO, "10.0.0.3", True),
    ("name", CO, "ou=flex", True),
    ("name", NC, "hub", True),
    ("serial-number", EQ, f"{R3.serial:X}", True),
    ("serial-number", EQ, f"0{R3.serial:X}", True),
    ("serial-number", EQ, "DEADBEEF", False),
    ("unstructured-subject-name", CO, "r3", False),
    ("unstructured-subject-name", NC, "r3", True),
    ("valid-start", EQ, "14 Nov 2023 22:08:20", True),
    ("valid-start", EQ, "nov 14 2023  22:08:20", True),
    ("expires-on", CO, "2024", True),
    ("expires-on", NE, "11 13 2024 22:13:20", False),
    ("favourite-colour", NE, "blue", False),
]  # fmt: skip


@pytest.mark.parametrize(("field", "rule", "value", "expected"), CONDITIONS)
def test_a_condition_of_a_certificate_map(field: str, rule: MatchRule, value: str, expected: bool) -> None:
    assert holds(Condition(field, rule, value), R3) is expected


def test_sequences_are_alternatives_and_lines_must_all_hold() -> None:
    flex, hub, cisco = (Condition("subject-name", CO, text) for text in ("ou=flex", "ou=hub", "o=cisco"))
    for sequences, expected in (
        ({10: (flex,)}, True),
        ({10: (flex, hub)}, False),
        ({10: (flex, cisco)}, True),
        ({10: (hub,), 20: (flex, cisco)}, True),
        ({10: (hub,), 20: ()}, False),
        ({}, False),
    ):
        assert matches(CertificateMap("CMAP", sequences), R3) is expected


@pytest.mark.parametrize("cn", [r"evil\,ou=flex", r"evil\,ou = flex", r"evil\,ou=flex\,o=cisco", "ou=flex", "flex"])
def test_a_common_name_does_not_pass_for_another_part(cn: str) -> None:
    leaf = World().leaf("cn=x", subject=parse_dn(f"cn={cn},o=Mallory"))
    certificate = parse_certificate(leaf.der)
    assert not holds(Condition("subject-name", CO, "ou = flex"), certificate)
    assert not holds(Condition("subject-name", CO, "ou = flex, o = cisco"), certificate)
    assert holds(Condition("subject-name", CO, "flex"), certificate)


def test_other_parts_of_a_name() -> None:
    leaf = World().leaf("cn=x", subject=parse_dn(r"cn=R3,hostname=R3.cisco.com,o=Acme\, Inc."))
    certificate = parse_certificate(leaf.der)
    assert holds(Condition("unstructured-subject-name", EQ, "r3.CISCO.com"), certificate)
    assert holds(Condition("subject-name", CO, "unstructuredname = r3"), certificate)
    assert holds(Condition("subject-name", CO, "o = acme, inc."), certificate)


@given(st.sampled_from(sorted(FIELDS)), st.text(max_size=30))
def test_ne_and_nc_are_the_contrary_of_eq_and_co(field: str, text: str) -> None:
    for one, contrary in ((EQ, NE), (CO, NC)):
        said = [holds(Condition(field, rule, text), R3) for rule in (one, contrary)]
        assert said.count(True) == 1 or said == [False, False]
        if any(c.isprintable() and not c.isspace() for c in text):
            assert said.count(True) == 1
