"""Every message of a link, and how messages become bytes.

A message is a list in MessagePack: the number of its kind, then its fields in the order written here. What
may change in which release:

- A patch release may add fields, each with a default, at the end of a message; older ones pass over what they
  don't know. Nothing else.
- Everything else (a new kind, another meaning, another bound) is a new `PROTOCOL`. Two nodes of different
  numbers refuse each other before anything else is said: kind 0 with number and release as its first two
  fields stays as it is for ever.

Every length has a bound here or in the frame around it. Amounts of resources are whole ten-thousandths.
"""

from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta, Struct

PROTOCOL = 1

MAX_FRAME_BYTES = 16 << 20  # also the bound of one message, and so of any list in one
SMALL_VALUE_BYTES = (
    64 << 10
)  # a value up to this size travels in a message, a larger one by a bulk connection
MAX_TEXT = 1024
MAX_FOLDERS = 1024  # of a sys.path
MAX_NAMES = 1024  # of custom resources

NodeId = Annotated[bytes, Meta(min_length=20, max_length=20)]
ObjectId = Annotated[bytes, Meta(min_length=20, max_length=20)]
TaskId = Annotated[bytes, Meta(min_length=16, max_length=16)]
Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Small = Annotated[int, Meta(ge=0, le=(1 << 31) - 1)]
Format = Annotated[int, Meta(ge=0, le=255)]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Name = Annotated[str, Meta(max_length=256)]
SmallValue = Annotated[bytes, Meta(max_length=SMALL_VALUE_BYTES)]
Counted = tuple[ObjectId, Count]  # an id, and how many times


class Part(Struct, array_like=True, frozen=True):
    """What messages are made of. Field by field, like a message, and open at its end like one."""


class Message(Struct, array_like=True, frozen=True):
    """The root of all kinds."""


class Resources(Part, frozen=True):
    """Amounts, in ten-thousandths; `custom` is what `num_custom_resource` counts, `named` the others by
    name."""

    cpu: Count = 0
    gpu: Count = 0
    custom: Count = 0
    named: Annotated[dict[Name, Count], Meta(max_length=MAX_NAMES)] = {}


class Ref(Part, frozen=True):
    """An object and the node that owns it."""

    id: ObjectId
    owner: NodeId


# --- who is there ---------------------------------------------------------------------------------


class Opening(Message, frozen=True, tag=0):
    """The part of `Hello` that any release understands."""

    protocol: Small
    release: Name


class Hello(Opening, frozen=True, tag=0):
    """The first message of each side.

    `cluster` is the cluster's id, `address` where this node listens ("" when nowhere, as a driver's),
    `node_id` new for each incarnation.
    """

    node_id: NodeId
    cluster: Annotated[bytes, Meta(max_length=64)]
    address: Name
    is_head: bool
    resources: Resources


class Sync(Message, frozen=True, tag=1):
    """What the sender has of the receiver: the first that each says on a new link; in parts, the last of
    which says so.

    `noted` are ids that the receiver has lent to it, or results that the receiver has stored for it, and how
    many times; `tasks` those of the receiver's that are not done there; `jobs` the sender's own drivers, by
    their root ids.
    """

    noted: list[Counted]
    tasks: list[TaskId]
    jobs: list[ObjectId]
    last: bool


class Ping(Message, frozen=True, tag=2):
    """Asks for a `Pong` with the same number."""

    number: Count


class Pong(Message, frozen=True, tag=3):
    """The answer to a `Ping`."""

    number: Count


class Bye(Message, frozen=True, tag=4):
    """The last message of a side that closes the link, and why."""

    reason: Text


# --- tasks ----------------------------------------------------------------------------------------


class Task(Part, frozen=True):
    """A task that runs at the receiver. `job`, a root id, and `job_home`, that driver's node, say whose it
    is."""

    id: TaskId
    job: ObjectId
    job_home: NodeId
    function: Ref | None
    payload: bytes
    deps: list[Ref]
    nested: list[Ref]
    num_returns: Small
    needs: Resources
    attempt: Small
    retries: Annotated[int, Meta(ge=-1, le=(1 << 31) - 1)]  # attempts left; -1: without end
    actor: Ref | None = None  # of a call; `retries` is its method's number then
    after: TaskId | None = None  # the call of the same caller that it comes after, unless that is done
    interval: Small | None = (
        None  # of an actor that the receiver is to create: calls between checkpoints, 0: none
    )


class Run(Message, frozen=True, tag=10):
    """Tasks for the receiver."""

    tasks: list[Task]


class Result(Part, frozen=True):
    """The value of an object; without `data` it is one that the sender has stored, to be fetched from there.

    `nested` ids are lent to the receiver. `failed`: it is a failure that belongs into the journal of the
    task's owner.
    """

    id: ObjectId
    format: Format
    data: SmallValue | None
    size: Count
    nested: list[Ref]
    failed: bool = False


class Results(Message, frozen=True, tag=11):
    """What tasks of the receiver returned."""

    results: list[Result]


class Kill(Message, frozen=True, tag=12):
    """Actors of the receiver that are to end, as `ray.kill` said."""

    actors: list[ObjectId]


class Killed(Message, frozen=True, tag=13):
    """The receiver's `Kill` of these was heard."""

    actors: list[ObjectId]


# --- references -----------------------------------------------------------------------------------


class Return(Message, frozen=True, tag=20):
    """Gives ids that the receiver lent back to it, each so many times."""

    counts: list[Counted]


class Borrow(Message, frozen=True, tag=21):
    """The sender has these objects of the receiver from a third node."""

    ids: list[ObjectId]


class Lent(Message, frozen=True, tag=22):
    """The receiver's borrow of these is entered."""

    ids: list[ObjectId]


# --- values ---------------------------------------------------------------------------------------


class Want(Message, frozen=True, tag=30):
    """The sender waits for the values of these objects of the receiver."""

    ids: list[ObjectId]


class Values(Message, frozen=True, tag=31):
    """Values that were wanted."""

    values: list[Result]


class Elsewhere(Message, frozen=True, tag=32):
    """Wanted values that other nodes have: whoever wants them is to ask there."""

    places: list[tuple[ObjectId, NodeId]]


# --- jobs -----------------------------------------------------------------------------------------


class Job(Message, frozen=True, tag=40):
    """A driver at node `home`: its tasks may come; or, if `ended`, its tasks are to stop."""

    root_id: ObjectId
    home: NodeId
    sys_path: Annotated[list[Annotated[str, Meta(max_length=4096)]], Meta(max_length=MAX_FOLDERS)]
    ended: bool


class JobNote(Message, frozen=True, tag=41):
    """Something for the driver itself: a failure or printed output, in the given format."""

    root_id: ObjectId
    kind: Format
    format: Format
    data: SmallValue


# --- the cluster ----------------------------------------------------------------------------------


class Demand(Part, frozen=True):
    """Tasks that wait, of one shape."""

    needs: Resources
    ready: Count


class Load(Message, frozen=True, tag=50):
    """A node's state, for the head; a later `number` replaces an earlier one."""

    number: Count
    total: Resources
    free: Resources
    demands: list[Demand]
    store_bytes: Count
    store_used_bytes: Count
    draining: bool = False


class NodeState(Part, frozen=True):
    """One node, as the head sees it."""

    node_id: NodeId
    address: Name
    total: Resources
    free: Resources
    ready: Count  # tasks that wait there
    draining: bool = False
    is_head: bool = False


class View(Message, frozen=True, tag=51):
    """All nodes, for all nodes; a later `number` replaces an earlier one."""

    number: Count
    nodes: list[NodeState]


AnyMessage = (
    Hello
    | Sync
    | Ping
    | Pong
    | Bye
    | Run
    | Results
    | Return
    | Borrow
    | Lent
    | Want
    | Values
    | Elsewhere
    | Job
    | JobNote
    | Load
    | View
    | Kill
    | Killed
)

DamagedMessageError = msgspec.DecodeError  # of which msgspec's ValidationError is one

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[AnyMessage])
_opening_decoder = msgspec.msgpack.Decoder(Annotated[list[Opening], Meta(min_length=1, max_length=1)])


def append(message: Message, to: bytearray) -> None:
    """Adds the message's bytes at the end. Raises TypeError for what MessagePack has no form for."""
    _encoder.encode_into(message, to, -1)


def decode(body: bytes | memoryview) -> list[Message]:
    """The messages in a frame. Raises DamagedMessageError when anything in it is not as written above."""
    return cast("list[Message]", _decoder.decode(body))


def decode_opening(body: bytes | memoryview) -> Opening:
    """Version and release in the first frame of a link, of whatever release. Raises DamagedMessageError."""
    opening: Any = _opening_decoder.decode(body)
    return cast("Opening", opening[0])
