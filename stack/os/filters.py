"""Packet filters in the kernel through nftables' netlink: keep customer frames from the host's own IP stack, and keep the
host from answering for protocols that are ours.

A table belongs to the netlink socket that made it (NFT_TABLE_F_OWNER, Linux 5.12), so the kernel takes it away with this
process, kill -9 included. nftables needs CAP_NET_ADMIN only over its own network namespace, so this works in a user
namespace too. tc was not taken: its classifiers that would do (matchall, flower) and its drop action are missing from some
kernels, and eBPF is refused in user namespaces.

Sources: include/uapi/linux/netfilter/nf_tables.h; nft(8).
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterable
from itertools import count

from stack.os.netlink import CREATE, EXCLUSIVE, NETLINK_NETFILTER, Netlink, attribute, nested, text

__all__ = ["drop_answers", "drop_ingress"]

_BATCH_BEGIN, _BATCH_END = 16, 17
_SUBSYSTEM = 10
_NEW_TABLE, _NEW_CHAIN, _NEW_RULE = (_SUBSYSTEM << 8 | n for n in (0, 3, 6))
_APPEND = 0x800

_FAMILY_IPV4, _FAMILY_NETDEV = 2, 5
_TABLE_NAME, _TABLE_FLAGS, _TABLE_OWNED = 1, 2, 0x2
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_TYPE = 1, 3, 4, 7
_HOOK_NUMBER, _HOOK_PRIORITY, _HOOK_DEVICE = 1, 2, 3
_INGRESS, _LOCAL_OUT = 0, 3
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS, _ELEMENT = 1, 2, 4, 1
_EXPRESSION_NAME, _EXPRESSION_BODY = 1, 2
_FIRST = -500
"""The hook's priority: before anybody's own rules."""

_REGISTER = 8
"""NFT_REG32_00: the first of the 4-octet registers."""
_LINK, _TRANSPORT = 0, 2
_ETHERTYPE_AT, _TAG_AT = 12, 14
_DOT1Q, _DOT1AD = b"\x81\0", b"\x88\xa8"
_EQUAL, _NOT_EQUAL = 0, 1
_L4_PROTOCOL = 16
_UNREACHABLE, _PROTOCOL_UNREACHABLE, _PORT_UNREACHABLE = b"\3", b"\2", b"\3"
_QUOTED_PROTOCOL_AT = 8 + 9
"""In an ICMP error: behind its own header, the protocol field of the IPv4 header that it quotes."""
_QUOTED_PORT_AT = 8 + 20 + 2
"""The destination port, behind an IPv4 header without options."""

_tables = count(1)


def _be32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">i", value))


def _expression(name: str, *body: bytes) -> bytes:
    return nested(_ELEMENT, text(_EXPRESSION_NAME, name), nested(_EXPRESSION_BODY, *body))


def _load(base: int, offset: int, length: int) -> bytes:
    """Octets of the packet into the register. Of a frame: a tag that the kernel took off is there again."""
    return _expression("payload", _be32(1, _REGISTER), _be32(2, base), _be32(3, offset), _be32(4, length))


def _compare(operator: int, value: bytes) -> bytes:
    return _expression("cmp", _be32(1, _REGISTER), _be32(2, operator), nested(3, attribute(1, value)))


def _vlan_id() -> bytes:
    mask, xor = nested(4, attribute(1, b"\x0f\xff")), nested(5, attribute(1, b"\0\0"))
    return _expression("bitwise", _be32(1, _REGISTER), _be32(2, _REGISTER), _be32(3, 2), mask, xor)


def _protocol(number: int) -> list[bytes]:
    return [_expression("meta", _be32(1, _REGISTER), _be32(2, _L4_PROTOCOL)), _compare(_EQUAL, bytes((number,)))]


_DROP = _expression("immediate", _be32(1, 0), nested(2, nested(2, _be32(1, 0))))

Rule = list[bytes]


def _install(family: int, hook: bytes, rules: list[Rule], *, what: str) -> Callable[[], None]:
    """A table of one chain at `hook`; what takes it away again (again and again is allowed). Raises OSError."""
    name = f"labelspan-{os.getpid()}-{next(_tables)}"
    head = struct.pack(">BBH", family, 0, 0)
    messages = [(_NEW_TABLE, CREATE | EXCLUSIVE, head + text(_TABLE_NAME, name) + _be32(_TABLE_FLAGS, _TABLE_OWNED))]
    chain = text(_CHAIN_TABLE, name) + text(_CHAIN_NAME, "drop") + hook + text(_CHAIN_TYPE, "filter")
    messages.append((_NEW_CHAIN, CREATE | EXCLUSIVE, head + chain))
    for rule in rules:
        body = text(_RULE_TABLE, name) + text(_RULE_CHAIN, "drop") + nested(_RULE_EXPRESSIONS, *rule, _DROP)
        messages.append((_NEW_RULE, CREATE | _APPEND, head + body))
    try:
        netlink = Netlink(NETLINK_NETFILTER)
    except OSError as error:
        if error.errno == errno.EPROTONOSUPPORT:
            raise OSError(error.errno, f"{what}: this kernel has no nftables (CONFIG_NF_TABLES)") from error
        raise
    try:
        netlink.transaction(messages, _BATCH_BEGIN, _BATCH_END, struct.pack(">BBH", 0, 0, _SUBSYSTEM), what=what)
    except OSError as error:
        netlink.close()
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.EAFNOSUPPORT):
            needs = "Linux 5.12 with CONFIG_NF_TABLES_NETDEV and CONFIG_NETFILTER_INGRESS"
            raise OSError(error.errno, f"{error.strerror} (it needs {needs})") from error
        raise
    return netlink.close


def _ingress_rules(vlans: Iterable[int | None]) -> list[Rule]:
    """None: untagged frames, and priority-tagged ones (VLAN 0), which count as such."""
    rules = []
    for vlan in vlans:
        ethertype = _load(_LINK, _ETHERTYPE_AT, 2)
        if vlan is None:
            rules.append([ethertype, _compare(_NOT_EQUAL, _DOT1Q), _compare(_NOT_EQUAL, _DOT1AD)])
        tagged = [ethertype, _compare(_EQUAL, _DOT1Q), _load(_LINK, _TAG_AT, 2), _vlan_id()]
        rules.append([*tagged, _compare(_EQUAL, struct.pack(">H", vlan or 0))])
    return rules


def drop_ingress(device: str, vlans: Iterable[int | None]) -> Callable[[], None]:
    """Drop frames of these VLANs (None: untagged) that come in by `device`, before the kernel's own protocols see them.

    At the netdev ingress hook. It comes after the packet sockets that hear every protocol (ETH_P_ALL) have had the frame,
    and before IP, ARP and bridges; a packet socket of a single EtherType comes after it and would starve.

    Returns what undoes it (again and again is allowed). Raises OSError: ENODEV; EOPNOTSUPP or EINVAL with the kernel
    options that are missing; MissingPrivilege.
    """
    hook = nested(_CHAIN_HOOK, _be32(_HOOK_NUMBER, _INGRESS), _be32(_HOOK_PRIORITY, _FIRST), text(_HOOK_DEVICE, device))
    what = f"dropping customer frames of device {device} at nftables' netdev ingress"
    return _install(_FAMILY_NETDEV, hook, _ingress_rules(vlans), what=what)


def drop_answers(protocol: int, *, port: int = 0) -> Callable[[], None]:
    """Keep the host from telling senders of this IPv4 protocol that it, or its port, is unreachable here; with `port`, only
    those of datagrams to that port.

    A bound raw socket silences the first. The second is what the kernel's own tunnel module (ip_gre) sends for every packet
    it has no tunnel for, and UDP for a port where nobody listens, although our raw socket has had it; so it is stopped on
    its way out. Fragmentation-needed stays.
    """
    icmp = [*_protocol(1), _load(_TRANSPORT, 0, 1), _compare(_EQUAL, _UNREACHABLE)]
    quoted = [_load(_TRANSPORT, _QUOTED_PROTOCOL_AT, 1), _compare(_EQUAL, bytes((protocol,)))]
    if port:
        quoted += [_load(_TRANSPORT, _QUOTED_PORT_AT, 2), _compare(_EQUAL, struct.pack(">H", port))]
    rules = [
        [*icmp, _load(_TRANSPORT, 1, 1), _compare(_EQUAL, code), *quoted]
        for code in (_PROTOCOL_UNREACHABLE, _PORT_UNREACHABLE)
    ]
    hook = nested(_CHAIN_HOOK, _be32(_HOOK_NUMBER, _LOCAL_OUT), _be32(_HOOK_PRIORITY, _FIRST))
    about = f"IP protocol {protocol}" + (f" port {port}" if port else "")
    return _install(_FAMILY_IPV4, hook, rules, what=f"silencing ICMP errors about {about}")
