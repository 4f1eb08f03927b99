"""The CPU that a responder spends on one handshake: `labelspan run` against strongSwan's charon.

    python benchmarks/ikev2_handshakes.py [--handshakes 150] [--rounds 9] [--auth psk,rsa] [--childless] [--json]

Root, and strongSwan (charon-systemd, swanctl). Two namespaces and two cables; both responders run, and the same initiator of
ours (load/ikev2_load.py, a process of its own) makes handshakes with one and with the other in turn, a few at once:
IKE_SA_INIT, IKE_AUTH, DELETE; X25519, AES-256-GCM, HMAC-SHA-384. The CPU is that of all threads of the responder (schedstat).
Both log that SAs come and go, and no more. Our hub has a multipoint tunnel; strongSwan's CHILD_SAs are those of its userspace
ESP (kernel-libipsec).

A ratio below 1 is ours being cheaper. Only the ratio of neighbours means something on a busy machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent / "load"))

from ikev2_load import Load, child_terms, psk_terms, signed_terms

from ikev2.config import AuthMethod
from ikev2.engine.contract import ChildTerms, Terms
from ikev2.pki.authority import key_pem, pem
from ikev2.pki.certificate import parse_certificate, parse_private_key
from ikev2.pki.credentials import SignatureCredential, Trust, TrustStore
from ikev2.pki.store import Anchor
from stack.addr import parse_address
from stack.esp import EspMode
from stack.lab.namespace import World
from stack.os.network import OsNetwork

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
KEY = "a key for a benchmark"
CALLER, OURS, SWAN = "10.9.0.1", "10.9.0.2", "10.9.1.2"
WINDOW = 5
"""Handshakes that are under way at once."""
INSIDE = ("10.9.2.1", "10.9.2.2")
"""Ends of the GRE that strongSwan protects: with its own addresses kernel-libipsec would route IKE into its TUN device."""

_NODE = """hostname responder
crypto ikev2 proposal p
 encryption aes-gcm-256
 prf sha384
 group 31
!
crypto ikev2 policy p
 proposal p
!
crypto ikev2 fragmentation mtu 1280
{trustpoint}crypto ikev2 keyring k
 peer all
  address 0.0.0.0 0.0.0.0
  pre-shared-key {key}
 !
!
crypto ikev2 profile p
 match identity remote fqdn caller.example
 identity local fqdn responder.example
 authentication remote {method}
 authentication local {method}
 {proof}
!
crypto ipsec transform-set t esp-gcm 256
 mode transport
!
crypto ipsec profile p
 set transform-set t
 set ikev2-profile p
 responder-only
!
interface Tunnel0
 ip address 10.9.3.1 255.255.255.252
 tunnel source Ethernet0/0
 tunnel mode gre multipoint
 tunnel protection ipsec profile p
!
interface Ethernet0/0
 ip address {ours} 255.255.255.0
!
end
"""

_TRUSTPOINT = """crypto pki trustpoint t
 certificate file {folder}/responder.pem
 key file {folder}/responder.key
 ca file {folder}/root.pem
 revocation-check none
!
"""

_SWAN = """connections {{
  c {{
    version = 2
    local_addrs = {swan}
    remote_addrs = {caller}
    proposals = aes256gcm16-prfsha384-x25519
    unique = never
    encap = yes
    local {{
      auth = {auth}
      id = responder.example
      {certs}
    }}
    remote {{
      auth = {auth}
      id = caller.example
    }}
    children {{
      c {{
        mode = tunnel
        local_ts = {inside[1]}/32[gre]
        remote_ts = {inside[0]}/32[gre]
        esp_proposals = aes256gcm16
      }}
    }}
  }}
}}
secrets {{
  ike-1 {{
    secret = "{key}"
  }}
}}
"""

_QUIET = "\n".join(f"  filelog {{ log {{ {part} = 0 }} }}" for part in ("default", "ike", "cfg"))


def material(folder: Path) -> None:
    """A root, and a leaf of RSA-2048 for each end, the same size of chain: the leaf alone is sent."""
    from tests.ikev2 import pki

    world = pki.World("rsa2048", "benchmark")
    (folder / "root.pem").write_bytes(pem(world.root.chain[-1], "CERTIFICATE"))
    for name in ("responder", "caller"):
        leaf = world.leaf(f"cn={name}", "rsa2048", of=world.root, when=time.time() - 60, fqdns=(f"{name}.example",))
        (folder / f"{name}.pem").write_bytes(pem(leaf.der, "CERTIFICATE"))
        (folder / f"{name}.key").write_bytes(key_pem(leaf.key))
        (folder / f"{name}.key").chmod(0o600)


# --- the initiator, a process of its own ------------------------------------------------------------------------------


def terms_of(folder: Path, auth: str) -> Terms:
    if auth == "psk":
        return psk_terms("caller.example", KEY.encode())
    root, own = (parse_certificate(_der(folder / f"{name}.pem")) for name in ("root", "caller"))
    methods = frozenset({AuthMethod.RSA_SIG, AuthMethod.SIGNATURE})
    store = TrustStore(anchors=(Anchor(root, "root", ("none",)),))
    credential = SignatureCredential(
        parse_private_key((folder / "caller.key").read_bytes()), (own.octets,), AuthMethod.RSA_SIG
    )
    return signed_terms("caller.example", credential, Trust(methods, anchors=store))


def _der(path: Path) -> bytes:
    return subprocess.run(
        ["openssl", "x509", "-in", str(path), "-outform", "DER"], check=True, capture_output=True
    ).stdout


def initiate(folder: Path, auth: str, childless: bool) -> None:
    """Lines `N address` on standard input: so many handshakes with it; how many microseconds each took on standard output."""
    load, terms, local = Load(OsNetwork()), terms_of(folder, auth), parse_address(CALLER)
    print("ready", flush=True)
    for line in sys.stdin:
        number, address = line.split()
        remote = parse_address(address)
        begun = time.monotonic()
        for _ in range(int(number) // WINDOW):
            handshakes(load, local, remote, terms, None if childless else _child(address))
        print(round((time.monotonic() - begun) / int(number) * 1e6), flush=True)


def handshakes(load: Load, local: bytes, remote: bytes, terms: Terms, child: ChildTerms | None) -> None:
    """So many as are under way at once."""
    callers = [load.call(local, remote, terms, child) for _ in range(WINDOW)]
    load.run(lambda: all(c.closed or c.refused or (c.established if child is None else c.up) for c in callers))
    for caller in callers:
        assert caller.established, caller.closed
        assert child is None or caller.up, caller.refused
        load.close(caller)
    load.run(lambda: all(caller.closed for caller in callers))


def _child(address: str) -> ChildTerms:
    if address == SWAN:
        return child_terms(*map(parse_address, INSIDE), mode=EspMode.TUNNEL)
    return child_terms(parse_address(CALLER), parse_address(address))


# --- the rest -----------------------------------------------------------------------------------------------------------


def cpu_ns(pid: int) -> int:
    """Nanoseconds that all threads of a process have run."""
    tasks = Path(f"/proc/{pid}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir())


def prefer(pid: int) -> None:
    """A process goes before others: what else runs on the machine costs it its caches, and then it is no longer itself."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.setpriority(os.PRIO_PROCESS, int(task.name), -15)


@contextlib.contextmanager
def responders(world: World, folder: Path, auth: str) -> Iterator[dict[str, int]]:
    """Address -> process."""
    from tests.interop.nodes import Node
    from tests.interop.swan import Swan

    rsa = auth == "rsa"
    config = _NODE.format(
        trustpoint=_TRUSTPOINT.format(folder=folder) if rsa else "",
        key=KEY,
        method="rsa-sig" if rsa else "pre-share",
        proof="pki trustpoint t" if rsa else "keyring local k",
        caller=CALLER,
        ours=OURS,
    )
    swan_config = _SWAN.format(
        swan=SWAN,
        caller=CALLER,
        inside=INSIDE,
        key=KEY,
        auth="pubkey" if rsa else "psk",
        certs="certs = responder.pem" if rsa else "",
    )
    files = {}
    if rsa:
        files = {
            "x509/responder.pem": (folder / "responder.pem").read_bytes(),
            "private/responder.pem": (folder / "responder.key").read_bytes(),
            "x509ca/root.pem": (folder / "root.pem").read_bytes(),
        }
    swan = Swan(
        world.namespaces["swan"],
        folder,
        swan_config,
        files=files,
        settings=_QUIET,
    )
    with swan, Node(world.namespaces["ours"], config, {"Ethernet0/0": "eth0"}, folder) as node:
        assert swan._process is not None
        assert node.process is not None
        yield {SWAN: swan._process.pid, OURS: node.process.pid}


def measure(auth: str, given: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name, World() as world:
        folder = Path(name)
        material(folder)
        caller, ours, swan = world.add("caller"), world.add("ours"), world.add("swan")
        world.cable(caller, "eth0", ours, "eth0")
        world.cable(caller, "eth1", swan, "eth0")
        for there, device, address in (
            (caller, "eth0", f"{CALLER}/24"),
            (caller, "eth1", "10.9.1.1/24"),
            (ours, "eth0", f"{OURS}/24"),
            (swan, "eth0", f"{SWAN}/24"),
            (swan, "eth0", f"{INSIDE[1]}/32"),
        ):
            there.address(device, address)
        swan.route(f"{CALLER}/32", via="10.9.1.1")
        with responders(world, folder, auth) as found:
            command = [sys.executable, __file__, "--initiate", name, "--auth", auth]
            command += ["--childless"] if given.childless else []
            process = caller.spawn(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", "the initiator did not start"
            for pid in (process.pid, *found.values()):
                prefer(pid)
            rounds = []
            for turn in range(given.rounds + 1):
                spent = {}
                for address, pid in found.items():
                    before = cpu_ns(pid)
                    process.stdin.write(f"{given.handshakes if turn else 50} {address}\n")
                    process.stdin.flush()
                    assert process.stdout.readline(), "a handshake failed"
                    spent[address] = (cpu_ns(pid) - before) / given.handshakes / 1e3
                if turn:  # the first one warms up
                    rounds.append((spent[OURS], spent[SWAN]))
            process.stdin.close()
            process.wait(5)
    return {
        "ours_us": round(median(one for one, _ in rounds)),
        "strongswan_us": round(median(other for _, other in rounds)),
        "ratio": round(median(one / other for one, other in rounds), 3),
        "rounds": [round(one / other, 3) for one, other in rounds],
    }


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--handshakes", type=int, default=150)
    words.add_argument("--rounds", type=int, default=9)
    words.add_argument("--auth", default="psk,rsa")
    words.add_argument("--childless", action="store_true", help="IKE alone, without a CHILD_SA")
    words.add_argument("--json", action="store_true")
    words.add_argument("--initiate", default="", help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.initiate:
        initiate(Path(given.initiate), given.auth, given.childless)
        return 0
    if os.geteuid() != 0:
        print("needs root: network namespaces", file=sys.stderr)
        return 2
    results = {}
    for auth in given.auth.split(","):
        row = results[auth] = measure(auth, given)
        if not given.json:
            print(
                f"{auth:4} {'childless' if given.childless else 'with CHILD_SA'}: ours {row['ours_us']} us a handshake, "
                f"strongSwan {row['strongswan_us']} us, ratio {row['ratio']:.2f} (goal 1.00) "
                f"{'met' if row['ratio'] <= 1 else 'MISSED'}   rounds {' '.join(map(str, row['rounds']))}",
                flush=True,
            )
    if given.json:
        print(json.dumps(results))
    return 0 if all(row["ratio"] <= 1 for row in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
