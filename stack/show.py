"""Commands about the node itself: bus, processes, version, policy, configuration."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from stack.ios.command import Command, CommandError, Scene, Shown
from stack.ios.times import clock
from stack.policy.routemap import CompiledMap

__all__ = ["COMMANDS", "installed_version"]


def show_bus(scene: Scene, _values: Mapping[str, Any]) -> Shown:
    """Every topic: who holds how many rows of it, how many of them are stale, who reads it and what waits."""
    uses = scene.bus.snapshot()
    lines = [f"{'Topic':<20} {'Owner':<12} {'Rows':>8} {'Stale':>6} {'Waiting':>8}  Readers"]
    lines += [
        f"{use.topic:<20} {use.owner:<12} {use.rows:>8} {use.stale:>6} {use.waiting:>8}  {', '.join(use.subscribers)}"
        for use in uses
    ]
    dropped = scene.bus.dropped()
    facts = scene.bus.facts()
    lines += ["", f"{'Fact':<24} {'Posted':>10}"]
    lines += [f"{name:<24} {count:>10}" for name, count in sorted(facts.items())]
    lines += [f"dropped for {name}: {count}" for name, count in dropped.items()]
    value = {
        "topics": [
            {
                "topic": use.topic,
                "owner": use.owner,
                "rows": use.rows,
                "stale": use.stale,
                "waiting": use.waiting,
                "readers": list(use.subscribers),
            }
            for use in uses
        ],
        "facts": dict(facts),
        "dropped": dict(dropped),
    }
    return Shown("\n".join(lines), value)


def show_processes(scene: Scene, _values: Mapping[str, Any]) -> Shown:
    rows = scene.node.processes()
    lines = [f"{'Service':<12} {'State':<8} {'Since':<9} {'Starts':>6}  Last reason"]
    lines += [
        f"{row.name:<12} {row.state:<8} {clock(scene.now - row.since):<9} {row.incarnation:>6}  {row.reason}"
        for row in rows
    ]
    value = [
        {
            "service": row.name,
            "state": row.state,
            "incarnation": row.incarnation,
            "restarts": row.restarts,
            "reason": row.reason,
            "age-seconds": round(scene.now - row.since, 3),
        }
        for row in rows
    ]
    return Shown("\n".join(lines), value)


def _tasks() -> int:
    """Tasks on the node's event loop: what neither sessions nor restarts may make grow. 0 outside of a loop."""
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return 0


def installed_version() -> str:
    """Of the distribution; a checkout that was never installed has none."""
    try:
        return version("labelspan")
    except PackageNotFoundError:
        return "unknown (not installed)"


def show_version(scene: Scene, _values: Mapping[str, Any]) -> Shown:
    number = installed_version()
    uptime = scene.now - scene.node.started
    hostname = scene.config.node.hostname
    lines = [
        f"labelspan, Version {number}",
        f"Python {platform.python_version()} on {platform.system()} {platform.release()}",
        "",
        f"{hostname} uptime is {clock(uptime)}",
    ]
    key_log = scene.node.context.key_log is not None
    if key_log:
        lines.append("KEYS ARE WRITTEN TO FILES (--key-log): whoever reads those reads all traffic of this node")
    value = {
        "version": number,
        "python": platform.python_version(),
        "hostname": hostname,
        "uptime-seconds": uptime,
        "tasks": _tasks(),
        "key-log": key_log,
    }
    return Shown("\n".join(lines), value)


def show_route_map(scene: Scene, values: Mapping[str, Any]) -> Shown:
    """Every map, those that the system made included."""
    from stack.events import PolicyState
    from stack.ios.printer import route_map_text

    rows: dict[str, CompiledMap] = {}
    for held in scene.bus.rows(PolicyState).values():
        rows.update({name: row for (kind, name), row in held.items() if kind == "route-map"})
    wanted = values.get("name")
    if wanted is not None and wanted not in rows:
        raise CommandError(f"there is no route map {wanted!r}; there are: {', '.join(sorted(rows)) or 'none'}")
    names = [wanted] if wanted is not None else sorted(rows)
    text, value = [], []
    for name in names:
        lines, plain = route_map_text(rows[name].source)
        text += lines
        value += plain
    return Shown("\n".join(text), value)


def show_running_config(scene: Scene, _values: Mapping[str, Any]) -> Shown:
    from stack.ios.printer import running_config

    text = running_config(scene.config, table=scene.node.grammar)
    return Shown(text, {"configuration": text.splitlines()})


COMMANDS: tuple[Command, ...] = (
    Command("show bus", show_bus, "topics, owners, readers and what waits"),
    Command("show processes", show_processes, "services, their state and why they last ended"),
    Command("show version", show_version, "what runs here"),
    Command("show route-map [{name:line}]", show_route_map, "route maps, those of the system included"),
    Command("show running-config", show_running_config, "the configuration as IOS text"),
)
