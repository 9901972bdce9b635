"""A node's standing, without a network: what its links and messages make of it."""

from collections.abc import Callable

from ray.control_store.nodes import NodeEntry
from ray.node.cluster.standing import HELPERS, NO_HEAD_MS, STRANGER_MS, Standing
from ray.policy.cluster.fencing import ASK_MS, FENCE_MS, FRESH_MS
from ray.policy.cluster.membership import DEAD_MS
from ray.policy.cluster.reach import AROUND_MS, BROKEN_MS, TICK_MS
from ray.wire.messages import (
    PROTOCOL,
    Hello,
    Help,
    Inquiry,
    Message,
    NodeState,
    Ping,
    Pong,
    Renew,
    Renewed,
    Resources,
    Sighting,
    View,
)

HEAD, A, B, NEXT_HEAD = (bytes([letter]) * 20 for letter in b"HABN")
NOTHING = Resources()


class World:
    """What a standing has had done, and a clock."""

    def __init__(self, node: bytes = A) -> None:
        self.now_ms = 0
        self.sent: list[tuple[bytes, Message]] = []
        self.up: set[bytes] = set()
        self.peers: set[bytes] = set()  # that there is anything with
        self.done: list[object] = []
        self.unwritten: list[Callable[[], None]] = []
        self.standing = Standing(node, [], self, self, lambda: self.now_ms, self if node == HEAD else None, 0)

    def write(self, node: bytes, entry: NodeEntry, done: Callable[[], None] | None = None) -> None:
        if done is not None:
            self.unwritten.append(done)

    def send(self, node: bytes, message: Message) -> None:
        self.sent.append((node, message))

    def send_all(self, nodes: list[bytes], message: Message) -> None:
        self.sent.extend((node, message) for node in nodes)

    def linked(self) -> list[bytes]:
        return sorted(self.up)

    def silent_ms(self, node: bytes) -> int | None:
        return 7 if node in self.up else None

    def want_link(self, node: bytes) -> None:
        self.done.append(("want", node))

    def close_link(self, node: bytes, reason: str) -> None:
        self.done.append(("close", node))
        self.up.discard(node)
        self.standing.on_link_down(node, self.now_ms)

    def go_around(self, node: bytes, ways: list[bytes]) -> None:
        self.done.append(("around", node, ways))

    def learn(self, node: bytes, address: str) -> None:
        self.done.append(("learn", node))

    def address(self, node: bytes) -> str:
        return "x:1"

    def on_view(self, view: View) -> None:
        self.done.append("view")

    def bury(self, node: bytes, reason: str) -> None:
        self.done.append(("bury", node))

    def fence(self, reason: str) -> None:
        self.done.append("fence")

    def resume(self) -> None:
        self.done.append("resume")

    def rejoin(self) -> None:
        self.done.append("rejoin")

    def link(self, node: bytes, address: str = "somewhere:1") -> bool:
        self.up.add(node)
        hello = Hello(PROTOCOL, "1", node, b"", address, node in (HEAD, NEXT_HEAD), NOTHING)
        return self.standing.on_link_up(node, hello, False, self.now_ms)

    def say(self, node: bytes, message: Message) -> bool:
        self.standing.heard(node, self.now_ms)
        return self.standing.on_message(node, message, self.now_ms)

    def run(self, until_ms: int) -> None:
        while self.now_ms < until_ms:
            self.now_ms += TICK_MS
            self.standing.tick(self.now_ms)
            self.standing.has_to_do_with(self.peers, self.now_ms)


def view(number: int, *nodes: bytes, dead: tuple[bytes, ...] = ()) -> View:
    return View(number, [NodeState(node, "x:1", NOTHING, NOTHING, 0) for node in nodes], list(dead))


def changed(number: int, since: int, *nodes: bytes, dead: tuple[bytes, ...] = ()) -> View:
    whole = view(number, *nodes, dead=dead)
    return View(number, whole.nodes, whole.dead, since)


def test_the_heads_pong_is_a_renewal_and_anothers_is_none() -> None:
    world = World()
    assert world.link(HEAD)
    assert world.link(B)
    world.run(FENCE_MS - TICK_MS)
    world.say(B, Pong(world.now_ms))
    world.say(HEAD, Pong(4_000))
    world.run(FENCE_MS + 1_000)
    assert "fence" not in world.done
    world.run(4_000 + FENCE_MS)
    assert world.done.count("fence") == 1


def test_a_renewal_goes_by_way_of_a_peer() -> None:
    world = World()
    world.link(HEAD)
    world.say(HEAD, view(1, HEAD, A, *(bytes([number]) * 20 for number in range(9))))
    world.run(ASK_MS)
    wanted = [done for done in world.done if isinstance(done, tuple) and done[0] == "want"]
    assert len(wanted) == HELPERS
    world.link(B)
    world.run(ASK_MS + 1_000)
    assert (B, Renew(A, world.now_ms)) in world.sent
    world.say(B, Renewed(A, world.now_ms))
    world.run(world.now_ms + FENCE_MS - TICK_MS)
    assert "fence" not in world.done

    helper = World(B)
    for node in HEAD, A:
        helper.link(node)
    helper.say(A, Renew(A, 5))
    assert (A, Help(True)) in helper.sent
    assert (HEAD, Renew(A, 5)) in helper.sent
    helper.say(HEAD, Renewed(A, 5))
    assert (A, Renewed(A, 5)) in helper.sent


def test_who_finds_itself_among_the_dead_joins_again() -> None:
    world = World()
    world.link(HEAD)
    world.say(HEAD, view(1, HEAD, A, B))
    world.say(HEAD, view(2, HEAD, dead=(A, B)))
    assert [done for done in world.done if done != "view"] == ["fence", "rejoin", ("bury", B)]
    assert not world.standing.may_act()


def test_a_view_of_changes_leaves_the_others_as_they_are() -> None:
    world = World()
    world.link(HEAD)
    world.say(HEAD, view(1, HEAD, A))
    world.say(HEAD, changed(2, 1, B))
    assert world.standing.present == {HEAD, A, B}
    world.say(HEAD, changed(3, 1, dead=(B,)))
    assert world.standing.present == {HEAD, A}
    assert world.done.count(("bury", B)) == 1


def test_who_is_missing_in_the_view_of_a_head_is_named_to_it_and_not_dead() -> None:
    world = World()
    world.link(HEAD)
    world.say(HEAD, view(1, HEAD, A, B))
    world.close_link(HEAD, "it is killed")
    world.link(NEXT_HEAD)
    world.say(NEXT_HEAD, view(1, NEXT_HEAD, A))
    assert world.standing.present == {NEXT_HEAD, A, B}
    assert [done for done in world.done if isinstance(done, tuple) and done[0] == "bury"] == [("bury", HEAD)]
    named = (NEXT_HEAD, View(0, [NodeState(B, "x:1", NOTHING, NOTHING, 0)]))
    world.run(STRANGER_MS - TICK_MS)
    assert named not in world.sent, "it may be on its way"
    world.run(STRANGER_MS + TICK_MS)
    assert named in world.sent
    assert world.link(B)
    world.say(NEXT_HEAD, View(0, [], [B]))
    assert ("bury", B) in world.done
    assert world.standing.present == {NEXT_HEAD, A}


def test_who_is_in_no_view_is_named_to_the_head() -> None:
    world = World()
    world.peers = {HEAD, B}
    world.link(HEAD)
    world.say(HEAD, view(1, HEAD, A))
    world.run(STRANGER_MS - TICK_MS)
    named = (HEAD, View(0, [NodeState(B, "x:1", NOTHING, NOTHING, 0)]))
    assert named not in world.sent
    world.run(STRANGER_MS + TICK_MS)
    assert world.sent.count(named) == 1
    world.run(3 * STRANGER_MS - TICK_MS)
    assert world.sent.count(named) == 2
    world.say(HEAD, changed(2, 1, B))
    world.run(5 * STRANGER_MS)
    assert world.sent.count(named) == 2


def test_a_head_says_which_of_the_missing_are_dead() -> None:
    world = World(HEAD)
    assert world.standing.head is not None
    for node in A, B:
        world.link(node)
    world.standing.head.on_leaving(B, 1)
    missed = View(0, [NodeState(node, "x:1", NOTHING, NOTHING, 0) for node in (A, B, NEXT_HEAD)])
    world.say(A, missed)
    assert B in world.standing.head.members, "its death is not written yet"
    assert not [message for _, message in world.sent if isinstance(message, View)]
    world.unwritten.pop()()
    world.say(A, missed)
    assert world.sent[-1] == (A, View(0, [], [B]))
    assert NEXT_HEAD in world.standing.head.members
    world.sent.clear()
    world.say(B, missed)
    assert not world.sent, "who is no member has nothing to say"


def test_on_top_of_a_view_that_never_came_nothing_is_put() -> None:
    world = World()
    world.link(HEAD)
    world.say(HEAD, view(1, HEAD, A, B))
    world.say(HEAD, changed(4, 3, dead=(B,)))
    assert world.done[-2:] == [("close", HEAD), ("want", HEAD)]
    assert B in world.standing.present


def test_who_was_declared_dead_is_told_and_let_go() -> None:
    world = World()
    world.link(HEAD)
    world.say(HEAD, view(1, HEAD, A, dead=(B,)))
    assert not world.link(B)
    assert (B, View(0, [], [B])) in world.sent
    assert world.done[-1] == ("close", B)
    other = World(B)
    other.link(A)
    other.say(A, View(0, [], [B]))
    assert "rejoin" in other.done


def test_who_is_dead_for_the_head_gets_no_answer_that_renews_it() -> None:
    world = World(HEAD)
    for node in A, B:
        world.link(node)
    for now_ms in range(TICK_MS, DEAD_MS + 2 * TICK_MS, TICK_MS):
        world.now_ms = now_ms
        world.say(A, Ping(now_ms))
        world.standing.tick(now_ms)
    assert world.unwritten
    world.sent.clear()
    for node in A, B:
        world.say(node, Ping(1))
        world.say(node, Renew(node, 2))
    assert {node for node, message in world.sent if isinstance(message, Pong | Renewed)} == {A}
    assert ("bury", B) not in world.done
    world.unwritten.pop()()
    assert ("bury", B) in world.done


def test_an_inquiry_without_a_link_asks_for_one() -> None:
    world = World()
    world.link(HEAD)
    world.say(HEAD, Inquiry(B))
    assert world.sent[-1] == (HEAD, Sighting(B, None))
    assert world.done[-1] == ("want", B)
    world.link(B)
    world.say(HEAD, Inquiry(B))
    assert world.sent[-1] == (HEAD, Sighting(B, 7))


def test_a_link_on_which_nothing_comes_back_is_closed_and_gone_around() -> None:
    world = World()
    world.link(HEAD)
    world.say(HEAD, view(1, HEAD, A, B))
    world.link(B)
    while world.now_ms < AROUND_MS:
        world.run(world.now_ms + TICK_MS)
        world.say(HEAD, Pong(world.now_ms))
        if world.now_ms == BROKEN_MS:
            assert ("close", B) in world.done
    assert ("around", B, [HEAD]) in world.done


def test_a_command_that_only_asks_is_no_member() -> None:
    world = World(HEAD)
    assert not world.link(B, address="")
    assert world.standing.head is not None
    assert B not in world.standing.head.members
    assert world.say(B, Ping(3))
    assert world.sent == [(B, Pong(3))]


def test_a_head_that_is_started_again_at_once_has_not_ended() -> None:
    world = World()
    world.link(HEAD)
    world.close_link(HEAD, "it ends")
    assert not world.standing.has_no_head()
    for _ in range(NO_HEAD_MS // 500):
        world.standing.on_head_refused()
        assert not world.standing.has_no_head()
        world.now_ms += 500
    world.standing.on_head_refused()
    assert world.standing.has_no_head()
    world.now_ms += FRESH_MS  # its machine does not answer any more
    assert not world.standing.has_no_head()
    world.standing.on_head_refused()
    assert not world.standing.has_no_head()
    for _ in range(NO_HEAD_MS // 500):
        world.now_ms += 500
        world.standing.on_head_refused()
    assert world.standing.has_no_head()
    world.link(HEAD)
    assert not world.standing.has_no_head()
