"""Looking up a device's index: in the namespace of the socket that asks, whatever namespace the caller is in."""

from __future__ import annotations

import errno

import pytest

from tests.stack.os.os_world import two_nodes

pytestmark = pytest.mark.root


def test_an_index_is_that_of_the_sockets_own_namespace():
    with two_nodes() as (a, b):
        b.netlink.set_link("eth0", up=False)
        b.netlink.set_link("eth0", rename="other0")
        for node, name in ((a, "eth0"), (a, "lo"), (b, "other0")):
            assert node.netlink.index(name) == node.netlink.link(name).device.index
        for node, name in ((a, "other0"), (b, "eth0"), (a, "no such"), (a, "a name of sixteen or more"), (a, "")):
            with pytest.raises(OSError, match="no such device") as caught:
                node.netlink.index(name)
            assert caught.value.errno == errno.ENODEV


def test_a_device_that_was_made_anew_has_its_new_index():
    with two_nodes() as (a, b):
        before = a.netlink.index("eth0")
        a.netlink.delete_link("eth0")
        with pytest.raises(OSError, match="no such device"):
            a.netlink.index("eth0")
        a.netlink.add_veth("eth0", "eth0", namespace=b.fd)
        assert a.netlink.index("eth0") == a.netlink.link("eth0").device.index != before
