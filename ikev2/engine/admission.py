"""Strangers: who may cost us state, and what they are told without it (RFC 7296 2.6, RFC 8019).

Nothing here grows with the number of datagrams. A half-open SA is one of a stranger's making that has not proved anything
yet; there are at most `max_in_negotiation` of them, and each ends after HALF_OPEN seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from attrs import define, field

from ikev2.config import Ikev2Config
from ikev2.crypto.cookie import CookieSecret, cookie, cookie_fits
from ikev2.engine.snapshot import AdmissionSnapshot
from ikev2.wire.bounds import MOST_PAYLOADS
from ikev2.wire.codec import HEADER
from ikev2.wire.numbers import NotifyKind, PayloadKind

__all__ = [
    "COOKIE_AFTER",
    "COOKIE_AFTER_PER_SOURCE",
    "HALF_OPEN",
    "MAX_PER_SOURCE",
    "Admission",
    "Cookies",
    "Rate",
    "Verdict",
    "glance",
]

COOKIE_AFTER = 100
"""Half-open SAs above which every stranger must show a cookie, if nothing is configured."""

COOKIE_AFTER_PER_SOURCE = 10
"""Half-open SAs of one address above which strangers from there must show one. Many peers may be behind one NAT."""

MAX_PER_SOURCE = 250
"""Half-open SAs of one address, cookie or not."""

HALF_OPEN = 30.0
"""Seconds that a stranger has to prove itself."""

SECRET_LIFE = 60.0
"""Seconds after which cookies are made with another secret; the one before is still taken, so a cookie lives up to twice as
long."""

COOKIE_RATE, COMPLAINT_RATE = 5_000.0, 100.0
"""Answers a second that need no state: cookies; and complaints (INVALID_IKE_SPI, INVALID_SPI, INVALID_MAJOR_VERSION), which
anybody can provoke from us in another's name: about as large as what provokes them. So many, because a hub that has lost all
its SAs tells its spokes in this way."""


@define(eq=False)
class Rate:
    """A token bucket of one second's depth."""

    per_second: float
    _tokens: float = field(init=False)
    _then: float | None = None

    def __attrs_post_init__(self) -> None:
        self._tokens = self.per_second

    def allows(self, now: float) -> bool:
        if self._then is not None:
            self._tokens = min(self.per_second, self._tokens + max(0.0, now - self._then) * self.per_second)
        self._then = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


@define(eq=False)
class Cookies:
    """Cookies by a secret that changes (RFC 7296 2.6: "The responder should change the value of <secret> frequently")."""

    entropy: Callable[[int], bytes]
    _secrets: tuple[CookieSecret, ...] = field(default=(), repr=False)
    """The present one first."""
    _made: float = 0.0

    def make(self, nonce: bytes, address: bytes, spi: bytes, now: float) -> bytes:
        self._turn(now)
        return cookie(self._secrets[0], nonce, address, spi)

    def check(self, given: bytes, nonce: bytes, address: bytes, spi: bytes, now: float) -> bool:
        self._turn(now)
        return cookie_fits(self._secrets, given, nonce, address, spi)

    def _turn(self, now: float) -> None:
        age = now - self._made
        if self._secrets and age < SECRET_LIFE:
            return
        # A version is never the one before's, so an old cookie is not measured by a new secret.
        version = self._secrets[0].version + 1 & 0xFF if self._secrets else 0
        before = self._secrets[:1] if age < 2 * SECRET_LIFE else ()
        self._secrets = (CookieSecret(version, self.entropy(32)), *before)
        self._made = now


def glance(octets: bytes) -> tuple[bytes | None, bytes] | None:
    """(cookie, nonce) of an IKE_SA_INIT request, without reading the rest of it: a flood is not worth more. None: it is
    malformed, or has no nonce. RFC 7296 2.6: the COOKIE notification must be the first payload."""
    kind, at, end = octets[16], HEADER, len(octets)
    cookie = nonce = None
    for order in range(MOST_PAYLOADS):
        if not kind:
            break
        length = int.from_bytes(octets[at + 2 : at + 4])
        if end - at < 4 or not 4 <= length <= end - at:
            return None
        if kind == PayloadKind.NONCE:
            nonce = octets[at + 4 : at + length]
        elif not order and kind == PayloadKind.NOTIFY and octets[at + 5 : at + 8] == _COOKIE and length >= 8:
            cookie = octets[at + 8 : at + length]
        kind, at = octets[at], at + length
    # RFC 7296 3.9: between 16 and 256 octets.
    if nonce is None or kind or not 16 <= len(nonce) <= 256:
        return None
    return cookie, nonce


_COOKIE = b"\0" + NotifyKind.COOKIE.to_bytes(2)
"""No SPI, and the notification's type."""


class Verdict(Enum):
    ACCEPT = "accept"
    CHALLENGE = "challenge"
    DROP = "drop"


@define(eq=False)
class Admission:
    """`admit` says what a stranger's IKE_SA_INIT is worth; `opened` and `closed` tell it of half-open SAs."""

    config: Ikev2Config
    cookies: Cookies
    counters: dict[str, int] = field(factory=dict)
    cookie_rate: Rate = field(factory=lambda: Rate(COOKIE_RATE))
    complaint_rate: Rate = field(factory=lambda: Rate(COMPLAINT_RATE))
    _half_open: dict[int, tuple[bytes, float]] = field(factory=dict)
    """Number of the IKE SA -> (address, when its time is up), oldest first."""
    _by_source: dict[bytes, int] = field(factory=dict)

    @property
    def challenge_above(self) -> int:
        configured = self.config.cookie_challenge
        return COOKIE_AFTER if configured is None else configured

    @property
    def half_open(self) -> int:
        return len(self._half_open)

    @property
    def challenging(self) -> bool:
        return self.half_open >= self.challenge_above

    def count(self, reason: str) -> None:
        self.counters[reason] = self.counters.get(reason, 0) + 1

    def admit(self, shown: bytes | None, nonce: bytes, address: bytes, spi: bytes, sas: int, now: float) -> Verdict:
        """Of an IKE_SA_INIT request that belongs to no SA. `shown`: its cookie. `sas`: how many there are."""
        good = shown is not None and self.cookies.check(shown, nonce, address, spi, now)
        if shown is not None:
            self.count("cookie accepted" if good else "cookie refused")
        if not good and (shown is not None or self.challenging or self._crowded(address)):
            # RFC 7296 2.6: a cookie that does not match is ignored, "usually this means sending a response containing a new
            # cookie". Also of one that nobody asked for: whoever sends it is answered, and has cost us nothing.
            return self._challenge(now)
        reason = self._full(address, sas)
        if reason:
            self.count(reason)
            return Verdict.DROP
        return Verdict.ACCEPT

    def _crowded(self, address: bytes) -> bool:
        return self._by_source.get(address, 0) >= COOKIE_AFTER_PER_SOURCE

    def _challenge(self, now: float) -> Verdict:
        if not self.cookie_rate.allows(now):
            self.count("too many cookies asked for")
            return Verdict.DROP
        self.count("cookie sent")
        return Verdict.CHALLENGE

    def _full(self, address: bytes, sas: int) -> str:
        limits = self.config.limits
        if limits.max_sa and sas >= limits.max_sa:
            return "too many SAs"
        if self.half_open >= limits.max_in_negotiation:
            return "too many in negotiation"
        if self._by_source.get(address, 0) >= MAX_PER_SOURCE:
            return "too many in negotiation from one address"
        return ""

    def complain(self, reason: str, now: float) -> bool:
        """Whether to answer what is dropped because of `reason`."""
        self.count(reason)
        return self.complaint_rate.allows(now)

    def opened(self, number: int, address: bytes, now: float) -> None:
        self._half_open[number] = (address, now + HALF_OPEN)
        self._by_source[address] = self._by_source.get(address, 0) + 1

    def closed(self, number: int) -> None:
        """It has proved itself, or is gone."""
        entry = self._half_open.pop(number, None)
        if entry is None:
            return
        left = self._by_source[entry[0]] - 1
        if left:
            self._by_source[entry[0]] = left
        else:
            del self._by_source[entry[0]]

    def expired(self, now: float) -> list[int]:
        """Half-open SAs whose time is up."""
        found = []
        for number, (_, until) in self._half_open.items():
            if until > now:
                break
            found.append(number)
        return found

    def deadline(self) -> float | None:
        return next((until for _, until in self._half_open.values()), None)

    def snapshot(self, sas: int) -> AdmissionSnapshot:
        count = self.counters.get
        return AdmissionSnapshot(
            sas=sas,
            half_open=self.half_open,
            challenge=self.challenge_above,
            max_in_negotiation=self.config.limits.max_in_negotiation,
            max_sa=self.config.limits.max_sa,
            sources=len(self._by_source),
            challenging=self.challenging,
            cookies_sent=count("cookie sent", 0),
            cookies_accepted=count("cookie accepted", 0),
            cookies_refused=count("cookie refused", 0),
            counters=dict(self.counters),
        )
