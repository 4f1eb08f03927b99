"""BGP as MPLS over FlexVPN needs it, on real sessions: dynamic neighbours over tunnels whose addresses come and go.

hub AS 64510, passive, listen range --eBGP VPNv4 over the tunnel-- spokes AS 64600, update-source Tunnel0 (negotiated)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bgp.engine.session_ends import EndReason, Hold
from stack.addr import Afi, PrefixFec, SwapFec, format_address
from stack.events import InterfaceOffered, LinkRow, LinkState, OverlayRow, OverlayState
from stack.tables.lfib import Operation
from stack.testing import run
from tests.bgp.flexvpn_bed import HUB_ADDRESS, Bed, Box, hub_text, spoke_address

ONE, TWO = spoke_address(1), spoke_address(2)


def on_a_bed(story: Callable[[Bed], Awaitable[None]], limit: float = 600) -> None:
    async def tell() -> None:
        bed = Bed()
        try:
            await story(bed)
        finally:
            await bed.stop()

    run(tell(), limit=limit)


async def three(bed: Bed, **named: Any) -> tuple[Box, Box, Box]:
    """All up and settled."""
    hub = await bed.hub()
    spokes = [await bed.spoke(n, **named) for n in (1, 2)]
    for n, address in ((1, ONE), (2, TWO)):
        bed.assign(n, address)
    await bed.until(lambda: hub.up(ONE) and hub.up(TWO), 30)
    await asyncio.sleep(5)
    return hub, spokes[0], spokes[1]


# --- the session follows the tunnel's address ----------------------------------------------------------------------------


def test_the_session_follows_an_address_that_is_negotiated() -> None:
    async def story(bed: Bed) -> None:
        hub, spoke = await bed.hub(), await bed.spoke(1)
        await asyncio.sleep(10)
        assert spoke.peer(HUB_ADDRESS).hold is Hold.NO_SOURCE
        bed.assign(1, ONE)
        assert await bed.until(lambda: hub.up(ONE), 5) <= 2
        assert (hub.peer(ONE).dynamic, hub.peer(ONE).bound) == (True, "spoke 1")
        assert spoke.peer(HUB_ADDRESS).local == ONE
        # another address: the old session ends at once, the new one is there at once
        other = spoke_address(1, host=7)
        bed.withdraw(1, ONE)
        bed.assign(1, other)
        await asyncio.sleep(0.2)
        assert hub.peer(ONE) is None
        assert spoke.peer(HUB_ADDRESS).last_end.reason is EndReason.ADDRESS_GONE
        assert await bed.until(lambda: hub.up(other), 5) <= 2
        # it vanishes
        bed.withdraw(1, other)
        await asyncio.sleep(0.2)
        assert spoke.peer(HUB_ADDRESS).hold is Hold.NO_SOURCE
        assert hub.bgp.snapshot().dynamic == 0
        await asyncio.sleep(60)
        assert not hub.bgp._connections
        bed.assign(1, ONE)
        assert await bed.until(lambda: hub.up(ONE), 5) <= 2

    on_a_bed(story)


def test_the_tunnel_goes_down_and_comes_up() -> None:
    async def story(bed: Bed) -> None:
        hub, spoke = await bed.hub(), await bed.spoke(1)
        bed.assign(1, ONE)
        await bed.until(lambda: hub.up(ONE), 10)
        spoke.say(LinkState, {"Tunnel0": LinkRow(False, 1400, reason="no security association")})
        await asyncio.sleep(0.2)
        assert not spoke.up(HUB_ADDRESS)
        spoke.say(LinkState, {"Tunnel0": LinkRow(True, 1400)})
        assert await bed.until(lambda: spoke.up(HUB_ADDRESS) and hub.up(ONE), 10) <= 3

    on_a_bed(story)


# --- routes and labels -----------------------------------------------------------------------------------------------------


def test_hub_and_spokes_as_printed_give_the_default_only_for_the_way_between_spokes() -> None:
    """semantics 10: the spokes are of one AS and refuse each other's routes; what goes between them is looked up at the hub."""

    async def story(bed: Bed) -> None:
        hub, one, _ = await three(bed)
        assert hub.routes("gold") == {
            "0.0.0.0/0": "static",
            "10.77.0.0/16": "static",
            "192.168.60.0/24": "connected",
            "192.168.60.1/32": "local",
            "192.168.63.0/24": "bgp",
            "192.168.64.0/24": "bgp",
        }
        assert one.routes("gold") == {
            "0.0.0.0/0": "bgp",
            "10.77.0.0/16": "bgp",
            "192.168.60.0/24": "bgp",
            "192.168.63.0/24": "connected",
            "192.168.63.1/32": "local",
        }
        # the default's label: popped to the VRF at the hub, whose FIB has the far spoke's label
        [label] = one.leaf("gold", "192.168.64.9").labels
        row = hub.lfib()[label]
        assert (row.operation, row.vrf, row.fec) == (Operation.POP_LOOKUP, "gold", PrefixFec("gold", _default()))
        far = hub.leaf("gold", "192.168.64.9")
        assert far.labels == (_label_of(bed, "spoke2", "gold", "192.168.64.0/24"),)
        hop = hub.router.tables.nexthops.get(far.next_hop)
        assert (hop.adjacency.interface, hop.labels) == ("Virtual-Access2", ())  # implicit null
        # nothing of one VRF is in the other
        for box in bed.boxes.values():
            assert not {"192.168.63.0/24", "192.168.64.0/24", "192.168.60.0/24"} & set(box.routes("iron"))
            assert not {"192.168.73.0/24", "192.168.74.0/24", "192.168.61.0/24"} & set(box.routes("gold"))

    on_a_bed(story)


def test_with_allowas_in_the_hub_swaps() -> None:
    """The hub imports the same routes into its own VRFs: it has them for re-advertisement and for itself."""

    async def story(bed: Bed) -> None:
        hub, one, two = await three(bed, allowas_in=True)
        assert one.routes("gold")["192.168.64.0/24"] == "bgp"
        [ours] = one.leaf("gold", "192.168.64.9").labels
        row = hub.lfib()[ours]
        former, theirs = row, _label_of(bed, "spoke2", "gold", "192.168.64.0/24")
        assert (row.operation, row.out_labels, row.afi) == (Operation.SWAP, (theirs,), int(Afi.IPV4))
        assert isinstance(row.fec, SwapFec)
        hop = hub.router.tables.nexthops.get(row.next_hop)
        assert hop.adjacency.interface == "Virtual-Access2"
        assert hub.routes("gold")["192.168.64.0/24"] == "bgp"
        detail = hub.text("show ip bgp vpnv4 all 192.168.64.9")
        assert f"mpls labels in/out {ours}/{theirs}\n" in detail
        assert f"10.21.0.2 from *10.21.0.2 ({format_address(two.bgp.snapshot().router_id)})" in detail
        default = _hub_label(hub, "iron", "0.0.0.0/0")
        assert detail.endswith(f"mpls labels in/out {default}/aggregate(iron)")
        # a route learnt back from the AS of its own does not beat the connected one, and no spoke gets its own back
        assert one.routes("gold")["192.168.63.0/24"] == "connected"
        # the far spoke goes: swap entry and label go with it
        bed.withdraw(2, TWO)
        await bed.until(lambda: "192.168.64.0/24" not in one.routes("gold"), 5)
        await asyncio.sleep(60)
        assert not [row for row in hub.lfib().values() if isinstance(row.fec, SwapFec) and row.fec == former.fec]

    on_a_bed(story)


def test_every_label_comes_back_after_all_have_left() -> None:
    async def story(bed: Bed) -> None:
        hub, *_ = await three(bed, allowas_in=True)
        swaps = [row for row in hub.lfib().values() if isinstance(row.fec, SwapFec)]
        assert len(swaps) == 4
        for n, address in ((1, ONE), (2, TWO)):
            bed.withdraw(n, address)
        await asyncio.sleep(60)
        fecs = {row.fec for row in hub.lfib().values()}
        assert not [fec for fec in fecs if isinstance(fec, SwapFec)]
        assert {str(fec.prefix) for fec in fecs} == {"0.0.0.0/0", "10.77.0.0/16", "192.168.60.0/24", "192.168.61.0/24"}

    on_a_bed(story)


def _default() -> Any:
    from stack.addr import Prefix

    return Prefix(bytes(4), 0)


def _label_of(bed: Bed, name: str, vrf: str, prefix: str) -> int:
    return next(
        label
        for label, row in bed.boxes[name].lfib().items()
        if isinstance(row.fec, PrefixFec) and (row.fec.vrf, str(row.fec.prefix)) == (vrf, prefix)
    )


def _hub_label(hub: Box, vrf: str, prefix: str) -> int:
    return next(
        label
        for label, row in hub.lfib().items()
        if isinstance(row.fec, PrefixFec) and (row.fec.vrf, str(row.fec.prefix)) == (vrf, prefix)
    )


# --- redistribution ----------------------------------------------------------------------------------------------------


def test_redistribute_with_a_route_map() -> None:
    """match tag; set metric, tag, community, route target. A route map that is not there lets nothing pass."""

    async def story(bed: Bed) -> None:
        hub, one, _ = await three(bed)
        detail = one.text("show ip bgp vpnv4 all 10.77.0.0/16")
        assert "metric 70" in detail
        assert "Community: 64510:70" in detail
        assert "RT:64510:1" in detail
        assert "203.0.113.0/24" not in one.routes()  # `global` is not defined
        hub.router.apply(_config(hub_text(maps="route-map global permit 10\n match tag 9")))
        await bed.until(lambda: one.routes().get("203.0.113.0/24") == "bgp", 5)
        leaf = one.leaf("", "203.0.113.5")
        assert one.router.tables.nexthops.get(leaf.next_hop).key.address == HUB_ADDRESS  # next-hop-self
        hub.router.apply(_config(hub_text(maps="route-map global permit 10\n match tag 10")))
        await bed.until(lambda: "203.0.113.0/24" not in one.routes(), 5)

    on_a_bed(story)


@pytest.mark.parametrize(
    ("originate", "default", "told"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_default_information_originate_needs_the_line_and_the_route(originate: bool, default: bool, told: bool) -> None:
    """As IOS: `redistribute` must pick the default route from the VRF's RIB, and the line must allow it."""

    async def story(bed: Bed) -> None:
        hub, one, _ = await three(bed)
        hub.router.apply(_config(hub_text(originate=originate, default=default)))
        await asyncio.sleep(5)
        assert ("0.0.0.0/0" in one.routes("gold")) is told
        assert "0.0.0.0/0" in one.routes("iron")
        hub.router.apply(_config(hub_text()))
        await bed.until(lambda: "0.0.0.0/0" in one.routes("gold"), 5)

    on_a_bed(story)


def _config(text: str) -> Any:
    from stack.config import Config

    return Config.from_ios(text, source="hub")


# --- the listen range and its limit --------------------------------------------------------------------------------------


def test_B18_the_listen_limit_on_real_sessions() -> None:
    async def story(bed: Bed) -> None:
        hub = await bed.hub(limit=1)
        for n in (1, 2):
            await bed.spoke(n)
        bed.assign(1, ONE)
        await bed.until(lambda: hub.up(ONE), 10)
        bed.assign(2, TWO)
        await asyncio.sleep(20)
        assert hub.up(ONE)
        assert not hub.up(TWO)
        assert hub.bgp.snapshot().refused["listen limit"] >= 2
        assert "10.21.0.2, " in hub.text("show bgp summary")
        bed.withdraw(1, ONE)
        await bed.until(lambda: hub.up(TWO), 130)

    on_a_bed(story)


def test_a_passive_hub_never_calls() -> None:
    async def story(bed: Bed) -> None:
        hub, *_ = await three(bed)
        assert all(peer.incoming and peer.dynamic for peer in hub.bgp.snapshot().peers)
        bed.withdraw(1, ONE)
        await asyncio.sleep(120)
        assert not hub.bgp._dialling
        assert hub.bgp.snapshot().dynamic == 1

    on_a_bed(story)


# --- identity binding -----------------------------------------------------------------------------------------------------


def test_a_spoke_speaks_from_its_assigned_address_and_from_no_other() -> None:
    """Spoke 2 has 10.21.0.2, and peers from an address that it made up and got routed to itself."""

    async def story(bed: Bed) -> None:
        hub, _, two = await three(bed)
        made_up = spoke_address(9)
        bed.withdraw(2, TWO)
        bed.assign(2, made_up, hub_says=False)
        hub.say(OverlayState, {("Virtual-Access2", TWO): OverlayRow("spoke 2", bytes((172, 30, 1, 102)))})
        await asyncio.sleep(30)
        assert not hub.up(made_up)
        assert hub.up(ONE)
        assert two.peer(HUB_ADDRESS).established == 1
        refused = hub.bgp.snapshot().refused
        assert refused["not an address that IKEv2 assigned"] >= 2
        summary = hub.router.execute("show bgp summary")
        assert "not an address that IKEv2 assigned\n    10.21.0.9, " in summary.text
        assert summary.value[0]["refusals"][0]["address"] == "10.21.0.9"
        logged = [entry for entry in hub.capture.entries if entry["event"] == "connection refused"]
        assert 1 <= len(logged) <= 12
        assert not {"192.168.64.0/24", "192.168.74.0/24"} & {*hub.routes("gold"), *hub.routes("iron")}

    on_a_bed(story)


def test_with_the_sa_the_session_goes_and_nobody_inherits_it() -> None:
    async def story(bed: Bed) -> None:
        hub, one, _ = await three(bed)
        assert "Address assigned by IKEv2 to spoke 1" in hub.text("show bgp neighbors 10.21.0.1")
        hub.say(OverlayState, {("Virtual-Access1", ONE): OverlayRow("somebody else", bytes((172, 30, 9, 9)))})
        await asyncio.sleep(0.1)
        assert hub.peer(ONE) is None
        assert "192.168.63.0/24" not in hub.routes("gold")
        assert "6/5" in str(one.peer(HUB_ADDRESS).last_end)
        await bed.until(lambda: hub.up(ONE), 10)
        assert hub.peer(ONE).bound == "somebody else"
        hub.say(OverlayState, {("Virtual-Access1", ONE): None})
        hub.say(InterfaceOffered, {"Virtual-Access1": None})
        await asyncio.sleep(0.1)
        assert hub.peer(ONE) is None
        assert hub.up(TWO)

    on_a_bed(story)
