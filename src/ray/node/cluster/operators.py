"""Links of operators' commands: they are told who is there, and say which node is to leave.

An operator's `Hello` has no address, since nobody can reach it: it is no node, and gets no tasks.
"""

from collections.abc import Callable, Collection

from ray.wire.link import End, Link
from ray.wire.messages import Drain, Message, View, pack


class Operators:
    """Used on the event loop's thread."""

    def __init__(self, drain: Callable[[Drain], None], view: Callable[[], View | None]) -> None:
        """`view` gives all nodes, if this one knows them: the head's does."""
        self.drain = drain
        self.view = view
        self._links: set[Link] = set()

    def accept(self, link: Link) -> None:
        self._links.add(link)
        link.begin(self._on_messages, self._on_closed)
        self._tell([link])

    def on_view(self) -> None:
        """There is another."""
        self._tell(self._links)

    def close(self, reason: str) -> None:
        for link in self._links:
            link.close(reason)

    def _tell(self, links: Collection[Link]) -> None:
        view = self.view() if links else None
        if view is not None:
            packed = pack(view)
            for link in links:
                link.send(packed)

    def _on_messages(self, link: Link, messages: list[Message]) -> None:
        for message in messages:
            if isinstance(message, Drain):
                self.drain(message)

    def _on_closed(self, link: Link, end: End) -> None:
        self._links.discard(link)
