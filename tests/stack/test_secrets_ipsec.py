"""S03 with IKE and ESP: pre-shared keys, passwords, private keys, shared secrets, SK_* and ESP keys are canaries, and whatever
two whole nodes say, in any form a key could be said in, has none of them.

The nodes shake hands, rekey, fail, are restarted and crash in the middle of keys; their logs are at the lowest level, with
tracebacks; every command is shown as text and as JSON, every metric printed, every row of the bus and every object that can be
reached from a router represented. `show running-config` prints configured keys back, as IOS does; it is the one exception.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import re
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import structlog
from attrs import define, field

from ikev2.crypto import dh, keys
from ikev2.engine.sa import IkeSa
from ikev2.pki.authority import KeyKind, Request, create_root, issue, key_pem, make_key, pem
from ikev2.pki.names import parse_dn
from stack.config import Config
from stack.events import SaState
from stack.ios.checks import check
from stack.ios.command import CommandError
from stack.ios.faults import ConfigError
from stack.ios.printer import running_config
from stack.ios.reader import read
from stack.metrics import node_samples, page
from stack.router import Router
from stack.testing import MemoryNetwork, Recorder, SeededEntropy, VirtualClock, run
from tests.ikev2 import pki
from tunnel.io import esp

OURS = ("stack", "bgp", "ikev2", "mfi", "nhrp", "tunnel")
CANARY = "cAnArY5e7"
PSK = f"{CANARY}-between-both"

OBJECTS, TEXT = 60_000, 4_000
"""Objects that are walked at most, and characters of a repr that are looked at: what is further in has a repr of its own."""


# --- what is secret, and how it would look --------------------------------------------------------------------------------


@define(eq=False)
class Canaries:
    """Every key as it was made, by what it is."""

    found: dict[bytes, str] = field(factory=dict)

    def add(self, what: str, *octets: bytes) -> None:
        for each in octets:
            if len(each) >= 8 and len(set(each)) > 3:
                self.found[bytes(each)] = what

    def needles(self) -> dict[str, str]:
        """Text that would give a key away, or eight octets of it at its beginning or at its end -> what it is."""
        made: dict[str, str] = {}
        for octets, what in self.found.items():
            for part in {octets[:8], octets[-8:]}:
                for form in _forms(part):
                    made[form] = what
            made[str(int.from_bytes(octets))] = what
            # What Base64 makes of nine octets stands there whatever follows.
            made[base64.b64encode(octets[:9]).decode()[:10]] = what
        return made


def _forms(octets: bytes) -> Iterable[str]:
    text = octets.hex()
    yield from (text, text.upper(), octets.hex(":"), octets.hex(" "), octets.hex(" ", 4), octets.hex(":", 2))
    yield repr(octets)[2:-1]
    yield str(list(octets))[1:-1]
    yield octets.decode("latin-1")


class Ear:
    """Everything that anything said."""

    def __init__(self) -> None:
        self.heard: set[str] = set()

    def note(self, *things: object) -> None:
        for thing in things:
            self.heard.add(thing if isinstance(thing, str) else repr(thing))

    def logged(self, logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
        self.note(event)
        if event.get("exc_info"):
            self.note(str(structlog.processors.format_exc_info(logger, method, dict(event))))
        return event

    @property
    def log(self) -> Any:
        level = structlog.make_filtering_bound_logger(0)
        return structlog.wrap_logger(structlog.ReturnLogger(), processors=[self.logged], wrapper_class=level)

    def leaks(self, needles: dict[str, str]) -> set[str]:
        whole = "\n".join(self.heard)
        while "\\\\" in whole:
            whole = whole.replace("\\\\", "\\")  # a repr of a repr of a repr
        found = set()
        for needle, what in needles.items():
            plain = needle.replace("\\\\", "\\")
            if (at := whole.find(plain)) >= 0:
                found.add(f"{what}: ...{whole[max(0, at - 160) : at]}[{plain}]")
        return found


@pytest.fixture
def canaries(monkeypatch: pytest.MonkeyPatch) -> Canaries:
    """All that the key schedule makes is one."""
    held = Canaries()
    held.add("a pre-shared key", PSK.encode())
    held.found[CANARY.encode()] = "a configured secret"

    def recording(module: Any, name: str, what: Callable[[Any], Iterable[bytes]]) -> None:
        made = getattr(module, name)

        def call(*arguments: Any, **named: Any) -> Any:
            result = made(*arguments, **named)
            held.add(name, *what(result))
            return result

        monkeypatch.setattr(module, name, call)

    fields = keys.IkeKeys.__attrs_attrs__  # type: ignore[attr-defined]  # attrs puts it there
    recording(keys, "_cut", lambda made: [getattr(made, each.name) for each in fields])
    recording(keys, "DirectionKeys", lambda made: [made.encryption, made.salt, made.integrity])
    recording(keys, "prf_plus", lambda made: [made])
    recording(keys, "hmac_digest", lambda made: [made])
    for each in vars(dh).values():
        if (
            isinstance(each, type)
            and "shared" in vars(each)
            and each.__module__ == dh.__name__
            and each is not dh.DhKey
        ):
            recording(each, "shared", lambda made: [made])
    return held


# --- where it might be said -----------------------------------------------------------------------------------------------


def walk(root: object, ear: Ear) -> int:
    """Note the repr of every object of ours that can be reached by attributes, containers and closures."""
    seen, queue, noted = {id(root)}, [root], 0
    while queue and len(seen) < OBJECTS:
        thing = queue.pop()
        kind = type(thing)
        if kind.__module__.partition(".")[0] in OURS:
            ear.note(repr(thing)[:TEXT])
            noted += 1
        for part in _parts(thing):
            if id(part) not in seen and not isinstance(
                part, str | bytes | int | float | type | types.ModuleType | None
            ):
                seen.add(id(part))
                queue.append(part)
    return noted


def _parts(thing: object) -> list[object]:
    if isinstance(thing, dict):
        return [*thing.keys(), *thing.values()]
    if isinstance(thing, list | tuple | set | frozenset):
        return list(thing)
    if isinstance(thing, types.FunctionType):
        return [cell.cell_contents for cell in thing.__closure__ or () if cell != types.CellType()]
    if isinstance(thing, types.MethodType):
        return [thing.__self__, thing.__func__]
    names = {name for kind in type(thing).__mro__ for name in _slots(kind)}
    return [*getattr(thing, "__dict__", {}).values(), *(getattr(thing, name, None) for name in names)]


def _slots(kind: type) -> Iterable[str]:
    slots = vars(kind).get("__slots__", ())
    return [slots] if isinstance(slots, str) else slots


def show_everything(router: Router, ear: Ear) -> int:
    """Every command but `show running-config`, with optional words left out and put in; the answer as text, JSON and repr."""
    asked = 0
    syntaxes = {c.syntax for spec in router.specs for c in spec.commands} | {"show bus", "show processes"}
    for syntax in sorted(syntaxes):
        whole = re.sub(r"\{[^}]*\}", "1", syntax.replace("[", "").replace("]", ""))
        for line in {syntax.split("[")[0].split("{")[0].strip(), whole}:
            if not line.startswith(("show ", "debug ")) or line.startswith("show running-config"):
                continue
            asked += 1
            try:
                shown = router.execute(line)
            except CommandError as error:
                ear.note(str(error), error)
            else:
                ear.note(shown.text, shown.value, json.dumps(shown.value, default=repr))
    return asked


def everything(nodes: Nodes) -> None:
    ear = nodes.ear
    for recorder in nodes.recorders:
        ear.note(*recorder.messages)
        recorder.messages.clear()
    for router in nodes.routers:
        assert show_everything(router, ear) > 40
        assert walk(router, ear) > 2000
        ear.note(page(node_samples(router)).decode())
        for spec in router.specs:
            ear.note(spec)
        for use in router.bus.snapshot():
            ear.note(use)
        for topic in {topic for spec in router.specs for topic in spec.produces}:
            if not isinstance(topic, type):
                ear.note(router.bus.rows(topic))
        for table in vars(router.tables).values() if hasattr(router.tables, "__dict__") else _parts(router.tables):
            ear.note(table)
        for sa in router.tables.sad.inbound.values():
            ear.note(sa, sa.use, sa.use.handle)
        for bundle in router.tables.sad:
            ear.note(bundle, bundle.outbound, bundle.outbound.use.handle if bundle.outbound else None)
    ear.note(*asyncio.all_tasks())


# --- the nodes ------------------------------------------------------------------------------------------------------------


def text(number: int, credentials: str) -> str:
    other = 3 - number
    return f"""hostname n{number}
enable secret {CANARY}-enable
!
{credentials}!
crypto ipsec profile p
 set pfs group19
 set ikev2-profile p
!
interface Ethernet0/0
 ip address 192.0.2.{number} 255.255.255.0
!
interface Tunnel0
 ip address 10.0.0.{number} 255.255.255.252
 tunnel source Ethernet0/0
 tunnel destination 192.0.2.{other}
 tunnel protection ipsec profile p
!
router bgp 65000
 neighbor 10.0.0.{other} remote-as 65000
 neighbor 10.0.0.{other} password {CANARY}-bgp
 neighbor 10.0.0.{other} timers 1 3
!
end
"""


def by_psk(number: int) -> str:
    other = 3 - number
    return f"""crypto ikev2 keyring k
 peer other
  address 192.0.2.{other}
  pre-shared-key {PSK}
 peer nobody
  address 192.0.2.99
  pre-shared-key local {CANARY}-local
  pre-shared-key remote {CANARY}-remote
!
crypto ikev2 profile p
 match identity remote address 192.0.2.{other}
 authentication remote pre-share
 authentication local pre-share
 keyring local k
 dpd 2 2 periodic
!
crypto ikev2 profile unused
 match identity remote address 192.0.2.98
 authentication remote pre-share key {CANARY}-inline-remote
 authentication local pre-share key {CANARY}-inline-local
!
"""


def by_certificate(number: int, folder: Path) -> str:
    other = 3 - number
    return f"""crypto pki trustpoint t
 enrollment terminal
 password {CANARY}-challenge
 certificate file {folder}/n{number}.pem
 key file {folder}/n{number}.key
 ca file {folder}/ca.pem
 revocation-check none
!
crypto pki certificate map m 10
 subject-name co cn = n{other}
!
crypto ikev2 profile p
 match certificate m
 identity local dn
 authentication remote {"ecdsa-sig" if number == 2 else "rsa-sig"}
 authentication local {"ecdsa-sig" if number == 1 else "rsa-sig"}
 pki trustpoint t
 dpd 2 2 periodic
!
"""


def certificates(folder: Path, canaries: Canaries) -> None:
    entropy = SeededEntropy("pki")
    when = VirtualClock().epoch - 1000
    ca = create_root(parse_dn("CN=ca"), make_key(KeyKind.EC256, entropy), 1, when)
    (folder / "ca.pem").write_bytes(pem(ca.chain[0], "CERTIFICATE"))
    for number, key in ((1, make_key(KeyKind.EC256, entropy)), (2, pki.key("rsa2048", "n2"))):
        chain = issue(ca, key.public_key(), Request(parse_dn(f"CN=n{number}")), 1 + number, when)
        (folder / f"n{number}.pem").write_bytes(b"".join(pem(each, "CERTIFICATE") for each in chain[:1]))
        written = key_pem(key)
        file = folder / f"n{number}.key"
        file.write_bytes(written)
        file.chmod(0o600)
        numbers: Any = key.private_numbers()
        for name in ("private_value", "d", "p", "q"):
            if (value := getattr(numbers, name, None)) is not None:
                canaries.add(f"{name} of a private key", value.to_bytes((value.bit_length() + 7) // 8))
                canaries.found[str(value).encode()] = f"{name} of a private key, in decimal"
        for line in written.splitlines()[1:-1]:
            canaries.found[line[:24]] = "a line of a private key's file"


@define(eq=False)
class Nodes:
    ear: Ear
    texts: list[str]
    world: MemoryNetwork = field(factory=lambda: MemoryNetwork(seed=1))
    routers: list[Router] = field(factory=list)
    recorders: list[Recorder] = field(factory=list)

    async def start(self) -> None:
        self.world.link(("n1", "e0"), ("n2", "e0"))
        for number, configuration in enumerate(self.texts, 1):
            config = Config.from_ios(configuration, source=f"n{number}")
            walk(config, self.ear)
            router = Router(
                config,
                network=self.world.node(f"n{number}"),
                clock=VirtualClock(),
                entropy=SeededEntropy(f"n{number}"),
                bindings={"Ethernet0/0": "e0"},
                log=self.ear.log,
            )
            self.routers.append(router)
            await router.start()
            kinds = tuple({topic for spec in router.specs for topic in spec.produces})
            self.recorders.append(Recorder(router.bus, kinds))
            router.execute("debug crypto ikev2")
        await self.up()

    async def up(self, within: float = 30.0) -> None:
        end = asyncio.get_running_loop().time() + within
        while not all(any(b.outbound for b in router.tables.sad) for router in self.routers):
            assert asyncio.get_running_loop().time() < end, self.states()
            await asyncio.sleep(0.1)

    def states(self) -> list[Any]:
        return [router.bus.rows(SaState) for router in self.routers]

    def service(self, number: int) -> Any:
        return self.routers[number - 1].service("ikev2")

    async def stop(self) -> None:
        for router in self.routers:
            await router.stop()
        self.world.close()


@pytest.mark.parametrize("credentials", ["pre-shared key", "certificates"])
def test_S03_no_key_is_ever_said(credentials: str, canaries: Canaries, tmp_path: Path) -> None:
    if credentials == "certificates":
        certificates(tmp_path, canaries)
        texts = [text(n, by_certificate(n, tmp_path)) for n in (1, 2)]
    else:
        texts = [text(n, by_psk(n)) for n in (1, 2)]
    ear = Ear()

    async def main() -> None:
        nodes = Nodes(ear, texts)
        await nodes.start()
        everything(nodes)
        await rekeys(nodes)
        await crashes(nodes)
        await failures(nodes)
        everything(nodes)
        await nodes.stop()
        ear.note(*nodes.routers)

    run(main())
    kinds = set(canaries.found.values())
    assert {"_cut", "DirectionKeys", "prf_plus", "shared", "hmac_digest"} <= kinds
    assert len(canaries.found) > 100
    assert any("service ended" in said for said in ear.heard)
    assert any("CREATE_CHILD_SA" in said for said in ear.heard), "debugging was on"
    assert ear.leaks(canaries.needles()) == set()
    gc.collect()


async def rekeys(nodes: Nodes) -> None:
    for sa in [b.outbound for router in nodes.routers for b in router.tables.sad if b.outbound]:
        sa.use.packets = max(sa.use.packets, sa.soft_packets - 1)
    await asyncio.sleep(10)
    node = nodes.service(1).speaker.node
    for peer in list(node.living):
        peer.sa.rekey_at = node.now  # of the IKE SA
    nodes.service(1).rearm()
    await asyncio.sleep(20)
    await nodes.up()


async def crashes(nodes: Nodes) -> None:
    """On the way out of functions that have keys in their hands."""
    ear = nodes.ear
    sa = next(b.outbound for b in nodes.routers[0].tables.sad if b.outbound)
    for name, key in (
        ("ikev2", PSK.encode()),
        ("forwarder", sa.encryption),
        ("tunnel", sa.encryption),
        ("bgp", PSK.encode()),
    ):
        service: Any = nodes.routers[0].service(name)
        service.guarded(_breaks)(key, sa)
        await asyncio.sleep(6)
    await nodes.up(60)
    # A sealer that fails with all that it knows: the forwarder ends, and what waited is lost.
    bundle = next(iter(nodes.routers[0].tables.sad))
    assert bundle.outbound is not None
    await nodes.world.node("n1").ping("10.0.0.2", count=1, timeout=0.5)
    handle = bundle.outbound.use.handle
    assert isinstance(handle, esp.Sealer)

    def seal(octets: Any, view: Any, parts: Any, origin: int, count: int, sequence: int) -> None:
        key, salt = handle.sa.encryption, handle.sa.salt
        raise KeyError(len(key), len(salt))

    handle.seal = seal
    await nodes.world.node("n1").ping("10.0.0.2", count=1, timeout=0.5)
    await asyncio.sleep(8)
    # An IKE SA that fails in the middle of an exchange.
    with mock.patch.object(IkeSa, "receive", _breaks_with_keys):
        nodes.routers[0].execute("clear crypto ikev2 sa")
        await asyncio.sleep(15)
    ear.note(*(str(process) for router in nodes.routers for process in router.processes()))
    await nodes.up(90)


def _breaks_with_keys(sa: IkeSa, *_arguments: object) -> list[Any]:
    raise ValueError(sa.keys.d if sa.keys else sa)


def _breaks(key: bytes, *_more: object) -> None:
    secret = key  # a traceback with locals would show it
    {}["nothing of this name"]
    del secret


async def failures(nodes: Nodes) -> None:
    """Another key at one end, configurations that are refused, and one end that stops answering."""
    good = nodes.texts[0]
    for bad in (good.replace(PSK, f"{CANARY}-another"), good.replace("cn = n2", "cn = somebody")):
        if bad != good:
            nodes.routers[0].apply(Config.from_ios(bad, source="n1"))
            nodes.routers[0].execute("clear crypto ikev2 sa")
            await asyncio.sleep(8)
            everything(nodes)
            nodes.routers[0].apply(Config.from_ios(good, source="n1"))
    await asyncio.sleep(70)
    await nodes.up(60)
    nodes.world.links[0].cut()
    await asyncio.sleep(25)
    nodes.world.links[0].heal()
    await asyncio.sleep(70)
    await nodes.up(60)


# --- what is refused, and whether the ear would hear ----------------------------------------------------------------------


FAULTY = (
    "crypto ikev2 keyring k\n peer a\n  pre-shared-keyy {}\n",
    "crypto ikev2 keyring k\n peer a\n  pre-shared-key hex {}\n",
    "crypto ikev2 keyring k\n peer a\n  pre-shared-key local 6 {}\n",
    "crypto ikev2 profile p\n authentication remote pre-shared {}\n",
    "crypto ikev2 profile p\n authentication local preshare key {}\n",
    "crypto pki trustpoint t\n passwrd {}\n",
    "crypto isakmp key {} address 192.0.2.1\n",
    "crypto isakmp key 0 {} hostname x\n",
    "pre-shared-key {}\n",
    "enable secret 5 {}\n",
    "enable passwort {}\n",
    "router bgp 1\n neighbor 192.0.2.1 pasword {}\n",
    "username admin privilege 15 secret {}\n",
    "ip nhrp authentication {}\n",
)


@pytest.mark.parametrize("faulty", FAULTY)
def test_S03_a_faulty_line_is_shown_without_the_secret_in_it(faulty: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_ios(faulty.format(CANARY), source="n")
    assert CANARY not in str(caught.value)
    assert CANARY not in repr(caught.value)


def test_S03_the_ear_hears_every_form(canaries: Canaries) -> None:
    """A leak of each form would be found: else the tests above prove nothing."""
    key = bytes(range(60, 92))
    canaries.add("a key", key)
    needles = canaries.needles()
    for said in (
        {"key": key},
        f"sa = {key.hex()}",
        f"{key.hex(':')}",
        base64.b64encode(key).decode(),
        [list(key)],
        {"text": repr({"deep": repr(key)})},
        {"half": key[-8:]},
        f"psk {PSK}",
        types.SimpleNamespace(a=[key]),
    ):
        ear = Ear()
        ear.note(said)
        assert ear.leaks(needles), said
    silent = Ear()
    silent.note({"spi": 0x12345678, "octets": bytes(16)})
    assert silent.leaks(needles) == set()


def test_S03_other_services_lines_are_kept_and_shown_without_their_secrets() -> None:
    """Lines that mean nothing here are printed back by `show running-config` alone."""
    line = f"snmp-server community {CANARY} ro"
    reading = read(f"hostname n\n{line}\nsnmp-server user me all v3 auth sha {CANARY}\nend\n", "n")
    assert CANARY not in repr(reading)
    assert CANARY not in repr(reading.config)
    assert CANARY not in "".join(map(str, (*reading.no_effect, *check(reading))))
    assert line in running_config(reading.config)
