"""The host's own devices, addresses and routes (`stack.net.Host`), through rtnetlink in the current network
namespace."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable, Iterable

from stack.addr import Prefix
from stack.net import Device, HostRoute
from stack.os import rtnetlink
from stack.os.filters import drop_ingress
from stack.os.netlink import NETLINK_ROUTE, Netlink
from stack.os.rtnetlink import OURS, Address, RouteEntry, RouteNetlink
from stack.os.sysctl import read_sysctl

__all__ = ["OsHost"]

_GROUPS = (
    rtnetlink.GROUP_LINK,
    rtnetlink.GROUP_IPV4_ADDRESS,
    rtnetlink.GROUP_IPV6_ADDRESS,
    rtnetlink.GROUP_IPV4_ROUTE,
    rtnetlink.GROUP_IPV6_ROUTE,
)
_ROUTE_KINDS = (rtnetlink.NEW_ROUTE, rtnetlink.DEL_ROUTE)


def _matters(kind: int, body: bytes) -> bool:
    """Devices and addresses always; routes only if others made them, or the mirror would wake itself."""
    return kind not in _ROUTE_KINDS or rtnetlink.is_foreign_route(body)


class OsHost:
    """What is added carries our protocol number (`rtnetlink.OURS`), routes and addresses alike, and `ours()` finds it
    again after a kill -9. All raise OSError; without CAP_NET_ADMIN, MissingPrivilege."""

    def __init__(self) -> None:
        self._opened: RouteNetlink | None = None
        self._watching: tuple[Netlink, asyncio.AbstractEventLoop] | None = None

    @property
    def _netlink(self) -> RouteNetlink:
        if self._opened is None:
            self._opened = RouteNetlink()
        return self._opened

    def close(self) -> None:
        self.watch(None)
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def devices(self) -> tuple[Device, ...]:
        return tuple(link.device for link in self._netlink.links())

    def device(self, name: str) -> Device:
        """Raises OSError (ENODEV)."""
        return self._netlink.link(name).device

    def watch(self, changed: Callable[[], None] | None) -> None:
        """Call `changed` after devices, addresses, or routes of others have changed: once for what came together. None
        ends it."""
        if self._watching is not None:
            netlink, loop = self._watching
            self._watching = None
            loop.remove_reader(netlink.fileno())
            netlink.close()
        if changed is None:
            return
        netlink, loop = Netlink(NETLINK_ROUTE, groups=_GROUPS), asyncio.get_running_loop()
        call = changed

        def readable() -> None:
            if netlink.drain(_matters):
                call()

        loop.add_reader(netlink.fileno(), readable)
        self._watching = netlink, loop

    def addresses(self) -> Iterable[tuple[str, bytes, int]]:
        return [(each.device, each.address, each.length) for each in self._netlink.addresses()]

    def add_address(self, device: str, address: bytes, length: int) -> None:
        """Raises FileExistsError if the device has it already."""
        self._netlink.add_address(device, address, length)

    def remove_address(self, device: str, address: bytes, length: int) -> None:
        """Raises OSError (EADDRNOTAVAIL) if the device does not have it."""
        self._netlink.remove_address(device, address, length)

    def routes(self) -> Iterable[tuple[HostRoute, bool]]:
        """Unicast routes of the main table, and whether each is ours."""
        return [(_host_route(each), each.protocol == OURS) for each in self._netlink.routes()]

    def add_route(self, route: HostRoute) -> None:
        """One of ours for the same prefix is replaced. Raises FileExistsError if the prefix has a route of somebody
        else: that one is to be adopted, not overwritten."""
        add = self._netlink.add_route
        try:
            add(route.prefix, via=route.via, device=route.device, source=route.source)
        except FileExistsError:
            present = [each for each in self._netlink.routes() if each.prefix == route.prefix]
            if not present or any(each.protocol != OURS for each in present):
                raise
            add(route.prefix, via=route.via, device=route.device, source=route.source, replace=True)

    def remove_route(self, route: HostRoute) -> None:
        """Only ever removes one of ours. Raises OSError (ESRCH) if there is none."""
        self._netlink.remove_route(route.prefix, via=route.via, device=route.device)

    def set_link(self, device: str, *, up: bool, mtu: int | None = None) -> None:
        self._netlink.set_link(device, up=up, mtu=mtu)

    def drop_ingress(self, device: str, *, vlans: Iterable[int | None]) -> Callable[[], None]:
        """Keep frames of these VLANs (None: untagged) from the kernel's own protocols, as stack.os.filters says. Raises
        OSError (ENODEV): recent kernels would take a hook on a device that is still to come."""
        self.device(device)
        return drop_ingress(device, vlans)

    def ours(self) -> tuple[tuple[Address, ...], tuple[HostRoute, ...]]:
        """Addresses and routes that carry our mark: what this process, or one that was killed before it, has added.
        Addresses carry one from Linux 5.18 on."""
        addresses = tuple(each for each in self._netlink.addresses() if each.ours)
        return addresses, tuple(_host_route(each) for each in self._netlink.routes() if each.protocol == OURS)

    def prepare_port(self, device: str, *, mtu: int, forwarding: bool) -> None:
        """Bring a TUN device up as a door of the packet path. Through netlink, so that a read-only /proc/sys is no
        matter.

        accept_local: a packet's source may be an address that another VRF's port has here. rp_filter off: the main table
        has no route at all to a customer of a VRF, so that even the loose check would drop what a CE sends. The kernel
        takes the greater of this and `all`; where that is on, the loose check is the best there is: then the host
        needs some route that covers its customers, a default route for one.
        """
        netlink = self._netlink
        netlink.set_link(device, mtu=mtu)
        settings = {
            _FORWARDING: int(forwarding),
            _ACCEPT_REDIRECTS: 0,
            _SEND_REDIRECTS: 0,
            _RP_FILTER: 0 if read_sysctl("net.ipv4.conf.all.rp_filter") in (None, "0") else 2,
            _ACCEPT_LOCAL: 1,
        }
        try:
            netlink.configure(device, ipv4=settings, ipv6_link_local=False)
        except OSError as error:
            if error.errno != errno.EAFNOSUPPORT:  # no IPv6 on this host, or on a port this narrow
                raise
        netlink.set_link(device, up=True)

    def isolate_port(self, device: str, table: int) -> None:
        """Give IPv6 sockets that are bound to `device` a way out of it, and nobody else.

        IPv4 takes any destination to be on the link of a device that a socket is bound to; IPv6 wants a route, which in
        the main table would draw the default VRF's packets too. So it stands in a table that only a rule for the device
        leads to. Rules that a process left behind when it was killed are swept: unlike routes, they outlive the device.
        """
        netlink = self._netlink
        names = {link.device.name for link in netlink.links()}
        try:
            for stale, where in list(netlink.device_rules()):
                if stale not in names:
                    netlink.remove_device_rule(stale, where)
            netlink.add_route(_EVERYWHERE, device=device, table=table, replace=True)
            netlink.add_device_rule(device, table)
        except OSError as error:
            if error.errno not in _NO_IPV6:
                raise

    def release_port(self, device: str, table: int) -> None:
        """Undo `isolate_port`. What is not there is no matter."""
        with contextlib.suppress(OSError):
            self._netlink.remove_device_rule(device, table)


_EVERYWHERE = Prefix(bytes(16), 0)
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EACCES, errno.ENODEV, errno.EINVAL)

# IPV4_DEVCONF_* of include/uapi/linux/ip.h
_FORWARDING, _ACCEPT_REDIRECTS, _SEND_REDIRECTS, _RP_FILTER, _ACCEPT_LOCAL = 1, 4, 6, 8, 23


def _host_route(entry: RouteEntry) -> HostRoute:
    return HostRoute(entry.prefix, via=entry.via, device=entry.device, source=entry.source)
