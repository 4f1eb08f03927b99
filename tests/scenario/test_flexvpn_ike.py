"""The guide docs/ipsec.md, run as it stands there; and a FlexVPN hub with one multipoint interface for all its spokes."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from stack.cli import main as labelspan
from stack.ios.check import doubts, read_file, refusals
from stack.testing import run
from tests.scenario import test_ipsec_hub
from tests.scenario.memory import Net

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "ipsec.md").read_text()
GRE, UDP, ESP = 47, 17, 50


def told(kind: str, name: str) -> str:
    """The block of the guide that is marked so."""
    found = re.findall(rf"<!-- {kind}: {name} -->\n```\n(.*?)```\n", GUIDE, re.DOTALL)
    assert len(found) == 1, (kind, name)
    return str(found[0])


def blocks(kind: str) -> list[str]:
    return re.findall(rf"<!-- {kind}: (\S+) -->", GUIDE)


def protocols(link: Any) -> Counter[int]:
    """IP protocols of what has crossed a link."""
    return Counter(frame.octets[23] for frame in link.frames if frame.octets[12:14] == b"\x08\0")


def play(story: Callable[[Net], Awaitable[None]]) -> None:
    async def main() -> None:
        net = Net()
        await story(net)
        await net.stop()

    run(main())


def test_every_configuration_of_the_guide_is_tested() -> None:
    assert blocks("config") == ["west", "east", "certificates", "hub", "spoke"]
    assert blocks("shell") == ["pki"]


@pytest.mark.parametrize("name", ["west", "east", "hub", "spoke"])
def test_check_has_nothing_against_the_guide(name: str, tmp_path: Path) -> None:
    file = tmp_path / f"{name}.cfg"
    file.write_text(told("config", name))
    assert doubts(file, read_file(file)) == []


def test_two_routers_and_a_shared_key() -> None:
    async def story(net: Net) -> None:
        wire = net.link("west Ethernet0/0", "east Ethernet0/0")
        await net.start("west", told("config", "west"))
        await net.start("east", told("config", "east"))
        # What the guide prints is what is seen. Both ends begin at once; the younger of two IKE SAs is left, 1 or 2.
        shown = re.search(r"```\n(Interface: Tunnel0\n.*?)\n```", GUIDE, re.DOTALL)
        assert shown is not None
        wanted = re.escape(shown.group(1)).replace(r"ID:\ 1", r"ID:\ [12]")
        await net.until(lambda: re.search(wanted, net.text("west", "show crypto session")))
        before = protocols(wire)[ESP]
        assert await net.reaches("west", "10.0.0.2")
        assert protocols(wire)[ESP] - before == 2
        assert set(protocols(wire)) == {UDP, ESP}

    play(story)


def test_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for line in told("shell", "pki").splitlines():
        word, *words = shlex.split(line)
        assert word == "labelspan"
        assert labelspan(words) == 0, line
    issued = capsys.readouterr().out
    text = told("config", "certificates")
    for line in re.findall(r"^ (?:ca|crl|certificate|key) file pki/\S+$", text, re.MULTILINE):
        assert f"{line}\n" in issued
    before, _, rest = told("config", "west").partition("crypto ikev2 keyring")
    file = Path("west.cfg")
    file.write_text(before + text + "!\n" + rest[rest.index("interface Ethernet0/0") :])
    reading = read_file(file)
    assert refusals(file, reading) == []
    assert doubts(file, reading) == []


def overlay(net: Net, spoke: str) -> str:
    (tunnel,) = net.show(spoke, "show interfaces Tunnel0")
    return next((held["address"] for held in tunnel["addresses"]), "")


def numbered(text: str, number: int) -> str:
    """The guide's spoke is the first; the others are on nets of their own."""
    return text.replace("spoke1", f"spoke{number}").replace("198.51.100.", f"198.51.10{number - 1}.")


async def build(net: Net, hub: str) -> list[Any]:
    """The hub and two spokes, and what routes between them; all are up."""
    core = net.world.node("core", forwarding=True)
    links = [net.link("hub Ethernet0/0", "core eth0")]
    core.address("eth0", "192.0.2.254/24")
    for number in (1, 2):
        links.append(net.link(f"spoke{number} Ethernet0/0", f"core eth{number}"))
        core.address(f"eth{number}", f"198.51.10{number - 1}.254/24")
    await net.start("hub", hub)
    for number in (1, 2):
        await net.start(f"spoke{number}", numbered(told("config", "spoke"), number))
    await net.until(lambda: overlay(net, "spoke1") and overlay(net, "spoke2"))
    await asyncio.sleep(2)
    return links


def routes(net: Net, name: str) -> dict[str, set[str]]:
    """Prefix -> interfaces, of the host routes that IKEv2 has made."""
    return {
        row["prefix"]: {via["interface"] for one in row["candidates"] for via in one["vias"]}
        for row in net.show(name, "show ip route")
        if row["selected"] == "ikev2" and any(one["vias"] for one in row["candidates"])
    }


def test_a_hub_and_spokes() -> None:
    async def story(net: Net) -> None:
        links = await build(net, told("config", "hub"))
        addresses = {overlay(net, "spoke1"), overlay(net, "spoke2")}
        assert addresses == {"10.1.1.1", "10.1.1.2"}
        assert routes(net, "hub").keys() == {f"{address}/32" for address in addresses}
        assert routes(net, "spoke1") == {"10.0.0.1/32": {"Tunnel0"}}
        for name in ("spoke1", "spoke2"):
            assert await net.reaches(name, "10.0.0.1", source=overlay(net, name))
        assert await net.reaches("spoke1", overlay(net, "spoke2"), source=overlay(net, "spoke1")) is False
        # A spoke that is away: its address ends at the hub, and does not follow another route.
        gone = overlay(net, "spoke2")
        await net.routers.pop("spoke2").stop()
        await asyncio.sleep(1)
        assert f"{gone}/32" not in routes(net, "hub")
        assert "Null0" in net.text("hub", f"show ip route {gone}")
        for link in links:
            assert GRE not in protocols(link)

    play(story)


def test_a_hub_with_one_multipoint_interface_for_all_spokes() -> None:
    """The endpoint database holds overlay -> transport, and there is no interface of anybody's own."""
    hub = told("config", "hub").replace(" virtual-template 1\n", "")
    hub = hub.replace(
        "interface Virtual-Template1 type tunnel\n",
        "interface Tunnel0\n tunnel source Ethernet0/0\n tunnel mode gre multipoint\n",
    )

    async def story(net: Net) -> None:
        links = await build(net, hub)
        found = {overlay(net, f"spoke{number}"): f"198.51.10{number - 1}.1" for number in (1, 2)}
        assert routes(net, "hub") == {f"{address}/32": {"Tunnel0"} for address in found}
        (tunnel,) = net.show("hub", "show tunnel endpoints tunnel 0")
        assert {held["address"]: row["transport"] for row in tunnel["endpoints"] for held in row["overlays"]} == found
        for name in ("spoke1", "spoke2"):
            assert await net.reaches(name, "10.0.0.1", source=overlay(net, name))
            assert await net.reaches("hub", overlay(net, name), source="10.0.0.1")
        gone = overlay(net, "spoke2")
        await net.routers.pop("spoke2").stop()
        await asyncio.sleep(1)
        assert routes(net, "hub") == {f"{address}/32": {"Tunnel0"} for address in found if address != gone}
        assert gone not in net.text("hub", "show tunnel endpoints tunnel 0")
        for link in links:
            assert GRE not in protocols(link)

    play(story)


def test_customers_vpn_over_one_multipoint_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    """The topology of test_ipsec_hub, its template replaced: labelled packets between spokes, by the hub."""
    text = test_ipsec_hub.HUB.replace(" virtual-template 1\n", "")
    text = text.replace("interface Virtual-Template1 type tunnel\n", "interface Tunnel0\n tunnel mode gre multipoint\n")
    monkeypatch.setattr(test_ipsec_hub, "HUB", text)

    async def story(net: test_ipsec_hub.Hub) -> None:
        assert await net.reaches("red1", "10.1.2.10")
        assert await net.reaches("red2", "172.17.0.1")
        offered = net.offered("hub")
        assert offered["access"] == []
        assert offered["routes"] == offered["implicit null"] == ["10.0.0.10/32", "10.0.0.11/32"]
        (gone,) = net.offered("spoke1")["addresses"]
        await net.routers.pop("spoke1").stop()
        await asyncio.sleep(1)
        assert f"{gone}/32" not in net.offered("hub")["routes"]
        assert gone not in net.text("hub", "show tunnel endpoints")
        await net.start("spoke1", test_ipsec_hub.spoke(1))
        await net.connected("red2", "10.1.1.10")
        assert net.in_clear() == []

    test_ipsec_hub.play(story)
