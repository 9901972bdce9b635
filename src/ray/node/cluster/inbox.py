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
        place_soon: Callable[[], None],
    ) -> None:
        """`stir`: the next look is to come soon; `place_soon`: tasks may find a place now."""
        self.standing = standing
        self.head = standing.head
        self.exchange = exchange
        self.scheduler = scheduler
        self.telling = correspondence.telling
        self.hearing = correspondence.hearing
        self.codes = correspondence.codes
        self.farewell = farewell
        self.stir = stir
        self.place_soon = place_soon
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

    def take(self, node: bytes, messages: list[Message]) -> None:
        finished: list[bytes] = []
        now = _now_ms()
        try:
            for message in messages:
                self._take(node, message, now, finished)
        finally:
            if finished:
                self.scheduler.on_finished(node, finished, now)
                self.place_soon()

    def _take(self, node: bytes, message: Message, now: int, finished: list[bytes]) -> None:
        if isinstance(message, Load):
            if self.head is not None and self.head.on_load(node, message, now):
                self.stir()
        elif self.standing.on_message(node, message, now) or not self._may_act_on(node, message):
            return
        elif beside := self._beside.get(type(message)):
            beside(node, message)
        else:
            finished += self.exchange.on_message(node, message)
            self.stir()
            if isinstance(message, Untaken):
                self.scheduler.avoid(node)
            elif isinstance(message, Return):
                self.farewell.departure.on_return(node, message)
            elif isinstance(message, Sync):  # tasks may have waited for this link
                self.place_soon()

    def _may_act_on(self, node: bytes, message: Message) -> bool:
        return self.standing.may_act() and (node in self.partners or isinstance(message, Drain))

    def _on_noted(self, node: bytes, noted: JobNoted) -> None:
        self.telling.on_noted(node, noted)
        self.stir()


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
