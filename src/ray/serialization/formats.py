"""What the format number of a stored value means; ARCHITECTURE.md, "Values", has the table.

0 to 99 are values and 100 to 255 failures, except FORMAT_ALIAS, which stands for another object.
"""

from ray._kernel import FORMAT_ALIAS, FORMAT_ERROR, FORMAT_SYSTEM

PICKLE = 0  # one pickle
BUFFERS = 1  # a pickle and its out-of-band buffers; layout in values.py
RAW = 2  # bytes as they are
TASK_ERROR = 100  # layout in failures.py
OUT_OF_MEMORY = 101  # layout in shortages.py
ALIAS = FORMAT_ALIAS
SYSTEM_FAILURE = FORMAT_SYSTEM


def is_failure(fmt: int) -> bool:
    """Whether getting a value of this format raises."""
    return fmt >= FORMAT_ERROR and fmt != ALIAS
