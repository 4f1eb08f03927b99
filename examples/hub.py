"""The hub of the FlexVPN lab as a script. It also is where the authority for certificates lives.

    python examples/hub.py FOLDER --bind Ethernet0/0=eth0 --bind Ethernet0/2=eth2 --bind Ethernet0/3=eth3

FOLDER gets the authority, and certificates and keys of the hub and of both spokes, unless they are there already; give the
spokes (examples/spoke.py) what is theirs, or the folder itself. It needs CAP_NET_RAW, CAP_NET_ADMIN and CAP_NET_BIND_SERVICE
(root has them), and stops on SIGTERM or Ctrl-C, with good-byes. It prints who comes in, and whom it tells of a better way.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import uvloop

from bgp.events import PeerDown, PeerUp
from ikev2.events import IkeSaDown, IkeSaUp
from nhrp.events import RedirectSent
from stack import Config, Router
from stack.addr import format_address
from stack.alone import add_options, run_alone
from stack.lab.prepare import filled, prepare
from stack.lab.scenario import ScenarioError, load


async def watch(router: Router) -> None:
    """Print what the bus says of spokes."""
    print(f"{router.config.node.hostname} is running", flush=True)
    async for fact in router.bus.subscribe(IkeSaUp, IkeSaDown, PeerUp, PeerDown, RedirectSent, name="example"):
        match fact:
            case IkeSaUp():
                print(f"{fact.identity} is in, from {format_address(fact.remote)}", flush=True)
            case IkeSaDown():
                print(f"{fact.identity} has left: {fact.reason}", flush=True)
            case PeerUp():
                print(f"BGP neighbour {format_address(fact.address)} up", flush=True)
            case PeerDown():
                print(f"BGP neighbour {format_address(fact.address)} down: {fact.reason}", flush=True)
            case RedirectSent():
                ends = f"{format_address(fact.source)} to {format_address(fact.destination)}"
                print(f"{fact.vrf or 'default'}: {ends} has a better way", flush=True)


def configuration(folder: Path) -> Config:
    """The lab's, for the authority in `folder`."""
    scenario = load("flexvpn")
    prepared = prepare(scenario, folder, again=not (folder / "pki").exists())
    return Config.from_ios(filled(scenario.node["hub"], prepared), source="hub.cfg")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="the hub of the FlexVPN lab")
    parser.add_argument("folder", type=Path)
    add_options(parser)
    options = parser.parse_args()
    try:
        config = configuration(options.folder)
    except ScenarioError as error:
        parser.error(str(error))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run_alone(config, options, watch))
