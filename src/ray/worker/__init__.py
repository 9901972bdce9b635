"""What runs inside worker processes; and the names that users reach as `ray.worker`."""

from ray.core import session_state

__all__ = ["Worker", "cleanup", "global_worker"]


class Worker:
    """This process's part in a session, as the `worker=` argument of the API names it.

    There is one, `global_worker`; the API accepts it everywhere and needs it nowhere."""

    @property
    def connected(self) -> bool:
        """Whether this process takes part in a session."""
        return session_state.current is not None

    @property
    def mode(self) -> int | None:
        """ray.SCRIPT_MODE, WORKER_MODE, PYTHON_MODE or SILENT_MODE; None outside a session."""
        return None if session_state.current is None else session_state.current.mode

    def __repr__(self) -> str:
        return "<ray.worker.Worker object>"


global_worker = Worker()


def cleanup(worker: Worker = global_worker) -> None:
    """The same as `ray.shutdown`: leaves the session, and ends it if this script started it."""
    session_state.leave()
