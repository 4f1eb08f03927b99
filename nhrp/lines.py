"""The IOS lines of package nhrp: rows of the one grammar table, the same for `ip nhrp` and `ipv6 nhrp`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import evolve, frozen

from nhrp.config import REDIRECT_TIMEOUT, NhrpConfig, NhrpFamily, NhrpInterface, Nhs, StaticMap
from nhrp.wire.extensions import PASSWORD_LIMIT
from stack.addr import Afi
from stack.config import InterfaceConfig
from stack.events import InterfaceKind
from stack.ios.grammar import (
    CONFIG,
    INTERFACE,
    INTERFACE_MODE,
    Draft,
    Kind,
    Line,
    Place,
    Refusal,
    Sections,
    Values,
    entry,
    flag,
    no_effect,
    refused,
    register,
    section,
    setting,
    value,
)

__all__ = ["LINES", "WORDS"]

WORDS = {Afi.IPV4: "ip", Afi.IPV6: "ipv6"}
"""How the lines of a family begin."""

NO_V6_NBMA = "NBMA addresses in the configuration are IPv4: tunnels over IPv6 are not in this release"


def _password(text: str) -> str:
    if not 0 < len(text.encode()) <= PASSWORD_LIMIT or not text.isprintable():
        raise ValueError(f"it has 1 to {PASSWORD_LIMIT} octets")
    return text


def _oui(text: str) -> bytes:
    try:
        octets = bytes.fromhex(text.replace("-", "").replace(".", "").replace(":", ""))
    except ValueError:
        octets = b""
    if len(octets) != 3 or not text.isascii():
        raise ValueError(f"{text!r} is no OUI")
    return octets


register(Kind("nhrp-password", f"a password of 1 to {PASSWORD_LIMIT} octets", _password, rank=3))
register(Kind("oui", "an OUI (02-4D-46)", _oui, lambda octets: octets.hex("-").upper()))


# --- where the lines write --------------------------------------------------------------------------------------------

_GLOBAL: Place[NhrpConfig] = section(NhrpConfig)
_NHRP: Place[NhrpInterface] = entry(
    NhrpConfig,
    "interfaces",
    "interface",
    lambda values: NhrpInterface(values["interface"]),
    mode=INTERFACE_MODE,
    sparse=True,
)


def _must_be_tunnel(draft: Draft, values: Values) -> None:
    if INTERFACE.get(draft, values).kind not in (InterfaceKind.TUNNEL, InterfaceKind.TEMPLATE):
        raise Refusal(f"{values['interface']} is no tunnel, and NHRP is for tunnels")


def _family(afi: Afi) -> Place[NhrpFamily]:
    """NHRP of a family on the interface; not kept while it says nothing."""

    def fetch(sections: Sections, values: Values) -> NhrpFamily | None:
        found = _NHRP.fetch(sections, values)
        return None if found is None else found.families.get(afi)

    def store(draft: Draft, values: Values, changed: NhrpFamily) -> None:
        _must_be_tunnel(draft, values)
        nhrp = _NHRP.get(draft, values)
        others = {other: family for other, family in nhrp.families.items() if other != afi}
        families = others if changed == NhrpFamily() else {**others, afi: changed}
        _NHRP.store(draft, values, evolve(nhrp, families={one: families[one] for one in Afi if one in families}))

    return Place(fetch, store, lambda _values: NhrpFamily(), _NHRP.keys)


@frozen
class _Rows:
    """The rows of one family of overlay addresses."""

    afi: Afi
    place: Place[NhrpFamily]

    @property
    def start(self) -> str:
        return f"{WORDS[self.afi]} nhrp"

    @property
    def address(self) -> str:
        """The kind of its overlay addresses."""
        return "ipv4" if self.afi is Afi.IPV4 else "ipv6"

    @property
    def other(self) -> Afi:
        return Afi.IPV6 if self.afi is Afi.IPV4 else Afi.IPV4

    def change(self, draft: Draft, values: Values, change: Callable[[NhrpFamily, Values], NhrpFamily]) -> None:
        self.place.change(draft, values, change)

    def beside(self, sections: Sections, values: Values) -> NhrpFamily:
        """What the other family has on the interface."""
        found = _NHRP.fetch(sections, values)
        return NhrpFamily() if found is None else found.family(self.other)


def _rows_of(afi: Afi) -> _Rows:
    return _Rows(afi, _family(afi))


# --- network and redirect, which the packet path needs: in the interface's own row ---------------------------------------


def _network(rows: _Rows) -> Line:
    def put(draft: Draft, values: Values) -> None:
        network, interface = values["network"], INTERFACE.get(draft, values)
        if rows.beside(draft, values).network and interface.network_id not in (0, network):
            theirs = f"{WORDS[rows.other]} nhrp network-id {interface.network_id}"
            raise Refusal(f"`{theirs}` stands here too: an interface is in one NHRP network", "network")
        rows.change(draft, values, lambda family, _values: evolve(family, network=True))
        INTERFACE.change(draft, values, lambda one, _values: evolve(one, network_id=network))

    def undo(draft: Draft, values: Values) -> None:
        rows.change(draft, values, lambda family, _values: evolve(family, network=False))
        if not rows.beside(draft, values).network:
            INTERFACE.change(draft, values, lambda one, _values: evolve(one, network_id=0))

    def show(sections: Sections, values: Values) -> Iterable[Values]:
        interface = INTERFACE.fetch(sections, values)
        if interface is not None and interface.network_id and _stands(rows, sections, values, "network"):
            yield {"network": interface.network_id}

    return Line(
        (INTERFACE_MODE,),
        f"{rows.start} network-id {{network:int:1-4294967295}}",
        "be in that NHRP network, which is this node's own number; one interface is in one network",
        edit=put,
        undo=undo,
        show=show,
        place=INTERFACE,
        order=70,
    )


def _stands(rows: _Rows, sections: Sections, values: Values, name: str) -> bool:
    """Whether the line prints for this family. What a script set in the interface's row prints as `ip nhrp`."""
    mine, theirs = getattr(rows.place.get(sections, values), name), getattr(rows.beside(sections, values), name)
    return bool(mine or (rows.afi is Afi.IPV4 and not theirs))


def _redirect(rows: _Rows) -> Line:
    def put(draft: Draft, values: Values) -> None:
        seconds = values.get("seconds", REDIRECT_TIMEOUT)
        rows.change(draft, values, lambda family, _values: evolve(family, redirect=True, redirect_timeout=seconds))
        INTERFACE.change(draft, values, lambda one, _values: evolve(one, redirect=True))

    def undo(draft: Draft, values: Values) -> None:
        rows.change(
            draft, values, lambda family, _values: evolve(family, redirect=False, redirect_timeout=REDIRECT_TIMEOUT)
        )
        if not rows.beside(draft, values).redirect:
            INTERFACE.change(draft, values, lambda one, _values: evolve(one, redirect=False))

    def show(sections: Sections, values: Values) -> Iterable[Values]:
        interface = INTERFACE.fetch(sections, values)
        if interface is not None and interface.redirect and _stands(rows, sections, values, "redirect"):
            seconds = rows.place.get(sections, values).redirect_timeout
            yield {"seconds": None if seconds == REDIRECT_TIMEOUT else seconds}

    return Line(
        (INTERFACE_MODE,),
        f"{rows.start} redirect [timeout {{seconds:int:2-300}}]",
        "tell senders of a better way when their packets leave by the network they came in by; timeout: once in so many "
        f"seconds for each source and destination ({REDIRECT_TIMEOUT})",
        edit=put,
        undo=undo,
        show=show,
        place=INTERFACE,
        order=71,
    )


# --- servers and maps -------------------------------------------------------------------------------------------------


def _v4(values: Values, slot: str) -> bytes:
    """An NBMA address."""
    address: bytes = values.get(slot, b"")
    if len(address) == 16:
        raise Refusal(NO_V6_NBMA, slot)
    return address


def _nhs_key(nhs: Nhs) -> tuple[bytes, bytes]:
    """A server is known by its address; one that is yet to say it, by its NBMA address."""
    return nhs.address, b"" if nhs.address else nhs.nbma


def _put_nhs(family: NhrpFamily, values: Values) -> NhrpFamily:
    nhs = Nhs(
        values.get("server", b""),
        _v4(values, "nbma"),
        values.get("priority", 0),
        values.get("cluster", 0),
        bool(values.get("multicast")),
    )
    held = {_nhs_key(one): one for one in family.nhs}
    return evolve(family, nhs=tuple({**held, _nhs_key(nhs): nhs}.values()))


def _remove_nhs(family: NhrpFamily, values: Values) -> NhrpFamily:
    """With no address: all of them. `nbma` narrows it down, the other words say nothing."""
    server = values.get("server", b"")
    nbma = values.get("nbma", b"")
    every = not server and not values.get("dynamic")

    def goes(nhs: Nhs) -> bool:
        return (every or nhs.address == server) and (not nbma or nhs.nbma == nbma)

    kept = tuple(one for one in family.nhs if not goes(one))
    if len(kept) == len(family.nhs) and not every:
        raise Refusal("there is no such server", "server" if server else "")
    return evolve(family, nhs=kept)


def _show_nhs(family: NhrpFamily) -> Iterable[Values]:
    for nhs in family.nhs:
        yield {
            "server": nhs.address or None,
            "dynamic": None if nhs.address else True,
            "nbma": nhs.nbma or None,
            "multicast": nhs.multicast or None,
            "priority": nhs.priority or None,
            "cluster": nhs.cluster or None,
        }


def _put_map(family: NhrpFamily, values: Values) -> NhrpFamily:
    held = {one.address: one for one in family.maps}
    added = StaticMap(values["overlay"], _v4(values, "nbma"))
    return evolve(family, maps=tuple({**held, added.address: added}.values()))


def _remove_map(family: NhrpFamily, values: Values) -> NhrpFamily:
    overlay, nbma = values["overlay"], values.get("nbma")
    kept = tuple(one for one in family.maps if one.address != overlay or nbma not in (None, one.nbma))
    if len(kept) == len(family.maps):
        raise Refusal("there is no such map", "overlay")
    return evolve(family, maps=kept)


def _servers(rows: _Rows) -> tuple[Line, ...]:
    nbma = "{nbma:address}"
    return (
        setting(
            INTERFACE_MODE,
            f"{rows.start} nhs ({{server:{rows.address}}} | dynamic) [nbma {nbma}] [multicast] "
            "[priority {priority:int:0-255}] [cluster {cluster:int:0-10}]",
            rows.place,
            _put_nhs,
            show=_show_nhs,
            remove=_remove_nhs,
            help="register with that server; dynamic: it says what its address is; nbma: IPv4; priority: the lowest is used "
            "while it answers, in each cluster; multicast: taken, and means nothing, as none crosses a tunnel here",
            order=78,
        ),
        setting(
            INTERFACE_MODE,
            f"{rows.start} map {{overlay:{rows.address}}} {nbma}",
            rows.place,
            _put_map,
            show=lambda family: ({"overlay": one.address, "nbma": one.nbma} for one in family.maps),
            remove=_remove_map,
            no=f"{rows.start} map {{overlay:{rows.address}}} [{nbma}]",
            help="where a tunnel address is, for ever: at that NBMA address (IPv4)",
            order=79,
        ),
        no_effect(
            INTERFACE_MODE,
            f"{rows.start} map multicast dynamic",
            "no multicast crosses a tunnel here, and no protocol here needs it",
        ),
        no_effect(
            INTERFACE_MODE,
            f"{rows.start} map multicast {nbma}",
            "no multicast crosses a tunnel here, and no protocol here needs it",
        ),
    )


# --- what we say of ourselves, and what we believe -----------------------------------------------------------------------


def _own(rows: _Rows) -> tuple[Line, ...]:
    return (
        value(
            INTERFACE_MODE,
            f"{rows.start} authentication {{password:nhrp-password}}",
            rows.place,
            "authentication",
            "password",
            help=f"a password (1 to {PASSWORD_LIMIT} octets) that every packet shows and must show; it travels in clear",
            order=72,
        ),
        value(
            INTERFACE_MODE,
            f"{rows.start} holdtime {{seconds:int:1-65535}}",
            rows.place,
            "holding_time",
            "seconds",
            help="how long others may believe what we register and answer",
            order=73,
        ),
        setting(
            INTERFACE_MODE,
            f"{rows.start} shortcut [virtual-template {{number:int:1-4095}}]",
            rows.place,
            lambda family, values: evolve(family, shortcut=True, virtual_template=values.get("number")),
            show=lambda family: ({"number": family.virtual_template},) if family.shortcut else (),
            remove=lambda family, _values: evolve(family, shortcut=False, virtual_template=None),
            help="ask for better ways, answer those who ask, and use what is answered; virtual-template: each over a tunnel "
            "of its own, cloned from there",
            order=74,
        ),
        flag(
            INTERFACE_MODE,
            f"{rows.start} registration no-unique",
            rows.place,
            "unique",
            help="whoever registers our address next takes it over",
            sets=False,
            order=75,
        ),
        value(
            INTERFACE_MODE,
            f"{rows.start} registration timeout {{seconds:int:1-65535}}",
            rows.place,
            "registration_timeout",
            "seconds",
            help="register again after so many seconds (a third of the holding time)",
            order=76,
        ),
    )


def _idle(rows: _Rows) -> tuple[Line, ...]:
    """Lines of old configurations that ask for what is so anyway, or for nothing that is here."""

    def idle(text: str, reason: str, *, no: bool | None = None) -> Line:
        return no_effect(INTERFACE_MODE, f"{rows.start} {text}", reason, no=no)

    return (
        idle("record", "records of the way are kept always: loops are found by them", no=False),
        idle("cache non-authoritative", "the far end answers, never a server from its cache"),
        idle("server-only [non-caching]", "who has no `shortcut` line never asks", no=False),
        idle("max-send {count:int} every {seconds:int}", "what is sent, and how often, is bounded anyway"),
        idle("group {name:word}", "there is no QoS on tunnels here"),
        idle("map group {name:word} service-policy output {policy:word}", "there is no QoS on tunnels here"),
        refused(
            INTERFACE_MODE,
            f"{rows.start} {{what:interest|use|trigger-svc|responder|connect}} [{{rest:text}}]",
            "resolution begins with a redirect here, whatever the traffic, and the egress answers it",
        ),
    )


# --- labels -------------------------------------------------------------------------------------------------------------


def _put_mpls(on: bool) -> Callable[[Draft, Values], None]:
    def put(draft: Draft, values: Values) -> None:
        _must_be_tunnel(draft, values)
        _NHRP.change(draft, values, lambda nhrp, _values: evolve(nhrp, mpls=on))
        INTERFACE.change(draft, values, lambda interface, _values: evolve(interface, mpls_nhrp=on))

    return put


def _show_mpls(sections: Sections, values: Values) -> Iterable[Values]:
    interface: InterfaceConfig | None = INTERFACE.fetch(sections, values)
    return ({},) if interface is not None and interface.mpls_nhrp else ()


_MPLS = Line(
    (INTERFACE_MODE,),
    "mpls nhrp",
    "labels travel in NHRP, and labelled packets by this interface, with no LDP",
    edit=_put_mpls(on=True),
    undo=_put_mpls(on=False),
    show=_show_mpls,
    place=_NHRP,
    order=80,
)

# --- the whole node ---------------------------------------------------------------------------------------------------------

_LIMITS = (
    value(
        CONFIG,
        "ip nhrp limit cache {entries:int:1-1048576}",
        _GLOBAL,
        "cache_limit",
        "entries",
        help="entries of NHRP's cache, of both families and all networks together (ours, not IOS's)",
        order=42,
    ),
    value(
        CONFIG,
        "ip nhrp limit pending {entries:int:1-65536}",
        _GLOBAL,
        "pending_limit",
        "entries",
        help="resolutions that have not been answered, at once (ours, not IOS's)",
        order=42,
    ),
    value(
        CONFIG,
        "mpls nhrp oui {oui:oui}",
        _GLOBAL,
        "oui",
        "oui",
        help="of the extension that carries labels in NHRP, the same at both ends of a shortcut (ours, not IOS's)",
        order=43,
    ),
)


def _of(rows: _Rows) -> tuple[Line, ...]:
    return (_network(rows), _redirect(rows), *_own(rows), *_servers(rows), *_idle(rows))


LINES: tuple[Line, ...] = (*_LIMITS, *_of(_rows_of(Afi.IPV4)), *_of(_rows_of(Afi.IPV6)), _MPLS)
"""The rows of package nhrp."""
