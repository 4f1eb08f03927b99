"""FRR's nhrpd and zebra in User-mode Linux: it needs Linux's own GRE, and tells a hub of hairpins with NFLOG.

All routers of a test are namespaces of one User-mode Linux, each with a wire of its own to the bridge outside.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.conftest import require_tool
from tests.interop.dmvpn import Nbma, nbma, overlay, ttls, until
from tests.interop.uml import LOG_MODULES, UserModeLinux

__all__ = ["Nhrpd", "Nhrpds"]

_OPTIONS = "frr version 8.4\nfrr defaults traditional\nlog stdout debugging\n"

_NETWORK = """
ip -n {name} link add gre1 type gre local {nbma} {key} ttl 64
ip -n {name} addr add {overlay}/32 dev gre1
ip -n {name} link set gre1 up mtu 1400 multicast off
ip netns exec {name} sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.gre1.send_redirects=0
"""

# One packet a second of each pair of sites goes to nhrpd, which sends the traffic indication.
_LOG = (
    "ip netns exec {name} iptables-legacy -A FORWARD -i gre1 -o gre1 -m hashlimit --hashlimit-upto 1/second "
    "--hashlimit-burst 1 --hashlimit-mode srcip,dstip --hashlimit-srcmask 24 --hashlimit-dstmask 24 "
    "--hashlimit-name {name} -j NFLOG --nflog-group 1 --nflog-size 128"
)

_DAEMON = (
    "ip netns exec {name} /usr/lib/frr/{daemon} -N {name} -A 127.0.0.1 -P 0 -f {run}/{daemon}.conf -i {run}/{daemon}.pid "
    ">>{run}/{daemon}.log 2>&1 & for n in $(seq 200); do [ -S {run}/{daemon}.vty ] && break; sleep 0.05; done; "
    "[ -S {run}/{daemon}.vty ]"
)

_SEND = (
    "import socket, sys; raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_GRE); "
    "raw.sendto(bytes.fromhex(sys.argv[1]), (sys.argv[2], 0))"
)


class Nhrpd:
    """A router: NBMA 192.0.2.N, overlay 10.0.0.N/32, site 192.168.N.0/24 (its own address .1)."""

    def __init__(self, uml: UserModeLinux, folder: Path, number: int) -> None:
        self.uml = uml
        self.number = number
        self.name = f"frr{number}"
        self.run = f"/run/frr/{self.name}"
        self._folder = folder
        self._up = False

    def wire(self, device: str) -> None:
        name, address = self.name, nbma(self.number)
        self._sh(f"ip netns add {name} && ip link set {device} netns {name} && mkdir -p {self.run}")
        self._sh(f"ip -n {name} link set lo up && ip -n {name} link set {device} up && chown -R frr:frr /run/frr")
        self._sh(f"ip -n {name} addr add {address}/24 dev {device}")
        self._sh(f"ip -n {name} link add lan type dummy && ip -n {name} link set lan up")
        self._sh(f"ip -n {name} addr add 192.168.{self.number}.1/24 dev lan")

    def start(
        self,
        lines: Sequence[str],
        *,
        routes: Sequence[tuple[str, str]] = (),
        key: int | None = 42,
        hold: int = 9,
        redirect: bool = False,
    ) -> None:
        """`lines`: of nhrpd's interface. `routes`: (prefix, overlay address). `redirect`: as a hub does it."""
        self.stop()
        self._up = True
        words = {"name": self.name, "nbma": nbma(self.number), "overlay": overlay(self.number)}
        script = _NETWORK.format(**words, key="" if key is None else f"key {key}")
        script += "".join(f"ip -n {self.name} route add {to} via {via} dev gre1 onlink\n" for to, via in routes)
        script += _LOG.format(name=self.name) if redirect else ""
        for line in script.strip().splitlines():
            self._sh(line)
        more = (" ip nhrp redirect",) if redirect else ()
        text = "nhrp nflog-group 1\n" if redirect else ""
        text += f"interface gre1\n ip nhrp network-id 1\n ip nhrp holdtime {hold}\n"
        text += "".join(f" {line}\n" for line in lines) + "".join(f"{line}\n" for line in more)
        self._daemon("zebra", "")
        self._daemon("nhrpd", "debug nhrp all\n" + text)

    def speak_bgp(self, text: str) -> None:
        """Besides, until it is stopped."""
        self._daemon("bgpd", text)

    def send(self, to: int, octets: bytes, *, key: int = 42) -> None:
        """NHRP that nhrpd itself would not send."""
        packet = (b"\x20\0\x20\x01" + key.to_bytes(4) + octets).hex()
        self._sh(f"ip netns exec {self.name} python3 -c '{_SEND}' {packet} {nbma(to)}")

    def _daemon(self, daemon: str, text: str) -> None:
        config = self._folder / f"{self.name}.{daemon}.conf"
        config.write_text(_OPTIONS + text)
        self._sh(f"cp {config} {self.run}/{daemon}.conf")  # where the user frr may read it
        self._sh(_DAEMON.format(name=self.name, daemon=daemon, run=self.run))

    def kill(self) -> None:
        """It is gone without a word, and its tunnel with it."""
        for daemon in ("bgpd", "nhrpd", "zebra"):
            self._sh(
                f"[ ! -f {self.run}/{daemon}.pid ] || kill -9 $(cat {self.run}/{daemon}.pid); rm -f {self.run}/{daemon}.*"
            )
        self._sh(f"ip -n {self.name} link del gre1; ip netns exec {self.name} iptables-legacy -F")
        self._up = False

    def stop(self) -> None:
        if self._up:
            self.kill()

    def _sh(self, command: str) -> str:
        return self.uml.run(command)

    # --- asked ---

    def vtysh(self, command: str) -> str:
        return self._sh(f"vtysh --vty_socket {self.run} -c '{command}'")

    def table(self, what: str) -> list[dict[str, Any]]:
        """Rows of `show ip nhrp WHAT`."""
        said = self.vtysh(f"show ip nhrp {what} json")
        found: list[dict[str, Any]] = json.loads(said[said.index("{") :])["table"] if "{" in said else []
        return found

    def cached(self, address: str, *, kind: str = "dynamic") -> dict[str, Any] | None:
        """The cache entry of an overlay address."""
        rows = self.table("cache")
        return next((row for row in rows if row["protocol"] == address and row["type"] == kind), None)

    def shortcuts(self) -> dict[str, str]:
        """Prefix -> overlay address of the egress, of those that are complete."""
        return {row["prefix"]: row["via"] for row in self.table("shortcut") if row["type"] == "dynamic"}

    def registered(self) -> bool:
        """With a server, as nhrpd itself says."""
        return any(row["type"] == "nhs" for row in self.table("cache"))

    def pings(self, destination: str, *, count: int = 1) -> list[int]:
        """The TTLs of the answers to pings from its site's address."""
        source = f"192.168.{self.number}.1"
        command = f"ip netns exec {self.name} ping -c {count} -i 0.2 -W 1 -I {source} {destination}"
        return ttls(self.uml.run(command, check=False))

    def until_ttl(self, destination: str, ttl: int, *, within: float = 30.0) -> None:
        """Pings until an answer has come with that TTL."""
        until(lambda: self.pings(destination) == [ttl], within=within, why=self.log)

    def log(self) -> str:
        said = self.uml.run(f"tail -n 60 {self.run}/nhrpd.log", check=False)
        return "\n".join(line for line in said.splitlines() if not re.search("vici", line))


class Nhrpds:
    """User-mode Linux with the routers `numbers`, none of them started."""

    def __init__(self, cloud: Nbma, folder: Path, numbers: Sequence[int]) -> None:
        for program in ("vtysh", "nhrpd", "iptables-legacy"):
            require_tool(program)
        self._cloud = cloud
        self._folder = folder
        taps = [f"frr{number}" for number in numbers]
        self.uml = UserModeLinux(cloud.wan, folder, tap=taps[0], more_taps=tuple(taps[1:]), modules=LOG_MODULES)
        self.routers = {number: Nhrpd(self.uml, folder, number) for number in numbers}

    def __enter__(self) -> Self:
        self.uml.__enter__()
        self.uml.run("stty -echo")
        for place, router in enumerate(self.routers.values()):
            self._cloud.plug(router.name)
            router.wire(f"eth{place}")
        return self

    def __getitem__(self, number: int) -> Nhrpd:
        return self.routers[number]

    def stop(self) -> None:
        """All of them, for the next test."""
        for router in self.routers.values():
            router.stop()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for router in self.routers.values():
                print(f"--- nhrpd {router.number}\n{router.log()}")
        self.uml.__exit__(kind, error, trace)
