"""What the ends of ids say between nodes, and how ids are written with their owners.

A *ref* is an id with the peer that owns it (`THIS_NODE`: this node), on the wire with that node's id instead.
"""

Ref = tuple[bytes, int]

THIS_NODE = 0  # as the number of an owner
FIRST_RETURN = bytes(4)  # how the id of a task's first result ends
SERVED_INDEX = bytes((1, 0, 0, 0xC0))  # how the id of an actor ends where it is served for another node
AROUND = 0x40  # in the last byte of an id, of the result of a call that its actor's owner has sent back


def around(raw: bytes) -> bytes:
    """What the node that owns a result, and has executed the call, knows it by as the executor: the actor's
    owner, to whom it had sent the call, has sent it back."""
    return raw[:-1] + bytes((raw[-1] | AROUND,))


def as_owned(raw: bytes) -> bytes:
    """What its owner knows a result by, and all others do."""
    is_around = raw[-1] & 0xC0 == AROUND
    return raw[:-1] + bytes((raw[-1] & ~AROUND,)) if is_around else raw
