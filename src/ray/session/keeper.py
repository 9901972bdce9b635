"""The keeper: first process and parent of a session.

A single-threaded loop. It starts Redis, template and node manager and restarts those that die, hands
the arena's descriptor to drivers of the same user, in a cluster to all who know its token, and ends every
descendant when the driver dies, when the driver says so, or when the template can't be brought up. The
keeper of a standalone session (`ray start`) has no driver: SIGINT ends it (`ray stop`), and so does SIGTERM,
but for a node that has joined a cluster, which leaves that in good order first. It is a subreaper: whatever a
task has started becomes its child in the end, and is found.

Redis and the template are started before the rest is even imported: the one decides when `ray.init`
returns, the other when the first result is there.
"""

import os
import time

from ray.session import processes
from ray.session.pipes import WORD_RECORD, send_message
from ray.session.say import say
from ray.session.services import (
    GAVE_UP_STATUS,
    PRIMARY,
    NodeManager,
    RedisServer,
    Service,
    StoreGate,
    Template,
    redirect_output,
)
from ray.session.spec import KeeperSpec

TYPE_CHECKING = False  # `typing` takes longer to import than all of this file
if TYPE_CHECKING:
    from ray._kernel import Arena

NODE_MANAGER_DELAY_MS = 150  # its imports must not compete with the first result
MUTEX_MS = 50  # for the arena's mutex, to bury an orphan
READY_PROBE_MS = 20  # between two looks at a server that has said nothing
DRAINED_LATE_MS = 2_000  # after its time a node that drains is ended, whatever its node manager does


def monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Keeper:
    def __init__(self, spec: KeeperSpec, command_fd: int, report_fd: int) -> None:
        processes.keep_only(command_fd, report_fd, spec.arena_fd, spec.spill_fd, spec.link_fd)
        self.spec = spec
        self.command_fd = command_fd
        self.report_fd = report_fd
        self.ending = False
        self.reported = False
        self._has_record = False
        self._arena: Arena | None = None
        self._has_joined = False
        self._drained_by_ms: int | None = None  # of a node that was told to leave its cluster
        names = [PRIMARY, *(f"redis-shard-{number}" for number in range(1, spec.redis_count))][
            : spec.redis_count
        ]
        kind = StoreGate if spec.operators_store else RedisServer
        self.servers = [kind(name, spec) for name in names]
        self.template = Template(spec)
        self.node_manager = NodeManager(spec)
        self.services: list[Service] = [*self.servers, self.template, self.node_manager]

    def run(self) -> None:
        """Never returns: the process exits when nothing of the session is left."""
        processes.set_name("ray-keeper")
        if self.spec.is_standalone:
            redirect_output(self.spec.logs, "keeper")  # the terminal is not its own for long
        processes.become_subreaper()
        processes.set_oom_score(processes.OOM_SCORE_OF_SERVICES)
        try:
            for service in (*self.servers, self.template):
                if not self.ending:
                    self._start(service)
            self._watch()
            while not self.ending:
                self._turn()
        except BaseException:
            import traceback

            say(traceback.format_exc())
        try:
            from ray.session import end

            end.end_children(self.spec, self.template.pid, self.arena)
        finally:
            os._exit(0)

    def arena(self) -> "Arena":
        """The arena, mapped when it is first needed: in most sessions that is at the end."""
        if self._arena is None:
            from ray import _kernel

            self._arena = _kernel.Arena.attach(self.spec.arena_fd)
        return self._arena

    def _bury(self, pid: int, status: int) -> None:
        """A worker whose template was killed, or something that a task had started."""
        arena = self.arena()
        # The keeper never waits: whoever keeps the mutex, the node manager deals with it, and buries.
        if arena.lock_holder(MUTEX_MS):
            return
        self._join()
        arena.bury(pid, status)

    def _join(self) -> None:
        from ray import _kernel

        if not self._has_joined:
            self.arena().register(_kernel.KEEPER)
            self._has_joined = True

    def _keep_spill_file(self) -> None:
        """Processes of this user open it through this one, for as long as the session lives; others get it
        with the arena."""
        self._join()
        self.arena().set_spill_file(self.spec.spill_fd, self.spec.spill_bytes)

    # --- the loop ---

    def _watch(self) -> None:
        import select
        import signal

        from ray.session.listener import Listener

        self._wake_fd, wake_write = os.pipe()
        for fd in (self._wake_fd, wake_write):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_terminate)
        signal.signal(signal.SIGINT, self._on_interrupt)
        self._poller = select.poll()
        self._listener = Listener(
            self._poller,
            self.spec.arena_fd,
            self.spec.release,
            spill_fd=self.spec.spill_fd,
            key=self.spec.admission_key,
            logs=self.spec.logs,
        )
        for fd in (self._wake_fd, self.command_fd, *(server.log_fd for server in self.servers)):
            self._poller.register(fd, select.POLLIN)
        self._driver_fd = -1
        owner = self.spec.driver_pid or self.spec.owner_pid
        if not owner:
            return
        # A copy of the command pipe may live on in a forked child of the driver, so its end does not
        # tell of the driver's death; the pidfd does.
        try:
            self._driver_fd = os.pidfd_open(owner)
            self._poller.register(self._driver_fd, select.POLLIN)
        except ProcessLookupError:
            self.ending = True
        self.ending = self.ending or os.getppid() != owner

    def _on_interrupt(self, *_: object) -> None:
        self.ending = True

    def _on_terminate(self, *_: object) -> None:
        drain_ms = self.spec.setting("drain_ms")
        if not (self.spec.node_port and self._has_record and drain_ms):
            self.ending = True
        elif self._drained_by_ms is None:
            self._drained_by_ms = monotonic_ms() + drain_ms + DRAINED_LATE_MS
            self.node_manager.drain()

    def _turn(self) -> None:
        self._reap()
        now = monotonic_ms()
        for service in self.services:
            if service.start_at_ms is not None and service.start_at_ms <= now:
                self._start(service)
        if not self.reported:
            self._report_when_ready()
        ready = {fd for fd, _ in self._poller.poll(self._pause_ms())}
        if self._wake_fd in ready:
            os.read(self._wake_fd, 4096)
        if self._drained_by_ms is not None and monotonic_ms() >= self._drained_by_ms:
            self.ending = True
        for server in self.servers:
            if server.log_fd in ready:
                server.drain_log()
        if self._driver_fd in ready:
            self.ending = True
        elif self.command_fd in ready:
            self._obey()
        if not self.ending:
            self._listener.serve(ready, monotonic_ms())

    def _start(self, service: Service) -> None:
        try:
            service.start()
            service.refused = False
        except OSError as error:  # no process could be made
            what = f"The {service.name} process of a session can't be started"
            if not self.reported:
                self._refuse(what, error)
                return
            if not service.refused:
                from ray.core.system_limits import refused

                service.refused = True
                say(f"{refused(what, error)} It is tried again.")
            if not service.died(monotonic_ms()):
                self.ending = True

    def _refuse(self, what: str, error: OSError) -> None:
        """Before the session is there: its driver says so."""
        self._report({"refused": (what, error.errno)})
        self.ending = True

    def _pause_ms(self) -> int | None:
        if self.ending:
            return 0
        if not self.reported:
            return READY_PROBE_MS
        dates = [self._listener.deadline_ms(), self._drained_by_ms]
        dates += [service.start_at_ms for service in self.services]
        due = [date for date in dates if date is not None]
        return max(0, min(due) - monotonic_ms()) if due else None

    def _obey(self) -> None:
        word = os.read(self.command_fd, 1)
        if word == WORD_RECORD:
            # From here on the arena holds the session's record, which those who attach read first.
            self._listener.open()
            self.template.record_is_there()
            self.node_manager.start_at_ms = monotonic_ms() + NODE_MANAGER_DELAY_MS
            self._has_record = True
            if self.spec.spill_fd >= 0:
                self._keep_spill_file()
        elif not word and self.spec.is_standalone and self._has_record:
            self._poller.unregister(self.command_fd)  # who started it has left it alone
        else:
            self.ending = True

    # --- deaths ---

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            exit_status = os.waitstatus_to_exitcode(status)
            service = next((service for service in self.services if service.pid == pid), None)
            if service is None:
                self._bury(pid, exit_status)
            elif isinstance(service, RedisServer) and not service.ready:
                self._move(service)
            elif service is self.template and exit_status == GAVE_UP_STATUS:
                self.ending = True  # the template has said why
            elif service is self.node_manager and exit_status == processes.LEFT_STATUS:
                self.ending = True
            elif not service.died(monotonic_ms()):
                say(
                    f"the {service.name} process of this session keeps ending (status {exit_status} last), "
                    "so the session ends. What the process printed stands above."
                )
                self.ending = True

    def _move(self, server: RedisServer) -> None:
        """A server that ends before it has answered has found its port taken, or can't run at all."""
        from ray.core.system_limits import room_for_threads

        server.drain_log()
        server.pid = 0
        if not room_for_threads():
            import errno

            problem = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            self._refuse("The Redis server of a session can't be started", problem)
        elif server.move():
            self._start(server)
        else:
            log = server.log_tail.decode(errors="replace")
            name, host = server.name_of_server(), self.spec.host
            self._report({"error": f"{name} does not start on {host}. It said:\n{log}"})
            self.ending = True

    # --- reports to the driver ---

    def _report_when_ready(self) -> None:
        if self.ending or not all(server.pid and server.look() for server in self.servers):
            return
        port = self.servers[0].port if self.servers else self.spec.redis_port
        if not self._listener.bind(port, self.spec.node_port):
            self._leave_name()
            return
        self._report({"ports": [server.port for server in self.servers]})

    def _leave_name(self) -> None:
        """The name of the socket is taken, though the port is not."""
        if not self.servers:
            self._report(
                {"error": "The name of its socket is taken by another process; choose another port."}
            )
            self.ending = True
            return
        # They move together; the server is started again when it has been reaped.
        self.servers[0].ready = False
        os.kill(self.servers[0].pid, 9)

    def _report(self, report: dict[str, object]) -> None:
        import marshal

        self.reported = True
        try:
            send_message(self.report_fd, marshal.dumps(report))
        except BrokenPipeError:
            self.ending = True
