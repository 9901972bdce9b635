"""Reading the control store. The Redis client is imported when it is first used: that takes 90 ms."""

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from ray.control_store import schema
from ray.errors import RaySystemError

if TYPE_CHECKING:
    import redis

TIMEOUT_S = 2.0


class ErrorRecord(NamedTuple):
    """One failed task; `data` is in the given format of `ray.serialization.failures`."""

    sequence: int
    job: int
    format: int
    data: bytes


class ControlStore:
    """The servers of one session. Every method blocks for a round trip, and raises RaySystemError when a
    server does not answer within two seconds."""

    def __init__(self, addresses: list[str], password: str) -> None:
        """`addresses` are "ip:port": the primary's, then the shards'."""
        self.addresses = addresses
        self._password = password
        self._clients: dict[int, redis.Redis] = {}

    def errors(self, job: int) -> list[ErrorRecord]:
        """The failed tasks of one job, oldest first, as far as they are kept."""
        server = schema.errors_server(job, len(self.addresses))
        entries = self._ask(server, "xrange", schema.errors(job))
        return [
            ErrorRecord(
                schema.sequence_of(name),
                int(fields[schema.FIELD_JOB]),
                int(fields[schema.FIELD_FORMAT]),
                fields[schema.FIELD_DATA],
            )
            for name, fields in entries
        ]

    def functions(self) -> list[dict[str, Any]]:
        """The remote functions and actor classes of all jobs, oldest first, as far as they are kept."""
        entries = self._ask(schema.PRIMARY, "xrange", schema.FUNCTIONS)
        return [
            {"job": int(fields[schema.FIELD_JOB]), **json.loads(fields[schema.FIELD_DATA])}
            for _, fields in entries
        ]

    def jobs(self) -> dict[int, dict[str, Any]]:
        found = self._ask(schema.PRIMARY, "hgetall", schema.JOBS)
        return {int(job): json.loads(text) for job, text in found.items()}

    def session(self) -> dict[str, Any]:
        """The session's record without its password; empty before the node manager has written it."""
        found = self._ask(schema.PRIMARY, "hgetall", schema.SESSION)
        return {name.decode(): json.loads(text) for name, text in found.items()}

    def place(self, job: int = 0) -> int:
        """The last journal entry that the server with this job's errors has taken."""
        found = self._ask(schema.errors_server(job, len(self.addresses)), "get", schema.PLACE)
        return int(found or 0)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def _ask(self, server: int, command: str, *arguments: Any) -> Any:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        client = self._clients.get(server)
        if client is None:
            host, _, port = self.addresses[server].rpartition(":")
            client = self._clients[server] = redis.Redis(
                host=host.strip("[]"),
                port=int(port),
                password=self._password,
                socket_timeout=TIMEOUT_S,
                socket_connect_timeout=TIMEOUT_S,
                retry=Retry(NoBackoff(), 1),  # for a connection that a restarted server has forgotten
            )
        try:
            return getattr(client, command)(*arguments)
        except redis.RedisError as error:
            raise RaySystemError(
                f"The session's Redis server at {self.addresses[server]} does not answer ({error}). If it "
                "was killed, the keeper starts it again and the node manager fills it; try again in a second."
            ) from error
