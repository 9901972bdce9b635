"""The failure of what was stopped because memory ran out, to bytes and back.

Format OUT_OF_MEMORY: JSON in UTF-8, the fields of a `Stopped`.  The node manager writes it, so nothing
of it is a pickle.
"""

import dataclasses
import json
from typing import TYPE_CHECKING

from ray.errors import ActorOutOfMemoryError, MemoryShortage, OutOfMemoryError

if TYPE_CHECKING:
    from ray._kernel import View


@dataclasses.dataclass(frozen=True, slots=True)
class Stopped:
    """Who was stopped, and why."""

    function_name: str
    is_actor: bool
    pid: int
    shortage: MemoryShortage
    node: str = ""  # where, for whoever hears of it on another

    def encode(self) -> bytes:
        """The data of format OUT_OF_MEMORY."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False).encode("utf-8", "replace")

    @classmethod
    def decode(cls, data: "bytes | View | memoryview") -> "Stopped | None":
        """None if these bytes are nothing of the kind."""
        try:
            fields = json.loads(bytes(memoryview(data)))
            shortage = fields["shortage"]
            shortage["others"] = tuple((str(name), int(held)) for name, held in shortage["others"])
            return cls(**{**fields, "shortage": MemoryShortage(**shortage)})
        except (ValueError, KeyError, TypeError):
            return None

    def error(self) -> OutOfMemoryError | ActorOutOfMemoryError:
        """What `get` raises."""
        kind = ActorOutOfMemoryError if self.is_actor else OutOfMemoryError
        return kind(self.function_name, self.pid, self.shortage, self.node)
