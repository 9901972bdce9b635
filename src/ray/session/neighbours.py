"""PyPI's package `ray` has our import name; in one environment the two overwrite each other's files."""

import os
import sys
from collections.abc import Iterable

from ray.errors import InitError


def other_ray(folders: Iterable[str]) -> str | None:
    """Version of a PyPI `ray` installed in one of these folders, found by its metadata alone."""
    for folder in folders:
        if not folder.endswith(("site-packages", "dist-packages")):
            continue
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            if name.startswith("ray-") and name.endswith(".dist-info"):
                return name.removeprefix("ray-").removesuffix(".dist-info")
    return None


def refuse_other_ray() -> None:
    """Raises InitError if PyPI's `ray` is in this environment too."""
    version = other_ray(sys.path)
    if version is not None:
        raise InitError(
            f"This environment holds PyPI's package 'ray' ({version}) beside raycore. Both are imported as "
            "'ray', and their files overwrite each other. Remove one of them ('python -m pip uninstall ray' "
            "or 'python -m pip uninstall raycore'; install the other again), or keep them in two places."
        )
