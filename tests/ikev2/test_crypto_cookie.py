"""NAT detection and cookies, composed again from hashlib and hmac."""

from __future__ import annotations

import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from ikev2.crypto.cookie import CookieSecret, cookie, cookie_fits, nat_hash

SECRET, BEFORE = CookieSecret(7, bytes(range(32))), CookieSecret(6, bytes(32))
NONCE, ADDRESS, SPI = bytes(16), bytes([192, 0, 2, 1]), b"initiato"


def test_rfc7296_2_23_nat_hash() -> None:
    expected = hashlib.sha1(b"initiato" + b"responde" + ADDRESS + b"\x01\xf4").digest()
    assert nat_hash(b"initiato", b"responde", ADDRESS, 500) == expected
    assert nat_hash(b"initiato", b"responde", ADDRESS, 4500) != expected


def test_rfc7296_2_6_cookie() -> None:
    expected = b"\x07" + hmac.new(SECRET.octets, SPI + b"\x04" + ADDRESS + NONCE, hashlib.sha256).digest()
    assert cookie(SECRET, NONCE, ADDRESS, SPI) == expected
    assert 1 <= len(expected) <= 64  # RFC 7296 3.10.1


def test_I05_cookies_that_do_not_fit() -> None:
    good = cookie(SECRET, NONCE, ADDRESS, SPI)
    both = (SECRET, BEFORE)
    assert cookie_fits(both, good, NONCE, ADDRESS, SPI)
    assert cookie_fits(both, cookie(BEFORE, NONCE, ADDRESS, SPI), NONCE, ADDRESS, SPI)
    assert not cookie_fits(
        both, cookie(CookieSecret(5, bytes(32)), NONCE, ADDRESS, SPI), NONCE, ADDRESS, SPI
    )  # too old
    assert not cookie_fits(both, good, NONCE, bytes([192, 0, 2, 2]), SPI)  # replayed from elsewhere
    assert not cookie_fits(both, good, bytes(17), ADDRESS, SPI)
    assert not cookie_fits(both, good, NONCE, ADDRESS, b"another1")
    assert not cookie_fits((), good, NONCE, ADDRESS, SPI)
    for bad in (b"", b"\x07", good[:-1], good + b"\0", b"\x06" + good[1:], good[:-1] + bytes([good[-1] ^ 1])):
        assert not cookie_fits(both, bad, NONCE, ADDRESS, SPI)


def test_versions_go_round() -> None:
    assert cookie(CookieSecret(256 + 7, SECRET.octets), NONCE, ADDRESS, SPI) == cookie(SECRET, NONCE, ADDRESS, SPI)
    assert cookie_fits([CookieSecret(263, SECRET.octets)], cookie(SECRET, NONCE, ADDRESS, SPI), NONCE, ADDRESS, SPI)


@given(
    st.binary(max_size=80),
    st.binary(max_size=256),
    st.binary(min_size=4, max_size=16),
    st.binary(min_size=8, max_size=8),
)
def test_I05_no_octets_pass_for_a_cookie(octets: bytes, nonce: bytes, address: bytes, spi: bytes) -> None:
    assert not cookie_fits((SECRET, BEFORE), octets, nonce, address, spi)
    assert cookie_fits((BEFORE, SECRET), cookie(SECRET, nonce, address, spi), nonce, address, spi)


def test_a_secret_does_not_show_itself() -> None:
    assert repr(CookieSecret(1, b"canary")) == "CookieSecret(version=1)"
