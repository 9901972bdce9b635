"""Names that more than one process must agree on."""

# Every process of a session, and whatever its tasks start, inherits this variable. It finds those
# that have left the family tree when the subreaper itself was killed.
SESSION_VARIABLE = "RAY_SESSION"


def socket_name(uid: int, port: int) -> str:
    """The keeper's listening socket, as tools show it: `@` stands for the zero byte of an abstract name."""
    return f"@ray-{uid}-{port}"
