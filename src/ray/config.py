"""Everything that can be tuned, in one frozen object that is passed down; and what is fixed, beside it.

The unit stands last in each name.  The documentation's table is made from here, by `table()`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ray.errors import ArgumentError, ArgumentTypeError


def _key(default: Any, reason: str, least: float = 0) -> Any:
    return dataclasses.field(default=default, metadata={"reason": reason, "least": least})


@dataclasses.dataclass(frozen=True, slots=True)
class Config:
    """The tunables of a session; `Config.with_overrides` checks and changes some of them."""

    # --- memory ---
    store_fraction: float = _key(
        0.30,
        "Share of the memory that machine and cgroup allow which the object store may grow to. Tasks need "
        "the rest.",
        least=0.001,
    )
    store_full_wait_ms: int = _key(
        10_000,
        "How long a put waits for room in a full store before it raises; others may be about to drop ids.",
    )
    spill_fraction: float = _key(
        0.5,
        "Share of the free space in the temporary folder (TMPDIR) that values spilled from a full store may "
        "take. 0: nothing is spilled.",
    )
    memory_fraction: float = _key(
        0.95,
        "Share of the memory of the machine, and of each cgroup it is in, from which on the node manager "
        "stops tasks, one after the other, before the system kills just anybody. 0: it never does.",
    )
    memory_limit_bytes: int = _key(
        0,
        "Most memory that all processes of the session may hold together, the object store included, before "
        "tasks are stopped. 0: only machine and cgroups set limits.",
    )
    memory_retry_limit: int = _key(
        3,
        "How often a task that may be run again (max_retries) is, after it was stopped for memory; that does "
        "not count against max_retries.",
    )
    memory_pause_ms: int = _key(
        500,
        "How long such a task rests at least; twice as long each time. Then it waits for memory to come "
        "back, up to 20 such pauses.",
        1,
    )

    # --- workers ---
    worker_limit: int = _key(
        1024,
        "Most worker processes on a node. Blocked tasks need workers of their own, runaway recursion hits "
        "this.",
        1,
    )
    idle_worker_ms: int = _key(
        10_000,
        "An idle worker above the node's number of CPUs ends after this time; forking a new one takes a "
        "moment.",
    )
    worker_start_ms: int = _key(
        30_000, "A forked worker that has not joined the arena after this time is killed and reported.", 1
    )
    term_grace_ms: int = _key(
        200,
        "Time between SIGTERM and SIGKILL at the end of a session. A session is gone within two seconds in "
        "all.",
    )
    end_ms: int = _key(
        2_000, "Time after which ending a session gives up waiting for a process, and says so.", 1
    )

    # --- keeper and node manager ---
    restart_limit: int = _key(
        5,
        "Restarts of one service (node manager, template, Redis) within restart_window_ms before the keeper "
        "gives up.",
    )
    restart_window_ms: int = _key(60_000, "The window in which restart_limit counts.", 1)
    restart_pause_ms: int = _key(
        100, "Pause before a restart, so that a service that fails at once does not spin."
    )
    sweep_ms: int = _key(
        1_000,
        "How often the node manager looks for dead processes that nobody reaped; reaped ones are buried at "
        "once.",
        1,
    )
    lock_patience_ms: int = _key(
        1_000, "How long one process may hold the arena's lock before it is continued, and then killed.", 1
    )

    drain_ms: int = _key(
        25_000,
        "How long a node that has joined a cluster may take to leave in good order when it gets SIGTERM: "
        "service managers and schedulers send SIGKILL after 30 seconds. 0: it ends at once.",
    )

    # --- starting and attaching ---
    connect_ms: int = _key(
        5_000, "How long ray.init tries to reach an address before it says that nobody listens.", 1
    )
    start_ms: int = _key(20_000, "How long ray.init waits for the session's processes before it gives up.", 1)

    # --- errors ---
    error_list_limit: int = _key(
        10_000, "Errors that ray.error_info keeps for one job; older ones are dropped.", 1
    )

    @classmethod
    def with_overrides(cls, overrides: Mapping[str, Any] | None = None) -> "Config":
        """The defaults with some keys replaced.

        Raises ArgumentError for an unknown key or a number out of range, ArgumentTypeError for a wrong type.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        if overrides is not None and not isinstance(overrides, Mapping):
            raise ArgumentTypeError(
                f"Configuration must be a mapping of names to numbers, not {overrides!r}."
            )
        checked: dict[str, Any] = {}
        for name, value in (overrides or {}).items():
            if name not in fields:
                fixed = isinstance(name, str) and hasattr(LIMITS, name)
                problem = f"{name!r} is fixed." if fixed else f"There is no setting {name!r}."
                raise ArgumentError(f"{problem} {_nearest(name, list(fields))}")
            checked[name] = _check(fields[name], value)
        return cls(**checked)

    @classmethod
    def of_session(cls, settings: Mapping[str, Any]) -> "Config":
        """Those of a session that another release may have started: it may know more settings, or fewer."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls.with_overrides({name: value for name, value in settings.items() if name in known})


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """Numbers that are part of what the API promises, or that nobody has a reason to change."""

    argument_entries: int = _key(
        100,
        "A list, tuple or dict argument with this many entries is put into the store, as the API text says.",
        1,
    )
    argument_elements: int = _key(
        1_000,
        "So is an argument with this many elements and characters in all; smaller ones travel with the task.",
        1,
    )
    error_bytes: int = _key(
        65_536,
        "Most that a stored failure takes, text and pickled exception together; the middle of the text is "
        "cut.",
        4_096,
    )
    error_chain: int = _key(
        16,
        "Dependent tasks named in a failure that was handed on; of longer chains the first and last ones.",
        2,
    )
    culprit_search_ms: int = _key(
        500, "How long an error about a value that cannot be pickled may search for the part at fault."
    )


DEFAULTS = Config()
LIMITS = Limits()


def _check(field: "dataclasses.Field[Any]", value: Any) -> Any:
    wanted: type = type(field.default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or (wanted is int and not isinstance(value, int)):
        kind = "a whole number" if wanted is int else "a number"
        raise ArgumentTypeError(f"The setting {field.name!r} must be {kind}, not {value!r}.")
    least = field.metadata["least"]
    if not value >= least:
        raise ArgumentError(f"The setting {field.name!r} must be at least {least}, not {value!r}.")
    if field.name.endswith("_fraction") and value > 1:
        raise ArgumentError(f"The setting {field.name!r} is a fraction: at most 1, not {value!r}.")
    return wanted(value)


def _nearest(name: object, names: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(str(name), names, 1)
    return f"Did you mean {near[0]!r}?" if near else f"The settings are: {', '.join(names)}."


def table() -> str:
    """The settings and limits as two Markdown tables, for the documentation."""
    return _table(Config, "setting", "default") + "\n" + _table(Limits, "limit", "value")


def _table(kind: "type[Config | Limits]", what: str, number: str) -> str:
    rows = [f"| {what} | unit | {number} | why |", "|---|---|---|---|"]
    for field in dataclasses.fields(kind):
        reason = field.metadata["reason"]
        rows.append(f"| `{field.name}` | {_unit(field.name)} | {field.default:,} | {reason} |")
    return "\n".join(rows) + "\n"


def _unit(name: str) -> str:
    units = {"ms": "milliseconds", "bytes": "bytes", "fraction": "of 1"}
    return units.get(name.rpartition("_")[2], "count")
