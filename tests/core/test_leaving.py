"""The call by which an actor is asked to go on at another node."""

import pickle

from ray.core import leaving


def test_it_is_a_call_like_others() -> None:
    assert pickle.dumps((leaving.METHOD,), 5) == leaving.PAYLOAD
