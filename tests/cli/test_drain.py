"""`ray drain`, and what `ray status` says of a node that leaves."""

import json
import re
import signal
from typing import Any

import pytest

from tests.api.programs import wait_for
from tests.cli.head import Head, run, start

PATIENCE_S = 10.0
BUSY = """
import signal
import sys

import ray

ray.init(redis_address=sys.argv[1], node_ip_address=sys.argv[2])
print("joined", flush=True)
signal.pause()
"""


def sessions(head: Head) -> list[dict[str, Any]]:
    """Of this cluster: others may run beside it."""
    found: list[dict[str, Any]] = json.loads(run(head.programs, "status", "--json").out)
    return [each for each in found if each["redis_address"] == head.address]


def joined(head: Head, *args: str) -> str:
    """The link address of a node that was started to join that head."""
    done = run(head.programs, "start", f"--redis-address={head.address}", "--num-cpus=1", *args)
    assert done.code == 0, done.both
    found = re.search(r"Started the node (\S+)", done.out)
    assert found, done.both
    return found[1]


def wait_for_nodes(head: Head, count: int) -> list[dict[str, Any]]:
    """As the head lists them."""

    def listed() -> list[dict[str, Any]] | None:
        (own,) = [each for each in sessions(head) if each["role"] == "head"]
        nodes: list[dict[str, Any]] = own["nodes"] or []
        return nodes if len(nodes) == count else None

    nodes = wait_for(listed, PATIENCE_S)
    assert nodes is not None
    return nodes


@pytest.mark.parametrize("named", ["--self", "its address", "its id"])
def test_a_node_leaves(head: Head, named: str) -> None:
    address = joined(head)
    first, second = wait_for_nodes(head, 2)
    assert (first["is_head"], second["is_head"], second["address"]) == (True, False, address)
    which = {"--self": "--self", "its address": address, "its id": second["node_id"][:8]}[named]
    done = run(head.programs, "drain", which, "--timeout=20", f"--address={head.address}")
    assert done.code == 0, done.both
    assert f"The node {second['node_id'][:12]} at {address} has left" in done.out
    assert "Its time was over" not in done.out
    wait_for_nodes(head, 1)


def test_a_node_that_leaves_is_shown_as_such(head: Head) -> None:
    address = joined(head, "--node-ip-address=127.0.0.2")
    wait_for_nodes(head, 2)
    driver = head.programs.start(BUSY, head.address, "127.0.0.2")
    assert driver.line() == "joined"
    draining = start(head.programs, "drain", address, "--timeout=20", f"--address={head.address}")

    def shown() -> bool | None:
        found = sessions(head)
        (node,) = [each for each in found if each["role"] == "node"]
        listed = [each for session in found for each in session["nodes"] if each["address"] == address]
        return (node["leaves_in_s"] is not None and all(each["is_draining"] for each in listed)) or None

    assert wait_for(shown, PATIENCE_S)
    driver.send(signal.SIGKILL)
    done = draining.finish()
    assert "has left" in done.out, done.both


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ([], "Say which node"),
        (["--self", "another"], "Say which node"),
        (["--self"], "A head does not leave"),
        (["nobody"], "no node of this cluster"),
        (["127.0.0.1"], "That is the head"),
    ],
)
def test_what_makes_no_sense_is_refused(head: Head, args: list[str], reason: str) -> None:
    wait_for_nodes(head, 1)
    done = run(head.programs, "drain", *args, f"--address={head.address}")
    assert done.code == 1
    assert reason in done.err


def test_sigterm_of_a_node_in_the_foreground(head: Head) -> None:
    node = start(head.programs, "start", f"--redis-address={head.address}", "--num-cpus=1", "--block")
    wait_for_nodes(head, 2)
    node.send(signal.SIGTERM)
    done = node.finish()
    assert done.code == 0, done.both
    assert "has left the cluster" in done.out
    wait_for_nodes(head, 1)
