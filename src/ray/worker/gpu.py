"""Which GPUs a task sees.

GPU number i of the node is the i-th of a CUDA_VISIBLE_DEVICES that was there before.
"""

import os

from ray._kernel import Arena
from ray.core.options import Demand
from ray.core.session_state import WORKER_MODE, Current

VARIABLE = "CUDA_VISIBLE_DEVICES"

# Read before any task changes it: workers are forked from a process that has imported this.
_given = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]


# Of the task or actor that runs in this worker, whichever of its threads asks.
_assigned: list[int] = []


class VisibleGpus:
    """Sets CUDA_VISIBLE_DEVICES for each task, on a node that declares GPUs; elsewhere it is left alone."""

    def __init__(self, arena: Arena, stock: Demand) -> None:
        self._arena = arena
        self.declared = stock.gpu > 0
        self._shown: list[int] | None = None

    def show(self) -> None:
        """Cheap when the task has the same GPUs as the one before."""
        if not self.declared:
            return
        global _assigned
        ids = self._arena.gpu_ids()
        if ids != self._shown:
            self._shown = _assigned = ids
            os.environ[VARIABLE] = ",".join(str(name) for name in device_names(ids, _given))


def assigned(session: Current) -> list[int | str]:
    """The GPUs of whatever runs in this process."""
    ids = _assigned if session.mode == WORKER_MODE else session.submitter.gpu_ids()
    return device_names(ids, _given)


def device_names(ids: list[int], given: list[str]) -> list[int | str]:
    """The node's GPU numbers as CUDA is to be told of them; whole numbers where they are some."""
    names: list[int | str] = []
    for number in ids:
        name = given[number] if number < len(given) else str(number)
        names.append(int(name) if name.isdecimal() else name)
    return names
