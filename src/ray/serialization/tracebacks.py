"""The text of an exception as the user should see it: bounded, and without the frames of this package."""

import os
import traceback
from collections.abc import Iterator

import cloudpickle

# A frame is ours if its file lies in one of these folders.
_OUR_FILES = (os.path.dirname(os.path.abspath(__file__)), cloudpickle.__file__)
_OUR_FOLDERS = tuple(os.path.dirname(path) + os.sep for path in _OUR_FILES)
_MODULE, _NAME = vars(type)["__module__"], vars(type)["__qualname__"]
_REASON_BYTES = 2048
_CHAIN_LIMIT = 16  # exceptions shown of a chain of causes, the last ones
_BY_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_BY_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"


def user_traceback(error: BaseException, limit_bytes: int) -> str:
    """The traceback with its chain of causes; never raises, whatever the exception's own methods do."""
    try:
        found = traceback.TracebackException.from_exception(error)
        parts = [_one(found, limit_bytes)]
        for joint, cause in _causes(found):
            if len(parts) >= 2 * _CHAIN_LIMIT:
                parts.append("(earlier causes are left out)\n")
                break
            # What happened entirely within this package is told by the error that it led to.
            had_frames = bool(cause.stack)
            part = _one(cause, limit_bytes)
            if not had_frames or cause.stack:
                parts += (joint, part)
        return shorten("".join(reversed(parts)), limit_bytes)
    except BaseException as problem:  # a user's class can make every step of this fail
        return f"{type_name(error)} (its traceback could not be written: {type_name(problem)})\n"


def _causes(
    found: traceback.TracebackException,
) -> Iterator[tuple[str, traceback.TracebackException]]:
    """What led to an exception, nearest first, each with the words that join it to what follows."""
    while True:
        if found.__cause__ is not None:
            joint, found = _BY_CAUSE, found.__cause__
        elif found.__context__ is not None and not found.__suppress_context__:
            joint, found = _BY_CONTEXT, found.__context__
        else:
            return
        yield joint, found


def _one(found: traceback.TracebackException, limit_bytes: int) -> str:
    _drop_our_frames(found)
    whole = found.stack or getattr(found, "exceptions", None)
    lines = found.format(chain=False) if whole else found.format_exception_only()
    return "".join(shorten(line, limit_bytes) for line in lines)


def _drop_our_frames(found: traceback.TracebackException) -> None:
    if found.stack is not None:
        found.stack[:] = [frame for frame in found.stack if not frame.filename.startswith(_OUR_FOLDERS)]
    for inner in getattr(found, "exceptions", None) or ():
        _drop_our_frames(inner)


def type_name(error: BaseException) -> str:
    """The qualified name of the exception's type, without `builtins` and `__main__`."""
    module, name = module_and_name(type(error))
    return name if module in ("builtins", "__main__") else f"{module}.{name}"


def module_and_name(kind: type) -> tuple[str, str]:
    """Of a class, as the class statement had them; a metaclass may have its own idea of these, and raise."""
    return str(_MODULE.__get__(kind)), str(_NAME.__get__(kind))


def reason_of(error: BaseException) -> str:
    """Type and text of an exception in a line for another one's message: bounded, and never raises."""
    try:
        text = str(error)
    except BaseException as problem:  # a user's __str__ may raise anything
        text = f"its text could not be made: {type_name(problem)}"
    return shorten(f"{shorten(type_name(error), _REASON_BYTES)}: {text}", _REASON_BYTES)


def shorten(text: str, limit_bytes: int) -> str:
    """The text if its UTF-8 fits; else its head and tail around a line that says how much was cut."""
    if len(text) * 4 <= limit_bytes:
        return text
    encoded = text.encode("utf-8", "backslashreplace")
    if len(encoded) <= limit_bytes:
        return encoded.decode()
    note = f"\n... {len(encoded) - limit_bytes:,} bytes left out ...\n"
    half = max((limit_bytes - len(note)) // 2, 0)
    head = encoded[:half].decode("utf-8", "ignore")
    tail = encoded[len(encoded) - half :].decode("utf-8", "ignore")
    return (head + note + tail) if limit_bytes > len(note) else head
