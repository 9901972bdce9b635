"""Compares src/ray/_kernel.pyi with the built extension: names of classes, members and parameters.

What the extension holds is asked of nanobind's own stub generator; both texts are then read as
surfaces (name -> what can be said about it) and compared. Types are left to mypy and the tests:
the stub's are narrower than what the generator can know.
"""

import ast
import importlib
import inspect
import subprocess
import sys
import tempfile
import types
from pathlib import Path

STUB = Path(__file__).parent.parent / "src" / "ray" / "_kernel.pyi"
MODULE = "ray._kernel"

Surface = dict[str, set[str]]

# Written in a stub to tell mypy of a protocol; at run time the class has a slot, not these methods.
SLOTS = {"__buffer__": (3, 12)}


def surface(source: str) -> Surface:
    """Every public name of a stub's text; overloaded functions have one description for each form."""
    found: Surface = {}
    for node in ast.parse(source).body:
        match node:
            case ast.ClassDef():
                bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
                found[node.name] = {f"class({', '.join(base for base in bases if base != 'object')})"}
                for member in node.body:
                    _add_member(found, member, f"{node.name}.")
            case _:
                _add_member(found, node, "")
    return found


def _add_member(found: Surface, node: ast.stmt, prefix: str) -> None:
    match node:
        case ast.FunctionDef(name=name, decorator_list=decorators):
            names = {ast.unparse(decorator).rpartition(".")[2] for decorator in decorators}
            if "property" in names:
                says = "attribute"
            elif "setter" in names:
                return
            else:
                says = ("static " if "staticmethod" in names else "") + _parameters(node.args)
        case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
            if "TypeAlias" in ast.unparse(annotation):
                return  # for the reader of the stub only
            says = "attribute"
        case ast.Assign(targets=[ast.Name(id=name)]):
            says = "attribute"
        case _:
            return
    if name.startswith("_") and not name.startswith("__"):
        return
    found.setdefault(prefix + name, set()).add(says)


def _parameters(arguments: ast.arguments) -> str:
    """Names in order; `=` after those with a default, `/` and `*` where they stand."""
    named = arguments.posonlyargs + arguments.args
    first_default = len(named) - len(arguments.defaults)
    parts = []
    for i, argument in enumerate(named):
        parts.append(argument.arg + ("=" if i >= first_default else ""))
        if i + 1 == len(arguments.posonlyargs) and argument.arg != "self":
            parts.append("/")
    if arguments.vararg:
        parts.append("*" + arguments.vararg.arg)
    elif arguments.kwonlyargs:
        parts.append("*")
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        parts.append(argument.arg + ("=" if default is not None else ""))
    if arguments.kwarg:
        parts.append("**" + arguments.kwarg.arg)
    return f"({', '.join(parts)})"


def differences(stub: Surface, built: Surface) -> list[str]:
    """What to change, a line each; [] when the two agree."""
    lines = []
    for name in sorted(stub.keys() | built.keys()):
        special = name.rpartition(".")[2].startswith("__")
        if name not in built:
            lines.append(f"{name}: in the stub, not in the extension")
        elif name not in stub:
            if not special:  # slots that every class of the binding library has
                lines.append(f"{name}: in the extension, not in the stub")
        elif stub[name] != built[name]:
            says, is_built = (" or ".join(sorted(form)) for form in (stub[name], built[name]))
            lines.append(f"{name}: the stub says {says}, the extension {is_built}")
    return lines


def built_surface(stub: Surface) -> Surface:
    """The extension's, with the special methods that the stub names looked up in the extension itself."""
    with tempfile.TemporaryDirectory() as folder:
        generated = Path(folder) / "generated.pyi"
        command = [sys.executable, "-m", "nanobind.stubgen", "-q", "-m", MODULE, "-o", str(generated)]
        subprocess.run(command, check=True)
        built = surface(generated.read_text())
    module = importlib.import_module(MODULE)
    for name in built:
        owner, _, member = name.rpartition(".")
        method = getattr(getattr(module, owner, None), member, None)
        if isinstance(method, types.MethodDescriptorType):  # of a type that is not the binding library's
            text = ast.parse(f"def {member}{inspect.signature(method)}: ...").body[0]
            assert isinstance(text, ast.FunctionDef)
            built[name] = {_parameters(text.args)}
    for name in stub:
        owner, _, member = name.rpartition(".")
        if name not in built and owner in built and member.startswith("__"):
            inherited = getattr(object, member, None)
            here = getattr(getattr(module, owner), member, inherited)
            if here is not inherited or sys.version_info < SLOTS.get(member, (0,)):
                built[name] = stub[name]
    return built


def main() -> int:
    stub = surface(STUB.read_text())
    lines = differences(stub, built_surface(stub))
    for line in lines:
        print(f"{STUB.name}: {line}")
    if not lines:
        print(f"{STUB.name}: {len(stub)} names agree with the built extension")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
