"""The bus: state rows a second (published, and taken by one subscriber), facts a second.

Goals: 2 M rows/s, 0.3 M facts/s. The ratio is to the bare `dict.update` (rows) and `deque.append` + `popleft` (facts) of
the same objects, alternated in the same process.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable

from stack.addr import Prefix
from stack.bus import Bus
from stack.events import NeighbourUnresolved, Route, RouteOffered, Via

ROWS, BATCH, FACTS, ROUNDS = 200_000, 1_000, 5_000, 7


def routes() -> list[dict[Prefix, Route]]:
    route = Route(200, (Via(b"\xc0\x00\x02\x01", labels=(16,)),), "ibgp")
    batches = []
    for start in range(0, ROWS, BATCH):
        keys = (Prefix((10 << 24 | n << 4).to_bytes(4), 28) for n in range(start, start + BATCH))
        batches.append(dict.fromkeys(keys, route))
    return batches


def timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    batches = routes()
    rates: dict[str, list[float]] = {"rows": [], "bare rows": [], "facts": [], "bare facts": []}
    for _ in range(ROUNDS):
        bus = Bus()
        owner, reader = bus.attach("owner"), bus.attach("reader")
        reader.subscribe(RouteOffered, NeighbourUnresolved)

        def rows(owner=owner, reader=reader) -> None:
            for batch in batches:
                owner.publish(RouteOffered, batch, "cust1")
                reader.mailbox.take()

        def bare_rows() -> None:
            held: dict[Prefix, Route] = {}
            for batch in batches:
                held.update(batch)
                dict(batch)

        fact = NeighbourUnresolved("Ethernet0/0", b"\x0a\0\0\1")

        def facts(owner=owner, reader=reader, fact=fact) -> None:
            for _ in range(FACTS):
                owner.post(fact)
            while len(reader.mailbox):
                reader.mailbox.take()

        def bare_facts(fact=fact) -> None:
            waiting: deque[NeighbourUnresolved] = deque()
            for _ in range(FACTS):
                waiting.append(fact)
            while waiting:
                waiting.popleft()

        rates["rows"].append(ROWS / timed(rows))
        rates["bare rows"].append(ROWS / timed(bare_rows))
        rates["facts"].append(FACTS / timed(facts))
        rates["bare facts"].append(FACTS / timed(bare_facts))
    middle = {name: statistics.median(values) for name, values in rates.items()}
    for name in ("rows", "facts"):
        ratio = statistics.median(a / b for a, b in zip(rates[name], rates[f"bare {name}"], strict=True))
        print(f"bus {name}: {middle[name] / 1e6:.2f} M/s, ratio to bare containers {ratio:.3f}")


if __name__ == "__main__":
    main()
