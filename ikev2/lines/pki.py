"""Trust points, certificate maps, pasted certificates."""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import evolve

from ikev2.config import CertificateChain, CertificateMap, Condition, Ikev2Config, MatchRule, Trustpoint
from stack.ios.grammar import (
    CONFIG,
    Draft,
    Kind,
    Line,
    Place,
    Refusal,
    Sections,
    Values,
    entry,
    no_effect,
    opening,
    refused,
    register,
    setting,
    value,
)

__all__ = ["PKI_LINES"]

POINT_MODE, MAP_MODE = "ca-trustpoint", "ca-certificate-map"
CHAIN_MODE, HEX_MODE = "config-cert-chain", "config-pubkey"

_POINT: Place[Trustpoint] = entry(
    Ikev2Config, "trustpoints", "trustpoint", lambda values: Trustpoint(values["trustpoint"]), mode=POINT_MODE
)

# --- trust points -----------------------------------------------------------------------------------------------------

_FINGERPRINT = re.compile(r"[0-9A-F]{32}|[0-9A-F]{40}|[0-9A-F]{64}")


def _fingerprint(text: str) -> str:
    """Hex digits; IOS itself groups them by blanks, others by colons."""
    digits = text.replace(":", "").replace(" ", "").upper()
    if not _FINGERPRINT.fullmatch(digits):
        raise Refusal("a fingerprint is MD5, SHA-1 or SHA-256 in hex: 32, 40 or 64 digits", "fingerprint")
    return digits


def _put_enrollment(point: Trustpoint, values: Values) -> Trustpoint:
    url = values.get("url", "")
    return evolve(point, enrollment=f"url {url}" if url else values["how"])


def _show_enrollment(point: Trustpoint) -> Iterable[Values]:
    if point.enrollment:
        how, _, url = point.enrollment.partition(" ")
        yield {"url": url} if how == "url" else {"how": how}


def _put_revocation(point: Trustpoint, values: Values) -> Trustpoint:
    ways = [values[name] for name in ("first", "second") if name in values]
    if len(set(ways)) < len(ways):
        raise Refusal("it stands there twice", "second")
    if ways == ["none", "crl"]:
        raise Refusal("nothing after `none` is ever looked at", "second")
    return evolve(point, revocation=tuple(ways))


def _show_revocation(point: Trustpoint) -> Iterable[Values]:
    if point.revocation != Trustpoint("").revocation and point.revocation:
        yield {"first": point.revocation[0], "second": (*point.revocation, "")[1]}


def _pair(name: str, what: str) -> Line:
    """`rsakeypair LABEL [SIZE [SIZE]]`: kept as written."""
    told = f"a name for the {what} key; the key itself is in `key file`"
    return value(POINT_MODE, f"{name} {{label:text}}", _POINT, name, "label", help=told, order=8)


def _file(name: str, text: str, what: str) -> Line:
    return value(POINT_MODE, f"{text} file {{path:name:path}}", _POINT, name, "path", help=what, order=9)


_ENROL = "enrolment is not in this release: certificates and keys come from files"
_POINT_LINES = (
    opening(
        CONFIG,
        "crypto pki trustpoint {trustpoint:name:trustpoint}",
        _POINT,
        POINT_MODE,
        show=lambda held: ({"trustpoint": held.name},),
        help="certificates: our own with its key, and the authority that is believed",
        order=31,
    ),
    setting(
        POINT_MODE,
        "enrollment (url {url:word} | {how:terminal|selfsigned|pkcs12})",
        _POINT,
        _put_enrollment,
        show=_show_enrollment,
        remove=lambda point, _values: evolve(point, enrollment=""),
        no="enrollment [url [{url:word}] | {how:terminal|selfsigned|pkcs12}]",
        help="where certificates would come from; only noted: give files, or `crypto pki certificate chain`",
        order=1,
    ),
    setting(
        POINT_MODE,
        "password [{text:text}]",
        _POINT,
        lambda point, values: evolve(point, password=values.get("text", "")),
        show=lambda point: () if point.password is None else ({"text": point.password},),
        remove=lambda point, _values: evolve(point, password=None),
        help="of enrolment; only noted",
        order=2,
    ),
    setting(
        POINT_MODE,
        "fingerprint {fingerprint:text}",
        _POINT,
        lambda point, values: evolve(point, fingerprint=_fingerprint(values["fingerprint"])),
        show=lambda point: ({"fingerprint": point.fingerprint},) if point.fingerprint else (),
        remove=lambda point, _values: evolve(point, fingerprint=""),
        help="of the authority's certificate (MD5, SHA-1 or SHA-256): another one is refused",
        order=3,
    ),
    value(
        POINT_MODE,
        "subject-name {subject:text}",
        _POINT,
        "subject_name",
        "subject",
        help="who we are, for enrolment; `check` and `show` compare it with the certificate",
        order=4,
    ),
    setting(
        POINT_MODE,
        "revocation-check {first:crl|none} [{second:crl|none}]",
        _POINT,
        _put_revocation,
        show=_show_revocation,
        remove=lambda point, _values: evolve(point, revocation=Trustpoint("").revocation),
        no="revocation-check [{first:crl|none} [{second:crl|none}]]",
        help="`none` counts only where no CRL can be had: what a CRL revokes stays revoked",
        order=5,
    ),
    refused(
        POINT_MODE,
        "revocation-check [{first:crl|none}] ocsp [{rest:text}]",
        "OCSP is not in this release: `crl`",
    ),
    _pair("rsakeypair", "RSA"),
    _pair("eckeypair", "elliptic curve"),
    _file("certificate_file", "certificate", "our certificate and its chain, ours first: PEM or DER (ours, not IOS's)"),
    _file("key_file", "key", "its private key: PEM, not encrypted, readable by us alone (ours, not IOS's)"),
    _file("ca_file", "ca", "the authority that is believed: PEM or DER (ours, not IOS's)"),
    _file("crl_file", "crl", "its certificate revocation list: PEM or DER (ours, not IOS's)"),
    *(
        no_effect(POINT_MODE, text, _ENROL)
        for text in (
            "auto-enroll [{percent:int:1-100}] [regenerate]",
            "serial-number [none]",
            "ip-address {rest:text}",
            "fqdn {rest:text}",
            "usage {rest:text}",
            "hash {what:sha256|sha384|sha512}",
            "source interface {interface:interface}",
            "storage {rest:text}",
        )
    ),
    refused(POINT_MODE, "hash {what:md5|sha1}", "requests signed with that hash are worth nothing"),
    refused(POINT_MODE, "vrf {vrf:name:vrf}", "nothing is fetched from the network, in no VRF"),
    refused(POINT_MODE, "chain-validation {rest:text}", "chains are always verified up to the authority"),
)

# --- certificate maps -------------------------------------------------------------------------------------------------

_FIELDS = (
    "subject-name|issuer-name|alt-subject-name|unstructured-subject-name|name|serial-number|valid-start|expires-on"
)
_CONDITION = f"{{field:{_FIELDS}}} {{rule:eq|ne|co|nc}} {{value:text}}"


def _condition(values: Values) -> Condition:
    return Condition(values["field"], MatchRule(values["rule"]), values["value"])


Conditions = tuple[Condition, ...]


def _fetch_sequence(sections: Sections, values: Values) -> Conditions | None:
    held = sections[Ikev2Config].certificate_maps.get(values["map"])
    return None if held is None else held.sequences.get(values["sequence"])


def _store_sequence(draft: Draft, values: Values, conditions: Conditions) -> None:
    held = draft[Ikev2Config].certificate_maps.get(values["map"]) or CertificateMap(values["map"])
    sequences = dict(sorted({**held.sequences, values["sequence"]: conditions}.items()))
    draft.shelf(Ikev2Config, "certificate_maps")[held.name] = evolve(held, sequences=sequences)


def _drop_sequence(draft: Draft, values: Values) -> None:
    """The map goes with its last sequence, or at once if none is named."""
    held = draft[Ikev2Config].certificate_maps.get(values["map"])
    if held is None:
        raise Refusal("there is no such certificate map", "map")
    number = values.get("sequence")
    left = {key: one for key, one in held.sequences.items() if number not in (None, key)}
    if left:
        draft.shelf(Ikev2Config, "certificate_maps")[held.name] = evolve(held, sequences=left)
    else:
        del draft.shelf(Ikev2Config, "certificate_maps")[held.name]


def _sequence_keys(sections: Sections, values: Values) -> Iterable[Values]:
    if "sequence" in values:
        return ({},)
    maps = sections[Ikev2Config].certificate_maps
    return [{"map": name, "sequence": number} for name, held in maps.items() for number in held.sequences]


_SEQUENCE: Place[Conditions] = Place(
    _fetch_sequence, _store_sequence, lambda _values: (), _sequence_keys, _drop_sequence, mode=MAP_MODE
)


def _put_condition(held: Conditions, values: Values) -> Conditions:
    one = _condition(values)
    return held if one in held else (*held, one)


_MAP = "crypto pki certificate map {map:word}"
_MAP_LINES = (
    opening(
        CONFIG,
        f"{_MAP} {{sequence:int:1-65535}}",
        _SEQUENCE,
        MAP_MODE,
        no=f"{_MAP} [{{sequence:int:1-65535}}]",
        help="which certificates: all conditions of a sequence must hold, and one sequence is enough",
        order=32,
    ),
    setting(
        MAP_MODE,
        _CONDITION,
        _SEQUENCE,
        _put_condition,
        show=lambda held: [{"field": one.field, "rule": one.rule.value, "value": one.value} for one in held],
        remove=lambda held, values: tuple(one for one in held if one != _condition(values)),
        no=_CONDITION,
        help="eq, ne: equal or not; co, nc: contains it or not; case and blanks around `=` mean nothing",
        order=1,
    ),
)

# --- pasted certificates ----------------------------------------------------------------------------------------------

MAX_DER = 16_384
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2}){1,64}")


def _hex(text: str) -> str:
    if not _HEX.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no even number of hex digits")
    return text.upper()


register(Kind("hex-octets", "octets in hex", _hex))

_CHAIN: Place[CertificateChain] = entry(
    Ikev2Config,
    "certificate_chains",
    "trustpoint",
    lambda values: CertificateChain(values["trustpoint"]),
    mode=CHAIN_MODE,
)


def _which(values: Values) -> tuple[str, str]:
    return values.get("kind", ""), values["serial"]


def _fetch_octets(sections: Sections, values: Values) -> bytes | None:
    chain = _CHAIN.fetch(sections, values)
    return None if chain is None else chain.certificates.get(_which(values))


def _store_octets(draft: Draft, values: Values, octets: bytes) -> None:
    if len(octets) > MAX_DER:
        raise Refusal(f"a certificate has at most {MAX_DER} octets")
    chain = _CHAIN.get(draft, values)
    _CHAIN.store(draft, values, evolve(chain, certificates={**chain.certificates, _which(values): octets}))


def _drop_octets(draft: Draft, values: Values) -> None:
    chain = _CHAIN.get(draft, values)
    left = {key: octets for key, octets in chain.certificates.items() if key != _which(values)}
    _CHAIN.store(draft, values, evolve(chain, certificates=left))


def _octets_keys(sections: Sections, values: Values) -> Iterable[Values]:
    if "serial" in values:
        return ({},)
    chain = _CHAIN.fetch(sections, values)
    return () if chain is None else [{"kind": kind, "serial": serial} for kind, serial in chain.certificates]


_CERTIFICATE: Place[bytes] = Place(
    _fetch_octets, _store_octets, lambda _values: b"", _octets_keys, _drop_octets, mode=HEX_MODE
)


def _begin(draft: Draft, values: Values) -> None:
    """A certificate that is given again is given anew."""
    _store_octets(draft, values, b"")


def _show_octets(octets: bytes) -> Iterable[Values]:
    text = octets.hex().upper()
    for at in range(0, len(text), 64):
        yield {"octets": tuple(text[i : i + 8] for i in range(at, min(at + 64, len(text)), 8))}


_ENTRY = "certificate [{kind:ca|self-signed}] {serial:word}"
_OCTETS = "{octets:hex-octets}..."
_CHAIN_LINES = (
    opening(
        CONFIG,
        "crypto pki certificate chain {trustpoint:name:trustpoint}",
        _CHAIN,
        CHAIN_MODE,
        show=lambda held: ({"trustpoint": held.trustpoint},),
        help="certificates of a trust point, as hex",
        order=33,
    ),
    Line(
        (CHAIN_MODE,),
        _ENTRY,
        "a certificate by its serial number: hex up to `quit`, or nothing (then it is only named)",
        edit=_begin,
        undo=_drop_octets,
        place=_CERTIFICATE,
        enters=HEX_MODE,
        no=_ENTRY,
        order=1,
    ),
    Line(
        (CHAIN_MODE,),
        _ENTRY,
        "a certificate that is only named",
        show=lambda sections, values: () if _fetch_octets(sections, values) else ({},),
        place=_CERTIFICATE,
        order=1,
    ),
    Line(
        (CHAIN_MODE,),
        _ENTRY,
        "a certificate with its octets",
        show=lambda sections, values: ({},) if _fetch_octets(sections, values) else (),
        place=_CERTIFICATE,
        enters=HEX_MODE,
        order=1,
    ),
    setting(
        HEX_MODE,
        _OCTETS,
        _CERTIFICATE,
        lambda held, values: held + bytes.fromhex("".join(values["octets"])),
        show=_show_octets,
        no=_OCTETS,
        help="octets of the certificate (DER)",
        order=1,
    ),
    Line((HEX_MODE,), "quit", "the certificate ends", edit=lambda _draft, _values: None, leaves=True),
)

_REQUESTS = "keys and certificates are made by `labelspan pki` or other tools, and given by files"

PKI_LINES: tuple[Line, ...] = (
    *_POINT_LINES,
    *_MAP_LINES,
    *_CHAIN_LINES,
    no_effect(CONFIG, "crypto pki token {rest:text}", "there are no tokens here"),
    no_effect(CONFIG, "crypto pki trustpool {rest:text}", "only trust points are believed"),
    refused(CONFIG, "crypto pki {what:server|export|import|enroll|authenticate} {rest:text}", _REQUESTS),
    refused(CONFIG, "crypto key {rest:text}", _REQUESTS),
)
