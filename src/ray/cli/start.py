"""`ray start`."""

import signal
from typing import Any

import click

from ray.errors import RaySystemError
from ray.session.launch import KeeperHandle
from ray.session.options import SessionOptions
from ray.session.record import SessionRecord
from ray.session.say import say
from ray.session.standalone import ANY_PORT, DEFAULT_PORT, start_standalone

LOOK_S = 0.5  # for a signal, while --block waits


@click.command(short_help="Start a session.")
@click.option("--head", is_flag=True, required=True, help="Start a new session, with its control store.")
@click.option(
    "--redis-port",
    type=click.IntRange(ANY_PORT, 65_535),
    help=f"Port of the control store; {ANY_PORT}: any.  [default: {DEFAULT_PORT}, or any if that is taken]",
)
@click.option("--num-redis-shards", type=int, help="Control-store servers beside the primary.  [default: 0]")
@click.option("--num-cpus", type=int, help="CPUs to share out.  [default: all of this machine]")
@click.option("--num-gpus", type=int, help="GPUs to share out.  [default: 0]")
@click.option(
    "--num-custom-resource", type=int, help="Of a resource of your own; -1: any amount.  [default: 0]"
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
    help="With the cluster's token, made if it is not there.  [default: ~/.config/ray/token-PORT]",
)
@click.option("--block", is_flag=True, help="Stay in the foreground; Ctrl-C or SIGTERM ends the session.")
def start(head: bool, redis_port: int | None, token_file: str | None, block: bool, **given: Any) -> None:
    """Start a session on this machine that goes on until `ray stop`.

    It listens on this machine only, and its control store has a password. Scripts of the same user join it by
    its address; other users need its token as well.
    """
    options = SessionOptions.from_init(redirect_output=True, **given)
    if block:
        signal.signal(signal.SIGTERM, _interrupt)
    keeper, record = start_standalone(options, redis_port, token_file)
    try:
        for notice in options.notices:
            say(notice)
        _describe(record, block)
        if block:
            _stay(keeper)
    except KeyboardInterrupt:
        keeper.end(options.config.end_ms)
        click.echo(f"Ended the session at {record.redis_address}.")
    else:
        keeper.detach()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _describe(record: SessionRecord, block: bool) -> None:
    store_gib = record.object_store_bytes / (1 << 30)
    gpus = f", {record.num_gpus} GPUs" if record.num_gpus else ""
    click.echo(
        f"Started a session at {record.redis_address}: {record.num_cpus} CPUs{gpus}, "
        f"an object store of {store_gib:.1f} GiB.\n"
        f'  connect   ray.init(redis_address="{record.redis_address}")\n'
        f"  look      ray status\n"
        f"  end       {'Ctrl-C' if block else 'ray stop'}\n"
        f"  token     {record.token_file}; another user keeps a copy, mode 0600, that RAY_TOKEN_FILE names\n"
        f"  logs      {record.logs}"
    )


def _stay(keeper: KeeperHandle) -> None:
    while not keeper.wait(LOOK_S):
        continue
    raise RaySystemError(
        "The session has ended by itself; what its processes wrote is in the folder of its logs."
    )
