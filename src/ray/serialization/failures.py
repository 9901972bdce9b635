"""Failures of tasks to bytes and back.

The layout of format TASK_ERROR; only the last part needs unpickling, all others can be shown by
whoever cannot, or must not, run the user's code:

    u32 length of the details, u32 length of the text, u32 length of the cause
    the details, JSON in UTF-8: function, type, pid, node, attempt, chain, skipped
    the text: the traceback on the worker, UTF-8
    the cause: the exception, pickled; or nothing

All of it fits into `LIMITS.error_bytes`, however large the exception is.  A task whose argument is a
failure is not run: its own result is the same failure, with one more link on its `chain`.
"""

import dataclasses
import json
import os
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from ray import _kernel
from ray.config import LIMITS
from ray.errors import (
    ActorDiedError,
    ActorKilledError,
    ActorNodeDiedError,
    ActorOutOfMemoryError,
    JobEndedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayError,
    RaySystemError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.serialization.formats import OUT_OF_MEMORY, SYSTEM_FAILURE, TASK_ERROR
from ray.serialization.shortages import Stopped

if TYPE_CHECKING:
    from ray._kernel import View

_LENGTHS = struct.Struct("<III")
# The kernel's own; _kernel.pyi names the fields. When it comes from another node that one's name follows
# them: its length in a byte, and UTF-8.
_SYSTEM = struct.Struct("<iiiI20s")
_OF_PROCESSES = (_kernel.WORKER_DIED, _kernel.ACTOR_DIED, _kernel.TASK_STOPPED, _kernel.ACTOR_STOPPED)
_NAME_BYTES = 256  # of each name in the details


class FailureDescription(NamedTuple):
    """What is known of a failure without unpickling it."""

    function_name: str
    exception_type: str
    text: str
    pid: int
    node: str
    attempt: int
    chain: tuple[str, ...]


def encode_failure(
    error: BaseException,
    function_name: str,
    *,
    pid: int | None = None,
    node: str = "",
    attempt: int = 0,
    limit_bytes: int = LIMITS.error_bytes,
) -> tuple[bytes, int]:
    """Data and format of a task's failure: small, and sure to be readable.

    Never raises, whatever the exception's own methods do.  `pid` is this process's unless given.
    Ids inside the exception are known to the caller who calls it by `_kernel.collect`.
    """
    from ray.serialization.causes import pickle_cause
    from ray.serialization.tracebacks import type_name, user_traceback

    # What a nested `get` raised is passed on as what it stands for; the text tells the whole story.
    # By type: to ask a user's exception for its class may run his code.
    cause: BaseException | None = error
    kind = type_name(error)
    if issubclass(type(error), RayTaskError):
        known = RayTaskError.__getattribute__(error, "__dict__")
        cause, kind = known["cause"], known["exception_type"]
    details = {
        "function": _short(function_name),
        "type": _short(kind),
        "pid": os.getpid() if pid is None else pid,
        "node": _short(node),
        "attempt": attempt,
        "chain": [],
        "skipped": 0,
    }
    pickled = b"" if cause is None else pickle_cause(cause, limit_bytes // 2)
    return _assemble(details, user_traceback(error, limit_bytes), pickled, limit_bytes), TASK_ERROR


def forward_failure(
    fmt: int,
    data: "bytes | View | memoryview",
    function_name: str,
    argument: str | int,
    *,
    origin: str = "",
    limit_bytes: int = LIMITS.error_bytes,
) -> tuple[bytes, int]:
    """The failure of a task that could not run because its argument, by name or position, is a failure.

    `origin` names the failed task for a failure of the kernel's, which knows no names.
    """
    if own := _own_failure(fmt, data, origin):
        data, fmt = encode_failure(own, getattr(own, "function_name", origin), pid=0, limit_bytes=limit_bytes)
    parsed = _parse(fmt, data)
    if parsed is None:
        return encode_failure(_unreadable(fmt, data), origin, pid=0, limit_bytes=limit_bytes)
    details, text, pickled = parsed
    chain = [*details["chain"], [_short(function_name), _short(str(argument))]]
    if len(chain) > LIMITS.error_chain:
        del chain[LIMITS.error_chain // 2]
        details["skipped"] += 1
    details["chain"] = chain
    return _assemble(details, text, pickled, limit_bytes), fmt


def decode_failure(fmt: int, data: "bytes | View | memoryview", function_name: str = "") -> RayError:
    """The error to raise for a stored failure: where possible also of the type that the task raised.

    `function_name` is for failures of the kernel's, which knows no names.
    """
    from ray.serialization.dual import raisable

    if error := _own_failure(fmt, data, function_name):
        return error
    description, pickled = _describe(fmt, data)
    if description is None:
        return _unreadable(fmt, data)
    text = description.text
    cause = None
    if pickled:
        from ray.serialization.causes import unpickle_cause

        try:
            cause = unpickle_cause(pickled)
        except (Exception, SystemExit) as problem:  # its module may be missing here
            from ray.serialization.tracebacks import reason_of

            text += f"(The exception could not be rebuilt here: {reason_of(problem)})\n"
    return raisable(_task_error(description, text, cause))


def _task_error(found: FailureDescription, text: str, cause: BaseException | None) -> RayTaskError:
    name, kind, _, pid, node, attempt, chain = found
    return RayTaskError(name, text, kind, pid, node, attempt, cause, chain)


def _unreadable(fmt: int, data: "bytes | View | memoryview") -> RaySystemError:
    return RaySystemError(f"A task failed, but its failure (format {fmt}, {len(data)} bytes) cannot be read.")


def lost_object(raw: bytes, node: str = "") -> bytes:
    """The data of the kernel's own failure for an object that nobody has; `node` is where it was."""
    data = _SYSTEM.pack(_kernel.OBJECT_LOST, 0, 0, 0, raw)
    return data + _place(node) if node else data


def with_node(fmt: int, data: "bytes | View | memoryview", node: str) -> bytes:
    """The data of a failure as others are to have it: one that is about a process names its node.

    `node` is the one that it leaves, and has made it unless another is named already.
    """
    if fmt == SYSTEM_FAILURE and len(data) == _SYSTEM.size and _SYSTEM.unpack(data)[0] in _OF_PROCESSES:
        return b"".join((data, _place(node)))
    stopped = Stopped.decode(data) if fmt == OUT_OF_MEMORY else None
    if stopped is not None and not stopped.node:
        return dataclasses.replace(stopped, node=node).encode()
    return bytes(data)


def _place(node: str) -> bytes:
    """What names a node, behind the data of a failure of the kernel's."""
    name = node.encode()[:255]
    return bytes((len(name),)) + name


def describe_failure(
    fmt: int, data: "bytes | View | memoryview", function_name: str = ""
) -> FailureDescription:
    """What is known of a failure without unpickling anything."""
    error = _own_failure(fmt, data, function_name)
    if error is None:
        described = _describe(fmt, data)[0]
        if described is not None:
            return described
        error = _unreadable(fmt, data)
    # Which function and process it was about are attributes of those that know.
    name = getattr(error, "function_name", function_name)
    pid = getattr(error, "pid", 0)
    node = getattr(error, "node", "")
    return FailureDescription(name, type(error).__name__, str(error), pid, node, 0, ())


def failure_text(fmt: int, data: "bytes | View | memoryview", function_name: str = "") -> str:
    """What `str` of the error would say, without unpickling anything."""
    if error := _own_failure(fmt, data, function_name):
        return str(error)
    found = _describe(fmt, data)[0]
    return str(_unreadable(fmt, data) if found is None else _task_error(found, found.text, None))


def _own_failure(fmt: int, data: "bytes | View | memoryview", function_name: str) -> RayError | None:
    """The error for a failure that the kernel or the node manager has written; None for others."""
    if fmt == SYSTEM_FAILURE:
        return _system_failure(data, function_name)
    if fmt == OUT_OF_MEMORY:
        stopped = Stopped.decode(data)
        return stopped.error() if stopped else _unreadable(fmt, data)
    return None


def _system_failure(data: "bytes | View | memoryview", function_name: str) -> RayError:
    fields, place = memoryview(data)[: _SYSTEM.size], bytes(memoryview(data)[_SYSTEM.size :])
    if len(fields) != _SYSTEM.size or (place and place[0] != len(place) - 1):
        return _unreadable(SYSTEM_FAILURE, data)
    code, status, pid, attempt, named = _SYSTEM.unpack(fields)
    node = place[1:].decode("utf-8", "replace")
    if code == _kernel.WORKER_DIED:
        return WorkerCrashedError(function_name, status, pid, attempt + 1, node)
    if code == _kernel.ACTOR_DIED:
        return ActorDiedError(function_name, status, pid, node)
    if code == _kernel.ACTOR_NODE_DIED:
        return ActorNodeDiedError(function_name)
    if code == _kernel.ACTOR_KILLED:
        return ActorKilledError(function_name, pid)
    if code == _kernel.TASK_STOPPED:
        return OutOfMemoryError(function_name, pid, None, node)
    if code == _kernel.ACTOR_STOPPED:
        return ActorOutOfMemoryError(function_name, pid, None, node)
    if code == _kernel.NODE_DIED:
        return NodeDiedError(function_name, attempt + 1)
    if code == _kernel.JOB_ENDED:
        return JobEndedError(function_name)
    if code == _kernel.OBJECT_LOST:
        return ObjectLostError(named.hex(), node)
    return RaySystemError(f"{function_name or 'A task'} failed in the kernel with the unknown code {code}.")


def _assemble(details: dict[str, Any], text: str, pickled: bytes, limit_bytes: int) -> bytes:
    from ray.serialization.tracebacks import shorten

    head = json.dumps(details, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    room = limit_bytes - _LENGTHS.size - len(head) - len(pickled)
    body = shorten(text, max(room, 0)).encode("utf-8", "replace")
    return b"".join((_LENGTHS.pack(len(head), len(body), len(pickled)), head, body, pickled))


def _parse(fmt: int, data: "bytes | View | memoryview") -> tuple[dict[str, Any], str, bytes] | None:
    """Details, text and cause; None if these bytes are not a task's failure."""
    view = memoryview(data)
    if fmt != TASK_ERROR or view.nbytes < _LENGTHS.size:
        return None
    head, body, tail = _LENGTHS.unpack_from(view)
    begin = _LENGTHS.size + head
    end = begin + body
    if end + tail != view.nbytes:
        return None
    try:
        details = json.loads(bytes(view[_LENGTHS.size : begin]))
    except ValueError:
        return None
    return details, str(view[begin:end], "utf-8", "replace"), bytes(view[end:])


def _describe(fmt: int, data: "bytes | View | memoryview") -> tuple[FailureDescription | None, bytes]:
    parsed = _parse(fmt, data)
    if parsed is None:
        return None, b""
    details, text, pickled = parsed
    links = details["chain"]
    chain = [f"{name!r} was not run, because its argument {argument} failed." for name, argument in links]
    if details["skipped"]:
        chain.insert(LIMITS.error_chain // 2, f"... and {details['skipped']} tasks more ...")
    described = FailureDescription(
        details["function"],
        details["type"],
        text,
        details["pid"],
        details["node"],
        details["attempt"],
        tuple(chain),
    )
    return described, pickled


def _short(name: str) -> str:
    from ray.serialization.tracebacks import shorten

    return shorten(name, _NAME_BYTES).replace("\n", " ")
