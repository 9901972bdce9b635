"""Tasks that this node sends to others, those that it takes from them, and what becomes of both."""

from ray import _kernel
from ray.node.cluster.given import GivenValues
from ray.node.cluster.ids import FIRST_RETURN, THIS_NODE, Ref
from ray.node.cluster.jobs import Jobs
from ray.node.cluster.loans import Loans
from ray.node.cluster.peers import Peer, Peers
from ray.wire import messages

COPY_BYTES = 1024  # of a result, at most, that the node which has made it keeps a little longer


class Tasks:
    def __init__(
        self, arena: _kernel.Arena, peers: Peers, loans: Loans, given: GivenValues, jobs: Jobs
    ) -> None:
        self.arena = arena
        self.peers = peers
        self.loans = loans
        self.given = given
        self.jobs = jobs
        self.is_leaving = False  # no tasks of others are taken any more

    # --- sent ---

    def send(self, node: bytes, shape: int, count: int) -> list[bytes]:
        """Sends so many ready tasks, as far as there are, to a node whose link is up; their ids."""
        peer = self.peers.by_node.get(node)
        if peer is None or not peer.synced:
            return []
        return self.run(peer, self.arena.send_tasks(peer.number, shape, count))

    def send_followers(self, node: bytes, oid: _kernel.ObjectID, shape: int, count: int) -> list[bytes]:
        """Sends tasks that wait for nothing but this value to a node that has it; their ids."""
        peer = self.peers.by_node.get(node)
        if peer is None or not peer.synced:
            return []
        return self.run(peer, self.arena.send_followers(peer.number, oid, shape, count))

    def run(self, peer: Peer, tasks: "list[_kernel.SentTask]") -> list[bytes]:
        """The ids of those that the peer is told of."""
        wire_ref = self.peers.wire_ref
        told = []
        for sent in tasks:
            (raw, job, function, payload, deps, nested, num_returns, cpu, gpu, custom, attempt, retries,
             actor, after, interval, is_around, checkpoint, turn) = sent  # fmt: skip
            if attempt or is_around:  # what the peer still has of it is returned before it runs there again
                self.peers.return_copies(peer)
            known = self.arena.job_root(job)
            if known is None:  # its driver has ended just now; its tasks are failed by that
                if actor is not None:  # those of the calls that are away
                    self.jobs.guests.ended()
                continue
            home, root = known
            if root not in peer.told_jobs:
                self.jobs.tell(peer, root)
            told.append(
                messages.Task(
                    id=raw,
                    job=root,
                    job_home=self.peers.node if home == THIS_NODE else self.peers.by_number[home].node,
                    function=None if function is None else wire_ref(function),
                    payload=bytes(payload),
                    deps=[wire_ref(ref) for ref in deps] if deps else [],
                    nested=[wire_ref(ref) for ref in nested] if nested else [],
                    num_returns=num_returns,
                    needs=messages.Resources(cpu, gpu, custom),
                    attempt=attempt,
                    retries=retries,
                    actor=None if actor is None else wire_ref(actor),
                    after=after,
                    interval=interval,
                    around=is_around,
                    checkpoint=None if checkpoint is None else wire_ref(checkpoint),
                    turn=turn,
                )
            )
        if told:
            self.peers.send(peer.number, messages.Run(told))
        return [task.id for task in told]

    def on_untaken(self, peer: Peer, message: messages.Untaken) -> list[bytes]:
        self.arena.recall(peer.number, message.tasks)
        return message.tasks

    def on_results(self, peer: Peer, results: messages.Results) -> list[bytes]:
        finished = []
        returned: list[tuple[bytes, int]] = []
        copied: list[tuple[bytes, int]] = []
        for result in results.results:
            nested = [self.peers.ref(ref, peer) for ref in result.nested] if result.nested else []
            fresh = self.arena.finish_return(
                peer.number,
                result.id,
                result.format,
                result.data,
                result.size,
                nested,
                result.failed,
                result.turn,
            )
            if nested:
                self.loans.came_from(peer.number, nested)
            if fresh and result.data is not None and len(result.data) <= COPY_BYTES:
                copied.append((result.id, 1))
            elif not fresh or result.data is not None:
                returned.append((result.id, 1))
            if result.id.endswith(FIRST_RETURN):
                finished.append(result.id[: -len(FIRST_RETURN)])
        if returned:
            self.peers.give_back(peer.number, returned)
        if copied:
            self.peers.give_back_copies(peer, copied)
        return finished

    # --- taken ---

    def on_run(self, peer: Peer, run: messages.Run) -> None:
        tasks: list[_kernel.SentTask] = []
        refs: list[Ref] = []
        untaken = []
        own_jobs: dict[bytes, int] | None = None
        for task in run.tasks:
            if task.job_home == self.peers.node:
                if own_jobs is None:
                    own_jobs = {root: job for job, root in self.arena.drivers()}
                job = own_jobs.get(task.job)
            else:
                job = self.peers.number(task.job_home, task.job)
            function = None if task.function is None else self.peers.ref(task.function, peer)
            deps = [self.peers.ref(ref, peer) for ref in task.deps] if task.deps else []
            nested = [self.peers.ref(ref, peer) for ref in task.nested] if task.nested else []
            checkpoint = None if task.checkpoint is None else self.peers.ref(task.checkpoint, peer)
            named = deps + nested
            if function is not None:
                named.append(function)
            if checkpoint is not None:
                named.append(checkpoint)
            refs += named
            is_untaken = self.is_leaving and task.actor is None  # the calls of its actors are still done here
            if is_untaken:
                untaken.append(task.id)
            may_be_known = bool(self.peers.dead) and job is not None and not task.around
            known = self._known_results(peer, task) if may_be_known else []
            if job is None or known or is_untaken:  # the job has ended, and so will the task at the sender
                self.arena.note(peer.number, named)
                if known:
                    self.peers.send(peer.number, messages.Results(known))
                continue
            need = task.needs
            actor = None if task.actor is None else self.peers.ref(task.actor, peer)
            tasks.append(
                (task.id, job, function, task.payload, deps, nested, task.num_returns, need.cpu, need.gpu,
                 need.custom, task.attempt, task.retries, actor, task.after, task.interval,
                 task.around, checkpoint, task.turn)
            )  # fmt: skip
        self.arena.receive_tasks(peer.number, tasks)
        if refs:
            self.loans.came_from(peer.number, refs)
        self.jobs.keep_functions(tasks)
        if untaken:
            self.peers.send(peer.number, messages.Untaken(untaken))

    def _known_results(self, peer: Peer, task: messages.Task) -> list[messages.Result]:
        """Of a task that was here before, for an incarnation of its node that is dead: what it returned has
        become this node's own, and somebody here has it. It is not made a second time."""
        ids = [task.id + index.to_bytes(4, "little") for index in range(task.num_returns)]
        oids = [self.arena.foreign((raw, peer.number)) for raw in ids]
        if not oids or any(self.arena.owner(oid) == peer.number for oid in oids):
            return []
        self.arena.lend(peer.number, oids)
        values = [self.given.value_for(peer.number, oid, (self.peers.node,)) for oid in oids]
        return [value for value in values if value is not None]

    def give_back(self) -> None:
        """Those of others that have not begun here."""
        for number in list(self.peers.by_number):
            untaken = self.arena.drop_received(number, self.arena.received(number))
            if untaken:
                self.peers.send(number, messages.Untaken(untaken))
