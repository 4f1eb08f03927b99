"""Every example is run: the embedding and IKEv2 alone in memory, the PE on real packets, as the three PEs of the lab."""

from __future__ import annotations

import asyncio
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import define, field

from stack.lab.checks import judge
from stack.lab.conduct import Conduct
from stack.lab.netns import NetnsTestbed, be_root
from stack.lab.scenario import device_of, load
from tests.conftest import require_root

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def test_every_example_is_named_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"embed.py", "hub.py", "ike.py", "pe.py", "spoke.py"}


def test_embedding() -> None:
    command = [sys.executable, str(EXAMPLES / "embed.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=ENVIRONMENT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "neighbour 192.0.2.2 is up" in lines
    assert "Customer Red: 10.1.2.0/24 by ibgp, distance 200" in lines
    assert any(line.startswith("    nexthop 192.0.2.2 Tunnel0 label ") for line in lines)
    assert any(line.startswith("Endpoint transport 192.0.2.2 ") for line in lines)
    replies = [line for line in lines if line.startswith("red1 to red2")]
    assert len(replies) == 3
    assert all("reply in" in line for line in replies), replies


def test_the_ikev2_speaker_alone() -> None:
    command = [sys.executable, str(EXAMPLES / "ike.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=ENVIRONMENT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.splitlines()) == {
        "alice.example asks from 192.0.2.11: 10.7.0.1",
        "mallory.example asks from 192.0.2.12: no customer of ours",
        "gateway: alice.example is in, by profile default",
        "gateway: mallory.example is not: refused: no customer of ours",
        "alice: 10.7.0.1; 1 inbound SA",
        "mallory: nothing; 0 inbound SA",
        "gateway: alice.example has left: deleted by the peer",
    }


@pytest.mark.parametrize(
    ("words", "complaint"),
    [(["pe9"], "invalid choice"), (["pe1", "--bind", "Ethernet0/0"], "INTERFACE=DEVICE expected")],
)
def test_a_pe_that_was_asked_for_wrongly(words: list[str], complaint: str) -> None:
    command = [sys.executable, str(EXAMPLES / "pe.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=ENVIRONMENT, check=False)
    assert done.returncode == 2
    assert complaint in done.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["hub.py"], "the following arguments are required: folder"),
        (["spoke.py", "spoke3", "."], "invalid choice"),
        (["spoke.py", "spoke1", "nowhere"], "nowhere"),
    ],
)
def test_a_hub_or_a_spoke_that_was_asked_for_wrongly(words: list[str], complaint: str, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / words[0]), *words[1:]]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=ENVIRONMENT, cwd=tmp_path, check=False
    )
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


@define(eq=False)
class ScriptedTestbed(NetnsTestbed):
    """The lab, its nodes run by scripts. `words`: of a node's script, what comes before its options."""

    words: dict[str, list[str]] = field(factory=dict)

    def _spawn(self, node: str) -> None:
        script, *more = self.words[node]
        command = [sys.executable, str(EXAMPLES / script), *more, "--control", str(self._path(f"{node}.sock"))]
        for ends in self.scenario.link.values():
            for owner, interface in ends:
                if owner == node:
                    command += ["--bind", f"{interface}={device_of(interface)}"]
        with self._path(f"{node}.log").open("ab") as log:
            self._processes[node] = self.world.namespaces[node].spawn(
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=ENVIRONMENT
            )


def conducted(scenario: str, words: dict[str, list[str]], last: str) -> dict[str, str]:
    """The checks up to `last` of a lab whose nodes are scripts, all of which end well when told to: what each has said."""
    require_root()
    be_root()

    async def main() -> dict[str, str]:
        made = Conduct(load(scenario), None)  # type: ignore[arg-type]  # set on the next line
        bed = made.bed = ScriptedTestbed(made, words=words)
        try:
            await bed.start(None)
            names = [check.name for check in made.scenario.checks]
            for check in made.scenario.checks[: names.index(last) + 1]:
                row = await judge(made, check)
                assert row.ok, (row, *(bed._log(node) for node in words))
            for node in words:
                process = bed._processes[node]
                process.terminate()
                assert await asyncio.to_thread(process.wait, 10) == 0, bed._log(node)
            return {node: bed._path(f"{node}.log").read_text() for node in words}
        finally:
            await bed.stop()

    logs = asyncio.run(main())
    for log in logs.values():
        assert "Traceback" not in log
    return logs


@pytest.mark.root
@pytest.mark.slow
def test_three_scripts_are_the_lab() -> None:
    words = {node: ["pe.py", node] for node in ("pe1", "pe2", "pe3")}
    log = conducted("mgre", words, "packets of one customer seen by the other: 0")["pe1"]
    assert "pe1 is running" in log
    assert "neighbour 192.0.2.2 up" in log
    assert "Customer Red: 10.1.2.0/24 by ibgp" in log


@pytest.mark.root
@pytest.mark.slow
def test_a_hub_and_two_spokes_are_the_lab(tmp_path: Path) -> None:
    """Until unused shortcuts have gone down. The hub's script is where the authority is; the spokes' find it there."""
    folder = str(tmp_path)
    runpy.run_path(str(EXAMPLES / "hub.py"))["configuration"](tmp_path)  # before a spoke can ask for what is its own
    words = {"hub": ["hub.py", folder], **{spoke: ["spoke.py", spoke, folder] for spoke in ("spoke1", "spoke2")}}
    logs = conducted("flexvpn", words, "unused, the shortcuts go down by themselves")
    assert "R1-HUB is running" in logs["hub"]
    assert "R3-Spoke1 is running" in logs["spoke1"]
    for name in ("R3-Spoke.cisco.com", "R4.cisco.com"):
        assert f"{name} is in, from 172.16." in logs["hub"]
    assert "BGP neighbour 10.1.1.1 up" in logs["hub"]
    for vrf in ("cust1", "cust2"):
        assert f"{vrf}: 192.168.113.10 to 192.168.114.10 has a better way" in logs["hub"]
        assert f"{vrf}: there is a better way to 192.168.114.10" in logs["spoke1"]
        assert f"{vrf}: 192.168.114.0/24 by 10.1.1." in logs["spoke1"]
        assert f"{vrf}: no shortcut to 192.168.114.0/24 any more: its holding time is over" in logs["spoke1"]
    assert "Tunnel0 is 10.1.1." in logs["spoke1"]
