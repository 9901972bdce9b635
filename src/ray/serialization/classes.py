"""Classes that travel by value, because the reader cannot import them (those of `__main__`, mostly).

Cloudpickle sets a class's attributes anew with each instance that arrives, also where the class comes
from.  There it would undo what the program did to the class meanwhile, and replace its methods by
copies that no longer see the program's globals.  So here a class is never changed in the process
that defined it; in others, the newest version that arrives holds.
"""

import weakref
from collections.abc import Callable
from typing import Any

_defined_here: "weakref.WeakSet[type]" = weakref.WeakSet()
_received: "weakref.WeakSet[type]" = weakref.WeakSet()


def reduce_class(kind: type, reduction: Any) -> Any:
    """Cloudpickle's reduction of the class, changed so that the class's own process is left alone."""
    if not isinstance(reduction, tuple) or len(reduction) != 6:
        return reduction  # by name
    if kind not in _received:
        _defined_here.add(kind)
    maker, args, state, _, _, set_state = reduction
    return maker, args, (set_state, state), None, None, set_class_state


def set_class_state(kind: type, state: tuple[Callable[[type, Any], Any], Any]) -> None:
    """Fills a class that has arrived, unless it was defined here."""
    if kind not in _defined_here:
        _received.add(kind)
        set_state, attributes = state
        set_state(kind, attributes)
