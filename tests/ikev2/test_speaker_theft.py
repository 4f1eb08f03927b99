"""A peer that has proved who it is, and wants what is another's: its neighbour's slot, its address, its lease, our memory.

`evil` is authenticated like everybody: it has a pre-shared key or a certificate of the right authority. `hub` must give it
its own and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import define, evolve

from ikev2.config import (
    CertificateMap,
    Condition,
    IdentityKind,
    IdentityMatch,
    IdentitySpec,
    Keyring,
    KeyringPeer,
    MatchRule,
)
from ikev2.engine.children import MAX_CHILDREN, MAX_LINGERING
from ikev2.engine.contract import ChildTerms, Ends, Grant, Refusal, Terms
from ikev2.engine.exchange.delete import DeleteChild, DeleteIke
from ikev2.engine.exchange.ike_rekey import MAX_ELDERS
from ikev2.engine.lifecycle import LINGER, MAX_CHILDLESS
from ikev2.engine.node import LOG_RATE
from ikev2.engine.peers import Peer
from ikev2.engine.profiles import Profiles
from ikev2.engine.sa import IkeSa
from ikev2.wire import NotifyKind
from ikev2.wire.payloads import Attribute
from stack.addr import Prefix, parse_address
from stack.esp import Selector
from stack.events import (
    AddressOffered,
    BindingOffered,
    SaKey,
    SaUnknown,
    SaWanted,
)
from tests.ikev2 import pki
from tests.ikev2.nodes import Node, World, psk, psk_config, two_ends
from tests.ikev2.pair import Pair, host
from tests.ikev2.test_speaker_access import HUB, come_up, make_hub, make_spoke
from tests.ikev2.test_speaker_profiles import cert_config, material

EVIL, GOOD = "192.0.2.2", "192.0.2.3"
OUTSIDE = "198.51.100.7"
AUTH = 35


def P(text: str) -> Prefix:
    return Prefix.parse(text)


def slot(address: str) -> SaKey:
    return SaKey("Tunnel0", parse_address(address))


@define(eq=False)
class Forging(World):
    """`forge` may send a datagram otherwise; True: it has."""

    forge: Callable[[bytes, Ends], bool] = lambda _octets, _ends: False

    def send(self, octets: bytes, ends: Ends, sender: str = "") -> None:
        if not self.forge(octets, ends):
            World.send(self, octets, ends, sender)

    def once_from(self, source: str, port: int, which: Callable[[bytes], bool]) -> list[bytes]:
        """The first datagram of `evil` that `which` likes comes from another address."""
        seen: list[bytes] = []

        def forge(octets: bytes, ends: Ends) -> bool:
            if ends.local != parse_address(EVIL) or seen or not which(octets):
                return False
            seen.append(octets)
            there = Ends(ends.remote, parse_address(source), ends.remote_port, port)
            self.later(0.01, lambda: self.deliver(octets, there))
            return True

        self.forge = forge
        return seen


def mesh() -> tuple[Forging, Node, Node, Node]:
    """A hub with one mGRE tunnel, and two peers of it. `good` is up."""
    world = Forging()
    hub = world.node("hub", HUB, psk_config())
    hub.protect("Tunnel0", HUB)
    nodes = []
    for name, address in (("evil", EVIL), ("good", GOOD)):
        node = world.node(name, address, psk_config(fqdn=f"{name}.example"))
        node.protect("Tunnel0", address)
        nodes.append(node)
    evil, good = nodes
    good.want("Tunnel0", GOOD, HUB, many=True)
    world.until(lambda: hub.up("Tunnel0", GOOD))
    return world, hub, evil, good


def drive(node: Node, call: Callable[[IkeSa], Any]) -> None:
    """Have the newest IKE SA of `node` do something."""
    speaker, (peer, *_) = node.speaker, [p for p in node.speaker.node.peers.values() if p.sas]
    speaker.node.now = node.world.now
    sa = peer.sa
    speaker.lifecycle.drive(peer, sa, lambda: call(sa))
    node.perform(speaker.node.flush())


def mute(monkeypatch: pytest.MonkeyPatch, node: Node, *tasks: type) -> None:
    """`node` never begins such exchanges."""
    submit = IkeSa.submit

    def submitted(sa: IkeSa, task: Any) -> bool:
        if isinstance(task, tasks) and sa.directory is node.speaker.directory:
            return True
        return submit(sa, task)

    monkeypatch.setattr(IkeSa, "submit", submitted)


def owner(hub: Node, address: str) -> str:
    sa = hub.outbound(slot(address))
    return sa.identity if sa is not None else ""


# --- another peer's slot of an mGRE tunnel ------------------------------------------------------------------------------------


def test_selectors_of_another_peer_are_not_answered() -> None:
    """Selectors are narrowed to the two ends of the IKE SA, and the slot is that of the address it came from."""
    world, hub, evil, _ = mesh()
    evil.want("Tunnel0", EVIL, HUB, many=True)
    world.until(lambda: evil.up("Tunnel0", HUB))
    good, all_of_it = parse_address(GOOD), (Selector(bytes(4), b"\xff" * 4),)
    held = evil.speaker.node.profiles.child_terms("P", slot(HUB), evil.address, parse_address(HUB))
    assert isinstance(held, ChildTerms)
    for own in ((Selector(good, good, 47),), (Selector(good, good, 0),), (Selector(bytes(16), b"\xff" * 16),)):
        before = set(hub.sad.inbound)
        drive(evil, lambda sa, own=own: sa.add_child(evolve(held, own=own), world.now))
        world.run(1)
        assert set(hub.sad.inbound) == before
        assert evil.reasons("CHILD_SA was refused")[-1] == "TS_UNACCEPTABLE"
    drive(evil, lambda sa: sa.add_child(evolve(held, own=all_of_it, far=all_of_it), world.now))
    world.run(1)
    for sa in hub.sad.inbound.values():
        if sa.identity == "evil.example":
            assert (sa.key, sa.remote) == (slot(EVIL), parse_address(EVIL))
            assert sa.far == (Selector(evil.address, evil.address, 47),)
    assert owner(hub, GOOD) == "good.example"


def test_ike_auth_from_another_address_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """evil  IKE_SA_INIT             -->  hub     (from its own address: it gets the answer)
    evil  IKE_AUTH, source `good`    -->  hub     (not answered; its repetition from evil's own address is)"""
    world, hub, evil, _ = mesh()
    mine = parse_address(GOOD)
    terms = Profiles.child_terms

    def lying(profiles: Profiles, *asked: Any) -> Any:
        found = terms(profiles, *asked)
        return evolve(found, own=(Selector(mine, mine, 47),)) if profiles is evil.speaker.node.profiles else found

    monkeypatch.setattr(Profiles, "child_terms", lying)
    forged = world.once_from(GOOD, 500, lambda octets: octets[18] == AUTH)
    evil.want("Tunnel0", EVIL, HUB, many=True)
    world.run(3)
    assert forged
    assert owner(hub, GOOD) == "good.example"
    assert not hub.gaps
    assert not [sa for sa in hub.sad.inbound.values() if sa.identity == "evil.example"]


def test_a_peer_that_claims_a_nat_does_not_move_into_another_s_slot() -> None:
    """RFC 7296 2.23: who is behind a NAT is followed to where its last message came from. A forged source must not make it
    another's neighbour."""
    world, hub, evil, _ = mesh()
    world.nat[evil.address] = (parse_address(OUTSIDE), 1000)
    evil.want("Tunnel0", EVIL, HUB, many=True)
    world.until(lambda: hub.up("Tunnel0", OUTSIDE))
    child = evil.speaker.node.profiles.child_terms("P", slot(HUB), evil.address, parse_address(HUB))
    assert isinstance(child, ChildTerms)
    forged = world.once_from(GOOD, 4500, lambda _octets: True)
    drive(evil, lambda sa: sa.add_child(child, world.now))
    world.run(10)
    assert forged
    assert owner(hub, GOOD) == "good.example"
    assert not [key for _, key in hub.gaps if key == slot(GOOD)]
    assert {sa.key for sa in hub.sad.inbound.values() if sa.identity == "evil.example"} == {slot(OUTSIDE)}


def test_what_is_left_of_a_replaced_ike_sa_does_not_say_where_the_peer_is() -> None:
    """evil rekeys its IKE SA and says DELETE of the old one from another address."""
    world, hub, evil, _ = mesh()
    world.nat[evil.address] = (parse_address(OUTSIDE), 1000)
    evil.want("Tunnel0", EVIL, HUB, many=True)
    world.until(lambda: hub.up("Tunnel0", OUTSIDE))
    drive(evil, lambda sa: sa.rekey(world.now))
    world.run(0.015)
    world.once_from("203.0.113.9", 4500, lambda _octets: True)
    world.run(3)
    evil.hear(SaWanted, {slot(HUB): None})
    world.run(3)
    # the hub looks nobody up who is not there
    hub.fact(SaUnknown(parse_address(HUB), parse_address("203.0.113.9"), 1))
    assert set(hub.speaker.node.by_remote) == {("", parse_address(GOOD))}


@pytest.mark.parametrize("alive", [True, False])
def test_two_peers_at_one_address_do_not_throw_each_other_out(alive: bool) -> None:
    """Both behind one NAT, or `evil` has got hold of `good`'s address. Who was there first stays while it answers."""
    world, hub, evil, good = mesh()
    good.hear(SaWanted, {slot(HUB): None})
    world.run(LINGER + 5)
    world.nat[good.address] = (parse_address(OUTSIDE), 1000)
    good.want("Tunnel0", GOOD, HUB, many=True)
    world.until(lambda: hub.up("Tunnel0", OUTSIDE))
    if not alive:
        good.vanish()
    world.nat[evil.address] = (parse_address(OUTSIDE), 2000)
    evil.want("Tunnel0", EVIL, HUB, many=True)
    world.run(20)
    assert owner(hub, OUTSIDE) == "good.example"
    assert "good.example is there already" in hub.reasons("CHILD_SA refused")
    world.run(120)
    assert owner(hub, OUTSIDE) == ("good.example" if alive else "evil.example")
    assert good.alive is alive
    if alive:
        assert len([key for _, key in hub.gaps if key == slot(OUTSIDE)]) == 0


# --- another peer's identity --------------------------------------------------------------------------------------------------


def test_a_certificate_map_does_not_make_an_identity_anybody_s() -> None:
    """Both certificates pass the map; `evil` says that it is `good`, whose certificate has that name."""
    maps = {"M": CertificateMap("M", {10: (Condition("subject-name", MatchRule.CO, "o = cisco"),)})}
    hub_side = cert_config(match_remote=(), match_certificate=("M",), certificate_maps=maps)
    name = IdentitySpec(IdentityKind.FQDN, "R3-spoke.cisco.com")
    world = World()
    hub = world.node("hub", HUB, hub_side, materials={"CA": material(pki.HUB["ec256"])})
    hub.protect("Tunnel0", HUB)
    good = world.node("good", GOOD, cert_config(identity_local=name), materials={"CA": material(pki.LEAVES["ec256"])})
    evil = world.node("evil", EVIL, cert_config(identity_local=name), materials={"CA": material(pki.HUB["ec256"])})
    for node, address in ((good, GOOD), (evil, EVIL)):
        node.protect("Tunnel0", address)
        node.want("Tunnel0", address, HUB, many=True)
        world.until(lambda node=node: node.up("Tunnel0", HUB))
    world.run(20)
    # INITIAL_CONTACT of the second did not end the first
    assert hub.up("Tunnel0", GOOD)
    assert hub.up("Tunnel0", EVIL)
    assert not hub.gaps
    first, second = (peer.holder for peer in hub.speaker.node.peers.values())
    assert first != second


def keys(**more: IdentityMatch) -> Keyring:
    return Keyring(
        "K",
        {
            name: KeyringPeer(
                name,
                prefix=P(f"{address}/32"),
                identity=more.get(name),
                local_key=f"{name} key",
                remote_key=f"{name} key",
            )
            for name, address in (("evil", EVIL), ("good", GOOD))
        },
    )


@pytest.mark.parametrize("named", [True, False])
def test_a_key_of_one_s_own_does_not_prove_another_s_name(named: bool) -> None:
    """`named`: the keyring says whose name is whose; else nothing does, and the two are told apart by their keys."""
    world = World()
    names = {name: IdentityMatch(IdentityKind.FQDN, f"{name}.example") for name in ("evil", "good")} if named else {}
    hub = world.node("hub", HUB, psk_config(evolve(psk(key=""), keyring="K"), keyrings={"K": keys(**names)}))
    hub.protect("Tunnel0", HUB)
    for name, address in (("good", GOOD), ("evil", EVIL)):
        node = world.node(name, address, psk_config(psk(key=f"{name} key"), fqdn="good.example"))
        node.protect("Tunnel0", address)
        node.want("Tunnel0", address, HUB, many=True)
        world.run(10)
    assert hub.up("Tunnel0", GOOD)
    assert not hub.gaps
    assert hub.up("Tunnel0", EVIL) is not named


def test_who_is_called_does_not_answer_by_another_s_name() -> None:
    world = World()
    names = {name: IdentityMatch(IdentityKind.FQDN, f"{name}.example") for name in ("evil", "good")}
    hub = world.node("hub", HUB, psk_config(evolve(psk(key=""), keyring="K"), keyrings={"K": keys(**names)}))
    hub.protect("Tunnel0", HUB)
    for name in ("evil", "good"):
        evil = world.node(name, EVIL, psk_config(psk(key="evil key"), fqdn=f"{name}.example"))
        evil.protect("Tunnel0", EVIL)
        hub.want("Tunnel0", HUB, EVIL, many=True)
        world.run(5)
        assert hub.up("Tunnel0", EVIL) is (name == "evil")
        hub.clear()
        world.run(1)
    state = hub.state("Tunnel0", EVIL)
    assert state is not None
    assert "good.example has another pre-shared key" in state.reason


# --- addresses and routes -----------------------------------------------------------------------------------------------------


def subnet(text: str) -> Attribute:
    prefix = P(text)
    mask = ((0xFFFFFFFF << (32 - prefix.length)) & 0xFFFFFFFF).to_bytes(4)
    return Attribute(13, prefix.network + mask)


def hub_and_two() -> tuple[World, Node, Node, Node]:
    world = World()
    hub = make_hub(world)
    first, second = make_spoke(world, 1), make_spoke(world, 2)
    come_up(world, hub, first, second)
    return world, hub, first, second


def via(hub: Node, prefix: str) -> str:
    route = hub.routes().get(P(prefix))
    return route.vias[0].interface if route is not None else ""


def test_a_prefix_that_two_announce_is_the_first_one_s_while_it_stands() -> None:
    world, hub, first, second = hub_and_two()
    for spoke in (first, second):
        drive(spoke, lambda sa: sa.push((subnet("10.9.0.0/16"),), world.now))
        world.run(1)
    assert via(hub, "10.9.0.0/16") == "Virtual-Access1"
    # what the first one's row is made of changes; it stays the first one's
    hub.interface("Virtual-Access1", "10.0.0.1/32", mpls=False)
    hub.interface("Virtual-Access1", "10.0.0.1/32", mpls=True)
    assert via(hub, "10.9.0.0/16") == "Virtual-Access1"
    first.hear(SaWanted, {SaKey("Tunnel0"): None})
    world.run(LINGER + 5)
    assert via(hub, "10.9.0.0/16") == "Virtual-Access2"


def test_no_address_of_ours_is_a_peer_s() -> None:
    """Not even one of an interface that is no tunnel."""
    world, hub, first, _ = hub_and_two()
    hub.interface("Loopback7", "10.77.0.1/32")
    drive(first, lambda sa: sa.push((subnet("10.77.0.1/32"), subnet("10.78.0.1/32")), world.now))
    world.run(1)
    assert via(hub, "10.78.0.1/32") == "Virtual-Access1"
    assert via(hub, "10.77.0.1/32") == ""
    assert hub.reasons("a peer's route is refused") == ["it is our own address"]


def test_an_address_that_is_given_to_a_peer_is_taken_from_who_announced_it() -> None:
    world = World()
    hub = make_hub(world)
    first = make_spoke(world, 1)
    come_up(world, hub, first)
    drive(first, lambda sa: sa.push((subnet("10.0.0.11/32"),), world.now))
    world.run(1)
    assert via(hub, "10.0.0.11/32") == "Virtual-Access1"
    second = make_spoke(world, 2)
    come_up(world, hub, second)
    assert ("Tunnel0", parse_address("10.0.0.11")) in second.table(AddressOffered)
    assert via(hub, "10.0.0.11/32") == "Virtual-Access2"
    assert hub.table(BindingOffered)["", P("10.0.0.11/32"), b""] == (3,)
    assert hub.reasons("a peer's route is refused") == ["it is another peer's"]


@pytest.mark.parametrize("address", ["10.5.0.1", HUB, "192.0.2.11"])
def test_an_address_that_we_are_given_is_not_one_that_we_have(address: str) -> None:
    """Of another interface, or an outer one of this tunnel."""
    world = World()
    hub = make_hub(world, authorises=True)
    spoke = make_spoke(world, 1)
    spoke.interface("Loopback5", "10.5.0.1/32")
    world.until(lambda: bool(hub.asked))
    hub.answer(Grant((Attribute(1, parse_address(address)),)))
    world.until(lambda: spoke.up("Tunnel0"))
    assert not spoke.table(AddressOffered)
    assert len(spoke.reasons("an address is refused")) == 1


def test_what_an_embedder_allows_holds_for_every_child_sa(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Grant's selectors are not got round by CREATE_CHILD_SA, nor by a rekey of the IKE SA."""
    monkeypatch.setattr("ikev2.engine.exchange.init.FLEXVPN", b"another")
    pair = Pair.of()
    pair.b.directory.answer = Grant(selectors=host(bytes((10, 0, 0, 9))))
    pair.a.initiate(pair.a.directory.children)
    pair.run()
    for _ in range(2):
        assert not pair.b.inbound
        assert pair.a.downs[-1].refused
        pair.a.do("rekey", pair.now)
        pair.run()
        pair.a.do("add_child", pair.a.directory.children, pair.now)
        pair.run()
    assert not pair.b.inbound


def test_who_is_given_no_address_gets_no_child_sa_by_asking_again() -> None:
    """RFC 7296 3.15.4: without an address there is no CHILD_SA, but the IKE SA stands; CREATE_CHILD_SA is not a way round."""
    pair = Pair.of()
    pair.b.directory.answer = Refusal("the pool is empty", NotifyKind.INTERNAL_ADDRESS_FAILURE)
    pair.a.initiate(pair.a.directory.children)
    pair.run()
    for _ in range(2):
        pair.a.do("add_child", pair.a.directory.children, pair.now)
        pair.run()
        assert not pair.b.inbound
        assert pair.log[-1].names == "N(INTERNAL_ADDRESS_FAILURE)"
        pair.a.do("rekey", pair.now)
        pair.run()


@pytest.mark.parametrize("answer", [Grant((3,)), Grant("x"), Grant((), (1,)), Grant((Attribute("a", 5),))])
def test_whatever_an_embedder_answers_others_are_served(answer: Any) -> None:
    world = World()
    hub = make_hub(world, authorises=True)
    make_spoke(world, 1)
    world.until(lambda: bool(hub.asked))
    hub.answer(answer)
    hub.asked.clear()
    world.run(0.5)
    other = make_spoke(world, 2)
    world.until(lambda: bool([one for one in hub.asked if b"spoke2" in one.request.identity.octets]))
    hub.asked[:] = [one for one in hub.asked if b"spoke2" in one.request.identity.octets]
    hub.answer(Grant())
    world.until(lambda: other.up("Tunnel0"))


# --- our memory ---------------------------------------------------------------------------------------------------------------


def test_a_peer_that_rekeys_its_ike_sa_and_never_deletes_is_slowed_down(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", "192.0.2.1", "192.0.2.2")
    world.run(2)
    mute(monkeypatch, a, DeleteIke)
    most = 0
    for _ in range(4 * MAX_ELDERS):
        drive(a, lambda sa: sa.rekey(world.now))
        world.run(0.05)
        most = max(most, len(b.speaker.node.ike_spis))
    assert most == MAX_ELDERS + 1
    # it is not refused for good, and what it left behind ends
    world.run(100)
    drive(a, lambda sa: sa.rekey(world.now))
    world.run(40)
    assert len(b.speaker.node.ike_spis) <= 2
    assert b.up("Tunnel0")


def test_a_peer_that_rekeys_a_child_sa_and_never_deletes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", "192.0.2.1", "192.0.2.2")
    world.run(2)
    mute(monkeypatch, a, DeleteChild)
    for _ in range(5 * MAX_CHILDREN):
        (number,) = [child.number for peer in a.speaker.node.peers.values() for child in peer.children.values()]
        drive(a, lambda sa, number=number: sa.rekey_child(number, world.now))
        world.run(0.05)
        assert len(b.sad.inbound) <= 2 * MAX_CHILDREN
    assert len(b.sad.inbound) == 2 * MAX_CHILDREN
    assert b.up("Tunnel0")


def test_child_sas_that_come_and_go_leave_few_behind() -> None:
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", "192.0.2.1", "192.0.2.2")
    world.run(2)
    most = 0
    for _ in range(4 * MAX_LINGERING):
        (number,) = [child.number for peer in a.speaker.node.peers.values() for child in peer.children.values()]
        drive(a, lambda sa, number=number: sa.rekey_child(number, world.now))
        world.run(0.05)
        most = max(most, len(b.sad.inbound))
    assert most <= MAX_LINGERING + 2
    world.run(LINGER + 1)
    assert len(b.sad.inbound) == 1
    assert len(b.speaker.node.esp_spis) == 1


def test_one_identity_has_few_ike_sas_without_a_child_sa() -> None:
    """evil  IKE_SA_INIT, IKE_AUTH without SA payload (RFC 6023)  -->  hub, again and again, never INITIAL_CONTACT"""
    world, hub, evil, _ = mesh()
    held = evil.speaker.node
    for number in range(3 * MAX_CHILDLESS):
        profile = held.config.profiles["default"]
        ends = Ends(evil.address, parse_address(HUB))
        terms = held.profiles.terms(profile, ends, None, bind=True, known_contact=True)
        assert isinstance(terms, Terms)
        held.now = world.now
        peer = Peer(held.number(), ends, True, world.now, profile.name)
        held.enter(peer)
        sa, out = IkeSa.initiate(
            number, ends, evil.speaker.directory, terms, None, held.entropy, held.settings, world.now
        )
        evil.speaker.lifecycle.register(peer, sa)
        evil.speaker.lifecycle.drive(peer, sa, lambda out=out: out)
        evil.perform(held.flush())
        world.run(0.1)
    assert len(hub.speaker.node.by_remote["", evil.address]) == MAX_CHILDLESS
    assert hub.up("Tunnel0", GOOD)


def test_a_peer_cannot_fill_our_log() -> None:
    world, hub, first, _ = hub_and_two()
    for turn in range(20):
        prefixes = tuple(subnet(f"10.77.{turn}.{n}/32") for n in range(100))
        for n in range(100):
            hub.speaker.node.own["", parse_address(f"10.77.{turn}.{n}")] = {"Loopback7"}
        drive(first, lambda sa, prefixes=prefixes: sa.push(prefixes, world.now))
        world.run(0.02)
    said = [log for log in hub.logs if log.event == "a peer's route is refused"]
    assert len(said) == 2000
    assert 0 < len([log for log in said if log.level == "warning"]) <= 2 * LOG_RATE
    assert hub.speaker.node.counters["log lines left out"] == len([log for log in said if log.level == "debug"])


def test_a_reflection_of_ourselves_is_not_the_peer() -> None:
    """good  IKE_SA_INIT, source HUB  -->  good    (somebody on the way sends back whatever good sends to the hub)

    Both directions have the same pre-shared key, and anybody's identity will do: good would establish SAs with itself and
    believe that they lead to the hub."""
    world = Forging()
    good = world.node("good", GOOD, psk_config())
    good.protect("Tunnel0", GOOD, HUB)

    def back(octets: bytes, ends: Ends) -> bool:
        world.later(0.01, lambda: world.deliver(octets, ends))
        return True

    world.forge = back
    good.want("Tunnel0", GOOD, HUB)
    world.run(5)
    assert not good.sad.inbound
    assert not good.up("Tunnel0")
    assert good.speaker.node.admission.counters["our own IKE_SA_INIT"]
    world.run(100)
    assert not good.sad.inbound


@pytest.mark.parametrize(
    ("prefix", "taken"), [("192.0.2.12/32", False), ("192.0.2.12/31", False), ("192.0.3.0/24", True)]
)
def test_nobody_announces_where_another_tunnel_s_far_end_is(prefix: str, taken: bool) -> None:
    """192.0.2.12 is the second spoke. Where the inside is a VRF of its own, its routes do not touch what is outside."""
    world, hub, first, _ = hub_and_two()
    drive(first, lambda sa: sa.push((subnet(prefix),), world.now))
    world.run(1)
    assert bool(via(hub, prefix)) is taken
    hub.interface("Virtual-Access1", "10.0.0.1/32", vrf="red")
    assert P(prefix) in hub.routes("red")
