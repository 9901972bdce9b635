"""`ray drain`."""

import asyncio

import click

from ray.errors import InitError, RayConnectionError, RaySystemError
from ray.session.found import find_sessions
from ray.session.head_link import HeadLink, Left
from ray.session.record import SessionRecord
from ray.wire.messages import NodeState

TIMEOUT_S = 60.0
PATIENCE_S = 5.0  # longer than the node may take: for the head to hear of it


@click.command(short_help="Have a node leave its cluster in good order.")
@click.argument("node", required=False, metavar="[NODE]")
@click.option("--self", "this_node", is_flag=True, help="The node of this user on this machine.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, 1e6),
    default=TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="The node leaves then, whatever is left.",
)
@click.option("--address", metavar="HOST:PORT", help="Of the cluster, where this machine has several.")
def drain(node: str | None, this_node: bool, timeout_s: float, address: str | None) -> None:
    """Have NODE leave in good order: its address as `ray status` shows it, or the beginning of its id.

    It takes no new work, finishes what it has begun, and hands over what others need of it; then it ends.
    Drivers that have joined it are told. To be called on any machine of the cluster where this user runs a
    node."""
    if this_node == (node is not None):
        raise InitError("Say which node is to leave: its address or id as `ray status` shows it, or --self.")
    record = _own(address, this_node)
    found, left = asyncio.run(_drain(record, node, int(timeout_s * 1000)))
    name = _name(found)
    if not left.has_left:
        raise RaySystemError(
            f"The node {name} has not left within {left.time_s:.0f} s, though it should have after "
            f"{timeout_s:g}. Its log says why; `ray stop` there ends it at once."
        )
    click.echo(f"The node {name} has left after {left.time_s:.1f} s.")
    if left.time_s >= timeout_s:
        click.echo("Its time was over: what it had not finished runs again elsewhere, or fails.")


def _own(address: str | None, this_node: bool) -> SessionRecord:
    """Of this user's nodes here the one meant, or one of the cluster meant."""
    records = [each.record for each in find_sessions() if each.record.is_standalone]
    records = [each for each in records if address in (None, each.redis_address)]
    if this_node:
        records = [each for each in records if each.role == "node"]
    clusters = {each.redis_address for each in records}
    if not records:
        what = "node that has joined a cluster" if this_node else "node of a cluster"
        raise RayConnectionError(
            f"This user runs no {what}{f' at {address}' if address else ''} on this machine. "
            "A head does not leave: `ray stop` ends it, and its cluster with it."
        )
    if len(clusters) > 1:
        raise InitError(f"This machine has several clusters, {', '.join(sorted(clusters))}: give --address.")
    if this_node and len(records) > 1:
        places = ", ".join(each.link_address for each in records)
        raise InitError(f"This machine has several nodes, {places}: name one of them in place of --self.")
    return records[0]


async def _drain(record: SessionRecord, named: str | None, timeout_ms: int) -> tuple[NodeState, Left]:
    async with HeadLink(record) as head:
        nodes = await head.nodes()
        wanted = record.node_id if named is None else named
        found = [each for each in nodes if _is_named(each, wanted)]
        if len(found) != 1:
            known = ", ".join(_name(each) for each in nodes)
            several = "several nodes" if found else "no node"
            raise InitError(f"{wanted!r} names {several} of this cluster. Its nodes are: {known}.")
        if found[0].is_head:
            raise InitError(
                "That is the head, which can't leave its cluster: `ray stop` ends it, and the cluster."
            )
        click.echo(f"The node {_name(found[0])} is to leave within {timeout_ms / 1000:g} s.")
        return found[0], await head.drain(found[0], timeout_ms, PATIENCE_S)


def _is_named(node: NodeState, name: str) -> bool:
    host = node.address.rpartition(":")[0]
    return name in (node.address, host, host.strip("[]")) or node.node_id.hex().startswith(name.lower())


def _name(node: NodeState) -> str:
    return f"{node.node_id.hex()[:12]} at {node.address}"
