"""Many connections between one of our nodes and strongSwan: each is a tunnel of ours and an address of its own of strongSwan's.

    us: Loopback0 192.0.2.1 --- 198.51.100.2: strongSwan, 192.0.2.N on its loopback
                            --- 198.51.101.2: an older one (see OLD), 192.0.3.N

What a connection is like stands in a `Peer`; both configurations are made of it.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ikev2.pki.authority import key_pem
from stack.lab.namespace import Namespace, World
from tests.conftest import require_tool
from tests.ikev2 import pki
from tests.interop.nodes import Node
from tests.interop.pes import ip
from tests.interop.swan import Swan

__all__ = [
    "CBC128",
    "CBC192",
    "CBC256",
    "CHACHA",
    "DAY",
    "GCM128",
    "GCM256",
    "OLD",
    "US",
    "Bench",
    "Esp",
    "Peer",
    "Pki",
    "benched",
    "both_roles",
    "cabled",
    "our_config",
    "own",
    "swan_config",
    "wait",
]

US = "192.0.2.1"
KEY = "a key for many tests"
DAY = 86400.0

_CIPHERS = {
    "aes128gcm16": "aes-gcm-128",
    "aes256gcm16": "aes-gcm-256",
    "chacha20poly1305": "chacha20-poly1305",
    "aes128": "aes-cbc-128",
    "aes192": "aes-cbc-192",
    "aes256": "aes-cbc-256",
}
_GROUPS = {"x25519": 31, "ecp256": 19, "ecp384": 20, "ecp521": 21, "modp2048": 14, "modp3072": 15, "modp4096": 16}
_HASHES = ("sha256", "sha384", "sha512")

_METHODS = {
    "psk": "pre-share",
    "rsa2048": "rsa-sig",
    "ec256": "ecdsa-sig",
    "ec384": "ecdsa-sig",
    "ed25519": "digital-signature",
}
"""How IOS says what a key is used by."""


@frozen
class Esp:
    """As IOS and as strongSwan write it, and as strongSwan says what it has."""

    transform: str
    proposal: str
    said: str

    def __str__(self) -> str:
        return self.proposal


GCM256 = Esp("esp-gcm 256", "aes256gcm16", "AES_GCM_16-256")
GCM128 = Esp("esp-gcm", "aes128gcm16", "AES_GCM_16-128")
CHACHA = Esp("esp-chacha20-poly1305", "chacha20poly1305", "CHACHA20_POLY1305")
CBC256 = Esp("esp-aes 256 esp-sha256-hmac", "aes256-sha256", "AES_CBC-256/HMAC_SHA2_256_128")
CBC192 = Esp("esp-aes 192 esp-sha384-hmac", "aes192-sha384", "AES_CBC-192/HMAC_SHA2_384_192")
CBC128 = Esp("esp-aes esp-sha512-hmac", "aes128-sha512", "AES_CBC-128/HMAC_SHA2_512_256")


@frozen
class Peer:
    """`number`: of our tunnel, and the last octet of strongSwan's address. `ours`: we ask, else strongSwan does when told.
    `kind`: `psk`, or what key its certificate has. `ike`, `esp`: as strongSwan writes them. `certificate`: file names of its
    own end, if not that of `kind`. The rest: lines that are put in."""

    number: int
    ours: bool = False
    kind: str = "psk"
    ike: str = "aes256gcm16-prfsha384-x25519"
    esp: Esp = GCM256
    old: bool = False
    """Of the other strongSwan."""
    mode: str = "transport"
    """What we ask for; its own ESP can only do tunnel mode, which it then answers."""
    our_kind: str = ""
    our_id: str = "us.example"
    seen: str = ""
    """Where our tunnel leads, if that is not its address: a NAT."""
    identity: str = "fqdn us.example"
    """`our_id` as IOS writes it."""
    match: str = ""
    """How IOS finds it, if not by `fqdn`."""
    auth: str = ""
    certificate: str = ""
    name: str = ""
    secret: str = KEY
    profile: str = ""
    """Lines of our IPsec profile."""
    ike_profile: str = ""
    """Lines of our IKEv2 profile."""
    tunnel: str = ""
    """Lines of our tunnel, instead of its address."""
    connection: str = ""
    """Lines of its connection."""
    child: str = ""
    """Lines of its child."""

    @property
    def id(self) -> str:
        return self.name or f"c{self.number}.example"

    @property
    def address(self) -> str:
        return f"192.0.{3 if self.old else 2}.{self.number}"

    @property
    def tunnel_name(self) -> str:
        return f"Tunnel{self.number}"

    @property
    def conn(self) -> str:
        return f"c{self.number}"

    def sas(self, node: Node) -> list[Any]:
        """Its CHILD_SAs that carry, as our node says them."""
        rows = node.show("show crypto ipsec sa")
        return [row for row in rows if row["identity"] == self.id or row["interface"] == self.tunnel_name]

    def __str__(self) -> str:
        who = "we-ask" if self.ours else "it-asks"
        return f"{self.number}-{self.kind}-{self.ike}-{self.esp}-{who}"


# --- certificates -----------------------------------------------------------------------------------------------------


@frozen
class Pki:
    """A root, and below it an intermediate CA for each end, so that each must send the other a chain."""

    world: pki.World = field(factory=lambda: pki.World("ec256", "interop"))
    ours: Any = field(init=False)
    theirs: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "ours", self.world.authority("Ours"))
        object.__setattr__(self, "theirs", self.world.authority("Theirs"))

    @property
    def root(self) -> bytes:
        return pem_of(self.world.root.chain[-1])

    def ours_into(self, folder: Path, kinds: Iterable[str], revoked: Sequence[int] = ()) -> None:
        """`us-KIND.pem`, `us-KIND.key`, `root.pem` and `all.crl`."""
        for kind in kinds:
            leaf = self.world.leaf("cn=us,o=Interop", kind, of=self.ours, when=time.time(), fqdns=("us.example",))
            own(folder, kind, leaf)
        (folder / "root.pem").write_bytes(self.root)
        (folder / "all.crl").write_bytes(b"".join(self.crls(revoked)))

    def crls(self, revoked: Sequence[int] = ()) -> list[bytes]:
        """PEM, one of each CA; `revoked`: serials of leaves."""
        now = time.time()
        lists = []
        for authority in (self.world.root, self.ours, self.theirs):
            serials = {} if authority is self.world.root else dict.fromkeys(revoked, now - 60)
            der = pki.make_crl(authority, serials, 1, now - 60, days=30.0)
            lists.append(x509.load_der_x509_crl(der).public_bytes(Encoding.PEM))
        return lists

    def leaf(self, kind: str, names: Sequence[str], *, when: float | None = None, **extra: Any) -> pki.Leaf:
        """Of strongSwan's end."""
        moment = time.time() - 60 if when is None else when
        return self.world.leaf(
            f"cn={names[0]},o=Interop", kind, **{"of": self.theirs, "when": moment, "fqdns": tuple(names), **extra}
        )

    def files(
        self, peers: Iterable[Peer], more: dict[str, pki.Leaf] | None = None, revoked: Sequence[int] = ()
    ) -> dict[str, bytes]:
        """Of strongSwan: a certificate for all `peers` of a kind; `more`: by the name of its files."""
        found = dict(more or {})
        for kind in sorted({peer.kind for peer in peers} - {"psk"}):
            found[kind] = self.leaf(kind, [peer.id for peer in peers if peer.kind == kind and not peer.certificate])
        files = {"x509ca/root.pem": self.root, "x509ca/theirs.pem": pem_of(self.theirs.chain[0])}
        for number, crl in enumerate(self.crls(revoked)):
            files[f"x509crl/{number}.pem"] = crl
        for name, leaf in found.items():
            files[f"x509/{name}.pem"] = pem_of(leaf.der)
            files[f"private/{name}.pem"] = key_pem(leaf.key)
        return files


def pem_of(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


def own(folder: Path, name: str, leaf: pki.Leaf) -> None:
    """A certificate of ours for trust point `name`."""
    (folder / f"us-{name}.pem").write_bytes(b"".join(map(pem_of, leaf.chain)))
    key = folder / f"us-{name}.key"
    key.write_bytes(key_pem(leaf.key))
    key.chmod(0o600)


# --- our configuration ------------------------------------------------------------------------------------------------

_HEAD = """hostname us
crypto ikev2 keyring all
 peer all
  address 0.0.0.0 0.0.0.0
  pre-shared-key {key}
 !
"""

_TRUSTPOINT = """crypto pki trustpoint {kind}
 certificate file {folder}/us-{kind}.pem
 key file {folder}/us-{kind}.key
 ca file {folder}/root.pem
 crl file {folder}/all.crl
!
"""

_PEER = """crypto ikev2 profile {conn}
 match {match}
 identity local {identity}
 authentication local {local}
 authentication remote {remote}
 {proof}
{ike_profile}!
crypto ipsec transform-set {conn} {transform}
 mode {mode}
!
crypto ipsec profile {conn}
 set transform-set {conn}
 set ikev2-profile {conn}
{profile}!
"""

_TUNNEL = """interface {tunnel}
 {address}
 tunnel source Loopback0
 tunnel destination {remote}
 tunnel protection ipsec profile {conn}
!
"""

_TAIL = """interface Loopback0
 ip address 192.0.2.1 255.255.255.255
!
interface Ethernet0/0
 ip address 198.51.100.1 255.255.255.0
!
interface Ethernet0/1
 ip address 198.51.101.1 255.255.255.0
!
ip route 192.0.2.0 255.255.255.0 198.51.100.2
ip route 192.0.3.0 255.255.255.0 198.51.101.2
{more}end
"""


def _proposal(number: int, text: str) -> str:
    words = text.split("-")
    lines = {"encryption": _CIPHERS[words[0]]}
    lines["integrity"] = " ".join(word for word in words[1:] if word in _HASHES)
    lines["prf"] = " ".join(word.removeprefix("prf") for word in words if word.startswith("prf"))
    lines["group"] = " ".join(str(_GROUPS[word]) for word in words if word in _GROUPS)
    body = "".join(f" {name} {value}\n" for name, value in lines.items() if value)
    return f"crypto ikev2 proposal p{number}\n{body}!\n"


def _lines(text: str, indent: str = " ") -> str:
    return "".join(f"{indent}{line.strip()}\n" for line in text.strip().splitlines() if line.strip())


def _peer(peer: Peer) -> str:
    kind = peer.our_kind or peer.kind
    profile = _lines(peer.profile) + ("" if peer.ours else " responder-only\n")
    text = _PEER.format(
        conn=peer.conn,
        match=peer.match or f"identity remote fqdn {peer.id}",
        identity=peer.identity,
        local=_METHODS.get(kind, "digital-signature"),
        remote=_METHODS[peer.kind],
        proof="\n ".join(
            "keyring local all" if one == "psk" else f"pki trustpoint {one}" for one in dict.fromkeys((kind, peer.kind))
        ),
        ike_profile=_lines(peer.ike_profile),
        transform=peer.esp.transform,
        mode=peer.mode,
        profile=profile,
    )
    if peer.tunnel == "-":
        return text
    address = peer.tunnel or f"ip address 10.{peer.number}.0.1 255.255.255.252"
    return text + _TUNNEL.format(
        tunnel=peer.tunnel_name, address=address, remote=peer.seen or peer.address, conn=peer.conn
    )


def our_config(peers: Sequence[Peer], folder: Path, more: str = "", offered: Sequence[str] = ()) -> str:
    """`offered`: IKE proposals, first those that we prefer, before those of the peers."""
    proposals = list(dict.fromkeys([*offered, *(peer.ike for peer in peers)]))
    kinds = sorted({peer.our_kind or peer.kind for peer in peers} - {"psk"})
    text = _HEAD.format(key=KEY)
    text += "".join(_proposal(number, one) for number, one in enumerate(proposals))
    text += "crypto ikev2 policy all\n" + "".join(f" proposal p{n}\n" for n in range(len(proposals))) + "!\n"
    text += "".join(_TRUSTPOINT.format(kind=kind, folder=folder) for kind in kinds)
    text += "".join(map(_peer, peers))
    return text + _TAIL.format(more=more)


# --- strongSwan's -----------------------------------------------------------------------------------------------------

_CONNECTION = """  {conn} {{
    version = 2
    local_addrs = {address}
    remote_addrs = {us}
    proposals = {ike}
{connection}    local {{
      auth = {auth}
      id = "{id}"
{certs}    }}
    remote {{
      auth = {remote}
      id = "{our_id}"
    }}
    children {{
      {conn} {{
        mode = tunnel
        local_ts = {address}/32[gre]
        remote_ts = {us}/32[gre]
        esp_proposals = {esp}
{child}      }}
    }}
  }}
"""


def swan_config(peers: Sequence[Peer], more: str = "") -> str:
    connections = "".join(
        _CONNECTION.format(
            conn=peer.conn,
            address=peer.address,
            us=US,
            ike=peer.ike,
            connection=_lines(peer.connection, "    "),
            auth=peer.auth or ("psk" if peer.kind == "psk" else "pubkey"),
            id=peer.id,
            our_id=peer.our_id,
            certs="" if peer.kind == "psk" else f"      certs = {peer.certificate or peer.kind}.pem\n",
            remote="psk" if (peer.our_kind or peer.kind) == "psk" else "pubkey",
            esp=peer.esp.proposal,
            child=_lines(peer.child, "        "),
        )
        for peer in peers
    )
    secrets = "".join(
        f'  ike-{peer.conn} {{\n    id-1 = "{peer.id}"\n    id-2 = "{peer.our_id}"\n    secret = "{peer.secret}"\n  }}\n'
        for peer in peers
        if "psk" in (peer.kind, peer.our_kind)
    )
    return f"connections {{\n{connections}}}\nsecrets {{\n{secrets}}}\n{more}"


# What is protected are packets between the very addresses that speak IKE: its own packets carry a mark, and pass by the routes
# into the tunnel.
SETTINGS = """
  retransmit_timeout = 1.0
  retransmit_base = 1.4
  retransmit_tries = 3
  plugins {{
    kernel-libipsec {{
      allow_peer_ts = yes
    }}
    kernel-netlink {{
      fwmark = !0x42
    }}
    socket-default {{
      fwmark = 0x42
    }}
  }}
{more}
"""


OLD = """
  signature_authentication = no
  cookie_threshold = 1
  fragment_size = 600
"""
"""RSA and ECDSA go by the methods of RFC 7296 and RFC 4754, not by RFC 7427."""


def behind_nat(world: World, peers: Iterable[Peer]) -> tuple[Namespace, Namespace]:
    """`us`, and `far` behind `nat`, which has both of them appear as its own address on the other side, at any port."""
    us, nat, far = world.add("us"), world.add("nat"), world.add("far")
    world.cable(us, "eth0", nat, "eth0")
    world.cable(nat, "eth1", far, "eth0")
    nat.address("eth0", "198.51.100.2/24")
    nat.address("eth1", "198.51.101.1/24")
    nat.sysctl(ipv4__ip_forward=1)
    nat.route("192.0.2.0/24", via="198.51.101.2")
    nat.route(f"{US}/32", via="198.51.100.1")
    far.address("eth0", "198.51.101.2/24")
    far.route("default", via="198.51.101.1")
    for peer in peers:
        for address in filter(None, (peer.address, peer.seen)):
            far.address("lo", f"{address}/32")
    rules = "add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }"
    rules += "; add rule ip nat post masquerade random"
    nat.run(lambda: subprocess.run([require_tool("nft"), rules], check=True, capture_output=True, timeout=10))
    return us, far


def cabled(world: World, peers: Iterable[Peer], *, old: bool = False) -> tuple[Namespace, Namespace]:
    """`us` and `far` (or `old`)."""
    us = world.namespaces.get("us") or world.add("us")
    far = world.add("old" if old else "far")
    number = int(old)
    world.cable(us, f"eth{number}", far, "eth0")
    far.address("eth0", f"198.51.{100 + number}.2/24")
    for peer in peers:
        if peer.old == old:
            far.address("lo", f"{peer.address}/32")
    far.route(f"{US}/32", via=f"198.51.{100 + number}.1")
    return us, far


def both_roles(peer: Peer) -> tuple[Peer, Peer]:
    """The same with us and, one number on, with it as the initiator. `{n}`, `{tens}`, `{ones}` in its words are its number."""
    found = []
    for number, ours in ((peer.number, True), (peer.number + 1, False)):
        own = {"n": number, "tens": number // 10, "ones": number % 10}
        words = {
            name: getattr(peer, name).format(**own)
            for name in ("name", "match", "certificate", "our_id", "identity", "our_kind")
        }
        found.append(evolve(peer, number=number, ours=ours, **words))
    return found[0], found[1]


# --- both at once -----------------------------------------------------------------------------------------------------


@frozen
class Bench:
    world: World
    node: Node
    swans: dict[bool, Swan]
    """By whether it is the old one."""

    def swan(self, peer: Peer) -> Swan:
        return self.swans[peer.old]

    def start(self, peer: Peer, within: int = 10) -> str:
        """strongSwan asks, if it is its turn; what it says of that."""
        if peer.ours:
            return ""
        return self.swan(peer).swanctl("--initiate", "--child", peer.conn, "--timeout", str(within), check=False)

    def start_all(self, peers: Iterable[Peer]) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self.start, peers))

    def up(self, peer: Peer, within: float = 20.0, *, other_than: int = 0) -> Any:
        """Its only CHILD_SA that carries, once there is one (and another than that of this number)."""
        found: list[Any] = []

        def there(_: Any) -> bool:
            found[:] = [row for row in peer.sas(self.node) if row["carries"] and row["number"] != other_than]
            return bool(found)

        self.node.until("show crypto ipsec sa", there, within=within)
        (child,) = found
        return child

    def down(self, peer: Peer, within: float = 20.0) -> str:
        """Why, once nothing stands."""
        self.node.until("show crypto ipsec sa", lambda _: not peer.sas(self.node), within=within)
        return self.reason(peer)

    def ike(self, peer: Peer) -> list[Any]:
        rows = self.node.show("show crypto ikev2 sa")
        return [row for row in rows if row["remote-address"] == (peer.seen or peer.address)]

    def reason(self, peer: Peer) -> str:
        """Why it is not up, as show says."""
        rows = self.node.show(f"show crypto session remote {peer.address}")
        return " ".join(row["reason"] for row in rows)

    def said(self, peer: Peer) -> str:
        return self.swan(peer).swanctl("--list-sas", "--ike", peer.conn)

    def log(self, peer: Peer) -> str:
        """What our node's log has of it."""
        return "\n".join(line for line in self.node.log.read_text().splitlines() if f"remote={peer.address} " in line)

    def its_log(self, peer: Peer, since: int = 0) -> str:
        """What strongSwan's has, from the `since`th character on."""
        log = self.swan(peer).log
        named = re.compile(rf"<{peer.conn}\|(\d+)>")
        numbers = set(named.findall(log))
        lines = log[since:].splitlines()
        return "\n".join(line for line in lines if (found := _NUMBER.search(line)) and found[1] in numbers)

    def its(self, peer: Peer, text: str, *, since: int = 0, within: float = 15.0) -> str:
        """Its log of a connection, once the pattern `text` is in it."""
        log = ""

        def there() -> bool:
            nonlocal log
            log = self.its_log(peer, since)
            return re.search(text, log) is not None

        wait(there, within, lambda: f"strongSwan never said {text!r} of {peer}:\n{log[-2500:]}")
        return log


_NUMBER = re.compile(r"<(?:[\w-]+\|)?(\d+)>")


def wait(holds: Callable[[], Any], within: float = 10.0, why: Callable[[], str] = str) -> None:
    end = time.monotonic() + within
    while not holds():
        assert time.monotonic() < end, why()
        time.sleep(0.05)


def keep_inside(far: Namespace) -> None:
    """A virtual IP is an address of strongSwan's device, whose routes go with its last address: so it has another one. And its
    routes to us go with the first connection that ends, though others need them: GRE is led there in any case."""
    far.address("ipsec0", "203.0.113.1/32")
    ip(far, "rule", "add", "ipproto", "gre", "lookup", "221", "priority", "100")
    ip(far, "route", "add", "default", "dev", "ipsec0", "table", "221")


@contextmanager
def benched(
    folder: Path,
    peers: Sequence[Peer],
    *,
    files: dict[str, bytes] | None = None,
    more: str = "",
    its_more: str = "",
    settings: str = "",
    old: str = "",
    offered: Sequence[str] = (),
    before: Callable[[World, dict[bool, Swan]], None] = lambda _world, _swans: None,
    made: type[Node] = Node,
    nat: bool = False,
) -> Iterator[Bench]:
    """`more`: lines of ours; `its_more`, `settings`: of swanctl.conf and strongswan.conf. `old`: settings of the old one, if
    there is to be one. `before`: called when only strongSwan runs."""
    with World() as world, ExitStack() as stack:
        swans = {}
        for is_old in (False, True) if old else (False,):
            us, far = behind_nat(world, peers) if nat else cabled(world, peers, old=is_old)
            config = swan_config([peer for peer in peers if peer.old == is_old], its_more)
            text = SETTINGS.format(more=old if is_old else settings)
            swans[is_old] = stack.enter_context(Swan(far, folder, config, files=files, settings=text))
            keep_inside(far)
        before(world, swans)
        config = our_config(peers, folder, more, offered)
        bindings = {"Ethernet0/0": "eth0", **({"Ethernet0/1": "eth1"} if old else {})}
        node = stack.enter_context(made(us, config, bindings, folder))
        yield Bench(world, node, swans)
