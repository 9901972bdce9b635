"""What whoever starts a keeper tells it."""

import marshal


class KeeperSpec:
    """Marshalled through a pipe between two processes of one interpreter. All paths are absolute.

    No dataclass: the import of that module would delay every start.
    """

    def __init__(
        self,
        *,
        release: str,  # of this package, for those who attach
        token: str,  # hexadecimal, names the session
        package_path: list[str],  # where the package `ray` lies
        sys_path: list[str],  # the driver's, for the workers
        script_folder: str,  # of the driver's script; "" when there is none
        argv: list[str],
        preload: list[str],  # modules that the template imports before it forks
        preload_later: list[str],  # and others, when it has nothing else to do
        driver_pid: int,  # whose end is the session's; 0: nobody's
        owner_pid: int,  # whose end is that of a session that belongs to no driver; 0: nobody's
        arena_fd: int,
        host: str,
        password: str,
        admission_key: bytes,  # of drivers of other users; empty: none is admitted
        redis_binary: str,
        operators_store: tuple[object, ...],  # a StoreUrl as a tuple, a secret; empty: a server of our own
        redis_count: int,  # the primary included; 0: a node that has joined another one's
        redis_port: int,  # of the primary, tried first; 0: any
        any_port: bool,  # will do when that is taken
        node_port: int,  # of a node that has joined, in its socket's name; else 0
        num_workers: int,
        num_cpus: int,
        spill_fd: int,  # of the spill file, when the keeper has to keep it; else -1
        spill_bytes: int,
        link_fd: int,  # where a node of a cluster listens, held by the keeper; else -1
        logs: str,  # folder for the output of all processes; "": where the driver's goes
        settings: dict[str, int | float],  # the fields of ray.config.Config
    ) -> None:
        self.release = release
        self.token = token
        self.package_path = package_path
        self.sys_path = sys_path
        self.script_folder = script_folder
        self.argv = argv
        self.preload = preload
        self.preload_later = preload_later
        self.driver_pid = driver_pid
        self.owner_pid = owner_pid
        self.arena_fd = arena_fd
        self.host = host
        self.password = password
        self.admission_key = admission_key
        self.redis_binary = redis_binary
        self.operators_store = operators_store
        self.redis_count = redis_count
        self.redis_port = redis_port
        self.any_port = any_port
        self.node_port = node_port
        self.num_workers = num_workers
        self.num_cpus = num_cpus
        self.spill_fd = spill_fd
        self.spill_bytes = spill_bytes
        self.link_fd = link_fd
        self.logs = logs
        self.settings = settings

    @property
    def is_standalone(self) -> bool:
        """Whether the session goes on without those who started it."""
        return self.driver_pid == 0

    def setting(self, name: str) -> int:
        """A whole-number setting, for those who don't import ray.config."""
        return int(self.settings[name])

    def dump(self) -> bytes:
        return marshal.dumps(self.__dict__)

    @classmethod
    def load(cls, data: bytes) -> "KeeperSpec":
        """From the driver's own pipe only: marshal is not for bytes of strangers."""
        return cls(**marshal.loads(data))
