"""`ray status`."""

import asyncio
import datetime
import json
import time
from typing import Any

import click

from ray import _kernel
from ray.core.resources import amounts, free_of, stock_of
from ray.errors import RayConnectionError
from ray.session.found import Found, find_sessions
from ray.session.head_link import nodes_of
from ray.session.record import SessionRecord
from ray.wire.messages import NodeState

GIB = 1 << 30


@click.command(short_help="Show this user's sessions on this machine.")
@click.option("--json", "as_json", is_flag=True, help="For programs: a list with one object a session.")
def status(as_json: bool) -> None:
    """Show what runs in the sessions of this user on this machine: resources, tasks, memory, drivers."""
    found = [_described(each) for each in find_sessions()]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    if not found:
        click.echo("No session of this user runs on this machine. `ray start --head` starts one.")
    for each in found:
        _show(each)


def _described(found: Found) -> dict[str, Any]:
    record, arena = found.record, found.arena
    stats = arena.stats()
    stock, free = amounts(stock_of(arena)), amounts(free_of(arena))
    return {
        "redis_address": record.redis_address,
        "role": record.role,
        "node_id": record.node_id,
        "link_address": record.link_address,
        "started_by": "ray start" if found.record.is_standalone else f"process {record.driver_pid}",
        "start_time_s": record.start_time_s,
        "keeper": record.keeper_pid,
        "resources": {
            name: {"total": total, "used": total - free.get(name, 0.0)} for name, total in stock.items()
        },
        "workers": stats["workers"],
        "idle_workers": stats["idle_workers"],
        "running_tasks": stats["running_tasks"],
        "ready_tasks": stats["ready_tasks"],
        "tasks_done": stats["tasks_done"],
        "actors": stats["actors"],
        "objects": stats["objects"],
        "store_used_bytes": stats["heap_used_bytes"],
        "store_capacity_bytes": stats["heap_capacity_bytes"],
        "spilled_bytes": stats["spill_file_used_bytes"],
        "drivers": [pid for pid, _, kind, _, _ in arena.processes() if kind == _kernel.DRIVER],
        "logs": record.logs,
        "token_file": record.token_file,
        "leaves_in_s": _leaves_in_s(record),
        "nodes": _nodes(record),
    }


def _leaves_in_s(record: SessionRecord) -> float | None:
    """Of a node that is being drained."""
    return None if record.leaves_by_ms is None else record.leaves_by_ms / 1000 - time.monotonic()


def _nodes(record: SessionRecord) -> list[dict[str, Any]] | None:
    """Of the cluster, the head first; None when its head does not say."""
    if not record.is_standalone:
        return []
    try:
        return [_node(state) for state in asyncio.run(nodes_of(record))]
    except (RayConnectionError, TimeoutError):
        return None


def _node(state: NodeState) -> dict[str, Any]:
    return {
        "node_id": state.node_id.hex(),
        "address": state.address,
        "is_head": state.is_head,
        "cpus": state.total.cpu / _kernel.UNIT,
        "free_cpus": state.free.cpu / _kernel.UNIT,
        "ready_tasks": state.ready,
        "is_draining": state.draining,
    }


def _show(session: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    since = datetime.datetime.fromtimestamp(session["start_time_s"]).astimezone()
    place = f"Session at {session['redis_address']}"
    if session["role"] == "node":
        place = f"Node {session['link_address']} of the session at {session['redis_address']}"
    table = Table(
        title=place,
        caption=f"started by {session['started_by']}, {since:%Y-%m-%d %H:%M:%S}",
        show_header=False,
        title_justify="left",
        caption_justify="left",
    )
    for name, amount in session["resources"].items():
        table.add_row(name, f"{amount['used']:g} of {amount['total']:g} in use")
    table.add_row(
        "tasks", "{running_tasks:,} running, {ready_tasks:,} ready, {tasks_done:,} done".format(**session)
    )
    table.add_row("workers", "{workers:,}, of them {idle_workers:,} idle".format(**session))
    table.add_row("actors", f"{session['actors']:,}")
    used, capacity = session["store_used_bytes"] / GIB, session["store_capacity_bytes"] / GIB
    table.add_row("object store", f"{used:.2f} of {capacity:.2f} GiB in use, {session['objects']:,} objects")
    if session["spilled_bytes"]:
        table.add_row("spilled to disk", f"{session['spilled_bytes'] / GIB:.2f} GiB")
    table.add_row("drivers", ", ".join(map(str, session["drivers"])) or "none")
    table.add_row("keeper", f"process {session['keeper']}, which all the others end with")
    if session["node_id"]:
        table.add_row(
            "node", f"{session['role']} {session['node_id'][:12]}, linked at {session['link_address']}"
        )
    if session["leaves_in_s"] is not None:
        table.add_row("draining", f"leaves within {max(0.0, session['leaves_in_s']):.0f} s")
    if session["nodes"] is None:
        table.add_row("cluster", "its head can't be reached")
    for node in session["nodes"] or []:
        table.add_row("head" if node["is_head"] else "", _line(node))
    if session["logs"]:
        table.add_row("logs", session["logs"])
    if session["token_file"]:
        table.add_row("token", session["token_file"])
    Console().print(table)


def _line(node: dict[str, Any]) -> str:
    line = f"{node['node_id'][:12]} at {node['address']}: {node['free_cpus']:g} of {node['cpus']:g} CPUs free"
    return f"{line}, draining" if node["is_draining"] else line
