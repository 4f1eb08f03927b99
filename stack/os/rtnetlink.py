"""Links, addresses and routes through rtnetlink: the octets of host.py's and the lab's wishes.

Each call is one request and returns when the kernel has done it. Sources: rtnetlink(7),
include/uapi/linux/rtnetlink.h, if_link.h, if_addr.h, veth.h.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import socket
import struct
import time
from collections.abc import Iterator

from attrs import frozen

from stack.addr import Prefix, format_address
from stack.net import Device
from stack.os.netlink import CREATE, EXCLUSIVE, REPLACE, Netlink, attribute, attributes, nested, text

__all__ = ["OURS", "Address", "Link", "RouteEntry", "RouteNetlink"]

OURS = 76
"""The protocol number (rtproto, IFA_PROTO) that marks what this software put into the kernel's tables. Nobody else's:
FRR has 11 and 186 to 199, BIRD 12, keepalived 18, babeld 42, openr 99."""

GROUP_LINK, GROUP_IPV4_ADDRESS, GROUP_IPV4_ROUTE, GROUP_IPV6_ADDRESS, GROUP_IPV6_ROUTE = 1, 5, 7, 9, 11

NEW_LINK, DEL_LINK, GET_LINK = 16, 17, 18
NEW_ADDRESS, DEL_ADDRESS, GET_ADDRESS = 20, 21, 22
NEW_ROUTE, DEL_ROUTE, GET_ROUTE = 24, 25, 26
NEW_RULE, DEL_RULE, GET_RULE = 32, 33, 34

_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")

_IFLA_ADDRESS, _IFLA_NAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_NETNS_FD, _IFLA_AF_SPEC = 1, 3, 4, 18, 28, 26
_INFO_KIND, _INFO_CONTENT, _VETH_PEER = 1, 2, 1
_INET_CONF, _INET6_ADDR_GEN_MODE = 1, 8
_GET_INDEX, _NAME_SIZE, _IFREQ = 0x8933, 16, struct.Struct("=16si20x")
"""SIOCGIFINDEX (netdevice(7)), which every kind of socket answers, in its own network namespace."""
_UP, _RUNNING, _NOARP, _LOOPBACK = 0x1, 0x40, 0x80, 0x8

_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS, _IFA_PROTO = 1, 2, 8, 11
_IFA_NODAD = 0x02

_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC, _RTA_MULTIPATH, _RTA_TABLE, _RTA_PRIORITY = 1, 4, 5, 7, 9, 15, 6
_TABLE_MAIN, _UNICAST, _LOCAL = 254, 1, 2
_SETTLE_ATTEMPTS, _SETTLE_SECONDS = 20, 0.001

_FRA_PRIORITY, _FRA_TABLE, _FRA_OIFNAME, _FRA_PROTOCOL, _TO_TABLE = 6, 15, 17, 21, 1
_RULE_PRIORITY = 1000
_SCOPE_UNIVERSE, _SCOPE_LINK = 0, 253
_CLONED = 0x200

LOOPBACK_DEVICE = "lo"


@frozen
class Link:
    """A network device as the kernel tells it. `arp`: whether it has neighbours to resolve."""

    device: Device
    arp: bool


@frozen
class Address:
    device: str
    address: bytes
    length: int
    ours: bool


@frozen
class RouteEntry:
    """A unicast route of the main table; of a multipath one, its first next hop. `protocol` is its rtproto number."""

    prefix: Prefix
    via: bytes
    device: str
    source: bytes
    protocol: int
    metric: int


def _family(address: bytes) -> int:
    return socket.AF_INET if len(address) == 4 else socket.AF_INET6


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def _number(octets: bytes | None) -> int:
    return int(struct.unpack("=I", octets)[0]) if octets and len(octets) == 4 else 0


class RouteNetlink(Netlink):
    """An rtnetlink socket of the network namespace in which it is made."""

    # --- links ---

    def links(self) -> Iterator[Link]:
        for kind, body in self.dump(GET_LINK, _IFINFO.pack(0, 0, 0, 0, 0), what="reading the devices"):
            if kind == NEW_LINK and (link := _link(body)):
                yield link

    def link(self, name: str) -> Link:
        """Raises OSError (ENODEV) if there is no device `name`."""
        what = f"device {name}"
        body = _IFINFO.pack(0, 0, 0, 0, 0) + text(_IFLA_NAME, name)
        for kind, answer in self.ask(GET_LINK, 0, body, what=what):
            if kind == NEW_LINK and (link := _link(answer)):
                return link
        raise OSError(errno.ENODEV, f"{what}: no such device")

    def index(self, name: str) -> int:
        """As `link`, at a fiftieth of the price: a host may be given many thousand routes. Raises OSError (ENODEV)."""
        octets = name.encode()
        if len(octets) < _NAME_SIZE:
            try:
                answer = fcntl.ioctl(self.fileno(), _GET_INDEX, _IFREQ.pack(octets, 0))
            except OSError as error:
                if error.errno != errno.ENODEV:
                    raise
            else:
                return int(_IFREQ.unpack(answer)[1])
        raise OSError(errno.ENODEV, f"device {name}: no such device")

    def set_link(
        self,
        name: str,
        *,
        up: bool | None = None,
        mtu: int | None = None,
        mac: bytes | None = None,
        rename: str | None = None,
        namespace: int | None = None,
    ) -> None:
        """Change what is given. `namespace` is a file descriptor of the network namespace it moves to."""
        body = _IFINFO.pack(0, 0, self.index(name), _UP if up else 0, 0 if up is None else _UP)
        if mtu is not None:
            body += _u32(_IFLA_MTU, mtu)
        if mac is not None:
            body += attribute(_IFLA_ADDRESS, mac)
        if rename is not None:
            body += text(_IFLA_NAME, rename)
        if namespace is not None:
            body += _u32(_IFLA_NETNS_FD, namespace)
        self.request(NEW_LINK, 0, body, what=f"setting device {name}")

    def configure(self, name: str, *, ipv4: dict[int, int], ipv6_link_local: bool) -> None:
        """Set IPV4_DEVCONF_* values of a device through netlink, which works where /proc/sys is read-only, and whether
        the kernel gives it an IPv6 link-local address."""
        head = _IFINFO.pack(0, 0, self.index(name), 0, 0)
        conf = nested(_INET_CONF, *(_u32(kind, value) for kind, value in ipv4.items()))
        body = head + nested(_IFLA_AF_SPEC, nested(socket.AF_INET, conf))
        self.request(NEW_LINK, 0, body, what=f"configuring IPv4 of device {name}")
        mode = attribute(_INET6_ADDR_GEN_MODE, b"\0" if ipv6_link_local else b"\1")
        body = head + nested(_IFLA_AF_SPEC, nested(socket.AF_INET6, mode))
        self.request(NEW_LINK, 0, body, what=f"configuring IPv6 of device {name}")

    def add_veth(self, name: str, peer: str, *, namespace: int, mtu: int = 1500) -> None:
        """A pair of devices: `name` here, `peer` in the namespace of that file descriptor."""
        far = _IFINFO.pack(0, 0, 0, 0, 0) + text(_IFLA_NAME, peer) + _u32(_IFLA_MTU, mtu)
        far += _u32(_IFLA_NETNS_FD, namespace)
        info = nested(_IFLA_LINKINFO, text(_INFO_KIND, "veth"), nested(_INFO_CONTENT, attribute(_VETH_PEER, far)))
        body = _IFINFO.pack(0, 0, 0, 0, 0) + text(_IFLA_NAME, name) + _u32(_IFLA_MTU, mtu) + info
        self.request(NEW_LINK, CREATE | EXCLUSIVE, body, what=f"creating the veth pair {name} - {peer}")

    def delete_link(self, name: str) -> None:
        self.request(DEL_LINK, 0, _IFINFO.pack(0, 0, self.index(name), 0, 0), what=f"deleting device {name}")

    # --- addresses ---

    def addresses(self) -> Iterator[Address]:
        names = self._names()
        for kind, body in self.dump(GET_ADDRESS, _IFADDR.pack(0, 0, 0, 0, 0), what="reading the addresses"):
            if kind != NEW_ADDRESS or len(body) < 8:
                continue
            _, length, _, _, index = _IFADDR.unpack_from(body)
            found = attributes(body[8:])
            address = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)
            if address and index in names:
                yield Address(names[index], address, length, ours=found.get(_IFA_PROTO) == bytes((OURS,)))

    def add_address(self, device: str, address: bytes, length: int, *, dad: bool = True) -> None:
        """`dad` False: usable at once (IPv6 duplicate address detection is skipped)."""
        link = self.link(device)
        family = _family(address)
        body = _IFADDR.pack(family, length, 0, _SCOPE_UNIVERSE, link.device.index)
        body += attribute(_IFA_LOCAL, address) + attribute(_IFA_ADDRESS, address)
        body += attribute(_IFA_PROTO, bytes((OURS,)))
        if family == socket.AF_INET6 and not (dad and link.arp):
            body += _u32(_IFA_FLAGS, _IFA_NODAD)
        what = f"adding {format_address(address)}/{length} to device {device}"
        self.request(NEW_ADDRESS, CREATE | EXCLUSIVE, body, what=what)
        if family == socket.AF_INET6:
            # The kernel acknowledges an IPv6 address before it delivers to it: a work queue of its own does that, some
            # microseconds later. A connection or a route that is tried in between fails.
            for _ in range(_SETTLE_ATTEMPTS):
                if self._is_local(address):
                    return
                time.sleep(_SETTLE_SECONDS)

    def _is_local(self, address: bytes) -> bool:
        """Whether packets to `address` are delivered to this host."""
        body = _RTMSG.pack(_family(address), len(address) * 8, 0, 0, 0, 0, 0, 0, 0) + attribute(_RTA_DST, address)
        try:
            answers = self.ask(GET_ROUTE, 0, body, what="looking up a route")
        except OSError:
            return False
        return any(kind == NEW_ROUTE and len(answer) >= 12 and answer[7] == _LOCAL for kind, answer in answers)

    def remove_address(self, device: str, address: bytes, length: int) -> None:
        body = _IFADDR.pack(_family(address), length, 0, 0, self.index(device)) + attribute(_IFA_LOCAL, address)
        what = f"removing {format_address(address)}/{length} from device {device}"
        self.request(DEL_ADDRESS, 0, body, what=what)

    # --- routes ---

    def routes(self) -> Iterator[RouteEntry]:
        """Unicast routes of the main table, both families, IPv6 link-local ones left out."""
        names = self._names()
        for family in (socket.AF_INET, socket.AF_INET6):
            head = _RTMSG.pack(family, 0, 0, 0, _TABLE_MAIN, 0, 0, _UNICAST, 0) + _u32(_RTA_TABLE, _TABLE_MAIN)
            for kind, body in self.dump(GET_ROUTE, head, what="reading the routes"):
                if kind == NEW_ROUTE and (route := _route(body, names)):
                    yield route

    def add_route(
        self,
        prefix: Prefix,
        *,
        via: bytes = b"",
        device: str = "",
        source: bytes = b"",
        protocol: int = OURS,
        table: int = _TABLE_MAIN,
        replace: bool = False,
    ) -> None:
        """Raises FileExistsError if the prefix has a route already, unless `replace`."""
        body = self._route_body(prefix, via, device, source, protocol) + _u32(_RTA_TABLE, table)
        flags = CREATE | (REPLACE if replace else EXCLUSIVE)
        self.request(NEW_ROUTE, flags, body, what=f"adding the route {prefix}")

    def remove_route(self, prefix: Prefix, *, via: bytes = b"", device: str = "", protocol: int = OURS) -> None:
        """Raises ProcessLookupError (ESRCH) if there is none of that protocol."""
        body = self._route_body(prefix, via, device, b"", protocol)
        self.request(DEL_ROUTE, 0, body, what=f"removing the route {prefix}")

    # --- rules (IPv6) ---

    def device_rules(self) -> Iterator[tuple[str, int]]:
        """Our rules as (device, table)."""
        for kind, body in self.dump(GET_RULE, _rule(), what="reading the rules"):
            found = attributes(body[12:])
            if kind == NEW_RULE and found.get(_FRA_PROTOCOL) == bytes((OURS,)) and _FRA_OIFNAME in found:
                yield found[_FRA_OIFNAME].rstrip(b"\0").decode("ascii", "replace"), _number(found.get(_FRA_TABLE))

    def add_device_rule(self, device: str, table: int) -> None:
        """IPv6 sockets that are bound to `device` look up `table`. One that is there already is left."""
        with contextlib.suppress(FileExistsError):
            self.request(NEW_RULE, CREATE | EXCLUSIVE, _rule(device, table), what=f"a rule for device {device}")

    def remove_device_rule(self, device: str, table: int) -> None:
        """Raises FileNotFoundError if there is none."""
        self.request(DEL_RULE, 0, _rule(device, table), what=f"the rule for device {device}")

    def _route_body(self, prefix: Prefix, via: bytes, device: str, source: bytes, protocol: int) -> bytes:
        family = _family(prefix.network)
        scope = _SCOPE_LINK if family == socket.AF_INET and not via else _SCOPE_UNIVERSE
        body = _RTMSG.pack(family, prefix.length, 0, 0, _TABLE_MAIN, protocol, scope, _UNICAST, 0)
        if prefix.length:
            body += attribute(_RTA_DST, prefix.network)
        if via:
            body += attribute(_RTA_GATEWAY, via)
        if device:
            body += _u32(_RTA_OIF, self.index(device))
        if source:
            body += attribute(_RTA_PREFSRC, source)
        return body

    def _names(self) -> dict[int, str]:
        return {link.device.index: link.device.name for link in self.links()}


def _rule(device: str = "", table: int = 0) -> bytes:
    head = _RTMSG.pack(socket.AF_INET6, 0, 0, 0, 0, 0, 0, _TO_TABLE if device else 0, 0)
    if not device:
        return head
    head += text(_FRA_OIFNAME, device) + _u32(_FRA_TABLE, table)
    return head + _u32(_FRA_PRIORITY, _RULE_PRIORITY) + attribute(_FRA_PROTOCOL, bytes((OURS,)))


def _link(body: bytes) -> Link | None:
    if len(body) < 16:
        return None
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    found = attributes(body[16:])
    name = found.get(_IFLA_NAME, b"").rstrip(b"\0").decode("ascii", "replace")
    mac = found.get(_IFLA_ADDRESS, b"")
    up = flags & (_UP | _RUNNING) == _UP | _RUNNING
    arp = not flags & (_NOARP | _LOOPBACK)
    if len(mac) != 6 or flags & _LOOPBACK:
        mac = b""
    return Link(Device(name, index, mac, _number(found.get(_IFLA_MTU)), up), arp)


def is_foreign_route(body: bytes) -> bool:
    """Whether an RTM_NEWROUTE or RTM_DELROUTE body is of the main table and not one of ours."""
    if len(body) < 12:
        return False
    _, _, _, _, table, protocol, _, kind, flags = _RTMSG.unpack_from(body)
    return table == _TABLE_MAIN and protocol != OURS and kind == _UNICAST and not flags & _CLONED


def _route(body: bytes, names: dict[int, str]) -> RouteEntry | None:
    if not is_unicast_main(body):
        return None
    family, length, _, _, _, protocol, _, _, _ = _RTMSG.unpack_from(body)
    found = attributes(body[12:])
    size = 4 if family == socket.AF_INET else 16
    network = found.get(_RTA_DST, bytes(size))
    hop = found
    if (several := found.get(_RTA_MULTIPATH)) and len(several) >= 8:
        # struct rtnexthop: length, flags, hops, ifindex, then attributes.
        size_of_first, _, _, index = struct.unpack_from("=HBBi", several)
        hop = attributes(several[8:size_of_first])
        device = names.get(index, "")
    else:
        device = names.get(_number(found.get(_RTA_OIF)), "")
    if len(network) != size or network.startswith(b"\xfe\x80"):
        return None
    return RouteEntry(
        Prefix(network, length),
        hop.get(_RTA_GATEWAY, b""),
        device,
        found.get(_RTA_PREFSRC, b""),
        protocol,
        _number(found.get(_RTA_PRIORITY)),
    )


def is_unicast_main(body: bytes) -> bool:
    if len(body) < 12:
        return False
    _, _, _, _, table, _, _, kind, flags = _RTMSG.unpack_from(body)
    return table == _TABLE_MAIN and kind == _UNICAST and not flags & _CLONED
