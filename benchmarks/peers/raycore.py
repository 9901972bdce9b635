"""This project, from the environment that `make build` made."""

from typing import Any

from peers import WORKERS

TITLE = "raycore"
DISTRIBUTION = "raycore"
REQUIREMENTS: list[str] | None = None
FIRST_RESULT = f"import ray; ray.init(num_cpus={WORKERS}); print(ray.get(ray.remote(lambda: 42).remote()))"


def start() -> Any:
    import ray

    ray.init(num_cpus=WORKERS)
    return ray


def stop() -> None:
    import ray

    ray.shutdown()
