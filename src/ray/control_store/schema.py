"""Every key of the control store.

| key | type | holds |
|---|---|---|
| `ray:session` | hash | the session's record (`ray.session.record`), without secrets |
| `ray:jobs` | hash | job → JSON: pid, root_id, name, start_time_s; end_time_s; sys_path, code, home |
| `ray:functions` | stream | code: job, data (JSON: id, key, name, kind, module, a class's methods) |
| `ray:errors:<job>` | stream | failed tasks of one job: job, format, data (`ray.serialization.failures`) |
| `ray:nodes` | hash | node id → JSON: address; dead: why it was declared dead, "" of a member |
| `ray:head` | string | JSON: the head that has an operator's database (`ray.control_store.hold`); expires |
| `ray:notes` | stream | what the session's own processes had to say: job, format, data |
| `ray:journal:place` | string | the last entry of the arena's journal that this server has taken |

A stream entry's id is `<journal sequence>-0`, and streams are cut to a length, oldest first. With
shards, the errors of a job lie on one of them; all else lies on the primary.
"""

SESSION = "ray:session"
JOBS = "ray:jobs"
FUNCTIONS = "ray:functions"
NODES = "ray:nodes"
HEAD = "ray:head"
NOTES = "ray:notes"
PLACE = "ray:journal:place"

PRIMARY = 0
FUNCTIONS_KEPT = 10_000
NOTES_KEPT = 10_000
JOBS_KEPT = 1_000
ENDED_JOB_ERRORS_S = 24 * 3600  # the errors of a job that has ended are kept this long

FIELD_JOB, FIELD_FORMAT, FIELD_DATA = b"job", b"format", b"data"


def errors(job: int) -> str:
    return f"ray:errors:{job}"


def errors_server(job: int, servers: int) -> int:
    """Which server, 0 being the primary, holds the errors of a job."""
    return PRIMARY if servers == 1 else 1 + job % (servers - 1)


def entry_id(sequence: int) -> str:
    return f"{sequence}-0"


def sequence_of(entry: bytes) -> int:
    return int(entry.partition(b"-")[0])
