"""What the parts of the speaker share: configuration, what the bus has said, tables of peers, and what is to be done next."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from attrs import define, field

from ikev2.config import AuthorizationPolicy, Ikev2Config
from ikev2.engine.access import Accesses, is_access, is_template, template_name
from ikev2.engine.admission import Admission, Rate
from ikev2.engine.authorise import permitted
from ikev2.engine.contract import Ends, Level
from ikev2.engine.discards import DISCARD, Discarded, discards
from ikev2.engine.outputs import Listen, Log, Output, Post, Publish, RemoveOutbound
from ikev2.engine.overlay import addresses_of
from ikev2.engine.peers import Carriers, Peer
from ikev2.engine.pools import Pools
from ikev2.engine.profiles import Profiles
from ikev2.engine.refusals import Refusals
from ikev2.engine.sa import IkeSa, Settings
from ikev2.engine.sastate import Switch
from ikev2.engine.wants import Want, Wants
from stack.addr import Prefix, format_address
from stack.claims import Claims
from stack.events import (
    Fact,
    Interface,
    InterfaceKind,
    ProtectedRow,
    Route,
    RouteOffered,
    SaKey,
    SaRequest,
    SaRow,
    SaState,
)
from stack.policy.lists import AccessList
from stack.timers import Timers

__all__ = ["MAX_PEERS", "Node"]

K = TypeVar("K")
V = TypeVar("V")

MAX_PEERS = 16_000
"""IKE SAs at once, half-open ones included; so many need at most the SAD's 65,536 inbound SAs while they rekey."""


MAX_FRONTS = 64
"""VRFs, besides the default one, that IKE is spoken in."""

_INSIDE = (InterfaceKind.TUNNEL, InterfaceKind.TEMPLATE)

PROVOKED = frozenset(
    {
        "CHILD_SA refused",
        "CHILD_SA was refused",
        "CREATE_CHILD_SA refused",
        "IKE SA rekey refused",
        "IKE SA was not made",
        "a peer's route is refused",
        "authentication refused",
        "configuration refused",
        "message cannot be read",
        "one identity at two addresses",
        "peer moved",
        "the peer has lost a CHILD_SA",
    }
)
"""What a peer can have us say as often as it likes."""
LOG_RATE = 50.0
"""Lines of those a second, of all peers together; the others are for `debug`, and counted. `show` has the reasons anyway."""


@define(eq=False)
class Node:
    """`epoch`: seconds since 1970 when the clock showed 0. `numbers`: the next IKE SA's."""

    config: Ikev2Config
    entropy: Callable[[int], bytes]
    epoch: float
    profiles: Profiles
    admission: Admission
    wants: Wants
    authorises: bool = False
    key_log: bool = False
    trace: Switch = field(factory=Switch)
    """Say what is inside sealed messages."""
    now: float = 0.0
    pools: Pools = field(factory=Pools)
    accesses: Accesses = field(factory=Accesses)
    claims: Claims = field(factory=Claims)
    carriers: Carriers = field(factory=Carriers)
    timers: Timers = field(factory=Timers)
    interfaces: dict[str, Interface] = field(factory=dict)
    own: dict[tuple[str, bytes], set[str]] = field(factory=dict)
    """(VRF, address of ours) -> interfaces that have it."""
    protected: dict[str, ProtectedRow] = field(factory=dict)
    """Without virtual access interfaces, which are what we have asked for ourselves."""
    access_lists: dict[str, AccessList] = field(factory=dict)
    peers: dict[int, Peer] = field(factory=dict)
    by_key: dict[SaKey, set[int]] = field(factory=dict)
    """Peers that we have called, by the wanted neighbour."""
    by_remote: dict[tuple[str, bytes], set[int]] = field(factory=dict)
    """By VRF and address."""
    by_holder: dict[tuple[str, bytes], set[int]] = field(factory=dict)
    by_interface: dict[str, set[int]] = field(factory=dict)
    ike_spis: dict[bytes, tuple[Peer, IkeSa]] = field(factory=dict)
    inits: dict[bytes, int] = field(factory=dict)
    """Digest of an IKE_SA_INIT and where it came from -> number of the IKE SA that answers it."""
    esp_spis: dict[int, int] = field(factory=dict)
    """SPI of ours -> number of the peer; reserved ones too."""
    counters: dict[str, int] = field(factory=dict)
    log_rate: Rate = field(factory=lambda: Rate(LOG_RATE))
    refusals: Refusals = field(factory=Refusals)
    states: dict[SaKey, SaRow] = field(factory=dict)
    fronts: frozenset[str] = frozenset({""})
    """VRFs that IKE is spoken in."""
    discards: frozenset[Discarded] = frozenset()
    inherited: frozenset[Discarded] = frozenset()
    """Discards of an earlier incarnation, until it is known which interfaces there are."""
    unsure: bool = True
    """Something has changed that discards and fronts follow from."""
    received: dict[str, tuple[bytes, ...]] = field(factory=dict)
    """Interface -> addresses that a peer has given it, which we ask for again when that peer has forgotten us."""
    expected: dict[SaKey, str] = field(factory=dict)
    """Neighbours of virtual templates that an earlier incarnation was asked for, in which VRF, until it is heard who still
    wants them."""
    vacant: dict[SaKey, int] = field(factory=dict)
    """Neighbours that nothing carries now -> SPI of what did. If something else does by the end of the turn, it takes the
    other's place, and rewrites that hold the bundle notice nothing."""
    up_since: dict[SaKey, float] = field(factory=dict)
    doubts: dict[int, None] = field(factory=dict)
    """Peers whose place another would take: are they still there?"""
    active: Peer | None = None
    stopping: bool = False
    _far: dict[str, list[bytes]] = field(factory=dict)
    """By VRF: far ends of the peers that have proved themselves, in order, one for each peer."""
    _touched: dict[SaKey, None] = field(factory=dict)
    _out: list[Output] = field(factory=list)
    _numbers: int = 0

    # --- what is to be done ---------------------------------------------------------------------------------------------

    def put(self, output: Output) -> None:
        self._out.append(output)

    def post(self, fact: Fact) -> None:
        self._out.append(Post(fact))

    def log(self, event: str, level: Level = "info", **fields: object) -> None:
        if event in PROVOKED and level != "debug" and not self.log_rate.allows(self.now):
            self.count("log lines left out")
            level = "debug"
        self._out.append(Log(event, fields, level))

    def count(self, what: str) -> None:
        self.counters[what] = self.counters.get(what, 0) + 1

    def touch(self, key: SaKey) -> None:
        """Its SaState may have changed."""
        self._touched[key] = None

    def flush(self) -> list[Output]:
        """All that is to be done, in order; rows last, since what they promise must be true."""
        out = self._out
        if self.unsure and (vrfs := self._vrfs()) != self.fronts:
            self.fronts = vrfs
            out.insert(0, Listen(vrfs))
        out += [RemoveOutbound(key, spi) for key, spi in self.vacant.items()]
        self.vacant.clear()
        out += self._rows()
        states = {key: row for key in self._touched if self._state_changed(key, row := self._state(key))}
        if states:
            out.append(Publish(SaState, states))
        self._touched.clear()
        self._out = []
        return out

    def _rows(self) -> list[Publish]:
        """What stands because of peers, and has changed; of routes, the discards that no peer's takes the place of."""
        routes = self._discard() if self.unsure else {}
        found: list[Publish] = []
        for topic, rows, table in self.claims.changes():
            if topic is RouteOffered:
                nowhere = ((prefix, DISCARD if (table, prefix) in self.discards else None) for prefix in rows)
                routes.setdefault(table, {}).update({prefix: rows[prefix] or other for prefix, other in nowhere})
            else:
                found.append(Publish(topic, rows, table))
        return found + [Publish(RouteOffered, rows, table) for table, rows in routes.items()]

    def _discard(self) -> dict[str, dict[Prefix, Route | None]]:
        """Which overlay addresses lead nowhere unless a peer has them: what has changed of that."""
        self.unsure = False
        before = self.discards
        self.discards = (
            discards(self.config, {name: self._places(name) for name in self.config.profiles}) | self.inherited
        )
        changed: dict[str, dict[Prefix, Route | None]] = {}
        for vrf, prefix in before ^ self.discards:
            if not self.claims.claimants(vrf, prefix):
                row = DISCARD if (vrf, prefix) in self.discards else None
                changed.setdefault(vrf, {})[prefix] = row
        return changed

    def _vrfs(self) -> frozenset[str]:
        """Where peers are, or may come from. `match fvrf any` is for all that have addresses other than those of tunnels."""
        config = self.config.profiles.values()
        found = {row.vrf for row in self.protected.values()} | {want.request.vrf for want in self.wants}
        found |= {profile.match_fvrf for profile in config if profile.match_fvrf}
        if any(profile.match_fvrf is None for profile in config):
            found |= {one.vrf for one in self.interfaces.values() if one.addresses and one.row.kind not in _INSIDE}
        return frozenset(["", *sorted(found - {""})[:MAX_FRONTS]])

    def _places(self, profile_name: str) -> set[str]:
        """Inside VRFs of the interfaces that peers of a profile may get."""
        names = [name for name, row in self.protected.items() if self._fits(row.profile, profile_name)]
        profile = self.profiles.get(profile_name)
        if profile is not None and profile.virtual_template is not None:
            names.append(template_name(profile.virtual_template))
        return {self.interfaces[name].vrf for name in names if name in self.interfaces}

    def _state_changed(self, key: SaKey, row: SaRow | None) -> bool:
        if self.states.get(key) == row:
            return False
        if row is None:
            del self.states[key]
        else:
            self.states[key] = row
        return True

    def _state(self, key: SaKey) -> SaRow | None:
        before = self.states.get(key)
        bearer = self.bearer(key)
        current = self.carriers.current(bearer)
        if bearer is not key and key not in self.expected and self.wants.get(key) is None:
            return None
        if current is not None:
            number, sa = current
            since = self.up_since.setdefault(bearer, self.now)
            access = bearer.interface if bearer is not key else ""
            return SaRow(True, "", sa.form, self.peers[number].text, since, sa.child, access)
        self.up_since.pop(key, None)
        want = self.wants.get(key)
        if want is None:
            return None
        row = SaRow(False, want.reason or "negotiating", since=self.now)
        return before if before is not None and before._replace(since=self.now) == row else row

    # --- peers --------------------------------------------------------------------------------------------------------

    def enter(self, peer: Peer) -> None:
        self.peers[peer.number] = peer
        self.by_remote.setdefault(peer.place, set()).add(peer.number)
        if peer.established is not None:
            self._stands(peer)
        if peer.key is not None and peer.initiator:
            self.by_key.setdefault(peer.key, set()).add(peer.number)

    def leave(self, peer: Peer) -> bool:
        """False: it was gone already."""
        if self.peers.pop(peer.number, None) is None:
            return False
        unlist(self.by_remote, peer.place, peer.number)
        if peer.established is not None:
            self._leaves(peer)
        unlist(self.by_holder, peer.holder, peer.number)
        unlist(self.by_interface, peer.interface, peer.number)
        if peer.key is not None:
            unlist(self.by_key, peer.key, peer.number)
        return True

    def proved(self, peer: Peer) -> None:
        """It is whom it says it is, since now."""
        if peer.established is None:
            self._stands(peer)
        peer.established = self.now
        self.by_holder.setdefault(peer.holder, set()).add(peer.number)

    def relocate(self, peer: Peer, ends: Ends) -> None:
        unlist(self.by_remote, peer.place, peer.number)
        if peer.established is not None:
            self._leaves(peer)
        peer.ends = ends
        if peer.established is not None:
            self._stands(peer)
        self.by_remote.setdefault(peer.place, set()).add(peer.number)

    def _stands(self, peer: Peer) -> None:
        insort(self._far.setdefault(peer.ends.vrf, []), peer.remote)

    def _leaves(self, peer: Peer) -> None:
        far = self._far[peer.ends.vrf]
        del far[bisect_left(far, peer.remote)]
        if not far:
            del self._far[peer.ends.vrf]

    def bearer(self, key: SaKey) -> SaKey:
        """The key that packets of a wanted neighbour go by: of a virtual template, the virtual access interface of the peer
        that was called there, or else of the one that has called from there. (Who is behind one NAT has called from one
        address: which of several is meant nobody can say. Where a peer has moved to since counts for nothing.)"""
        if not is_template(key.interface):
            return key
        found = [peer.access for peer in self.called(key) if self._bears(peer)]
        want = self.wants.get(key)
        vrf = want.request.vrf if want is not None else self.expected.get(key, "")
        found = found or [
            peer.access
            for number in self.by_remote.get((vrf, key.remote), ())
            if (peer := self.peers[number]).template == key.interface and peer.home == key.remote and self._bears(peer)
        ]
        return SaKey(found[0]) if len(set(found)) == 1 else key

    def _bears(self, peer: Peer) -> bool:
        return bool(peer.access) and self.carriers.current(SaKey(peer.access)) is not None

    def wanted(self, peer: Peer, key: SaKey) -> Want | None:
        """Who waits for, or uses, what `peer` has for `key`: of a virtual access interface, who wants its neighbour."""
        if not is_access(key.interface):
            return self.wants.get(key)
        want = self.wants.get(SaKey(peer.template, peer.home))
        return want if want is not None and want.request.vrf == peer.ends.vrf else None

    def changed(self, peer: Peer, key: SaKey) -> None:
        """`peer` has something for `key`, or has it no more."""
        self.touch(key)
        if is_access(key.interface):
            self.touch(SaKey(peer.template, peer.home))

    def called(self, key: SaKey) -> list[Peer]:
        """Peers that were called for `key`."""
        return [self.peers[number] for number in self.by_key.get(key, ())]

    def at(self, ends: Ends) -> list[Peer]:
        """Peers there that have an IKE SA."""
        numbers = self.by_remote.get((ends.vrf, ends.remote), ())
        return [peer for number in numbers if (peer := self.peers[number]).sas]

    # --- look-ups ---------------------------------------------------------------------------------------------------------

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    @property
    def last_number(self) -> int:
        return self._numbers

    def number_from(self, number: int) -> None:
        """Go on where an earlier incarnation stopped, so that logs do not speak of two by one number."""
        self._numbers = max(self._numbers, number)

    @property
    def settings(self) -> Settings:
        config = self.config
        return Settings(
            fragmentation_mtu=config.fragmentation_mtu, sha1=config.sha1, key_log=self.key_log, trace=self.trace
        )

    @property
    def living(self) -> Iterable[Peer]:
        """Peers with an IKE SA of this incarnation."""
        return (peer for peer in self.peers.values() if peer.sas)

    def addresses(self, interface: str) -> tuple[bytes, ...]:
        found = self.interfaces.get(interface)
        return tuple(found.addresses) if found is not None else ()

    def owners(self, vrf: str, address: bytes) -> set[str]:
        """Interfaces that have an address; not those that only borrow it (unnumbered)."""
        return {
            name
            for name in self.own.get((vrf, address), ())
            if self.interfaces[name].addresses[address].origin != "unnumbered"
        }

    def target(self, profile_name: str, ends: Ends) -> tuple[str, str, bool] | None:
        """What a peer of `profile_name` at these ends is for: (interface, IPsec profile, many neighbours). A virtual template
        is named itself. A tunnel whose IPsec profile names another IKE profile is not for this peer, or whoever has any
        profile's key could take over any tunnel. A virtual access interface is its holder's, whoever else is at the same
        address: behind one NAT there may be many."""
        exact, multipoint = [], []
        for name, row in self.protected.items():
            if (row.vrf, row.local) != (ends.vrf, ends.local) or not self._fits(row.profile, profile_name):
                continue
            if row.remote == ends.remote:
                exact.append(name)
            elif not row.remote:
                multipoint.append(name)
        if exact:
            # Of several tunnels with the same ends, one that has no SA yet.
            idle = [name for name in exact if self.carriers.current(SaKey(name)) is None]
            name = (idle or exact)[0]
            return name, self.protected[name].profile, False
        if multipoint:
            return multipoint[0], self.protected[multipoint[0]].profile, True
        profile = self.profiles.get(profile_name)
        if profile is None or profile.virtual_template is None:
            return None
        template = self.interfaces.get(template_name(profile.virtual_template))
        if template is None:
            return None
        return template.name, template.row.protection or "default", False

    def _fits(self, ipsec_name: str, profile_name: str) -> bool:
        ipsec = self.profiles.ipsec(ipsec_name)
        return ipsec is not None and ipsec.ike_profile in ("", profile_name)

    def carried(self, key: SaKey) -> bool:
        """Whether an IKE SA of this incarnation carries it."""
        current = self.carriers.current(self.bearer(key))
        return current is not None and bool(self.peers[current[0]].sas)

    def protection(self, key: SaKey, request: SaRequest) -> str:
        """The IPsec profile of what is wanted: a virtual template has one itself."""
        if request.profile or not is_template(key.interface):
            return request.profile
        template = self.interfaces.get(key.interface)
        return template.row.protection if template is not None else ""

    def routes_of(self, policy: AuthorizationPolicy | None, interface: str) -> tuple[Prefix, ...]:
        """What we announce to a peer on `interface`, by `route set`."""
        if policy is None:
            return ()
        found: list[Prefix] = []
        if policy.route_set_interface is not None:
            name = policy.route_set_interface or interface
            own = self.interfaces.get(name)
            addresses = addresses_of(own)
            if not addresses and own is not None and own.row.unnumbered:
                addresses = addresses_of(self.interfaces.get(own.row.unnumbered))
            found += [Prefix.host(address) for address in addresses]
        for name in policy.route_set_acl:
            found += permitted(self.access_lists.get(name))
        return tuple(dict.fromkeys(found))

    def objection(self, holder: tuple[str, bytes], vrf: str) -> Callable[[Prefix], str]:
        """Why a prefix is not for a peer of `holder` to announce; '': it may."""

        def why(prefix: Prefix) -> str:
            if self._outer(vrf, prefix):
                # IKE and ESP of that tunnel would go to this peer, through its own.
                return "it covers the outer address of another tunnel"
            if prefix.length != len(prefix.network) * 8:
                return ""
            if (vrf, prefix.network) in self.own:
                return "it is our own address"
            for number in self.claims.claimants(vrf, prefix):
                peer = self.peers.get(number)
                if peer is not None and peer.holder != holder:
                    return "it is another peer's"
            return ""

        return why

    def _outer(self, vrf: str, prefix: Prefix) -> bool:
        """Whether the far end of a peer that has proved itself is in it."""
        far = self._far.get(vrf, ())
        at = bisect_left(far, prefix.network)
        return at < len(far) and prefix.covers(far[at])

    def learn(self, name: str, interface: Interface | None) -> None:
        """What is known of an interface of ours."""
        before = self.interfaces.pop(name, None)
        if before is not None:
            for address in before.addresses:
                unlist(self.own, (before.vrf, address), name)
        if interface is None:
            return
        self.interfaces[name] = interface
        for address in interface.addresses:
            self.own.setdefault((interface.vrf, address), set()).add(name)

    def esp_spi(self) -> int:
        while True:
            # RFC 4303 2.1: 1 to 255 are reserved, 0 must not be sent.
            spi = int.from_bytes(self.entropy(4))
            if spi > 255 and spi not in self.esp_spis:
                break
        peer = self.active
        self.esp_spis[spi] = peer.number if peer is not None else 0
        if peer is not None:
            peer.reserved.add(spi)
        return spi

    def ike_spi(self) -> bytes:
        while True:
            spi = self.entropy(8)
            if any(spi) and spi not in self.ike_spis:
                return spi

    def describe(self, peer: Peer) -> dict[str, Any]:
        """What a log line of a peer begins with."""
        fields: dict[str, Any] = {"number": peer.number, "remote": format_address(peer.remote)}
        if peer.text:
            fields["identity"] = peer.text
        if peer.profile:
            fields["profile"] = peer.profile
        return fields


def unlist(index: dict[K, set[V]], name: K, number: V) -> None:
    """Take `number` from an index, and a name that has none left."""
    numbers = index.get(name)
    if numbers is not None:
        numbers.discard(number)
        if not numbers:
            del index[name]
