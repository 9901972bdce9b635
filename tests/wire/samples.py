"""One message of each kind, with something in every field."""

from ray.wire import messages
from ray.wire.messages import (
    Borrow,
    Bye,
    Demand,
    Elsewhere,
    Hello,
    Job,
    JobNote,
    Kill,
    Killed,
    Lent,
    Load,
    Message,
    NodeState,
    Ping,
    Pong,
    Ref,
    Resources,
    Result,
    Results,
    Return,
    Run,
    Sync,
    Task,
    Values,
    View,
    Want,
)

NODE, OBJECT, TASK = b"n" * 20, b"o" * 20, b"t" * 16
REF = Ref(OBJECT, NODE)
NEEDS = Resources(10_000, 5_000, 0, {"disk": 20_000})
RESULT = Result(OBJECT, 0, b"value", 5, [REF])

SAMPLES: list[Message] = [
    Hello(messages.PROTOCOL, "0.2.0", NODE, b"cluster", "head:6379", True, NEEDS),
    Sync([(OBJECT, 2)], [TASK], [OBJECT], True),
    Ping(1),
    Pong(1 << 62),
    Bye("draining"),
    Run([Task(TASK, OBJECT, NODE, REF, b"payload", [REF], [REF, REF], 1, NEEDS, 0, -1)]),
    Run([Task(TASK, OBJECT, NODE, None, b"", [], [], 0, Resources(), 3, 2)]),
    Run([Task(TASK, OBJECT, NODE, None, b"", [], [], 1, Resources(), 0, 2, REF, TASK)]),
    Run([Task(TASK, OBJECT, NODE, REF, b"", [], [], 0, NEEDS, 0, 0, interval=10)]),
    Kill([OBJECT]),
    Killed([OBJECT]),
    Results([RESULT, Result(OBJECT, 1, None, 1 << 40, [], True)]),
    Return([(OBJECT, 1), (NODE, 300)]),
    Borrow([OBJECT]),
    Lent([OBJECT]),
    Want([OBJECT]),
    Values([RESULT]),
    Elsewhere([(OBJECT, NODE)]),
    Job(OBJECT, NODE, ["/home/u", ""], False),
    JobNote(OBJECT, 1, 100, b"failure"),
    Load(4, NEEDS, Resources(), [Demand(NEEDS, 20_000)], 1 << 34, 1 << 20),
    View(5, [NodeState(NODE, "head:6379", NEEDS, NEEDS, 0, True, True)]),
]
