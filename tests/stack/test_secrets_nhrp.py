"""S03 with NHRP: the password of `ip nhrp authentication` travels in clear in every packet, and is said nowhere else.

A hub and two spokes register, are redirected, resolve and purge, with debugging on; one spoke has another password; a service
ends because of a fault with packets in its hands; what a configuration says wrong is refused. `show running-config` alone
prints the password, as IOS does.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog

from stack.config import Config
from stack.events import NhrpReceived, SendNhrp
from stack.ios.faults import ConfigError
from stack.metrics import node_samples, page
from stack.router import Router
from stack.testing import Recorder, run
from tests.nhrp.nodes import Cloud, cloud, hub_text, spoke_text
from tests.stack.test_secrets_ipsec import Canaries, Ear, show_everything, walk

CANARY, OTHER = "cAnArY5e", "cAnArY7z"


def line(password: str) -> str:
    return f" ip nhrp authentication {password}\n"


def needles() -> dict[str, str]:
    canaries = Canaries()
    canaries.add("the password of NHRP", CANARY.encode())
    canaries.add("another password of NHRP", OTHER.encode())
    return canaries.needles()


def everything(net: Cloud, ear: Ear, recorders: list[Recorder]) -> None:
    for recorder in recorders:
        ear.note(*recorder.messages)
        recorder.messages.clear()
    for router in net.routers.values():
        assert show_everything(router, ear) > 40
        assert walk(router, ear) > 2000
        ear.note(page(node_samples(router)).decode())
    ear.note(net.logs)


def _breaks(*packets: object) -> None:
    raise LookupError(packets)


def test_S03_the_password_of_nhrp_is_never_said(monkeypatch: pytest.MonkeyPatch) -> None:
    ear = Ear()
    wrap = structlog.wrap_logger
    monkeypatch.setattr("tests.scenario.memory.structlog.wrap_logger", lambda *_, **__: wrap_all(wrap, ear))

    async def main() -> None:
        texts = {"hub": hub_text(more=line(CANARY))}
        texts |= {f"spoke{n}": spoke_text(n, line(CANARY)) for n in (1, 2)}
        net = await cloud(texts)
        ear.note(*(Config.from_ios(text, source="n") for text in texts.values()))
        recorders = []
        for router in net.routers.values():
            recorders.append(Recorder(router.bus, (NhrpReceived, SendNhrp)))
            router.execute("debug nhrp packet")
            router.execute("debug nhrp event")
        await net.connected("host1", "192.168.2.10")
        await net.until(lambda: "192.168.2.0/24" in net.cache("spoke1"), what="the shortcut is there")
        await net.reaches("host1", "192.168.2.10")
        everything(net, ear, recorders)
        net.apply("spoke2", texts["spoke2"].replace(CANARY, OTHER))
        net.routers["spoke1"].execute("clear ip nhrp")
        await asyncio.sleep(40)
        await net.reaches("host1", "192.168.2.10")
        assert any("authentication" in text for text in net.routers["hub"].service("nhrp").speaker.node.counters)  # type: ignore[union-attr]  # it runs
        everything(net, ear, recorders)
        await broken(net, recorders)
        everything(net, ear, recorders)
        assert CANARY in net.text("hub", "show running-config")
        await net.stop()

    run(main())
    assert any("resolution request, id" in said for said in ear.heard), "debugging was on"
    assert any("NhrpReceived" in said for said in ear.heard)
    assert any("service ended" in said for said in ear.heard)
    assert ear.leaks(needles()) == set()


def wrap_all(wrap: Any, ear: Ear) -> Any:
    level = structlog.make_filtering_bound_logger(0)
    return wrap(structlog.ReturnLogger(), processors=[ear.logged], wrapper_class=level)


async def broken(net: Cloud, recorders: list[Recorder]) -> None:
    """NHRP and the packet path end with packets in their hands."""
    router: Router = net.routers["hub"]
    for name in ("nhrp", "forwarder"):
        service: Any = router.service(name)
        held = [message for recorder in recorders for message in recorder.messages][:3]
        service.guarded(_breaks)(*held)
        await asyncio.sleep(10)
    speaker = net.service("hub").speaker
    speaker.receive = _breaks  # a defect of ours
    await asyncio.sleep(5)


FAULTY = (
    f"interface Tunnel0\n ip nhrp authentication {CANARY}-too-long\n",
    f"interface Tunnel0\n ip nhrp authentication 7 {CANARY}\n",
    f"interface Tunnel0\n ipv6 nhrp authentication {CANARY} more\n",
    f"interface Tunnel0\n ip nhrp authenticaton {CANARY}\n",
    f"interface Ethernet0/0\n ip nhrp authentication {CANARY}\n",
    f"interface Tunnel0\n ip nhrp authentication {CANARY}\u20ac\n",
)


@pytest.mark.parametrize("faulty", FAULTY)
def test_S03_a_faulty_line_is_shown_without_the_password(faulty: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_ios(faulty, source="n")
    assert CANARY not in str(caught.value)
    assert CANARY not in repr(caught.value)


def test_S03_the_ear_hears_it() -> None:
    ear = Ear()
    ear.note({"packet": b"\0\0\0\1" + CANARY.encode()}, CANARY.encode().hex())
    assert len(ear.leaks(needles())) >= 1
