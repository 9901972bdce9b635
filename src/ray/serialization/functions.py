"""Functions and classes to bytes and back.

In front of the pickle stands a description that can be read without running any of the user's code:

    4 bytes magic, u16 kind, u16 length of the module's name, u16 length of the qualified name
    both names in UTF-8
    the pickle, made by cloudpickle
"""

import struct
import types
from typing import TYPE_CHECKING, Any, NamedTuple

from ray import _kernel
from ray.errors import SerializationError

if TYPE_CHECKING:
    from ray._kernel import View

FUNCTION = 0
CLASS = 1

_MAGIC = b"RFN1"
_HEADER = struct.Struct("<4sHHH")
_NAME_BYTES = 1024  # longer names are cut; they are for people


class FunctionDescription(NamedTuple):
    """What is known of a pickled function or class without unpickling it."""

    kind: int
    module: str
    name: str

    @property
    def full_name(self) -> str:
        """Module and qualified name, as in tracebacks."""
        return f"{self.module}.{self.name}" if self.module else self.name

    @property
    def subject(self) -> str:
        """What an error message calls it."""
        return f"the {'class' if self.kind == CLASS else 'function'} {self.full_name!r}"


def pickle_function(function: types.FunctionType | type | Any) -> bytes:
    """A function or class with its description in front.

    Ids that it captures are known to the caller who calls it by `_kernel.collect`.
    Raises SerializationError, which names the variable at fault where it can be found.
    """
    from ray.serialization import pickling

    kind = CLASS if isinstance(function, type) else FUNCTION
    module = str(getattr(function, "__module__", None) or "")
    name = str(getattr(function, "__qualname__", None) or repr(function))
    description = FunctionDescription(kind, module, name)
    try:
        pickled = pickling.dumps(function)
    except _kernel.KernelError:
        raise
    except (Exception, SystemExit) as error:
        raise _cannot_pickle(function, description, error) from error
    names = [text.encode("utf-8", "replace")[:_NAME_BYTES] for text in (module, name)]
    return b"".join((_HEADER.pack(_MAGIC, kind, len(names[0]), len(names[1])), *names, pickled))


def _cannot_pickle(
    function: Any, description: FunctionDescription, error: BaseException
) -> SerializationError:
    from ray.serialization.culprit import find_culprit
    from ray.serialization.tracebacks import reason_of

    path, type_name = find_culprit(function)
    return SerializationError("pickle", description.subject, type_name, path, reason_of(error))


def describe(blob: "bytes | View | memoryview") -> FunctionDescription:
    """The description in front.  Raises SerializationError for bytes that are no pickled function."""
    return _split(blob)[0]


def unpickle_function(blob: "bytes | View | memoryview") -> Any:
    """The function or class.  Runs code of the user's modules.  Raises SerializationError."""
    import pickle  # not for the node manager, which reads descriptions and unpickles nothing

    description, pickled = _split(blob)
    try:
        return pickle.loads(pickled)
    except (_kernel.KernelError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        from ray.serialization.tracebacks import reason_of

        raise SerializationError("unpickle", description.subject, reason=reason_of(error)) from error


def _split(blob: "bytes | View | memoryview") -> tuple[FunctionDescription, memoryview]:
    view = memoryview(blob)
    if view.nbytes < _HEADER.size or bytes(view[:4]) != _MAGIC:
        raise SerializationError("unpickle", "a function", reason="these bytes are not a pickled function")
    _, kind, module_bytes, name_bytes = _HEADER.unpack_from(view)
    middle = _HEADER.size + module_bytes
    end = middle + name_bytes
    module = str(view[_HEADER.size : middle], "utf-8", "replace")
    name = str(view[middle:end], "utf-8", "replace")
    return FunctionDescription(kind, module, name), view[end:]
