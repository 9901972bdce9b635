"""What nodes of a cluster say to each other, and how: the token, TLS, messages, links and bulk transfers.

Nothing here is imported before a cluster is started or joined: a script's own session needs none of it. No
pickle, no kernel, no Redis: bytes come in, checked messages go up, and buffers are given by whoever owns
them.
"""
