"""A driver that ends, in each of the ways there are, while another one of the same session goes on."""

import signal
from collections.abc import Callable

from tests.api.programs import Programs, Running, wait_for

WAIT = """
while True:
    time.sleep(1)
"""
ENDS = {"kill": WAIT, "exit": "", "raise": "raise SystemExit(3)", "shutdown": "ray.shutdown()" + WAIT}
GONE_S = 10.0


def check_end_beside_another(
    programs: Programs,
    other: Running,
    begin: Callable[[str], Running],
    end: str,
    unused: Callable[[], bool | None],
    states: Callable[[], object],
) -> None:
    """`begin` starts the driver that ends, with that tail; `unused` is to come true of what it had.

    The other one, which says `here`, goes on until there is a file `release`, and then says `undisturbed`.
    """
    assert other.line() == "here"
    ending = begin(ENDS[end])
    assert ending.line() == "begun"
    if end == "kill":
        ending.send(signal.SIGKILL)
    if end != "shutdown":
        ending.finish()
    assert wait_for(unused, GONE_S), states()
    if end == "shutdown":
        ending.send(signal.SIGKILL)
        ending.finish()
    (programs.folder / "release").touch()
    done = other.finish()
    assert done.code == 0, done.both
    assert done.out.endswith("undisturbed\n")
