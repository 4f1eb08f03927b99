"""Whole speakers: wants, responders, reasons, changes. Virtual access and mode config are in test_speaker_access.py."""

from __future__ import annotations

import random
from typing import Any

import pytest
from attrs import evolve

from ikev2.config import (
    AuthMethod,
    Dpd,
    IdentityKind,
    IdentityMatch,
    IkeProfile,
    IkeProposal,
    IpsecProfile,
    Keyring,
    KeyringPeer,
    Policy,
)
from ikev2.engine import wants
from ikev2.engine.sa import IkeSa
from ikev2.events import ChildSaUp, IkeSaDown, IkeSaUp, PeerRefused
from stack.addr import Prefix, parse_address
from stack.events import ProtectedRow, SaKey, SaSoft, SaState, SaUnknown, SaWanted, TunnelProtected
from tests.ikev2.nodes import World, psk, psk_config, together, two_ends

A, B = "192.0.2.1", "192.0.2.2"


def test_one_want_brings_both_ends_up() -> None:
    world = World()
    a, b = two_ends(world)
    key = a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    row = a.state("Tunnel0")
    assert row is not None
    assert (row.identity, row.reason) == ("192.0.2.2", "")
    assert row.form is not None
    assert row.form.room(1500) == 1500 - 20 - 8 - 8 - 16 - 2
    assert [type(fact) for fact in b.facts] == [IkeSaUp, ChildSaUp]
    outbound = a.outbound(key)
    assert outbound is not None
    assert [(s.first, s.last, s.protocol) for s in outbound.own] == [(parse_address(A), parse_address(A), 47)]
    assert row.child == outbound.child


def test_both_may_want_it() -> None:
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    b.want("Tunnel0", B, A)
    world.run(30)
    assert len(b.snapshot().ikes) == 1
    assert b.snapshot().wants[0].up


def test_mgre_has_a_key_for_each_far_end() -> None:
    world = World()
    hub = world.node("hub", A, psk_config())
    spokes = [world.node(f"s{n}", f"192.0.2.{n}", psk_config()) for n in (2, 3)]
    hub.protect("Tunnel0", A)
    for spoke, n in zip(spokes, (2, 3), strict=True):
        spoke.protect("Tunnel9", f"192.0.2.{n}")
        spoke.want("Tunnel9", f"192.0.2.{n}", A, many=True)
    hub.want("Tunnel0", A, "192.0.2.3", many=True)
    world.until(lambda: hub.up("Tunnel0", "192.0.2.2") and hub.up("Tunnel0", "192.0.2.3"))
    world.until(lambda: all(spoke.up("Tunnel9", A) for spoke in spokes))
    assert set(hub.table(SaState)) == {SaKey("Tunnel0", parse_address(s)) for s in ("192.0.2.2", "192.0.2.3")}


def test_no_longer_wanted_is_gone_at_once() -> None:
    world = World()
    a, b = two_ends(world)
    key = a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    a.hear(SaWanted, {key: None})
    assert a.outbound(key) is None
    assert a.table(SaState) == {}
    world.run(15)
    assert a.empty
    assert b.empty
    assert b.table(SaState) == {}
    assert [fact.reason for fact in a.facts if isinstance(fact, IkeSaDown)] == ["no longer wanted"]
    assert [fact.peer for fact in b.facts if isinstance(fact, IkeSaDown)] == [True]


def test_what_the_peer_began_stays_while_it_wants_it() -> None:
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    key = b.want("Tunnel0", B, A)
    b.hear(SaWanted, {key: None})
    world.run(10)
    assert together(a, b)
    b.hear(TunnelProtected, {"Tunnel0": None})
    world.run(1)
    assert not b.up("Tunnel0")
    assert not a.up("Tunnel0")


def test_reason_of_silence_then_back_off() -> None:
    world = World()
    a = world.node("a", A, psk_config())
    a.protect("Tunnel0", A, B)
    a.want("Tunnel0", A, B)
    row = a.state("Tunnel0")
    assert row is not None
    assert (row.up, row.reason) == (False, "negotiating")
    world.run(600)
    row = a.state("Tunnel0")
    assert row is not None
    assert row.reason == "no answer from 192.0.2.2"
    assert 5 <= a.snapshot().wants[0].attempts <= 20
    assert len(a.snapshot().ikes) <= 1
    assert not a.sad.inbound or a.snapshot().ikes


def test_I09_wrong_key_one_fixed_text_outside_and_the_reason_inside() -> None:
    world = World()
    a, b = two_ends(world, psk_config(psk(key="one")), psk_config(psk(key="another")))
    a.want("Tunnel0", A, B)
    world.run(5)
    row = a.state("Tunnel0")
    assert row is not None
    assert not row.up
    assert "AUTHENTICATION_FAILED" in row.reason or "authentication failed" in row.reason.lower()
    assert not b.table(SaState)
    refused = [fact for fact in b.facts if isinstance(fact, PeerRefused)]
    assert refused
    assert refused[0].identity == "192.0.2.1"
    assert "pre-shared" in refused[0].reason or "AUTH" in refused[0].reason
    world.run(120)
    assert not b.sad.inbound
    assert not a.sad.bundles


def test_no_common_proposal() -> None:
    world = World()
    proposals = {n: IkeProposal(n, ("aes-gcm-256",), prf=("sha512",), groups=(g,)) for n, g in (("x", 19), ("y", 31))}
    left = psk_config(proposals=proposals, policies={"p": Policy("p", ("x",))})
    right = psk_config(proposals=proposals, policies={"p": Policy("p", ("y",))})
    a, _ = two_ends(world, left, right)
    a.want("Tunnel0", A, B)
    world.run(200)
    row = a.state("Tunnel0")
    assert row is not None
    assert not row.up
    assert "NO_PROPOSAL_CHOSEN" in row.reason or "no proposal chosen" in row.reason.lower()


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (psk_config(ipsec_profiles={}), "IPsec profile P is not defined"),
        (psk_config(ipsec_profiles={"P": IpsecProfile("P", ike_profile="X")}), "IKEv2 profile X is not defined"),
        (
            psk_config(ipsec_profiles={"P": IpsecProfile("P", transform_sets=("T",))}),
            "transform set T is not defined",
        ),
        (psk_config(psk("a"), psk("b")), "IPsec profile P names no IKEv2 profile"),
        (psk_config(IkeProfile("default")), "profile default cannot be used: no match identity or match certificate"),
        (psk_config(psk(key="")), "profile default cannot be used: no keyring and no pre-shared key"),
        (
            psk_config(evolve(psk(), auth_local=AuthMethod.RSA_SIG, trustpoints=("T",))),
            "profile default cannot be used: trustpoint T is not defined",
        ),
        (
            psk_config(ipsec_profiles={"P": IpsecProfile("P", responder_only=True)}),
            "waits for the peer (responder-only)",
        ),
    ],
)
def test_why_it_is_not_even_tried(config: Any, reason: str) -> None:
    world = World()
    a = world.node("a", A, config)
    a.protect("Tunnel0", A, B)
    a.want("Tunnel0", A, B)
    world.run(100)
    row = a.state("Tunnel0")
    assert row is not None
    assert (row.up, row.reason) == (False, reason)
    assert world.wire == []


def test_a_configuration_that_mends_it_is_tried_at_once() -> None:
    world = World()
    a, b = two_ends(world, psk_config(ipsec_profiles={}))
    a.want("Tunnel0", A, B)
    world.run(100)
    a.reconfigure(psk_config())
    assert world.until(lambda: together(a, b)) < 1


def test_responder_only_lets_the_peer_come() -> None:
    world = World()
    a, b = two_ends(world, psk_config(ipsec_profiles={"P": IpsecProfile("P", responder_only=True)}))
    a.want("Tunnel0", A, B)
    b.want("Tunnel0", B, A)
    world.until(lambda: together(a, b))
    assert a.snapshot().counters.get("initiated", 0) == 0


def test_so_many_at_once() -> None:
    world = World()
    a = world.node("a", A, psk_config())
    for n in range(200):
        remote = f"198.51.100.{n}"
        a.protect(f"Tunnel{n}", A, remote)
        a.want(f"Tunnel{n}", A, remote)
    assert len(a.snapshot().ikes) == wants.MAX_IN_FLIGHT
    world.run(300)
    assert len(a.snapshot().ikes) <= wants.MAX_IN_FLIGHT
    assert all(want.attempts >= 2 for want in a.snapshot().wants)


def test_a_peer_of_another_profile_cannot_take_the_tunnel() -> None:
    world = World()
    mine = psk_config(
        psk("strong", key="k1", match_remote=(IdentityMatch(IdentityKind.FQDN, "hub.example"),)),
        psk("weak", key="k2"),
        ipsec_profiles={"P": IpsecProfile("P", ike_profile="strong")},
    )
    a, b = two_ends(world, psk_config(psk(key="k2")), mine)
    a.want("Tunnel0", A, B)
    world.run(5)
    assert not a.up("Tunnel0")
    assert not b.table(SaState)
    assert a.state("Tunnel0").reason  # type: ignore[union-attr]


def test_keyrings_by_address() -> None:
    ring = Keyring(
        "K",
        {
            "any": KeyringPeer("any", prefix=Prefix.parse("0.0.0.0/0"), local_key="wrong", remote_key="wrong"),
            "net": KeyringPeer("net", prefix=Prefix.parse("192.0.2.0/24"), local_key="wrong", remote_key="wrong"),
            "one": KeyringPeer("one", prefix=Prefix.parse("192.0.2.1/32"), local_key="bb", remote_key="aa"),
        },
    )
    profile = evolve(psk(key=""), keyring="K")
    world = World()
    left = psk_config(evolve(psk(), local_key="aa", remote_key="bb"))
    a, b = two_ends(world, left, psk_config(profile, keyrings={"K": ring}))
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))


def test_I16_dead_peer_is_found_and_cleaned_up() -> None:
    world = World()
    config = psk_config(evolve(psk(), dpd=Dpd(10, 2, on_demand=False)))
    a, b = two_ends(world, config, config)
    key = a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    b.vanish()
    world.until(lambda: not a.up("Tunnel0"), 120)
    assert a.outbound(key) is None
    row = a.state("Tunnel0")
    assert row is not None
    assert not row.up
    world.run(5)
    assert all(sa.key == key for sa in a.sad.inbound.values())


def test_I16_a_peer_that_comes_back_says_so_and_replaces_the_old() -> None:
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    old = set(b.sad.inbound)
    a.vanish()
    world.run(20)
    a.begin()
    a.protect("Tunnel0", A, B)
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    assert "the peer has begun anew" in [fact.reason for fact in b.facts if isinstance(fact, IkeSaDown)]
    assert b.gaps == []
    world.run(10)
    assert len(b.snapshot().ikes) == 1
    assert not old & set(b.sad.inbound)


def test_the_packet_path_asks_for_a_rekey() -> None:
    world = World()
    a, b = two_ends(world)
    key = a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    before = a.outbound(key)
    assert before is not None
    a.fact(SaSoft(before.spi, inbound=False))
    world.run(2)
    after = a.outbound(key)
    assert after is not None
    assert after.spi != before.spi
    assert together(a, b)
    b.fact(SaSoft(next(spi for spi in b.sad.inbound if spi == after.spi), inbound=True))
    world.run(2)
    last = a.outbound(key)
    assert last is not None
    assert last.spi not in (before.spi, after.spi)
    assert together(a, b)
    assert a.gaps == b.gaps == []
    assert a.state("Tunnel0").child == last.child  # type: ignore[union-attr]
    a.fact(SaSoft(12345, inbound=False))


def test_rekeys_of_a_day_without_a_gap() -> None:
    world = World()
    config = psk_config(evolve(psk(), lifetime=3000), lifetime_seconds=600)
    a, b = two_ends(world, config, config)
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    for _ in range(24):
        world.run(600)
        assert together(a, b)
    assert a.gaps == b.gaps == []
    assert a.snapshot().counters["child rekeyed"] >= 20
    assert a.snapshot().counters["rekeyed"] >= 4
    assert len(a.snapshot().ikes) <= 2
    assert len(a.sad.inbound) <= 2
    assert len(a.speaker.node.esp_spis) <= 4


def test_unknown_spis_make_it_ask_not_act() -> None:
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    sent = len(world.wire)
    for _ in range(100):
        a.fact(SaUnknown(parse_address(A), parse_address(B), 77))
    world.run(1)
    assert len(world.wire) == sent + 2
    assert together(a, b)


def test_only_what_changes_is_touched() -> None:
    world = World()
    x, y = (psk(name, match_remote=(IdentityMatch(IdentityKind.FQDN, f"{name}.example"),)) for name in ("x", "y"))
    ipsec = {name.upper(): IpsecProfile(name.upper(), ike_profile=name) for name in ("x", "y")}
    hub = world.node("hub", A, psk_config(x, y, ipsec_profiles=ipsec))
    spokes = {}
    for n, name in ((2, "x"), (3, "y")):
        remote = f"192.0.2.{n}"
        spoke = spokes[name] = world.node(name, remote, psk_config(fqdn=f"{name}.example"))
        hub.protect(f"Tunnel{n}", A, remote, profile=name.upper())
        spoke.protect("Tunnel0", remote, A)
        hub.want(f"Tunnel{n}", A, remote, profile=name.upper())
    world.until(lambda: hub.up("Tunnel2") and hub.up("Tunnel3"))
    kept = hub.outbound(SaKey("Tunnel3"))
    hub.reconfigure(psk_config(evolve(x, lifetime=4000), y, ipsec_profiles=ipsec))
    assert not hub.up("Tunnel2")
    assert hub.outbound(SaKey("Tunnel3")) is kept
    world.until(lambda: hub.up("Tunnel2"))
    assert hub.outbound(SaKey("Tunnel3")) is kept


def test_tunnel_ends_that_change() -> None:
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    a.hear(TunnelProtected, {"Tunnel0": ProtectedRow("P", parse_address(A), parse_address("192.0.2.7"))})
    assert not a.up("Tunnel0")
    a.want("Tunnel0", A, "192.0.2.7")
    world.run(5)
    assert not b.up("Tunnel0")
    c = world.node("c", "192.0.2.7", psk_config())
    c.protect("Tunnel0", "192.0.2.7", A)
    world.until(lambda: together(a, c), 60)


def test_clear_one_and_clear_all() -> None:
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    assert a.clear(remote=parse_address("192.0.2.9")) == 0
    assert a.clear(remote=parse_address(B)) == 1
    assert not a.up("Tunnel0")
    world.until(lambda: together(a, b))
    assert a.clear(number=99) == 0
    assert a.clear() >= 1
    world.until(lambda: together(a, b))


def test_stop_says_good_bye() -> None:
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    a.stop()
    assert not a.up("Tunnel0")
    world.run(1)
    assert a.speaker.stopped
    a.perform(a.speaker.forget(world.now))
    assert not a.sad.inbound
    assert not a.sad.bundles
    assert not b.up("Tunnel0")


def test_stop_without_anybody_who_listens() -> None:
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    b.vanish()
    a.stop()
    world.run(1)
    a.perform(a.speaker.forget(world.now))
    assert a.speaker.stopped
    assert not a.sad.inbound
    assert a.speaker.deadline() is None


def test_a_fault_in_one_sa_ends_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    hub = world.node("hub", A, psk_config())
    for n in (2, 3):
        remote = f"192.0.2.{n}"
        spoke = world.node(f"s{n}", remote, psk_config())
        hub.protect(f"Tunnel{n}", A, remote)
        spoke.protect("Tunnel0", remote, A)
        hub.want(f"Tunnel{n}", A, remote)
    world.until(lambda: hub.up("Tunnel2") and hub.up("Tunnel3"))
    kept = hub.outbound(SaKey("Tunnel3"))
    whole = IkeSa.wake

    def wake(self: Any, now: float) -> Any:
        raise KeyError("cAnArY-5e7")

    monkeypatch.setattr(IkeSa, "wake", wake)
    peer = next(peer for peer in hub.speaker.node.peers.values() if peer.remote == parse_address("192.0.2.2"))
    hub.speaker.lifecycle.drive(peer, peer.sa, lambda: peer.sa.wake(world.now))
    hub.perform(hub.speaker.node.flush())
    monkeypatch.setattr(IkeSa, "wake", whole)
    assert not hub.up("Tunnel2")
    assert hub.outbound(SaKey("Tunnel3")) is kept
    said = [log for log in hub.logs if log.event == "an IKE SA failed"]
    assert [log.fields["error"] for log in said] == ["KeyError"]
    assert "test_speaker.py" in str(said[0].fields["place"])
    assert "cAnArY" not in repr(hub.logs) + repr(hub.facts)
    world.until(lambda: hub.up("Tunnel2"), 60)
    assert {sa.key for sa in hub.sad.inbound.values()} == {SaKey("Tunnel2"), SaKey("Tunnel3")}


@pytest.mark.parametrize("seed", range(12))
def test_lossy_network_comes_up_all_the_same(seed: int) -> None:
    world = World()
    dice = random.Random(seed)
    world.drop = lambda _octets, _source, _destination: dice.random() < 0.4
    a, b = two_ends(world)
    a.want("Tunnel0", A, B)
    b.want("Tunnel0", B, A)
    world.until(lambda: together(a, b), 120)
    world.drop = lambda _octets, _source, _destination: False
    world.run(150)
    assert together(a, b)
    assert len(a.snapshot().ikes) == len(b.snapshot().ikes) == 1
    assert len(a.sad.inbound) == len(b.sad.inbound) == 1


def test_rfc7296_2_4_initial_contact_is_not_said_where_the_peer_may_be_known() -> None:
    """Two tunnels between two nodes, each by an address of its own: one identity, so the second must not end the first, not
    even when it is made again."""
    world = World()
    a, b = (world.node(name, f"192.0.2.{n}", psk_config(fqdn=f"{name}.example")) for n, name in ((1, "a"), (2, "b")))
    world.nodes[parse_address("192.0.2.11")], world.nodes[parse_address("192.0.2.12")] = a, b
    pairs = {"Tunnel0": ("192.0.2.1", "192.0.2.2"), "Tunnel1": ("192.0.2.11", "192.0.2.12")}
    for name, (one, other) in pairs.items():
        a.protect(name, one, other)
        b.protect(name, other, one)
        a.want(name, one, other)
        world.run(10)
        a.clear(remote=parse_address(other))
        world.run(10)
    for node in (a, b):
        assert node.up("Tunnel0")
        assert node.up("Tunnel1")
        assert len(node.snapshot().ikes) == 2
        assert not node.reasons("one identity at two addresses")
