"""The command `ray` in processes of its own, and a session that it has started."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.api.programs import Finished, Programs, Running

COMMAND = """
from ray.cli import main

main(prog_name="ray")
"""


def start(programs: Programs, *args: str, env: Mapping[str, str] | None = None) -> Running:
    return programs.start(COMMAND, *args, env=env)


def run(programs: Programs, *args: str) -> Finished:
    return start(programs, *args).finish()


@dataclass
class Head:
    programs: Programs
    address: str
    said: str  # by `ray start`

    @classmethod
    def start(cls, programs: Programs, *args: str) -> "Head":
        done = run(programs, "start", "--head", "--redis-port=0", *args)
        assert done.code == 0, done.both
        found = re.search(r'ray\.init\(redis_address="([^"]+)"\)', done.out)
        assert found, done.both
        return cls(programs, found[1], done.out)

    def status(self) -> dict[str, Any]:
        done = run(self.programs, "status", "--json")
        assert done.code == 0, done.both
        (own,) = [each for each in json.loads(done.out) if each["redis_address"] == self.address]
        found: dict[str, Any] = own
        return found

    def stop(self) -> Finished:
        done = run(self.programs, "stop", f"--address={self.address}")
        assert done.code == 0, done.both
        return done
