"""The calls of the API: each checks its arguments, then makes one call."""

import contextlib
import datetime
import gc
import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ray._kernel import DRIVER, Arena, KernelError, ObjectID, StaleHandle, WaitTimeout
from ray.core import interrupts, session_state, store
from ray.core.actor import ActorClass, ActorHandle, kill_actor
from ray.core.kernel_errors import translated
from ray.core.options import OPTION_NAMES, Demand
from ray.core.remote_function import RemoteFunction
from ray.core.resources import amounts, free_of, stock_of
from ray.core.session_state import PYTHON_MODE, SCRIPT_MODE, SILENT_MODE, Current
from ray.core.timeouts import milliseconds
from ray.errors import ArgumentError, ArgumentTypeError, GetTimeoutError, ObjectLostError
from ray.worker import Worker, global_worker, gpu

if TYPE_CHECKING:
    from ray.observe.error_printer import ErrorPrinter
    from ray.observe.output_printer import OutputPrinter
    from ray.session.options import SessionOptions
    from ray.wire.messages import NodeState, Resources


def init(
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
    *,
    address: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Starts a session for this script, or joins the one at `redis_address`; returns its addresses.

    Without an address it starts everything, and ends it when the script exits, however it exits.  With
    one (also spelt `address`), it starts and stops nothing, and what was decided when the session was
    started can't be given.

    num_cpus defaults to psutil.cpu_count(), num_gpus and num_custom_resource to 0 (-1: any amount);
    num_workers are started up front and limit nothing.  object_id_seed makes every id of the run
    reproducible.  driver_mode is ray.SCRIPT_MODE, ray.SILENT_MODE (errors are not printed) or
    ray.PYTHON_MODE (everything runs in this process).  redirect_output sends the output of all
    processes to files.  plasma_directory is where the object store's file goes, huge_pages maps it
    with huge pages; object_store_memory is its size in bytes.  config replaces settings of
    `ray.config.Config` by name.

    Blocks until the session can be used.  Raises InitError for a second call and for arguments that rule
    each other out, ArgumentTypeError, RayConnectionError when nobody answers at the address.
    """
    given = dict(locals())
    session_state.refuse_second_init()
    with _garbage_left():
        from ray.session.options import SessionOptions

        options = SessionOptions.from_init(**given)
        with interrupts.HeldBack():  # a Ctrl-C finds a session that `shutdown` can end, or none
            return _init_local(options) if options.driver_mode == PYTHON_MODE else _init_session(options)


@contextlib.contextmanager
def _garbage_left() -> Iterator[None]:
    """No look for garbage meanwhile: in a program with many objects it takes as long as a session's start,
    and what comes after has workers that it can be done beside."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _init_session(options: "SessionOptions") -> dict[str, Any]:
    if options.redis_address is None:
        from ray.session.start import start_session

        session = start_session(options)
    else:
        from ray.session.attach import attach_session

        session = attach_session(options)
    arena = session.arena
    in_cluster = bool(session.record.cluster_token)
    current = Current(arena, arena, options.driver_mode, session.config, stock_of(arena), in_cluster)
    return _enter(current, session.info, session.end, session.output)


def _init_local(options: "SessionOptions") -> dict[str, Any]:
    from ray.core.local_mode import LocalMode
    from ray.session.start import root_id

    arena = Arena.create(options.object_store_bytes, options.resources, options.plasma_directory)
    arena.register(DRIVER, root_id(options.object_id_seed))
    current = Current(arena, arena, PYTHON_MODE, options.config, stock_of(arena))
    current.submitter = LocalMode(current)
    info: dict[str, Any] = {
        "node_ip_address": options.node_ip_address,
        "redis_address": None,
        "redis_shards": [],
        "object_store_addresses": [],
        "local_scheduler_socket_names": [],
        "webui_url": None,
    }
    return _enter(current, info, arena.leave)


def _enter(
    current: Current,
    info: dict[str, Any],
    end: Callable[[], None],
    output: Mapping[int, str | int] | None = None,
) -> dict[str, Any]:
    """`output` is where what tasks print is found, when they don't print where the driver does."""
    current.info = info
    if current.mode != SILENT_MODE:
        try:
            for printer in _printers(current, output):
                printer.start()
                current.at_end.append(printer.stop)
        except BaseException:
            for stop in current.at_end:
                stop()
            end()
            raise
    current.at_end.append(end)
    session_state.enter(current)
    interrupts.at_exit(shutdown)  # as often as there are sessions; the second time it does nothing
    return info


def _printers(
    current: Current, output: Mapping[int, str | int] | None
) -> "Iterator[ErrorPrinter | OutputPrinter]":
    from ray.observe.error_printer import ErrorPrinter

    yield ErrorPrinter(current.arena)
    if output:
        from ray.observe.output_printer import OutputPrinter

        yield OutputPrinter(output)


def shutdown() -> None:
    """Leaves the session, and ends it with all its processes if this script started it.

    Blocks for two seconds at most.  Arrays that the program holds stay valid; ids do not.  Without a
    session, and inside a task, it does nothing.  Afterwards ray.init may be called again.
    """
    session_state.leave()


def is_initialized() -> bool:
    """Whether this process takes part in a session."""
    return session_state.current is not None


def remote(*args: Any, **keywords: Any) -> Any:
    """Makes a remote function of a function, an actor class of a class.

    Used bare, or with any of the options: num_return_vals (also num_returns), num_cpus (default 1),
    num_gpus, num_custom_resource, max_calls (tasks of this kind before the worker is replaced; 0: no
    limit), max_retries (default 3) for functions; num_cpus, num_gpus, num_custom_resource,
    checkpoint_interval (calls between checkpoints) for classes; resources ({name: amount}, in place of
    num_custom_resource where the cluster has a name for that) for both.

    Raises ArgumentTypeError or ArgumentError for other options, values or things to decorate.
    """
    if len(args) == 1 and not keywords:
        return _decorated(args[0], {})
    if args or not keywords:
        raise ArgumentTypeError(
            "Use @ray.remote bare over a function or class, or with keywords: @ray.remote(num_cpus=2, ...)."
        )
    unknown = [name for name in keywords if name not in OPTION_NAMES]
    if unknown:
        raise ArgumentTypeError(
            f"{unknown[0]!r} is not an option of @ray.remote; "
            f"the options are {', '.join(sorted(OPTION_NAMES))}."
        )

    def decorate(target: Any) -> RemoteFunction | ActorClass:
        return _decorated(target, keywords)

    return decorate


def _decorated(target: Any, keywords: Mapping[str, Any]) -> RemoteFunction | ActorClass:
    if isinstance(target, type):
        return ActorClass.of(target, keywords)
    if inspect.isroutine(target) and not isinstance(target, staticmethod | classmethod):
        return RemoteFunction.of(target, keywords)
    if isinstance(target, RemoteFunction | ActorClass):
        raise ArgumentTypeError(f"{target!r} has @ray.remote twice.")
    raise ArgumentTypeError(f"@ray.remote stands over a function or a class, not over {target!r}.")


def get(
    object_ids: Any, worker: Worker = global_worker, *, timeout: int | datetime.timedelta | None = None
) -> Any:
    """The value of an id, or the list of values of a list of ids.

    Blocks until all are there, at most `timeout` milliseconds (a whole number, or a timedelta).  Arrays
    in the values are read-only and lie in the object store.

    Raises what the task raised, as that type and as RayTaskError (of a list, the first failure in its
    order); GetTimeoutError; ObjectLostError.
    """
    session = session_state.require("ray.get")
    timeout_ms = milliseconds(timeout)
    if type(object_ids) is ObjectID:
        try:
            return store.value_of(session, store.get(session, object_ids, timeout_ms))
        except WaitTimeout:
            raise GetTimeoutError(timeout_ms) from None
        except StaleHandle:
            raise ObjectLostError(object_ids.hex()) from None
        except KernelError as error:
            raise translated(error, "ray.get") from None
    if type(object_ids) is not list:
        raise ArgumentTypeError(f"ray.get takes an ObjectID or a list of them, not {_described(object_ids)}.")
    try:
        found = store.get_many(session, object_ids, timeout_ms)
    except WaitTimeout:
        missing = sum(not session.arena.is_ready(oid) for oid in object_ids)
        raise GetTimeoutError(timeout_ms, max(1, missing)) from None
    except KernelError as error:
        raise translated(error, "ray.get", object_ids) from None
    except TypeError:
        _check_ids(object_ids, "ray.get")
        raise
    return store.values_of(session, found)


def put(value: Any, worker: Worker = global_worker) -> ObjectID:
    """Stores a value and returns its id.

    The value is copied once; later changes to the original are not seen.  While the object store is
    full it waits, `store_full_wait_ms` at most.  Raises SerializationError, ObjectStoreFullError,
    ArgumentTypeError for an ObjectID (which has a value already; a list may hold it).
    """
    session = session_state.require("ray.put")
    if type(value) is ObjectID:
        raise ArgumentTypeError(
            f"ray.put was given {value!r}, which is the id of a stored value already: use it as it is. "
            "To store the id itself, put it into a list: ray.put([object_id])."
        )
    try:
        return store.put(session, value)
    except KernelError as error:
        raise translated(error, "ray.put") from None


def wait(
    object_ids: list[ObjectID],
    num_returns: int = 1,
    timeout: int | datetime.timedelta | None = None,
    worker: Worker = global_worker,
) -> tuple[list[ObjectID], list[ObjectID]]:
    """Ids that have their value, and those that do not (yet), each in the order of the list.

    Blocks until `num_returns` of them are ready (all, if there are fewer), at most `timeout`
    milliseconds (a whole number, or a timedelta).  Never returns more than `num_returns` as ready.  A
    failed task's id is ready.

    Raises ArgumentTypeError for what is no list of ids, ArgumentError for ids given twice.
    """
    session = session_state.require("ray.wait")
    if type(object_ids) is not list:
        raise ArgumentTypeError(f"ray.wait takes a list of ObjectIDs, not {_described(object_ids)}.")
    if isinstance(num_returns, bool) or not isinstance(num_returns, int):
        raise ArgumentTypeError(f"num_returns must be a whole number, not {num_returns!r}.")
    if num_returns < 1:
        raise ArgumentError(f"num_returns must be at least 1, not {num_returns}.")
    timeout_ms = milliseconds(timeout)
    if not object_ids:
        return [], []
    try:
        return session.arena.wait(object_ids, min(num_returns, len(object_ids)), timeout_ms)
    except KernelError as error:
        raise translated(error, "ray.wait", object_ids) from None
    except TypeError:
        _check_ids(object_ids, "ray.wait")
        raise
    except ValueError:
        twice = next((oid for index, oid in enumerate(object_ids) if oid in object_ids[:index]), None)
        raise ArgumentError(f"ray.wait was given {twice!r} more than once; its ids must differ.") from None


def map(  # noqa: A001
    function: Callable[..., Any] | RemoteFunction,
    /,
    *iterables: Iterable[Any],
    chunk_size: int | None = None,
) -> list[Any]:
    """The results of `function` for each item, in order, as the builtin `map` has them; in chunks.

    A task runs many items: `chunk_size`, or as many as suit what is left and the time that items take.
    With several iterables the function gets an item of each, until the shortest ends.  A remote
    function's tasks have its options, any other function's the default ones.  Items that are ids stand
    for their values.  Blocks until all are done.

    Raises what the function raised, of the first such item, noting which it was; chunks that have been
    submitted by then still run.  Raises ArgumentTypeError, ArgumentError.
    """
    session = session_state.require("ray.map")
    if not isinstance(function, RemoteFunction):
        if not callable(function) or isinstance(function, ActorClass):
            raise ArgumentTypeError(f"ray.map takes a function, then its items; not {_described(function)}.")
        function = RemoteFunction.of(function, {})
    if not iterables:
        raise ArgumentTypeError("ray.map needs the items as well: ray.map(function, items).")
    if chunk_size is not None:
        if isinstance(chunk_size, bool) or not isinstance(chunk_size, int):
            raise ArgumentTypeError(f"chunk_size must be a whole number of items, not {chunk_size!r}.")
        if chunk_size < 1:
            raise ArgumentError(f"chunk_size must be at least 1, not {chunk_size}.")
    from ray.core.chunked_map import chunked_map

    try:
        return chunked_map(session, function, iterables, chunk_size)
    except KernelError as error:
        raise translated(error, "ray.map") from None


def kill(actor: ActorHandle) -> None:
    """Ends an actor at once: its running and queued calls, and all later ones, raise ActorKilledError.

    Does not wait, and no restart follows.  Raises ArgumentTypeError for what is no handle.
    """
    session = session_state.require("ray.kill")
    if not isinstance(actor, ActorHandle):
        raise ArgumentTypeError(f"ray.kill ends an actor, given its handle; not {_described(actor)}.")
    try:
        kill_actor(session, actor)
    except KernelError as error:
        raise translated(error, "ray.kill") from None


def get_gpu_ids() -> list[int | str]:
    """The GPUs of the running task or actor: numbers, or names where CUDA_VISIBLE_DEVICES had names.

    The same that CUDA_VISIBLE_DEVICES says inside it.  Empty for the driver.
    """
    session = session_state.require("ray.get_gpu_ids")
    return gpu.assigned(session)


def error_info(worker: Worker = global_worker) -> list[dict[str, Any]]:
    """The errors of this job so far, oldest first: dicts with `type`, `message`, `data` and more.

    Does not wait for errors that are on their way.
    """
    session = session_state.require("ray.error_info")
    from ray.observe.error_list import errors_of_job

    try:
        return errors_of_job(session.arena)
    except KernelError as error:
        raise translated(error, "ray.error_info") from None


def cluster_resources() -> dict[str, float]:
    """All that the nodes of the session have together: CPU, and GPU and custom_resource where there are any.

    In a cluster it blocks until the head has answered, as `nodes` does, and raises what that raises."""
    session = session_state.require("ray.cluster_resources")
    return amounts(_sum(session, [state.total for state in _members(session)]) or session.stock)


def available_resources() -> dict[str, float]:
    """The part of `cluster_resources` that nothing uses at this moment; of other nodes, as they last said.

    In a cluster it blocks until the head has answered, as `nodes` does, and raises what that raises."""
    session = session_state.require("ray.available_resources")
    members = _members(session)
    total = _sum(session, [state.total for state in members]) or session.stock
    free = amounts(_sum(session, [state.free for state in members]) or free_of(session.arena))
    return {name: free.get(name, 0.0) for name in amounts(total)}


def nodes() -> list[dict[str, Any]]:
    """All nodes, the caller's first: dicts with `node_id`, `node_ip_address`, `alive` and `resources`.

    The ids are those that `ray status` shows; the node of a script's own session has none. In a cluster it
    blocks until the head has answered, some ten milliseconds; nodes that have died or left are not listed.
    Raises RayConnectionError when the head does not answer in two seconds."""
    session = session_state.require("ray.nodes")
    record = {**session.info, **json.loads(session.arena.session() or b"{}")}
    own = record.get("node_id", "")
    found = [
        {
            "node_id": state.node_id.hex(),
            "node_ip_address": state.address.rpartition(":")[0].strip("[]"),
            "alive": True,
            "resources": amounts(_sum(session, [state.total]) or session.stock),
        }
        for state in _members(session)
    ]
    here = {
        "node_id": own,
        "node_ip_address": record["node_ip_address"],
        "alive": not session.arena.is_shut,
        "resources": amounts(session.stock),
    }
    return [here, *(node for node in found if node["node_id"] != own)]


def _members(session: Current) -> "list[NodeState]":
    """The nodes of a cluster, as its head sees them; none of a script's own session."""
    if not session.in_cluster:
        return []
    from ray.session.head_link import ask_nodes
    from ray.session.record import SessionRecord

    return ask_nodes(SessionRecord.load(session.arena.session()))


def _sum(session: Current, parts: "list[Resources]") -> Demand | None:
    """None of nothing."""
    if not parts:
        return None
    cpu, gpu, custom = (sum(getattr(part, kind) for part in parts) for kind in ("cpu", "gpu", "custom"))
    return Demand(cpu, gpu, custom, session.stock.custom_name)


def timeline(filename: str | os.PathLike[str] | None = None) -> list[dict[str, Any]]:
    """What ran when, in which worker: a trace in the format that Perfetto and chrome://tracing open.

    Returns the events; with a filename it writes them there as JSON, too.  The last 4,096 tasks of each
    worker are known.
    """
    session = session_state.require("ray.timeline")
    from ray.observe.timeline import trace

    try:
        events = trace(session.arena)
    except KernelError as error:
        raise translated(error, "ray.timeline") from None
    if filename is not None:
        with open(filename, "w", encoding="utf-8") as file:
            json.dump(events, file)
    return events


def _check_ids(object_ids: list[Any], call: str) -> None:
    for index, oid in enumerate(object_ids):
        if type(oid) is not ObjectID:
            raise ArgumentTypeError(
                f"{call} takes ObjectIDs; at position {index} of the list is {_described(oid)}."
            )


def _described(value: object) -> str:
    text = repr(value)
    return f"a {type(value).__name__}: {text if len(text) <= 80 else text[:77] + '...'}"
