"""The tokens of clusters: where they lie, which of them a driver shows, and what is made of one.

A cluster's token is in a file of its own in the configuration folder of the user who has started it, named
by the port of its control store: `~/.config/ray/token-6379`. It goes with the cluster. With `--token-file`
it lies where the user says, is used again by the next cluster that is started so, and stays. Who comes from
elsewhere keeps a copy under the same name in their own folder, or as `~/.config/ray/token`, or wherever
RAY_TOKEN_FILE says.
"""

import os

from ray.session import admission
from ray.wire.token import LABEL_CONTROL_STORE, PATH_VARIABLE, ClusterToken, configuration_folder

PASSWORD_BYTES = 24


def of_port(port: int) -> str:
    """The file of a cluster that this user starts without naming one."""
    return os.path.join(configuration_folder(), f"token-{port}")


def to_show(port: int) -> str | None:
    """The file with the token that this user has for the cluster at that port; None when there is none."""
    if named := os.environ.get(PATH_VARIABLE):
        return named
    usual = (of_port(port), os.path.join(configuration_folder(), "token"))
    return next((path for path in usual if os.path.lexists(path)), None)


def of_new_cluster(path: str | None) -> ClusterToken:
    """The token in the file that the user has named, if it is there; else a new one.

    Raises ClusterTokenError for a file that holds no token, or is not to be trusted.
    """
    return ClusterToken.load(path) if path is not None and os.path.lexists(path) else ClusterToken.new()


def password(token: ClusterToken) -> str:
    """Of the cluster's control store."""
    return token.derive(LABEL_CONTROL_STORE, PASSWORD_BYTES).hex()


def admission_key(token: ClusterToken) -> bytes:
    """Of drivers of other users (`ray.session.admission`)."""
    return token.derive(admission.KEY_LABEL, admission.KEY_BYTES)
