"""Ports that can't be had, and machines that can't be reached: named as what they are."""

import socket

import pytest

from ray.errors import InitError, RayConnectionError
from ray.session import ports
from ray.session.addresses import LOOPBACK

ELSEWHERE = "198.51.100.7"  # an address of no machine (RFC 5737)


def test_a_machine_without_a_way_to_it() -> None:
    with pytest.raises(RayConnectionError, match="no way to 255"):
        ports.source_address("255.255.255.255")  # which no socket may call without having said so


def test_a_loopback_address_is_reached_from_one_of_its_kind() -> None:
    assert ports.source_address("127.0.1.1") == LOOPBACK
    assert ports.source_address("::1") == "::1"


@pytest.mark.parametrize("wanted", [0, 6379])
def test_what_is_refused_for_another_reason_is_not_called_taken(wanted: int) -> None:
    with pytest.raises(InitError, match="can't listen") as refused:
        ports.listen_for_links(ELSEWHERE, wanted)
    assert "taken" not in str(refused.value)


def test_what_is_taken_is_called_so() -> None:
    with socket.socket() as holder:
        holder.bind((LOOPBACK, 0))
        holder.listen()
        port = holder.getsockname()[1]
        assert not ports.is_free(LOOPBACK, port)
        for ask in (
            lambda: ports.listen_for_links(LOOPBACK, port),
            lambda: ports.for_control_store([LOOPBACK], port),
        ):
            with pytest.raises(InitError, match=f"Port {port} on {LOOPBACK} is taken by process"):
                ask()
