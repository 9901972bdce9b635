"""Sessions that belong to no script, and so to a cluster: its head, and the nodes that join it."""

import dataclasses
import os
import socket
import sys

from ray.control_store.url import StoreUrl
from ray.errors import ClusterTokenError, InitError
from ray.session import ports, preloading, start, tokens
from ray.session.addresses import LOOPBACK, Address
from ray.session.head_link import wait_joined
from ray.session.heads import HeadFacts, check_listening, find_head
from ray.session.launch import KeeperHandle
from ray.session.names import socket_name
from ray.session.options import SessionOptions
from ray.session.ports import is_loopback
from ray.session.record import SessionRecord
from ray.session.spec import KeeperSpec
from ray.session.spill_file import open_spill_file
from ray.wire.identity import Identity
from ray.wire.messages import PROTOCOL
from ray.wire.token import ClusterToken

NODE_ID_BYTES = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """A node's place in its cluster, as far as it is known before its keeper runs."""

    token: ClusterToken
    token_file: str  # "": in this user's configuration folder, by the control store's port
    port: int  # of the control store; on a head the one to try, ANY_PORT: any
    any_port: bool  # will do as well
    listening: socket.socket  # where other nodes reach this one
    head: HeadFacts | None  # None: it is the head
    owner_pid: int  # whose end ends it; 0: nobody's
    head_host: str = ""  # as the user has written it: a name is looked up whenever the head is called
    store: StoreUrl | None = None  # the operator's own, for a head that starts none
    store_hold: str = ""  # the name by which the head has its database

    @property
    def link_port(self) -> int:
        port: int = self.listening.getsockname()[1]
        return port


def start_head(
    options: SessionOptions,
    redis_port: int | None = None,
    token_file: str | None = None,
    link_port: int | None = None,
    owner_pid: int = 0,
    store: StoreUrl | None = None,
    store_hold: str = "",
) -> tuple[KeeperHandle, SessionRecord]:
    """Starts a cluster: a session that goes on until its keeper is told to end, or its owner has ended.

    This process does not join it. `redis_port` None is the usual port, or any if that is taken; ANY_PORT is
    any. `token_file` is where the cluster's token is, or shall be; None: in this user's configuration folder,
    for as long as the cluster lives. Blocks until Redis answers. The caller detaches the handle, or ends it.

    On a loopback address nodes of this machine can join, at a port of their own; on any other all nodes, the
    control store's included, come to one port there, and Redis itself stays on loopback.

    With a `store`, one that `ray.control_store.fitness` has found fit, no Redis is started: the way to that
    one is where it would be. `store_hold` is the name of its `ray.control_store.hold`.

    Raises InitError for a port that is taken, or ports that rule each other out, ClusterTokenError for a file
    that can't be used, else as `start_session`.
    """
    binary = start.check_machine(options, with_redis=store is None)
    if store is not None and options.num_redis_shards:
        raise InitError(
            "num_redis_shards starts servers beside one of our own: with a control store that is there "
            "already all of it lies in that one. Leave one of the two out."
        )
    token = tokens.of_new_cluster(token_file)
    host = options.node_ip_address
    if not is_loopback(host) and link_port is not None:
        raise InitError(
            "--object-manager-port and --node-ip-address don't go together on a head: other machines reach "
            "all of it at one port, which is --redis-port."
        )
    port = ports.for_control_store(list({LOOPBACK, host}), redis_port)
    if is_loopback(host):
        listening = ports.listen_for_links(host, link_port)
    else:
        listening = ports.listen_beside_control_store(host, port)
        port = listening.getsockname()[1]
    with listening, start.refusals(options):
        standing = Standing(
            token=token,
            token_file=os.path.abspath(token_file) if token_file else "",
            port=port,
            any_port=redis_port is None and is_loopback(host),
            listening=listening,
            head=None,
            owner_pid=owner_pid,
            store=store,
            store_hold=store_hold,
        )
        return _start(options, binary, standing)


def start_node(
    options: SessionOptions,
    head_address: Address,
    token_file: str | None = None,
    link_port: int | None = None,
    owner_pid: int = 0,
) -> tuple[KeeperHandle, SessionRecord]:
    """Starts a node that joins the cluster at this address. Otherwise as `start_head`.

    Blocks until the head counts it as a member, at most `connect_ms` of the configuration longer than its
    start takes. Raises RayConnectionError when no head answers there, or one of another cluster,
    ClusterTokenError when this user has no token, InitError when head and node can't reach each other at
    their addresses."""
    start.check_machine(options, with_redis=False)
    host = options.node_ip_address
    if is_loopback(host) != is_loopback(head_address.host):
        raise InitError(
            f"The head is at {head_address.host} and this node would be at {host}: of the two only one is a "
            "loopback address, so they can't reach each other. Start the head with --node-ip-address, or "
            "give this node an address that the head's machine reaches."
        )
    path = token_file or tokens.to_show(head_address.port) or tokens.of_port(head_address.port)
    try:
        token = ClusterToken.load(path)
    except ClusterTokenError:
        check_listening(
            head_address
        )  # a mistake in the address is named as that: each port has a token of its own
        raise
    head = find_head(head_address, token, options.config.connect_ms)
    own_name = options.custom_resource_name
    if own_name not in ("", head.custom_resource_name):
        counts = head.custom_resource_name or "none"
        raise InitError(
            f"The head names the resource that its cluster counts besides CPUs and GPUs, and this node's is "
            f"{own_name!r}; the cluster's is {counts}. A head that has none itself says --resources "
            f"'{{\"{own_name}\": 0}}'."
        )
    with ports.listen_for_links(host, link_port) as listening, start.refusals(options):
        standing = Standing(
            token=token,
            token_file=os.path.abspath(path),
            port=head_address.port,
            any_port=False,
            listening=listening,
            head=head,
            owner_pid=owner_pid,
            head_host=head_address.written,
        )
        keeper, record = _start(options, "", standing)
    # A driver of another node would be told that nobody can run what this one could. Without an answer in
    # time it is a node all the same, which goes on trying, and says so in its log.
    try:
        wait_joined(record, options.config.connect_ms / 1000)
    except BaseException:
        keeper.end(options.config.end_ms)
        raise
    return keeper, record


def _start(options: SessionOptions, binary: str, standing: Standing) -> tuple[KeeperHandle, SessionRecord]:
    arena = start.new_arena(options, any_user=True)
    spill = open_spill_file(options.config.spill_fraction)
    keeper: KeeperHandle | None = None
    try:
        spec = start.spec_of(options, arena, binary)
        _detached(spec, standing, spill)
        keeper = KeeperHandle(spec)
        # Made here, beside the start of the keeper: the library that it takes is large, and stays in memory.
        identity = Identity.of(standing.token)
        found = keeper.wait_ready(options.config.start_ms) or [standing.port]
        record = start.record_of(options, spec, 0, keeper.pid, found)
        record = _in_cluster(record, standing, identity, found[0])
        # With the token's file before that is there, so that the keeper removes it in any case.
        arena.set_session(record.dump())
        if record.removes_token_file or not os.path.lexists(record.token_file):
            standing.token.save(record.token_file)
        keeper.publish()
        return keeper, record
    except BaseException:
        if keeper is not None:
            keeper.end(options.config.end_ms)
        raise
    finally:
        if spill is not None:
            os.close(spill[0])
        arena.leave()


def _detached(spec: KeeperSpec, standing: Standing, spill: tuple[int, int] | None) -> None:
    """What is different when there is no script."""
    if not sys.flags.safe_path:
        del spec.sys_path[:1]  # where the command lies, or this folder
    spec.script_folder = ""
    spec.argv = [""]
    spec.preload = list(preloading.AT_ONCE)  # nobody knows yet what drivers will want
    spec.preload_later = []
    spec.driver_pid, spec.owner_pid = 0, standing.owner_pid
    spec.host = LOOPBACK
    spec.password = tokens.password(standing.token)
    spec.admission_key = tokens.admission_key(standing.token)
    spec.redis_port, spec.any_port = standing.port, standing.any_port
    if standing.store is not None:
        spec.operators_store = dataclasses.astuple(standing.store)
    if standing.head is not None:
        spec.redis_count = 0
        spec.node_port = standing.link_port
    spec.link_fd = standing.listening.fileno()
    if spill is not None:
        spec.spill_fd, spec.spill_bytes = spill


def _in_cluster(record: SessionRecord, standing: Standing, identity: Identity, port: int) -> SessionRecord:
    """`port` is that of the control store."""
    own = dataclasses.replace(
        record,
        cluster_token=standing.token.text,
        cluster_identity=identity.pem.decode(),
        token_file=standing.token_file or tokens.of_port(port),
        removes_token_file=not standing.token_file,
        node_id=os.urandom(NODE_ID_BYTES).hex(),
        link_address=str(Address(record.node_ip_address, standing.link_port)),
        link_protocol=PROTOCOL,
        operators_store="" if standing.store is None else str(standing.store),
        store_hold=standing.store_hold,
    )
    head = standing.head
    if head is None:
        return own
    return dataclasses.replace(
        own,
        redis_address=head.redis_address,
        redis_shards=head.redis_shards,
        control_store=head.control_store,
        custom_resource_name=head.custom_resource_name,
        head_address=_as_written(head.link_address, standing.head_host),
        socket_name=socket_name(os.getuid(), port, standing.link_port),
    )


def _as_written(link_address: str, host: str) -> str:
    """The head's port for nodes, at the host that was named and is reached from here."""
    if not host:
        return link_address
    port = int(link_address.rpartition(":")[2])
    return str(Address(host, port))
