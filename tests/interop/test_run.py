"""`labelspan run` and `exec` as a user meets them: what a node does to its host, says at its end, and leaves behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from stack.lab.namespace import Namespace, World
from stack.lab.probe import Prober
from tests.conftest import require_root, require_tool
from tests.interop.nodes import Node
from tests.interop.pes import bridge, customer, ip, join, pe_config
from tests.interop.test_frr import FRR_PEER, OURS, THEIRS, THEIRS6, frr_at, heard, learnt

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
OURS_PROTOCOL = "76"


@pytest.fixture
def world() -> Iterator[World]:
    require_root()
    require_tool("nft")
    with World() as world:
        bridge(world)
        customer(world, join(world, "pe1"), 1)
        yield world


def node_at(world: World, folder: Path, config: str = "") -> Node:
    bindings = {"Ethernet0/0": "eth0", "Ethernet0/1": "eth1"}
    return Node(world.namespaces["pe1"], config or pe_config(1), bindings, folder)


def host_state(namespace: Namespace) -> Mapping[str, Any]:
    """Everything that a node might change on its host, and forget to take back."""
    state: dict[str, Any] = {}
    for words in ("link", "addr", "rule", "-6 rule", "route show table all", "-6 route show table all"):
        rows = json.loads(ip(namespace, "-j", *words.split()) or "[]")
        state[words] = sorted(json.dumps(_lasting(row), sort_keys=True) for row in rows)
    command = ["nft", "list", "ruleset"]
    rules = namespace.run(lambda: subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    state["nft"] = rules
    files = "ipv4/ip_forward ipv[46]/conf/*/forwarding ipv4/conf/*/*_filter ipv4/conf/*/accept_*"
    switches = f"cd /proc/sys/net && grep -H . {files}"
    state["sysctl"] = namespace.run(
        lambda: subprocess.run(["sh", "-c", switches], capture_output=True, text=True, check=True).stdout
    )
    return state


def _lasting(row: Any) -> Any:
    """Without counters and ages, which go on."""
    if isinstance(row, dict):
        passing = {"valid_life_time", "preferred_life_time", "expires", "cacheinfo", "metrics"}
        return {key: _lasting(value) for key, value in row.items() if key not in passing}
    return [_lasting(each) for each in row] if isinstance(row, list) else row


def test_sigterm_says_goodbye_and_leaves_nothing(world: World, tmp_path: Path) -> None:
    """What stood before (an address, a route) is used and stays; what the node made goes; exit code 0; FRR hears Cease."""
    pe1 = world.namespaces["pe1"]
    ip(pe1, "addr", "add", "198.51.100.1/24", "dev", "eth0")
    ip(pe1, "route", "add", "192.0.2.9/32", "via", "198.51.100.9")
    before = host_state(pe1)
    with ExitStack() as stack:
        frr = stack.enter_context(frr_at(world, FRR_PEER.format(asn=65000, session="")))
        node = stack.enter_context(node_at(world, tmp_path))
        learnt(node, THEIRS, THEIRS6)
        heard(frr, OURS)
        during = host_state(pe1)
        assert during["nft"].count("labelspan") >= 2  # customer frames, and the kernel's answers about GRE
        assert "192.0.2.1" in str(during["addr"])
        assert "192.0.2.2" in str(during["route show table all"])
        assert node.stop() == 0
        peer = frr.until("show bgp neighbors 192.0.2.1", lambda value: "lastNotificationReason" in str(value))
        assert peer["192.0.2.1"]["lastNotificationReason"].startswith("Cease/Administrative Shutdown")
        heard(frr, OURS, absent=True)
        assert not node.socket.exists()
        assert host_state(pe1) == before
    assert "Traceback" not in node.log.read_text()


def test_sigint_ends_it_as_well(world: World, tmp_path: Path) -> None:
    before = host_state(world.namespaces["pe1"])
    with node_at(world, tmp_path) as node:
        assert node.process is not None
        node.process.send_signal(signal.SIGINT)
        assert node.process.wait(10) == 0
    assert host_state(world.namespaces["pe1"]) == before


def marked(namespace: Namespace) -> set[str]:
    """Routes that carry our protocol number."""
    rows = json.loads(ip(namespace, "-j", "route", "show", "proto", OURS_PROTOCOL) or "[]")
    return {row["dst"] for row in rows}


def test_killed_and_started_again_it_sweeps_and_adopts(world: World, tmp_path: Path) -> None:
    """After kill -9 its routes and addresses stand there. The next start takes over what is still wanted, and removes the
    rest; its end leaves the host as it was before the first start."""
    pe1 = world.namespaces["pe1"]
    before = host_state(pe1)
    old = "ip route 203.0.113.0 255.255.255.0 198.51.100.77\n"
    with frr_at(world, FRR_PEER.format(asn=65000, session="")):
        with node_at(world, tmp_path, pe_config(1, more=old + " \n")) as node:
            learnt(node, THEIRS, THEIRS6)
            assert node.process is not None
            node.process.kill()
            node.process.wait()
            left = marked(pe1)
            assert left == {"192.0.2.2", "192.0.2.9", "203.0.113.0/24"}
            assert "198.51.100.1/24" in ip(pe1, "addr")
            assert "labelspan" not in host_state(pe1)["nft"]  # the kernel takes filters away with their owner
            node.config = pe_config(1)
            node.start()
            learnt(node, THEIRS, THEIRS6)
            assert marked(pe1) == left - {"203.0.113.0/24"}
            with Prober("192.0.2.9", namespace=pe1, source="192.0.2.1") as prober:
                assert prober.once().ok
            assert node.stop() == 0
        assert host_state(pe1) == before


def test_killed_for_good_only_marked_things_stay(world: World, tmp_path: Path) -> None:
    """What a killed node leaves carries its mark: an administrator can tell, and the next start too."""
    pe1 = world.namespaces["pe1"]
    before = host_state(pe1)
    with node_at(world, tmp_path) as node:
        node.until("show ip route vrf red", lambda value: OURS in str(value))
        assert node.process is not None
        node.process.kill()
        node.process.wait()
    after = host_state(pe1)
    assert after["link"] == before["link"]
    assert after["nft"] == before["nft"]
    for words in ("route show table all", "-6 route show table all"):
        for row in set(after[words]) - set(before[words]):
            route = json.loads(row)
            assert route["protocol"] in (OURS_PROTOCOL, "kernel"), route


def labelspan(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stack.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=ROOT, **options)


def test_exec_in_text_and_json(world: World, tmp_path: Path) -> None:
    with node_at(world, tmp_path) as node:
        where = "--control", str(node.socket)
        one = labelspan("exec", *where, "show ip route vrf red")
        assert (one.returncode, one.stderr) == (0, "")
        assert "C        10.1.1.0/24 is directly connected, Ethernet0/1" in one.stdout
        two = labelspan("exec", *where, "show version", "show ip interface brief")
        assert two.stdout.count("# show ") == 2
        plain = labelspan("exec", *where, "--json", "show ip route vrf red")
        assert [row["prefix"] for row in json.loads(plain.stdout)] == ["10.1.1.0/24", "10.1.1.1/32"]
        both = json.loads(labelspan("exec", *where, "--json", "show version", "show processes").stdout)
        assert len(both) == 2
        assert {row["service"] for row in both[1]} == {"routing", "mfi", "tunnel", "forwarder", "ikev2", "nhrp", "bgp"}
        # Several commands of which one is wrong: the others are answered, the exit code tells.
        wrong = labelspan("exec", *where, "show version", "show ip raute vrf red")
        assert wrong.returncode == 1
        assert "labelspan, Version" in wrong.stdout
        assert "show ip raute vrf red" in wrong.stderr
        assert "Traceback" not in wrong.stderr
    nobody = labelspan("exec", *where, "show version")
    assert nobody.returncode == 1
    assert "no node listens at" in nobody.stderr


def test_a_second_node_of_the_same_name_is_refused(world: World, tmp_path: Path) -> None:
    with node_at(world, tmp_path) as node:
        before = host_state(world.namespaces["pe1"])
        second = world.namespaces["pe1"].run(
            lambda: labelspan("run", str(node.file), "--name", "pe1", "--control", str(node.socket))
        )
        assert second.returncode == 1
        assert "another node answers at" in second.stderr
        assert host_state(world.namespaces["pe1"]) == before
        assert node.show("show version")["hostname"] == "pe1"


def test_a_faulty_configuration_changes_nothing(world: World, tmp_path: Path) -> None:
    with node_at(world, tmp_path) as node:
        running = node.show("show running-config")
        node.configure(node.config.replace("rd 65000:11", "rd nonsense"))
        node.until("show version", lambda _: "configuration not applied" in node.log.read_text())
        assert node.show("show running-config") == running
        assert "rd nonsense" in node.log.read_text()
    first = labelspan("run", str(node.file), "--control", str(node.socket))
    assert first.returncode == 2
    assert "rd nonsense" in first.stderr
    assert "^" in first.stderr
