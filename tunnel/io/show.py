"""What an operator sees of the packet path: why packets end, and how many went where. Pure renderers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stack.ios.command import Command, CommandError, Scene, Shown
from tunnel.io.counters import CountersSnapshot

__all__ = ["COMMANDS", "drops", "interfaces"]


def drops(snapshot: CountersSnapshot) -> Shown:
    """`show counters drops`: reasons with the interfaces they were met on, slow ways, and errors of ports."""
    lines = [f"{'Packets':>12}  {'Interface':<24} Reason"]
    lines += [f"{count:>12}  {interface:<24} {why.value}" for why, interface, count in snapshot.drops]
    if not snapshot.drops:
        lines = ["No packet was dropped"]
    if snapshot.slow:
        lines += ["", f"{'Packets':>12}  Off the fast path"]
        lines += [f"{count:>12}  {what.value}" for what, count in snapshot.slow]
    if snapshot.errors:
        lines += ["", f"{'Times':>12}  {'Port':<24} Error"]
        lines += [f"{count:>12}  {port:<24} {name}" for port, name, count in snapshot.errors]
    value = {
        "drops": [{"reason": why.name, "interface": i, "packets": n} for why, i, n in snapshot.drops],
        "slow": {what.name: count for what, count in snapshot.slow},
        "errors": [{"port": port, "error": name, "times": n} for port, name, n in snapshot.errors],
    }
    return Shown("\n".join(lines), value)


def interfaces(snapshot: CountersSnapshot) -> Shown:
    """`show counters interfaces`."""
    lines = [f"{'Interface':<24} {'packets in':>12} {'octets in':>14} {'packets out':>12} {'octets out':>14}"]
    lines += [
        f"{row.interface:<24} {row.packets_in:>12} {row.octets_in:>14} {row.packets_out:>12} {row.octets_out:>14}"
        for row in snapshot.interfaces
    ]
    value = [
        {
            "interface": row.interface,
            "packets_in": row.packets_in,
            "octets_in": row.octets_in,
            "packets_out": row.packets_out,
            "octets_out": row.octets_out,
        }
        for row in snapshot.interfaces
    ]
    return Shown("\n".join(lines), value)


def _snapshot(scene: Scene) -> CountersSnapshot:
    if scene.service is None:
        raise CommandError("the forwarder is down; `show processes` says why")
    found: CountersSnapshot = scene.service.forwarder.snapshot()
    return found


def _drops(scene: Scene, _: Mapping[str, Any]) -> Shown:
    return drops(_snapshot(scene))


def _interfaces(scene: Scene, _: Mapping[str, Any]) -> Shown:
    return interfaces(_snapshot(scene))


COMMANDS = (
    Command("show counters drops", _drops, "Why packets were dropped, on which interface"),
    Command("show counters interfaces", _interfaces, "Packets and octets of each interface"),
)
