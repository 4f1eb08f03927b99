"""The grammar table with the rows of the packages that exist, built without their services."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from bgp.checks import CHECKS as BGP_CHECKS
from bgp.config import BgpConfig
from bgp.lines import LINES as BGP_LINES
from ikev2.checks import CHECKS as IKEV2_CHECKS
from ikev2.config import Ikev2Config
from ikev2.lines import LINES as IKEV2_LINES
from mfi.config import MfiConfig
from mfi.lines import CHECKS as MFI_CHECKS
from mfi.lines import LINES as MFI_LINES
from nhrp.checks import CHECKS as NHRP_CHECKS
from nhrp.config import NhrpConfig
from nhrp.lines import LINES as NHRP_LINES
from stack.ios.reader import ConfigError, Reading, read
from stack.ios.table import Table
from tunnel.checks import CHECKS as TUNNEL_CHECKS
from tunnel.config import TunnelConfig, system_route_maps
from tunnel.lines import LINES as TUNNEL_LINES

DOCUMENTS = Path(__file__).parent / "documents"

SPECS = (
    SimpleNamespace(lines=MFI_LINES, checks=MFI_CHECKS, route_maps=None, config=MfiConfig),
    SimpleNamespace(lines=TUNNEL_LINES, checks=TUNNEL_CHECKS, route_maps=system_route_maps, config=TunnelConfig),
    SimpleNamespace(lines=IKEV2_LINES, checks=IKEV2_CHECKS, route_maps=None, config=Ikev2Config),
    SimpleNamespace(lines=NHRP_LINES, checks=NHRP_CHECKS, route_maps=None, config=NhrpConfig),
    SimpleNamespace(lines=BGP_LINES, checks=BGP_CHECKS, route_maps=None, config=BgpConfig),
)
"""In the order of their services' ranks, as they are installed."""


@pytest.fixture(scope="session")
def table() -> Table:
    return Table.from_specs(SPECS)


@pytest.fixture(scope="session")
def specs() -> tuple[SimpleNamespace, ...]:
    return SPECS


@pytest.fixture(scope="session")
def loads(table: Table) -> Callable[[str], Reading]:
    return lambda text: read(text, "pe.cfg", table=table)


@pytest.fixture(scope="session")
def fails(table: Table) -> Callable[[str], ConfigError]:
    """Reads a text that must not load, and gives what is wrong with it."""

    def run(text: str) -> ConfigError:
        with pytest.raises(ConfigError) as caught:
            read(text, "pe.cfg", table=table)
        return caught.value

    return run
