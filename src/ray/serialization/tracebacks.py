"""The text of an exception as the user should see it: bounded, and without the frames of this package."""

import os
import traceback

import cloudpickle

# A frame is ours if its file lies in one of these folders.
_OUR_FILES = (os.path.dirname(os.path.abspath(__file__)), cloudpickle.__file__)
_OUR_FOLDERS = tuple(os.path.dirname(path) + os.sep for path in _OUR_FILES)
_CHAIN_LIMIT = 16  # exceptions shown of a chain of causes, the last ones
_BY_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_BY_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"


def user_traceback(error: BaseException, limit_bytes: int) -> str:
    """The traceback with its chain of causes; never raises, whatever the exception's own methods do."""
    try:
        found: traceback.TracebackException | None = traceback.TracebackException.from_exception(error)
        parts: list[str] = []
        for _ in range(_CHAIN_LIMIT):
            if found is None:
                break
            parts.insert(0, _one(found, limit_bytes))
            if found.__cause__ is not None:
                parts.insert(0, _BY_CAUSE)
                found = found.__cause__
            elif found.__context__ is not None and not found.__suppress_context__:
                parts.insert(0, _BY_CONTEXT)
                found = found.__context__
            else:
                found = None
        if found is not None:
            parts[0] = "(earlier causes are left out)\n"
        return shorten("".join(parts), limit_bytes)
    except Exception as problem:  # a user's class can make every step of this fail
        return f"{type_name(error)} (its traceback could not be written: {type(problem).__name__})\n"


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
    """The qualified name of the exception's type, without `builtins`."""
    kind = type(error)
    module = str(kind.__module__)
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


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
