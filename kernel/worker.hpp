// What a worker's thread does with the tables: take a task, finish it.
#pragma once

#include "away.hpp"

namespace ray::worker {

inline void assign(Transaction& t, u32 i, u32 task_index) {
  Thread& thread = t.m.thread(i);
  Task& task = t.m.task(task_index);
  if (task.state == TASK_HELD) t.set(task.attempt, task.attempt + 1);  // a call run again: its ids are new ones
  if (away::is_call(task)) mailbox::give_turn(t, task_index);
  t.set(task.state, TASK_RUNNING);
  t.write(task.thread, i);
  t.set(thread.task, task_index);
  t.set(thread.shape, task.shape);
  t.write(thread.task_since_ns, now_ns());
  t.set(t.h.running_count, t.h.running_count + 1);
}

inline u32 take_call(Transaction& t, u32 i, bool late) {
  Thread& thread = t.m.thread(i);
  if (t.m.actor(thread.actor).state != ACTOR_ALIVE) return NIL;
  u32 call = mailbox::take(t, thread.actor, late);
  if (call) assign(t, i, call);
  return call;
}

// The next task for this thread, assigned to it; NIL when there is none, and then it is idle.
// `late`: nobody woke it, it looks by itself.
inline u32 take(Transaction& t, u32 i, bool late = false) {
  Thread& thread = t.m.thread(i);
  if (thread.actor) return take_call(t, i, late);
  if (t.h.waking == i) t.set(t.h.waking, NIL);
  if (t.h.actors_wait_head && !t.h.actor_had_turn) queue::offer(t);
  queue::Choice choice = queue::choose(t.m);
  if (!choice.shape) {
    queue::add_idle(t, i);
    return NIL;
  }
  // Whoever was woken for this did not come: it is stopped, or dead.  It is idle again when it looks again.
  if (late && t.h.waking) queue::remove_idle(t, t.h.waking);
  u32 chosen = queue::pop(t, choice.shape);
  if (choice.passes) queue::note_passed(t, choice.passes);
  if (t.h.actor_had_turn) t.set(t.h.actor_had_turn, 0u);
  Task& task = t.m.task(chosen);
  if (TaskKind(task.kind) == TaskKind::actor_create) {
    Actor& actor = t.m.actor(task.actor);
    if (actor.state == ACTOR_DEAD) {  // killed while it was queued
      t.set(actor.creation, NIL);
      mailbox::add_work(t, task.actor);
      task::drop(t, chosen);
      queue::offer(t);
      return NIL;
    }
    t.set(thread.actor, task.actor);
    t.set(thread.life_shape, task.shape);
    t.set(actor.thread, i);
  }
  queue::remove_idle(t, i);
  const Shape& s = t.m.shape(task.shape);
  resources::take_cpu(t, s);
  resources::take_rest(t, thread, s);
  assign(t, i, chosen);
  queue::offer(t);
  return chosen;
}

// The running task is done; its returns have their values.  At most AT_ONCE returns are still listed.
inline void complete(Transaction& t, u32 i) {
  Thread& thread = t.m.thread(i);
  u32 done = thread.task;
  Task& task = t.m.task(done);
  process::release_resources(t, thread, thread.depth > 0);
  t.set(thread.task, NIL);
  t.set(task.thread, NIL);
  t.set(t.h.running_count, t.h.running_count - 1);
  t.write(t.h.tasks_done, t.h.tasks_done + 1);
  while (u32 o = task.returns) {
    if (!task.num_returns) object::seal(t, o, Value{});  // tells the node that it came from
    t.set(task.returns, t.m.object(o).next_return);
    object::unreference(t, o);
  }
  if (TaskKind(task.kind) == TaskKind::task) {
    if (thread.depth) process::step_down(t, thread);
    task::let_go(t, done);
    return;
  }
  u32 a = task.actor;
  Actor& actor = t.m.actor(a);
  if (TaskKind(task.kind) == TaskKind::actor_create) {
    if (actor.state == ACTOR_CREATING) t.set(actor.state, ACTOR_ALIVE);
    task::release_actor(t, task);
    if (actor.unreferenced && actor.state == ACTOR_ALIVE) mailbox::die(t, a, SystemFailure::actor_killed, 0, 0);
    if (actor.interval && actor.state == ACTOR_ALIVE) {
      t.set(task.state, TASK_HELD);
    } else {
      t.set(actor.creation, NIL);
      task::let_go(t, done);
    }
    return;
  }
  if (task.flags & COUNTS_ACTOR) {
    if (actor.deaths) t.set(actor.deaths, 0u);
    task::release_actor(t, task);
  }
  if (task.turn) t.write(actor.reached, task.turn);  // who dies over it is restarted (mailbox::restart)
  if (actor.interval && actor.state == ACTOR_ALIVE) mailbox::keep(t, actor, done);
  else task::let_go(t, done);
}

// --- waiting inside a task --------------------------------------------------------------------------

inline void give_back_cpu(Transaction& t, u32 i) {
  Thread& thread = t.m.thread(i);
  if (!thread.shape || thread.gave_back || !t.m.shape(thread.shape).need[CPU]) return;
  t.set(thread.gave_back, 1u);
  resources::give_cpu(t, t.m.shape(thread.shape));
  queue::offer(t);
}

inline void retake_cpu(Transaction& t, u32 i) {
  Thread& thread = t.m.thread(i);
  if (!thread.gave_back) return;
  t.set(thread.gave_back, 0u);
  resources::take_cpu(t, t.m.shape(thread.shape));
}

// --- helping: at the limit of workers, a waiting task's thread runs what it waits for ------------------

inline bool may_help(Mapping& m, u32 i) {
  const Header& h = m.header();
  const Thread& thread = m.thread(i);
  return thread.is_main && thread.task && thread.depth < HELP_DEPTH_MAX && peek(h.worker_count) >= h.max_workers &&
         !peek(h.idle_head);
}

// A task that can run now and that this object waits for: its own, one that its task waits for, or one that
// is awaited where its task runs.  Looks a bounded number of steps far; `from` is where to go on next time.
inline u32 find_help(Transaction& t, u32 awaited, u32& from) {
  for (u32 steps = 0; steps < HELP_STEPS; ++steps) {
    Object& o = t.m.object(awaited);
    if (o.state != OBJECT_PENDING || !o.task) break;
    Task& task = t.m.task(o.task);
    if (task.state == TASK_READY) {
      const Shape& s = t.m.shape(task.shape);
      bool plain = TaskKind(task.kind) == TaskKind::task && !s.need[GPU] && !s.need[CUSTOM];
      if (plain && resources::cpu_fits(t.h, s)) return o.task;
      break;
    }
    if (task.state == TASK_RUNNING) {
      awaited = t.m.thread(task.thread).awaiting.load(std::memory_order_relaxed);
      if (!awaited || awaited > t.h.objects.high_water) break;
    } else if (task.state == TASK_WAITING) {
      u32 e = task.deps;
      for (u32 n = 0; e && n < AT_ONCE && t.m.object(t.m.edge(e).object).state != OBJECT_PENDING; ++n)
        e = t.m.edge(e).next;
      if (!e) break;
      awaited = t.m.edge(e).object;
    } else {
      break;
    }
    if (steps + 1 == HELP_STEPS) {
      from = awaited;
      return NIL;
    }
  }
  from = NIL;
  return NIL;
}

// Whether this object's task, or one that it needs first, is in a queue, and no running task stands between.
inline bool needs_a_worker(Mapping& m, u32 awaited) {
  for (u32 steps = 0; steps < HELP_STEPS; ++steps) {
    Object& o = m.object(awaited);
    if (o.state != OBJECT_PENDING || !o.task) return false;
    Task& task = m.task(o.task);
    if (task.state == TASK_READY) return true;
    if (task.state != TASK_WAITING) return false;
    u32 e = task.deps;
    for (u32 n = 0; e && n < AT_ONCE && m.object(m.edge(e).object).state != OBJECT_PENDING; ++n) e = m.edge(e).next;
    // A call of this node's, whose actor has no process yet, or waits itself.
    if (!e) return TaskKind(task.kind) == TaskKind::actor_call && m.actor(task.actor).state != ACTOR_AWAY;
    awaited = m.edge(e).object;
  }
  return false;
}

// At the limit of workers none is idle, and none runs anything: each waits, or serves an actor without calls.
inline bool all_wait(Mapping& m) {
  const Header& h = m.header();
  if (h.worker_count < h.max_workers || h.idle_head) return false;
  for (u32 i = 1; i <= h.threads.high_water; ++i) {
    const Thread& thread = m.thread(i);
    if (thread.process && thread.task && !thread.awaiting.load(std::memory_order_relaxed)) return false;
  }
  return true;
}

// Puts a ready task on top of the one that waits, whose CPUs have been given back.
inline void help(Transaction& t, u32 i, u32 chosen) {
  Thread& thread = t.m.thread(i);
  queue::remove(t, chosen);
  t.write(thread.below[thread.depth], thread.task);
  t.write(thread.lanes_below[thread.depth], thread.lanes);
  t.set(thread.depth, thread.depth + 1);
  t.set(thread.lanes, NIL);
  t.set(thread.gave_back, 0u);
  resources::take_cpu(t, t.m.shape(t.m.task(chosen).shape));
  assign(t, i, chosen);
}

}  // namespace ray::worker
