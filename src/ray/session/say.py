"""One line to the user from a process of the session."""

import sys


def say(text: str) -> None:
    """On standard error, which may be closed, or a pipe that nobody reads any more: then the line is lost."""
    try:
        sys.stderr.write(f"ray: {text}\n")
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        return
