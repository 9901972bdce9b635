"""`ray start --head --redis-url`: a cluster whose control store is an operator's."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.api.programs import Programs, command, wait_for
from tests.cli.head import Head, run, start
from tests.control_store.operators import ENOUGH, HOST, operators_server

SECRET = "operators-secret-0815"
USE = """
import sys

import ray

ray.init(redis_address=sys.argv[1])


@ray.remote
def fails():
    raise ValueError("for the list")


try:
    ray.get(fails.remote())
except ray.errors.RayTaskError:
    pass
ray.shutdown()
ray.init(redis_address=sys.argv[1])
print(len(ray.error_info()), ray.get(ray.remote(lambda: 6 * 7).remote()))
"""


def url(port: int) -> str:
    return f"redis://ada:{SECRET}@{HOST}:{port}/5"


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with operators_server(tmp_path, f"user ada on >{SECRET} {ENOUGH}", f"requirepass {SECRET}") as found:
        yield found


def shown_by(pid: int) -> str:
    environment = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    return command(pid) + environment


@pytest.mark.parametrize("way", ["--redis-url", "--redis-url-file", "RAY_REDIS_URL"])
def test_it_is_used_and_its_password_shown_nowhere(
    programs: Programs, port: int, tmp_path: Path, way: str
) -> None:
    file = tmp_path / "url"
    file.touch(0o600)
    file.write_text(url(port) + "\n")
    args = {"--redis-url": [f"--redis-url={url(port)}"], "--redis-url-file": [f"--redis-url-file={file}"]}
    env = {"RAY_REDIS_URL": url(port)} if way == "RAY_REDIS_URL" else None
    done = start(
        programs, "start", "--head", "--redis-port=0", "--num-cpus=1", *args.get(way, []), env=env
    ).finish()
    assert done.code == 0, done.both
    assert SECRET not in done.both
    found = re.search(r'ray\.init\(redis_address="([^"]+)"\)', done.out)
    assert found, done.both
    head = Head(programs, found[1], done.out)
    used = programs.run(USE, head.address)
    assert used.out == "0 42\n", used.both
    with redis.Redis(HOST, port, db=5, username="ada", password=SECRET) as client:
        assert wait_for(lambda: client.xlen("ray:errors:1") == 1 or None, 5.0)
        assert b"redis_password" not in client.hgetall("ray:session")
    for pid in programs.left():
        assert SECRET not in shown_by(pid)
    joined = run(programs, "start", f"--redis-address={head.address}", "--num-cpus=1")
    assert joined.code == 0, joined.both
    status = run(programs, "status")
    assert SECRET not in status.both
    logs = re.search(r"logs +(\S+)", done.out)
    assert logs
    assert not any(SECRET in path.read_text(errors="replace") for path in Path(logs[1]).iterdir())
    head.stop()
    assert programs.gone()


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["--head", "--redis-url=redis://h", "--redis-url-file=x"], "only one of them"),
        (["--head", "--redis-url=redis://127.0.0.1:1"], "Connection refused"),
        (["--redis-address=127.0.0.1:1", "--redis-url=redis://h"], "decided by the head"),
        (["--head", "--redis-url-file=/nowhere"], "can't be read"),
        (["--head", "--redis-url=ftp://h"], "neither redis:// nor rediss://"),
    ],
)
def test_what_makes_no_sense_is_refused(programs: Programs, args: list[str], reason: str) -> None:
    done = run(programs, "start", *args)
    assert done.code == 1
    assert reason in done.err
    assert programs.gone()


def test_shards_beside_it_are_refused(programs: Programs, port: int) -> None:
    done = run(programs, "start", "--head", f"--redis-url={url(port)}", "--num-redis-shards=1")
    assert done.code == 1
    assert "num_redis_shards" in done.err


def test_two_heads_do_not_share_a_database(programs: Programs, port: int) -> None:
    """Not even when they are started in the same moment; and one that is killed is in nobody's way."""
    command = ("start", "--head", "--redis-port=0", "--num-cpus=1", f"--redis-url={url(port)}")
    both = [start(programs, *command) for _ in range(2)]
    done = sorted((program.finish() for program in both), key=lambda each: each.code)
    assert [each.code for each in done] == [0, 1], "".join(each.both for each in done)
    found = re.search(r'ray\.init\(redis_address="([^"]+)"\)', done[0].out)
    assert found
    head = Head(programs, found[1], done[0].out)
    status = head.status()
    assert "another cluster uses its database 5, process " in done[1].err
    with redis.Redis(HOST, port, db=5, username="ada", password=SECRET) as client:
        assert wait_for(lambda: 0 < client.pttl("ray:head") <= 10_000 or None, 5.0)
    third = run(programs, *command)
    assert third.code == 1
    assert f"with its head at {status['link_address']}: stop that one" in third.err
    os.kill(status["keeper"], signal.SIGKILL)
    Head.start(programs, "--num-cpus=1", f"--redis-url={url(port)}").stop()
