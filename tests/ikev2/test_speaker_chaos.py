"""Anything, in any order; afterwards one SA, and when nobody wants it any more, nothing."""

from __future__ import annotations

import random

import pytest
from attrs import evolve

from ikev2.config import Dpd
from ikev2.engine.lifecycle import LINGER
from stack.addr import Prefix, parse_address
from stack.events import AccessWanted, AddressOffered, BindingOffered, SaKey, SaSoft, SaWanted
from tests.ikev2.nodes import Node, World, psk, psk_config, together, two_ends
from tests.ikev2.test_speaker_access import clone, make_hub, make_spoke

A, B = "192.0.2.1", "192.0.2.2"
KEY = SaKey("Tunnel0")


def step(world: World, dice: random.Random, node: Node, ends: tuple[str, str]) -> None:
    match dice.choice(
        ["clear", "crash", "restart", "vanish", "rekey", "ike", "loss", "want", "unwant", "wait", "change"]
    ):
        case "clear":
            node.clear()
        case "crash":
            node.crash()
        case "restart":
            if not node.alive:
                node.begin()
        case "vanish":
            said = {topic: dict(rows) for topic, rows in node.said.items()}
            node.vanish()
            node.said.update(said)
            node.begin()
        case "rekey":
            sa = node.outbound(KEY)
            if sa is not None and node.alive:
                node.fact(SaSoft(sa.spi, inbound=False))
        case "ike":
            for peer in list(node.speaker.node.peers.values()):
                if peer.sas and node.alive:
                    sa = peer.sa
                    node.speaker.lifecycle.drive(peer, sa, lambda sa=sa: sa.rekey(world.now))
            node.perform(node.speaker.wake(world.now) if node.alive else [])
        case "loss":
            share = dice.choice([0.0, 0.0, 0.3, 0.9])
            world.drop = lambda _octets, _source, _destination: dice.random() < share
        case "want":
            if node.alive:
                node.want("Tunnel0", *ends)
        case "unwant":
            if node.alive and KEY in node.said[SaWanted]:
                node.hear(SaWanted, {KEY: None})
        case "change":
            if node.alive:
                profile = psk(lifetime=dice.choice([86400, 3000, 900]))
                node.reconfigure(psk_config(evolve(profile, dpd=Dpd(10, 2, on_demand=False)), lifetime_seconds=600))
        case _:
            world.run(dice.choice([1.0, 40.0]))


@pytest.mark.parametrize("seed", range(40))
def test_it_always_comes_to_rest(seed: int) -> None:
    dice, world = random.Random(seed), World()
    config = psk_config(evolve(psk(), dpd=Dpd(10, 2, on_demand=False)), lifetime_seconds=600)
    a, b = two_ends(world, config, config)
    a.want("Tunnel0", A, B)
    for _ in range(40):
        node, ends = dice.choice([(a, (A, B)), (b, (B, A))])
        step(world, dice, node, ends)
        world.run(dice.choice([0.0, 0.005, 0.02, 0.5, 3.0]))
        for each in (a, b):
            # what is sent by is what was said to be, whatever happens
            each.up("Tunnel0")
            assert not [log for log in each.logs if log.event == "an IKE SA failed"]
    world.drop = lambda _octets, _source, _destination: False
    for node, ends in ((a, (A, B)), (b, (B, A))):
        if not node.alive:
            node.begin()
        node.want("Tunnel0", *ends)
    world.run(400)
    assert together(a, b)
    for node in (a, b):
        assert len(node.snapshot().ikes) <= 2
        assert len(node.sad.inbound) <= 2
    for node in (a, b):
        node.hear(SaWanted, {KEY: None})
    world.run(LINGER + 200)
    for node in (a, b):
        assert node.empty, node.snapshot()


def flex_step(world: World, dice: random.Random, hub: Node, spokes: list[Node]) -> None:
    node = dice.choice([hub, *spokes])
    match dice.choice(["clear", "crash", "restart", "vanish", "loss", "clone", "mpls", "nat", "wait", "rekey"]):
        case "clear":
            if node.alive:
                node.clear()
        case "crash":
            node.crash()
        case "restart":
            if not node.alive:
                node.begin()
        case "vanish":
            if node is not hub:
                said = {topic: dict(rows) for topic, rows in node.said.items()}
                node.vanish()
                node.said.update(said)
                node.begin()
        case "loss":
            share = dice.choice([0.0, 0.0, 0.3, 0.9])
            world.drop = lambda _octets, _source, _destination: dice.random() < share
        case "clone":
            if hub.alive:
                clone(hub)
        case "mpls":
            if hub.alive:
                hub.interface("Virtual-Access1", "10.0.0.1/32", mpls=dice.random() < 0.5, vrf=dice.choice(["", "red"]))
        case "nat":
            world.nat[spokes[0].address] = (parse_address("203.0.113.5"), dice.choice([10000, 20000]))
        case "rekey":
            for sa in [bundle.outbound for bundle in node.sad]:
                if node.alive and sa is not None:
                    node.fact(SaSoft(sa.spi, inbound=False))
        case _:
            world.run(dice.choice([1.0, 40.0]))


@pytest.mark.parametrize("seed", range(25))
def test_a_hub_and_its_spokes_always_come_to_rest(seed: int) -> None:
    dice, world = random.Random(seed), World()
    hub = make_hub(world)
    spokes = [make_spoke(world, 1), make_spoke(world, 2), make_spoke(world, 3, negotiated=False)]
    for _ in range(30):
        flex_step(world, dice, hub, spokes)
        world.run(dice.choice([0.0, 0.005, 0.02, 0.5, 3.0]))
        for node in (hub, *spokes):
            assert not [log for log in node.logs if log.event == "an IKE SA failed"]
    world.drop = lambda _octets, _source, _destination: False
    for node in (hub, *spokes):
        if not node.alive:
            node.begin()
    for node in spokes:
        node.clear()
    world.run(360)
    for name in hub.table(AccessWanted):
        hub.interface(name, "10.0.0.1/32")
    world.run(2)
    assert all(spoke.up("Tunnel0") for spoke in spokes)
    assert sorted(row.description for row in hub.table(AccessWanted).values()) == [
        f"IKEv2 peer spoke{n}.example" for n in (1, 2, 3)
    ]
    assert all(hub.up(name) for name in hub.table(AccessWanted))
    addresses = {key[1] for spoke in spokes for key in spoke.table(AddressOffered)} | {parse_address("10.0.0.103")}
    assert set(hub.routes()) == {Prefix.host(address) for address in addresses}
    assert len(addresses) == 3
    assert hub.routes("red") == {}
    assert len(hub.table(BindingOffered)) == 3
    assert hub.snapshot().pools[0].used == 2
    for node in spokes:
        node.hear(SaWanted, {KEY: None})
    world.run(LINGER + 200)
    for node in (hub, *spokes):
        assert node.empty
        assert not any(node.table(topic) for topic in (AccessWanted, BindingOffered, AddressOffered))
        assert node.routes() == {}
