"""Links of operators' commands: they are told who is there, and say which node is to leave.

An operator's `Hello` has no address, since nobody can reach it: it is no node, and gets no tasks.
"""

from collections.abc import Callable

from ray.wire.link import End, Link
from ray.wire.messages import Drain, Message, View


class Operators:
    """Used on the event loop's thread."""

    def __init__(self, drain: Callable[[Drain], None]) -> None:
        self.drain = drain
        self._links: set[Link] = set()
        self._view: View | None = None

    def accept(self, link: Link) -> None:
        self._links.add(link)
        link.begin(self._on_messages, self._on_closed)
        if self._view is not None:
            link.send(self._view)

    def on_view(self, view: View) -> None:
        self._view = view
        for link in self._links:
            link.send(view)

    def close(self, reason: str) -> None:
        for link in self._links:
            link.close(reason)

    def _on_messages(self, link: Link, messages: list[Message]) -> None:
        for message in messages:
            if isinstance(message, Drain):
                self.drain(message)

    def _on_closed(self, link: Link, end: End) -> None:
        self._links.discard(link)
