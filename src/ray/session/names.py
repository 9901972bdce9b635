"""Names that more than one process must agree on."""


def socket_name(uid: int, port: int) -> str:
    """The keeper's listening socket, as tools show it: `@` stands for the zero byte of an abstract name."""
    return f"@ray-{uid}-{port}"
