"""Which rooms may import ray._kernel: a rule that import-linter can't hold, since it sees only .py files."""

import ast
import sys
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "ray"
FORBIDDEN_ROOMS = ("policy", "control_store", "errors", "config")


def imports_kernel(source: str) -> bool:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names) if any(alias.name == "ray._kernel" for alias in names):
                return True
            case ast.ImportFrom(module="ray._kernel"):
                return True
            case ast.ImportFrom(module="ray" | None, names=names) if any(a.name == "_kernel" for a in names):
                return True
    return False


def main() -> int:
    status = 0
    for path in sorted(SOURCE.rglob("*.py")):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if room in FORBIDDEN_ROOMS and imports_kernel(path.read_text()):
            print(f"{path}: ray.{room} may not import ray._kernel (ARCHITECTURE.md, Rooms)")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
