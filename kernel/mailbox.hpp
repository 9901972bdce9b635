// Actors: their callers' lanes, the order of calls, death and restart.
//
// Invariants
//   1. A lane's calls run in the order they were made; a lane is in its actor's ready list exactly when
//      its first call waits for nothing and the actor is not dead.
//   2. A call that runs is in no list; a finished one of an actor with checkpoints is in `done` until the
//      next checkpoint, in order of execution.
//   3. An actor's object is referenced by handles and by calls not yet finished; without references the
//      actor ends.  As long as the object is news its record is kept, and the object with it.
//   4. Of an actor that is away its calls go there in the order of their lane, and stay in it until their results are
//      known: in each lane the first ones are away.  Its lanes are ready when there is one to be sent.
//   5. Of an actor with checkpoints that is away, the calls whose results are known and that its checkpoint here does
//      not cover are in `done`, in the order in which they were executed.  Those that run again are sent before all
//      others, one after the other, and enter `done` as they are; until all of them are done, no other call is sent.
#pragma once

#include "task.hpp"

namespace ray::mailbox {

inline void add_work(Transaction& t, u32 a) {
  Actor& actor = t.m.actor(a);
  if (actor.working) return;
  t.set(actor.working, 1u);
  t.set(actor.work_next, t.h.actor_work);
  t.set(t.h.actor_work, a);
}

inline u32 make_record(Transaction& t, const u8* id, u32 cls, u32 shape, u32 interval, u32 job) {
  u32 a = actors(t.m).take(t);
  u32 o = object::create(t, id, NIL, NIL, OBJECT_ACTOR);
  t.m.object(o).actor = a;
  // Field by field: clearing the whole record would clear free_next for a moment.
  Actor& actor = t.m.actor(a);
  actor.serial += 1;
  actor.object = o;
  actor.thread = actor.creation = actor.lanes = actor.peer = NIL;
  actor.ready_head = actor.ready_tail = actor.replay_head = actor.replay_tail = NIL;
  actor.done_head = actor.done_tail = actor.done_count = 0;
  actor.interval = interval;
  actor.checkpoint = actor.failure = NIL;
  actor.cls = cls;
  actor.failure_code = actor.failure_status = actor.failure_pid = 0;
  actor.job_ended = actor.unreferenced = actor.deaths = 0;
  actor.waits = actor.wait_next = actor.work_next = actor.working = 0;
  actor.shape = shape;
  actor.job = job;
  actor.turns = actor.reached = actor.covered = actor.replaying = 0;
  if (cls) object::reference(t, cls);
  return a;
}

// A new actor and its object, held by `process`; its creation task is made in the same transaction.
inline u32 create(Transaction& t, const u8* task_id, u32 cls, u32 shape, u32 interval, u32 job, u32 process) {
  u8 id[ID_BYTES];
  task::return_id(id, task_id, ACTOR_INDEX);
  u32 a = make_record(t, id, cls, shape, interval, job);
  t.set(t.m.actor(a).state, ACTOR_CREATING);  // under the log, so that one look finds those in use
  object::hold(t, t.m.actor(a).object, process);
  return a;
}

// One that this node serves for that peer, which returns its object when it shall end.  Handles of it that come here
// name another object (served_here).
inline u32 serve(Transaction& t, const u8* task_id, u32 cls, u32 shape, u32 interval, u32 job, u32 owner) {
  u8 id[ID_BYTES];
  task::return_id(id, task_id, SERVED_INDEX);
  u32 a = make_record(t, id, cls, shape, interval, job);
  u32 o = t.m.actor(a).object;
  t.m.object(o).origin = owner;
  t.set(t.m.actor(a).state, ACTOR_CREATING);  // under the log, so that one look finds those in use
  loan::lend(t, o, owner);
  return a;
}

// Of an actor of another node's that this one serves, the record of that: its calls need not go around.
inline u32 served_here(Mapping& m, u32 a) {
  const Actor& actor = m.actor(a);
  if (actor.state != ACTOR_AWAY || !owner_of(m.object(actor.object))) return a;
  u8 id[ID_BYTES];
  task::return_id(id, m.object(actor.object).id, SERVED_INDEX);
  u32 o = object::find(m, id);
  return o ? m.object(o).actor : a;
}

// The object of an actor that another node has told of; without a peer, of one of this node's that is gone.
inline u32 refer(Transaction& t, const u8* id, u32 peer) {
  u32 a = make_record(t, id, NIL, NIL, 0, 0);
  Actor& actor = t.m.actor(a);
  actor.peer = peer;
  if (!peer) actor.failure_code = u32(SystemFailure::actor_killed);
  t.m.object(actor.object).origin = peer;
  t.set(actor.state, peer ? ACTOR_AWAY : ACTOR_DEAD);  // as above
  return actor.object;
}

// Of one that is away: there is something to be sent.
inline bool may_send(const Actor& actor) { return actor.replay_head || (actor.ready_head && !actor.replaying); }

inline bool has_calls(const Actor& actor) { return actor.replay_head || actor.ready_head; }

// The actor has something to run: wake it with its CPUs, or line it up for them, or tell the node manager.
inline void activate(Transaction& t, u32 a) {
  Actor& actor = t.m.actor(a);
  if (actor.state == ACTOR_AWAY) {
    if (may_send(actor)) news::add(t, actor.object);
    return;
  }
  if (actor.state != ACTOR_ALIVE || !actor.thread || actor.waits) return;
  Thread& thread = t.m.thread(actor.thread);
  if (thread.task || thread.granted) return;
  if (resources::cpu_fits(t.h, t.m.shape(actor.shape))) queue::grant(t, actor);
  else queue::wait_for_cpu(t, a);
}

// The first call that has not been sent.
inline u32 next_call(Mapping& m, const Lane& lane) { return lane.sent ? m.task(lane.sent).next : lane.head; }

inline bool has_turn(Mapping& m, const Lane& lane) {
  u32 i = next_call(m, lane);
  return i && !m.task(i).pending && lane.away < CALLS_AWAY_MAX;
}

inline void lane_ready(Transaction& t, u32 l) {
  Lane& lane = t.m.lane(l);
  Actor& actor = t.m.actor(lane.actor);
  if (lane.ready || actor.state == ACTOR_DEAD) return;
  t.set(lane.ready, 1u);
  t.set(lane.ready_next, NIL);
  if (actor.ready_tail) t.set(t.m.lane(actor.ready_tail).ready_next, l);
  else t.set(actor.ready_head, l);
  t.set(actor.ready_tail, l);
}

// `thread`: the caller's; none: it is on another node.
inline u32 open_lane(Transaction& t, u32 a, u32 thread) {
  u32 l = lanes(t.m).take(t);
  Lane& lane = t.m.lane(l);
  Actor& actor = t.m.actor(a);
  lane.serial += 1;
  lane.actor = a;
  lane.thread = thread;
  lane.head = lane.tail = lane.sent = lane.away = lane.ready = lane.ready_next = NIL;
  lane.actor_previous = lane.thread_previous = lane.thread_next = NIL;
  lane.actor_next = actor.lanes;
  if (actor.lanes) t.set(t.m.lane(actor.lanes).actor_previous, l);
  t.set(actor.lanes, l);
  if (!thread) return l;
  Thread& owner = t.m.thread(thread);
  lane.thread_next = owner.lanes;
  if (owner.lanes) t.set(t.m.lane(owner.lanes).thread_previous, l);
  t.set(owner.lanes, l);
  return l;
}

// The list that begins with this lane: of the task that runs, or of one that waits below it.
inline u32& lanes_head(Thread& thread, u32 l) {
  for (u32 d = 0; d < thread.depth; ++d)
    if (thread.lanes_below[d] == l) return thread.lanes_below[d];
  return thread.lanes;
}

inline void unlink_from_thread(Transaction& t, u32 l) {
  Lane& lane = t.m.lane(l);
  if (!lane.thread) return;
  if (lane.thread_next) t.set(t.m.lane(lane.thread_next).thread_previous, lane.thread_previous);
  if (lane.thread_previous) t.set(t.m.lane(lane.thread_previous).thread_next, lane.thread_next);
  else t.set(lanes_head(t.m.thread(lane.thread), l), lane.thread_next);
  t.set(lane.thread, NIL);
}

inline void free_lane(Transaction& t, u32 l) {
  Lane& lane = t.m.lane(l);
  unlink_from_thread(t, l);
  if (lane.actor_next) t.set(t.m.lane(lane.actor_next).actor_previous, lane.actor_previous);
  if (lane.actor_previous) t.set(t.m.lane(lane.actor_previous).actor_next, lane.actor_next);
  else t.set(t.m.actor(lane.actor).lanes, lane.actor_next);
  t.set(lane.actor, NIL);
  lanes(t.m).give(t, l);
}

// The caller has ended: its lane goes when its calls have.
inline void close_lane(Transaction& t, u32 l) {
  unlink_from_thread(t, l);
  if (!t.m.lane(l).head) free_lane(t, l);
}

inline void append(Transaction& t, u32 l, u32 i) {
  Lane& lane = t.m.lane(l);
  t.write(t.m.task(i).lane, l);
  t.write(t.m.task(i).previous, lane.tail);  // of the first call of a lane it says nothing
  if (lane.tail) t.set(t.m.task(lane.tail).next, i);
  else t.set(lane.head, i);
  t.set(lane.tail, i);
}

// From wherever it is in its lane, which is left to the caller.
inline void unlink_call(Transaction& t, u32 i) {
  Task& task = t.m.task(i);
  Lane& lane = t.m.lane(task.lane);
  u32 before = lane.head == i ? NIL : task.previous;
  if (before) t.set(t.m.task(before).next, task.next);
  else t.set(lane.head, task.next);
  if (task.next) t.set(t.m.task(task.next).previous, before);
  else t.set(lane.tail, before);
  if (lane.sent == i) t.set(lane.sent, before);
  t.set(task.next, NIL);
}

// After one was unlinked or sent: the lane's next may have its turn, or it was the last of a caller that has ended.
inline void go_on(Transaction& t, u32 l) {
  Lane& lane = t.m.lane(l);
  if (has_turn(t.m, lane)) {
    lane_ready(t, l);
    activate(t, lane.actor);
  } else if (!lane.head && !lane.thread) {
    free_lane(t, l);
  }
}

inline u32 pop_ready(Transaction& t, Actor& actor) {
  u32 l = actor.ready_head;
  Lane& lane = t.m.lane(l);
  t.set(actor.ready_head, lane.ready_next);
  if (!lane.ready_next) t.set(actor.ready_tail, NIL);
  t.set(lane.ready, 0u);
  return l;
}

inline u32 pop_lane(Transaction& t, Actor& actor) {
  u32 l = pop_ready(t, actor);
  Lane& lane = t.m.lane(l);
  u32 i = lane.head;
  t.set(lane.head, t.m.task(i).next);
  t.set(t.m.task(i).next, NIL);
  if (!lane.head) {
    t.set(lane.tail, NIL);
    if (!lane.thread) free_lane(t, l);
  } else if (t.m.task(lane.head).pending == 0) {
    lane_ready(t, l);
  }
  return i;
}

inline u32 pop_call(Transaction& t, Actor& actor) {
  u32 i = actor.replay_head;
  if (!i) return actor.ready_head ? pop_lane(t, actor) : NIL;
  t.set(actor.replay_head, t.m.task(i).next);
  if (!actor.replay_head) t.set(actor.replay_tail, NIL);
  t.set(t.m.task(i).next, NIL);
  return i;
}

// The next call for an actor's own thread, with its CPUs; NIL when there is none or no CPU is free.
// `late`: nobody woke it, it looks by itself.
inline u32 take(Transaction& t, u32 a, bool late = false) {
  Actor& actor = t.m.actor(a);
  Thread& thread = t.m.thread(actor.thread);
  if (!has_calls(actor)) {
    if (thread.granted) {
      t.set(thread.granted, 0u);
      resources::give_cpu(t, t.m.shape(actor.shape));
      queue::offer(t);
    }
    return NIL;
  }
  if (!thread.granted) {
    bool fits = resources::cpu_fits(t.h, t.m.shape(actor.shape));
    // A task whose turn it is, and nobody comes to take it, is waited for no longer.
    if (actor.waits && !(late && fits)) return NIL;
    queue::stop_waiting(t, a);
    bool others_turn = t.h.actors_wait_head || (queue::tasks_have_turn(t.h) && queue::choose(t.m).shape);
    if (!fits || (others_turn && !late)) {
      queue::wait_for_cpu(t, a);
      queue::offer(t);
      if (!thread.granted) return NIL;
    } else {
      resources::take_cpu(t, t.m.shape(actor.shape));
      if (t.h.ready_count && !t.h.actor_had_turn) t.set(t.h.actor_had_turn, 1u);
    }
  }
  if (thread.granted) t.set(thread.granted, 0u);
  return pop_call(t, actor);
}

inline void append_done(Transaction& t, Actor& actor, u32 i) {
  t.write(t.m.task(i).next, NIL);
  if (actor.done_tail) t.set(t.m.task(actor.done_tail).next, i);
  else t.set(actor.done_head, i);
  t.set(actor.done_tail, i);
  t.set(actor.done_count, actor.done_count + 1);
}

// Appends a finished call to those that would have to run again.
inline void keep(Transaction& t, Actor& actor, u32 i) {
  t.set(t.m.task(i).state, TASK_HELD);
  append_done(t, actor, i);
}

// Turns go round: the earlier of two is less than half of the way before the other.
inline bool is_before(u32 turn, u32 other) { return i32(turn - other) < 0; }
inline u32 turn_after(u32 turn) { return turn + 1 ? turn + 1 : 1; }

// Calls of one actor run one after the other, so where it is served their order is that in which they begin.  One
// that runs again keeps its turn.
inline void give_turn(Transaction& t, u32 i) {
  Task& task = t.m.task(i);
  Actor& actor = t.m.actor(task.actor);
  if (!actor.interval || task.turn || !owner_of(t.m.object(actor.object))) return;
  t.write(actor.turns, turn_after(actor.turns));  // one may be left out
  t.set(task.turn, actor.turns);
}

// The same of one that another node has done; results come in the order of their turns.
inline void keep_logged(Transaction& t, Actor& actor, u32 i) {
  t.set(t.m.task(i).flags, t.m.task(i).flags | u32(LOGGED));
  append_done(t, actor, i);
}

// The next call that is to run again goes where the actor is.
inline u32 take_to_replay(Transaction& t, Actor& actor) {
  u32 i = actor.replay_head;
  Task& task = t.m.task(i);
  t.set(actor.replay_head, task.next);
  if (!task.next) t.set(actor.replay_tail, NIL);
  t.set(task.next, NIL);
  // If the rest is undone, these may stay.
  t.write(actor.turns, turn_after(actor.turns));
  t.write(task.turn, actor.turns);  // as it will be given there, until that is heard
  t.write(task.attempt, task.attempt + 1);
  t.write(t.h.sequence, t.h.sequence + 1);
  t.write(task.sequence, t.h.sequence);  // they come back as they went
  t.set(task.flags, task.flags | u32(REPLAYED));
  t.set(actor.replaying, actor.replaying + 1);
  keep_logged(t, actor, i);
  return i;
}

// It did not get there, nor did those that went after it, which have come back.
inline void line_up_replayed(Transaction& t, Actor& actor, u32 i) {
  Task& task = t.m.task(i);
  u32 before = NIL;
  for (u32 x = actor.done_head; x != i; x = t.m.task(x).next) before = x;
  if (before) t.set(t.m.task(before).next, task.next);
  else t.set(actor.done_head, task.next);
  if (!task.next) t.set(actor.done_tail, before);
  t.set(actor.done_count, actor.done_count - 1);
  t.set(task.next, actor.replay_head);
  if (!actor.replay_head) t.set(actor.replay_tail, i);
  t.set(actor.replay_head, i);
  t.write(actor.turns, task.turn - 1);  // if undone, it is done again before one is sent
}

// What was done since the last checkpoint need not run again.
inline void forget_done(Transaction& t, Actor& actor) {
  if (!actor.done_head) return;
  if (t.h.task_work_tail) t.set(t.m.task(t.h.task_work_tail).next, actor.done_head);
  else t.set(t.h.task_work_head, actor.done_head);
  t.set(t.h.task_work_tail, actor.done_tail);
  t.set(actor.done_head, NIL);
  t.set(actor.done_tail, NIL);
  t.set(actor.done_count, 0u);
}

inline void die(Transaction& t, u32 a, SystemFailure code, i32 status, u32 pid) {
  Actor& actor = t.m.actor(a);
  t.set(actor.state, ACTOR_DEAD);
  if (actor.waits) {  // those behind it may fit
    queue::stop_waiting(t, a);
    queue::offer(t);
  }
  t.set(actor.failure_code, u32(code));
  t.set(actor.failure_status, u32(status));
  t.set(actor.failure_pid, pid);
  if (actor.thread) t.wake(actor.thread);
  add_work(t, a);
}

// To run again, before whatever else does.
inline void line_up_done(Transaction& t, Actor& actor) {
  if (!actor.done_head) return;
  t.set(t.m.task(actor.done_tail).next, actor.replay_head);
  t.set(actor.replay_head, actor.done_head);
  if (!actor.replay_tail) t.set(actor.replay_tail, actor.done_tail);
  t.set(actor.done_head, NIL);
  t.set(actor.done_tail, NIL);
  t.set(actor.done_count, 0u);
}

// From its last checkpoint it goes on elsewhere; calls that have not begun here are to be made there.
inline bool has_left(const Actor& actor) {
  return actor.state == ACTOR_DEAD && SystemFailure(actor.failure_code) == SystemFailure::actor_left;
}

// The node that serves it is to be told that it shall end; until it has been, this keeps it here.
inline void end_away(Transaction& t, u32 a) {
  Actor& actor = t.m.actor(a);
  if (!actor.failure_code) {
    t.set(actor.failure_code, u32(SystemFailure::actor_killed));
    object::reference(t, actor.object);
  }
  news::add(t, actor.object);
}

inline void stop_ending(Transaction& t, u32 a) {
  Actor& actor = t.m.actor(a);
  if (!actor.failure_code) return;
  t.set(actor.failure_code, 0u);
  object::unreference(t, actor.object);
}

// That node has died, and with it the actor; or it never came there, and shall end.
inline void lose(Transaction& t, u32 a, SystemFailure why = SystemFailure::actor_node_died) {
  Actor& actor = t.m.actor(a);
  stop_ending(t, a);
  t.set(actor.peer, NIL);
  line_up_done(t, actor);  // those of them that have results to be made fail
  die(t, a, why, 0, 0);
}

// Its process is gone: line up what has to run again, and the creation before it, which may have to rest.
// What has no checkpoint elsewhere `stays`.
inline void restart(Transaction& t, u32 a, u32 running, bool rests, bool stays = true) {
  Actor& actor = t.m.actor(a);
  queue::stop_waiting(t, a);
  if (running) {
    t.set(t.m.task(running).attempt, t.m.task(running).attempt + 1);
    t.write(t.m.task(running).next, actor.replay_head);
    t.set(actor.replay_head, running);
    if (!actor.replay_tail) t.set(actor.replay_tail, running);
    t.set(t.m.task(running).state, TASK_WAITING);
  }
  line_up_done(t, actor);
  t.write(actor.reached, actor.covered);  // if undone, the burial is begun again
  t.set(actor.state, ACTOR_CREATING);
  t.set(actor.deaths, actor.deaths + 1);
  Task& creation = t.m.task(actor.creation);
  t.set(creation.attempt, creation.attempt + 1);
  if (stays) t.write(creation.flags, creation.flags | u32(STAYS));
  if (rests) queue::rest(t, actor.creation);
  else queue::push(t, actor.creation, true);
  queue::offer(t);
}

// One bounded piece: calls of a dead actor fail, one without references ends, then all of it is freed.
inline void work(Transaction& t) {
  u32 a = t.h.actor_work;
  if (!a) return;
  Actor& actor = t.m.actor(a);
  auto doom = [&](u32 i) {
    Task& task = t.m.task(i);
    bool goes_back = has_left(actor) && task.flags & RECEIVED;
    t.set(task.flags, task.flags | u32(goes_back ? TAKEN_BACK : ACTOR_GONE));
    task::fail(t, i);
  };
  // Named again since; or news since, and let go of when that is taken.
  const Object& o = t.m.object(actor.object);
  if (actor.unreferenced && (o.references || o.origin & LISTED)) t.set(actor.unreferenced, 0u);
  // The last reference went; a creation under way ends it when it is done.
  if (actor.state != ACTOR_DEAD && (actor.state != ACTOR_AWAY || !actor.unreferenced)) {
    t.set(t.h.actor_work, actor.work_next);
    t.set(actor.working, 0u);
    if (actor.state == ACTOR_ALIVE && actor.unreferenced) die(t, a, SystemFailure::actor_killed, 0, 0);
    return;
  }
  if (actor.replay_head) {
    u32 i = actor.replay_head;
    t.set(actor.replay_head, t.m.task(i).next);
    if (!actor.replay_head) t.set(actor.replay_tail, NIL);
    doom(i);
    return;
  }
  if (actor.done_head) {
    forget_done(t, actor);
    return;
  }
  for (u32 l = actor.lanes; l; l = actor.lanes) {
    Lane& lane = t.m.lane(l);
    if (lane.head) {
      u32 i = lane.head;
      t.set(lane.head, t.m.task(i).next);
      if (!lane.head) t.set(lane.tail, NIL);
      doom(i);
    } else {
      t.set(actor.serial, actor.serial + 1);  // its caller may remember it
      free_lane(t, l);
    }
    return;
  }
  if (actor.creation) {
    u32 i = actor.creation;
    if (t.m.task(i).state == TASK_READY) {
      queue::remove(t, i);
      t.set(t.m.task(i).state, TASK_WAITING);
    }
    if (t.m.task(i).state == TASK_HELD || t.m.task(i).state == TASK_WAITING || t.m.task(i).state == TASK_BUILDING) {
      t.set(actor.creation, NIL);
      task::drop(t, i);
      return;
    }
  }
  t.set(t.h.actor_work, actor.work_next);
  t.set(actor.working, 0u);
  if (!actor.unreferenced || actor.thread || actor.creation) return;
  if (actor.checkpoint) object::unreference(t, actor.checkpoint);
  if (actor.failure) object::unreference(t, actor.failure);
  if (actor.cls) object::unreference(t, actor.cls);
  object::free_record(t, actor.object);
  t.set(actor.state, ACTOR_FREE);
  actors(t.m).give(t, a);
}

}  // namespace ray::mailbox

namespace ray {

inline void actor_lost_last_reference(Transaction& t, u32 a) {
  t.set(t.m.actor(a).unreferenced, 1u);
  mailbox::add_work(t, a);
}

// A call's last dependency got its value, or a doomed task lost its last link.
inline void call_may_run(Transaction& t, u32 i) {
  Task& task = t.m.task(i);
  if (task.state == TASK_DROPPING) {
    task::add_work(t, i);
  } else if (task.state == TASK_WAITING && mailbox::next_call(t.m, t.m.lane(task.lane)) == i) {
    mailbox::go_on(t, task.lane);
  }
}

}  // namespace ray
