"""The units for systemd and the scripts for Slurm, as far as they can be tried without either."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ray.control_store.server import random_port
from ray.testing import LocalCluster
from tests.api.programs import wait_for

DEPLOY = Path(__file__).parents[2] / "deploy"
COMMANDS = Path(sys.executable).parent
PATIENCE_S = 20.0
PROGRAM = """
import os
import sys
import time

import ray

ray.init(redis_address=sys.argv[1])


@ray.remote
def where():
    time.sleep(0.05)
    return os.environ["RAY_SESSION"]


places = set()
while len(places) < 2:
    places.update(ray.get([where.remote() for _ in range(8)]))
print("both")
"""
SRUN = """#!/bin/bash
# As srun: options, then a command, here instead of there.
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    """Of a script that Slurm has started, on two hosts that are this one."""
    commands = tmp_path / "commands"
    commands.mkdir()
    for name, text in {"srun": SRUN, "scontrol": "#!/bin/sh\nprintf '127.0.0.1\\n127.0.0.2\\n'\n"}.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o700)
    return {
        **os.environ,
        "PATH": f"{commands}:{COMMANDS}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "host[1-2]",
        "SLURM_CPUS_PER_TASK": "1",
        "RAY_PORT": str(random_port()),
    }


def test_a_cluster_as_one_job(surroundings: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    script = [str(DEPLOY / "slurm/ray-cluster.sbatch"), sys.executable, "program.py"]
    done = subprocess.run(
        ["bash", *script],
        cwd=tmp_path,
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "both" in done.stdout
    assert "Ended the session" in done.stdout
    assert list((tmp_path / ".config/ray").iterdir()) == []


def test_a_node_as_a_job_that_is_preempted(surroundings: dict[str, str], tmp_path: Path) -> None:
    with LocalCluster(1) as cluster:
        head = cluster.head.record
        surroundings["RAY_TOKEN_FILE"] = head.token_file
        job = subprocess.Popen(
            ["bash", str(DEPLOY / "slurm/ray-node.sbatch"), cluster.address],
            env=surroundings,
            stdout=subprocess.PIPE,
            text=True,
        )

        def joined() -> bool | None:
            status = subprocess.run(
                [COMMANDS / "ray", "status", "--json"],
                env=surroundings,
                capture_output=True,
                text=True,
                check=True,
            )
            nodes = [each["nodes"] for each in json.loads(status.stdout) if each["node_id"] == head.node_id]
            return len(nodes[0] or []) == 2 or None

        assert wait_for(joined, PATIENCE_S)
        assert job.stdout is not None
        while "logs" not in job.stdout.readline():  # the last line of what `ray start` says when it is done
            assert job.poll() is None
        job.send_signal(signal.SIGTERM)  # as `--signal=B:TERM` has it: to the shell alone
        said, _ = job.communicate(timeout=PATIENCE_S)
        assert "it has left the cluster" in said


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", ["ray-head.service", "ray-node.service"])
def test_systemd_understands_the_units(name: str, tmp_path: Path) -> None:
    text = (DEPLOY / "systemd" / name).read_text()
    unit = tmp_path / name
    unit.write_text(text.replace("/opt/ray/bin", str(COMMANDS)).replace("User=ray", "User=root"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert name not in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["ray-head.service", "ray-node.service"])
def test_the_units_give_options_that_there_are_and_time_to_leave(name: str) -> None:
    text = (DEPLOY / "systemd" / name).read_text().replace("\\\n", "")
    known = subprocess.run(
        [COMMANDS / "ray", "start", "--help"], capture_output=True, text=True, check=True
    ).stdout
    options = re.findall(
        r"--[\w-]+", next(line for line in text.splitlines() if line.startswith("ExecStart"))
    )
    assert options
    assert [each for each in options if each not in known] == []
    drain = re.search(r"--drain-timeout=(\d+)", text)
    patience = re.search(r"TimeoutStopSec=(\d+)", text)
    assert patience
    assert int(patience[1]) > (int(drain[1]) + 10 if drain else 10)
