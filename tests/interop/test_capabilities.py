"""S04: `labelspan run` as nobody with exactly three capabilities: IKE on UDP 500 and 4500, ESP by raw sockets, BGP's port, TUN
devices, addresses, routes and filters. Two PEs protect their mGRE tunnel; and S03 with what they really write: every key of the
run is known from its key log, and is nowhere else.

    red1 - eth1 pe1 eth0 --- core (LAN) --- eth0 pe2 eth1 - red2
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from stack.lab.namespace import Namespace, World
from stack.lab.probe import Prober
from tests.conftest import require_root, require_tool
from tests.interop.nodes import Node
from tests.interop.pes import bridge, customer, join, pe_config
from tests.interop.test_rootless import NOBODY, enclosed, interpreter
from tests.interop.test_run import host_state

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.slow]

CAPABILITIES = ("net_raw", "net_admin", "net_bind_service")
BITS = 1 << 13 | 1 << 12 | 1 << 10
PSK = "cAnArY5e7-both-pes"

CRYPTO = f"""crypto ikev2 keyring core
 peer pes
  address 192.0.2.0 255.255.255.0
  pre-shared-key {PSK}
!
crypto ikev2 profile core
 match identity remote address 192.0.2.0 255.255.255.0
 authentication remote pre-share
 authentication local pre-share
 keyring local core
 dpd 2 2 periodic
!
crypto ipsec profile core
 set ikev2-profile core
!
"""

GRE, ESP = 47, 50


class Capped(Node):
    """A node of nobody's. `--log-json`, and a key log."""

    def __init__(self, python: str, namespace: Namespace, config: str, folder: Path) -> None:
        super().__init__(namespace, config, {"Ethernet0/0": "eth0", "Ethernet0/1": "eth1"}, folder)
        self.python, self.keys = python, folder / f"{self.name}.keys"

    def launch(self) -> None:
        self.file.write_text(self.config)
        inner = [self.python, "-m", "stack.cli", "run", str(self.file), "--name", self.name, "--log-json"]
        inner += ["--control", str(self.socket), "--key-log", str(self.keys), "--metrics", "127.0.0.1:9100"]
        for interface, device in self.bindings.items():
            inner += ["--bind", f"{interface}={device}"]
        with self.log.open("ab") as log:
            command = enclosed(inner, capabilities=CAPABILITIES)
            self.process = self.namespace.spawn(command, stdout=log, stderr=subprocess.STDOUT, cwd="/")


@pytest.fixture(scope="module")
def python() -> str:
    require_root()
    require_tool("unshare")
    require_tool("setpriv")
    return interpreter()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Nobody's, where nobody may go."""
    made = Path(tempfile.mkdtemp(prefix="labelspan-"))
    os.chown(made, NOBODY, NOBODY)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def pes(python: str, folder: Path) -> Iterator[tuple[World, dict[int, Capped]]]:
    with World() as world, ExitStack() as stack:
        bridge(world)
        nodes = {}
        for n in (1, 2):
            namespace = join(world, f"pe{n}")
            customer(world, namespace, n)
            text = pe_config(n, peers=(3 - n,), protocol="gre key 77\n protection ipsec profile core", more=CRYPTO)
            nodes[n] = Capped(python, namespace, text, folder)
        for node in nodes.values():
            node.launch()
        for node in nodes.values():
            stack.callback(node.stop)
            node.ready()
        yield world, nodes


def reaches(world: World, number: int, target: str, *, size: int = 56) -> None:
    """Sooner or later."""
    namespace = world.namespaces[f"red{number}"]
    end, answer = time.monotonic() + 40, None
    with Prober(target, namespace=namespace) as prober:
        while time.monotonic() < end:
            answer = prober.once(size=size) if size != 56 else prober.once()
            if answer.ok:
                return
            time.sleep(0.2)
    raise AssertionError(f"red{number} -> {target}: {answer}")


def heard(nodes: dict[int, Capped], text: str) -> None:
    """Sooner or later some node writes it into its log."""
    nodes[1].until("show version", lambda _: any(text in node.log.read_text() for node in nodes.values()))


def sniffed(world: World, during: Callable[[], None]) -> dict[int, int]:
    """Outer protocol -> packets that pe1 put on the core meanwhile."""
    core = world.namespaces["core"]
    listener = core.run(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
    listener.bind(("to-pe1", 0))
    listener.setblocking(False)
    found: dict[int, int] = {}
    try:
        during()
        while True:
            frame, origin = listener.recvfrom(65536)
            if frame[12:14] == b"\x08\0" and origin[2] != socket.PACKET_OUTGOING:  # type: ignore[attr-defined]
                found[frame[23]] = found.get(frame[23], 0) + 1
    except BlockingIOError:
        return found
    finally:
        listener.close()


def status(node: Capped) -> dict[str, str]:
    assert node.process is not None
    text = Path(f"/proc/{node.process.pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def test_S04_protected_tunnels_as_nobody_with_three_capabilities(
    pes: tuple[World, dict[int, Capped]],
) -> None:
    world, nodes = pes
    for node in nodes.values():
        held = status(node)
        assert held["Uid"].split() == [str(NOBODY)] * 4
        assert held["NoNewPrivs"] == "1"
        for which in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(held[which], 16) == BITS, which
    reaches(world, 1, "10.1.2.10")
    reaches(world, 2, "10.1.1.10")
    reaches(world, 1, "2001:db8:2::10")

    def pings() -> None:
        with Prober("10.1.2.10", namespace=world.namespaces["red1"]) as prober:
            assert all(prober.once().ok for _ in range(20))

    found = sniffed(world, pings)
    assert found.get(ESP, 0) >= 20
    assert GRE not in found
    for node in nodes.values():
        sessions = json.dumps(node.show("show crypto session"))
        assert "UP" in sessions
        assert "is missing" not in node.log.read_text()
        assert "port not opened" not in node.log.read_text()


def test_S04_it_leaves_nothing_on_the_host(python: str, folder: Path) -> None:
    with World() as world:
        bridge(world)
        namespace = join(world, "pe1")
        customer(world, namespace, 1)
        before = host_state(namespace)
        text = pe_config(1, peers=(2,), protocol="gre key 77\n protection ipsec profile core", more=CRYPTO)
        with Capped(python, namespace, text, folder) as node:
            assert host_state(namespace) != before
            assert node.stop() == 0
        assert host_state(namespace) == before
        assert "Traceback" not in node.log.read_text()


# --- S03 ------------------------------------------------------------------------------------------------------------------


def logged_keys(node: Capped) -> list[bytes]:
    """Every key of the node, from its key log."""
    found: list[bytes] = []
    for table in ("esp_sa", "ikev2_decryption_table"):
        for text in re.findall(r"(?:0x)?([0-9a-fA-F]{32,})", (node.keys / table).read_text()):
            found.append(bytes.fromhex(text))
    return found


def forms(octets: bytes) -> set[str]:
    return {
        octets.hex(),
        octets.hex().upper(),
        octets.hex(":"),
        octets.hex(" "),
        repr(octets)[2:-1],
        json.dumps(octets.decode("latin-1"))[1:-1],
        str(list(octets))[1:-1],
        base64.b64encode(octets).decode()[:10],
    }


def metrics() -> str:
    with urllib.request.urlopen("http://127.0.0.1:9100/metrics", timeout=10) as answer:
        return str(answer.read().decode())


COMMANDS = (
    "show crypto ikev2 sa detailed",
    "show crypto ipsec sa",
    "show crypto session",
    "show crypto ikev2 stats",
    "show crypto ikev2 profile",
    "show crypto ipsec profile",
    "show adjacency",
    "show counters drops",
    "show bus",
    "show processes",
    "show tunnel endpoints",
    "show l3vpn encapsulation ip",
)


def test_S03_what_a_node_really_writes_has_no_key_in_it(pes: tuple[World, dict[int, Capped]]) -> None:
    world, nodes = pes
    reaches(world, 1, "10.1.2.10")
    said: list[str] = []

    def ask(line: str) -> Any:
        for node in nodes.values():
            try:
                said.append(node.text(line))
                said.append(json.dumps(node.show(line)))
            except AssertionError as error:
                said.append(str(error))

    ask("debug crypto ikev2")
    ask("clear crypto ikev2 sa")
    reaches(world, 1, "10.1.2.10")
    for line in COMMANDS:
        ask(line)
    # A configuration that is refused, with the key in the line that is wrong; then one with another key.
    good = nodes[1].config
    nodes[1].configure(good.replace(f"  pre-shared-key {PSK}", f"  pre-shared-keyy {PSK}"))
    heard(nodes, "configuration not applied")
    nodes[1].configure(good.replace(PSK, f"{PSK}-another"))
    heard(nodes, "configuration applied")
    ask("clear crypto ikev2 sa")
    heard(nodes, "the pre-shared keys differ")
    nodes[1].configure(good)
    ask("clear crypto ikev2 sa")
    reaches(world, 1, "10.1.2.10")
    for n in (1, 2):
        said.append(nodes[n].namespace.run(metrics))
    keys = [key for node in nodes.values() for key in logged_keys(node)]
    assert len(keys) > 10
    for node in nodes.values():
        assert node.stop() == 0
        said.append(node.log.read_text())
    whole = "\n".join(said)
    assert "faults" in whole, "the wrong line was noticed"
    assert "CREATE_CHILD_SA" in whole or "IKE_AUTH" in whole, "debugging was on"
    whole_text = whole.replace("\\\\", "\\")
    assert PSK not in whole
    for key in keys:
        for part in (key[:8], key[-8:]):
            for form in forms(part):
                assert form not in whole_text, form
