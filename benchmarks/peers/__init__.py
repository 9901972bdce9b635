"""The systems that are compared, one file each.

A peer's file has:
  TITLE         what the table calls it
  DISTRIBUTION  the package whose version is printed
  REQUIREMENTS  what `pip install` is given for its environment; None: the environment of the run itself
  FIRST_RESULT  a program that starts the system with WORKERS workers, and prints the result of one task
  start()       starts it, and returns the object that the questions use: `remote`, `get`, `wait` and
                `put` as in the API; a peer with another API wraps it here
  stop()
"""

WORKERS = 2
