// Tasks that are another node's to run, and objects whose values are there.
//
// A task that is away keeps its record, arguments and edges, so it can always run again here.  Results
// that are known leave its list: those with a value, and those that are said to be stored at the peer; these it
// goes on counting, as their lineage.  Without either the task is done.
//
// A call of an actor that is away stays in its lane as well, until all its results are known.
//
// Invariants: a located object is pending, and its task is away at the peer that has the value; a stored one is
// located and not in its task's list; `stored` counts these.
#pragma once

#include "process.hpp"

namespace ray::away {

// Out of its lane, which goes on.
inline void leave_lane(Transaction& t, u32 i) {
  Task& task = t.m.task(i);
  u32 l = task.lane;
  mailbox::unlink_call(t, i);
  t.set(task.lane, NIL);
  t.set(t.m.lane(l).away, t.m.lane(l).away - 1);
  mailbox::go_on(t, l);
}

inline bool is_creation(const Task& task) { return TaskKind(task.kind) == TaskKind::actor_create; }
inline bool is_call(const Task& task) { return TaskKind(task.kind) == TaskKind::actor_call; }

inline void let_go_if_done(Transaction& t, u32 i) {
  Task& task = t.m.task(i);
  if (task.returns) return;
  if (is_call(task) && task.lane) {
    Actor& actor = t.m.actor(task.actor);
    leave_lane(t, i);
    if (actor.interval && task.turn && mailbox::is_before(actor.covered, task.turn)) mailbox::keep_logged(t, actor, i);
    task::release_actor(t, task);
  }
  if (is_creation(task)) task::release_actor(t, task);
  if (task.flags & REPLAYED) {
    Actor& actor = t.m.actor(task.actor);
    t.set(task.flags, task.flags & ~u32(REPLAYED));
    t.set(actor.replaying, actor.replaying - 1);
    mailbox::activate(t, task.actor);
  }
  if (task.stored || task.flags & LOGGED) return;
  if (is_creation(task)) t.set(t.m.actor(task.actor).creation, NIL);
  task::let_go(t, i);
}

// The first call of the log, if the checkpoint covers it; what is stored of it stays there.  False: it does not.
inline bool forget_covered(Transaction& t, Actor& actor) {
  u32 i = actor.done_head;
  Task& task = t.m.task(i);
  if (!i || !(task.flags & LOGGED) || task.flags & REPLAYED) return false;
  if (mailbox::is_before(actor.covered, task.turn)) return false;
  t.set(actor.done_head, task.next);
  if (!task.next) t.set(actor.done_tail, NIL);
  t.set(actor.done_count, actor.done_count - 1);
  t.set(task.next, NIL);
  t.set(task.flags, task.flags & ~u32(LOGGED));
  let_go_if_done(t, i);
  return true;
}

inline void one_less_stored(Transaction& t, u32 i) {
  t.set(t.m.task(i).stored, t.m.task(i).stored - 1);
  let_go_if_done(t, i);
}

inline bool is_known(const Object& o) { return o.state != OBJECT_PENDING || o.origin & LOCATED; }

// The first known results leave the list, a bounded number; false when that is all for now.
inline bool settle(Transaction& t, u32 i) {
  Task& task = t.m.task(i);
  for (u32 n = 0; n < PIECE && task.returns; ++n) {
    u32 r = task.returns;
    Object& o = t.m.object(r);
    if (!is_known(o)) return false;
    t.set(task.returns, o.next_return);
    if (o.state == OBJECT_PENDING) {
      t.set(o.origin, o.origin | u32(STORED));
      t.set(task.stored, task.stored + 1);
    }
    object::unreference(t, r);
  }
  if (task.returns) return is_known(t.m.object(task.returns));
  let_go_if_done(t, i);
  return false;
}

// The peer has the value, which is too large to be sent unasked.
inline void locate(Transaction& t, u32 i, u64 size_bytes, u32 format) {
  Object& o = t.m.object(i);
  t.write(o.size_bytes, size_bytes);
  t.write(o.format, format);
  t.set(o.origin, (o.origin & ~u32(WANTED)) | u32(LOCATED));
  // SYNC POINT want: a waiter writes `awaiting`, then reads `origin` (Client::want); here it is the other way round.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  // A result that is another node's in turn is fetched for it.
  if (news::is_awaited(t.m, i) || loan::is_result(t.m, i)) news::want(t, i);
  if (o.origin & ASKED) news::add(t, i);
}

// An object that nothing refers to is no longer said to be at a peer.
inline void forget_location(Transaction& t, u32 i) {
  Object& o = t.m.object(i);
  u32 task = o.task;
  bool stored = o.origin & STORED;
  t.write(o.origin, o.origin & ~u32(LOCATED | STORED | WANTED));  // it is in the log since it was taken from the list
  if (!stored) return;
  t.set(o.task, NIL);
  one_less_stored(t, task);
}

// --- sent ---------------------------------------------------------------------------------------------------

// What an earlier attempt has made half of is finished here.
inline bool may_go(Mapping& m, u32 i) {
  const Task& task = m.task(i);
  if (task.flags & STAYS || (is_creation(task) && m.actor(task.actor).state != ACTOR_CREATING)) return false;
  return (!task.returns || !is_known(m.object(task.returns)));
}

// Without results it gets one that only it knows, so that its end is heard of.
inline void mark_sent(Transaction& t, u32 i, u32 peer) {
  Task& task = t.m.task(i);
  if (!task.returns) {
    u8 id[ID_BYTES];
    // One that runs again has results, which others may have.
    task::return_id(id, task.id, task.flags & REPLAYED ? AROUND_INDEX : 0);
    u32 o = object::create(t, id, i, NIL);
    t.m.object(o).next_return = NIL;
    object::reference(t, o);
    t.set(task.returns, o);
  }
  t.set(task.state, TASK_AWAY);
  t.write(task.stored, 0u);
  t.write(task.peer, peer);
}

// The peer serves the actor from now on: as long as there is one, it is stored there, and its creation is its lineage.
inline void settle_actor(Transaction& t, u32 i, u32 peer) {
  Task& task = t.m.task(i);
  Actor& actor = t.m.actor(task.actor);
  Object& o = t.m.object(actor.object);
  t.set(actor.state, ACTOR_AWAY);
  t.write(actor.peer, peer);  // read only while it is away
  t.set(o.origin, o.origin | u32(LOCATED | STORED));
  t.set(o.task, i);
  t.write(task.stored, 1u);  // mark_sent has its record
  mailbox::activate(t, task.actor);
}

inline void unsettle_actor(Transaction& t, u32 i) {
  Task& task = t.m.task(i);
  Object& o = t.m.object(t.m.actor(task.actor).object);
  t.set(o.origin, o.origin & ~u32(LOCATED | STORED));
  t.set(o.task, NIL);
  t.set(task.stored, 0u);
}

// A ready task goes.
inline void send(Transaction& t, u32 i, u32 peer) {
  queue::remove(t, i);
  mark_sent(t, i, peer);
  if (is_creation(t.m.task(i))) settle_actor(t, i, peer);
  queue::offer(t);  // younger ones may have been held back for it
}

inline bool is_at(Mapping& m, u32 o, u32 peer) {
  const Object& object = m.object(o);
  return object.state == OBJECT_PENDING && object.origin & LOCATED && m.task(object.task).peer == peer;
}

// A task that waits for one value and nothing else.  It has few arguments, so that this one is found among them when
// it comes back.
inline bool may_follow(Mapping& m, u32 i) {
  const Task& task = m.task(i);
  if (TaskKind(task.kind) != TaskKind::task || task.state != TASK_WAITING || task.pending != 1) return false;
  if (!may_go(m, i)) return false;
  u32 e = task.deps;
  for (u32 n = 0; e && n < PIECE; ++n) e = m.edge(e).next;
  return !e;
}

// It waits with this edge no more; `before` is the one before it in the ring.
inline void stop_waiting(Transaction& t, u32 e, u32 before) {
  Edge& edge = t.m.edge(e);
  Object& o = t.m.object(edge.object);
  Task& task = t.m.task(edge.task);
  if (before == e) t.set(o.waiting, NIL);
  else t.set(t.m.edge(before).waiting_next, edge.waiting_next);
  if (before != e && o.waiting == e) t.set(o.waiting, before);
  t.set(task.pending, task.pending - 1);
}

// When nothing waits for it any more, whoever does next is news.
inline void forget_wanted(Transaction& t, u32 i) {
  Object& o = t.m.object(i);
  if (o.waiting) return;
  t.set(o.origin, o.origin & ~u32(WANTED));
  // SYNC POINT want, as in `locate`.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (news::is_blocked_on(t.m, i)) news::want(t, i);
}

// The next call to an actor that this peer serves, of one of its callers whose turn it is; NIL if there is none.
inline u32 send_call(Transaction& t, u32 a, u32 peer) {
  Actor& actor = t.m.actor(a);
  if (actor.state != ACTOR_AWAY || actor.peer != peer || !mailbox::may_send(actor)) return NIL;
  if (actor.replay_head) {
    u32 before = actor.done_tail;
    u32 i = mailbox::take_to_replay(t, actor);
    t.write(t.m.task(i).previous, before);
    mark_sent(t, i, peer);
    return i;
  }
  u32 l = mailbox::pop_ready(t, actor);
  Lane& lane = t.m.lane(l);
  u32 i = mailbox::next_call(t.m, lane);
  mark_sent(t, i, peer);
  t.set(lane.sent, i);
  t.set(lane.away, lane.away + 1);
  if (mailbox::has_turn(t.m, lane)) mailbox::lane_ready(t, l);
  return i;
}

// To be sent again, after those of its lane that are still away, which were sent before it.
inline void unsend(Transaction& t, u32 i) {
  Task& task = t.m.task(i);
  u32 l = task.lane;
  Lane& lane = t.m.lane(l);
  mailbox::unlink_call(t, i);
  u32 after = mailbox::next_call(t.m, lane);
  t.set(task.previous, lane.sent);
  t.write(task.next, after);  // recorded when it was unlinked, and so is the head if it was the only one
  if (lane.sent) t.set(t.m.task(lane.sent).next, i);
  else t.write(lane.head, i);
  if (after) t.set(t.m.task(after).previous, i);
  else t.set(lane.tail, i);
  t.set(lane.away, lane.away - 1);
  t.set(task.state, TASK_WAITING);
  t.write(task.turn, 0u);
  mailbox::go_on(t, l);
}

// A result that is stored at the peer, or was said to be, is to be made again; true if this one is to be made.
inline bool relist(Transaction& t, u32 i, u32 index) {
  Task& task = t.m.task(i);
  u8 id[ID_BYTES];
  task::return_id(id, task.id, index);
  u32 r = object::find(t.m, id);
  Object& o = t.m.object(r);
  if (!r || o.state != OBJECT_PENDING || o.task != i) return false;
  bool stored = o.origin & STORED;
  if (o.origin & LOCATED) t.set(o.origin, o.origin & ~u32(LOCATED | STORED | WANTED));
  if (!stored) return true;
  t.set(task.stored, task.stored - 1);
  if (!o.references) {  // in the list of news, to be freed
    t.set(o.task, NIL);
    return false;
  }
  t.write(o.next_return, task.returns);
  t.set(task.returns, r);
  object::reference(t, r);
  return true;
}

// It never got there, and is to be made again; or the actor is gone, and starts again from its checkpoint if it has
// any.  Its calls have come back by then.
inline void creation_comes_back(Transaction& t, u32 i, bool again, bool died) {
  Task& task = t.m.task(i);
  u32 a = task.actor;
  Actor& actor = t.m.actor(a);
  bool killed = actor.failure_code;
  bool restarts = died && actor.interval && actor.deaths < ACTOR_DEATHS_MAX && !killed;
  restarts = restarts && t.m.object(actor.object).references;
  if (t.m.object(actor.object).task == i) unsettle_actor(t, i);
  if (restarts) {
    t.set(actor.peer, NIL);
    t.write(actor.turns, actor.covered);  // if undone, the burial is begun again
    return mailbox::restart(t, a, NIL, false, false);
  }
  if (again && !killed) {
    t.set(actor.state, ACTOR_CREATING);
    t.set(actor.peer, NIL);
    queue::push(t, i, true);
    queue::offer(t);
    return;
  }
  t.set(actor.creation, NIL);
  mailbox::lose(t, a, again ? SystemFailure::actor_killed : SystemFailure::actor_node_died);
  task::drop(t, i);
}

// It is to run again.  A result that was lost is made then if that is here, where it has its name; its actor stays for
// it.
inline void logged_comes_back(Transaction& t, u32 i, bool died) {
  Task& task = t.m.task(i);
  Actor& actor = t.m.actor(task.actor);
  if (!died) mailbox::line_up_replayed(t, actor, i);
  u32 o = task.returns;
  if (task.flags & REPLAYED) {
    t.set(actor.replaying, actor.replaying - 1);
    if (o) {  // it is one that only this node knows, and made anew when it is sent again
      t.set(task.returns, NIL);
      object::unreference(t, o);
    }
  } else if (o) {
    Task& creation = t.m.task(actor.creation);
    t.write(creation.flags, creation.flags | u32(STAYS));  // if undone, the burial is begun again
  }
  t.set(task.flags, task.flags & ~u32(LOGGED | REPLAYED));
  t.set(task.state, TASK_HELD);
}

// Of a logged call, one result that was lost and can't be made again, as this node can't hold its actor.  False: there
// is none.
inline bool give_up_result(Transaction& t, u32 i) {
  Task& task = t.m.task(i);
  u32 o = task.returns;
  if (!o || task.flags & REPLAYED || resources::feasible(t.h, t.m.shape(t.m.actor(task.actor).shape))) return false;
  t.write(task.flags, task.flags | u32(NODE_DIED));  // if undone, the burial is begun again, and ends here
  task::fail_return(t, task, o);
  t.set(task.returns, t.m.object(o).next_return);
  object::unreference(t, o);
  return true;
}

// Out of the peer's hands, with `unmade` results or none: to its queue or lane again, or done, or failed with the
// peer's death.  What a call has done to its actor is done: it is not called again for a result that is lost.
inline void come_back(Transaction& t, u32 i, bool unmade, bool died) {
  Task& task = t.m.task(i);
  t.set(task.peer, NIL);
  bool ended = task.flags & JOB_ENDED;
  if (is_creation(task)) return creation_comes_back(t, i, unmade && !ended && !died, died && !ended);
  if (task.flags & LOGGED) return logged_comes_back(t, i, died);
  if (is_call(task) && task.lane) {
    if (unmade && !ended) return unsend(t, i);
    leave_lane(t, i);
  }
  if (!unmade) return task::drop(t, i);
  if (is_call(task) && !ended) t.write(task.flags, task.flags | u32(NODE_DIED));
  if (is_call(task) || ended) return task::fail(t, i);
  if (died && task.attempt - task.flags / ONE_STOP >= task.max_retries) {
    t.write(task.flags, task.flags | u32(NODE_DIED));  // if undone, the burial is begun again, and ends here
    task::fail(t, i);
    process::note_failure(t, task, SystemFailure::node_died, NIL);
    return;
  }
  if (died) t.set(task.attempt, task.attempt + 1);
  u32 e = task.deps;
  for (u32 n = 0; e && n < PIECE; ++n, e = t.m.edge(e).next) task::wait_with(t, i, e);
  if (task.pending) return t.set(task.state, TASK_WAITING);
  queue::push(t, i, true);
  queue::offer(t);
}

// --- received ------------------------------------------------------------------------------------------------

// What a task makes in place of a result whose value is known here: that one may still be listed by another task of the
// same id, and nothing is in two lists.
inline u32 spare_result(Transaction& t, u32 i, u32 index) {
  u8 id[ID_BYTES];
  task::return_id(id, t.m.task(i).id, index | SPARE_INDEX);
  if (object::find(t.m, id)) throw StaleHandle("this task is here already, for another node");
  return object::create(t, id, i, NIL);
}

// Lent to its owner until that has the value.  It may be known here already, as an argument of another task.  Throws
// when its task is here already: of a node whose next incarnation sends it again before that one's death is known here.
inline void add_result(Transaction& t, u32 i, u32 index, u32 owner) {
  Task& task = t.m.task(i);
  u8 id[ID_BYTES];
  task::return_id(id, task.id, index);
  u32 r = object::find(t.m, id);
  if (!r) {
    r = object::create(t, id, i, NIL);
    t.m.object(r).origin = owner;
  }
  Object& o = t.m.object(r);
  u32 made = r;
  if (o.state == OBJECT_PENDING) {
    if (o.task && o.task != i) throw StaleHandle("this task is here already, for another node");
    t.set(o.task, i);
    if (o.origin & WANTED) t.set(o.origin, o.origin & ~u32(WANTED));
  } else {
    t.write(o.origin, o.origin | u32(DONE));  // of an object that is not lent to its owner it says nothing
    news::add(t, r);
    made = spare_result(t, i, index);
  }
  t.write(t.m.object(made).next_return, task.returns);
  t.set(task.returns, made);
  object::reference(t, made);
  loan::lend(t, r, owner);
}

// Not begun, nor ever before.
inline bool may_be_taken_back(const Task& task) {
  bool waits = task.state == TASK_READY || task.state == TASK_WAITING;
  return task.flags & RECEIVED && TaskKind(task.kind) == TaskKind::task && !task.failure_pid && waits;
}

inline void take_back(Transaction& t, u32 i) {
  Task& task = t.m.task(i);
  if (task.state == TASK_READY) queue::remove(t, i);
  t.set(task.flags, task.flags | u32(TAKEN_BACK));
  task::fail(t, i);
  queue::offer(t);
}

}  // namespace ray::away

namespace ray {

// It is fetched no more, nor counted by its lineage; and who is to have it is told.
inline void remote_object_sealed(Transaction& t, u32 i, u32 task) {
  Object& o = t.m.object(i);
  bool stored = o.origin & STORED;
  bool is_result = loan::is_result(t.m, i);
  if (is_result && task && away::is_call(t.m.task(task))) t.write(o.turn, t.m.task(task).turn);
  t.set(o.origin, (o.origin & ~u32(LOCATED | STORED | WANTED)) | (is_result ? u32(DONE) : 0));
  if (is_result || o.origin & ASKED) news::add(t, i);
  if (stored) away::one_less_stored(t, task);
}

}  // namespace ray
