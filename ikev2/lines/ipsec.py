"""Transform sets and IPsec profiles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from attrs import evolve

from ikev2.config import Ikev2Config, IpsecProfile, TransformSet
from ikev2.lines.shared import IKEV2, words
from stack.esp import Cipher, EspMode, Integrity
from stack.ios.grammar import (
    CONFIG,
    Line,
    Place,
    Refusal,
    Values,
    entry,
    flag,
    no_effect,
    opening,
    refused,
    setting,
    value,
)

__all__ = ["CIPHER_WORDS", "INTEGRITY_WORDS", "IPSEC_LINES"]

SET_MODE, PROFILE_MODE = "cfg-crypto-trans", "ipsec-profile"

# --- transform sets ---------------------------------------------------------------------------------------------------

CIPHER_WORDS = {
    Cipher.AES_GCM_128: ("esp-gcm", ""),
    Cipher.AES_GCM_256: ("esp-gcm", "256"),
    Cipher.CHACHA20_POLY1305: ("esp-chacha20-poly1305", ""),
    Cipher.AES_CBC_128: ("esp-aes", ""),
    Cipher.AES_CBC_192: ("esp-aes", "192"),
    Cipher.AES_CBC_256: ("esp-aes", "256"),
}
"""Cipher -> its word and its number of bits ('': 128, as IOS leaves it out)."""

INTEGRITY_WORDS = {
    Integrity.HMAC_SHA1_96: "esp-sha-hmac",
    Integrity.HMAC_SHA2_256_128: "esp-sha256-hmac",
    Integrity.HMAC_SHA2_384_192: "esp-sha384-hmac",
    Integrity.HMAC_SHA2_512_256: "esp-sha512-hmac",
}
_CIPHERS = {words: cipher for cipher, words in CIPHER_WORDS.items()}
_INTEGRITIES = {word: integrity for integrity, word in INTEGRITY_WORDS.items()}

_SET: Place[TransformSet] = entry(
    Ikev2Config, "transform_sets", "set", lambda values: TransformSet(values["set"]), mode=SET_MODE
)


def _put_set(held: TransformSet, values: Values) -> TransformSet:
    bits = str(values.get("bits", "")).replace("128", "")
    integrity = _INTEGRITIES.get(values.get("integrity", ""), Integrity.NONE)
    return evolve(held, cipher=_CIPHERS[values["cipher"], bits], integrity=integrity)


def _show_set(held: TransformSet) -> Iterable[Values]:
    cipher, bits = CIPHER_WORDS[held.cipher]
    yield {"set": held.name, "cipher": cipher, "bits": bits, "integrity": INTEGRITY_WORDS.get(held.integrity, "")}


_NAME = "crypto ipsec transform-set {set:word}"
_AEAD = "{cipher:=esp-gcm} [{bits:128|256}] | {cipher:=esp-chacha20-poly1305}"
_CBC = "{cipher:=esp-aes} [{bits:128|192|256}]"
_HMAC = f"{{integrity:{'|'.join(INTEGRITY_WORDS.values())}}}"

_SET_LINES = (
    opening(
        CONFIG,
        f"{_NAME} ({_AEAD} | {_CBC} {_HMAC} | {_HMAC} {_CBC})",
        _SET,
        SET_MODE,
        put=_put_set,
        show=_show_set,
        no=f"{_NAME} [{{rest:text}}]",
        help="how ESP protects packets (esp-chacha20-poly1305 is ours, not IOS's)",
        order=39,
    ),
    refused(
        CONFIG,
        f"{_NAME} esp-aes [{{bits:128|192|256}}]",
        "encryption without integrity is refused: add esp-sha256-hmac",
    ),
    refused(
        CONFIG,
        f"{_NAME} {{what:esp-des|esp-3des|esp-seal}} [{{rest:text}}]",
        "that cipher is broken, or too weak: esp-gcm 256",
    ),
    refused(
        CONFIG, f"{_NAME} {{what:esp-null|esp-gmac}} [{{rest:text}}]", "packets would travel in clear: esp-gcm 256"
    ),
    refused(
        CONFIG,
        f"{_NAME} {{what:ah-md5-hmac|ah-sha-hmac|ah-sha256-hmac|ah-sha384-hmac|ah-sha512-hmac}} [{{rest:text}}]",
        "AH hides nothing and is not here: esp-gcm 256",
    ),
    refused(CONFIG, f"{_NAME} esp-md5-hmac [{{rest:text}}]", "MD5 is refused: esp-sha256-hmac"),
    refused(CONFIG, f"{_NAME} {_CBC} esp-md5-hmac", "MD5 is refused: esp-sha256-hmac"),
    refused(CONFIG, f"{_NAME} esp-gcm 192", "there is esp-gcm with 128 and with 256 bits"),
    refused(CONFIG, f"{_NAME} ({_AEAD}) {_HMAC}", "that cipher has its own integrity: it stands alone"),
    setting(
        SET_MODE,
        "mode {mode:transport|tunnel}",
        _SET,
        lambda held, values: evolve(held, mode=EspMode(values["mode"])),
        show=lambda held: ({"mode": held.mode.value},),
        remove=lambda held, _values: evolve(held, mode=EspMode.TRANSPORT),
        no="mode [{mode:transport|tunnel}]",
        help="transport is the default here (IOS: tunnel), and enough for GRE; the other end may ask for either",
        order=1,
    ),
)

# --- profiles ---------------------------------------------------------------------------------------------------------

_PROFILE: Place[IpsecProfile] = entry(
    Ikev2Config, "ipsec_profiles", "ipsec", lambda values: IpsecProfile(values["ipsec"]), mode=PROFILE_MODE
)


class _Lifetime(NamedTuple):
    """A limit of CHILD_SAs: its field, and how it is written."""

    field: str
    words: str
    rank: int
    disable: bool = True


_LIFETIMES = {
    "seconds": _Lifetime("lifetime_seconds", "seconds {number:int:120-2592000}", 1, disable=False),
    "kilobytes": _Lifetime("lifetime_kilobytes", "kilobytes ({number:int:2560-4294967295} | {none:=disable})", 2),
    "packets": _Lifetime("lifetime_packets", "packets ({number:int:1000-4294967295} | {none:=disable})", 3),
}
_LIFETIME_HELP = {
    "seconds": "how long a CHILD_SA lives; it is rekeyed before",
    "kilobytes": "how much a CHILD_SA carries, in units of 1024 octets",
    "packets": "how many packets a CHILD_SA carries (ours, not IOS's)",
}


def _lifetime(mode: str, start: str, place: Place[Any], what: str, order: int) -> Line:
    """`lifetime seconds N`, `kilobytes N|disable`, `packets N|disable`: a number, or 0 for no limit."""
    one = _LIFETIMES[what]

    def put(model: Any, values: Values) -> Any:
        return evolve(model, **{one.field: 0 if "none" in values else values["number"]})

    def show(model: Any) -> Iterable[Values]:
        held, usual = getattr(model, one.field), getattr(type(model)(**_nameless(model)), one.field)
        if held != usual:
            yield {"none": "disable"} if held == 0 and one.disable else {"number": held}

    def remove(model: Any, _values: Values) -> Any:
        return evolve(model, **{one.field: getattr(type(model)(**_nameless(model)), one.field)})

    text = f"{start} lifetime {one.words}"
    no = f"{start} lifetime {what} [{one.words.removeprefix(what).strip(' ()')}]"
    return setting(mode, text, place, put, show=show, remove=remove, no=no, help=_LIFETIME_HELP[what], order=order)


def _nameless(model: Any) -> dict[str, Any]:
    return {"name": model.name} if isinstance(model, IpsecProfile) else {}


def _days(mode: str, start: str, place: Place[Any], order: int) -> Line:
    return setting(
        mode,
        f"{start} lifetime days {{days:int:1-30}}",
        place,
        lambda model, values: evolve(model, lifetime_seconds=values["days"] * 86_400),
        remove=lambda model, _values: evolve(model, lifetime_seconds=type(model)(**_nameless(model)).lifetime_seconds),
        help="the same in days",
        printed=f"{start} lifetime seconds {{number:int:120-2592000}}",
        order=order,
    )


_WINDOWS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)


def _replay(mode: str, start: str, place: Place[Any], order: int) -> Line:
    """`replay window-size N`, `replay disable`."""

    def put(model: Any, values: Values) -> Any:
        if "none" in values:
            return evolve(model, replay_window=0)
        if values["window"] not in _WINDOWS:
            raise Refusal(f"the window is one of {', '.join(map(str, _WINDOWS))}", "window")
        return evolve(model, replay_window=values["window"])

    def show(model: Any) -> Iterable[Values]:
        held, usual = model.replay_window, type(model)(**_nameless(model)).replay_window
        if held != usual:
            yield {"none": "disable"} if held == 0 else {"window": held}

    def remove(model: Any, _values: Values) -> Any:
        return evolve(model, replay_window=type(model)(**_nameless(model)).replay_window)

    return setting(
        mode,
        f"{start} replay (window-size {{window:int:64-8192}} | {{none:=disable}})",
        place,
        put,
        show=show,
        remove=remove,
        no=f"{start} replay [window-size [{{window:int:64-8192}}] | {{none:=disable}}]",
        help="how far behind a packet may come (RFC 4303 3.4.3); without this line, 64",
        order=order,
    )


_SA = "set security-association"
_GLOBAL = "crypto ipsec security-association"
_OUTER = "the tunnel decides that before a packet gets here"
_OLD = "IKEv1 is not spoken here: `set ikev2-profile`"

IPSEC_LINES: tuple[Line, ...] = (
    *_SET_LINES,
    *(_lifetime(CONFIG, _GLOBAL, IKEV2, what, 39) for what in _LIFETIMES),
    _days(CONFIG, _GLOBAL, IKEV2, 39),
    _replay(CONFIG, _GLOBAL, IKEV2, 39),
    no_effect(CONFIG, "crypto ipsec df-bit {what:clear|copy|set}", _OUTER),
    no_effect(CONFIG, "crypto ipsec fragmentation {what:before-encryption|after-encryption}", _OUTER),
    no_effect(CONFIG, "crypto ipsec nat-transparency udp-encapsulation", "it is always on (RFC 3948)", no=False),
    opening(
        CONFIG,
        "crypto ipsec profile {ipsec:name:ipsec-profile}",
        _PROFILE,
        PROFILE_MODE,
        show=lambda held: ({"ipsec": held.name},),
        help="what `tunnel protection` names; the one called `default` exists by itself",
        order=39,
    ),
    value(PROFILE_MODE, "description {text:text}", _PROFILE, "description", "text", help="a remark", order=1),
    *(_lifetime(PROFILE_MODE, _SA, _PROFILE, what, 2) for what in _LIFETIMES),
    _days(PROFILE_MODE, _SA, _PROFILE, 2),
    _replay(PROFILE_MODE, _SA, _PROFILE, 3),
    flag(
        PROFILE_MODE,
        f"{_SA} esn",
        _PROFILE,
        "esn",
        help="offer sequence numbers of 64 bits first, and take them (on by default)",
        order=4,
    ),
    words(
        PROFILE_MODE,
        "set transform-set {sets:word}...",
        _PROFILE,
        "transform_sets",
        "sets",
        help="transform sets, best first; without this line, the defaults",
        order=5,
    ),
    setting(
        PROFILE_MODE,
        "set pfs [{group:pfs-group}]",
        _PROFILE,
        lambda held, values: evolve(held, pfs_group=values.get("group", 19)),
        show=lambda held: () if held.pfs_group is None else ({"group": held.pfs_group},),
        remove=lambda held, _values: evolve(held, pfs_group=None),
        help="a Diffie-Hellman exchange at each rekey; without a group, group19",
        order=6,
    ),
    value(
        PROFILE_MODE,
        "set ikev2-profile {ike:name:ikev2-profile}",
        _PROFILE,
        "ike_profile",
        "ike",
        help="the IKEv2 profile; without this line `default`, or the only one",
        order=7,
    ),
    flag(PROFILE_MODE, "responder-only", _PROFILE, "responder_only", help="never be the first to ask", order=8),
    refused(PROFILE_MODE, f"{_SA} dummy [{{rest:text}}]", "dummy packets are not in this release"),
    refused(PROFILE_MODE, f"{_SA} idle-time [{{rest:text}}]", "SAs stay up as long as somebody wants them"),
    refused(PROFILE_MODE, f"{_SA} level [{{rest:text}}]", "a tunnel has one SA pair for all that goes through it"),
    refused(PROFILE_MODE, "set isakmp-profile {rest:text}", _OLD),
    refused(PROFILE_MODE, "set identity {rest:text}", _OLD),
    refused(PROFILE_MODE, "set mixed-mode", "IPv6 in an IPv4 tunnel is GRE's matter: it needs no mixed mode"),
    refused(
        PROFILE_MODE,
        "set reverse-route {rest:text}",
        "routes come from mode config (`route accept`), not from selectors",
    ),
)
