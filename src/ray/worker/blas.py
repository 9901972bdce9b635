"""Threads of BLAS and OpenMP libraries: as many as the running task has CPUs.

Libraries loaded already are told through threadpoolctl, those loaded later read the environment.  A
user who has set any of the variables wants something else, and gets it.
"""

import os
import sys
from typing import Any

from ray._kernel import UNIT, Arena

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
# Read before any task changes it: workers are forked from a process that has imported this.
_left_to_user = any(name in os.environ for name in VARIABLES)
# Packages that bring such a library; looking for it in the process's memory map takes a millisecond.
_BRINGERS = ("numpy", "scipy", "torch", "sklearn", "numba", "jax", "tensorflow", "faiss")


def begin_with_one() -> None:
    """In the template: libraries that it loads start no threads, which would not survive the fork."""
    if not _left_to_user:
        os.environ.update(dict.fromkeys(VARIABLES, "1"))


class BlasThreads:
    """Belongs to one worker process."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._threads = 1  # that the libraries were told: by `begin_with_one`, to begin with
        self._modules = 0  # loaded when the libraries were last looked for
        self._controller: Any = None

    def fit(self) -> None:
        """For the task that begins."""
        if _left_to_user:
            return
        threads = max(1, self._arena.running_shape()[0] // UNIT)
        if threads != self._threads:
            self._threads = threads
            self._limit(threads)

    def _limit(self, threads: int) -> None:
        for name in VARIABLES:
            os.environ[name] = str(threads)
        if not any(name in sys.modules for name in _BRINGERS):
            return
        if self._controller is None or self._modules != len(sys.modules):
            from threadpoolctl import ThreadpoolController

            self._controller = ThreadpoolController()
            self._modules = len(sys.modules)
        self._controller.limit(limits=threads)
