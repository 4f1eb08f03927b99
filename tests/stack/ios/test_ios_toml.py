"""The TOML door: the same grammar, the same model, the same faults."""

from __future__ import annotations

import pytest

from stack.config import Config
from stack.ios.check import EXIT_CONFIG, check_file
from stack.ios.faults import ConfigError
from stack.ios.toml import read_toml

TOML = """
hostname = "PE1"
"ip route vrf 'Customer A' 10.9.0.0 255.255.0.0" = "10.1.0.9"

["vrf definition Customer A"]
rd = "65000:1"
"route-target import" = ["65000:1", "65000:2"]
"route-target export" = "65000:1"
"address-family ipv4" = {}

["l3vpn encapsulation ip core"]
"transport ipv4 source" = "Loopback0"
"protocol gre key" = 1234

["interface Loopback0"]
"ip address" = "192.0.2.1 255.255.255.255"

["interface Ethernet0/1"]
"vrf forwarding" = "Customer A"
"ip address" = "10.1.0.1 255.255.255.0"
shutdown = false

["router bgp 65000"]
"neighbor 192.0.2.2" = ["remote-as 65000", "update-source Loopback0"]
["router bgp 65000"."address-family vpnv4"]
"neighbor 192.0.2.2" = ["activate", "route-map OVER in"]
["router bgp 65000"."address-family ipv4 vrf Customer A"]
"redistribute connected" = true

["route-map OVER permit 10"]
"set ip next-hop encapsulate l3vpn" = "core"
"""

IOS = """
hostname PE1
vrf definition Customer A
 rd 65000:1
 route-target import 65000:1
 route-target import 65000:2
 route-target export 65000:1
 address-family ipv4
l3vpn encapsulation ip core
 transport ipv4 source Loopback0
 protocol gre key 1234
interface Loopback0
 ip address 192.0.2.1 255.255.255.255
interface Ethernet0/1
 vrf forwarding Customer A
 ip address 10.1.0.1 255.255.255.0
router bgp 65000
 neighbor 192.0.2.2 remote-as 65000
 neighbor 192.0.2.2 update-source Loopback0
 address-family vpnv4
  neighbor 192.0.2.2 activate
  neighbor 192.0.2.2 route-map OVER in
 address-family ipv4 vrf Customer A
  redistribute connected
route-map OVER permit 10
 set ip next-hop encapsulate l3vpn core
ip route vrf "Customer A" 10.9.0.0 255.255.0.0 10.1.0.9
"""


def test_both_doors_lead_to_one_model(specs):
    quoted = TOML.replace("vrf 'Customer A'", 'vrf \\"Customer A\\"')
    assert Config.from_toml(quoted) == Config.from_ios(IOS)


@pytest.mark.parametrize(
    ("text", "number", "why"),
    [
        (
            'hostname = "a"\n["router bgp 65000"]\n"neighbor 192.0.2.2" = ["remote-sa 1"]\n',
            3,
            "'remote-sa' does not fit here",
        ),
        ('["interface Lopback0"]\n"ip address" = "192.0.2.1 255.255.255.255"\n', 1, "is it Loopback0?"),
        ("hostname = \n", 1, "Invalid value"),
        ('hostname = "a"\nhostname = "b"\n', 2, "Cannot overwrite a value"),
        ("hostname = 1979-05-27\n", 1, "neither text, a number"),
        ('hostname = """a\nb"""\n', 1, "more than one line"),
    ],
)
def test_faults_name_the_line_of_the_toml_text(text, number, why, specs):
    with pytest.raises(ConfigError) as caught:
        read_toml(text, "pe.toml", specs)
    (fault,) = caught.value.faults
    assert why in fault.why
    assert fault.number == number
    assert str(fault).startswith(f"pe.toml:{number}: in mode config")


def test_a_file_is_read_as_its_name_says(tmp_path, specs, capsys):
    toml, ios = tmp_path / "pe.toml", tmp_path / "pe.cfg"
    toml.write_text('# a PE\n\nhostname = "PE7"\n\n["interface Ethernet0/0"]\n"vrf forwarding" = "nowhere"\n')
    ios.write_text("hostname PE7\ninterface Ethernet0/0\n vrf forwarding nowhere\n")
    assert Config.from_file(toml) == Config.from_file(ios)
    assert check_file(toml, specs=specs) == EXIT_CONFIG
    assert f"{toml}:6: error: there is no VRF called 'nowhere'" in capsys.readouterr().out


def test_tables_have_a_depth(specs):
    with pytest.raises(ConfigError, match="one inside of the other"):
        read_toml("[" + ".".join("abcdefghijkl") + "]\n", "pe.toml", specs)
