"""The processes that a keeper starts, and starts again: Redis servers, template, node manager."""

import os
import sys

from ray.control_store import server
from ray.core.logs import STREAMS, open_log, open_log_or_null
from ray.policy.restarts import RestartRate
from ray.session import processes
from ray.session.say import say
from ray.session.spec import KeeperSpec

PRIMARY = "redis"
GAVE_UP_STATUS = 71  # of a template that has ended the session (EX_OSERR, sysexits.h)
SIGKILL, SIGUSR1, SIGTERM = 9, 10, 15  # the module `signal` takes 4 ms, and Redis waits for this one


class Service:
    """One process by its role. A subclass says what it runs."""

    # Template and node manager outlive a killed keeper for a moment, to end what is left of the session.
    signal_on_keeper_death = SIGTERM

    def __init__(self, name: str, spec: KeeperSpec, shown_as: str = "", essential: bool = False) -> None:
        self.name = name
        self.shown_as = f"ray-{shown_as or name}"
        self.spec = spec
        self.pid = 0  # 0: not running
        self.keeper = 0  # the parent, for the child to look whether it is still there
        self.start_at_ms: int | None = None  # when to start, if it shall be
        self.refused = False  # the system made no process the last time; said once
        self.rate = RestartRate(
            spec.setting("restart_limit"),
            spec.setting("restart_window_ms"),
            spec.setting("restart_pause_ms"),
            essential,
        )

    def start(self) -> None:
        """Forks. Called from the keeper's main thread only: it is that thread whose death ends the child."""
        self.keeper = os.getpid()
        self.start_at_ms = None
        self.pid = os.fork()
        if self.pid:
            return
        status = 1
        try:
            processes.signal_on_parent_death(self.keeper, self.signal_on_keeper_death)
            processes.set_name(self.shown_as)
            reset_signals()
            processes.keep_only(*self.kept_fds())
            self.run()
            status = 0
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 1
        except BaseException as error:
            from ray.errors import SystemLimitError

            if isinstance(error, SystemLimitError):
                say(f"{error}")
            else:
                import traceback

                traceback.print_exc()
        finally:
            os._exit(status)

    def kept_fds(self) -> list[int]:
        return [self.spec.arena_fd]

    def run(self) -> None:
        """In the child; the process ends when this returns."""
        raise NotImplementedError

    def died(self, now_ms: int) -> bool:
        """False when the service is given up; else its next start is set."""
        self.pid = 0
        delay_ms = self.rate.died(now_ms)
        self.start_at_ms = None if delay_ms is None else now_ms + delay_ms
        return delay_ms is not None


class Template(Service):
    def __init__(self, spec: KeeperSpec) -> None:
        super().__init__("template", spec, essential=True)
        # Workers read the session's record, and the template is ready before the record is. The end
        # of this pipe says that it is there; it goes on saying so to later templates.
        self._record_fd, self._no_record_fd = os.pipe()

    def record_is_there(self) -> None:
        if self._no_record_fd >= 0:
            os.close(self._no_record_fd)
            self._no_record_fd = -1

    def kept_fds(self) -> list[int]:
        return [self.spec.arena_fd, self._record_fd]

    def run(self) -> None:
        redirect_output(self.spec.logs, self.name)
        end_on_terminate_unless_orphaned(self.keeper)
        leave_stand_in(self.spec.sys_path)
        from ray.session.template import run

        run(self.spec, self.keeper, self._record_fd)


class NodeManager(Service):
    def __init__(self, spec: KeeperSpec) -> None:
        super().__init__("node-manager", spec, shown_as="node")
        self.is_to_drain = False  # so will be the next one, if this one has not heard it

    def kept_fds(self) -> list[int]:
        # The keeper keeps the socket as well: other nodes take a machine that refuses for dead (ray.policy.
        # cluster.membership), so it listens from before the first node manager until the node's end.
        return [self.spec.arena_fd, self.spec.link_fd]

    def run(self) -> None:
        redirect_output(self.spec.logs, self.name)
        import contextlib

        # The standard library first, and nothing from the script's folder: a user's redis.py is the
        # workers' business.
        aside = {self.spec.script_folder}
        with contextlib.suppress(FileNotFoundError):  # the working directory may have been removed
            aside.add(os.getcwd())
        sys.path += [path for path in self.spec.sys_path if path not in aside and path not in sys.path]
        from ray.node.manager import run

        spec = self.spec
        run(spec.arena_fd, spec.link_fd, spec.token, self.keeper, spec.release, self.is_to_drain)

    def drain(self) -> None:
        """Says that the node is to leave. One that is not so far as to understand it ends, and the next one
        knows."""
        self.is_to_drain = True
        if self.pid:
            os.kill(self.pid, SIGUSR1)


class RedisServer(Service):
    """The control store's primary server, or one of its shards."""

    signal_on_keeper_death = SIGKILL

    def __init__(self, name: str, spec: KeeperSpec) -> None:
        super().__init__(name, spec)
        # The primary's may be asked for; then it is that one or none.
        wanted = spec.redis_port if name == PRIMARY else 0
        self.is_fixed = wanted > 0 and not spec.any_port
        self.port = wanted or server.random_port()
        self.ports_tried = 1
        self.ready = False
        self.log_tail = b""
        self.log_fd, self._log_write_fd = os.pipe()
        os.set_blocking(self.log_fd, False)
        self._log_file = -1
        if spec.logs:
            self._log_file = open_log(spec.logs, f"{name}.out")

    def kept_fds(self) -> list[int]:
        return [self._log_write_fd]

    def run(self) -> None:
        spec = self.spec
        server.exec_server(spec.redis_binary, spec.host, self.port, spec.password, self._log_write_fd)

    def name_of_server(self) -> str:
        """For errors."""
        return self.spec.redis_binary

    def look(self) -> bool:
        """Whether it has bound its port and knows its password."""
        self.ready = self.ready or server.answers(self.spec.host, self.port, self.spec.password)
        return self.ready

    def move(self) -> bool:
        """Chooses another port; False after too many."""
        self.ready = False
        if self.is_fixed:
            return False
        self.ports_tried += 1
        self.port = server.random_port()
        return self.ports_tried <= server.PORT_ATTEMPTS

    def drain_log(self) -> None:
        """A server never waits for a reader of its log; the end of it is kept for error messages."""
        while True:
            try:
                text = os.read(self.log_fd, 65_536)
            except BlockingIOError:
                return
            self.log_tail = (self.log_tail + text)[-server.LOG_TAIL_BYTES :]
            if self._log_file >= 0:
                os.write(self._log_file, text)


class StoreGate(RedisServer):
    """In the place of a server: the way to one that an operator has."""

    def run(self) -> None:
        from ray.control_store import gate
        from ray.control_store.url import StoreUrl

        processes.set_name("ray-store-gate")
        for fd in STREAMS:
            os.dup2(self._log_write_fd, fd)
        url = StoreUrl(*self.spec.operators_store)  # type: ignore[arg-type]
        gate.run(self.spec.host, self.port, self.spec.password, url)

    def name_of_server(self) -> str:
        return "the way to the operator's control store"


def reset_signals() -> None:
    """Undoes what the keeper has set up. When it starts its first services it has not come to that yet."""
    if "signal" in sys.modules:
        import signal

        signal.set_wakeup_fd(-1)
        for signum in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(signum, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)


def end_on_terminate_unless_orphaned(keeper: int) -> None:
    """SIGTERM ends this process, and the keeper starts another; but when it tells of the keeper's death,
    there is a session to end first. Set up before anything slow is imported."""
    import signal

    def terminate(signum: int, frame: object) -> None:
        if os.getppid() == keeper:
            os._exit(128 + signum)

    signal.signal(signal.SIGTERM, terminate)


def leave_stand_in(sys_path: list[str]) -> None:
    """Makes this an ordinary interpreter with the driver's path, which imports the real `ray`."""
    for name in [name for name in sys.modules if name == "ray" or name.startswith("ray.")]:
        # A keeper that has buried somebody has the kernel loaded; an extension can be loaded only once.
        if name != "ray._kernel":
            del sys.modules[name]
    import site

    site.main()  # import hooks of editable installs, sitecustomize, the virtual environment's prefix
    sys.path[:] = sys_path


def redirect_output(folder: str, name: str) -> None:
    """Sends this process's standard output and error to files in a session's log folder; "" does nothing."""
    if not folder:
        return
    for fd, suffix in STREAMS.items():
        log_fd = open_log_or_null(folder, f"{name}.{suffix}")
        os.dup2(log_fd, fd)
        os.close(log_fd)
