"""UPDATEs put together by hand, octet by octet: nothing of the encoder under test is in here."""

from __future__ import annotations

from bgp.wire import Session

MARKER = b"\xff" * 16

IBGP = Session()
EBGP = Session(ebgp=True)
OLD = Session(asn4=False)

ORIGIN = "40 01 01 00"
AS_PATH = "40 02 06 02 01 0000fde9"
NEXT_HOP = "40 03 04 0a000001"
LOCAL_PREF = "40 05 04 00000064"
NLRI = "18 c00002"
"""192.0.2.0/24."""
VPN_NLRI = "70 000101 0000006400000001 c00002"
"""Label 16, RD 100:1, 192.0.2.0/24."""
VPN_REACH = "80 0e 20 0001 80 0c 000000000000000001020304 00" + VPN_NLRI
"""MP_REACH_NLRI of that route, next hop 1.2.3.4."""
VPN_KEY = bytes.fromhex("0000006400000001 c00002 18")
KEY = bytes.fromhex("c00002 18")


def octets(text: str) -> bytes:
    return bytes.fromhex(text.replace("\n", " "))


def message(kind: int, body: str | bytes) -> bytes:
    body = octets(body) if isinstance(body, str) else body
    return MARKER + (19 + len(body)).to_bytes(2) + bytes((kind,)) + body


def update(attributes: str, nlri: str = "", withdrawn: str = "") -> bytes:
    """An UPDATE of these three fields, its lengths right."""
    fields = octets(withdrawn), octets(attributes)
    return message(2, b"".join(len(one).to_bytes(2) + one for one in fields) + octets(nlri))


def attribute(flags: int, code: int, value: str) -> str:
    size = len(octets(value))
    return bytes((flags, code, size)).hex() + value


def base(session: Session, *, without: tuple[int, ...] = ()) -> dict[int, str]:
    """The attributes that a plain IPv4 route needs on this session, by code."""
    given = {1: ORIGIN, 2: AS_PATH, 3: NEXT_HOP} | ({} if session.ebgp else {5: LOCAL_PREF})
    return {code: text for code, text in given.items() if code not in without}
