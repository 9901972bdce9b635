"""The first lines of a keeper: `python -S boot.py COMMAND_FD REPORT_FD PACKAGE_FOLDER...`.

A bare interpreter (no `site`) starts in half the time of a full one. It runs the keeper's modules
inside a stand-in for the package `ray`, whose own `__init__` a keeper has no use for.
"""

import sys


def main() -> None:
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]  # this folder: its files must not be found as top-level modules
    command_fd, report_fd = int(sys.argv[1]), int(sys.argv[2])
    package = type(sys)("ray")
    package.__path__ = sys.argv[3:]
    sys.modules["ray"] = package
    from ray.session.keeper import Keeper
    from ray.session.pipes import read_message
    from ray.session.spec import KeeperSpec

    message = read_message(command_fd)
    if message:
        Keeper(KeeperSpec.load(message), command_fd, report_fd).run()


if __name__ == "__main__":
    main()
