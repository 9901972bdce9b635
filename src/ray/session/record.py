"""The session's record: what one must know to take part. It lies in the arena, as JSON."""

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

from ray.errors import RaySystemError

if TYPE_CHECKING:
    from ray.control_store.hold import Holder

VERSION = 2
PYTHON = ".".join(map(str, sys.version_info[:2]))  # functions travel as its byte code


@dataclasses.dataclass(frozen=True, slots=True)
class SessionRecord:
    token: str  # names the session; no secret
    node_ip_address: str
    redis_address: str  # "ip:port"
    redis_shards: list[str]
    redis_password: str
    socket_name: str  # where the keeper hands out the arena, "@" for the zero byte
    keeper_pid: int
    driver_pid: int  # of the driver whose end is the session's; 0: nobody's
    job: int  # that driver's number; 0 without one
    start_time_s: float  # since the epoch
    num_cpus: int
    num_gpus: int
    num_custom_resource: int
    object_store_bytes: int
    logs: str  # folder with the output of all processes; "" when it was not redirected
    settings: dict[str, int | float]  # the fields of ray.config.Config
    ended: str = ""  # why, when it was not by the driver's end
    control_store: list[str] = dataclasses.field(
        default_factory=list
    )  # "ip:port" of the servers, as seen from here
    # Of a node of a cluster; all "" or False in a script's own session.
    cluster_token: str = ""
    cluster_identity: str = ""  # the certificate that belongs to it, with its key: PEM
    token_file: str = ""  # with that token, on this machine
    removes_token_file: bool = False  # when the session ends
    node_id: str = ""  # 20 random bytes, hexadecimal: of this incarnation
    link_address: str = ""  # "ip:port" where other nodes reach this one
    head_address: str = ""  # the same of the head; "" on the head itself
    link_protocol: int = 0  # what nodes speak with each other
    release: str = ""  # of this package, where the session was started
    python: str = ""  # the interpreter's version there, without its patch release
    operators_store: str = ""  # of a head that has not started its control store: the URL, without password
    store_hold: str = ""  # the name by which this head has that one's database (`ray.control_store.hold`)
    custom_resource_name: str = ""  # the cluster's; "": it is counted without a name
    leaves_by_ms: int | None = None  # of a node that is being drained: on the machine's monotonic clock

    @property
    def is_standalone(self) -> bool:
        """Whether no driver's end is the session's."""
        return self.driver_pid == 0

    @property
    def role(self) -> str:
        """What the session is: "script", "head" or "node"."""
        if not self.is_standalone:
            return "script"
        return "node" if self.head_address else "head"

    def store_holder(self) -> "Holder | None":
        """What this head says in an operator's database of itself; None without one."""
        from ray.control_store.hold import Holder  # the keeper has no use for it

        if not self.store_hold:
            return None
        return Holder.of(self.store_hold, self.keeper_pid, self.link_address)

    def public(self) -> dict[str, Any]:
        """All but the secrets."""
        fields = dataclasses.asdict(self)
        for secret in ("redis_password", "cluster_token", "cluster_identity"):
            del fields[secret]
        return fields

    def dump(self) -> bytes:
        return json.dumps({"version": VERSION, **dataclasses.asdict(self)}).encode()

    @classmethod
    def load(cls, data: bytes) -> "SessionRecord":
        """Raises RaySystemError for the record of another version. A release with the same may have added
        fields."""
        fields: dict[str, Any] = json.loads(data)
        version = fields.pop("version")
        if version != VERSION:
            raise RaySystemError(
                f"The session was started by another version of this package (its record has version "
                f"{version}, this one reads {VERSION}). Use the same installation in both processes."
            )
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in fields.items() if name in known})

    def info(self) -> dict[str, Any]:
        """What `ray.init` returns."""
        return {
            "node_ip_address": self.node_ip_address,
            "redis_address": self.redis_address,
            "redis_shards": list(self.redis_shards),
            "object_store_addresses": [self.socket_name],
            "local_scheduler_socket_names": [self.socket_name],
            "webui_url": None,
        }
