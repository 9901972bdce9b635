import subprocess
import sys

READER = """
import sys
from ray.serialization.values import deserialize, serialize
import marshal
for _ in range(2):  # the second time the class is known here
    data = marshal.loads(open(sys.argv[1], 'rb').read())
    things = [deserialize(fmt, pickled) for pickled, fmt in data]
kinds = {type(thing) for thing in things}
assert len(kinds) == 1
assert things[0].limit == 7, things[0].limit
things[0].limit = kinds.pop().seen
back = [serialize(thing)[:2] for thing in things]
open(sys.argv[2], 'wb').write(marshal.dumps(back))
"""

PROGRAM = """
import enum, marshal, subprocess, sys
from ray.serialization.values import deserialize, serialize

count = 0

class Thing:
    limit = 3
    seen = {}

    def bump(self):
        global count
        count += 1
        return count

class Colour(enum.Enum):
    RED = 1

first = serialize(Thing())[:2]
Thing.limit = 7
second = serialize(Thing())[:2]
there, back = sys.argv[2:4]
open(there, 'wb').write(marshal.dumps([first, second]))
subprocess.run([sys.executable, sys.argv[1], there, back], check=True)

Thing.seen['k'] = 1
method = Thing.bump
Thing().bump()
things = [deserialize(fmt, data) for data, fmt in marshal.loads(open(back, 'rb').read())]
assert all(type(thing) is Thing for thing in things)
assert Thing.seen == {'k': 1}, Thing.seen
assert Thing.bump is method
assert Thing.limit == 7
assert Thing().bump() == 2
assert count == 2
data, fmt, _ = serialize([Colour.RED])
assert deserialize(fmt, data)[0] is Colour.RED
"""


def test_a_class_keeps_its_identity_and_is_never_changed_where_it_was_defined(tmp_path):
    program, reader = tmp_path / "program.py", tmp_path / "reader.py"
    program.write_text(PROGRAM)
    reader.write_text(READER)
    command = [sys.executable, program, reader, tmp_path / "there", tmp_path / "back"]
    subprocess.run(command, check=True, timeout=60)
