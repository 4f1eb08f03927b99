"""Certificate maps: `crypto pki certificate map NAME SEQ` and its lines, held against a certificate.

Case does not matter, nor do blanks around `=` and `,`: `subject-name co ou = flex` takes OU=FLEX. A name is compared
part by part: `ou = flex` looks only at values of OU, so a CN that contains the text `,ou=flex` does not pass for one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address

from cryptography import x509

from ikev2.config import CertificateMap, Condition, MatchRule
from ikev2.pki.certificate import ParsedCertificate
from ikev2.pki.names import LABELS, label_of, name_parts, values_of

__all__ = ["FIELDS", "holds", "matches"]

_PART, _EQUALS = "\x01", "\x02"
"""What stands for `,` between two parts of a name, and for `=` after a label: neither can be in a value."""
_LABEL = re.compile(r"(^|\s*,)\s*(" + "|".join(sorted(LABELS, key=len, reverse=True)) + r")\s*=\s*", re.IGNORECASE)


def matches(certificate_map: CertificateMap, certificate: ParsedCertificate) -> bool:
    """Sequences are alternatives; all conditions of one must hold. One without conditions lets nobody in."""
    return any(
        conditions and all(holds(condition, certificate) for condition in conditions)
        for _, conditions in sorted(certificate_map.sequences.items())
    )


def holds(condition: Condition, certificate: ParsedCertificate) -> bool:
    """`ne` and `nc` hold when none of the certificate's values of that field equals or contains the text; a field that
    is not known holds never."""
    values = FIELDS.get(condition.field)
    wanted = _pattern(condition.value)
    if values is None or not wanted:
        return False
    found = values(certificate)
    if condition.rule in {MatchRule.EQ, MatchRule.NE}:
        # Where a text begins with a part of a name, so does the pattern; that is no difference between equals.
        hit = any(wanted.strip(_PART) == value.strip(_PART) for value in found)
    else:
        hit = any(wanted in value for value in found)
    return hit == (condition.rule in {MatchRule.EQ, MatchRule.CO})


def _pattern(text: str) -> str:
    """A condition's value in the form that names are compared in."""
    text = _LABEL.sub(lambda found: f"{_PART}{label_of(found[2])}{_EQUALS}", _plain(text))
    return re.sub(r"\s*,\s*", ",", text)


def _plain(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).casefold().split())


def _name(name: x509.Name) -> tuple[str, str]:
    """A name as text, in both directions: IOS does not say in which one `eq` reads it."""
    parts = [f"{_PART}{label}{_EQUALS}{_value(value)}" for label, value in name_parts(name)]
    return "".join(parts), "".join(reversed(parts))


def _value(text: str) -> str:
    return re.sub(r"\s*,\s*", ",", _plain(text))


def _subject(one: ParsedCertificate) -> Iterable[str]:
    return _name(one.cert.subject)


def _issuer(one: ParsedCertificate) -> Iterable[str]:
    return _name(one.cert.issuer)


def _alternative(one: ParsedCertificate) -> Iterable[str]:
    texts = [*one.dns, *one.email, *(str(ip_address(octets)) for octets in one.addresses)]
    return [*map(_value, texts), *(text for name in one.names for text in _name(name))]


def _unstructured(one: ParsedCertificate) -> Iterable[str]:
    return map(_value, values_of(one.cert.subject, "hostname"))


def _any_name(one: ParsedCertificate) -> Iterable[str]:
    return [*_subject(one), *_unstructured(one), *_alternative(one)]


def _serial(one: ParsedCertificate) -> Iterable[str]:
    """Hexadecimal, as `show crypto pki certificates` prints it, and without zeros in front."""
    text = f"{one.serial:x}"
    padded = text.zfill(len(text) + len(text) % 2)
    return text, padded, f"0x{text}", f"0x{padded}"


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def _date(day: int, month: int, rest: str) -> Iterable[str]:
    """In the two orders that IOS reads, day and month first, the month as a name or two digits."""
    days = {f"{day:02}", str(day)}
    months = {f"{month:02}", _MONTHS[month - 1]}
    return [text for a in days for b in months for text in (f"{a} {b} {rest}", f"{b} {a} {rest}")]


def _start(one: ParsedCertificate) -> Iterable[str]:
    at = one.cert.not_valid_before_utc
    return _date(at.day, at.month, f"{at:%Y %H:%M:%S}")


def _end(one: ParsedCertificate) -> Iterable[str]:
    at = one.cert.not_valid_after_utc
    return _date(at.day, at.month, f"{at:%Y %H:%M:%S}")


FIELDS: Mapping[str, Callable[[ParsedCertificate], Iterable[str]]] = {
    "subject-name": _subject,
    "issuer-name": _issuer,
    "alt-subject-name": _alternative,
    "unstructured-subject-name": _unstructured,
    "name": _any_name,
    "serial-number": _serial,
    "valid-start": _start,
    "expires-on": _end,
}
"""What a line of a map may begin with, and what texts of a certificate it is held against."""
