"""Ikev2Service on the virtual loop and the in-memory network: real UDP datagrams, real files, no real time."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import structlog
from attrs import evolve

from ikev2.config import AuthMethod, IkeProfile, Ikev2Config, IpsecProfile, Trustpoint
from ikev2.engine.contract import AccessRequest, Grant, Refusal
from ikev2.events import ChildSaUp, IkeSaUp, PeerRefused
from ikev2.pki.authority import key_pem, pem
from ikev2.pki.certificate import parse_certificate
from ikev2.service import AUTHORISE_WITHIN, DATAGRAMS_A_TURN, RETRY, SERVICE, Ikev2Service, check_files
from ikev2.wire.payloads import Attribute
from stack.addr import parse_address
from stack.bus import Bus
from stack.events import (
    AccessWanted,
    AddressOffered,
    Interface,
    InterfaceKind,
    InterfaceRow,
    InterfaceState,
    ProtectedRow,
    RouteOffered,
    SaKey,
    SaRequest,
    SaState,
    SaWanted,
    TunnelProtected,
)
from stack.service import Context, Supervisor
from stack.testing import MemoryNetwork, MemoryNode, Recorder, VirtualClock, run
from tests.ikev2 import pki
from tests.ikev2.nodes import EPOCH, anybody, psk, psk_config

A, B = parse_address("192.0.2.1"), parse_address("192.0.2.2")
KEY = SaKey("Tunnel0")


def two_hosts() -> MemoryNetwork:
    world = MemoryNetwork(seed=3)
    world.link(("a", "eth0"), ("b", "eth0"))
    world.node("a").address("eth0", "192.0.2.1/24")
    world.node("b").address("eth0", "192.0.2.2/24")
    return world


class Log:
    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []

    def logged(self, _logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
        self.said.append({**event, "level": method})
        return event

    @property
    def log(self) -> Any:
        level = structlog.make_filtering_bound_logger(0)
        return structlog.wrap_logger(structlog.ReturnLogger(), processors=[self.logged], wrapper_class=level)

    def events(self, level: str = "") -> list[str]:
        return [said["event"] for said in self.said if not level or said["level"] == level]


class Rig:
    """A node of the in-memory world with ikev2 on it, and what tunnel and routing would say."""

    def __init__(self, node: MemoryNode, config: Ikev2Config, **more: Any) -> None:
        self.node, self.config = node, config
        self.bus, self.ear = Bus(), Log()
        self.context = Context(
            bus=self.bus, network=node, clock=VirtualClock(epoch=EPOCH), entropy=node.entropy, log=self.ear.log
        )
        self.recorder = Recorder(self.bus, (SaState, AccessWanted, AddressOffered, IkeSaUp, ChildSaUp, PeerRefused))
        self.supervisor = Supervisor(self.context)
        self.seat = self.bus.attach("test")
        self.supervisor.start("ikev2", lambda context: Ikev2Service(self.config, context, **more))

    @property
    def service(self) -> Ikev2Service:
        found = self.supervisor.service("ikev2")
        assert isinstance(found, Ikev2Service)
        return found

    def protect(self, local: bytes, remote: bytes, *, want: bool = True, negotiated: bool = False) -> None:
        row = InterfaceRow("Tunnel0", InterfaceKind.TUNNEL, point_to_point=True, mpls=True, protection="P")
        self.seat.publish(InterfaceState, {"Tunnel0": Interface(row, 1, up=True, mtu=1400)})
        self.seat.publish(TunnelProtected, {"Tunnel0": ProtectedRow("P", local, remote, negotiated=negotiated)})
        if want:
            self.seat.publish(SaWanted, {KEY: SaRequest("P", local, remote)})

    def rows(self, topic: Any) -> dict[Any, Any]:
        return {key: row for held in self.bus.rows(topic).values() for key, row in held.items()}

    @property
    def up(self) -> bool:
        row = self.rows(SaState).get(KEY)
        return row is not None and row.up and self.context.tables.sad.get(KEY) is not None


async def until(condition: Any, seconds: float = 10.0) -> float:
    clock = VirtualClock()
    begun = clock.now()
    while not condition():
        assert clock.now() - begun < seconds, "it does not happen"
        await asyncio.sleep(0.05)
    return clock.now() - begun


async def pair(world: MemoryNetwork, left: Ikev2Config, right: Ikev2Config, **more: Any) -> tuple[Rig, Rig]:
    a, b = Rig(world.node("a"), left), Rig(world.node("b"), right, **more)
    a.protect(A, B)
    b.protect(B, A, want=False)
    return a, b


def test_two_services_protect_a_tunnel_and_say_good_bye() -> None:
    async def main() -> None:
        world = two_hosts()
        a, b = await pair(world, psk_config(), psk_config())
        await until(lambda: a.up and b.up)
        outbound = a.context.tables.sad.bundles[KEY].outbound
        assert outbound is not None
        assert outbound.spi in b.context.tables.sad.inbound
        assert a.service.snapshot().wall == EPOCH + a.service.now
        await a.supervisor.stop()
        await until(lambda: not b.up)
        for rig in (a, b):
            assert rig.context.tables.sad.inbound == {} or rig is b
        assert a.context.tables.sad.bundles == {}
        await b.supervisor.stop()
        assert b.context.tables.sad.inbound == {}
        assert a.context.kept == {}

    run(main())


def test_a_crash_of_the_service_loses_nothing() -> None:
    async def main() -> None:
        world = two_hosts()
        a, b = await pair(world, psk_config(), psk_config())
        await until(lambda: a.up and b.up)
        bundle = a.context.tables.sad.bundles[KEY]
        first = bundle.outbound
        a.service.fail(RuntimeError("boom"))
        await asyncio.sleep(0.05)
        assert a.supervisor.service("ikev2") is None
        assert a.up
        assert bundle.outbound is first
        await until(lambda: bundle.outbound is not first)
        assert a.up
        assert b.up
        assert a.context.tables.sad.bundles[KEY] is bundle
        await asyncio.sleep(10)
        assert len(a.context.tables.sad.inbound) == len(b.context.tables.sad.inbound) == 1
        assert a.service.context.incarnation == 2
        await a.supervisor.stop()
        await b.supervisor.stop()

    run(main())


def test_standing_alone() -> None:
    async def main() -> None:
        world = two_hosts()
        b = Rig(world.node("b"), psk_config())
        b.protect(B, A, want=False)
        node, bus = world.node("a"), Bus()
        service = Ikev2Service(
            psk_config(), bus=bus, network=node, clock=VirtualClock(epoch=EPOCH), entropy=node.entropy
        )
        task = asyncio.get_running_loop().create_task(service.run())
        seat = bus.attach("me")
        seat.publish(SaWanted, {KEY: SaRequest("P", A, B)})
        await until(lambda: b.up)
        assert [child.key for child in service.snapshot().children] == [KEY]
        assert service.clear(remote=B) == 1
        await until(lambda: service.snapshot().children)
        await service.stop()
        await task
        assert service.context.tables.sad.inbound == {}
        await b.supervisor.stop()

    run(main())
    with pytest.raises(TypeError):
        Ikev2Service(psk_config())


def test_a_busy_port_is_tried_again_and_said_once() -> None:
    async def main() -> None:
        world = two_hosts()
        taken = world.node("a").datagrams(500)
        a, b = await pair(world, psk_config(), psk_config())
        await asyncio.sleep(6 * RETRY)
        assert a.ear.events().count("cannot open a UDP port") == 1
        assert not a.up
        taken.close()
        await until(lambda: a.up and b.up, 90)
        await a.supervisor.stop()
        await b.supervisor.stop()

    run(main())


# --- the hook -----------------------------------------------------------------------------------------------------------


def hub() -> Ikev2Config:
    return psk_config(evolve(psk(), virtual_template=1))


async def with_hook(ask: Any) -> tuple[Rig, Rig]:
    world = two_hosts()
    a, b = Rig(world.node("a"), psk_config()), Rig(world.node("b"), hub(), authorise=ask)
    row = InterfaceRow("Virtual-Template1", InterfaceKind.TEMPLATE, point_to_point=True, protection="P")
    b.seat.publish(InterfaceState, {"Virtual-Template1": Interface(row, 1, up=True, mtu=1400)})
    a.protect(A, B, negotiated=True)
    return a, b


def test_the_hook_lets_in_and_gives_an_address() -> None:
    async def main() -> None:
        seen: list[AccessRequest] = []

        async def ask(request: AccessRequest) -> Grant:
            seen.append(request)
            await asyncio.sleep(1)
            return Grant((Attribute(1, parse_address("10.7.0.1")),))

        a, b = await with_hook(ask)
        await until(lambda: a.up)
        assert [request.identity.octets for request in seen] == [A]
        assert list(a.rows(AddressOffered)) == [("Tunnel0", parse_address("10.7.0.1"))]
        assert b.rows(AccessWanted)["Virtual-Access1"].remote == A
        assert b.rows(RouteOffered) == {}  # the interface is not there yet
        await a.supervisor.stop()
        await until(lambda: not b.rows(AccessWanted))
        await b.supervisor.stop()

    run(main())


@pytest.mark.parametrize("case", ["refuses", "raises", "sleeps", "nonsense"])
def test_the_hook_refuses_raises_or_never_answers(case: str) -> None:
    canary = "cAnArY-5e7"

    async def main() -> None:
        async def ask(request: AccessRequest) -> Any:
            if case == "raises":
                raise LookupError(canary)
            if case == "sleeps":
                await asyncio.sleep(1000)
            if case == "nonsense":
                return canary
            return Refusal("not today")

        a, b = await with_hook(ask)
        await asyncio.sleep(AUTHORISE_WITHIN + 2)
        assert not a.up
        assert b.rows(AccessWanted) == {}
        (reason, *_) = [fact.reason for fact in b.recorder.facts(PeerRefused)]
        assert {
            "refuses": "not today",
            "raises": "raised LookupError",
            "sleeps": "nobody has authorised it",
            "nonsense": "neither a Grant nor a Refusal",
        }[case] in reason
        assert canary not in repr(b.ear.said)
        assert b.supervisor.service("ikev2") is not None
        await a.supervisor.stop()
        await b.supervisor.stop()

    run(main())


@pytest.mark.parametrize("case", ["pending", "stubborn", "cancelled"])
def test_the_hook_keeps_nobody_from_stopping(case: str) -> None:
    """The service stops while it is asked (also when that does its last work first), or it gives up by itself."""
    ended: list[str] = []

    async def main() -> None:
        async def ask(request: AccessRequest) -> Any:
            if case == "cancelled":
                raise asyncio.CancelledError
            try:
                await asyncio.sleep(1000)
            finally:
                if case == "stubborn":
                    await asyncio.sleep(0.5)
                ended.append(case)

        a, b = await with_hook(ask)
        await asyncio.sleep(1)
        assert b.supervisor.service("ikev2") is not None
        clock = VirtualClock()
        begun = clock.now()
        await b.supervisor.stop()
        assert clock.now() - begun < 10
        await asyncio.sleep(1)
        assert ended == ([] if case == "cancelled" else [case])
        assert not b.context.tables.sad.inbound
        assert b.rows(AccessWanted) == {}
        await a.supervisor.stop()

    run(main())


# --- files --------------------------------------------------------------------------------------------------------------


def files(folder: Path, leaf: pki.Leaf, *, mode: int = 0o600) -> Trustpoint:
    folder.mkdir()
    (folder / "me.pem").write_bytes(b"".join(pem(one, "CERTIFICATE") for one in leaf.chain))
    (folder / "ca.pem").write_bytes(pem(pki._WORLD.root.chain[-1], "CERTIFICATE"))
    (folder / "me.key").write_bytes(key_pem(leaf.key))
    (folder / "me.key").chmod(mode)
    return Trustpoint(
        "CA",
        ca_file=str(folder / "ca.pem"),
        certificate_file=str(folder / "me.pem"),
        key_file=str(folder / "me.key"),
        revocation=("none",),
    )


def certs(trustpoint: Trustpoint) -> Ikev2Config:
    profile = IkeProfile(
        "default",
        match_remote=anybody(),
        auth_local=AuthMethod.SIGNATURE,
        auth_remote=(AuthMethod.SIGNATURE,),
        trustpoints=("CA",),
    )
    return Ikev2Config(
        profiles={"default": profile}, ipsec_profiles={"P": IpsecProfile("P")}, trustpoints={"CA": trustpoint}
    )


def test_trust_points_from_files(tmp_path: Path) -> None:
    async def main() -> None:
        left = certs(files(tmp_path / "a", pki.LEAVES["ec256"]))
        right = certs(files(tmp_path / "b", pki.HUB["ed25519"], mode=0o644))
        a, b = await pair(two_hosts(), left, right)
        await until(lambda: a.up and b.up)
        assert "others can read a private key" not in a.ear.events()
        assert [s["mode"] for s in b.ear.said if s["event"] == "others can read a private key"] == ["644"]
        await a.supervisor.stop()
        await b.supervisor.stop()

    run(main())


def test_a_missing_file_is_its_profile_s_misfortune_until_it_is_there(tmp_path: Path) -> None:
    async def main() -> None:
        trustpoint = files(tmp_path / "a", pki.LEAVES["ec256"])
        right = certs(files(tmp_path / "b", pki.HUB["ec256"]))
        broken = evolve(trustpoint, certificate_file=str(tmp_path / "none.pem"))
        a, b = await pair(two_hosts(), certs(broken), right)
        await asyncio.sleep(1)
        row = a.rows(SaState)[KEY]
        assert "none.pem: No such file or directory" in row.reason
        assert a.service.snapshot().trustpoints[0].reason
        a.supervisor.reconfigure("ikev2", certs(trustpoint))
        await until(lambda: a.up and b.up)
        assert a.service.snapshot().trustpoints[0].reason == ""
        await a.supervisor.stop()
        await b.supervisor.stop()

    run(main())


def test_a_revoked_peer_is_let_go_when_the_list_is_read_again(tmp_path: Path) -> None:
    """The same configuration, another file: nobody else is touched, and the peer is told no reason."""

    async def main() -> None:
        left = evolve(
            files(tmp_path / "a", pki.LEAVES["ec256"]), revocation=("crl",), crl_file=str(tmp_path / "ca.crl")
        )
        listed = tmp_path / "ca.crl"

        def revoke(*serials: int) -> None:
            listed.write_bytes(b"".join(pem(one, "X509 CRL") for one in pki._WORLD.crls(serials)))

        revoke()
        a, b = await pair(two_hosts(), certs(left), certs(files(tmp_path / "b", pki.HUB["ec256"])))
        await until(lambda: a.up and b.up)
        a.supervisor.reconfigure("ikev2", certs(left))
        await asyncio.sleep(2)
        assert a.up
        assert b.up
        revoke(pki.HUB["ec256"].serial)
        a.supervisor.reconfigure("ikev2", certs(left))
        await until(lambda: not a.up and not b.up)
        assert any("is revoked" in str(said.get("reason")) for said in a.ear.said)
        await asyncio.sleep(30)
        assert not a.up
        assert not any("revoked" in str(said) for said in b.ear.said)
        await a.supervisor.stop()
        await b.supervisor.stop()

    run(main())


def test_what_the_files_are_found_to_be(tmp_path: Path) -> None:
    """A fingerprint that is another authority's is an error, for a node must not run with it; all else is a warning."""
    right = files(tmp_path / "a", pki.LEAVES["ec256"])

    def said(trustpoint: Trustpoint, now: float = pki.NOW) -> list[tuple[str, str]]:
        return [(one.severity, one.text) for one in check_files(certs(trustpoint), now)]

    fingerprint = parse_certificate(pki._WORLD.root.chain[-1]).fingerprint("sha256").hex()
    assert said(evolve(right, fingerprint=fingerprint)) == []
    ((severity, text),) = said(evolve(right, fingerprint="0" * 64))
    assert severity == "error"
    assert f"its own is {fingerprint.upper()}" in text
    ((severity, text),) = said(evolve(right, key_file=str(tmp_path / "none")))
    assert severity == "warning"
    assert "none: No such file or directory" in text
    late = [text for severity, text in said(right, pki.NOW + 400 * pki.DAY) if severity == "warning"]
    assert late == ["trustpoint CA: certificate cn=R3-spoke.cisco.com,ou=FLEX,o=Cisco has expired"]
    early = {text.rpartition(" certificate ")[2] for _, text in said(right, pki.NOW - 400 * pki.DAY)}
    assert "cn=Test root CA,o=Cisco is not valid yet" in early


def test_S03_keys_are_in_no_log_bus_snapshot_or_sample(tmp_path: Path) -> None:
    canary = "cAnArY-5e7"

    async def main() -> None:
        a, b = await pair(two_hosts(), psk_config(psk(key=canary)), psk_config(psk(key=canary)))
        await asyncio.sleep(0)
        a.service.debugging = True
        await until(lambda: a.up and b.up)
        a.service.clear()
        await asyncio.sleep(3)
        assert SERVICE.samples is not None
        sa = a.context.tables.sad.bundles[KEY].outbound
        assert sa is not None
        said = repr(
            [
                a.ear.said,
                a.bus._held,
                list(a.recorder.messages),
                a.service.snapshot(),
                list(SERVICE.samples(a.service)),
                a.service.__dict__,
                a.context,
                a.config,
            ]
        )
        assert "received" in a.ear.events()
        for secret in (canary, sa.encryption.hex(), repr(sa.encryption)[2:-1], sa.salt.hex()):
            assert secret not in said
        a.service.guarded(lambda key: {}[key])(canary)
        await asyncio.sleep(3)
        assert a.up
        await a.supervisor.stop()
        await b.supervisor.stop()

    run(main())


def test_a_flood_leaves_others_their_turn() -> None:
    """64 datagrams a turn: what waits behind them is served all the same."""

    async def main() -> None:
        world = two_hosts()
        a, b = await pair(world, psk_config(), psk_config())
        await until(lambda: a.up and b.up)
        flooder = world.node("a").datagrams(1234)
        for n in range(900):
            flooder.send(n.to_bytes(8) + bytes(20), A, B, 500)
        await asyncio.sleep(0.0005)
        seen = [0]
        while seen[-1] < 900:
            await asyncio.sleep(0.0005 if not seen[-1] else 0)
            seen.append(sum(b.service.snapshot().admission.counters.values()))
        assert max(after - before for before, after in pairwise(seen)) <= DATAGRAMS_A_TURN
        assert b.up
        await a.supervisor.stop()
        await b.supervisor.stop()

    run(main())
