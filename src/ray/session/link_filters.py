"""Links of nodes that share a machine, cut for a test: what comes from another is dropped, as by a network.

Nothing in the nodes plays along. The sockets of a node manager get a filter (SO_ATTACH_FILTER, socket(7))
that drops packets by the address they come from; each node of a LocalCluster has an address of its own. TCP
sees what it sees when a cable is pulled: no reset, no refusal, only silence, and later what was sent again.
"""

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Collection, Iterator

_PIDFD_GETFD = 438  # the system call, in every architecture (pidfd_getfd(2))
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
# Classic BPF (Documentation/networking/filter.rst): code, jump if true, jump if false, operand.
_INSTRUCTION, _PROGRAM = struct.Struct("HBBI"), struct.Struct("HP")
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_SOURCE_ADDRESS = 0xFFF00000 + 12  # in the IPv4 header
_WHOLE_PACKET = 0xFFFFFFFF
_PASSES = 10  # over a process's sockets, until there are no new ones

_libc = ctypes.CDLL(None, use_errno=True)


def drop(pid: int, from_hosts: Collection[str], no_new_from: Collection[str]) -> None:
    """From now on what comes to this process's TCP sockets from `from_hosts` is lost, and what would be a new
    connection from `no_new_from`; instead of what was said before.

    For another process of this user, which this one may trace (ptrace(2)). Raises OSError.
    """
    listening, others = _program(no_new_from), _program(from_hosts)
    done: set[int] = set()
    for _ in range(_PASSES):
        # A connection that nobody has accepted yet has no descriptor: it is found in the next pass.
        found = {connection.inode: connection for connection in _connections(pid)}
        try:
            new = [found[inode] for inode in found.keys() - done]
            for each in sorted(new, key=lambda each: not each.is_listening):
                _attach(each.socket, listening if each.is_listening else others)
        finally:
            for each in found.values():
                each.socket.close()
        if done and not new:
            return
        done.update(found)


class _Connection:
    def __init__(self, tcp: socket.socket) -> None:
        self.socket = tcp
        self.inode = os.fstat(tcp.fileno()).st_ino
        self.is_listening = bool(tcp.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _connections(pid: int) -> Iterator[_Connection]:
    """The TCP sockets of a process, as sockets of this one."""
    process = os.pidfd_open(pid)
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed since
                if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
                    continue
                fd = _libc.syscall(_PIDFD_GETFD, process, int(name), 0)
                if fd < 0:
                    error = ctypes.get_errno()
                    raise OSError(error, os.strerror(error))
                copy = socket.socket(fileno=fd)
                if copy.family == socket.AF_INET and copy.type == socket.SOCK_STREAM:
                    yield _Connection(copy)
                else:
                    copy.close()
    finally:
        os.close(process)


def _program(hosts: Collection[str]) -> bytes:
    """Drops what comes from there; empty when nothing is to be dropped."""
    if not hosts:
        return b""
    instructions = [(_LOAD_WORD, 0, 0, _SOURCE_ADDRESS)]
    for left, host in zip(range(len(hosts), 0, -1), hosts, strict=True):
        (address,) = struct.unpack("!I", socket.inet_aton(host))
        instructions.append((_JUMP_IF_EQUAL, left, 0, address))
    instructions += [(_RETURN, 0, 0, _WHOLE_PACKET), (_RETURN, 0, 0, 0)]
    return b"".join(_INSTRUCTION.pack(*each) for each in instructions)


def _attach(tcp: socket.socket, program: bytes) -> None:
    if not program:
        with contextlib.suppress(FileNotFoundError):  # it has none
            tcp.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
        return
    code = ctypes.create_string_buffer(program)
    count = len(program) // _INSTRUCTION.size
    tcp.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _PROGRAM.pack(count, ctypes.addressof(code)))
