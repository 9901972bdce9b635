"""What other nodes say, given to whom it concerns."""

import time
from collections.abc import Callable

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

    def take(self, node: bytes, messages: list[Message]) -> None:
        finished: list[bytes] = []
        now = _now_ms()
        for message in messages:
            if isinstance(message, Load):
                if self.head is not None and self.head.on_load(node, message, now):
                    self.stir()
            elif self.standing.on_message(node, message, now) or not self.standing.may_act():
                continue
            elif isinstance(message, JobNote):
                self.hearing.on_note(node, message)
            elif isinstance(message, JobNoted):
                self.telling.on_noted(node, message)
                self.stir()
            elif isinstance(message, CodeWanted):
                self.codes.on_wanted(node, message)
            elif isinstance(message, CodeGiven):
                self.codes.on_given(node, message)
            elif isinstance(message, Drain | Offer | Taken | Leaving):
                self.farewell.on_message(node, message)
            else:
                finished += self.exchange.on_message(node, message)
                self.stir()
                if isinstance(message, Untaken):
                    self.scheduler.avoid(node)
                elif isinstance(message, Sync) and message.last:
                    self.place_soon()  # tasks may have waited for the link
                elif isinstance(message, Return):
                    self.farewell.departure.on_return(node, message)
                elif isinstance(message, Sync):  # tasks may have waited for this link
                    self.place_soon()
        if finished:
            self.scheduler.on_finished(node, finished, now)
            self.place_soon()


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
