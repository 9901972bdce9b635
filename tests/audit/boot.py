"""A keeper under audit: `python -S boot.py REAL_BOOT ARGUMENTS...` installs the hook, then runs that."""

import os
import sys

sys.path[0] = os.path.dirname(os.path.abspath(__file__))
import hook  # noqa: E402 - found by the line before

hook.install(os.environ["RAY_TEST_AUDIT"])
del sys.argv[0]
sys.path[0] = os.path.dirname(sys.argv[0])
with open(sys.argv[0], "rb") as file:
    program = compile(file.read(), sys.argv[0], "exec")
exec(program, {"__name__": "__main__", "__file__": sys.argv[0], "__builtins__": __builtins__})
