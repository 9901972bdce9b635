"""`ray stop`."""

import click

from ray.errors import RayConnectionError
from ray.session.found import Found, end_standalone, find_sessions


@click.command(short_help="End sessions that `ray start` has started.")
@click.option(
    "--address",
    metavar="HOST:PORT",
    help="Only the session there, with its nodes on this machine.  [default: all of this user]",
)
def stop(address: str | None) -> None:
    """End what `ray start` has started for this user on this machine, and say what that was.

    Sessions that a script has started end with their script; they, and those of other users, are left alone.
    """
    found = find_sessions()
    chosen = [
        each for each in found if each.record.is_standalone and address in (None, each.record.redis_address)
    ]
    if address and not chosen:
        raise RayConnectionError.nobody_listens(address, _why_not(address, found))
    if not chosen:
        click.echo("Nothing to end: no session of this user was started by `ray start`.")
    for each in sorted(
        chosen, key=lambda each: each.record.role == "head"
    ):  # what has joined it goes before it
        ended = end_standalone(each)
        names = ", ".join(f"{name} {pid}" for pid, name in ended)
        record = each.record
        node = f"the node {record.link_address} of " if record.role == "node" else ""
        click.echo(f"Ended {node}the session at {record.redis_address}, {len(ended)} processes: {names}.")
    for each in found:
        if not each.record.is_standalone and address is None:
            click.echo(
                f"Left alone: the session at {each.record.redis_address}, which ends with the script that "
                f"started it (process {each.record.driver_pid})."
            )


def _why_not(address: str, found: list[Found]) -> str:
    for each in found:
        if each.record.redis_address == address:
            return (
                f"the session there ends with the script that started it (process {each.record.driver_pid})"
            )
    known = ", ".join(  # a head and its nodes are one session
        sorted({each.record.redis_address for each in found if each.record.is_standalone})
    )
    return (
        f"this user's sessions are at {known}" if known else "this user has none that `ray start` has started"
    )
