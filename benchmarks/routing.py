"""Routing: what 100,000 VPN routes cost to install, and what one next hop's change costs then.

The ratio of the first is to putting the same rows, one by one, into a plain dict; alternated in the same process. The
other two are shares of the installation: a change that keeps the next hop usable rewrites one row of the next-hop table
(nothing that grows with the routes), an endpoint that goes takes all its routes out.
"""

from __future__ import annotations

import gc
import statistics
import time

from stack.addr import Prefix, parse_address
from stack.events import (
    AdjacencyKey,
    AdjacencyRow,
    AdjacencyState,
    Delta,
    InterfaceKind,
    InterfaceOffered,
    InterfaceRow,
    LinkRow,
    LinkState,
    ProfileRow,
    ProfileState,
    Route,
    RouteOffered,
    Topic,
    Via,
    Vrf,
    VrfState,
)
from stack.routing.engine import TURN, Engine
from stack.tables import Tables

ROUTES, BATCH, ROUNDS = 100_000, 2_000, 5
REMOTE = parse_address("192.0.2.2")
ENDPOINT = AdjacencyKey("Tunnel0", REMOTE)


def engine() -> Engine:
    tables = Tables()
    made = Engine.of(tables.interfaces, tables.nexthops, tables.rib, tables.fib)
    tunnel = InterfaceRow("Tunnel0", InterfaceKind.TUNNEL, vrf="encap", internal=True)
    rows: list[tuple[Topic, str, object, object]] = [
        (VrfState, "router", "red", Vrf("red", 1)),
        (InterfaceOffered, "tunnel", "Tunnel0", tunnel),
        (LinkState, "tunnel", "Tunnel0", LinkRow(True, 1500)),
        (ProfileState, "tunnel", "core", ProfileRow("Tunnel0", "encap", "Loopback0", b"\xc0\0\2\1", True)),
        (AdjacencyState, "tunnel", ENDPOINT, AdjacencyRow(True, 1476)),
    ]
    for topic, owner, key, row in rows:
        made.feed(Delta(topic, owner, 1, "", {key: row}), 0.0)
    made.settle(0.0)
    return made


def batches() -> list[dict[Prefix, Route]]:
    routes = [Route(200, (Via(REMOTE, encap="core", labels=(label,)),), "ibgp") for label in range(16, 1016)]
    return [
        {Prefix((n << 8).to_bytes(4), 24): routes[n % 1000] for n in range(first, first + BATCH)}
        for first in range(1 << 16, (1 << 16) + ROUTES, BATCH)
    ]


def settle(made: Engine) -> None:
    made.settle(0.0)
    while made.pending:
        made.settle(0.0)


def insert(made: Engine, given: list[dict[Prefix, Route]]) -> float:
    gc.collect()
    started = time.perf_counter()
    for rows in given:
        made.feed(Delta(RouteOffered, "bgp", 1, "red", rows), 0.0)
        settle(made)
    return time.perf_counter() - started


def plain(given: list[dict[Prefix, Route]]) -> float:
    gc.collect()
    held: dict[Prefix, Route] = {}
    started = time.perf_counter()
    for rows in given:
        for prefix, route in rows.items():
            held[prefix] = route  # noqa: PERF403  (one by one is the point)
    return time.perf_counter() - started


def change(made: Engine, row: AdjacencyRow | None) -> tuple[float, float]:
    """Seconds in all, and in the longest turn."""
    turns = []
    made.feed(Delta(AdjacencyState, "tunnel", 1, "", {ENDPOINT: row}), 0.0)
    while not turns or made.pending:
        started = time.perf_counter()
        made.settle(0.0)
        turns.append(time.perf_counter() - started)
    return sum(turns), max(turns)


def main() -> None:
    given = batches()
    ratios, rates, moved, gone, turns = [], [], [], [], []
    for _ in range(ROUNDS):
        made = engine()
        bare = plain(given)
        took = insert(made, given)
        ratios.append(took / bare)
        rates.append(ROUTES / took)
        moved.append(change(made, AdjacencyRow(True, 1400, "moved", transport=REMOTE))[0] / took)
        total, longest = change(made, None)
        gone.append(total / took)
        turns.append(longest)
    middle = statistics.median
    print(f"routing: {middle(rates) / 1e3:.0f} k routes/s installed, {middle(ratios):.0f} x the time of a plain dict")
    print(f"routing: an endpoint that moves costs {middle(moved):.6f} of installing its {ROUTES} routes")
    print(f"routing: an endpoint that goes costs {middle(gone):.2f} of it, in turns of {TURN} routes", end="")
    print(f" ({middle(turns) * 1e3:.0f} ms each)")


if __name__ == "__main__":
    main()
