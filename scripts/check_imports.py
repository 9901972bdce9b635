"""Two rules about imports inside the package that import-linter can't hold.

It sees only .py files, so the kernel, an extension, is unknown to it; and it takes an import of the
kernel for one of the package's top, which imports everything, so it is told to overlook those.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "ray"
KERNEL = "ray._kernel"
WITHOUT_KERNEL = ("policy", "control_store", "wire", "errors", "config")


def broken_rules(source: str, room: str, rooms: set[str]) -> Iterator[tuple[int, str]]:
    """Line and what is wrong with it, for the text of a file of this room."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                imported = {alias.name for alias in names}
            case ast.ImportFrom(module=str(module), level=0, names=names):
                imported = {module} | {f"{module}.{alias.name}" for alias in names}
            case ast.Attribute(value=ast.Name(id="ray"), attr=attribute):
                imported = {f"ray.{attribute}"}
            case ast.ImportFrom(level=level) if level > 0:
                yield node.lineno, "relative import; write the module's full name"
                continue
            case _:
                continue
        if KERNEL in imported and room in WITHOUT_KERNEL:
            yield node.lineno, f"ray.{room} may not import {KERNEL}"
        for name in sorted(imported):
            top, _, rest = name.partition(".")
            if top == "ray" and rest and not rest.startswith("_") and rest.partition(".")[0] not in rooms:
                yield (
                    node.lineno,
                    f"{name} is the package's face to users; import it from the room it is made in",
                )


def main() -> int:
    rooms = {path.stem for path in SOURCE.iterdir() if path.is_dir() or path.suffix == ".py"}
    status = 0
    for path in sorted(SOURCE.rglob("*.py")):
        inside = path.relative_to(SOURCE)
        for line, wrong in broken_rules(path.read_text(), inside.parts[0].removesuffix(".py"), rooms):
            print(f"{path}:{line}: {wrong} (ARCHITECTURE.md, Rooms)")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
