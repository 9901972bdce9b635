// Ready queues, one for each shape of resources, and who is woken for what.
//
// Invariants: a shape's bit in shapes_ready is set exactly when its queue is not empty; every task in a
// queue is READY with no pending dependency; ready_count is the sum of the queues' lengths; an idle
// worker runs nothing and holds nothing.
#pragma once

#include "object.hpp"
#include "resources.hpp"

namespace ray {

void call_may_run(Transaction& t, u32 task);  // mailbox.hpp

namespace queue {

// Whether an idle worker will take the last of this shape's queue at once, and each before it another.  A worker that
// has been woken is idle until it runs, and has taken nothing yet: how many are there counts, not that one is.
inline bool are_taken_at_once(const Header& h, const Shape& s) {
  return h.ready_count < h.idle_count && resources::fit_side_by_side(h, s, s.count);
}

inline void push(Transaction& t, u32 i, bool front) {
  Task& task = t.m.task(i);
  Shape& s = t.m.shape(task.shape);
  t.set(task.state, TASK_READY);
  if (front) {
    t.write(task.next, s.head);
    t.write(task.previous, NIL);
    if (s.head) t.set(t.m.task(s.head).previous, i);
    t.set(s.head, i);
    if (!s.tail) t.set(s.tail, i);
  } else {
    t.write(task.next, NIL);
    t.write(task.previous, s.tail);
    if (s.tail) t.set(t.m.task(s.tail).next, i);
    else t.set(s.head, i);
    t.set(s.tail, i);
  }
  t.set(s.count, s.count + 1);
  if (TaskKind(task.kind) == TaskKind::actor_create) {
    t.set(s.creations, s.creations + 1);
    if (!t.h.idle_head) t.ask_for_workers();
  }
  if (task.flags & STAYS) t.set(s.stays, s.stays + 1);
  bool may_go = t.h.peers && !(task.flags & STAYS);
  if (may_go && !t.h.queued && !are_taken_at_once(t.h, s)) {
    t.write(t.h.queued, 1u);
    t.tell_news();
  }
  if (s.count == 1) {
    u64& bits = t.h.shapes_ready[task.shape / 64];
    t.set(bits, bits | 1ull << (task.shape % 64));
  }
  t.set(t.h.ready_count, t.h.ready_count + 1);
}

inline void remove(Transaction& t, u32 i) {
  Task& task = t.m.task(i);
  u32 shape = task.shape;
  Shape& s = t.m.shape(shape);
  if (task.next) t.set(t.m.task(task.next).previous, task.previous);
  else t.set(s.tail, task.previous);
  if (task.previous) t.set(t.m.task(task.previous).next, task.next);
  else t.set(s.head, task.next);
  t.set(task.next, NIL);
  t.set(s.count, s.count - 1);
  if (TaskKind(task.kind) == TaskKind::actor_create) t.set(s.creations, s.creations - 1);
  if (task.flags & STAYS) t.set(s.stays, s.stays - 1);
  if (s.passed) t.set(s.passed, 0u);
  if (!s.count) {
    u64& bits = t.h.shapes_ready[shape / 64];
    t.set(bits, bits & ~(1ull << (shape % 64)));
  }
  t.set(t.h.ready_count, t.h.ready_count - 1);
}

inline u32 pop(Transaction& t, u32 shape) {
  u32 i = t.m.shape(shape).head;
  remove(t, i);
  return i;
}

// --- stopped tasks, which run again later ----------------------------------------------------------

inline void rest(Transaction& t, u32 i) {
  t.set(t.m.task(i).state, TASK_RESTING);
  t.write(t.m.task(i).next, NIL);
  if (t.h.resting_tail) t.set(t.m.task(t.h.resting_tail).next, i);
  else t.set(t.h.resting_head, i);
  t.set(t.h.resting_tail, i);
  t.set(t.h.resting_count, t.h.resting_count + 1);
}

// The one that has rested longest may run.
inline void resume(Transaction& t) {
  u32 i = t.h.resting_head;
  t.set(t.h.resting_head, t.m.task(i).next);
  if (!t.h.resting_head) t.set(t.h.resting_tail, NIL);
  t.set(t.h.resting_count, t.h.resting_count - 1);
  t.set(t.m.task(i).next, NIL);
  push(t, i, true);
}

// Out of the line, for good.
inline void stop_resting(Transaction& t, u32 i) {
  u32 before = NIL;
  for (u32 x = t.h.resting_head; x != i; x = t.m.task(x).next) before = x;
  u32 after = t.m.task(i).next;
  if (before) t.set(t.m.task(before).next, after);
  else t.set(t.h.resting_head, after);
  if (!after) t.set(t.h.resting_tail, before);
  t.set(t.h.resting_count, t.h.resting_count - 1);
  t.set(t.m.task(i).next, NIL);
}

struct Choice {
  u32 shape = NIL;
  u64 sequence = ~0ull;
  u32 passes = NIL;  // shape of an older task that does not fit
};

// The oldest task that fits, of those that want nothing which `held_back` lacks.
inline Choice choose_beside(Mapping& m, u32 held_back) {
  Header& h = m.header();
  const Shape& older = m.shape(held_back);
  Choice choice;
  for (u32 w = 0; w < SHAPES_MAX / 64; ++w)
    for (u64 bits = h.shapes_ready[w]; bits; bits &= bits - 1) {
      u32 i = w * 64 + u32(std::countr_zero(bits));
      const Shape& s = m.shape(i);
      bool conflicts = s.need[GPU] > 0 && !resources::gpus_fit(h, older.need[GPU]);
      for (u32 k = 0; k < RESOURCE_KINDS; ++k) conflicts |= s.need[k] > 0 && older.need[k] > h.free[k];
      u64 sequence = m.task(s.head).sequence;
      if (!conflicts && sequence < choice.sequence && resources::fits(h, s)) choice = {i, sequence, NIL};
    }
  return choice;
}

// The oldest task that fits.  One that does not fit, though it could, and has been passed often, for a
// while holds back younger tasks that want what it lacks.  Only for a while: what it lacks may be held by
// tasks that wait for the younger ones.
inline Choice choose(Mapping& m) {
  Header& h = m.header();
  Choice choice;
  if (!h.ready_count) return choice;
  u64 unfit_sequence = ~0ull;
  u32 unfit = NIL;
  for (u32 w = 0; w < SHAPES_MAX / 64; ++w)
    for (u64 bits = h.shapes_ready[w]; bits; bits &= bits - 1) {
      u32 i = w * 64 + u32(std::countr_zero(bits));
      const Shape& s = m.shape(i);
      u64 sequence = m.task(s.head).sequence;
      if (resources::fits(h, s)) {
        if (sequence < choice.sequence) choice.shape = i, choice.sequence = sequence;
      } else if (sequence < unfit_sequence && resources::feasible(h, s)) {
        unfit = i, unfit_sequence = sequence;
      }
    }
  if (choice.shape && unfit_sequence < choice.sequence) {
    choice.passes = unfit;
    const Shape& older = m.shape(unfit);
    if (older.passed >= HOLD_BACK_AFTER && now_ns() < older.holds_back_until_ns) return choose_beside(m, unfit);
  }
  return choice;
}

inline void note_passed(Transaction& t, u32 shape) {
  Shape& s = t.m.shape(shape);
  t.set(s.passed, s.passed + 1);
  if (s.passed % HOLD_BACK_AFTER == 0) t.set(s.holds_back_until_ns, now_ns() + HOLD_BACK_NS);
}

// --- idle workers -----------------------------------------------------------------------------------

inline void add_idle(Transaction& t, u32 i) {
  Thread& thread = t.m.thread(i);
  if (thread.idle) return;
  t.set(thread.idle, 1u);
  t.write(thread.idle_previous, NIL);
  t.write(thread.idle_next, t.h.idle_head);
  if (t.h.idle_head) t.set(t.m.thread(t.h.idle_head).idle_previous, i);
  t.set(t.h.idle_head, i);
  t.set(t.h.idle_count, t.h.idle_count + 1);
}

inline void remove_idle(Transaction& t, u32 i) {
  Thread& thread = t.m.thread(i);
  if (t.h.waking == i) t.set(t.h.waking, NIL);
  if (!thread.idle) return;
  if (thread.idle_next) t.set(t.m.thread(thread.idle_next).idle_previous, thread.idle_previous);
  if (thread.idle_previous) t.set(t.m.thread(thread.idle_previous).idle_next, thread.idle_next);
  else t.set(t.h.idle_head, thread.idle_next);
  t.set(thread.idle, 0u);
  t.set(t.h.idle_count, t.h.idle_count - 1);
}

// --- actors that wait for a CPU ---------------------------------------------------------------------

inline void wait_for_cpu(Transaction& t, u32 a) {
  Actor& actor = t.m.actor(a);
  if (actor.waits) return;
  t.set(actor.waits, 1u);
  t.write(actor.wait_next, NIL);
  if (t.h.actors_wait_tail) t.set(t.m.actor(t.h.actors_wait_tail).wait_next, a);
  else t.set(t.h.actors_wait_head, a);
  t.set(t.h.actors_wait_tail, a);
}

inline u32 pop_waiting_actor(Transaction& t) {
  u32 a = t.h.actors_wait_head;
  Actor& actor = t.m.actor(a);
  t.set(t.h.actors_wait_head, actor.wait_next);
  if (!actor.wait_next) t.set(t.h.actors_wait_tail, NIL);
  t.set(actor.waits, 0u);
  return a;
}

inline void stop_waiting(Transaction& t, u32 a) {
  if (!t.m.actor(a).waits) return;
  u32 before = NIL;
  for (u32 x = t.h.actors_wait_head; x != a; x = t.m.actor(x).wait_next) before = x;
  u32 after = t.m.actor(a).wait_next;
  if (before) t.set(t.m.actor(before).wait_next, after);
  else t.set(t.h.actors_wait_head, after);
  if (!after) t.set(t.h.actors_wait_tail, before);
  t.set(t.m.actor(a).waits, 0u);
}

// An actor's CPUs are taken for it before it wakes, so that no task slips in between.
inline void grant(Transaction& t, Actor& actor) {
  Thread& thread = t.m.thread(actor.thread);
  resources::take_cpu(t, t.m.shape(actor.shape));
  t.set(thread.granted, 1u);
  t.wake(actor.thread);
}

// A ready task goes before the next actor: unless no worker is there, nor may come, to run it.
inline bool tasks_have_turn(const Header& h) {
  return h.actor_had_turn && (h.idle_head || h.worker_count < h.max_workers);
}

// Resources became free, or work ready: whoever can use them is woken.  When both an actor and a task
// want a CPU they take turns, so neither starves behind a long queue of the other.
inline void offer(Transaction& t) {
  Choice choice = choose(t.m);
  for (u32 n = 0; t.h.actors_wait_head && n < PIECE; ++n) {
    Actor& actor = t.m.actor(t.h.actors_wait_head);
    if (!resources::cpu_fits(t.h, t.m.shape(actor.shape))) break;
    if (choice.shape && tasks_have_turn(t.h)) break;
    pop_waiting_actor(t);
    grant(t, actor);
    if (choice.shape) t.set(t.h.actor_had_turn, 1u);
    choice = choose(t.m);
  }
  if (!choice.shape) return;
  if (!t.h.idle_head) {
    t.ask_for_workers();
  } else if (!t.h.waking) {
    t.set(t.h.waking, t.h.idle_head);
    t.wake(t.h.idle_head);
  }
}

}  // namespace queue

inline void task_may_run(Transaction& t, u32 i) {
  Task& task = t.m.task(i);
  if (TaskKind(task.kind) == TaskKind::actor_call || task.state != TASK_WAITING) {
    call_may_run(t, i);
    return;
  }
  queue::push(t, i, false);
  // Waking is for the one who commits: a cascade of many wakes one worker, and it the next.
  queue::offer(t);
}

}  // namespace ray
