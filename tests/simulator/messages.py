"""What nodes say to each other in the model: the messages of the design, with node ids where owners are
named."""

from dataclasses import dataclass

Ref = tuple[bytes, bytes]  # id and the node that owns it
Times = tuple[tuple[bytes, int], ...]


@dataclass(frozen=True, slots=True)
class Sync:
    noted: Times
    tasks: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class WireTask:
    id: bytes
    payload: bytes
    deps: tuple[Ref, ...]
    nested: tuple[Ref, ...]
    num_returns: int
    attempt: int
    retries: int


@dataclass(frozen=True, slots=True)
class Run:
    tasks: tuple[WireTask, ...]


@dataclass(frozen=True, slots=True)
class Result:
    id: bytes
    fmt: int
    data: bytes | None
    size: int
    nested: tuple[Ref, ...]


@dataclass(frozen=True, slots=True)
class Results:
    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class Return:
    returned: Times


@dataclass(frozen=True, slots=True)
class Borrow:
    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Lent:
    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Want:
    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Values:
    values: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Wanted values that are at another node."""

    places: tuple[Ref, ...]  # id and that node


@dataclass(frozen=True, slots=True)
class Lost:
    ids: tuple[bytes, ...]


Message = Sync | Run | Results | Return | Borrow | Lent | Want | Values | Elsewhere | Lost
