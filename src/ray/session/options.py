"""The arguments of `ray.init`, checked: each by itself, and which of them go together."""

import dataclasses
import math
import numbers
import os
from collections.abc import Mapping
from typing import Any

from ray.config import Config
from ray.core.options import one_named
from ray.core.resources import INFINITE
from ray.core.session_state import MODE_NAMES, PYTHON_MODE, SCRIPT_MODE, SILENT_MODE, WORKER_MODE
from ray.errors import ArgumentError, ArgumentTypeError, InitError
from ray.session import machine
from ray.session.addresses import LOOPBACK, Address, resolve_host

# What is decided when a cluster starts, and so is not for those who join it.
STARTING_ONLY = (
    "num_workers",
    "num_cpus",
    "num_gpus",
    "num_custom_resource",
    "num_redis_shards",
    "plasma_directory",
    "huge_pages",
    "object_store_memory",
)
MAX_REDIS_SHARDS = 64
LEAST_STORE_BYTES = 1 << 20
UNIT = 10_000  # the kernel's: resources are whole numbers of 1/10,000


@dataclasses.dataclass(frozen=True, slots=True)
class SessionOptions:
    """How a session is started or joined. Made by `from_init`."""

    redis_address: Address | None  # None: start a session
    node_ip_address: str  # of the node to be started; or of that to join, "" for whichever is here
    object_id_seed: int | None
    num_workers: int  # forked at the start
    driver_mode: int
    redirect_output: bool
    num_cpus: int
    num_gpus: int
    num_custom_resource: int  # -1: any amount
    num_redis_shards: int  # beside the primary
    plasma_directory: str | None
    huge_pages: bool
    object_store_bytes: int
    config: Config
    custom_resource_name: str = ""  # "": the head's, or none
    notices: tuple[str, ...] = ()  # lines for the user, about what the machine allows

    @property
    def resources(self) -> tuple[int, int, int]:
        """CPU, GPU and custom resource in the kernel's units."""
        custom = INFINITE if self.num_custom_resource < 0 else self.num_custom_resource * UNIT
        return self.num_cpus * UNIT, self.num_gpus * UNIT, custom

    @classmethod
    def from_init(
        cls,
        redis_address: str | None = None,
        node_ip_address: str | None = None,
        object_id_seed: int | None = None,
        num_workers: int | None = None,
        driver_mode: int = SCRIPT_MODE,
        redirect_output: bool = False,
        num_cpus: int | None = None,
        num_gpus: int | None = None,
        num_custom_resource: int | None = None,
        num_redis_shards: int | None = None,
        plasma_directory: str | None = None,
        huge_pages: bool = False,
        object_store_memory: int | None = None,
        address: str | None = None,
        resources: Mapping[str, int] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> "SessionOptions":
        """Checks what `ray.init` was given, fills in what was not. Host names are resolved, which may block.

        Raises InitError for arguments that rule each other out or make no sense, ArgumentTypeError for
        a wrong type, RayConnectionError for a host name that can't be resolved.
        """
        given = dict(locals())
        if redis_address is not None and address is not None:
            raise InitError("redis_address and address are two names of one argument; give only one of them.")
        target = _text("redis_address", redis_address if address is None else address)
        mode = _mode(driver_mode)
        if target is not None:
            _refuse_starting_arguments(given, mode)
        settings = Config.with_overrides(config)
        directory = _directory(plasma_directory)
        if _flag("huge_pages", huge_pages) and directory is None:
            raise InitError(
                "huge_pages=True needs plasma_directory as well: the folder where a hugetlbfs is mounted, "
                "for example plasma_directory='/dev/hugepages'."
            )
        cpus = _count("num_cpus", num_cpus, machine.cpu_count())
        custom_name, custom = _resources(resources, num_custom_resource)
        node_ip = _text("node_ip_address", node_ip_address)
        return cls(
            redis_address=None if target is None else Address.parse(target),
            node_ip_address=_node_ip(node_ip, "" if target else LOOPBACK),
            object_id_seed=_seed(object_id_seed),
            num_workers=_count("num_workers", num_workers, min(cpus, settings.worker_limit)),
            driver_mode=mode,
            redirect_output=_flag("redirect_output", redirect_output),
            num_cpus=cpus,
            num_gpus=_count("num_gpus", num_gpus, 0),
            num_custom_resource=custom,
            custom_resource_name=custom_name,
            num_redis_shards=_count("num_redis_shards", num_redis_shards, 0, MAX_REDIS_SHARDS),
            plasma_directory=directory,
            huge_pages=huge_pages,
            object_store_bytes=_store_bytes(object_store_memory, settings),
            config=settings,
            notices=_notices() if num_cpus is None and target is None and mode != PYTHON_MODE else (),
        )


def _node_ip(given: str | None, default: str) -> str:
    return default if given is None else resolve_host(given, "node_ip_address")


def _refuse_starting_arguments(given: dict[str, Any], mode: int) -> None:
    if mode == PYTHON_MODE:
        raise InitError(
            "driver_mode=ray.PYTHON_MODE runs everything in this process and joins no cluster, so "
            "redis_address must not be given with it."
        )
    refused = [name for name in STARTING_ONLY if given[name] is not None and given[name] is not False]
    if refused:
        verb = "was" if len(refused) == 1 else "were"
        raise InitError(
            f"When connecting to an existing cluster (redis_address), {' and '.join(refused)} must not be "
            f"provided: that {verb} decided when the cluster was started. Leave it out, or leave out "
            "redis_address to start a cluster."
        )


def _mode(value: object) -> int:
    if value == WORKER_MODE and not isinstance(value, float):
        raise InitError(
            "driver_mode=ray.WORKER_MODE (1) is for Ray's own worker processes. Use ray.SCRIPT_MODE, "
            "ray.PYTHON_MODE or ray.SILENT_MODE."
        )
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ArgumentTypeError(
            f"driver_mode must be ray.SCRIPT_MODE, ray.PYTHON_MODE or ray.SILENT_MODE, not {value!r}."
        )
    if int(value) not in (SCRIPT_MODE, PYTHON_MODE, SILENT_MODE):
        allowed = (SCRIPT_MODE, PYTHON_MODE, SILENT_MODE)
        names = ", ".join(f"{MODE_NAMES[number]} ({number})" for number in allowed)
        raise InitError(f"driver_mode must be one of {names}, not {value!r}.")
    return int(value)


def _count(name: str, value: object, default: int, most: int = 1 << 31) -> int:
    if value is None:
        return default
    # 2.0 is as good as 2: it comes from a division, or from a configuration file.
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not float(value).is_integer():
        raise ArgumentTypeError(f"{name} must be a whole number, not {value!r}.")
    number = int(float(value)) if not isinstance(value, numbers.Integral) else int(value)
    if number < 0:
        raise InitError(f"{name} must be zero or more, not {value!r}.")
    if number > most:
        raise InitError(f"{name} must be at most {most}, not {value!r}.")
    return number


def _custom(value: object) -> int:
    if isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) == -1:
        return -1
    return _count("num_custom_resource", value, 0)


def _resources(named: object, number: object) -> tuple[str, int]:
    """Name and amount of the custom resource, of which one of the two arguments tells."""
    if named is None:
        return "", _custom(number)
    if number is not None:
        raise InitError("num_custom_resource and resources are two ways to say the same: give only one.")
    try:
        found = one_named(named, lambda amount, _: _custom(amount))
    except ArgumentTypeError as error:
        raise ArgumentTypeError(f"resources: {error}") from None
    except ArgumentError as error:
        raise InitError(f"resources: {error}") from None
    return ("", 0) if found is None else found


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ArgumentTypeError(f"{name} must be True or False, not {value!r}.")
    return value


def _text(name: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ArgumentTypeError(f"{name} must be a string, not {value!r}.")
    return value


def _seed(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ArgumentTypeError(f"object_id_seed must be a whole number, not {value!r}.")
    return int(value)


def _directory(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str | os.PathLike):
        raise ArgumentTypeError(f"plasma_directory must be a path, not {value!r}.")
    path = os.path.abspath(os.fsdecode(value))
    if not os.path.isdir(path):
        raise InitError(f"plasma_directory={path!r} is not a folder. Make it first, or leave it out.")
    if not os.access(path, os.W_OK | os.X_OK):
        raise InitError(f"This user can't write to plasma_directory={path!r}. Choose another folder.")
    return path


def _store_bytes(value: object, config: Config) -> int:
    if value is None:
        return max(LEAST_STORE_BYTES, int(machine.memory_bytes() * config.store_fraction))
    number = _count("object_store_memory", value, 0, 1 << 62)
    if number < LEAST_STORE_BYTES:
        raise InitError(f"object_store_memory is in bytes, at least {LEAST_STORE_BYTES:,}, not {number:,}.")
    return number


def _notices() -> tuple[str, ...]:
    """One line when fewer processors may be used than there are."""
    count = machine.cpu_count()
    quota = machine.cgroup_cpus()
    allowed = machine.affinity_count()
    reasons = []
    if allowed < count:
        reasons.append(f"the CPU affinity of this process allows {allowed}")
    if quota is not None and quota < count:
        reasons.append(f"the cgroup allows {quota:g}")
    if not reasons:
        return ()
    advised = max(1, math.ceil(min(allowed, count if quota is None else quota)))
    why = " and ".join(reasons)
    return (f"num_cpus is {count}, as the machine has, but {why}; num_cpus={advised} would fit.",)
