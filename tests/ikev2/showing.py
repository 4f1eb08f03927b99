"""A speaker's snapshot with something of everything, for the tests of what is shown."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from ikev2.config import Dpd
from ikev2.engine.contract import Ends
from ikev2.engine.snapshot import (
    AdmissionSnapshot,
    ChildSnapshot,
    EspSnapshot,
    IkeSnapshot,
    IkeStatus,
    LeaseSnapshot,
    PoolSnapshot,
    ProfileSnapshot,
    SpeakerSnapshot,
    TrustpointSnapshot,
    WantSnapshot,
)
from ikev2.pki.authority import KeyKind, Request, create_root, issue, make_key
from ikev2.pki.certificate import parse_certificate
from ikev2.pki.names import parse_dn
from stack.addr import Prefix
from stack.addr import parse_address as a
from stack.esp import Cipher, EspForm, Integrity, Selector
from stack.events import SaKey
from stack.testing import SeededEntropy

NOW, WALL = 1_000.0, 1_750_000_000.0
US, PEER, FAR = a("198.51.100.1"), a("203.0.113.9"), a("203.0.113.77")
GCM, CBC = EspForm(Cipher.AES_GCM_256), EspForm(Cipher.AES_CBC_256, Integrity.HMAC_SHA2_256_128, udp=True)


def host(address: bytes) -> Selector:
    return Selector(address, address, 47)


def esp(spi: int, remote: bytes, form: EspForm = GCM, **more: Any) -> EspSnapshot:
    said: dict[str, Any] = {
        "esn": True,
        "window": 128,
        "ports": (4500, 4501) if form.udp else (0, 0),
        "own": (host(US),),
        "far": (host(remote),),
        "hard_packets": 0,
        "hard_octets": 4_608_000 * 1024,
        "hard_time": NOW + 3210.0,
        "sequence": 41,
        "packets": 41,
        "octets": 5000,
        "last": NOW - 3.0,
        "integrity_failures": 0,
        "replays": 0,
        "refused": 0,
    }
    return EspSnapshot(spi, US, remote, form, **{**said, **more})


TUNNEL = ChildSnapshot(
    SaKey("Tunnel7"),
    21,
    3,
    carries=True,
    inbound=esp(0x1234ABCD, PEER, packets=17, integrity_failures=2, replays=3, refused=1),
    outbound=esp(0x0BADF00D, PEER),
    since=NOW - 390.0,
    profile="core",
    identity="west.example.net",
    group=19,
)
ACCESS = ChildSnapshot(
    SaKey("Virtual-Access1"),
    22,
    4,
    carries=True,
    inbound=esp(0x22222222, FAR, CBC, hard_octets=0),
    outbound=esp(0x33333333, FAR, CBC, hard_octets=0),
    since=NOW - 90_000.0,
    profile="core",
    identity="east.example.net",
)
READY = IkeSnapshot(
    3,
    initiator=True,
    status=IkeStatus.READY,
    description="established",
    ends=Ends(US, PEER),
    local_spi=bytes.fromhex("1122334455667788"),
    remote_spi=bytes.fromhex("99AABBCCDDEEFF00"),
    since=NOW - 401.0,
    established=NOW - 400.0,
    profile="branch",
    local_identity="hub.example.net",
    remote_identity="west.example.net",
    encryption="aes-gcm-256",
    prf="sha384",
    group=20,
    children=(TUNNEL,),
    auth_local="PSK",
    auth_remote="PSK",
    dpd=Dpd(45, 3),
    fragmentation=True,
    fragmentation_mtu=576,
    next_request=5,
    next_expected=2,
    window=4,
    interface="Tunnel7",
    pushed=(a("10.64.0.9"),),
    remote_subnets=(Prefix.parse("10.64.0.1/32"),),
    refused_subnets={Prefix.parse("0.0.0.0/0"): "too wide"},
    banner="be kind",
    def_domain="example.net",
    dns=(a("10.64.0.53"),),
    flexvpn=True,
)
HUB = evolve(
    READY,
    number=4,
    initiator=False,
    ends=Ends(US, FAR, 4500, 4501),
    remote_identity="east.example.net",
    encryption="aes-cbc-128",
    integrity="sha256",
    prf="sha256",
    group=31,
    children=(ACCESS,),
    auth_local="RSA",
    auth_remote="ECDSA",
    dpd=None,
    fragmentation=False,
    nat_remote=True,
    interface="Virtual-Access1",
    template=1,
    assigned=(a("10.64.0.10"),),
    pushed=(),
    remote_subnets=(),
    refused_subnets={},
    banner="",
    def_domain="",
    dns=(),
)
YOUNG = IkeSnapshot(
    9,
    initiator=True,
    status=IkeStatus.NEGOTIATING,
    description="IKE_SA_INIT sent",
    ends=Ends(US, a("203.0.113.5")),
    local_spi=b"\1" * 8,
    remote_spi=bytes(8),
    since=NOW - 2.0,
    profile="branch",
    interface="Tunnel12",
)
WANTS = (
    WantSnapshot(SaKey("Tunnel7"), "core", US, PEER, up=True, state="up"),
    WantSnapshot(SaKey("Tunnel12"), "core", US, a("203.0.113.5"), up=False, state="no answer", attempts=2),
)
POOLS = (
    PoolSnapshot(
        "spokes",
        a("10.64.0.2"),
        a("10.64.0.99"),
        98,
        1,
        (
            LeaseSnapshot(a("10.64.0.10"), "east.example.net", in_use=True, since=NOW - 50.0),
            LeaseSnapshot(a("10.64.0.11"), "gone.example.net", in_use=False, since=NOW - 70.0),
        ),
    ),
    PoolSnapshot("six", a("2001:db8:9::"), a("2001:db8:9::ff"), 256, 0),
)
ADMISSION = AdmissionSnapshot(
    sas=3,
    half_open=2,
    challenge=60,
    max_in_negotiation=700,
    max_sa=0,
    sources=2,
    challenging=True,
    cookies_sent=8,
    cookies_accepted=5,
    cookies_refused=1,
    counters={"too many SAs": 4, "cookie sent": 8},
)


def trustpoint() -> TrustpointSnapshot:
    """Made anew: certificates of a root and of one that it issued."""
    entropy = SeededEntropy("show")
    root = create_root(parse_dn("cn=Lab Root,o=Example Org"), make_key(KeyKind.EC256, entropy), 0x15, WALL - 1000.0)
    key = make_key(KeyKind.EC256, entropy)
    request = Request(parse_dn("cn=hub.example.net,ou=Edge,o=Example Org"), fqdns=("hub.example.net",))
    own = issue(root, key.public_key(), request, 0xABC, WALL - 500.0)
    return TrustpointSnapshot(
        "LAB", "", tuple(map(parse_certificate, own)), (parse_certificate(root.chain[0]),), ("crl", "none")
    )


def snapshot(**changed: Any) -> SpeakerSnapshot:
    said: dict[str, Any] = {
        "ikes": (HUB, READY, YOUNG),
        "children": (ACCESS, TUNNEL),
        "wants": WANTS,
        "accesses": (),
        "pools": POOLS,
        "overlay": (),
        "profiles": (ProfileSnapshot("branch", "keyring KR does not exist"),),
        "trustpoints": (),
        "admission": ADMISSION,
        "counters": {"initiated": 6, "accepted": 11, "failed": 2, "rekeyed": 1},
    }
    return SpeakerSnapshot(NOW, WALL, **{**said, **changed})
