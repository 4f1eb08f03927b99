"""Strangers: cookies, limits, rates. What whole speakers do with them is in test_speaker_strangers.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikev2.config import Ikev2Config, Limits
from ikev2.engine import admission as module
from ikev2.engine.admission import Admission, Cookies, Rate, Verdict
from stack.testing import SeededEntropy

NONCE, SPI, HERE, THERE = b"n" * 32, b"s" * 8, b"\xc0\0\2\1", b"\xc0\0\2\2"


def cookies() -> Cookies:
    return Cookies(SeededEntropy("c"))


def admission(config: Ikev2Config | None = None) -> Admission:
    return Admission(config or Ikev2Config(), cookies())


def crowd(door: Admission, number: int, address: Callable[[int], bytes]) -> None:
    for each in range(1, number + 1):
        door.opened(each, address(each), 0.0)


def spread(number: int) -> bytes:
    return b"\x0a" + number.to_bytes(3)


def test_rfc7296_2_6_a_cookie_fits_what_it_was_made_for() -> None:
    made = cookies()
    cookie = made.make(NONCE, HERE, SPI, 0.0)
    assert 1 <= len(cookie) <= 64  # RFC 7296 2.6
    assert made.check(cookie, NONCE, HERE, SPI, 59.0)


@pytest.mark.parametrize(
    ("nonce", "address", "spi"),
    [(b"m" * 32, HERE, SPI), (NONCE, THERE, SPI), (NONCE, HERE, b"t" * 8), (NONCE + b"n", HERE, SPI)],
)
def test_I05_a_cookie_is_bound_to_nonce_address_and_spi(nonce: bytes, address: bytes, spi: bytes) -> None:
    made = cookies()
    assert not made.check(made.make(NONCE, HERE, SPI, 0.0), nonce, address, spi, 0.0)


def test_I05_a_secret_lives_two_turns() -> None:
    made = cookies()
    cookie = made.make(NONCE, HERE, SPI, 0.0)
    assert made.check(cookie, NONCE, HERE, SPI, 60.0)
    assert made.make(NONCE, HERE, SPI, 60.0) != cookie
    assert not made.check(cookie, NONCE, HERE, SPI, 121.0)


def test_I05_nor_after_a_long_silence() -> None:
    made = cookies()
    cookie = made.make(NONCE, HERE, SPI, 0.0)
    assert not made.check(cookie, NONCE, HERE, SPI, 1000.0)


@given(st.binary(max_size=70))
def test_I05_no_octets_pass_for_a_cookie(octets: bytes) -> None:
    made = cookies()
    real = made.make(NONCE, HERE, SPI, 0.0)
    assert made.check(octets, NONCE, HERE, SPI, 0.0) == (octets == real)


def test_nobody_is_asked_while_it_is_quiet() -> None:
    door = admission()
    crowd(door, module.COOKIE_AFTER - 1, spread)
    assert door.admit(None, NONCE, HERE, SPI, 99, 0.0) is Verdict.ACCEPT


def test_I04_cookies_above_the_threshold() -> None:
    door = admission()
    crowd(door, module.COOKIE_AFTER, spread)
    assert door.admit(None, NONCE, HERE, SPI, 100, 0.0) is Verdict.CHALLENGE
    good = door.cookies.make(NONCE, HERE, SPI, 0.0)
    assert door.admit(good, NONCE, HERE, SPI, 100, 0.0) is Verdict.ACCEPT
    assert door.admit(good, NONCE, THERE, SPI, 100, 0.0) is Verdict.CHALLENGE
    assert door.snapshot(100).cookies_sent == 2
    assert door.snapshot(100).cookies_accepted == 1
    assert door.snapshot(100).cookies_refused == 1
    door.closed(1)
    assert door.admit(None, NONCE, HERE, SPI, 99, 0.0) is Verdict.ACCEPT


def test_I04_the_threshold_is_configured() -> None:
    always = admission(Ikev2Config(cookie_challenge=0))
    assert always.admit(None, NONCE, HERE, SPI, 0, 0.0) is Verdict.CHALLENGE


def test_I05_a_cookie_that_nobody_asked_for_makes_no_state() -> None:
    assert admission().admit(b"unasked", NONCE, HERE, SPI, 0, 0.0) is Verdict.CHALLENGE


def test_I04_one_address_is_asked_sooner() -> None:
    door = admission()
    crowd(door, module.COOKIE_AFTER_PER_SOURCE, lambda _number: HERE)
    assert door.admit(None, NONCE, HERE, SPI, 10, 0.0) is Verdict.CHALLENGE
    assert door.admit(None, NONCE, THERE, SPI, 10, 0.0) is Verdict.ACCEPT


def test_I04_one_address_cannot_fill_the_table() -> None:
    door = admission(Ikev2Config(limits=Limits(max_in_negotiation=100_000)))
    crowd(door, module.MAX_PER_SOURCE, lambda _number: HERE)
    good = door.cookies.make(NONCE, HERE, SPI, 0.0)
    assert door.admit(good, NONCE, HERE, SPI, 0, 0.0) is Verdict.DROP
    assert door.counters["too many in negotiation from one address"] == 1


def test_I04_max_in_negotiation() -> None:
    door = admission(Ikev2Config(limits=Limits(max_in_negotiation=150)))
    crowd(door, 150, spread)
    good = door.cookies.make(NONCE, HERE, SPI, 0.0)
    assert door.admit(good, NONCE, HERE, SPI, 0, 0.0) is Verdict.DROP


def test_max_sa() -> None:
    door = admission(Ikev2Config(limits=Limits(max_sa=5)))
    assert door.admit(None, NONCE, HERE, SPI, 4, 0.0) is Verdict.ACCEPT
    assert door.admit(None, NONCE, HERE, SPI, 5, 0.0) is Verdict.DROP


def test_I04_cookies_have_a_rate() -> None:
    door = admission(Ikev2Config(cookie_challenge=0))
    verdicts = [door.admit(None, NONCE, HERE, SPI, 0, 0.0) for _ in range(20_000)]
    assert verdicts.count(Verdict.CHALLENGE) == module.COOKIE_RATE
    assert verdicts.count(Verdict.ACCEPT) == 0
    assert len(door.counters) < 5


def test_I04_half_open_sas_expire() -> None:
    door = admission()
    door.opened(1, HERE, 0.0)
    door.opened(2, THERE, 10.0)
    assert door.deadline() == module.HALF_OPEN
    assert door.expired(29.9) == []
    assert door.expired(30.0) == [1]
    door.closed(1)
    door.closed(1)
    assert door.deadline() == 40.0
    assert door.half_open == 1
    assert door.snapshot(1).sources == 1


def test_a_rate_refills() -> None:
    rate = Rate(5.0)
    assert [rate.allows(0.0) for _ in range(6)] == [True] * 5 + [False]
    assert rate.allows(0.2)
    assert not rate.allows(0.2)
    assert [rate.allows(100.0) for _ in range(6)] == [True] * 5 + [False]


def test_S03_secrets_are_not_shown() -> None:
    made = Cookies(lambda n: b"cAnArY-5e7"[:n].ljust(n, b"!"))
    made.make(NONCE, HERE, SPI, 0.0)
    assert "cAnArY" not in repr(made) + repr(Admission(Ikev2Config(), made))
