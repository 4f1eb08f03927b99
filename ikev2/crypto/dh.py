"""Diffie-Hellman: MODP groups 14-16 (RFC 3526), ECP groups 19-21 (RFC 5903), Curve25519 (31, RFC 8031).

Private values come from the caller's entropy, so that a run can be repeated; the arithmetic is the library's, which keeps it in
constant time. What a peer sends is checked as RFC 6989 2 asks before any secret meets it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Protocol

from attrs import frozen
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

__all__ = ["DhError", "DhKey", "DhReason", "new_key", "public_size"]


class DhReason(Enum):
    GROUP = "the group is not supported"
    LENGTH = "the public value has the wrong length"
    RANGE = "the public value is not between 1 and p - 1"
    CURVE = "the public value is no point of the curve"
    ZERO = "the shared secret is zero"
    SUBGROUP = "the public value is no power of the generator"


@frozen
class DhError(Exception):
    reason: DhReason
    group: int

    def __str__(self) -> str:
        return f"group {self.group}: {self.reason.value}"


class DhKey(Protocol):
    """One end's ephemeral key. Not for reuse: drop it once `shared` has been called."""

    @property
    def group(self) -> int: ...

    @property
    def public(self) -> bytes:
        """As in the KE payload."""
        ...

    def shared(self, peer: bytes) -> bytes:
        """g^ir of RFC 7296 2.14, padded to its group's length. Raises DhError."""
        ...


def new_key(group: int, entropy: Callable[[int], bytes]) -> DhKey:
    """Raises DhError for a group that is not supported."""
    make = _MAKERS.get(group)
    if make is None:
        raise DhError(DhReason.GROUP, group)
    return make(group, entropy)


def public_size(group: int) -> int:
    """Octets of a public value. Raises DhError."""
    try:
        return _SIZES[group]
    except KeyError:
        raise DhError(DhReason.GROUP, group) from None


class _X25519:
    __slots__ = ("_private", "group", "public")

    def __init__(self, group: int, entropy: Callable[[int], bytes]) -> None:
        self.group = group
        self._private = X25519PrivateKey.from_private_bytes(entropy(32))
        self.public = self._private.public_key().public_bytes_raw()

    def shared(self, peer: bytes) -> bytes:
        if len(peer) != 32:
            raise DhError(DhReason.LENGTH, self.group)
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(peer))
        except ValueError:
            # RFC 8031 5 and RFC 7748 6.1: points of small order give zero.
            raise DhError(DhReason.ZERO, self.group) from None


@frozen
class _Curve:
    curve: ec.EllipticCurve
    size: int
    order: int


_CURVES: Mapping[int, _Curve] = {
    19: _Curve(ec.SECP256R1(), 32, 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551),
    20: _Curve(
        ec.SECP384R1(),
        48,
        0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
    ),
    21: _Curve(
        ec.SECP521R1(),
        66,
        0x1FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFA51868783BF2F966B7FCC0148F709A5D03BB5C9B8899C47AEBB6FB71E91386409,
    ),
}
_ECDH = ec.ECDH()


class _Ecp:
    """RFC 5903 7: a public value is x | y, the shared secret is x alone."""

    __slots__ = ("_private", "group", "public")

    def __init__(self, group: int, entropy: Callable[[int], bytes]) -> None:
        curve = _CURVES[group]
        # FIPS 186-5 A.2.1: 64 bits more than the order has, so that the remainder has no bias.
        value = int.from_bytes(entropy(curve.size + 8)) % (curve.order - 1) + 1
        self.group = group
        self._private = ec.derive_private_key(value, curve.curve)
        numbers = self._private.public_key().public_numbers()
        self.public = numbers.x.to_bytes(curve.size) + numbers.y.to_bytes(curve.size)

    def shared(self, peer: bytes) -> bytes:
        curve = _CURVES[self.group]
        if len(peer) != 2 * curve.size:
            raise DhError(DhReason.LENGTH, self.group)
        try:
            point = ec.EllipticCurvePublicKey.from_encoded_point(curve.curve, b"\x04" + peer)
        except ValueError:
            # RFC 6989 2.3: x and y below p, and on the curve. The cofactor is 1, so no subgroup is left to check.
            raise DhError(DhReason.CURVE, self.group) from None
        return self._private.exchange(_ECDH, point)


def _modp(bits: int, constant: int) -> int:
    """RFC 3526: 2^n - 2^(n-64) - 1 + 2^64 * ([2^(n-130) pi] + constant)."""
    return (1 << bits) - (1 << bits - 64) - 1 + (_pi(bits - 130) + constant << 64)


def _pi(bits: int) -> int:
    """floor(2^bits * pi), by Machin's formula with 64 bits to spare."""
    one = 1 << (bits + 64)

    def arctan_of_inverse(x: int) -> int:
        term = total = one // x
        divisor, sign = 3, -1
        while term:
            term //= x * x
            total += sign * (term // divisor)
            divisor, sign = divisor + 2, -sign
        return total

    return 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239)) >> 64


@frozen
class _Modp:
    prime: int
    size: int
    private: int
    """Octets of a private value: twice the group's strength and more (RFC 3526 8)."""


_MODP: Mapping[int, _Modp] = {
    14: _Modp(_modp(2048, 124476), 256, 32),
    15: _Modp(_modp(3072, 1690314), 384, 40),
    16: _Modp(_modp(4096, 240904), 512, 48),
}


def _ffdh() -> Any:
    """The library's finite-field groups. They are announced to go (in no release up to 50), and their names warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from cryptography.hazmat.primitives.asymmetric import dh

            names = dh.DHParameterNumbers, dh.DHPublicNumbers, dh.DHPrivateNumbers
        except (ImportError, AttributeError):
            return None
        return names


_FFDH = _ffdh()


class _ModpKey:
    __slots__ = ("_private", "group", "public")

    def __init__(self, group: int, entropy: Callable[[int], bytes]) -> None:
        modp = _MODP[group]
        self.group = group
        value = int.from_bytes(entropy(modp.private)) | 1 << (8 * modp.private - 1)
        self._private = _load(modp, value)
        # g^x by the same constant-time way as g^xy: an exchange with the public value g.
        self.public = self._private(2).rjust(modp.size, b"\0")

    def shared(self, peer: bytes) -> bytes:
        modp = _MODP[self.group]
        # RFC 7296 3.4: the length of the value MUST be that of the prime.
        if len(peer) != modp.size:
            raise DhError(DhReason.LENGTH, self.group)
        value = int.from_bytes(peer)
        # RFC 6989 2.1: p is a safe prime, so this range leaves only the large subgroup and its coset.
        if not 1 < value < modp.prime - 1:
            raise DhError(DhReason.RANGE, self.group)
        try:
            return self._private(value).rjust(modp.size, b"\0")
        except ValueError:
            # Some releases of the library check, as RFC 6989 2.2 has it, that the value's order is the subgroup's.
            raise DhError(DhReason.SUBGROUP, self.group) from None


def _load(modp: _Modp, value: int) -> Callable[[int], bytes]:
    """What raises a number to the power `value`, modulo the prime."""
    if _FFDH is None:
        # Not in constant time; the exponent serves one exchange only.
        return lambda base: pow(base, value, modp.prime).to_bytes(modp.size)
    parameters, public, private = _FFDH
    group = parameters(modp.prime, 2)
    key = private(value, public(4, group)).private_key()  # its public value plays no part in an exchange

    def power(base: int) -> bytes:
        octets: bytes = key.exchange(public(base, group).public_key())
        return octets

    return power


_MAKERS: Mapping[int, Callable[[int, Callable[[int], bytes]], DhKey]] = {
    14: _ModpKey,
    15: _ModpKey,
    16: _ModpKey,
    19: _Ecp,
    20: _Ecp,
    21: _Ecp,
    31: _X25519,
}
_SIZES: Mapping[int, int] = {
    **{group: modp.size for group, modp in _MODP.items()},
    **{group: 2 * curve.size for group, curve in _CURVES.items()},
    31: 32,
}
