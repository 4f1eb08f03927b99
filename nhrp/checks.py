"""What is legal in NHRP's configuration, but wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nhrp.config import NhrpConfig, NhrpFamily, NhrpInterface, Nhs
from nhrp.lines import WORDS
from stack.addr import Afi, format_address
from stack.config import InterfaceConfig, NodeConfig
from stack.ios.grammar import Finding, Reference, Sections

__all__ = ["CHECKS"]

Said = Finding | Reference

NEVER_RUNS = "NHRP does not run there"


def check_nhrp(config: Sections) -> Iterator[Said]:
    nhrp, node = config[NhrpConfig], config[NodeConfig]
    for name, interface in node.interfaces.items():
        told = nhrp.interfaces.get(name, NhrpInterface(name))
        under = f"interface {name}"
        yield from _without_network(interface, told, under)
        for afi in Afi:
            family = told.family(afi)
            yield from _times(family, WORDS[afi], under)
            yield from _secret(family, interface, under)
            if family.shortcut:
                yield from _shortcut(family, interface, told, node, WORDS[afi])
            for nhs in family.nhs:
                yield from _server(nhs, family, interface, WORDS[afi])
    yield from _secrets_of_networks(nhrp, node)


# --- an interface by itself ---------------------------------------------------------------------------------------------


def _without_network(interface: InterfaceConfig, told: NhrpInterface, under: str) -> Iterator[Finding]:
    """Lines that do nothing because the interface is in no network."""
    if interface.network_id:
        return
    if interface.redirect:
        words = [WORDS[afi] for afi in Afi if told.family(afi).redirect] or ["ip"]
        for word in words:
            yield _no_network(interface, f"{word} nhrp redirect", under)
    if interface.mpls_nhrp:
        yield _no_network(interface, "mpls nhrp", under, "no label travels in NHRP")
    for afi in Afi:
        family = told.family(afi)
        if family.shortcut:
            yield _no_network(interface, _shortcut_line(family, WORDS[afi]), under)
        elif family.nhs or family.maps or family.authentication:
            yield _no_network(interface, "", under, what=f"{WORDS[afi]} nhrp lines")


def _no_network(interface: InterfaceConfig, line: str, under: str, means: str = NEVER_RUNS, what: str = "") -> Finding:
    text = f"{interface.name} has {what or f'`{line}`'} and no `ip nhrp network-id`: {means}"
    return Finding("warning", text, line or under, under=under if line else "")


def _times(family: NhrpFamily, word: str, under: str) -> Iterator[Finding]:
    every, holding = family.registration_timeout, family.holding_time
    if 0 < holding < 3 * every:
        line = f"{word} nhrp registration timeout {every}"
        if every >= holding:
            text = f"registrations live {holding} seconds and are renewed every {every}: between, nobody knows us"
        else:
            text = (
                f"registrations live {holding} seconds and are renewed every {every}: one lost packet, and they expire"
            )
        yield Finding("warning", text, line, under=under)


def _secret(family: NhrpFamily, interface: InterfaceConfig, under: str) -> Iterator[Finding]:
    if family.authentication and interface.network_id and not interface.protection:
        text = f"{interface.name} is not protected: its NHRP password can be read from every packet"
        yield Finding("note", text, under)


# --- shortcuts ------------------------------------------------------------------------------------------------------------


def _shortcut_line(family: NhrpFamily, word: str) -> str:
    number = family.virtual_template
    return f"{word} nhrp shortcut" + (f" virtual-template {number}" if number is not None else "")


def _shortcut(
    family: NhrpFamily, interface: InterfaceConfig, told: NhrpInterface, node: NodeConfig, word: str
) -> Iterator[Said]:
    under, line = f"interface {interface.name}", _shortcut_line(family, word)
    if family.virtual_template is None:
        if interface.point_to_point and interface.network_id:
            text = f"{interface.name} has one far end: without `virtual-template` there is no tunnel that a shortcut could take"
            yield Finding("warning", text, line, under=under)
        return
    name = f"Virtual-Template{family.virtual_template}"
    template = node.interfaces.get(name)
    if template is None:
        yield Reference("interface", name, line, "no shortcut is built, all goes by the hub", under=under)
        return
    for fault in _unfit(template, interface, labels=told.mpls or interface.mpls_nhrp):
        yield Finding("warning", f"{name} {fault}", line, under=under)


def _unfit(template: InterfaceConfig, interface: InterfaceConfig, *, labels: bool) -> Iterator[str]:
    """What is wrong with the template of an interface's shortcuts."""
    if not template.protection:
        yield "has no `tunnel protection`: IKEv2 builds its clones, so there is never one"
    if not template.network_id:
        yield "has no `ip nhrp network-id`: what comes by a shortcut is not NHRP's"
    elif interface.network_id and template.network_id != interface.network_id:
        yield f"is in NHRP network {template.network_id}, {interface.name} in {interface.network_id}"
    if template.vrf != interface.vrf:
        where = [repr(one.vrf) if one.vrf else "the default VRF" for one in (template, interface)]
        yield f"is in {where[0]}, {interface.name} in {where[1]}: a shortcut leaves by no other VRF"
    if labels and not (template.mpls or template.mpls_nhrp):
        yield "has no `mpls nhrp`: no labelled packet takes a shortcut"
    if template.shutdown:
        yield "is shut down"


# --- servers --------------------------------------------------------------------------------------------------------------


def _server(nhs: Nhs, family: NhrpFamily, interface: InterfaceConfig, word: str) -> Iterator[Finding]:
    under = f"interface {interface.name}"
    line = f"{word} nhrp nhs {format_address(nhs.address) if nhs.address else 'dynamic'}"
    full = f"{line} nbma {format_address(nhs.nbma)}" if nhs.nbma else line
    if nhs.address and any(one.address == nhs.address for one in interface.addresses):
        text = f"{format_address(nhs.address)} is {interface.name}'s own address: it would register with itself"
        yield Finding("error", text, full, under=under)
    mapped = any(one.address == nhs.address for one in family.maps)
    if not nhs.nbma and not mapped and not interface.point_to_point:
        who = format_address(nhs.address) if nhs.address else "that server"
        text = f"where {who} is, nobody says (`nbma`, or `{word} nhrp map`): {interface.name} never registers"
        yield Finding("warning", text, full, under=under)


# --- networks ---------------------------------------------------------------------------------------------------------------


def _secrets_of_networks(nhrp: NhrpConfig, node: NodeConfig) -> Iterator[Finding]:
    """Interfaces of one network that have different passwords, or only some of which have one: what one of them takes, the
    others refuse, and what comes in by one in clear goes out by another as if it had been authentic."""
    for afi in Afi:
        held: dict[int, dict[str, str]] = {}
        for name, interface in node.interfaces.items():
            if interface.network_id:
                held.setdefault(interface.network_id, {})[name] = nhrp.of(name).family(afi).authentication
        for network, passwords in held.items():
            yield from _passwords(network, passwords, WORDS[afi])


def _passwords(network: int, passwords: dict[str, str], word: str) -> Iterable[Finding]:
    having = [name for name, password in passwords.items() if password]
    line = f"{word} nhrp network-id {network}"
    for name, password in passwords.items():
        if having and not password:
            text = f"{name} has no `{word} nhrp authentication`, and {having[0]} of the same network has: it takes anything"
            yield Finding("warning", text, line, under=f"interface {name}")
        elif password and password != passwords[having[0]]:
            text = f"{name} and {having[0]} are in one NHRP network and have different passwords"
            yield Finding("warning", text, line, under=f"interface {name}")


CHECKS = (check_nhrp,)
