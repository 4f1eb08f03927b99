"""Key exchange: vectors, agreement, and that no bad public value gets as far as a secret."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ikev2.crypto import dh
from ikev2.crypto.dh import DhError, DhReason, new_key, public_size
from ikev2.crypto.suites import GROUPS

MODP = (14, 15, 16)
ECP = (19, 20, 21)


def entropy(seed: bytes = b"a"):
    """Repeatable, and never the same twice."""
    count = 0

    def draw(size: int) -> bytes:
        nonlocal count
        count += 1
        return hashlib.shake_256(seed + count.to_bytes(4)).digest(size)

    return draw


def test_rfc7748_6_1_x25519() -> None:
    alice = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    bob = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    a, b = new_key(31, lambda _: alice), new_key(31, lambda _: bob)
    assert a.public.hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert b.public.hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert a.shared(b.public).hex() == b.shared(a.public).hex() == shared


def test_rfc5903_8_1_p256() -> None:
    """The shared secret is x alone; public values are x | y."""
    i = 0xC88F01F510D9AC3F70A292DAA2316DE544E9AAB8AFE84049C62A9C57862D1433
    r = 0xC6EF9C5D78AE012A011164ACB397CE2088685D8F06BF9BE0B283AB46476BEE53
    a, b = (new_key(19, lambda size, value=value: (value - 1).to_bytes(size)) for value in (i, r))
    assert a.public.hex() == (
        "dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c3772581180"
        "5271a0461cdb8252d61f1c456fa3e59ab1f45b33accf5f58389e0577b8990bb3"
    )
    assert b.public.hex() == (
        "d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf63"
        "56fbf3ca366cc23e8157854c13c58d6aac23f046ada30f8353e74f33039872ab"
    )
    shared = "d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de"
    assert a.shared(b.public).hex() == b.shared(a.public).hex() == shared


def test_rfc3526_primes() -> None:
    """Group 14 as the RFC prints it; that 15 and 16 are safe primes, which their formula's constant is chosen for."""
    printed = (
        "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
        "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
        "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"
        "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
        "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510"
        "15728E5A8AACAA68FFFFFFFFFFFFFFFF"
    )
    assert dh._MODP[14].prime == int(printed, 16)
    for group, bits in zip(MODP, (2048, 3072, 4096), strict=True):
        p = dh._MODP[group].prime
        assert p.bit_length() == bits
        assert pow(3, p - 1, p) == 1
        assert pow(3, (p - 3) // 2, (p - 1) // 2) == 1


@pytest.mark.parametrize("group", GROUPS)
def test_both_ends_agree_and_runs_repeat(group: int) -> None:
    a, b = new_key(group, entropy(b"a")), new_key(group, entropy(b"b"))
    assert a.group == group
    assert len(a.public) == len(b.public) == public_size(group)
    shared = a.shared(b.public)
    assert shared == b.shared(a.public)
    assert len(shared) == (public_size(group) // 2 if group in ECP else public_size(group))
    again = new_key(group, entropy(b"a"))
    assert (again.public, again.shared(b.public)) == (a.public, shared)
    assert new_key(group, entropy(b"c")).public != a.public


@pytest.mark.parametrize("group", MODP)
def test_modp_is_what_arithmetic_says(group: int) -> None:
    prime, size, octets = dh._MODP[group].prime, dh._MODP[group].size, dh._MODP[group].private
    x, y = (int.from_bytes(entropy(seed)(octets)) | 1 << (8 * octets - 1) for seed in (b"a", b"b"))
    key = new_key(group, entropy(b"a"))
    assert key.public == pow(2, x, prime).to_bytes(size)
    assert key.shared(pow(2, y, prime).to_bytes(size)) == pow(2, x * y, prime).to_bytes(size)


def test_modp_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its finite-field names are announced to go."""
    with_it = new_key(14, entropy())
    monkeypatch.setattr(dh, "_FFDH", None)
    without = new_key(14, entropy())
    peer = new_key(14, entropy(b"b")).public
    assert (without.public, without.shared(peer)) == (with_it.public, with_it.shared(peer))


def test_modp_shared_secret_keeps_its_leading_zeros() -> None:
    """RFC 7296 2.14: "padded with zeros if necessary to make it the length of the modulus"."""
    prime = dh._MODP[14].prime
    key = new_key(14, entropy())
    for seed in range(2000):
        peer = pow(2, 2**200 + seed, prime).to_bytes(256)
        if (shared := key.shared(peer))[0] == 0:
            break
    else:
        pytest.fail("no such value found")
    assert len(shared) == 256


@pytest.mark.parametrize("group", [0, 1, 2, 5, 17, 22, 23, 24, 32, 65535])
def test_I06_a_group_that_is_not_supported(group: int) -> None:
    for call in (lambda: new_key(group, entropy()), lambda: public_size(group)):
        with pytest.raises(DhError) as caught:
            call()
        assert (caught.value.reason, caught.value.group) == (DhReason.GROUP, group)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("change", [-1, 1, None])
def test_I06_wrong_length(group: int, change: int | None) -> None:
    """RFC 7296 3.4: the length MUST be that of the group's values. None: empty."""
    good = new_key(group, entropy(b"b")).public
    bad = b"" if change is None else good[:change] if change < 0 else b"\0" + good
    with pytest.raises(DhError) as caught:
        new_key(group, entropy()).shared(bad)
    assert caught.value.reason is DhReason.LENGTH


@pytest.mark.parametrize("group", MODP)
def test_I06_rfc6989_2_1_modp_out_of_range(group: int) -> None:
    prime, size = dh._MODP[group].prime, dh._MODP[group].size
    key = new_key(group, entropy())
    for value in (0, 1, prime - 1, prime, prime + 1, 2 ** (8 * size) - 1):
        with pytest.raises(DhError) as caught:
            key.shared(value.to_bytes(size))
        assert caught.value.reason is DhReason.RANGE
    for value in (2, 4):
        assert len(key.shared(value.to_bytes(size))) == size


def test_I06_a_library_that_looks_closer_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cryptography` 43 refuses whatever is no power of 2, later ones do not."""

    def refuse(base: int) -> bytes:
        raise ValueError("Error computing shared key.")

    key = new_key(14, entropy())
    monkeypatch.setattr(key, "_private", refuse)
    with pytest.raises(DhError) as caught:
        key.shared((11).to_bytes(256))
    assert caught.value.reason is DhReason.SUBGROUP


@pytest.mark.parametrize("group", ECP)
def test_I06_rfc6989_2_3_points_that_are_not_on_the_curve(group: int) -> None:
    key, good = new_key(group, entropy()), new_key(group, entropy(b"b")).public
    size = len(good) // 2
    x, y = good[:size], good[size:]
    flipped = y[:-1] + bytes((y[-1] ^ 1,))
    for bad in (x + flipped, bytes(2 * size), b"\xff" * (2 * size), y + x, x + bytes(size)):
        with pytest.raises(DhError) as caught:
            key.shared(bad)
        assert caught.value.reason is DhReason.CURVE


def test_I06_x25519_small_order() -> None:
    """RFC 7748 6.1: the points of small order, as others have listed them: the shared secret would be zero."""
    p = 2**255 - 19
    small = (0, 1, p - 1, p, p + 1,
             325606250916557431795983626356110631294008115727848805560023387167927233504,
             39382357235489614581723060781553021112529911719440698176882885853963445705823)  # fmt: skip
    key = new_key(31, entropy())
    for value in small:
        with pytest.raises(DhError) as caught:
            key.shared(value.to_bytes(32, "little"))
        assert caught.value.reason is DhReason.ZERO


@pytest.mark.parametrize("group", [14, 19, 21, 31])
@settings(max_examples=60, deadline=None)
@given(octets=st.one_of(st.binary(max_size=300), st.integers(0, 2**2048 - 1).map(lambda n: n.to_bytes(256))))
def test_I06_any_octets_give_a_secret_or_one_typed_error(group: int, octets: bytes) -> None:
    key = new_key(group, entropy())
    for given_octets in (octets, octets[: public_size(group)]):
        try:
            shared = key.shared(given_octets)
        except DhError:
            continue
        assert any(shared)


def test_a_key_does_not_show_itself() -> None:
    for group in GROUPS:
        key = new_key(group, entropy())
        assert key.public.hex() not in repr(key)
        assert "0x" in repr(key)  # object's own
