"""A job's entries in the journal: JSON, with these fields. `ray.session.jobs` writes most of them."""

EVENT, STARTED, ENDED = "event", "started", "ended"

# Of a job's first entry, unless its driver has started the session:
SYS_PATH = "sys_path"  # the driver's
CODE = "code"  # what `ray.core.script_code.describe` says of the script's folder; null: it has no modules
HOME = "home"  # of another node's driver: that node
