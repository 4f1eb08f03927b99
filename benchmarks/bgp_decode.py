"""How many VPNv4 routes a second `bgp.wire.decode` turns into typed objects, and how that compares with a naive decoder.

The naive one is fixed and lives below: `struct`, no check of anything, no typed values. It runs alternately with ours in
the same process, so the ratio holds on a busy or a slow machine where routes a second do not.

    python benchmarks/bgp_decode.py [--routes 100000] [--rounds 7] [--json]
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from updates import PROFILES, stream  # noqa: E402  (run as a script, from anywhere)

from bgp.wire import VPNV4, Nlri, Reach, Session, Update, decode, encode_updates, split  # noqa: E402

TARGETS = {"packed": 400_000, "realistic": 200_000}
"""Routes a second that the project wants of itself, on its own 2-core machine."""
_SESSION = Session()


def ours(octets: bytes) -> int:
    """A reader's loop: frame, decode."""
    at = routes = 0
    while at < len(octets):
        size = split(octets, _SESSION, at)
        if size is None:
            break
        message = decode(octets[at : at + size], _SESSION)
        if isinstance(message, Update):
            for reach in message.reach:
                routes += len(reach.routes)
        at += size
    return routes


def naive(octets: bytes) -> int:
    """Header, attributes in a dict, NLRI as tuples. Believes every length."""
    at = 0
    table: list[tuple[Any, ...]] = []
    while at < len(octets):
        _, size, kind = struct.unpack_from(">16sHB", octets, at)
        if kind == 2:
            _naive_update(octets, at, table)
        at += size
    return len(table)


def _naive_update(octets: bytes, at: int, table: list[tuple[Any, ...]]) -> None:
    (withdrawn,) = struct.unpack_from(">H", octets, at + 19)
    at += 21 + withdrawn
    (length,) = struct.unpack_from(">H", octets, at)
    at += 2
    end = at + length
    attributes: dict[int, bytes] = {}
    while at < end:
        flags, code = struct.unpack_from(">BB", octets, at)
        if flags & 0x10:
            (size,) = struct.unpack_from(">H", octets, at + 2)
            at += 4
        else:
            (size,) = struct.unpack_from(">B", octets, at + 2)
            at += 3
        attributes[code] = octets[at : at + size]
        at += size
    reach = attributes.pop(14)
    afi, safi, size = struct.unpack_from(">HBB", reach)
    next_hop = reach[4 : 4 + size]
    at = 5 + size
    while at < len(reach):
        bits, high, low, rd = struct.unpack_from(">BBH8s", reach, at)
        after = at + 1 + (bits + 7) // 8
        table.append((afi, safi, rd, reach[at + 12 : after], bits - 88, high << 12 | low >> 4, next_hop, attributes))
        at = after


def _encode(reaches: list[tuple[Update, Reach]]) -> int:
    octets = 0
    for update, reach in reaches:
        if update.attributes is not None:
            packed = encode_updates(VPNV4, update.attributes, reach.next_hop, reach.routes, _SESSION)
            octets += sum(map(len, packed.messages))
    return octets


def best(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of the fastest of `rounds`, alternated."""
    seconds = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def measure(profile: str, routes: int, rounds: int) -> dict[str, Any]:
    messages = stream(profile, routes)
    octets = b"".join(messages)
    if ours(octets) != routes or naive(octets) != routes:
        raise SystemExit(f"{profile}: the decoders do not agree on {routes} routes")
    updates = [message for message in (decode(one, _SESSION) for one in messages) if isinstance(message, Update)]
    reaches = [(update, reach) for update in updates for reach in update.reach]
    seconds = best(
        {"ours": lambda: ours(octets), "naive": lambda: naive(octets), "encode": lambda: _encode(reaches)}, rounds
    )
    return {
        "profile": profile,
        "updates": len(messages),
        "routes": routes,
        "decode_routes_per_s": round(routes / seconds["ours"]),
        "decode_us_per_update": round(seconds["ours"] / len(messages) * 1e6, 2),
        "naive_routes_per_s": round(routes / seconds["naive"]),
        "ratio_to_naive": round(seconds["naive"] / seconds["ours"], 2),
        "encode_routes_per_s": round(routes / seconds["encode"]),
        "target_routes_per_s": TARGETS.get(profile),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--routes", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="one JSON object a profile")
    arguments = parser.parse_args()
    if not arguments.json:
        print(f"route object: {Nlri.__name__}, {arguments.routes} routes, fastest of {arguments.rounds}")
    for profile in PROFILES:
        row = measure(profile, arguments.routes, arguments.rounds)
        if arguments.json:
            print(json.dumps(row))
            continue
        target = row["target_routes_per_s"]
        print(
            f"{profile:10} {row['updates']:7} updates  decode {row['decode_routes_per_s']:9,} routes/s "
            f"({row['decode_us_per_update']:7.2f} us an update)  {row['ratio_to_naive']:5.2f} x naive  "
            f"encode {row['encode_routes_per_s']:9,} routes/s" + (f"  target {target:,}" if target else "")
        )


if __name__ == "__main__":
    main()
