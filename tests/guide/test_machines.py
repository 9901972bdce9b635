"""The commands of the page on several machines, in their order: on one machine, with two of its addresses."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from ray.control_store.server import random_port
from tests.api.programs import wait_for

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "machines.md"
FENCED = re.compile(r"^```(\w+) *(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATIENCE_S = 10.0


def nodes(status: str, port: str) -> int:
    """How many the head lists; 0: it is not there, or too busy to answer."""
    for each in json.loads(status):
        if each["redis_address"].endswith(f":{port}") and each["role"] == "head":
            return len(each["nodes"] or [])
    return 0


def test_a_new_user_copies_the_commands(tmp_path: Path) -> None:
    port = str(random_port())
    here = {"10.0.0.1": "127.0.0.1", "10.0.0.2": "127.0.0.2", "6379": port}
    # Other clusters of this user may run here; the page's reader has one.
    for name in ("ray stop", "ray drain"):
        here[name] = f"{name} --address=127.0.0.1:{port}"
    surroundings = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "XDG_CONFIG_HOME": str(tmp_path / "configuration"),
        "TMPDIR": str(tmp_path),
    }

    complaints: list[str] = []

    def run(command: str) -> str:
        for there, instead in here.items():
            command = command.replace(there, instead)
        done = subprocess.run(
            ["bash", "-ec", command],
            cwd=tmp_path,
            env=surroundings,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{command}{done.stdout}{done.stderr}"
        complaints.append(f"{command} {done.stderr}")
        return done.stdout

    said: dict[str, str] = {}
    try:
        for kind, name, text in FENCED.findall(PAGE.read_text()):
            if kind == "python" and name:
                (tmp_path / name).write_text(text)
            elif kind == "sh":
                for command in text.splitlines(keepends=True):
                    said[" ".join(command.split()[:2])] = run(command)
                    if "--redis-address" in command:  # at a keyboard, nobody is faster than that
                        assert wait_for(
                            lambda: nodes(run("ray status --json"), port) == 2 or None, PATIENCE_S
                        ), complaints
    finally:
        run("ray stop || true")
    assert "127.0.0.2" in said["ray status"]
    counts = re.findall(r"(\d+) tasks on node (\w+)", said["python many.py"])
    assert sum(int(number) for number, _ in counts) == 300
    assert all(f"{node} at " in said["ray status"] for _, node in counts)
    assert "has left" in said["ray drain"]
    assert "Ended the session" in said["ray stop"]
