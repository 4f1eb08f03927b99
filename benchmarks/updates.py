"""Streams of VPNv4 UPDATEs to measure with: the same seed gives the same octets.

`packed`: few attribute sets, messages filled up, one label a PE: what a route reflector sends after a reset.
`realistic`: every attribute set is new, 1 to 12 routes share it (6.5 on average), labels per prefix, the prefix lengths
of an Internet table: what a full table looks like. `single`: one route an UPDATE, with few attribute sets: what peers send
that do not pack.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice

from bgp.wire import VPNV4, Aggregator, AsPath, Attributes, Nlri, Session, encode_updates, vpn_nlri
from stack.addr import RD, RT, Prefix

__all__ = ["PROFILES", "stream"]

PROFILES = ("packed", "realistic", "single")
_ASN = 65000
_SESSION = Session()
_LENGTHS = (24,) * 60 + (23,) * 8 + (22,) * 11 + (21,) * 5 + (20,) * 6 + (19,) * 3 + (18,) * 2 + (16,) * 3 + (32,) * 2


def stream(profile: str, count: int, seed: int = 1) -> list[bytes]:
    """UPDATE messages with `count` different routes of two RDs."""
    dice = random.Random(seed)
    messages: list[bytes] = []
    for vrf in (1, 2):
        wanted = count // 2 if vrf == 1 else count - count // 2
        routes = list(_routes(profile, vrf, wanted, dice))
        at = 0
        while at < len(routes):
            size = {"packed": 2600, "realistic": dice.randint(1, 12), "single": 1}[profile]
            pe = dice.randrange(500) if profile == "realistic" else at // 2600 % 10
            attributes = _attributes(vrf, pe, dice if profile == "realistic" else None)
            next_hop = bytes((10, 100, pe >> 8, pe & 0xFF))
            messages += encode_updates(VPNV4, attributes, next_hop, routes[at : at + size], _SESSION).messages
            at += size
    return messages


def _routes(profile: str, vrf: int, wanted: int, dice: random.Random) -> Iterator[Nlri]:
    rd = RD.parse(f"{_ASN}:{vrf}")
    mixed = profile == "realistic"
    for at, prefix in enumerate(islice(_prefixes(dice, mixed=mixed), wanted)):
        label = 100_000 + (2 * at + vrf) % 900_000 if mixed else 16 + vrf + 2 * (at // 2600 % 10)
        yield vpn_nlri(rd, prefix, (label,))


def _prefixes(dice: random.Random, *, mixed: bool) -> Iterator[Prefix]:
    """Different prefixes, ascending: each begins where the last one ended, now and then with a gap."""
    address = 0x01000000
    while True:
        length = dice.choice(_LENGTHS) if mixed else 24
        size = 1 << (32 - length)
        address = (address + size - 1) & -size
        yield Prefix(address.to_bytes(4), length)
        address += size << (dice.randrange(2) if mixed else 0)


def _attributes(vrf: int, pe: int, dice: random.Random | None) -> Attributes:
    target = RT.parse(f"{_ASN}:{100 + vrf}")
    if dice is None:
        path = AsPath.of(64512 + pe)
        return Attributes.of(origin=0, as_path=path, med=pe, local_pref=100, ext_communities=[target])
    hops = [dice.choice((dice.randrange(1, 64495), dice.randrange(131072, 400000))) for _ in range(dice.randint(1, 6))]
    return Attributes.of(
        origin=dice.choice((0, 0, 0, 2)),
        as_path=AsPath.of(*hops),
        med=dice.randrange(1000),
        local_pref=dice.choice((100, 100, 100, 90, 110, 200)),
        aggregator=Aggregator(hops[-1], bytes((192, 0, 2, pe & 0xFF))) if dice.random() < 0.1 else None,
        communities=[dice.randrange(1 << 32) for _ in range(dice.randint(0, 5))],
        ext_communities=[target],
    )
