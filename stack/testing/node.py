"""A node of the in-memory network: devices, a host stack with TCP, and the ports that services ask for."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import define, field

from stack.addr import Prefix, format_address, parse_address
from stack.net import HostRoute, TcpOptions
from stack.testing._host import MemoryHost
from stack.testing._ip import IpStack, RawPort
from stack.testing._nic import EthernetNic, Nic, PortNic, Tap, VlanNic
from stack.testing._packets import UDP
from stack.testing._port import Backlog, QueuePort, os_error
from stack.testing._tcp_host import MemoryListener, TcpHost
from stack.testing.loop import SeededEntropy
from stack.testing.ping import Echo, PingResult
from stack.testing.udp import MemoryDatagrams, UdpSocket

if TYPE_CHECKING:
    from stack.testing.network import MemoryNetwork

__all__ = ["MemoryNode"]


def _octets(address: bytes | str) -> bytes:
    return parse_address(address) if isinstance(address, str) else address


@define(eq=False)
class MemoryNode:
    """`stack.net.Network`, and a host of its own: a PE's, or a plain customer or core router.

    `host` is what services use; `address`, `route`, `vlan` set the host up as an administrator would (not marked as
    ours). `forwarding` makes it an IP router. Addresses are octets or text. `ip.drops` and `tcp.drops` say what was
    not taken, by reason.
    """

    name: str
    world: MemoryNetwork = field(repr=False)
    entropy: SeededEntropy
    host: MemoryHost = field(init=False)
    ip: IpStack = field(init=False)
    tcp: TcpHost = field(init=False)
    backlog: Backlog = field(init=False)
    _ports: list[QueuePort] = field(factory=list, init=False)
    _listeners: list[MemoryListener] = field(factory=list, init=False)
    _far_ends: dict[str, Nic] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.backlog = Backlog(self.world.queue)
        self.host = MemoryHost(self.name)
        self.ip = IpStack(self.host, self.backlog)
        self.tcp = TcpHost(self.ip, self.entropy)
        self.add_nic("lo", 65535)

    # --- the host, as its administrator sets it up ---

    @property
    def forwarding(self) -> bool:
        return self.ip.forwarding

    @forwarding.setter
    def forwarding(self, on: bool) -> None:
        self.ip.forwarding = on

    def address(self, device: str, *prefixes: str) -> None:
        """`address("eth0", "192.0.2.1/24", "2001:db8::1/64")`."""
        for text in prefixes:
            address, _, length = text.partition("/")
            octets = parse_address(address)
            self.host.add_address(device, octets, int(length) if length else len(octets) * 8)

    def route(self, prefix: str, via: bytes | str = b"", *, device: str = "", source: bytes | str = b"") -> None:
        """`route("0.0.0.0/0", "192.0.2.254")`, or straight out of a `device`."""
        route = HostRoute(Prefix.parse(prefix), _octets(via or b""), device, _octets(source or b""))
        self.host.put_route(route, ours=False)

    def vlan(self, device: str, vlan: int) -> str:
        """A device of the host for one VLAN of a trunk; returns its name, `eth0.10`."""
        parent = self.host.ethernet(device)
        name = f"{device}.{vlan}"
        if vlan in parent.vlans or not 1 <= vlan <= 4094:
            raise os_error(errno.EEXIST if vlan in parent.vlans else errno.EINVAL, name)
        self.host.add_nic(
            VlanNic(name, self.host.next_index(), parent.mtu, self.ip, mac=parent.mac, parent=parent, vlan=vlan)
        )
        return name

    def add_nic(self, device: str, mtu: int, *, mac: bytes = b"", scope: str = "") -> Nic:
        """A new device of the host, Ethernet if it has a `mac`."""
        make = EthernetNic if mac else Nic
        nic = make(device, self.host.next_index(), mtu, self.ip, mac=mac, scope=scope)
        self.host.add_nic(nic)
        return nic

    def kill(self, *, silent: bool = False) -> None:
        """What the kernel does when the process is killed: TCP ends with FIN or RST, ports and their devices go.

        `silent`: as when the power fails, nothing is sent. Protocols and ports hear nothing of it. Addresses and routes
        that were added stay behind, but those of devices that went; `drop_ingress` rules go.
        """
        for listener in tuple(self._listeners):
            listener.close()
        self._listeners.clear()
        for connection in tuple(self.tcp.connections.values()):
            if silent:
                connection.vanish()
            else:
                connection.orphan()
        for socket in tuple(self.ip.sockets):
            socket.close()
        for door in tuple(self.ip.doors):
            door.close()
        for port in tuple(self._ports):
            port.close()
        for device in self.host.devices():
            nic = self.host.nic(device.name)
            if isinstance(nic, EthernetNic):
                nic.refused.clear()
        self.host.watch(None)

    # --- stack.net.Network ---

    async def connect_tcp(
        self, factory: Callable[[], asyncio.Protocol], options: TcpOptions
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """See `stack.net.Network`. TimeoutError after some two minutes of silence, ConnectionRefusedError after an RST."""
        return await self.tcp.connect(factory, options)

    async def listen_tcp(self, factory: Callable[[], asyncio.Protocol], options: TcpOptions) -> MemoryListener:
        """See `stack.net.Network`. With `options.remote`: from that peer only, before a listener for everybody."""
        listener = self.tcp.listen(factory, options)
        self._listeners.append(listener)
        return listener

    def frames(self, device: str, vlan: int | None) -> QueuePort:
        return self._tap(device, vlan, labelled=False)

    def labelled_frames(self, device: str) -> QueuePort:
        return self._tap(device, None, labelled=True)

    def _tap(self, device: str, vlan: int | None, *, labelled: bool) -> QueuePort:
        nic = self.host.ethernet(device)
        name = device if vlan is None else f"{device}.{vlan}"

        def closed(port: QueuePort) -> None:
            nic.taps[:] = [tap for tap in nic.taps if tap.port is not port]

        port = self._port(name, nic.mtu, nic.send_frame, closed)
        nic.taps.append(Tap(port, vlan, labelled))
        return port

    def host_port(self, vrf: str, index: int, mtu: int) -> QueuePort:
        if vrf and self.host.scope_nic(vrf) is not None:
            raise os_error(errno.EBUSY, f"the host port of VRF {vrf}")
        return self._tun(f"hostport{index}", mtu, scope=vrf)

    def tun(self, device: str, mtu: int) -> QueuePort:
        """The far side is the customer's device if `world.tun_link` named this one, else a device of this host."""
        far = self._far_ends.get(device)
        if far is None:
            return self._tun(device, mtu)
        if far.carrier:
            raise os_error(errno.EBUSY, device)
        near = PortNic(device, 0, mtu, self.ip)
        link = self.world.join_tun((self.name, device), near)

        def closed(_: QueuePort) -> None:
            link.detach(near)
            far.set_carrier(up=False)

        port = near.port = self._port(device, mtu, near.transmit, closed)
        far.mtu = min(mtu, link.mtu)
        far.set_carrier(up=True)
        return port

    def expect_tun(self, device: str, far: Nic) -> None:
        """`tun(device)` will lead to `far`, whose carrier is missing until then."""
        self._far_ends[device] = far

    def _tun(self, device: str, mtu: int, scope: str = "") -> QueuePort:
        nic = self.add_nic(device, mtu, scope=scope)
        port = self._port(
            device,
            mtu,
            lambda packet: self.backlog.post(nic.arrived, packet),
            lambda _: self.host.remove_nic(device),
        )
        nic.wire = port.push
        return port

    def datagrams(self, port: int, *, marked: bool = False, vrf: str = "") -> MemoryDatagrams:
        return self.ip.open_datagrams(port, marked=marked, bound=self.world.queue, vrf=vrf)

    def raw(self, protocol: int, *, remote: bytes = b"", port: int = 0) -> QueuePort:
        if not 0 < protocol < 256 or (port and protocol != UDP):
            raise os_error(errno.EINVAL, f"protocol {protocol}{f' port {port}' if port else ''}")

        def send(packet: bytes) -> None:
            if remote and packet[16:20] != remote:
                raise os_error(errno.EINVAL, f"connected to {format_address(remote)}")
            self.ip.send_raw(packet)

        def closed(port: QueuePort) -> None:
            self.ip.raws[:] = [raw for raw in self.ip.raws if raw.port is not port]

        made = self._port(f"raw{protocol}", 65535, send, closed, deaf=bool(remote))
        self.ip.raws.append(RawPort(protocol, remote, made, port))
        return made

    def _port(
        self,
        name: str,
        mtu: int,
        sender: Callable[[bytes], None],
        closed: Callable[[QueuePort], None],
        *,
        deaf: bool = False,
    ) -> QueuePort:
        def gone(port: QueuePort) -> None:
            self._ports.remove(port)
            closed(port)

        port = QueuePort(name, mtu, sender, gone, self.world.queue, deaf)
        self._ports.append(port)
        return port

    # --- what a test does on a host ---

    async def ping(
        self,
        destination: bytes | str,
        source: bytes | str = b"",
        size: int = 56,
        count: int = 1,
        timeout: float = 1.0,  # noqa: ASYNC109  (ping's own word: how long to wait for each answer)
        ttl: int = 64,
        *,
        df: bool = False,
        interval: float = 0.0,
    ) -> list[PingResult]:
        """Echo requests, each after the answer to the last one and at least `interval` seconds after it was sent."""
        echo = Echo(_octets(destination), _octets(source or b""), size, timeout, ttl, df)
        return await self.ip.pinger.ping(echo, count, interval)

    async def traceroute(self, destination: bytes | str, hops: int = 16) -> list[str]:
        """Who answered at each TTL, as text (`*`: nobody), up to the destination."""
        path: list[str] = []
        for ttl in range(1, hops + 1):
            (result,) = await self.ping(destination, ttl=ttl)
            path.append(format_address(result.sender) if result.sender else "*")
            if result.ok:
                break
        return path

    def udp(self, port: int = 0, *, local: bytes | str = b"", vrf: str = "") -> UdpSocket:
        """A datagram socket; port 0: the host chooses. OSError as bind(2)."""
        return self.ip.open_udp(vrf, _octets(local or b""), port)
