"""MPLS over FlexVPN, step by step: what the document says happens in thirteen steps, asserted from tables, facts and the wire.

    host1a, host2a -- spoke1 172.16.1.103 --\\
                                             internet -- hub 172.16.0.1 (overlay 10.0.0.1)
    host1b, host2b -- spoke2 172.16.2.104 --/

Over virtual access and over multipoint GRE; with the printed policy (the spokes refuse each other's routes and follow the hub's
default, whose label the hub pops) and with `allowas-in` (the hub swaps the label of the far spoke's own prefix).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field

from ikev2.events import IkeSaUp
from nhrp.events import RedirectReceived, RedirectSent, ShortcutDown, ShortcutUp
from nhrp.wire import Kind, Packet, Role, cies_of, mpls_of
from stack.addr import Prefix, PrefixFec, format_address, parse_address
from stack.events import (
    AccessWanted,
    AddressOffered,
    BindingOffered,
    EndpointOffered,
    LabelBound,
    LabelWanted,
    RouteOffered,
)
from stack.lab.checks import judge
from stack.lab.conduct import Conduct
from stack.lab.memory import MemoryTestbed
from stack.lab.prepare import prepare
from stack.lab.scenario import load
from stack.testing import Recorder, run
from tests.scenario.beds import until
from tests.scenario.opened import Eye, Opened, customers, resolutions

OUI = b"\x02\x4d\x46"
HUB, NEAR, FAR = "172.16.0.1", "172.16.1.103", "172.16.2.104"
SITE = Prefix.parse("192.168.114.0/24")
HOST_A, HOST_B = "192.168.113.10", "192.168.114.10"
ALLOWAS = (
    "  neighbor 10.0.0.1 send-community both\n",
    "  neighbor 10.0.0.1 send-community both\n  neighbor 10.0.0.1 allowas-in\n",
)
KINDS = (RedirectSent, RedirectReceived, ShortcutUp, ShortcutDown, IkeSaUp)

WAYS = pytest.mark.parametrize("way", ["access", "mgre"])
POLICIES = pytest.mark.parametrize("policy", ["printed", "allowas-in"])


@define(eq=False)
class Bed(MemoryTestbed):
    """The lab, with an eye on its wires and an ear on its buses."""

    eye: Eye = field(init=False)
    heard: dict[str, Recorder] = field(factory=dict)
    looking: asyncio.Future[None] | None = None

    def rows(self, node: str, topic: Any, owner: str, table: str = "") -> Mapping[Any, Any]:
        return self.routers[node].bus.rows(topic, table).get(owner, {})

    def facts(self, node: str, kind: Any) -> list[Any]:
        return self.heard[node].facts(kind)

    def overlay(self, spoke: str) -> str:
        """The address that the hub gave it."""
        held = self.rows(spoke, AddressOffered, "ikev2")
        (address,) = {address for (name, address) in held if name == "Tunnel0"}
        return format_address(address)

    def bound(self, node: str, vrf: str, prefix: Prefix) -> int:
        """The label that MFI gave for a prefix of a VRF."""
        row = self.rows(node, LabelBound, "mfi")[PrefixFec(vrf, prefix)]
        assert row.label is not None
        return int(row.label)

    def listen(self, node: str) -> None:
        self.heard[node] = Recorder(self.routers[node].bus, KINDS)

    async def ready(self) -> None:
        """Steps 1 and 2 are done."""
        for check in self.conduct.scenario.checks[:2]:
            row = await judge(self.conduct, check)
            assert row.ok, row
        await until(self, self._routes_there)
        self.eye = Eye(self)
        self.looking = asyncio.ensure_future(self._look())
        for node in self.routers:
            self.listen(node)
        self.forget()

    async def _look(self) -> None:
        while True:
            self.eye.look()
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        if self.looking is not None:
            self.looking.cancel()
        await super().stop()

    async def _routes_there(self) -> bool:
        value = str(await self.show("hub", "show ip bgp vpnv4 all"))
        far = str(await self.show("spoke1", "show ip route vrf cust1"))
        return all(net in value for net in ("192.168.113.0/24", "192.168.114.0/24")) and "0.0.0.0/0" in far


Story = Callable[[Bed], Awaitable[None]]


def play(folder: Path, way: str, policy: str, story: Story, changes: Mapping[str, list[tuple[str, str]]] = {}) -> None:
    async def main() -> None:
        scenario = load("flexvpn")
        prepared = prepare(scenario, folder, again=not (folder / "pki").exists())
        if way == "mgre":
            scenario = scenario.variant("mgre")
        texts = dict(scenario.node)
        if policy == "allowas-in":
            for spoke in ("spoke1", "spoke2"):
                assert ALLOWAS[0] in texts[spoke]
                texts[spoke] = texts[spoke].replace(*ALLOWAS)
        for node, pairs in changes.items():
            for old, new in pairs:
                assert old in texts[node], (node, old)
                texts[node] = texts[node].replace(old, new)
        conduct = Conduct(evolve(scenario, node=texts), None, prepared=prepared)  # type: ignore[arg-type]  # set next
        bed = conduct.bed = Bed(conduct)
        try:
            await bed.start(None)
            await bed.ready()
            await story(bed)
            for name in ("hub-internet", "spoke1-internet", "spoke2-internet"):
                assert not [seen for seen in conduct.seen(name) if seen.protocol == 47], "GRE in clear"
        finally:
            await bed.stop()

    run(main(), strict=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flexvpn")


async def one_way(bed: Bed, times: int = 1) -> None:
    """Packets from host1a to host1b which nobody answers: the far host's link is cut, so that only one spoke has a reason to
    look for a better way."""
    await bed.cut("host1b", whole=False)
    await bed.ping("host1a", HOST_B, count=times, size=56, timeout=0.2)


def of_kind(packets: list[tuple[tuple[str, str], Packet]], kind: Kind) -> list[tuple[tuple[str, str], Packet]]:
    return [(ends, packet) for ends, packet in packets if packet.kind is kind]


def context(packet: Packet) -> tuple[int, str]:
    """Role-checked by the caller: (label, allocator)."""
    binding = mpls_of(packet, OUI)
    assert binding is not None
    assert binding.context is not None
    return binding.context.label, format_address(binding.context.allocator)


async def shortcut(bed: Bed, node: str = "spoke1", vrf: str = "cust1") -> ShortcutUp:
    fact: ShortcutUp = await bed.heard[node].until_fact(ShortcutUp, lambda fact: fact.vrf == vrf, timeout=10)
    return fact


# --- the thirteen steps -----------------------------------------------------------------------------------------------


def steps_1_and_2(bed: Bed, policy: str) -> int:
    """The label that the hub gave spoke1 for what host1b is in."""
    near, far = bed.overlay("spoke1"), bed.overlay("spoke2")
    # 1: implicit null for the spokes' overlay addresses at the hub, and for the hub's at the spokes.
    assert {str(prefix) for _, prefix, _ in bed.rows("hub", BindingOffered, "ikev2")} == {f"{near}/32", f"{far}/32"}
    assert set(bed.rows("hub", BindingOffered, "ikev2").values()) == {(3,)}
    # 2: MP-BGP has brought a label for each customer's prefix, another one in each VRF.
    wanted = SITE if policy == "allowas-in" else Prefix.parse("0.0.0.0/0")
    labels = {}
    for vrf in ("cust1", "cust2"):
        (via,) = bed.rows("spoke1", RouteOffered, "bgp", vrf)[wanted].vias
        assert format_address(via.address) == "10.0.0.1"
        (labels[vrf],) = via.labels
    assert labels["cust1"] != labels["cust2"]
    return labels["cust1"]


def steps_3_and_4(bed: Bed, label: int, policy: str) -> None:
    # 3: one label, GRE, encrypted, to the hub.
    (first, *_) = customers(bed.eye.on("spoke1-internet"))
    assert first == Opened((NEAR, HUB), 0x8847, (label,), (HOST_A, HOST_B), 63)
    # 4: popped (or swapped), and sent on to the far spoke under that one's own label.
    (first, *_) = customers(bed.eye.on("spoke2-internet"))
    ttl = 62 if policy == "printed" else 63  # a swap counts in the label's TTL only (RFC 3443 3.1)
    assert first == Opened((HUB, FAR), 0x8847, (bed.bound("spoke2", "cust1", SITE),), (HOST_A, HOST_B), ttl)


def steps_5_to_7(bed: Bed, label: int) -> int:
    near, far = bed.overlay("spoke1"), bed.overlay("spoke2")
    packets = resolutions(bed.eye.on("spoke1-internet"))
    # 5: the hub says that there is a better way, and the label of the packet names the VRF.
    (ends, indication), *_ = of_kind(packets, Kind.TRAFFIC_INDICATION)
    assert ends == (HUB, NEAR)
    assert (format_address(indication.source), indication.destination) == ("10.0.0.1", parse_address(HOST_A))
    assert context(indication) == (label, "10.0.0.1")
    assert bed.facts("hub", RedirectSent)[0].vrf == "cust1"
    # 6: the spoke knows the VRF by it, and asks.
    assert bed.facts("spoke1", RedirectReceived)[0].vrf == "cust1"
    (ends, request), *_ = of_kind(packets, Kind.RESOLUTION_REQUEST)
    assert ends == (NEAR, HUB)
    assert (format_address(request.source), request.destination) == (near, parse_address(HOST_B))
    assert context(request) == (label, "10.0.0.1")
    # 7: the hub sends the question on: the same id, one hop less, itself on record, and the far spoke's label for the VRF.
    (ends, onward), *_ = of_kind(resolutions(bed.eye.on("spoke2-internet")), Kind.RESOLUTION_REQUEST)
    assert ends == (HUB, FAR)
    assert (onward.request_id, onward.hop_count) == (request.request_id, request.hop_count - 1)
    assert context(onward) == (bed.bound("spoke2", "cust1", SITE), far)
    record = onward.extension(4)
    assert record is not None
    assert [format_address(cie.protocol) for cie in cies_of(record, onward)] == ["10.0.0.1"]
    return request.request_id


def steps_8_and_9(bed: Bed, way: str) -> tuple[str, str]:
    """The tunnel's interface at spoke1 and at spoke2."""
    near = bed.overlay("spoke1")
    (fact,) = [fact for fact in bed.facts("spoke2", IkeSaUp) if format_address(fact.remote) == NEAR]
    assert fact.initiator
    (fact,) = [fact for fact in bed.facts("spoke1", IkeSaUp) if format_address(fact.remote) == FAR]
    assert not fact.initiator
    names = ("Tunnel0", "Tunnel0")
    if way == "access":
        (at_near,) = bed.rows("spoke1", AccessWanted, "ikev2")
        (at_far,) = bed.rows("spoke2", AccessWanted, "ikev2")
        names = (at_near, at_far)
    else:
        assert not bed.rows("spoke1", AccessWanted, "ikev2")
        held = bed.rows("spoke2", EndpointOffered, "nhrp")
        assert held["Tunnel0", parse_address(near)].transport == parse_address(NEAR)
    # NHRP's own route at the far spoke to the near one's tunnel address.
    route = bed.rows("spoke2", RouteOffered, "nhrp")[Prefix.host(parse_address(near))]
    assert {via.interface for via in route.vias} == {names[1]}
    return names


def steps_10_to_12(bed: Bed, request_id: int, interface: str) -> int:
    """The label of the shortcut."""
    far = bed.overlay("spoke2")
    # 10, 11: straight from spoke to spoke: prefix, label, tunnel address, NBMA address, implicit null.
    replies = of_kind(resolutions(bed.eye.on("spoke1-internet")), Kind.RESOLUTION_REPLY)
    (ends, reply), *_ = [(ends, packet) for ends, packet in replies if packet.request_id == request_id]
    assert ends == (FAR, NEAR)
    (cie,) = reply.cies
    assert (cie.prefix_length, cie.nbma, cie.protocol) == (24, parse_address(FAR), parse_address(far))
    binding = mpls_of(reply, OUI)
    assert binding is not None
    assert binding.role is Role.REPLY
    (fec,), (null,) = binding.fec, binding.next_hop
    label = bed.bound("spoke2", "cust1", SITE)
    assert (fec.labels, null.label) == ((label,), 3)
    # The same label as MP-BGP's, in use by both.
    for owner in ("bgp", "nhrp"):
        assert PrefixFec("cust1", SITE) in bed.rows("spoke2", LabelWanted, owner)
    # 12: complete; the route with its label in the VRF that the request was for, and in no other.
    route = bed.rows("spoke1", RouteOffered, "nhrp", "cust1")[SITE]
    (via,) = route.vias
    assert (format_address(via.address), via.interface, via.labels) == (far, interface, (label,))
    assert not bed.rows("spoke1", RouteOffered, "nhrp", "cust2")
    bindings = {prefix: labels for (_, prefix, _), labels in bed.rows("spoke1", BindingOffered, "nhrp").items()}
    assert bindings[Prefix.host(parse_address(far))] == (3,)
    return label


async def step_13(bed: Bed, label: int) -> None:
    await bed.cut("host1b", whole=True)
    bed.forget()
    (answer,) = await bed.ping("host1a", HOST_B, count=1, size=56, ttl=3)
    assert answer.ok
    straight = [packet for packet in customers(bed.eye.on("spoke1-internet")) if packet.inner == (HOST_A, HOST_B)]
    assert straight == [Opened((NEAR, FAR), 0x8847, (label,), (HOST_A, HOST_B), 2)]


@WAYS
@POLICIES
def test_the_thirteen_steps(way: str, policy: str, folder: Path) -> None:
    async def story(bed: Bed) -> None:
        label = steps_1_and_2(bed, policy)
        await one_way(bed)
        fact = await shortcut(bed)
        assert (fact.prefix, format_address(fact.nbma), fact.label) == (SITE, FAR, bed.bound("spoke2", "cust1", SITE))
        steps_3_and_4(bed, label, policy)
        request_id = steps_5_to_7(bed, label)
        near, _ = steps_8_and_9(bed, way)
        pushed = steps_10_to_12(bed, request_id, near)
        await step_13(bed, pushed)

    play(folder, way, policy, story)


# --- and down again -----------------------------------------------------------------------------------------------------


@WAYS
def test_an_idle_shortcut_goes_down_by_itself(way: str, folder: Path) -> None:
    async def story(bed: Bed) -> None:
        await one_way(bed)
        await shortcut(bed)
        await bed.heard["spoke1"].until_fact(ShortcutDown, timeout=20)
        for spoke in ("spoke1", "spoke2"):
            await until(bed, lambda spoke=spoke: _no_trace(bed, spoke), within=20)
        assert PrefixFec("cust1", SITE) in bed.rows("spoke2", LabelWanted, "bgp")
        assert bed.bound("spoke2", "cust1", SITE)
        # Nothing keeps it up: not for a long time, although BGP to the hub goes on.
        bed.forget()
        await asyncio.sleep(120)
        between = {(NEAR, FAR), (FAR, NEAR)}
        assert not [packet for packet in bed.eye.on("spoke1-internet") if packet.ends in between]
        await bed.cut("host1b", whole=True)
        bed.forget()
        (answer,) = await bed.ping("host1a", HOST_B, count=1, size=56)
        assert answer.ok
        (first, *_) = customers(bed.eye.on("spoke1-internet"))
        assert first.ends == (NEAR, HUB)

    play(folder, way, "printed", story)


async def _no_trace(bed: Bed, spoke: str) -> bool:
    """Nothing of NHRP's but the hub, which the spokes of the multipoint variant know by a line."""
    hub = Prefix.parse("10.0.0.1/32")
    nhrp = [
        *bed.rows(spoke, RouteOffered, "nhrp", "cust1"),
        *(prefix for prefix in bed.rows(spoke, RouteOffered, "nhrp") if prefix != hub),
        *(prefix for _, prefix, _ in bed.rows(spoke, BindingOffered, "nhrp") if prefix != hub),
        *bed.rows(spoke, LabelWanted, "nhrp"),
        *bed.rows(spoke, AccessWanted, "ikev2"),
    ]
    sas = {format_address(sa.remote) for sa in bed.routers[spoke].context.tables.sad.inbound.values()}
    return not nhrp and sas == {HUB}


def test_a_label_goes_back_to_the_pool_when_bgp_too_lets_go(folder: Path) -> None:
    async def story(bed: Bed) -> None:
        await one_way(bed)
        await shortcut(bed)
        label, fec = bed.bound("spoke2", "cust1", SITE), PrefixFec("cust1", SITE)
        text = bed.conduct.text("spoke2")
        without = text.replace(
            " address-family ipv4 vrf cust1\n  redistribute connected\n", " address-family ipv4 vrf cust1\n"
        )
        assert without != text
        await bed.configure("spoke2", without)
        await until(bed, _async(lambda: fec not in bed.rows("spoke2", LabelWanted, "bgp")))
        # NHRP alone keeps it while its answer is good, and packets by it arrive.
        assert bed.bound("spoke2", "cust1", SITE) == label
        await bed.cut("host1b", whole=True)
        (answer,) = await bed.ping("host1a", HOST_B, count=1, size=56, ttl=3)
        assert answer.ok
        await until(bed, _async(lambda: fec not in bed.rows("spoke2", LabelBound, "mfi")), within=20)
        assert label not in bed.routers["spoke2"].context.tables.lfib.rows

    play(folder, "access", "printed", story)


def _async(look: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def look_once() -> bool:
        return look()

    return look_once


def test_traffic_keeps_a_shortcut_and_no_packet_is_lost_over_renewals(folder: Path) -> None:
    async def story(bed: Bed) -> None:
        await bed.ping("host1a", HOST_B, count=5, size=56)
        await shortcut(bed)
        answers = []
        for _ in range(150):
            answers += await bed.ping("host1a", HOST_B, count=1, size=56)
            await asyncio.sleep(0.2)
        assert all(answer.ok for answer in answers), [answer for answer in answers if not answer.ok]
        assert not bed.facts("spoke1", ShortcutDown)

    play(folder, "access", "printed", story)


@WAYS
def test_the_other_customer_has_a_shortcut_of_its_own_by_the_same_tunnel(way: str, folder: Path) -> None:
    async def story(bed: Bed) -> None:
        await bed.ping("host1a", HOST_B, count=3, size=56)
        one = await shortcut(bed)
        await bed.ping("host2a", HOST_B, count=3, size=56)
        other = await shortcut(bed, vrf="cust2")
        assert (one.prefix, one.interface, one.nbma) == (other.prefix, other.interface, other.nbma)
        assert one.label != other.label
        bed.forget()
        for host in ("host1a", "host2a"):
            (answer,) = await bed.ping(host, HOST_B, count=1, size=56, ttl=3)
            assert answer.ok
        labels = [p.labels for p in customers(bed.eye.on("spoke1-internet")) if p.ends == (NEAR, FAR)]
        assert labels == [(one.label,), (other.label,)]

    play(folder, way, "printed", story)
