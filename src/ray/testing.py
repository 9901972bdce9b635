"""A cluster on this machine, for tests: real nodes, each with its own arena, keeper and node manager."""

import contextlib
import dataclasses
import os
import shutil
import signal
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from ray.errors import ArgumentError, ArgumentTypeError
from ray.session import end, link_filters, processes
from ray.session.addresses import Address
from ray.session.keeper import DRAINED_LATE_MS
from ray.session.launch import KeeperHandle
from ray.session.options import SessionOptions
from ray.session.ports import ANY_PORT
from ray.session.record import SessionRecord
from ray.session.standalone import start_head, start_node

MAX_NODES = 250  # each has a loopback address of its own: 127.0.0.1 up
KILLED_S = 5.0  # for the processes of a killed node to be gone
OF_THE_CLUSTER = (
    "redis_address",
    "address",
    "node_ip_address",
    "redirect_output",
    "driver_mode",
    "object_id_seed",
)


@dataclasses.dataclass(eq=False)
class LocalNode:
    """One node of a LocalCluster."""

    record: SessionRecord
    keeper: KeeperHandle
    is_alive: bool = True

    @property
    def node_id(self) -> str:
        """40 hexadecimal digits."""
        return self.record.node_id

    @property
    def node_ip_address(self) -> str:
        """Names the node to `ray.init(redis_address=..., node_ip_address=...)`."""
        return self.record.node_ip_address

    @property
    def is_head(self) -> bool:
        return self.record.role == "head"

    def __repr__(self) -> str:
        state = "" if self.is_alive else ", ended"
        return f"<LocalNode {self.record.role} {self.node_ip_address} {self.node_id[:12]}{state}>"


class LocalCluster:
    """Starts a head and further nodes; a context, which stops them all.

    They end, at the latest, with the process that has made it. Its methods are for that process.
    """

    def __init__(
        self,
        nodes: int = 1,
        *,
        num_cpus: int = 1,
        object_store_memory: int = 64 << 20,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """`nodes` counts the head; what follows is for each of them, and as in `ray.init`.

        Blocks until all can be used. Raises ArgumentError and ArgumentTypeError, and what `ray.init` raises.
        """
        if isinstance(nodes, bool) or not isinstance(nodes, int):
            raise ArgumentTypeError(f"nodes must be a whole number, the head included, not {nodes!r}.")
        if not 1 <= nodes <= MAX_NODES:
            raise ArgumentError(f"nodes must be from 1 to {MAX_NODES}, the head included, not {nodes!r}.")
        self._given = {
            "num_cpus": num_cpus,
            "object_store_memory": object_store_memory,
            "config": config,
            **options,
        }
        self.nodes: list[LocalNode] = []
        self._token_file = ""  # that no keeper removes
        self._cut: set[tuple[LocalNode, LocalNode]] = set()  # nothing gets from the one to the other
        try:
            for _ in range(nodes):
                self.add_node()
        except BaseException:
            self.stop()
            raise

    @property
    def head(self) -> LocalNode:
        return self.nodes[0]

    @property
    def address(self) -> str:
        """For `ray.init(redis_address=...)`, which joins the head unless `node_ip_address` names another."""
        return self.head.record.redis_address

    def add_node(self, **options: Any) -> LocalNode:
        """Starts one more; `options` are its own. Blocks until it can be used. Raises what `ray.init`
        raises."""
        if len(self.nodes) == MAX_NODES:
            raise ArgumentError(
                f"A LocalCluster has at most {MAX_NODES} nodes, those that have ended included."
            )
        if self.nodes and not self.head.is_alive:
            raise ArgumentError(
                "The head of this LocalCluster has ended, so no node can join it: restart_head() starts it "
                "anew, or make another LocalCluster."
            )
        for name in OF_THE_CLUSTER:
            if name in {**self._given, **options}:
                raise ArgumentError(f"{name} is decided by the LocalCluster itself: leave it out.")
        place = f"127.0.0.{len(self.nodes) + 1}"
        own = SessionOptions.from_init(
            node_ip_address=place, redirect_output=True, **{**self._given, **options}
        )
        if not self.nodes:
            self._head_options = own
            keeper, record = start_head(own, ANY_PORT, owner_pid=os.getpid())
        else:
            keeper, record = start_node(own, Address.parse(self.address), owner_pid=os.getpid())
        node = LocalNode(record, keeper)
        self.nodes.append(node)
        return node

    def kill_node(self, node: LocalNode) -> None:
        """All its processes at once (SIGKILL), as if its machine had died. Blocks until they are gone."""
        self._check([node])
        self._kill(node)

    def _kill(self, node: LocalNode) -> None:
        if not node.is_alive:
            return
        node.is_alive = False
        # A machine dies at once: none of these is to see another die, and to say so.
        for pid in processes.of_session(node.record.token):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        end.kill_until_none(lambda: processes.of_session(node.record.token), KILLED_S)
        node.keeper.end(self._end_ms(node))
        self._forget(node)

    def drain_node(self, node: LocalNode) -> None:
        """Has it leave in good order, as SIGTERM and `ray drain` do. Blocks until it has ended, `drain_ms`
        of `config` and two seconds at most. Raises ArgumentError for the head, which can't leave."""
        self._check([node])
        if node.is_head:
            raise ArgumentError("The head can't leave its cluster: stop() ends all of it.")
        if not node.is_alive:
            return
        os.kill(node.keeper.pid, signal.SIGTERM)
        node.keeper.wait((int(node.record.settings["drain_ms"]) + DRAINED_LATE_MS) / 1000)
        self.stop_node(node)

    def restart_head(self) -> LocalNode:
        """Kills the head as `kill_node` does, and starts one anew at the same place: `ray start --head` with
        the same ports and token, after a machine has come up again.

        What only the head had is lost, and so is what its drivers had begun; the other nodes join the new
        head. Blocks until that can be used. Raises what `ray.init` raises.
        """
        old = self.head
        token_file = old.record.token_file
        self._token_file = token_file if old.record.removes_token_file else self._token_file
        self._kill(dataclasses.replace(old, record=dataclasses.replace(old.record, removes_token_file=False)))
        old.is_alive = False
        keeper, record = start_head(
            self._head_options,
            Address.parse(old.record.redis_address).port,
            token_file,
            Address.parse(old.record.link_address).port,
            owner_pid=os.getpid(),
        )
        self._cut = {pair for pair in self._cut if old not in pair}
        self.nodes[0] = LocalNode(record, keeper)
        return self.head

    def partition(
        self,
        nodes: LocalNode | Iterable[LocalNode],
        others: LocalNode | Iterable[LocalNode] | None = None,
        *,
        one_way: bool = False,
    ) -> None:
        """Cuts the links between `nodes` and `others` (None: all the rest), as a broken network does: nobody
        is told, what is sent does not arrive. `one_way`: only what `nodes` send to `others`.

        It adds to what is cut already, until `heal`. Links of drivers to their own node go on. Raises OSError
        where this process may not look into those that it has started (a seccomp profile, say).
        """
        these = self._nodes_in(nodes)
        those = (
            [node for node in self.nodes if node not in these] if others is None else self._nodes_in(others)
        )
        self._cut.update((one, other) for one in these for other in those if one is not other)
        if not one_way:
            self._cut.update((other, one) for one in these for other in those if one is not other)
        self._filter_links()

    def heal(self) -> None:
        """Ends all partitions. What was under way arrives late, or its connection has been given up."""
        self._cut.clear()
        self._filter_links()

    def _filter_links(self) -> None:
        for node in self.nodes:
            if not node.is_alive:
                continue
            deaf_to = {one.node_ip_address for one, other in self._cut if other is node}
            # Without its answer no connection comes about, so that is lost both ways.
            unknown = deaf_to | {other.node_ip_address for one, other in self._cut if one is node}
            for pid in (node.keeper.pid, *processes.descendants(node.keeper.pid)):
                if processes.name(pid) in ("ray-keeper", "ray-node"):
                    with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it has just ended
                        link_filters.drop(pid, deaf_to, unknown)

    def stop_node(self, node: LocalNode) -> None:
        """Ends it as `ray stop` does. Blocks until it has ended."""
        self._check([node])
        if not node.is_alive:
            return
        node.is_alive = False
        node.keeper.end(self._end_ms(node))
        self._forget(node)

    def stop(self) -> None:
        """Ends all nodes, the head last, and removes their logs. Later calls do nothing."""
        for node in reversed(self.nodes):
            self.stop_node(node)
        if self._token_file:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._token_file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _nodes_in(self, given: LocalNode | Iterable[LocalNode]) -> list[LocalNode]:
        nodes = [given] if isinstance(given, LocalNode) else list(given)
        self._check(nodes)
        return nodes

    def _check(self, nodes: list[LocalNode]) -> None:
        for node in nodes:
            if not isinstance(node, LocalNode):
                raise ArgumentTypeError(f"A node of this cluster is one of its `nodes`, not {node!r}.")
            if node not in self.nodes and node.is_alive:
                raise ArgumentError(f"{node!r} is no node of this LocalCluster.")

    def _end_ms(self, node: LocalNode) -> int:
        return int(node.record.settings["end_ms"])

    def _forget(self, node: LocalNode) -> None:
        """What is left on disk: logs, and a token whose keeper could not remove it."""
        shutil.rmtree(node.record.logs, ignore_errors=True)
        if node.record.removes_token_file:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(node.record.token_file)
