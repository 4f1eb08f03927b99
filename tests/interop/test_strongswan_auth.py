"""strongSwan and one of our nodes prove themselves to each other: every kind of proof, in both roles, and every way to fail.

Two strongSwans: one of today, and one without RFC 7427's signatures, which asks for cookies and sends everything in fragments.
All connections are set up at once; each test looks at one of them.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve, frozen

from stack.lab.namespace import World
from tests.conftest import require_root
from tests.ikev2 import pki
from tests.ikev2.swan_vectors import SA_INIT_REQUEST
from tests.interop.strongswan import (
    CBC128,
    CBC192,
    CBC256,
    CHACHA,
    DAY,
    GCM128,
    OLD,
    Bench,
    Peer,
    Pki,
    benched,
    both_roles,
    own,
    wait,
)
from tests.interop.swan import Swan

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.slow]

KINDS = ("rsa2048", "ec256", "ec384", "ed25519")
FORCED = "fragmentation = force"

KINDS_OF_PROOF = [
    Peer(0),
    Peer(0, kind="rsa2048", ike="aes128gcm16-prfsha256-ecp256", esp=GCM128),
    Peer(0, kind="rsa2048", ike="aes256-sha512-modp2048", esp=CBC128, auth="rsa/pss-sha256"),
    Peer(0, kind="ec256", ike="chacha20poly1305-prfsha512-ecp384", esp=CHACHA),
    Peer(0, kind="ec384", ike="aes192-sha384-ecp521", esp=CBC192, connection=FORCED),
    Peer(0, kind="ed25519", ike="aes256-sha256-modp3072", esp=CBC256),
    Peer(0, our_kind="rsa2048", ike="aes128-sha256-x25519"),
    Peer(0, name="somebody@c{n}.example", match="identity remote email domain c{n}.example"),
    Peer(0, name="192.0.2.{n}", match="identity remote address 192.0.2.{n} 255.255.255.255"),
    Peer(0, name="@#6b3{tens}3{ones}", match="identity remote key-id k{n}", our_id="@#7573", identity="key-id us"),
    Peer(
        0,
        kind="ec256",
        name="O=Interop, CN=dn{n}",
        certificate="dn{n}",
        match="certificate dn{n}",
        our_id="O=Interop, CN=us",
        identity="dn",
    ),
    Peer(0, old=True, kind="rsa2048", connection=FORCED),
    Peer(0, old=True, kind="ec256", connection=FORCED),
    Peer(0, old=True, kind="ec384", connection=FORCED),
    Peer(0, old=True),
]

WELL = [each for n, one in enumerate(KINDS_OF_PROOF) for each in both_roles(evolve(one, number=10 + 2 * n))]
"""Connections that come up: with an even number we ask, with an odd one strongSwan."""


@frozen
class Fault:
    """What is wrong with a connection. `reason`: what our log says when it is us who refuse; '': strongSwan does."""

    peer: Peer
    reason: str = ""
    asked: str = ""
    """`reason` when strongSwan asks, if that is another."""
    theirs: str = ""
    """What strongSwan says, when it refuses."""

    def __str__(self) -> str:
        return str(self.peer.certificate or self.peer.our_kind or "secret") + (
            "-we-ask" if self.peer.ours else "-it-asks"
        )


FAULTS = [
    Fault(
        Peer(100, secret="another key", our_id="us{n}.example", identity="fqdn us{n}.example"),
        "",
        "differ",
        "MAC mismatched",
    ),
    Fault(Peer(102, kind="ec256", certificate="stranger"), "issuer"),
    Fault(Peer(104, kind="ec256", certificate="expired"), "expired"),
    Fault(Peer(106, kind="ec256", certificate="revoked"), "revoked"),
    Fault(Peer(108, kind="ec256", our_kind="revoked"), theirs="certificate was revoked"),
    Fault(Peer(110, kind="ec256", our_kind="expired"), theirs="subject certificate invalid"),
    Fault(Peer(112, kind="ec256", our_kind="stranger"), theirs="no issuer certificate found"),
]
BAD = [evolve(fault, peer=peer) for fault in FAULTS for peer in both_roles(fault.peer)]
MAPS = "".join(
    f"crypto pki certificate map {peer.certificate} 10\n subject-name co cn = {peer.certificate}\n!\n"
    for peer in WELL
    if peer.match.startswith("certificate")
)

DOOR = """connections {
  door {
    local_addrs = 198.51.101.2
    proposals = aes256gcm16-prfsha384-x25519
    remote {
      auth = psk
    }
  }
}
"""
"""Where a stranger can begin."""


def bad_ones(authority: Pki, folder: Path) -> tuple[dict[str, pki.Leaf], tuple[int, ...]]:
    """Certificates of its end with a fault, and the serials that are revoked; those of ours go into `folder`."""
    names = [fault.peer.id for fault in BAD]
    other = pki.World("ec256", "other")
    now = time.time()
    leaves = {
        "stranger": other.leaf("cn=stranger,o=Interop", of=None, when=now - 60, fqdns=tuple(names)),
        "expired": authority.leaf("ec256", names, when=now - 100 * DAY, days=99.0),
        "revoked": authority.leaf("ec256", names),
    }
    ours = {
        "stranger": other.leaf("cn=us the stranger,o=Interop", of=None, when=now - 60, fqdns=("us.example",)),
        "expired": authority.world.leaf(
            "cn=us the late,o=Interop", of=authority.ours, when=now - 100 * DAY, days=99.0, fqdns=("us.example",)
        ),
        "revoked": authority.world.leaf(
            "cn=us the bad,o=Interop", of=authority.ours, when=now - 60, fqdns=("us.example",)
        ),
    }
    for name, leaf in ours.items():
        own(folder, name, leaf)
    revoked = (leaves["revoked"].serial, ours["revoked"].serial)
    authority.ours_into(folder, KINDS, revoked)
    for peer in WELL:
        if peer.certificate:
            leaves[peer.certificate] = authority.world.leaf(
                f"cn={peer.certificate},o=Interop", of=authority.theirs, when=now - 60
            )
    return leaves, revoked


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    require_root()
    folder = tmp_path_factory.mktemp("auth")
    peers = [*WELL, *(fault.peer for fault in BAD)]
    authority = Pki()
    more, revoked = bad_ones(authority, folder)
    files = authority.files(peers, more, revoked)
    more_lines = f"crypto ikev2 allow sha1\n{MAPS}"
    with benched(folder, peers, files=files, more=more_lines, its_more=DOOR, old=OLD, before=half_open) as bench:
        bench.start_all(peers)
        yield bench


def half_open(world: World, swans: dict[bool, Swan]) -> None:
    """Somebody begins and never comes back: from now on, and for a while after, the old one asks everybody for a cookie."""
    with world.namespaces["old"].socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(SA_INIT_REQUEST, ("198.51.101.2", 500))
    swans[True].until("generating IKE_SA_INIT response")


SIGNED = {
    "psk": ("PSK", "pre-shared key"),
    "rsa2048": ("RSA", "RSA_EMSA_PKCS1_SHA2_256"),
    "ec256": ("ECDSA", "ECDSA_WITH_SHA256_DER"),
    "ec384": ("ECDSA", "ECDSA_WITH_SHA384_DER"),
    "ed25519": ("Ed25519", "ED25519"),
}
"""By kind of key: what our node calls it, and strongSwan."""

BY_THE_OLD_METHODS = {"psk": "pre-shared key", "rsa2048": "RSA sig", "ec256": "ECDSA-256 sig", "ec384": "ECDSA-384 sig"}
GROUPS = {"x25519": 31, "ecp256": 19, "ecp384": 20, "ecp521": 21, "modp2048": 14, "modp3072": 15}


def proofs(peer: Peer) -> tuple[str, str]:
    """What strongSwan calls our proof, and its own."""
    ours, theirs = (
        (BY_THE_OLD_METHODS[kind] if peer.old else SIGNED[kind][1]) for kind in (peer.our_kind or peer.kind, peer.kind)
    )
    return ours, "RSA_EMSA_PSS" if "pss" in peer.auth else theirs


@pytest.mark.parametrize("peer", WELL, ids=str)
def test_proved(bench: Bench, peer: Peer) -> None:
    """Both ends say who the other is, how it was proved, and what was agreed."""
    bench.node.until("show crypto ipsec sa", lambda _: peer.sas(bench.node), within=20)
    (child,) = peer.sas(bench.node)
    (ike,) = [row for row in bench.node.show("show crypto ikev2 sa") if row["number"] == child["ike"]]
    assert (ike["status"], ike["initiator"]) == ("READY", peer.ours)
    assert ike["group"] == GROUPS[peer.ike.rpartition("-")[2]]
    assert (ike["auth-local"], ike["auth-remote"]) == tuple(
        SIGNED[kind][0] for kind in (peer.our_kind or peer.kind, peer.kind)
    )
    assert child["carries"]
    assert child["outbound"]["mode"] == "tunnel"  # which is all that its ESP can do, though we ask for transport
    said = bench.swan(peer).swanctl("--list-sas", "--ike", peer.conn)
    assert "ESTABLISHED" in said
    assert f"INSTALLED, TUNNEL-in-UDP, ESP:{peer.esp.said}\n" in said
    log = bench.its_log(peer)
    ours, theirs = proofs(peer)
    assert re.search(rf"authentication of '{re.escape(plain(peer.our_id))}' with {ours}.* successful", log), log
    assert re.search(rf"authentication of '{re.escape(plain(peer.id))}' \(myself\) with {theirs}", log), log


def plain(identity: str) -> str:
    """As strongSwan writes an identity."""
    return bytes.fromhex(identity[2:]).decode() if identity.startswith("@#") else identity


@pytest.mark.parametrize("peer", [peer for peer in WELL if peer.old], ids=str)
def test_cookies_and_fragments_are_asked_for(bench: Bench, peer: Peer) -> None:
    log = bench.its_log(peer)
    assert ("parsed IKE_SA_INIT request 0 [ N(COOKIE)" in log) == peer.ours
    if peer.kind != "psk":
        assert re.search(r"generating IKE_AUTH (request|response) 1 \[ EF\(\d/\d\) \]", log)
        assert re.search(r"parsed IKE_AUTH (request|response) 1 \[ EF\(\d/\d\) \]", log)
        assert "reassembled fragmented IKE message" in log


@pytest.mark.parametrize("fault", BAD, ids=str)
def test_refused(bench: Bench, fault: Fault) -> None:
    """Whoever refuses says AUTHENTICATION_FAILED and no more to the other; ours says why in log and show."""
    peer, reason = fault.peer, fault.reason
    if not peer.ours and fault.asked:
        reason = fault.asked
    wait(lambda: (reason or "AUTHENTICATION_FAILED") in bench.log(peer))
    assert (reason or "AUTHENTICATION_FAILED") in bench.reason(peer)
    assert not [row for row in peer.sas(bench.node) if row["carries"]]
    log = bench.its_log(peer)
    if reason:
        assert re.search(r"parsed \S+ (request|response) \d \[ N\(AUTH_FAILED\) \]", log)
    else:
        assert re.search(r"generating \S+ (request|response) \d \[ N\(AUTH_FAILED\) \]", log)
        assert fault.theirs in log
