"""The call by which an actor is asked to go on at another node."""

METHOD = "__ray_leave__"  # which no class has: handles know no name of that form

# The arguments of such a call, as `ray.core.actor` pickles those of others; written out, since it is the node
# manager that calls, which imports no pickle.
PAYLOAD = b"\x80\x05\x95\x13\x00\x00\x00\x00\x00\x00\x00\x8c\x0d__ray_leave__\x94\x85\x94."
