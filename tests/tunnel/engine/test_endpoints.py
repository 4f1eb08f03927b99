"""The endpoint database against a model that only remembers who claimed what, in which order."""

from __future__ import annotations

import time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tunnel.engine import endpoints as module
from tunnel.engine.endpoints import EndpointDatabase

A, B, C = b"\xc0\0\2\1", b"\xc0\0\2\2", b"\xc0\0\2\3"


def test_the_newest_claim_counts_until_it_is_withdrawn() -> None:
    rows = EndpointDatabase()
    assert rows.claim("bgp", "", A, A, 1.0) == {A}
    assert rows.claim("nhrp", "", A, B, 2.0) == {A}
    assert rows.transport("", A) == B
    assert rows.claim("nhrp", "", A, None, 3.0) == {A}
    assert rows.transport("", A) == A
    assert rows.claim("nhrp", "", A, A, 4.0) == set()
    assert rows.claim("bgp", "", A, None, 5.0) == set()
    assert rows.transport("", A) == A


@pytest.mark.parametrize("first", ["ikev2", "nhrp"])
@pytest.mark.parametrize("withdrawn", [True, False])
def test_a_spoke_whose_address_moves_is_there_at_once_whoever_finds_out(first: str, withdrawn: bool) -> None:
    """Its new SA comes from B, while NHRP has it at A for two hours more; or it registers from B before IKE notices."""
    other = "nhrp" if first == "ikev2" else "ikev2"
    for finder in (first, other):
        rows = EndpointDatabase()
        rows.claim(first, "Tunnel0", A, A, 1.0)
        rows.claim(other, "Tunnel0", A, A, 2.0)
        if withdrawn:
            assert rows.claim(finder, "Tunnel0", A, None, 3.0) == set()
        assert rows.claim(finder, "Tunnel0", A, B, 4.0) == {A}
        assert (rows.transport("Tunnel0", A), rows.transports("Tunnel0")) == (B, {B})
        late = other if finder == first else first
        assert rows.claim(late, "Tunnel0", A, A, 5.0) == set(), "the same again is nothing new"
        assert rows.claim(late, "Tunnel0", A, B, 6.0) == set()


def test_creation_times_are_the_entrys_own_and_the_places_own() -> None:
    rows = EndpointDatabase()
    rows.claim("bgp", "", A, C, 10.0)
    rows.claim("bgp", "", B, C, 20.0)
    (endpoint,) = rows.snapshot({"": "Tunnel4"})
    assert (endpoint.tunnel, endpoint.transport, endpoint.created, endpoint.refcount) == ("Tunnel4", C, 10.0, 4)
    assert [(row.address, row.created, row.refcount) for row in endpoint.overlays] == [(A, 10.0, 2), (B, 20.0, 2)]
    rows.claim("bgp", "", A, None, 30.0)
    (endpoint,) = rows.snapshot({})
    assert endpoint.created == 10.0  # the place was never empty
    rows.claim("bgp", "", B, None, 40.0)
    rows.claim("bgp", "", A, C, 50.0)
    (endpoint,) = rows.snapshot({})
    assert endpoint.created == 50.0


def test_a_claim_too_many_is_refused_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENDPOINTS", 2)
    rows = EndpointDatabase()
    rows.claim("bgp", "", A, A, 1.0)
    rows.claim("bgp", "", B, B, 1.0)
    assert rows.claim("bgp", "", C, C, 1.0) == set()
    assert rows.refused == 1
    assert rows.claim("nhrp", "", A, A, 1.0) == set()  # a second claim of what is there needs no room
    assert rows.refused == 1
    assert rows.transports("") == {A, B}


def test_looking_up_a_transport_does_not_walk_all_of_them() -> None:
    """20,000 remote PEs change at once (their way did): that must not be 20,000 x 20,000 steps."""
    rows = EndpointDatabase()
    addresses = [number.to_bytes(4) for number in range(20_000)]
    for address in addresses:
        rows.claim("bgp", "", address, address, 0.0)
    started = time.process_time()
    assert all(rows.at(address) == (("", address),) for address in addresses)
    assert time.process_time() - started < 2.0


class EndpointMachine(RuleBasedStateMachine):
    """`model`: (tunnel, overlay) -> client -> transport, what was newly said last."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = EndpointDatabase()
        self.model: dict[tuple[str, bytes], dict[str, bytes]] = {}
        self.born: dict[tuple[str, bytes], float] = {}
        self.placed: dict[tuple[str, bytes], float] = {}
        self.now = 0.0

    def wanted(self) -> dict[tuple[str, bytes], bytes]:
        return {key: list(claims.values())[-1] for key, claims in self.model.items()}

    @rule(
        client=st.sampled_from(["bgp", "nhrp", "ikev2"]),
        tunnel=st.sampled_from(["", "Tunnel3"]),
        overlay=st.sampled_from([A, B, C]),
        transport=st.none() | st.sampled_from([A, B, C]),
    )
    def claim(self, client: str, tunnel: str, overlay: bytes, transport: bytes | None) -> None:
        self.now += 1.0
        before = self.wanted()
        key = (tunnel, overlay)
        if transport is not None:
            claims = self.model.setdefault(key, {})
            if claims.get(client) != transport:
                claims.pop(client, None)
                claims[client] = transport
            self.born.setdefault(key, self.now)
        elif key in self.model:
            self.model[key].pop(client, None)
            if not self.model[key]:
                del self.model[key], self.born[key]
        after = self.wanted()
        places = {(name, where) for (name, _), where in after.items()}
        self.placed = {place: self.placed.get(place, self.now) for place in places}
        changed = self.rows.claim(client, tunnel, overlay, transport, self.now)
        assert changed == ({overlay} if before.get(key) != after.get(key) else set())

    @invariant()
    def says_what_the_model_says(self) -> None:
        wanted = self.wanted()
        for tunnel in ("", "Tunnel3"):
            assert self.rows.transports(tunnel) == {w for (name, _), w in wanted.items() if name == tunnel}
            for overlay in (A, B, C):
                assert self.rows.transport(tunnel, overlay) == wanted.get((tunnel, overlay))
                assert self.rows.created(tunnel, overlay) == self.born.get((tunnel, overlay), 0.0)
        for where in (A, B, C):
            assert set(self.rows.at(where)) == {key for key, transport in wanted.items() if transport == where}

    @invariant()
    def prints_what_the_model_says(self) -> None:
        wanted = self.wanted()
        snapshot = self.rows.snapshot({})
        assert [(e.tunnel, e.transport) for e in snapshot] == sorted({(n, w) for (n, _), w in wanted.items()})
        for endpoint in snapshot:
            assert endpoint.created == self.placed[endpoint.tunnel, endpoint.transport]
            for row in endpoint.overlays:
                assert wanted[endpoint.tunnel, row.address] == endpoint.transport
                assert row.clients == tuple(sorted(self.model[endpoint.tunnel, row.address]))
                assert row.refcount == 1 + len(row.clients)


TestEndpointMachine = EndpointMachine.TestCase
TestEndpointMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
