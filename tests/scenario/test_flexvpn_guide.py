"""The guide docs/flexvpn.md, run as it stands there: its files, its commands, and what it says is then seen."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from stack.ios.check import doubts, read_file, refusals
from stack.testing import run
from tests.conftest import require_root, require_tool
from tests.scenario.memory import Net

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "flexvpn.md").read_text()
NODES = ("hub", "spoke1", "spoke2")
MEANS = "By Virtual-Access", "By mGRE"

_CHANGES = (
    (r"\d\d:\d\d:\d\d", "00:00:00"),
    (r"0x[0-9A-F]{6,}", "0x0"),
    (r"\b[0-9A-F]{8}\b", "0"),
    (r"\(00:00:00 ago\)", "(ago)"),
)
"""What is another at every run: times, and numbers of rows."""


def told(kind: str, name: str) -> str:
    """The block of the guide that is marked so."""
    found = re.findall(rf"<!-- {kind}: {re.escape(name)} -->\n```\n(.*?)```\n", GUIDE, re.DOTALL)
    assert len(found) == 1, (kind, name)
    return str(found[0])


def marks(kind: str) -> list[str]:
    return re.findall(rf"<!-- {kind}: (.+?) -->", GUIDE)


def same(text: str) -> str:
    for pattern, word in _CHANGES:
        text = re.sub(pattern, word, text)
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def as_told(net: Net, variant: str = "") -> None:
    """Everything that the guide shows of the nodes of a variant is what they show."""
    shown = [
        mark for mark in marks("shown") if mark.split("-")[0] == variant or (not variant and "-" not in mark.split()[0])
    ]
    assert shown
    for mark in shown:
        node, _, command = mark.removeprefix(f"{variant}-").partition(" ")
        assert same(net.text(node, command)) == same(told("shown", mark)), mark


def play(story: Callable[[Net], Awaitable[None]]) -> None:
    async def main() -> None:
        net = Net(epoch=time.time())  # the guide's certificates are of now
        await story(net)
        await net.stop()

    run(main())


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}


def shell(name: str, folder: Path) -> None:
    """The block's commands, in `folder`."""
    script = f'labelspan() {{ {shlex.quote(sys.executable)} -m stack.cli "$@"; }}\n' + told("shell", name)
    subprocess.run(["bash", "-euc", script], cwd=folder, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With all files that the guide has its reader make."""
    folder = tmp_path_factory.mktemp("guide")
    shell("pki", folder)
    for node in ("hub", "spoke1"):
        (folder / f"{node}.cfg").write_text(told("config", node))
    shell("spoke2", folder)
    return folder


def without(text: str, *stanzas: str) -> str:
    """A configuration without these stanzas."""
    for start in stanzas:
        text, found = re.subn(rf"^{re.escape(start)}\n(?: .*\n)*(?:!\n)?", "", text, flags=re.MULTILINE)
        assert found == 1, start
    return text


def by_mgre(node: str, text: str) -> str:
    """As the guide says: what goes, and what comes in its place."""
    gone = ["interface Virtual-Template1 type tunnel"]
    gone += ["interface Tunnel0"] if node != "hub" else []
    text = without(text.replace(" virtual-template 1\n!", "!"), *gone)
    assert "virtual-template" not in text
    part = told("config", "mgre-hub" if node == "hub" else "mgre-spoke")
    return text.replace("router bgp", f"{part}!\nrouter bgp", 1)


def by_keys(_node: str, text: str) -> str:
    text = without(text, "crypto pki trustpoint ca").replace("digital-signature", "pre-share")
    text = text.replace(" pki trustpoint ca\n", " keyring local all\n").replace("group cert list", "group psk list")
    return text.replace("crypto ikev2 authorization", told("config", "psk") + "!\ncrypto ikev2 authorization", 1)


def as_it_is(_node: str, text: str) -> str:
    return text


def dmvpn(node: str, _text: str) -> str:
    if node == "spoke2":
        text = told("config", "dmvpn-spoke1").replace("spoke1", "spoke2").replace("198.51.100.", "203.0.113.")
        return text.replace("192.168.1.1 ", "192.168.2.1 ").replace("10.0.0.11", "10.0.0.12")
    return told("config", f"dmvpn-{node}")


VARIANTS = {"": as_it_is, "mgre": by_mgre, "psk": by_keys, "dmvpn": dmvpn}


def configs(variant: str, folder: Path) -> dict[str, str]:
    return {node: VARIANTS[variant](node, (folder / f"{node}.cfg").read_text()) for node in NODES}


def test_every_block_of_the_guide_is_tested() -> None:
    assert marks("config") == ["hub", "spoke1", "mgre-hub", "mgre-spoke", "psk", "dmvpn-hub", "dmvpn-spoke1", "ivrf"]
    assert marks("shell") == ["pki", "spoke2", "namespaces"]
    assert {mark.split("-")[0].split()[0] for mark in marks("shown")} == {"spoke1", "mgre", "dmvpn"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_check_has_nothing_against_the_guide(variant: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for node, text in configs(variant, folder).items():
        file = Path(f"{variant}-{node}.cfg")
        file.write_text(text)
        reading = read_file(file)
        assert refusals(file, reading) == []
        assert doubts(file, reading) == []


def test_the_vrfs_of_a_template(tmp_path: Path) -> None:
    """The fragment is read without a fault, in a node that has what it names."""
    vrfs = "".join(f"vrf definition {name}\n rd 1:{number}\n" for number, name in enumerate(("inside", "outside")))
    lent = "interface Loopback1\n vrf forwarding inside\n ip address 10.0.0.1 255.255.255.255\n"
    file = tmp_path / "vrfs.cfg"
    file.write_text(f"{vrfs}{lent}{told('config', 'ivrf')}end\n")
    assert refusals(file, read_file(file)) == []


async def build(net: Net, texts: dict[str, str], *, forwarding: bool = False) -> None:
    """The picture at the top of the guide; spoke1 comes in first. `forwarding`: the kernels' switch."""
    core = net.world.node("core", forwarding=True)
    for node in NODES:
        net.world.node(node, forwarding=forwarding)
    for number, (node, gateway) in enumerate(
        zip(NODES, ("192.0.2.254", "198.51.100.254", "203.0.113.254"), strict=True)
    ):
        net.link(f"{node} Ethernet0/0", f"core eth{number}")
        core.address(f"eth{number}", f"{gateway}/24")
    for node, site in zip(NODES, (10, 1, 2), strict=True):
        net.link(f"{node} Ethernet0/1", f"host{site} eth0")
        net.host(f"host{site}", [f"192.168.{site}.10/24"], f"192.168.{site}.1")
    for node in NODES:
        await net.start(node, texts[node])
        await asyncio.sleep(3)


async def shortcut(net: Net, ttl: int) -> None:
    """The first echo goes by the hub, which is too far for `ttl`; later ones get there."""
    first = await net.ping("host1", "192.168.2.10", ttl=ttl)
    await asyncio.sleep(1)
    later = [await net.ping("host1", "192.168.2.10", ttl=ttl) for _ in range(3)]
    assert [first.ok, *(one.ok for one in later)] == [False, True, True, True], first


@pytest.mark.parametrize(("variant", "ttl"), [("", 3), ("mgre", 3), ("psk", 3), ("dmvpn", 4)])
def test_first_packets_by_the_hub_then_straight_as_shown(
    variant: str, ttl: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)

    async def story(net: Net) -> None:
        await build(net, configs(variant, folder), forwarding=variant == "dmvpn")
        assert await net.reaches("host1", "192.168.10.10")
        await shortcut(net, ttl)
        if variant != "psk":
            as_told(net, variant)
        # Unused, it goes down by itself, and the hub's way is there again.
        await net.until(lambda: "192.168.2.0" not in net.text("spoke1", "show ip nhrp"), within=130)
        await asyncio.sleep(5)
        if variant != "dmvpn":
            assert "203.0.113.1" not in net.text("spoke1", "show crypto session")
        await shortcut(net, ttl)

    play(story)


BY_HAND = """
mount -t tmpfs none /run && mkdir /run/netns  # names of namespaces, and sockets, of our own
labelspan="$PYTHON -m stack.cli"
bash -eu namespaces.sh
for node in hub spoke1 spoke2; do
  ip netns exec $node $labelspan run $node.cfg --bind Ethernet0/0=eth0 --bind Ethernet0/1=eth1 >$node.log 2>&1 &
done
for try in $(seq 30); do
  for host in host1 host2; do ip netns exec $host ping -c 1 -W 1 192.168.10.10 >$host.ping || { sleep 1; continue 2; }; done
  break
done
ip netns exec host1 ping -c 5 -i 0.5 192.168.2.10
$labelspan exec --name spoke1 "show ip nhrp vrf red" "clear ip nhrp"
kill -TERM $(jobs -p)
wait
grep -h shortcut spoke1.log
"""


@pytest.mark.root
@pytest.mark.slow
def test_by_hand_in_namespaces(folder: Path) -> None:
    require_root()
    for tool in ("ip", "ping", "unshare", "sysctl"):
        require_tool(tool)
    (folder / "namespaces.sh").write_text(told("shell", "namespaces"))
    command = ["unshare", "--mount", "bash", "-uc", BY_HAND]
    environment = {**ENVIRONMENT, "PYTHON": sys.executable}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    logs = "".join((folder / f"{node}.log").read_text() for node in NODES)
    assert "Traceback" not in logs, logs
    ttls = [int(ttl) for ttl in re.findall(r"ttl=(\d+)", done.stdout)]
    assert (len(ttls), ttls[0], ttls[-1]) == (5, 61, 62), (done.stdout, done.stderr, logs)
    assert "Label Info: outgoing" in done.stdout
    assert "shortcut up" in done.stdout
    assert "shortcut down" in done.stdout
