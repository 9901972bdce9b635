"""The systems that are compared, one file each.

A peer's file has:
  TITLE     what the table calls it
  PACKAGES  what is installed for it, its own distribution first; none: the environment of the run itself
  LOCK      the file with the exact versions of these
  CAN       what it can do, of the abilities below; a question says what it needs
  start(workers)            starts it, and returns its system
  stop()
  inside()                  the system inside of a task (a context manager), where it CAN do "nested"
  mapped(system, f, items)  the results of its own map, as it comes: `f` on each item
  in_chunks(system, f, items)  the same by its form for many small items, where it CAN do "chunks"
  popped(system, ids)       the ids one by one, as they have results, where it CAN do "wait"
  unordered(system, f, items, shared)  the results of f(item, shared), in the order in which they come
  FIRST_RESULT  a program that starts it with WORKERS workers, and prints the result of one task
  IMPORT        the statement that imports it
and, where it CAN do "nodes",
  start_cluster(nodes)  starts a node of the driver's without CPUs and so many others of one CPU each, on this
            machine, and returns its system: whatever it runs, it runs on another node than the driver's

A system has `remote`, `get`, `put` and actors as in the API.  The two rays are used bare; a peer with
another API wraps it.
"""

WORKERS = 2

DEPENDENCIES = "dependencies"  # ids as arguments
STORE = "store"  # put, and get of what was put
WAIT = "wait"
NESTED = "nested"  # tasks that run tasks
ACTORS = "actors"
ORDER = "calls of an actor in the order made"
CHUNKS = "chunks"
NODES = "nodes"
STORE_BYTES = 1 << 30  # of each node
