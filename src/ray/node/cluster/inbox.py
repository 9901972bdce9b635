"""What other nodes say, given to whom it concerns."""

import time
from collections.abc import Callable
from typing import Any

from ray.node.cluster.correspondence import Correspondence
from ray.node.cluster.exchange import Exchange
from ray.node.cluster.farewell import Farewell
from ray.node.cluster.scheduler import Scheduler
from ray.node.cluster.standing import Standing
from ray.wire.messages import (
    CodeGiven,
    CodeWanted,
    Drain,
    JobNote,
    JobNoted,
    Leaving,
    Load,
    Message,
    Offer,
    Return,
    Sync,
    Taken,
    Untaken,
)


class Inbox:
    def __init__(
        self,
        standing: Standing,
        exchange: Exchange,
        scheduler: Scheduler,
        correspondence: Correspondence,
        farewell: Farewell,
        stir: Callable[[], None],
        may_place: Callable[[], None],
    ) -> None:
        """`stir`: the next look is to come soon; `may_place`: tasks may find a place now."""
        self.standing = standing
        self.head = standing.head
        self.exchange = exchange
        self.scheduler = scheduler
        self.telling = correspondence.telling
        self.hearing = correspondence.hearing
        self.codes = correspondence.codes
        self.farewell = farewell
        self.stir = stir
        self.may_place = may_place
        # Nodes that work may be done with. Others only tell of members, or drain this one.
        self.partners: set[bytes] = set()
        self._beside: dict[type[Message], Callable[[bytes, Any], None]] = {  # what is no part of the exchange
            JobNote: self.hearing.on_note,
            JobNoted: self._on_noted,
            CodeWanted: self.codes.on_wanted,
            CodeGiven: self.codes.on_given,
            Drain: farewell.on_message,
            Offer: farewell.on_message,
            Taken: farewell.on_message,
            Leaving: farewell.on_message,
        }
        self._after: dict[type[Message], Callable[[bytes, Any], None]] = {  # what is more than the exchange's
            Untaken: self._on_untaken,
            Return: farewell.departure.on_return,
            Sync: self._on_sync,
        }

    def take(self, node: bytes, messages: list[Message]) -> None:
        finished: list[bytes] = []
        now = _now_ms()
        self.standing.heard(node, now)
        try:
            for message in messages:
                self._take(node, message, now, finished)
        finally:
            if finished:
                self.scheduler.on_finished(node, finished, now)
                self.may_place()

    def _take(self, node: bytes, message: Message, now: int, finished: list[bytes]) -> None:
        kind = type(message)
        if isinstance(message, Load):
            if self.head is not None and self.head.on_load(node, message, now):
                self.stir()
        elif self.standing.on_message(node, message, now) or not self._may_act_on(node, kind):
            return
        elif beside := self._beside.get(kind):
            beside(node, message)
        else:
            finished += self.exchange.on_message(node, message)
            self.stir()
            if after := self._after.get(kind):
                after(node, message)

    def _may_act_on(self, node: bytes, kind: type[Message]) -> bool:
        return self.standing.may_act() and (node in self.partners or kind is Drain)

    def _on_untaken(self, node: bytes, _: Untaken) -> None:
        self.scheduler.avoid(node)

    def _on_sync(self, node: bytes, _: Sync) -> None:
        """Tasks may have waited for this link."""
        self.scheduler.forget_ours(node)
        self.may_place()

    def _on_noted(self, node: bytes, noted: JobNoted) -> None:
        self.telling.on_noted(node, noted)
        self.stir()


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
