"""Drivers and nodes of other releases: those of another patch work, others are refused with both named."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray.errors import IncompatiblePeerError, RayConnectionError
from ray.session import heads, record
from ray.session.addresses import Address
from ray.testing import LocalCluster
from ray.wire import messages
from ray.wire.token import ClusterToken
from tests.api.programs import Programs
from tests.session.other_user import USER, programs_of_other

AT_ONCE_S = 1.0
WAIT_MS = 10_000


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(2) as cluster:
        yield cluster


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as running:
        yield running


WORKS = """
import json, os, sys, time
import ray
from ray.session import attach
from ray.session.record import SessionRecord

class Later:
    # The session's release has a setting, and a field of its record, that the driver's does not know.
    @staticmethod
    def load(data):
        record = json.loads(data)
        record["of_a_later_release"] = [1]
        record["settings"]["of_a_later_release_ms"] = 1
        return SessionRecord.load(json.dumps(record).encode())

ray.__version__ = "0.0.99"
attach.SessionRecord = Later

@ray.remote
def where():
    time.sleep(0.02)
    return os.environ["RAY_SESSION"]

ray.init(redis_address=sys.argv[1], node_ip_address=sys.argv[2])
seen = set()
while len(seen) < 2:
    seen |= set(ray.get([where.remote() for _ in range(8)]))
print("works")
"""


def test_a_driver_of_another_patch_release_works(programs: Programs, cluster: LocalCluster) -> None:
    for node in cluster.nodes:
        assert programs.run(WORKS, cluster.address, node.node_ip_address).out == "works\n"


REFUSED = """
import sys, time
import ray
ray.__version__ = "9.9.9"
PATCH
since = time.monotonic()
try:
    ray.init(redis_address=sys.argv[1], node_ip_address=sys.argv[2])
except ray.errors.RayConnectionError as error:
    print(time.monotonic() - since, error)
"""
OTHER_PROTOCOL = """
from ray.session import handshake
handshake.MAGIC, handshake.CHALLENGE = b"ray-arena-99", b"ray-challenge-99"
"""
OTHER_PYTHON = """
from ray.session import attach
attach.PYTHON = "4.0"
"""


def check_refused(said: str, *parts: str) -> None:
    took_s, _, text = said.partition(" ")
    assert float(took_s) < AT_ONCE_S
    for part in parts:
        assert part in text


@pytest.mark.parametrize("at", [0, 1])
def test_an_incompatible_driver_is_refused_at_once(
    programs: Programs, cluster: LocalCluster, at: int
) -> None:
    place = cluster.address, cluster.nodes[at].node_ip_address
    release = cluster.head.record.release
    said = programs.run(REFUSED.replace("PATCH", OTHER_PROTOCOL), *place).out
    check_refused(said, f"raycore {release}", "raycore 9.9.9")
    said = programs.run(REFUSED.replace("PATCH", OTHER_PYTHON), *place).out
    check_refused(said, f"Python {record.PYTHON}", "Python 4.0")


def test_an_incompatible_driver_of_another_user(cluster: LocalCluster) -> None:
    with programs_of_other() as others:
        token = others.folder / "token"
        shutil.copyfile(cluster.head.record.token_file, token)
        token.chmod(0o600)
        os.chown(token, USER, USER)
        said = others.run(
            REFUSED.replace("PATCH", OTHER_PROTOCOL),
            cluster.address,
            cluster.head.node_ip_address,
            env={"RAY_TOKEN_FILE": str(token)},
        ).out
    check_refused(said, f"raycore {cluster.head.record.release}", "raycore 9.9.9")


def test_a_node_that_could_not_work_with_the_head_is_not_started(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = Address.parse(cluster.address)
    token = ClusterToken.parse(cluster.head.record.cluster_token)
    since = time.monotonic()
    monkeypatch.setattr(heads, "PYTHON", "4.0")
    with pytest.raises(RayConnectionError) as other:
        heads.find_head(address, token, WAIT_MS)
    assert f"Python {record.PYTHON}" in str(other.value)
    assert "Python 4.0" in str(other.value)
    ours = messages.PROTOCOL
    monkeypatch.setattr(messages, "PROTOCOL", ours + 1)
    with pytest.raises(IncompatiblePeerError) as refused:
        heads.find_head(address, token, WAIT_MS)
    assert (refused.value.our_protocol, refused.value.their_protocol) == (ours + 1, ours)
    assert refused.value.theirs == cluster.head.record.release
    assert time.monotonic() - since < AT_ONCE_S
