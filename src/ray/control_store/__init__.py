"""The control store: a Redis server of the session's own, its keys, and the only users of its client."""
