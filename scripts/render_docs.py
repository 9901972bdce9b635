"""Writes the tables of docs/ that are made from the code: `python scripts/render_docs.py`.

Each stands between two comments, `<!-- settings: made by scripts/render_docs.py -->` and
`<!-- end of settings -->`; what is around them is written by hand.  A test holds that all are up to date.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from ray import config, errors
from ray.control_store import schema

DOCS = Path(__file__).parent.parent / "docs"


def settings() -> str:
    return config.table()


def keys() -> str:
    """The table in the head of the module that holds the keys."""
    rows = [line for line in inspect.getdoc(schema).splitlines() if line.startswith("|")]  # type: ignore[union-attr]
    return "\n".join(rows) + "\n"


def error_types() -> str:
    """Every error, each below the one it derives from."""
    return "\n".join(_tree(errors.RayError, 0)) + "\n"


def _tree(kind: type[BaseException], depth: int) -> Iterator[str]:
    others = [base.__name__ for base in kind.__bases__ if not issubclass(base, errors.RayError)]
    also = f" (also a `{'`, `'.join(others)}`)" if others and depth else ""
    said = " ".join(inspect.getdoc(kind).partition("\n\n")[0].split())  # type: ignore[union-attr]
    yield f"{'  ' * depth}- `{kind.__name__}`{also}: {said}"
    for below in vars(errors).values():
        if isinstance(below, type) and kind in below.__bases__:
            yield from _tree(below, depth + 1)


PARTS: dict[str, Callable[[], str]] = {"settings": settings, "keys": keys, "error types": error_types}


def rendered(page: str) -> str:
    """The page's text with all of its made parts made anew."""
    for name, make in PARTS.items():
        begin, end = f"<!-- {name}: made by scripts/render_docs.py -->\n", f"<!-- end of {name} -->\n"
        made = f"{begin}\n{make()}\n{end}"
        page = re.sub(f"{begin}.*?{end}", lambda _, made=made: made, page, flags=re.DOTALL)  # type: ignore[misc]
    return page


def main() -> int:
    for path in sorted(DOCS.rglob("*.md")):
        page = path.read_text()
        if (made := rendered(page)) != page:
            path.write_text(made)
            print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
