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

PROTOCOL = 2

MAX_FRAME_BYTES = 16 << 20  # also the bound of one message, and so of any list in one
SMALL_VALUE_BYTES = (
    64 << 10
)  # a value up to this size travels in a message, a larger one by a bulk connection
MAX_TEXT = 1024
MAX_FOLDERS = 1024  # of a sys.path
MAX_NAMES = 1024  # of custom resources
MAX_DEAD = 1000  # nodes that are named as dead
MAX_RETURNS = 65_536  # of one task, as `ray.core.options` has it: there is a record for each

NodeId = Annotated[bytes, Meta(min_length=20, max_length=20)]
ObjectId = Annotated[bytes, Meta(min_length=20, max_length=20)]
TaskId = Annotated[bytes, Meta(min_length=16, max_length=16)]
Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Small = Annotated[int, Meta(ge=0, le=(1 << 31) - 1)]
Turn = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]  # goes round; 0: none
Format = Annotated[int, Meta(ge=0, le=255)]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Name = Annotated[str, Meta(max_length=256)]
Path = Annotated[str, Meta(max_length=4096)]
SmallValue = Annotated[bytes, Meta(max_length=SMALL_VALUE_BYTES)]
Counted = tuple[ObjectId, Small]  # an id, and how many times


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
    num_returns: Annotated[int, Meta(ge=0, le=MAX_RETURNS)]
    needs: Resources
    attempt: Small
    retries: Small  # attempts left
    actor: Ref | None = None  # of a call; `retries` is its method's number then
    after: TaskId | None = None  # the call of the same caller that it comes after, unless that is done
    interval: Small | None = (
        None  # of an actor that the receiver is to create: calls between checkpoints, 0: none
    )
    # Of a call: the receiver may know its results already, since they are its own, or since it runs again.
    around: bool = False
    checkpoint: Ref | None = None  # of an actor that has been elsewhere: its state, behind this turn
    turn: Turn = 0


class Run(Message, frozen=True, tag=10):
    """Tasks for the receiver."""

    tasks: list[Task]


class Result(Part, frozen=True):
    """The value of an object; without `data` it is one that the sender has stored, to be fetched from there.

    `nested` ids are lent to the receiver. `failed`: it is a failure that belongs into the journal of the
    task's owner. `sources`: nodes that have it stored, if not the sender alone. `turn`: of a call to
    an actor with checkpoints, its number in the order in which the sender has executed them.
    """

    id: ObjectId
    format: Format
    data: SmallValue | None
    size: Count
    nested: list[Ref]
    failed: bool = False
    sources: list[NodeId] = []
    turn: Turn = 0


class Results(Message, frozen=True, tag=11):
    """What tasks of the receiver returned."""

    results: list[Result]


class Kill(Message, frozen=True, tag=12):
    """Actors of the receiver that are to end, as `ray.kill` said."""

    actors: list[ObjectId]


class Killed(Message, frozen=True, tag=13):
    """The receiver's `Kill` of these was heard."""

    actors: list[ObjectId]


class Checkpoint(Message, frozen=True, tag=14):
    """An actor of the receiver's that the sender serves can go on from this value, an object of the sender's
    lent to the receiver, without the calls up to this turn. Their results were sent before."""

    actor: ObjectId
    turn: Turn
    value: ObjectId
    data: Result | None  # the value itself, if it is small
    is_last: bool = (
        False  # the sender serves the actor no more: what it was not called yet it is not called there
    )


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


class Have(Message, frozen=True, tag=33):
    """The sender has got these values, for which the receiver had named sources, and is a source itself."""

    ids: list[ObjectId]


class AskCopies(Message, frozen=True, tag=34):
    """A node is dead that has owned these: of which does the receiver have a value?"""

    owner: NodeId
    ids: list[ObjectId]


class Copies(Message, frozen=True, tag=35):
    """The answer to each `AskCopies`: of these, which are lent by it."""

    owner: NodeId
    ids: list[ObjectId]


# --- jobs -----------------------------------------------------------------------------------------


class Code(Part, frozen=True):
    """The top-level modules in a script's folder, and where on which machine that is."""

    folder: Path
    place: Name
    names: Annotated[list[Name], Meta(max_length=MAX_NAMES)]


class Job(Message, frozen=True, tag=40):
    """A driver at node `home`: its tasks may come; or, if `ended`, its tasks are to stop."""

    root_id: ObjectId
    home: NodeId
    sys_path: Annotated[list[Path], Meta(max_length=MAX_FOLDERS)]
    ended: bool
    code: Code | None = None


class JobNote(Message, frozen=True, tag=41):
    """For the driver itself, at the receiver: a failure in the given format, or printed output.

    `kind` names one of the sender's streams for that driver: 0 are failures, 1 and 2 what goes to standard
    output and error. `end` is the place in it after this note, `start` the one before; where the two are
    further apart than `data` is long, something was left out, and `data` says so.
    """

    root_id: ObjectId
    kind: Format
    start: Count
    end: Count
    format: Format
    data: SmallValue


class JobNoted(Message, frozen=True, tag=42):
    """The driver's node has entered what that stream of the receiver has up to this place."""

    root_id: ObjectId
    kind: Format
    place: Count


class CodeWanted(Message, frozen=True, tag=43):
    """A task of this driver of the receiver's imports one of its script's modules."""

    root_id: ObjectId


class CodeGiven(Message, frozen=True, tag=44):
    """They are this value of the sender, by a bulk connection, and have this digest when unpacked; or they
    can't be had, for that reason."""

    root_id: ObjectId
    object: ObjectId | None
    size: Count
    digest: Name
    left_out: Annotated[list[Path], Meta(max_length=16)]
    reason: Text


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
    dead: Annotated[list[NodeId], Meta(max_length=MAX_DEAD)] = []  # the first to a head says whom it knows


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
    """All nodes, for all nodes; or, with `since`, what is another than in the view of that number.

    `dead` are those that were declared dead last, for who has not heard it. A view of `number` 0 says only
    that; to a head, `nodes` are those that the sender takes for members and misses in the head's view. Not
    `loads`: only who is new is told, and what has changed of the others is not.
    """

    number: Count
    nodes: list[NodeState]
    dead: Annotated[list[NodeId], Meta(max_length=MAX_DEAD)] = []
    since: Count = 0
    loads: bool = True


# --- who lives ------------------------------------------------------------------------------------


class Inquiry(Message, frozen=True, tag=60):
    """From the head: when has the receiver heard of this node last?"""

    about: NodeId


class Sighting(Message, frozen=True, tag=61):
    """The answer: something came from it so long ago; None: the sender has no link to it."""

    about: NodeId
    silent_ms: Count | None


class Renew(Message, frozen=True, tag=62):
    """A node that does not reach the head says that it lives; to any node, which passes it on to the head."""

    node: NodeId
    number: Count


class Renewed(Message, frozen=True, tag=63):
    """The head's answer, back the same way: it counts that node as a member."""

    node: NodeId
    number: Count


class Help(Message, frozen=True, tag=64):
    """The answer of who was asked to pass a `Renew` on: whether the head answers it itself."""

    can_renew: bool


# --- a node that leaves ---------------------------------------------------------------------------


class Drain(Message, frozen=True, tag=70):
    """The node is to leave in good order, within so many milliseconds. From an operator, to the head; from
    it, to the node."""

    node_id: NodeId
    timeout_ms: Count


class Untaken(Message, frozen=True, tag=71):
    """Tasks of the receiver that the sender has not begun, and won't."""

    tasks: list[TaskId]


class Offer(Message, frozen=True, tag=72):
    """The sender leaves: the receiver is to take the values of these objects that it has of the sender."""

    ids: list[ObjectId]


class Taken(Message, frozen=True, tag=73):
    """The sender has them, or has no use for them."""

    ids: list[ObjectId]


class Leaving(Message, frozen=True, tag=74):
    """To the head: the sender has nothing more that others need, and ends."""


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
    | Have
    | Job
    | JobNote
    | JobNoted
    | CodeWanted
    | CodeGiven
    | Load
    | View
    | Drain
    | Untaken
    | Offer
    | Taken
    | Leaving
    | Inquiry
    | Sighting
    | Renew
    | Renewed
    | Help
    | Kill
    | Killed
    | Checkpoint
    | AskCopies
    | Copies
)

Packed = msgspec.Raw  # a message in its bytes

DamagedMessageError = msgspec.DecodeError  # of which msgspec's ValidationError is one

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[AnyMessage])
_opening_decoder = msgspec.msgpack.Decoder(Annotated[list[Opening], Meta(min_length=1, max_length=1)])


def append(message: Message | Packed, to: bytearray) -> None:
    """Adds the message's bytes at the end. Raises TypeError for what MessagePack has no form for."""
    _encoder.encode_into(message, to, -1)


def pack(message: Message) -> Packed:
    """The same message, for many links: it is not encoded again. Raises TypeError as `append` does."""
    return Packed(_encoder.encode(message))


def decode(body: bytes | memoryview) -> list[Message]:
    """The messages in a frame. Raises DamagedMessageError when anything in it is not as written above."""
    return cast("list[Message]", _decoder.decode(body))


def decode_opening(body: bytes | memoryview) -> Opening:
    """Version and release in the first frame of a link, of whatever release. Raises DamagedMessageError."""
    opening: Any = _opening_decoder.decode(body)
    return cast("Opening", opening[0])
