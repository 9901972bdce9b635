"""GPUs as the node declares them; none need be there."""

import subprocess
import sys
import textwrap


def run(program: str, **environment: str) -> None:
    import os

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr


PROGRAM = """
    import os, threading, ray
    ray.init(num_cpus=3, num_gpus=3)

    def look():
        found = []
        thread = threading.Thread(target=lambda: found.append(ray.get_gpu_ids()))
        thread.start()
        thread.join()
        assert found == [ray.get_gpu_ids()]
        return ray.get_gpu_ids(), os.environ["CUDA_VISIBLE_DEVICES"]

    f = ray.remote(look)
    Actor = ray.remote(type("Actor", (), {"look": lambda self: look()}))
    names = NAMES
    text = {str(name): name for name in names}

    assert ray.get(f.remote()) == ([], "")
    ids, shown = ray.get(f.options(num_gpus=2).remote())
    assert len(set(ids)) == 2 and set(ids) <= set(names), ids
    assert shown == ",".join(map(str, ids))
    holder = Actor.options(num_gpus=2).remote()
    held, shown = ray.get(holder.look.remote())
    assert ray.get([holder.look.remote() for _ in range(3)]) == [(held, shown)] * 3
    (left,) = set(names) - set(held)
    for share in (1, 0.5):
        assert ray.get(f.options(num_gpus=share).remote()) == ([left], str(left))
    assert ray.get_gpu_ids() == []
"""


def test_each_task_sees_its_own() -> None:
    run(
        "import os; os.environ.pop('CUDA_VISIBLE_DEVICES', None)\n"
        + textwrap.dedent(PROGRAM).replace("NAMES", "[0, 1, 2]")
    )


def test_an_earlier_setting_names_them() -> None:
    run(PROGRAM.replace("NAMES", "[4, 5, 7]"), CUDA_VISIBLE_DEVICES="4,5,7")
    run(PROGRAM.replace("NAMES", '["GPU-a", "GPU-b", "GPU-c"]'), CUDA_VISIBLE_DEVICES="GPU-a, GPU-b,GPU-c")
