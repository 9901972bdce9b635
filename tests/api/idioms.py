"""Code with its results beside it, in comments, made into code that checks them."""

import ast
import contextlib

PREAMBLE = """\
def _checked(found, expected):
    if found != expected:
        raise AssertionError(f"{found!r} is not {expected!r}")

def _printed(expected, *values):
    _checked(" ".join(map(str, values)), expected)
    print(*values)
"""


def checked(code: str) -> str:
    """`expression  # value` and `print(...)  # text` become checks, if the comment is a value or the text.

    Lines keep their numbers; the code needs PREAMBLE before it.
    """
    lines = code.splitlines()
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Expr) or node.lineno != node.end_lineno or node.end_col_offset is None:
            continue
        line = lines[node.lineno - 1]
        head, expression = line[: node.col_offset], line[node.col_offset : node.end_col_offset]
        comment = line[node.end_col_offset :].strip().removeprefix("#").strip()
        if not comment:
            continue
        if expression.startswith("print("):
            lines[node.lineno - 1] = f"{head}_printed({comment!r}, {expression.removeprefix('print(')}"
            continue
        with contextlib.suppress(ValueError, SyntaxError):
            value = ast.literal_eval(comment)
            lines[node.lineno - 1] = f"{head}_checked(({expression}), {value!r})"
    return "\n".join(lines) + "\n"
