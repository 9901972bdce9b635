"""What a template imports, so that its workers need not: each would, for its own memory.

The driver's imports are the best guess at what its tasks and actors import.  A template runs no user code,
so only the standard library's modules are guessed, and by name those libraries that are known to take a
fork well.
"""

import os
import sys
from collections.abc import Mapping
from types import ModuleType

# Before the first fork: nearly every worker of such a program needs them.
AT_ONCE = ("numpy",)
# They change the terminal, open windows or print when they are imported.
_NEVER = frozenset(
    {
        "antigravity",
        "curses",
        "idlelib",
        "pdb",
        "readline",
        "rlcompleter",
        "test",
        "this",
        "tkinter",
        "turtle",
    }
)


def at_once(modules: Mapping[str, ModuleType]) -> list[str]:
    """Of the driver's modules those that are imported before the first worker is forked."""
    return [name for name in AT_ONCE if name in modules]


def later(modules: Mapping[str, ModuleType]) -> list[str]:
    """Of the driver's modules those of the standard library, in the order in which it imported them.

    A file of the user's that has the name of such a module is none of them."""
    folder = os.path.dirname(os.__file__) + os.sep
    return [name for name, module in list(modules.items()) if _is_standard(name, module, folder)]


def _is_standard(name: str, module: ModuleType, folder: str) -> bool:
    top = name.partition(".")[0]
    if top not in sys.stdlib_module_names or top in _NEVER:
        return False
    file = getattr(module, "__file__", None)
    return isinstance(module, ModuleType) and (file is None or file.startswith(folder))
