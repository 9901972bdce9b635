"""The command `ray`: sessions that belong to no script, from a shell."""

from ray.cli.main import main

__all__ = ["main"]
