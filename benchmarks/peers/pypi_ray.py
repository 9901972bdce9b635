"""PyPI's `ray`, without its dashboard and its log to the driver, which only cost it speed."""

from pathlib import Path
from typing import Any

from peers import WORKERS

TITLE = "PyPI ray"
DISTRIBUTION = "ray"
REQUIREMENTS: list[str] | None = ["-r", str(Path(__file__).parents[2] / "requirements" / "peer.lock")]
OPTIONS = {"num_cpus": WORKERS, "include_dashboard": False, "log_to_driver": False}
FIRST_RESULT = f"import ray; ray.init(**{OPTIONS!r}); print(ray.get(ray.remote(lambda: 42).remote()))"


def start() -> Any:
    import ray

    ray.init(**OPTIONS)
    return ray


def stop() -> None:
    import ray

    ray.shutdown()
