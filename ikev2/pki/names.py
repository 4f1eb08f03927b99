"""Distinguished names: IOS's text (`cn=R3-spoke.cisco.com,ou=FLEX,o=Cisco`, most specific first), and how two are
compared.

In DER a name begins with what is most general (RFC 5280 4.1.2.4); the text is the other way round, as in RFC 4514.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from warnings import catch_warnings, simplefilter

from cryptography import x509
from cryptography.x509.oid import NameOID

from ikev2.pki.errors import CertificateError

__all__ = [
    "LABELS",
    "Rdn",
    "dn_der",
    "dn_text",
    "label_of",
    "name_parts",
    "parse_dn",
    "parse_dn_der",
    "quietly",
    "rdn_keys",
    "same_name",
    "values_of",
    "within",
]

_OIDS = {
    "cn": NameOID.COMMON_NAME,
    "ou": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "o": NameOID.ORGANIZATION_NAME,
    "l": NameOID.LOCALITY_NAME,
    "st": NameOID.STATE_OR_PROVINCE_NAME,
    "c": NameOID.COUNTRY_NAME,
    "dc": NameOID.DOMAIN_COMPONENT,
    "e": NameOID.EMAIL_ADDRESS,
    "uid": NameOID.USER_ID,
    "sn": NameOID.SURNAME,
    "gn": NameOID.GIVEN_NAME,
    "t": NameOID.TITLE,
    "street": NameOID.STREET_ADDRESS,
    "serialnumber": NameOID.SERIAL_NUMBER,
    "hostname": NameOID.UNSTRUCTURED_NAME,
}
_ALIASES = {
    "commonname": "cn",
    "organization": "o",
    "organizationalunit": "ou",
    "s": "st",
    "sp": "st",
    "ea": "e",
    "email": "e",
    "emailaddress": "e",
    "unstructuredname": "hostname",
    "surname": "sn",
    "givenname": "gn",
    "title": "t",
}
LABELS = frozenset(_OIDS) | frozenset(_ALIASES)
"""Every word that may stand before the `=`, in small letters."""
_NAMES = {oid: label for label, oid in _OIDS.items()}

Rdn = frozenset[tuple[str, str]]
"""One relative distinguished name, ready to be compared: pairs of OID and value in one case, with single blanks."""


def label_of(word: str) -> str | None:
    """The one spelling of an attribute's label, None for a word that is none."""
    word = word.lower()
    word = _ALIASES.get(word, word)
    return word if word in _OIDS else None


def values_of(name: x509.Name, label: str) -> tuple[str, ...]:
    """The values of one attribute, as they stand in DER."""
    return tuple(_value(one) for one in name.get_attributes_for_oid(_OIDS[label]))


def _value(one: x509.NameAttribute[str | bytes]) -> str:
    return one.value if isinstance(one.value, str) else "#" + one.value.hex()


def name_parts(name: x509.Name) -> Iterator[tuple[str, str]]:
    """Labels (or dotted OIDs) and values, most specific first."""
    for rdn in reversed(name.rdns):
        for one in rdn:
            yield _NAMES.get(one.oid, one.oid.dotted_string), _value(one)


def dn_text(name: x509.Name) -> str:
    r"""IOS's text. A comma inside a value is written `\,`, a backslash `\\`; control characters are written as
    `\XX`."""
    return ",".join(f"{label}={_escaped(value)}" for label, value in name_parts(name))


def _escaped(value: str) -> str:
    if "," in value or "\\" in value:
        value = re.sub(r"([\\,])", r"\\\1", value)
    if value.isprintable():
        return value
    return "".join(c if c.isprintable() else "".join(f"\\{octet:02x}" for octet in _octets(c)) for c in value)


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def parse_dn(text: str) -> x509.Name:
    """The name that a text in IOS's form means. Raises CertificateError."""
    rdns = []
    for part in re.sub(r"(\\.)|,", lambda found: found[1] or "\0", text).split("\0"):
        word, equals, value = part.partition("=")
        label = label_of(word.strip())
        value = re.sub(r"\\(.)", r"\1", value.strip())
        if not equals or not value:
            raise CertificateError(
                f"{part.strip()!r} is no part of a distinguished name: cn=NAME,ou=UNIT,o=... expected"
            )
        if label is None:
            raise CertificateError(f"{word.strip()!r} is no attribute of a distinguished name that is known here")
        rdns.append(x509.RelativeDistinguishedName([_attribute(label, value)]))
    return x509.Name(reversed(rdns))


def _attribute(label: str, value: str) -> x509.NameAttribute[str]:
    oid = _OIDS[label]
    try:
        if label in {"e", "hostname"} and not value.isascii():
            raise ValueError("ASCII expected")
        return x509.NameAttribute(oid, value)
    except (ValueError, TypeError) as error:
        raise CertificateError(f"{label}={value!r}: {error}") from None


def dn_der(name: x509.Name) -> bytes:
    """For ID_DER_ASN1_DN (RFC 7296 3.5)."""
    return name.public_bytes()


_MAX_NAME = 4096
_KEY = bytes.fromhex("302a300506032b6570032100" + "00" * 32)
_REST = bytes.fromhex("300506032b6570" + "034100" + "00" * 64)


@contextmanager
def quietly() -> Iterator[None]:
    """The library warns on stderr of much that a peer may send; here it is taken or refused, and that is all."""
    with catch_warnings():
        simplefilter("ignore")
        yield


def parse_dn_der(octets: bytes) -> x509.Name:
    """A name alone, in DER, as ID_DER_ASN1_DN has it. Raises CertificateError, whatever `octets` are.

    The library has no door for a name alone, and an ASN.1 reader of our own is one too many: so the name is read inside
    a certification request made around it, whose key and signature mean nothing.
    """
    if len(octets) > _MAX_NAME:
        raise CertificateError(f"a name of {len(octets)} octets, {_MAX_NAME} at most")
    inner = _tlv(0x30, b"\x02\x01\x00" + octets + _KEY + b"\xa0\x00")
    try:
        with quietly():
            name = x509.load_der_x509_csr(_tlv(0x30, inner + _REST)).subject
            for one in name:
                _value(one)
    except Exception as error:  # ValueError, TypeError and what else the library raises
        raise CertificateError(f"no distinguished name that can be read: {type(error).__name__}") from None
    return name


def _tlv(tag: int, octets: bytes) -> bytes:
    size = len(octets)
    if size < 0x80:
        return bytes([tag, size]) + octets
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(length)]) + length + octets


def rdn_keys(name: x509.Name) -> tuple[Rdn, ...]:
    """For comparing: the string type does not matter, nor case, nor how many blanks (RFC 5280 7.1)."""
    return tuple(frozenset((one.oid.dotted_string, _folded(_value(one))) for one in rdn) for rdn in name.rdns)


def _folded(value: str) -> str:
    return " ".join(value.casefold().split())


def same_name(one: x509.Name, other: x509.Name) -> bool:
    return rdn_keys(one) == rdn_keys(other)


def within(name: tuple[Rdn, ...], subtree: tuple[Rdn, ...]) -> bool:
    """Whether a name (`rdn_keys`) begins with all of `subtree` (RFC 5280 4.2.1.10)."""
    return name[: len(subtree)] == subtree
