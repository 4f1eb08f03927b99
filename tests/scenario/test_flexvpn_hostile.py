"""MPLS over FlexVPN with a spoke that lies, an operator who is careless, and services that die half-way.

The spoke has the right certificate and its tunnels; what it says by them is of the test's own making. Rows N04, N05, V06, S01
of the fault matrix. That nothing of a tunnel is ever seen in clear is looked at by `play`, in each test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from nhrp.engine.node import Node
from nhrp.events import RedirectReceived
from nhrp.wire import Cie, Flag, Kind, Packet, cie_extension, encode, mpls_extension, mpls_of
from nhrp.wire.mpls import ContextLabel, MplsBinding, Role
from nhrp.wire.packet import Extension, ExtensionKind
from stack.addr import Prefix, parse_address
from stack.events import AccessWanted, RouteOffered, SendNhrp
from tests.scenario.beds import reaches, until
from tests.scenario.opened import resolutions
from tests.scenario.test_flexvpn_life import straight, traces
from tests.scenario.test_flexvpn_steps import FAR, HOST_A, HOST_B, HUB, NEAR, OUI, WAYS, Bed, of_kind, one_way, play

STABLE = Flag.ROUTER | Flag.AUTHORITATIVE | Flag.STABLE_SOURCE | Flag.NAT


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flexvpn")


async def say(bed: Bed, packet: Packet, interface: str = "Tunnel0", to: str = HUB, node: str = "spoke2") -> None:
    """`node` sends it by one of its tunnels."""
    forwarder: Any = bed.routers[node].service("forwarder")
    forwarder.forwarder.send_nhrp(SendNhrp(interface, parse_address(to), encode(packet)))
    await asyncio.sleep(0.2)


def refused(bed: Bed, node: str, reason: str) -> int:
    """As `show ip nhrp counters` says."""
    shown = bed.routers[node].execute("show ip nhrp counters").value
    return sum(count for text, count in _pairs(shown) if reason in text)


def _pairs(shown: Any) -> list[tuple[str, int]]:
    rows = shown.get("counters", shown) if isinstance(shown, dict) else shown
    return list(rows.items()) if isinstance(rows, dict) else [(row["counter"], row["count"]) for row in rows]


def nhrp_rows(bed: Bed, node: str, vrf: str = "") -> set[Prefix]:
    return {prefix for prefix in bed.rows(node, RouteOffered, "nhrp", vrf) if str(prefix) != "10.0.0.1/32"}


def registration(source: str, address: str, nbma: str = FAR) -> Packet:
    cie = Cie(0, 255, 1400, 600, protocol=parse_address(address))
    return Packet(
        Kind.REGISTRATION_REQUEST,
        parse_address(nbma),
        parse_address(source),
        parse_address("10.0.0.1"),
        77,
        Flag.UNIQUE_REGISTRATION,
        (cie,),
        hop_count=1,
    )


def request(source: str, destination: str, nbma: str = FAR, label: ContextLabel | None = None) -> Packet:
    extensions = [Extension(kind) for kind in (3, 4, 5)]
    if label is not None:
        extensions.append(mpls_extension(MplsBinding(Role.REQUEST, label), OUI))
    entry = Cie(0, 32, 1400, 600)
    return Packet(
        Kind.RESOLUTION_REQUEST,
        parse_address(nbma),
        parse_address(source),
        parse_address(destination),
        78,
        STABLE,
        (entry,),
        tuple(extensions),
    )


# --- a spoke that is authenticated, and lies ----------------------------------------------------------------------------


@WAYS
def test_N05_only_the_assigned_address_is_registered_and_asked_for(way: str, folder: Path) -> None:
    async def story(bed: Bed) -> None:
        near, far = bed.overlay("spoke1"), bed.overlay("spoke2")
        claims = [near, "10.0.0.1", "10.99.0.9", NEAR, HUB, HOST_A, "192.168.110.10", "172.16.0.2"]
        for number, claimed in enumerate(claims):
            await say(bed, registration(far, claimed))
            await say(bed, request(claimed, HOST_A, label=_label(bed, "spoke2")))
            assert sum(count for text, count in _pairs(_counters(bed, "hub")) if text.startswith("refused")) > number
        # In its own name, but from where another is.
        await say(bed, request(far, HOST_A, nbma=NEAR, label=_label(bed, "spoke2")))
        listed = cie_extension(ExtensionKind.NAT_ADDRESS, (Cie(nbma=parse_address(NEAR), protocol=parse_address(far)),))
        lying = request(far, HOST_A, label=_label(bed, "spoke2"))
        await say(bed, evolve(lying, extensions=(*lying.extensions, listed)))
        assert nhrp_rows(bed, "hub") == set()
        assert nhrp_rows(bed, "spoke1") == nhrp_rows(bed, "spoke1", "cust1") == set()
        assert not of_kind(resolutions(bed.eye.on("spoke1-internet")), Kind.RESOLUTION_REQUEST)
        shown = bed.routers["hub"].execute("show ip nhrp").text
        assert near in shown, "what was refused is shown"
        # Its own is taken.
        await say(bed, registration(far, far))
        assert {str(prefix) for prefix in nhrp_rows(bed, "hub")} <= {f"{far}/32"}
        await straight(bed)

    play(folder, way, "printed", story)


def _label(bed: Bed, spoke: str, vrf: str = "cust1") -> ContextLabel:
    (via,) = bed.rows(spoke, RouteOffered, "bgp", vrf)[Prefix.parse("0.0.0.0/0")].vias
    return ContextLabel(via.labels[0], parse_address("10.0.0.1"))


def _counters(bed: Bed, node: str) -> Any:
    return bed.routers[node].execute("show ip nhrp counters").value


@pytest.mark.parametrize("claimed", ["10.0.0.1", HUB, HOST_A, "192.168.110.10", "172.16.1.1", NEAR])
def test_N05_by_a_tunnel_between_spokes_nobody_else_s_address_is_drawn(claimed: str, folder: Path) -> None:
    """The spokes have an SA with each other; the far one asks by it, as if it were somebody else."""

    async def story(bed: Bed) -> None:
        await straight(bed)
        access = next(iter(bed.rows("spoke2", AccessWanted, "ikev2")))
        before = nhrp_rows(bed, "spoke1")
        row = bed.rows("spoke1", RouteOffered, "bgp", "cust1")
        assert row
        label = bed.bound("spoke1", "cust1", Prefix.parse("192.168.113.0/24"))
        own = ContextLabel(label, parse_address(bed.overlay("spoke1")))
        await say(bed, request(claimed, HOST_A, label=own), access, NEAR)
        assert nhrp_rows(bed, "spoke1") <= before
        await reaches(bed, "host1a", "192.168.110.10")

    play(folder, "access", "printed", story)


def test_V06_an_answer_that_sends_a_customer_s_packets_into_another_s_table(folder: Path) -> None:
    """The far spoke answers by the hub: it is where the hub is, and the label is the one of cust2 there."""

    sent: list[bool] = []

    async def story(bed: Bed) -> None:
        other = _label(bed, "spoke1", "cust2").label
        liar: Any = bed.routers["spoke2"].service("nhrp")

        def lying(node: Node, interface: str, nbma: bytes, packet: Packet) -> None:
            if node is liar.speaker.node and packet.kind is Kind.RESOLUTION_REPLY and not packet.cies[0].code:
                packet, by_hub = lie(packet, other), bool(len(sent) % 2)
                sent.append(by_hub)
                interface, nbma = ("Tunnel0", parse_address(HUB)) if by_hub else (interface, nbma)
            truth(node, interface, nbma, packet)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Node, "send", lying)
            for _ in range(4):
                await one_way(bed, 3)
                await asyncio.sleep(3)
                ways = {
                    via.interface
                    for row in bed.rows("spoke1", RouteOffered, "nhrp", "cust1").values()
                    for via in row.vias
                }
                assert "Tunnel0" not in ways
                await bed.cut("host1b", whole=True)
                await asyncio.sleep(8)
        assert set(sent) == {True, False}

    truth = Node.send
    play(folder, "access", "printed", story)


def lie(packet: Packet, label: int) -> Packet:
    """Its NBMA address is the hub's, and so says its NAT extension; and that label is to be pushed."""
    binding = mpls_of(packet, OUI)
    assert binding is not None
    binding = evolve(binding, fec=(evolve(binding.fec[0], labels=(label,)),))
    cie = evolve(packet.cies[0], nbma=parse_address(HUB))
    nat = cie_extension(ExtensionKind.NAT_ADDRESS, (Cie(nbma=cie.nbma, protocol=cie.protocol),))
    replaced = (ExtensionKind.NAT_ADDRESS, ExtensionKind.VENDOR_PRIVATE)
    kept = [one for one in packet.extensions if one.kind not in replaced]
    return evolve(packet, cies=(cie,), extensions=(*kept, nat, mpls_extension(binding, OUI)))


# --- a careless operator ---------------------------------------------------------------------------------------------------

TEMPLATE = " tunnel source Ethernet0/0\n tunnel protection ipsec profile default\n"


async def sending(bed: Bed, until_done: asyncio.Event) -> int:
    """Echoes of both customers all the while; how many were answered."""
    answered = 0
    while not until_done.is_set():
        for host in ("host1a", "host2a"):
            (answer,) = await bed.ping(host, HOST_B, count=1, size=56, timeout=0.2)
            answered += answer.ok
        await asyncio.sleep(0.02)
    return answered


CARELESS: dict[str, Callable[[str], str]] = {
    "protection of the template": lambda text: text.replace(TEMPLATE, TEMPLATE.splitlines(keepends=True)[0]),
    "the template": lambda text: _without(text, "interface Virtual-Template1 type tunnel\n"),
    "shortcuts": lambda text: text.replace(" ip nhrp shortcut virtual-template 1\n", ""),
    "the network": lambda text: text.replace(" ip nhrp network-id 1\n", ""),
    "the profile": lambda text: _without(text, "crypto ipsec profile default\n"),
    "the source of the template": lambda text: text.replace(TEMPLATE, TEMPLATE.splitlines(keepends=True)[1]),
    "labels": lambda text: text.replace(" mpls nhrp\n", ""),
}


def _without(text: str, head: str) -> str:
    """Without a block, up to the line that ends it."""
    at = text.index(head)
    return text[:at] + text[text.index("!\n", at) :]


@pytest.mark.parametrize("node", ["spoke1", "spoke2"])
@pytest.mark.parametrize("what", CARELESS)
def test_E04_what_is_taken_away_under_traffic_lets_nothing_out_in_clear(what: str, node: str, folder: Path) -> None:
    async def story(bed: Bed) -> None:
        await straight(bed)
        done = asyncio.Event()
        traffic = asyncio.ensure_future(sending(bed, done))
        text = bed.conduct.text(node)
        changed = CARELESS[what](text)
        assert changed != text
        for given in (changed, text):
            await bed.configure(node, given)
            await asyncio.sleep(8)
        done.set()
        assert await traffic
        await reaches(bed, "host1a", HOST_B, within=180)
        await straight(bed, within=60)

    play(folder, "access", "printed", story)


# --- services that die half-way -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("node", ["spoke1", "spoke2", "hub"])
@pytest.mark.parametrize("service", ["nhrp", "ikev2", "mfi", "bgp", "tunnel", "routing"])
def test_S01_a_service_dies_between_redirect_and_shortcut(service: str, node: str, folder: Path) -> None:
    """At several moments of the thirteen steps; then all goes on, and without traffic nothing is left of it."""

    async def story(bed: Bed) -> None:
        for pause in (0.0, 0.02, 0.06):
            await asyncio.sleep(10)  # the hub tells a pair once in eight seconds
            bed.listen("spoke1")
            asking = asyncio.ensure_future(bed.ping("host1a", HOST_B, count=2, size=56, timeout=0.3))
            await bed.heard["spoke1"].until_fact(RedirectReceived, timeout=10)
            await asyncio.sleep(pause)
            running = bed.routers[node].supervisor.service(service)
            assert running is not None
            running.fail(RuntimeError("killed by the test"))
            await asking
            await reaches(bed, "host1a", HOST_B, within=120)
            await straight(bed, within=90)
            await until(bed, lambda: _nothing(bed), within=90)

    play(folder, "access", "printed", story)


async def _nothing(bed: Bed) -> bool:
    return not traces(bed, "spoke1", FAR) and not traces(bed, "spoke2", NEAR)
