"""Writes the tables of the pages that are made from the code: `python scripts/render_docs.py`.

Each stands between two comments, `<!-- settings: made by scripts/render_docs.py -->` and
`<!-- end of settings -->`; what is around them is written by hand.  A test holds that all are up to date.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

from ray import config, errors
from ray.control_store import schema
from ray.wire import messages as wire

ROOT = Path(__file__).parent.parent
RELIABILITY = ROOT / "docs" / "reliability.md"


def settings() -> str:
    return config.table()


def keys() -> str:
    """The table in the head of the module that holds the keys."""
    rows = [line for line in inspect.getdoc(schema).splitlines() if line.startswith("|")]  # type: ignore[union-attr]
    return "\n".join(rows) + "\n"


def messages() -> str:
    """Every kind, by its number."""
    kinds = sorted(get_args(wire.AnyMessage), key=lambda kind: kind.__struct_config__.tag)
    rows = [f"| `{kind.__name__}` | {kind.__struct_config__.tag} | {_said(kind)} |" for kind in kinds]
    return "\n".join(["| message | kind | what it says |", "|---|--:|---|", *rows, ""])


def failures_of_nodes() -> str:
    """As another page has them."""
    nodes = RELIABILITY.read_text().partition("\n## Nodes\n")[2].partition("\n## ")[0]
    return "".join(f"{line}\n" for line in nodes.splitlines() if line.startswith("|"))


def error_types() -> str:
    """Every error, each below the one it derives from."""
    return "\n".join(_tree(errors.RayError, 0)) + "\n"


def _tree(kind: type[BaseException], depth: int) -> Iterator[str]:
    others = [base.__name__ for base in kind.__bases__ if not issubclass(base, errors.RayError)]
    also = f" (also a `{'`, `'.join(others)}`)" if others and depth else ""
    yield f"{'  ' * depth}- `{kind.__name__}`{also}: {_said(kind)}"
    for below in vars(errors).values():
        if isinstance(below, type) and kind in below.__bases__:
            yield from _tree(below, depth + 1)


def _said(kind: type) -> str:
    return " ".join(inspect.getdoc(kind).partition("\n\n")[0].split())  # type: ignore[union-attr]


PARTS: dict[str, Callable[[], str]] = {
    "settings": settings,
    "keys": keys,
    "messages": messages,
    "failures of nodes": failures_of_nodes,
    "error types": error_types,
}


def rendered(page: str) -> str:
    """The page's text with all of its made parts made anew."""
    for name, make in PARTS.items():
        begin, end = f"<!-- {name}: made by scripts/render_docs.py -->\n", f"<!-- end of {name} -->\n"
        made = f"{begin}\n{make()}\n{end}"
        page = re.sub(f"{begin}.*?{end}", lambda _, made=made: made, page, flags=re.DOTALL)  # type: ignore[misc]
    return page


def main() -> int:
    for path in (*sorted((ROOT / "docs").rglob("*.md")), ROOT / "ARCHITECTURE.md"):
        page = path.read_text()
        if (made := rendered(page)) != page:
            path.write_text(made)
            print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
