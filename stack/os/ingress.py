"""Keep customer frames from the kernel's own IP stack: a drop at nftables' netdev ingress hook, through netlink.

The hook comes after the packet sockets that hear every protocol (ETH_P_ALL) have had the frame, and before IP, ARP and
bridges. (A packet socket of a single EtherType comes after the hook and would starve: data-plane trap 2.) The table
belongs to the netlink socket that made it (NFT_TABLE_F_OWNER, Linux 5.12), so the kernel takes it away with this
process, kill -9 included. nftables needs CAP_NET_ADMIN only over its own network namespace, so this works in a user
namespace as well; tc was not taken because its classifiers that work there (matchall, flower) are missing from some
kernels, and its drop action too.

Sources: include/uapi/linux/netfilter/nf_tables.h; nft(8), netdev family.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterable
from itertools import count

from stack.os.netlink import CREATE, EXCLUSIVE, NETLINK_NETFILTER, Netlink, attribute, nested, text

__all__ = ["drop_ingress"]

_BATCH_BEGIN, _BATCH_END = 16, 17
_SUBSYSTEM = 10
_NEW_TABLE, _NEW_CHAIN, _NEW_RULE = (_SUBSYSTEM << 8 | n for n in (0, 3, 6))
_APPEND = 0x800

_FAMILY_NETDEV = 5
_TABLE_NAME, _TABLE_FLAGS, _TABLE_OWNED = 1, 2, 0x2
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_TYPE = 1, 3, 4, 7
_HOOK_NUMBER, _HOOK_PRIORITY, _HOOK_DEVICE, _INGRESS = 1, 2, 3, 0
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS, _ELEMENT = 1, 2, 4, 1
_EXPRESSION_NAME, _EXPRESSION_BODY = 1, 2
_FIRST = -500
"""The hook's priority: before anybody's own rules."""

_REGISTER = 8
"""NFT_REG32_00: the first of the 4-octet registers."""
_ETHERTYPE_AT, _TAG_AT = 12, 14
_DOT1Q, _DOT1AD = 0x8100, 0x88A8
_EQUAL, _NOT_EQUAL = 0, 1

_tables = count(1)


def _be32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">i", value))


def _expression(name: str, *body: bytes) -> bytes:
    return nested(_ELEMENT, text(_EXPRESSION_NAME, name), nested(_EXPRESSION_BODY, *body))


def _load(offset: int) -> bytes:
    """Two octets of the frame into the register; a tag that the kernel took off is there again."""
    return _expression("payload", _be32(1, _REGISTER), _be32(2, 0), _be32(3, offset), _be32(4, 2))


def _compare(operator: int, value: int) -> bytes:
    octets = nested(3, attribute(1, struct.pack(">H", value)))
    return _expression("cmp", _be32(1, _REGISTER), _be32(2, operator), octets)


def _vlan_id() -> bytes:
    mask, xor = nested(4, attribute(1, b"\x0f\xff")), nested(5, attribute(1, b"\0\0"))
    return _expression("bitwise", _be32(1, _REGISTER), _be32(2, _REGISTER), _be32(3, 2), mask, xor)


def _drop() -> bytes:
    return _expression("immediate", _be32(1, 0), nested(2, nested(2, _be32(1, 0))))


def _rules(vlans: Iterable[int | None]) -> list[list[bytes]]:
    """Each rule's expressions. None: untagged frames, and priority-tagged ones (VLAN 0), which count as such."""
    rules = []
    for vlan in vlans:
        if vlan is None:
            rules.append([_load(_ETHERTYPE_AT), _compare(_NOT_EQUAL, _DOT1Q), _compare(_NOT_EQUAL, _DOT1AD), _drop()])
        tagged = [_load(_ETHERTYPE_AT), _compare(_EQUAL, _DOT1Q), _load(_TAG_AT), _vlan_id()]
        rules.append([*tagged, _compare(_EQUAL, vlan or 0), _drop()])
    return rules


def drop_ingress(device: str, vlans: Iterable[int | None]) -> Callable[[], None]:
    """Drop frames of these VLANs (None: untagged) that come in by `device`, before the kernel's own protocols see
    them.

    Returns what undoes it (again and again is allowed). Raises OSError: ENODEV, EOPNOTSUPP with the kernel option
    that is missing; MissingPrivilege.
    """
    name = f"labelspan-{os.getpid()}-{next(_tables)}"
    head = struct.pack(">BBH", _FAMILY_NETDEV, 0, 0)
    messages = [(_NEW_TABLE, CREATE | EXCLUSIVE, head + text(_TABLE_NAME, name) + _be32(_TABLE_FLAGS, _TABLE_OWNED))]
    hook = nested(_CHAIN_HOOK, _be32(_HOOK_NUMBER, _INGRESS), _be32(_HOOK_PRIORITY, _FIRST), text(_HOOK_DEVICE, device))
    chain = text(_CHAIN_TABLE, name) + text(_CHAIN_NAME, "ingress") + hook + text(_CHAIN_TYPE, "filter")
    messages.append((_NEW_CHAIN, CREATE | EXCLUSIVE, head + chain))
    for expressions in _rules(vlans):
        rule = text(_RULE_TABLE, name) + text(_RULE_CHAIN, "ingress") + nested(_RULE_EXPRESSIONS, *expressions)
        messages.append((_NEW_RULE, CREATE | _APPEND, head + rule))
    what = f"dropping customer frames of device {device} at nftables' netdev ingress"
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
            words = f"{error.strerror} (it needs Linux 5.12 with CONFIG_NF_TABLES_NETDEV and CONFIG_NETFILTER_INGRESS)"
            raise OSError(error.errno, words) from error
        raise
    return netlink.close
