"""`ray start`."""

import contextlib
import json
import os
import secrets
import shlex
import signal
from typing import Any

import click

from ray.control_store import fitness
from ray.control_store.hold import Holder
from ray.control_store.url import URL_VARIABLE, StoreUrl
from ray.errors import InitError, RayConnectionError, RaySystemError
from ray.session import tokens
from ray.session.addresses import Address
from ray.session.launch import KeeperHandle
from ray.session.options import SessionOptions
from ray.session.ports import ANY_PORT, DEFAULT_PORT, is_loopback, source_address
from ray.session.record import SessionRecord
from ray.session.say import say
from ray.session.standalone import start_head, start_node

LOOK_S = 0.5  # for a signal, while --block waits
PORT = click.IntRange(ANY_PORT, 65_535)
# What the head decides for its cluster.
OF_THE_HEAD = {
    "redis_port": "--redis-port",
    "num_redis_shards": "--num-redis-shards",
    "redis_url": "--redis-url",
    "redis_url_file": "--redis-url-file",
}


@click.command(short_help="Start a node.")
@click.option("--head", is_flag=True, help="Start a new cluster: its head, with the control store.")
@click.option(
    "--redis-address", metavar="HOST:PORT", help="Start a node that joins the cluster with this address."
)
@click.option(
    "--node-ip-address",
    metavar="HOST",
    help="Address of this node for the others; one that other machines reach opens the head to them.  "
    "[default: loopback for a head; for others the one that reaches the head]",
)
@click.option(
    "--redis-port",
    type=PORT,
    help=f"Port of the control store; {ANY_PORT}: any.  [default: {DEFAULT_PORT}, or any if that is taken]",
)
@click.option("--num-redis-shards", type=int, help="Control-store servers beside the primary.  [default: 0]")
@click.option(
    "--redis-url",
    metavar="URL",
    help="Use the Redis or Valkey server that is there, redis[s]://user:password@host:port/db, and start "
    "none. Other users of this machine can read this command line: a password is better in a file.",
)
@click.option(
    "--redis-url-file",
    metavar="FILE",
    help=f"With that URL as its first line, mode 0600.  [default: what {URL_VARIABLE} holds, if anything]",
)
@click.option(
    "--object-manager-port", type=PORT, help="Port where other nodes reach this one.  [default: any]"
)
@click.option("--num-cpus", type=int, help="CPUs to share out.  [default: all of this machine]")
@click.option("--num-gpus", type=int, help="GPUs to share out.  [default: 0]")
@click.option(
    "--num-custom-resource", type=int, help="Of a resource of your own; -1: any amount.  [default: 0]"
)
@click.option(
    "--resources",
    metavar="JSON",
    help="The same with a name for it, '{\"licence\": 4}'; the name is the whole cluster's, and decided by "
    "its head.",
)
@click.option(
    "--num-workers", type=int, help="Processes started up front; limits nothing.  [default: num-cpus]"
)
@click.option("--object-store-memory", type=int, metavar="BYTES", help="[default: 30 % of the memory]")
@click.option(
    "--plasma-directory", metavar="FOLDER", help="Where the object store's file goes.  [default: memory]"
)
@click.option("--huge-pages", is_flag=True, help="Map the store with huge pages; needs --plasma-directory.")
@click.option(
    "--token-file",
    metavar="FILE",
    help="With the cluster's token; a head makes it if it is not there.  "
    "[default: ~/.config/ray/token-PORT; to join, also what RAY_TOKEN_FILE names, and ~/.config/ray/token]",
)
@click.option(
    "--block",
    is_flag=True,
    help="Stay in the foreground. Ctrl-C ends the node; so do SIGTERM and the end of the terminal (SIGHUP), "
    "but one that has joined a cluster leaves it in good order first.",
)
@click.option(
    "--drain-timeout",
    type=click.FloatRange(0, 1e6),
    metavar="SECONDS",
    help="How long that may take.  [default: 25]",
)
def start(
    head: bool,
    redis_address: str | None,
    redis_port: int | None,
    object_manager_port: int | None,
    token_file: str | None,
    redis_url: str | None,
    redis_url_file: str | None,
    block: bool,
    drain_timeout: float | None,
    resources: str | None,
    **given: Any,
) -> None:
    """Start a cluster on this machine, or a node that joins one, that goes on until `ray stop`.

    Unless --node-ip-address says otherwise it listens on this machine only. Scripts of the same user join
    it by its address; other users, and other machines, need its token as well."""
    of_the_head = {"redis_port": redis_port, "num_redis_shards": given["num_redis_shards"]}
    _check(head, redis_address, **of_the_head, redis_url=redis_url, redis_url_file=redis_url_file)
    # Not for the processes that are started here, whatever becomes of it.
    url_of_environment = os.environ.pop(URL_VARIABLE, None)
    store = _store(redis_url, redis_url_file, url_of_environment) if head else None
    address = None if redis_address is None else Address.parse(redis_address)
    if address is not None and given["node_ip_address"] is None:
        given["node_ip_address"] = source_address(address.host)
    if head and drain_timeout is not None:
        raise InitError(
            "--drain-timeout is for nodes that join: a head does not leave its cluster, it ends it."
        )
    config = None if drain_timeout is None else {"drain_ms": int(drain_timeout * 1000)}
    options = SessionOptions.from_init(
        redirect_output=True, config=config, resources=_resources(resources), **given
    )
    notices = list(options.notices)
    if block:
        for signum in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(signum) is not signal.SIG_IGN:  # as nohup has it
                signal.signal(signum, _terminate)
    try:
        if address is None and store is not None:
            notices, keeper, record = _start_at(store, options, redis_port, token_file, object_manager_port)
        elif address is None:
            keeper, record = start_head(options, redis_port, token_file, object_manager_port)
        else:
            keeper, record = start_node(options, address, token_file, object_manager_port)
    except _Terminated:
        raise click.ClickException(
            "A signal to end came before the node had started. What had begun was ended."
        ) from None
    try:
        for notice in notices:
            say(notice)
        _describe(record, block)
        if block:
            _stay(keeper)
    except _Terminated:
        _leave(keeper, record)
    except KeyboardInterrupt:
        _end(keeper, record)
    else:
        keeper.detach()


def _check(head: bool, redis_address: str | None, **of_the_head: Any) -> None:
    if head and redis_address is not None:
        raise InitError(
            "--head starts a new cluster, --redis-address joins one that is there: give only one of the two."
        )
    if not head and redis_address is None:
        raise InitError(
            "Say what to start: --head for a new cluster, or --redis-address=HOST:PORT to join the one that "
            "`ray start --head` has started there."
        )
    for name, value in of_the_head.items():
        if not head and value is not None:
            raise InitError(
                f"{OF_THE_HEAD[name]} is decided by the head, for its cluster: leave it out to join one."
            )


def _resources(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InitError(f"--resources is not JSON ({error}). It is like '{{\"licence\": 4}}'.") from None
    if not isinstance(found, dict):
        raise InitError(f"--resources is a name with an amount, like '{{\"licence\": 4}}', not {text}.")
    return found


def _store(url: str | None, file: str | None, of_environment: str | None) -> StoreUrl | None:
    """The control store that is there already, if one is named."""
    if url is not None and file is not None:
        raise InitError(
            "--redis-url and --redis-url-file are two ways to say the same: give only one of them."
        )
    if file is not None:
        return StoreUrl.load(file)
    if url is not None:
        return StoreUrl.parse(url, "--redis-url")
    return None if of_environment is None else StoreUrl.parse(of_environment, URL_VARIABLE)


def _start_at(
    store: StoreUrl,
    options: SessionOptions,
    redis_port: int | None,
    token_file: str | None,
    link_port: int | None,
) -> tuple[list[str], KeeperHandle, SessionRecord]:
    """A head with a control store that is there already: of two at once one has its database."""
    own = Holder.of(secrets.token_hex(8), os.getpid())
    notices = [*options.notices, *fitness.check(store, own)]
    try:
        keeper, record = start_head(
            options, redis_port, token_file, link_port, store=store, store_hold=own.name
        )
    except BaseException:
        with contextlib.suppress(RayConnectionError):
            fitness.let_go(store, own)
        raise
    with contextlib.suppress(RayConnectionError):  # its node manager does the same
        fitness.hand_over(store, Holder.of(own.name, keeper.pid, record.link_address))
    return notices, keeper, record


class _Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP has come."""


def _terminate(*_: object) -> None:
    raise _Terminated


def _leave(keeper: KeeperHandle, record: SessionRecord) -> None:
    """A node that has joined a cluster leaves it in good order, unless another signal comes meanwhile."""
    try:
        if record.role == "node":
            os.kill(keeper.pid, signal.SIGTERM)
            while not keeper.wait(LOOK_S):
                continue
            keeper.detach()
            click.echo(f"Ended {_what(record)}: it has left the cluster.")
            return
    except KeyboardInterrupt:
        pass
    _end(keeper, record)


def _end(keeper: KeeperHandle, record: SessionRecord) -> None:
    keeper.end(int(record.settings["end_ms"]))
    click.echo(f"Ended {_what(record)}.")


def _what(record: SessionRecord) -> str:
    if record.role == "node":
        return f"the node {record.link_address} of the session at {record.redis_address}"
    return f"the session at {record.redis_address}"


def _describe(record: SessionRecord, block: bool) -> None:
    store_gib = record.object_store_bytes / (1 << 30)
    gpus = f", {record.num_gpus} GPUs" if record.num_gpus else ""
    started = _what(record) if record.role == "node" else f"a session at {record.redis_address}"
    lines = [
        f"Started {started}: {record.num_cpus} CPUs{gpus}, an object store of {store_gib:.1f} GiB.",
        f'  connect   ray.init(redis_address="{record.redis_address}")',
        f"  join      ray start {_joins(record)}{_who_joins(record)}",
        "  look      ray status",
        f"  end       {'Ctrl-C' if block else 'ray stop'}",
        f"  token     {record.token_file}; others need a copy, mode 0600, named by RAY_TOKEN_FILE",
        f"  logs      {record.logs}",
    ]
    if record.operators_store:
        lines.append(f"  store     {record.operators_store}, which goes on when this ends")
    click.echo("\n".join(lines))


def _joins(record: SessionRecord) -> str:
    """With the token's file, if it is not where whoever joins looks by itself."""
    address = f"--redis-address={record.redis_address}"
    if record.token_file == tokens.of_port(Address.parse(record.redis_address).port):
        return address
    return f"{address} --token-file={shlex.quote(record.token_file)}"


def _who_joins(record: SessionRecord) -> str:
    if not is_loopback(record.node_ip_address):
        return ""
    return "  (on this machine; for others start the head with --node-ip-address)"


def _stay(keeper: KeeperHandle) -> None:
    while not keeper.wait(LOOK_S):
        continue
    raise RaySystemError(
        "The session has ended by itself; what its processes wrote is in the folder of its logs."
    )
