"""Every example is run: the embedding and IKEv2 alone in memory, the PE on real packets, as the three PEs of the lab."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import define

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


@define(eq=False)
class ScriptedTestbed(NetnsTestbed):
    """The lab, its nodes run by examples/pe.py."""

    def _spawn(self, node: str) -> None:
        command = [sys.executable, str(EXAMPLES / "pe.py"), node, "--control", str(self._path(f"{node}.sock"))]
        for ends in self.scenario.link.values():
            for owner, interface in ends:
                if owner == node:
                    command += ["--bind", f"{interface}={device_of(interface)}"]
        with self._path(f"{node}.log").open("ab") as log:
            self._processes[node] = self.world.namespaces[node].spawn(
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=ENVIRONMENT
            )


@pytest.mark.root
@pytest.mark.slow
def test_three_scripts_are_the_lab() -> None:
    require_root()
    be_root()

    async def main() -> None:
        made = Conduct(load("mgre"), None)  # type: ignore[arg-type]  # set on the next line
        bed = made.bed = ScriptedTestbed(made)
        try:
            await bed.start(None)
            for check in made.scenario.checks[:13]:
                row = await judge(made, check)
                assert row.ok, (row, bed._log("pe1"))
            process = bed._processes["pe1"]
            process.terminate()
            assert await asyncio.to_thread(process.wait, 10) == 0
            log = bed._path("pe1.log").read_text()
        finally:
            await bed.stop()
        assert "pe1 is running" in log
        assert "neighbour 192.0.2.2 up" in log
        assert "Customer Red: 10.1.2.0/24 by ibgp" in log
        assert "Traceback" not in log

    asyncio.run(main())
