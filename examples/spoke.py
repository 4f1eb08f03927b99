"""A spoke of the FlexVPN lab as a script.

    python examples/spoke.py spoke1 FOLDER --bind Ethernet0/0=eth0 --bind Ethernet0/1=eth1 --bind Ethernet0/2=eth2

FOLDER is the one that examples/hub.py has made. It needs CAP_NET_RAW, CAP_NET_ADMIN and CAP_NET_BIND_SERVICE (root has them),
and stops on SIGTERM or Ctrl-C, with good-byes. What it prints: the address that the hub gives it, and every shortcut to another
spoke, from the moment when it is used to the one when it has gone down by itself.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import uvloop

from nhrp.events import RedirectReceived, ShortcutDown, ShortcutUp
from stack import Config, Router
from stack.addr import format_address
from stack.alone import add_options, run_alone
from stack.events import AddressOffered, Delta
from stack.lab.prepare import filled, prepare
from stack.lab.scenario import ScenarioError, load

SCENARIO = load("flexvpn")


async def watch(router: Router) -> None:
    """Print what the bus says of the overlay."""
    print(f"{router.config.node.hostname} is running", flush=True)
    kinds = (AddressOffered, RedirectReceived, ShortcutUp, ShortcutDown)
    async for message in router.bus.subscribe(*kinds, name="example"):
        match message:
            case Delta():
                for (interface, address), row in message.rows.items():
                    if row is not None and row.origin == "negotiated":
                        print(f"{interface} is {format_address(address)}", flush=True)
            case RedirectReceived():
                print(f"{message.vrf}: there is a better way to {format_address(message.destination)}", flush=True)
            case ShortcutUp():
                way = f"{format_address(message.next_hop)} at {format_address(message.nbma)}"
                print(f"{message.vrf}: {message.prefix} by {way}, label {message.label}", flush=True)
            case ShortcutDown():
                print(f"{message.vrf}: no shortcut to {message.prefix} any more: {message.reason}", flush=True)


def configuration(name: str, folder: Path) -> Config:
    """The lab's, for the authority in `folder`."""
    prepared = prepare(SCENARIO, folder, again=False)
    return Config.from_ios(filled(SCENARIO.node[name], prepared), source=f"{name}.cfg")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="a spoke of the FlexVPN lab")
    parser.add_argument("node", choices=("spoke1", "spoke2"))
    parser.add_argument("folder", type=Path)
    add_options(parser)
    options = parser.parse_args()
    try:
        config = configuration(options.node, options.folder)
    except ScenarioError as error:
        parser.error(str(error))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run_alone(config, options, watch))
