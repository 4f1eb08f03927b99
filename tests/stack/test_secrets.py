"""S03: no password leaves its field, wherever one looks: reprs, logs, the bus, show, tracebacks.

`show running-config` prints the configuration back, passwords included, as IOS does; it is the one exception.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog

from stack.config import Config
from stack.ios.command import CommandError
from stack.router import Router
from stack.testing import MemoryNetwork, SeededEntropy, VirtualClock, run

CANARY = "cAnArY-5e7"

TEXT = f"""hostname n
enable secret {CANARY}a
!
vrf definition red
 rd 65000:1
 address-family ipv4
 exit-address-family
!
interface Ethernet0/0
 ip address 192.0.2.1 255.255.255.0
!
interface Ethernet0/1
 vrf forwarding red
 ip address 192.0.2.1 255.255.255.0
!
router bgp 65000
 neighbor 192.0.2.2 remote-as 65001
 neighbor 192.0.2.2 password {CANARY}b
 neighbor SPOKES peer-group
 neighbor SPOKES remote-as 65002
 neighbor SPOKES password {CANARY}c
 bgp listen range 192.0.2.128/25 peer-group SPOKES
 !
 address-family ipv4 vrf red
  neighbor 192.0.2.3 remote-as 65001
  neighbor 192.0.2.3 password {CANARY}d
 exit-address-family
!
end
"""


class Ear:
    """Everything that anything said."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def note(self, *things: object) -> None:
        self.heard += [text for thing in things for text in (repr(thing), str(thing))]

    def logged(self, logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
        self.note(event)
        if event.get("exc_info"):
            self.note(structlog.processors.format_exc_info(logger, method, dict(event)))
        return event

    @property
    def log(self) -> Any:
        level = structlog.make_filtering_bound_logger(0)
        return structlog.wrap_logger(structlog.ReturnLogger(), processors=[self.logged], wrapper_class=level)

    def leaks(self) -> list[str]:
        return [text[max(0, at - 200) : at + 40] for text in self.heard if (at := text.find(CANARY)) >= 0]


def inside(thing: object, depth: int = 4) -> list[object]:
    """What an object is made of, as far as reprs may meet it."""
    if not depth or isinstance(thing, str | bytes | int | float | None):
        return []
    if isinstance(thing, Mapping):
        parts = list(thing.values())
    elif isinstance(thing, list | tuple | set | frozenset):
        parts = list(thing)
    else:
        parts = [
            getattr(thing, name, None)
            for name in (*getattr(thing, "__dict__", ()), *getattr(type(thing), "__slots__", ()))
            if "password" not in name and "secret" not in name and name not in ("keys", "md5", "_text")
        ]
    return [*parts, *(one for part in parts for one in inside(part, depth - 1))]


def show_everything(router: Router, ear: Ear) -> int:
    asked = 0
    syntaxes = {c.syntax for spec in router.specs for c in spec.commands} | {"show bus", "show processes"}
    for syntax in sorted(syntaxes):
        line = syntax.split("[")[0].split("{")[0].strip()
        if line.startswith("show ") and line != "show running-config":
            asked += 1
            try:
                shown = router.execute(line)
            except CommandError as error:
                ear.note(error)
            else:
                ear.note(shown.text, shown.value)
    return asked


def test_S03_no_secret_is_ever_said() -> None:
    async def main() -> None:
        ear, world = Ear(), MemoryNetwork(seed=1)
        world.link(("n", "e0"), ("x", "e0"))
        world.link(("n", "e1"), ("y", "e0"))
        config = Config.from_ios(TEXT, source="n")
        ear.note(config, *inside(config))
        router = Router(
            config,
            network=world.node("n"),
            clock=VirtualClock(),
            entropy=SeededEntropy("1"),
            bindings={"Ethernet0/0": "e0", "Ethernet0/1": "e1"},
            log=ear.log,
        )
        async with router:
            await asyncio.sleep(20)
            service: Any = router.service("bgp")
            ear.note(service.snapshot(), *inside(service.snapshot()))
            ear.note(service.speaker._listeners, service._listening, *service.speaker._peers.values())
            ear.note(router.bus, router.context, *inside(router.bus._held))
            assert show_everything(router, ear) > 20
            # what ends it, on the way out of a function that has a password in hand
            service.guarded(lambda key: {}[key.hex()])(f"{CANARY}e".encode())
            await asyncio.sleep(5)
            router.apply(Config.from_ios(TEXT.replace("5e7b", "5e7bb"), source="n"))
            await asyncio.sleep(5)
            show_everything(router, ear)
            ear.note(world.node("n").tcp._listeners, *world.node("n").tcp.connections.values())
        ended = [text for text in ear.heard if "service ended" in text]
        assert ended
        assert ear.leaks() == []

    run(main())


def test_S03_the_ear_hears() -> None:
    """A leak of each kind would be found: else the test above proves nothing."""
    ear = Ear()
    ear.log.info("something", field=f"{CANARY}x")
    ear.note({"a": [f"{CANARY}y"]})
    try:
        raise LookupError(f"{CANARY}z")
    except LookupError:
        ear.log.exception("service ended")
    assert len({leak[leak.find(CANARY) :][: len(CANARY) + 1] for leak in ear.leaks()}) == 3
