"""What the control plane asks of gateways on other machines: they tell it, and they tell no stranger."""

import socket
from pathlib import Path

import httpx
import pytest

from majlis.control.gateways import Gateways
from majlis.serving.tokens import minting_key, public_half
from majlis.settings import GatewaySection
from tests.service.gateways import World


def own_address() -> str:
    """An address of this machine that is not the loopback's; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def test_from_another_machine_the_control_plane_is_told_and_a_stranger_is_not(tmp_path: Path) -> None:
    address = own_address()
    if not address or address.startswith("127."):
        pytest.skip("this machine has no other address than the loopback's")
    world, key = World(tmp_path, host="0.0.0.0"), tmp_path / "control" / "tokens.pem"
    world.token_keys = (public_half(minting_key(key)),)
    world.release("adder-1")
    world.deploy(adder_1=1.0)
    gateways = Gateways(GatewaySection(host=address, port=world.port, token_key=key))
    stranger = Gateways(GatewaySection(host=address, port=world.port, token_key=tmp_path / "other.pem"))
    with world.gateway():
        world.synced()
        assert world.ask(1.0).status_code == 200
        url = f"http://{address}:{world.port}/status"
        assert httpx.get(url, trust_env=False).status_code == 401, "it tells whoever asks"
        assert stranger.status() == {}
        told = gateways.status()
    (revision,) = told["deployments"]["adder"]["revisions"]
    assert revision["ready"] and revision["meter"]["codes"] == {"200": 1}
