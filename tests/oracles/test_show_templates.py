"""Other people's templates read what we show of IPsec: ntc-templates, which knows the layouts of IOS.

The texts are those that tests/ikev2/test_show.py holds byte by byte.
"""

from __future__ import annotations

from pathlib import Path

import ntc_templates
import pytest
import textfsm

TEMPLATES = Path(ntc_templates.__file__).parent / "templates"
SHOWN = Path(__file__).parents[1] / "ikev2" / "shown"


def rows(template: str, text: str) -> list[dict[str, str]]:
    """Raises textfsm.TextFSMError at the first line that the template does not know."""
    with (TEMPLATES / f"cisco_ios_{template}.textfsm").open() as found:
        machine = textfsm.TextFSM(found)
    return [dict(zip(machine.header, row, strict=True)) for row in machine.ParseText(text)]


def test_pki_certificates() -> None:
    own, ca = rows("show_crypto_pki_certificates", (SHOWN / "show_crypto_pki_certificates.txt").read_text())
    assert (own["CERTIFICATE_TYPE"], own["SUBJECT_CN"], own["SUBJECT_OU"]) == ("Certificate", "hub.example.net", "Edge")
    assert (ca["CERTIFICATE_TYPE"], ca["SUBJECT_CN"], ca["SERIAL_NUMBER"]) == ("CA Certificate", "Lab Root", "15")
    assert {own["ASSOCIATED_TRUSTPOINTS"], ca["ASSOCIATED_TRUSTPOINTS"]} == {"LAB"}


def test_ipsec_sa_detail() -> None:
    text = (SHOWN / "show_crypto_ipsec_sa_detail.txt").read_text()
    measured = text.partition("interface: Virtual-Access1")[
        0
    ]  # the other has no volume limit, which the template lacks
    inbound, outbound = rows("show_crypto_ipsec_sa_detail", measured)
    assert (inbound["INTERFACE"], inbound["SA_SPI_HEX"], inbound["SA_TRANSFORM"]) == (
        "Tunnel7",
        "0x1234ABCD",
        "esp-gcm 256",
    )
    assert (inbound["PKTS_DECAPS"], inbound["PKTS_VERIFY_FAILED"], inbound["PKTS_REPLAY_FAILED"]) == ("17", "2", "3")
    assert (inbound["SA_REPLAY_WINDOW_SIZE"], inbound["DH_GROUP"]) == ("128", "group19")
    assert (outbound["SA_ORIENTATION"], outbound["SA_SPI_HEX"]) == ("outbound", "0x0BADF00D")


def test_session_detail() -> None:
    text = (SHOWN / "show_crypto_session_detail.txt").read_text()
    lines = [
        line for line in text.splitlines() if not line.startswith("Assigned address:")
    ]  # IOS's, but not the template's
    found = {row["INTERFACE"]: row for row in rows("show_crypto_session_detail", "\n".join(lines))}
    assert {name: row["SESSION_STATUS"] for name, row in found.items()} == {
        "Tunnel7": "UP-ACTIVE",
        "Tunnel12": "DOWN-NEGOTIATING",
        "Virtual-Access1": "UP-ACTIVE",
    }
    assert (found["Tunnel7"]["PHASE1_ID"], found["Tunnel7"]["CAPABILITIES"]) == ("west.example.net", "CDFU")


def test_the_templates_are_strict() -> None:
    """A line that they do not know is noticed: else the tests above prove nothing."""
    with pytest.raises(textfsm.TextFSMError):
        rows("show_crypto_session_detail", "Interface: Tunnel1\nSomething else: 5\n")
