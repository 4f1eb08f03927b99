"""Checks of hub and spokes: the first packets pass the hub, the next ones go straight, and a way that nobody uses goes away."""

from __future__ import annotations

import re

from stack.lab.conduct import Conduct, Red, words_of
from stack.lab.scenario import Check

__all__ = ["idle", "shortcut", "shows", "took"]

ESP = 50

STRAIGHT = 5
"""Echoes that are sent once the straight way is there."""

HEARD = 25
"""Looks, 20 ms apart, for a packet that must have crossed a link."""

CHATTER = 2
"""Other packets that may cross the hub's link meanwhile: a keepalive and its answer."""


def _sealed(conduct: Conduct, link: str) -> int:
    return sum(frame.protocol == ESP for frame in conduct.seen(link))


async def _passed(conduct: Conduct, link: str, before: int) -> bool:
    """Whether a packet has gone into the hub and out again. Links are heard on a thread, which may be a little behind."""
    for _ in range(HEARD):
        if _sealed(conduct, link) - before >= 2:
            return True
        await conduct.bed.pause(0.02)
    return False


async def shortcut(conduct: Conduct, check: Check) -> str:
    """Packets 1 to n pass the hub, then they go straight. `ttl` is enough for the straight way, and ends at the far spoke (its
    address is `far`) on the one by the hub; `link` is the hub's."""
    host, to, ttl, far, link = (check.words[word] for word in ("host", "to", "ttl", "far", "link"))
    end, by_hub = conduct.bed.now() + check.within, 0
    while True:
        before = _sealed(conduct, link)
        answer = await conduct.ping(host, to, ttl)
        if answer.ok:
            break
        if (answer.kind, answer.source) != ("time-exceeded", far):
            raise Red(f"packet {by_hub + 1}: {words_of(answer)}")
        if not await _passed(conduct, link, before):
            raise Red(f"packet {by_hub + 1} ended at {far}, and yet did not pass the hub")
        by_hub += 1
        if conduct.bed.now() > end:
            raise Red(f"{by_hub} packets, all by the hub")
        await conduct.bed.pause(0.02)
    if not by_hub:
        raise Red("the first packet went straight already")
    while True:  # the answers have a better way too, and find it on their own
        before = _sealed(conduct, link)
        answer = await conduct.ping(host, to, ttl)
        if not answer.ok or _sealed(conduct, link) == before or conduct.bed.now() > end:
            break
        await conduct.bed.pause(0.02)
    await conduct.bed.pause(0.1)
    before = _sealed(conduct, link)
    answers = [await conduct.ping(host, to, ttl) for _ in range(STRAIGHT)]
    if not all(answer.ok for answer in answers):
        raise Red(f"not all go straight: {', '.join(map(words_of, answers))}")
    passed = _sealed(conduct, link) - before
    if passed > CHATTER:
        raise Red(f"{passed} packets crossed the hub's link while {STRAIGHT} echoes went straight")
    return f"packets 1-{by_hub} by the hub, from {by_hub + 1} on straight"


async def took(conduct: Conduct, check: Check) -> str:
    """How long it was from the redirect to the installed shortcut, and how long of that the far spoke waited for the tunnel and
    its keys. Said, not judged: a busy machine is no fault."""
    near, far, vrf, prefix = (check.words[word] for word in ("near", "far", "vrf", "prefix"))

    async def look_once() -> str:
        whole = await _seconds(conduct, near, vrf, prefix, "took-seconds")
        tunnel = await _seconds(conduct, far, vrf, prefix, "tunnel-seconds")
        rest = max(0.0, whole - tunnel)
        return f"{whole * 1000:.1f} ms: {tunnel * 1000:.1f} for the tunnel and its keys, {rest * 1000:.1f} for all else"

    return await conduct.until(check, look_once)


async def _seconds(conduct: Conduct, node: str, vrf: str, prefix: str, what: str) -> float:
    for row in await conduct.bed.show(node, "show ip nhrp detail"):
        if (row["vrf"], row["prefix"]) == (vrf, prefix) and row[what] is not None:
            return float(row[what])
    raise Red(f"{node} does not know how long {prefix} has taken")


async def idle(conduct: Conduct, check: Check) -> str:
    """Nobody sends, and every look at `gone` comes to show nothing of what it looks for; then the next packet takes the way by
    the hub, and is not lost."""
    host, to, ttl, far = (check.words[word] for word in ("host", "to", "ttl", "far"))
    began = conduct.bed.now()

    async def gone() -> str:
        for node, command, expression in check.words["gone"]:
            text = await conduct.bed.text(node, command)
            if found := re.search(expression, text, re.MULTILINE):
                raise Red(f"{node}: {command}: still {found.group(0)!r}")
        return ""

    await conduct.until(check, gone)
    quiet = conduct.bed.now() - began
    answer = await conduct.ping(host, to, ttl)
    if (answer.kind, answer.source) != ("time-exceeded", far):
        raise Red(f"the next packet: {words_of(answer)}, the way by the hub wanted")
    answer = await conduct.ping(host, to)
    if not answer.ok:
        raise Red(f"the packet after the next: {words_of(answer)}")
    return f"down after {quiet:.1f} s; the next packet goes by the hub"


async def shows(conduct: Conduct, check: Check) -> str:
    """Every node shows what is expected: (node, command, regular expressions). The last expression's group is what was seen."""

    async def look_once() -> str:
        seen = ""
        for node, command, *expressions in check.words["looks"]:
            text = await conduct.bed.text(node, command)
            for expression in expressions:
                found = re.search(expression, text, re.MULTILINE)
                if found is None:
                    raise Red(f"{node}: {command}: nothing like {expression!r}")
                seen = " ".join(found.group(1 if found.groups() else 0).split())
        return seen

    return await conduct.until(check, look_once)
