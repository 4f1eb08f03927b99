"""What is remembered of peers that were not let in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ikev2.config import IkeProposal, IpsecProfile, Policy
from ikev2.engine.refusals import MAX_REFUSALS, Refusals
from ikev2.show.stats import stats
from tests.ikev2.nodes import World, psk, psk_config


def test_the_same_again_is_counted() -> None:
    refusals = Refusals()
    refusals.note(b"\xc0\x00\x02\x01", "a", "P", "it is wrong", 1.0)
    refusals.note(b"\xc0\x00\x02\x02", "b", "P", "it is wrong", 2.0)
    refusals.note(b"\xc0\x00\x02\x01", "a", "Q", "it is wrong", 3.0)
    first, second = refusals
    assert (first.identity, first.profile, first.count, first.first, first.last) == ("a", "Q", 2, 1.0, 3.0)
    assert (second.identity, second.count) == ("b", 1)


@given(st.lists(st.tuples(st.binary(min_size=4, max_size=4), st.text(max_size=400), st.text(max_size=400))))
def test_memory_is_bounded(rows: list[tuple[bytes, str, str]]) -> None:
    refusals = Refusals()
    for number, (remote, identity, reason) in enumerate(rows * 5):
        refusals.note(remote, identity, "", reason, float(number))
    found = list(refusals)
    assert len(found) <= MAX_REFUSALS
    assert [one.last for one in found] == sorted((one.last for one in found), reverse=True)
    assert all(len(one.identity) <= 256 and len(one.reason) <= 256 for one in found)


def test_a_flood_of_strangers_drives_out_nobody() -> None:
    refusals = Refusals()
    refusals.note(b"\xc0\x00\x02\x01", "a", "P", "it is wrong", 0.0)
    for number in range(10 * MAX_REFUSALS):
        refusals.note(number.to_bytes(4), "", "", "no proposal suits", 1.0)
    stranger, peer = refusals
    assert (stranger.count, peer.identity) == (10 * MAX_REFUSALS, "a")


def test_show_says_why_a_peer_was_refused_and_so_does_its_tunnel() -> None:
    # a --- IKE_SA_INIT, IKE_AUTH ---> b: the key is another
    # a <------ AUTHENTICATION_FAILED  b
    world = World()
    waits = {"P": IpsecProfile("P", responder_only=True)}
    a = world.node("a", "192.0.2.1", psk_config(psk(key="one key"), fqdn="a.example"))
    b = world.node("b", "192.0.2.2", psk_config(psk(key="another"), fqdn="b.example", ipsec_profiles=waits))
    for node, local, remote in ((a, "192.0.2.1", "192.0.2.2"), (b, "192.0.2.2", "192.0.2.1")):
        node.protect("Tunnel0", local, remote)
        node.want("Tunnel0", local, remote)
    world.run(0.5)
    snapshot = b.speaker.snapshot(world.now, 0.0)
    (one,) = snapshot.refusals
    assert (one.identity, one.profile, one.ours, one.count) == ("a.example", "default", False, 1)
    assert "the pre-shared keys differ" in one.reason
    (want,) = snapshot.wants
    assert want.state == f"the peer came and was not let in: {one.reason}"
    shown = stats(snapshot)
    assert f"192.0.2.1 a.example (default): {one.reason}" in shown.text
    assert shown.value["refused"][0]["reason"] == one.reason
    (ours,) = a.speaker.snapshot(world.now, 0.0).refusals
    assert (ours.ours, ours.reason) == (True, "AUTHENTICATION_FAILED")


def test_show_says_why_a_child_sa_was_refused() -> None:
    # a --- IKE_AUTH [AUTH, SA (AES-GCM), ...] ---> b, which has nothing for these ends
    # a <--------- IKE_AUTH [AUTH, N(TS_UNACCEPTABLE)] b
    world = World()
    a = world.node("a", "192.0.2.1", psk_config(fqdn="a.example"))
    b = world.node("b", "192.0.2.2", psk_config(fqdn="b.example"))
    a.protect("Tunnel0", "192.0.2.1", "192.0.2.2")
    a.want("Tunnel0", "192.0.2.1", "192.0.2.2")
    world.run(0.5)
    (one,) = b.speaker.snapshot(world.now, 0.0).refusals
    assert (one.identity, one.reason) == ("a.example", "no protected tunnel has these ends")


def only(*groups: int, cipher: str = "aes-gcm-256") -> dict[str, object]:
    """Fields of a configuration that proposes nothing else."""
    return {
        "proposals": {"p": IkeProposal("p", (cipher,), (), ("sha256",), groups)},
        "policies": {"p": Policy("p", ("p",))},
    }


def test_show_says_why_an_ike_sa_init_was_refused() -> None:
    # a --- IKE_SA_INIT [SA (AES-128), ...] ------> b, which wants AES-256
    # a <-- IKE_SA_INIT [N(NO_PROPOSAL_CHOSEN)] --- b, which keeps no state
    world = World()
    a = world.node("a", "192.0.2.1", psk_config(**only(19, cipher="aes-gcm-128")))
    b = world.node("b", "192.0.2.2", psk_config(**only(19)))
    a.protect("Tunnel0", "192.0.2.1", "192.0.2.2")
    a.want("Tunnel0", "192.0.2.1", "192.0.2.2")
    world.run(0.5)
    snapshot = b.speaker.snapshot(world.now, 0.0)
    (one,) = snapshot.refusals
    assert (one.identity, one.reason) == ("", "IKE_SA_INIT refused: no common encryption")
    assert snapshot.ikes == ()


def test_a_request_for_another_group_is_no_refusal() -> None:
    # a --- IKE_SA_INIT [SA (groups 19, 20), KE (19)] ---> b, which wants group 20
    # a <-- IKE_SA_INIT [N(INVALID_KE_PAYLOAD) 20] ------- b
    world = World()
    a = world.node("a", "192.0.2.1", psk_config(**only(19, 20)))
    b = world.node("b", "192.0.2.2", psk_config(**only(20)))
    for node, local, remote in ((a, "192.0.2.1", "192.0.2.2"), (b, "192.0.2.2", "192.0.2.1")):
        node.protect("Tunnel0", local, remote)
    a.want("Tunnel0", "192.0.2.1", "192.0.2.2")
    world.run(0.5)
    assert a.up("Tunnel0")
    assert b.speaker.snapshot(world.now, 0.0).refusals == ()
