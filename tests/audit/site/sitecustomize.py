"""In every interpreter of a test run: the keepers that it spawns start under `tests/audit/boot.py`.

`tests/conftest.py` puts this folder on PYTHONPATH. A keeper itself, being a bare interpreter, runs no
sitecustomize; so it is its command line that changes.
"""

import os
from typing import Any

FILE_VARIABLE = "RAY_TEST_AUDIT"  # where the audited processes write
BOOT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "boot.py")


def audit_keepers() -> None:
    spawn = os.posix_spawn

    def audited(path: Any, argv: Any, env: Any, **options: Any) -> int:
        arguments = list(argv)
        for at, argument in enumerate(arguments):
            if isinstance(argument, str) and argument.endswith("/session/boot.py") and FILE_VARIABLE in env:
                arguments.insert(at, BOOT)
                break
        return spawn(path, arguments, env, **options)

    os.posix_spawn = audited


if FILE_VARIABLE in os.environ:
    audit_keepers()
