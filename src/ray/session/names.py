"""Names that more than one process must agree on."""

# Every process of a session, and whatever its tasks start, inherits this variable. It finds those
# that have left the family tree when the subreaper itself was killed.
SESSION_VARIABLE = "RAY_SESSION"


def socket_name(uid: int, port: int, node_port: int = 0) -> str:
    """The keeper's listening socket, as tools show it: `@` stands for the zero byte of an abstract name.

    `port` is that of the control store; of a node that has joined another one's, `node_port` is its own."""
    return f"@ray-{uid}-{port}-{node_port}" if node_port else f"@ray-{uid}-{port}"


def parts_of(name: str) -> tuple[int, int, int] | None:
    """User id, port and node's port in such a name; None for any other."""
    start, *numbers = name.split("-")
    if start != "@ray" or len(numbers) not in (2, 3) or not all(number.isdigit() for number in numbers):
        return None
    uid, port, node_port = (int(number) for number in (*numbers, "0")[:3])
    return uid, port, node_port
