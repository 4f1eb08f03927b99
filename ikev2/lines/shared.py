"""What the rows of this package have in common: names of algorithms, rows for tuples, identities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from attrs import evolve

from ikev2.config import IdentityKind, IdentityMatch, Ikev2Config
from stack.addr import Prefix
from stack.ios.grammar import Kind, Line, Place, Refusal, Values, register, section, setting

__all__ = [
    "ADDRESS",
    "CHACHA",
    "ENCRYPTION",
    "GROUPS",
    "HASHES",
    "IDENTITY",
    "IKEV2",
    "SHA1",
    "identity_match",
    "identity_values",
    "listed",
    "prefix_of",
    "prefix_values",
    "words",
]

T = TypeVar("T")

IKEV2: Place[Ikev2Config] = section(Ikev2Config)

# --- algorithms -------------------------------------------------------------------------------------------------------

SHA1 = "sha1"
CHACHA = "chacha20-poly1305"
ENCRYPTION = ("aes-gcm-256", "aes-gcm-128", CHACHA, "aes-cbc-256", "aes-cbc-192", "aes-cbc-128")
HASHES = ("sha512", "sha384", "sha256", SHA1)
GROUPS = (14, 15, 16, 19, 20, 21, 31)

_BROKEN = "it is broken or too weak, and never negotiated here"
_WEAK_CIPHERS = {"des": _BROKEN, "3des": _BROKEN}
_WEAK_HASHES = {"md5": _BROKEN}
_WEAK_GROUPS = {
    1: "768 bits are broken",
    2: "1024 bits are within reach of states",
    5: "1536 bits are too few",
    22: "its subgroup is too small",
    24: "nobody knows where its primes come from (RFC 8247 2.4)",
}


def _choice(allowed: Iterable[str], weak: Mapping[str, str]) -> Callable[[str], str]:
    names = tuple(allowed)

    def read(text: str) -> str:
        word = text.lower()
        if word in weak:
            raise ValueError(f"{word} is refused: {weak[word]}")
        if word not in names:
            raise ValueError(f"{text!r} is none of {', '.join(names)}")
        return word

    return read


def _group(text: str) -> int:
    """`14`, or `group14` as `set pfs` has it."""
    number = text.lower().removeprefix("group")
    if not (number.isascii() and number.isdigit() and len(number) < 4):
        raise ValueError(f"{text!r} is no number of a Diffie-Hellman group")
    if int(number) in _WEAK_GROUPS:
        raise ValueError(f"group {number} is refused: {_WEAK_GROUPS[int(number)]}")
    if int(number) not in GROUPS:
        raise ValueError(f"group {number} is none of {', '.join(map(str, GROUPS))}")
    return int(number)


_NUMBERS = ", ".join(map(str, GROUPS))
register(Kind("ike-cipher", f"a cipher ({', '.join(ENCRYPTION)})", _choice(ENCRYPTION, _WEAK_CIPHERS)))
register(Kind("ike-hash", f"a hash ({', '.join(HASHES)})", _choice(HASHES, _WEAK_HASHES)))
register(Kind("dh-group", f"a Diffie-Hellman group ({_NUMBERS})", _group))
register(Kind("pfs-group", f"groupN, N of {_NUMBERS}", _group, lambda number: f"group{number}"))

# --- rows for tuples --------------------------------------------------------------------------------------------------


def words(mode: str, text: str, place: Place[Any], name: str, slot: str, *, help: str, order: int) -> Line:  # noqa: A002
    """A row whose repeated `slot` is the tuple `name`, each word once."""
    return setting(
        mode,
        text,
        place,
        lambda model, values: evolve(model, **{name: tuple(dict.fromkeys(values[slot]))}),
        show=lambda model: ({slot: getattr(model, name)},) if getattr(model, name) else (),
        remove=lambda model, _values: evolve(model, **{name: ()}),
        help=help,
        order=order,
    )


def listed(
    mode: str,
    text: str,
    place: Place[Any],
    name: str,
    item: Callable[[Values], T],
    values_of: Callable[[T], Values],
    *,
    help: str,  # noqa: A002
    order: int,
    most: int = 0,
) -> Line:
    """A row that stands once for each item of the tuple `name`. `no` takes that item out. `most`: so many (0: any number)."""

    def put(model: Any, values: Values) -> Any:
        held: tuple[T, ...] = getattr(model, name)
        one = item(values)
        if most and one not in held and len(held) >= most:
            raise Refusal(f"there are {most} of them already, which is the most")
        return model if one in held else evolve(model, **{name: (*held, one)})

    def remove(model: Any, values: Values) -> Any:
        gone = item(values)
        return evolve(model, **{name: tuple(one for one in getattr(model, name) if one != gone)})

    return setting(
        mode,
        text,
        place,
        put,
        show=lambda model: [values_of(one) for one in getattr(model, name)],
        remove=remove,
        no=text,
        help=help,
        order=order,
    )


# --- addresses and identities -----------------------------------------------------------------------------------------


def prefix_of(values: Values) -> Prefix:
    """What `A.B.C.D [MASK]` or `X::/N` says; without a mask it is one host. Raises Refusal for bits outside the mask."""
    if "prefix" in values:
        found: Prefix = values["prefix"]
        return found
    prefix = Prefix.of(values["address"], values.get("mask", 32))
    if prefix.network != values["address"]:
        raise Refusal("the address has bits outside its mask", "address")
    return prefix


def prefix_values(prefix: Prefix) -> Values:
    """The same the other way round."""
    if len(prefix.network) == 16:
        return {"prefix": prefix}
    return {"address": prefix.network, "mask": None if prefix.length == 32 else prefix.length}


ADDRESS = "address {address:ipv4} [{mask:mask}] | address {prefix:prefix6}"
IDENTITY = f"{ADDRESS} | {{kind:fqdn|email}} [{{domain:=domain}}] {{value:word}} | {{kind:=key-id}} {{value:name}}"
"""Of `match identity remote` and of a keyring's peers."""


def identity_match(values: Values) -> IdentityMatch:
    """What those words say. The case of domains means nothing (RFC 7296 3.5 leaves it open; DNS names are compared so)."""
    if "kind" not in values:
        return IdentityMatch(IdentityKind.ADDRESS, prefix=prefix_of(values))
    kind = IdentityKind(values["kind"])
    return IdentityMatch(kind, values.get("value", ""), domain="domain" in values)


def identity_values(match: IdentityMatch) -> Values:
    if match.kind is IdentityKind.ADDRESS and match.prefix is not None:
        return prefix_values(match.prefix)
    said: dict[str, object] = {"kind": match.kind.value}
    if match.value:
        said["value"] = match.value
    if match.domain:
        said["domain"] = "domain"
    return said
