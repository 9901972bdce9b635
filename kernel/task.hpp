// Tasks: made, finished, failed, dropped.
//
// Invariants
//   1. pending = dependencies without a value (+ 1 while building).
//   2. A task's arguments and edges stay until its results are committed, so it can always run again.
//   3. returns lists the objects not yet released by the task; each counts one reference for it.
#pragma once

#include "journal.hpp"
#include "loan.hpp"
#include "queue.hpp"

namespace ray::task {

inline u64 mix(u64 x) {
  // finalizer of SplitMix64 (G. Steele et al., "Fast splittable pseudorandom number generators", 2014)
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

// 16 bytes from a parent's 16: for one parent, distinct (ordinal, counter) give distinct ids.  The first
// word is that of the family, the second counts within it.
inline void derive_id(u8* out, const u8* parent, u32 ordinal, u64 counter) {
  u64 low, high;
  memcpy(&low, parent, 8);
  memcpy(&high, parent + 8, 8);
  u64 family = mix(low ^ mix(high ^ ordinal));
  u64 place = mix(high ^ family) + counter;
  memcpy(out, &family, 8);
  memcpy(out + 8, &place, 8);
}

inline void return_id(u8* out, const u8* task_id, u32 index) {
  memcpy(out, task_id, TASK_ID_BYTES);
  memcpy(out + TASK_ID_BYTES, &index, 4);
}

struct Spec {
  TaskKind kind;
  u32 function;
  u32 num_returns;
  u32 shape;
  u32 max_retries;
  u32 job;
  u32 actor;
  const u8* id;
  const u8* payload;
  u64 payload_bytes;
  u32 block;  // held by the caller; or 0
};

inline u32 create(Transaction& t, const Spec& spec) {
  u32 i = tasks(t.m).take(t);
  Task& task = t.m.task(i);
  task.serial += 1;
  task.state = TASK_BUILDING;
  t.write(t.h.sequence, t.h.sequence + 1);
  task.sequence = t.h.sequence;
  task.function = spec.function;
  task.returns = task.deps = task.deps_last = task.nested = task.next = task.previous = NIL;
  task.num_returns = spec.num_returns;
  task.pending = 1;
  task.shape = spec.shape;
  task.kind = u32(spec.kind);
  task.attempt = 0;
  task.max_retries = spec.max_retries;
  task.thread = task.lane = task.block = NIL;
  task.actor = spec.actor;
  task.payload_bytes = u32(spec.payload_bytes);
  task.job = spec.job;
  task.flags = 0;
  task.failure_status = task.failure_pid = 0;
  memcpy(task.id, spec.id, TASK_ID_BYTES);
  if (spec.function) object::reference(t, spec.function);
  if (spec.block) {
    heap::let_go(t, spec.block);
    task.block = spec.block;
  } else if (spec.payload_bytes > INLINE_PAYLOAD_BYTES) {
    task.block = heap::allocate(t, spec.payload_bytes);
    memcpy(t.m.heap(u64(t.m.block(task.block).offset) * GRANULE_BYTES), spec.payload, spec.payload_bytes);
  } else if (spec.payload_bytes) {
    memcpy(task.payload, spec.payload, spec.payload_bytes);
  }
  return i;
}

// The objects are linked from the last to the first, so the list ends up in order.
inline u32 add_return(Transaction& t, u32 i, u32 index, u32 process, u32 watcher) {
  Task& task = t.m.task(i);
  u8 id[ID_BYTES];
  return_id(id, task.id, index);
  u32 o = object::create(t, id, i, watcher);
  t.m.object(o).next_return = task.returns;
  t.m.object(o).references = 1;  // the task's
  t.set(task.returns, o);
  object::hold(t, o, process);
  return o;
}

// The task waits for what this edge of its leads to, unless that has its value.
inline void wait_with(Transaction& t, u32 i, u32 e) {
  Task& task = t.m.task(i);
  u32 awaited = t.m.edge(e).object;
  Object& o = t.m.object(awaited);
  if (o.state != OBJECT_PENDING) return;
  // The oldest is told first.
  Edge& last = t.m.edge(o.waiting ? o.waiting : e);
  t.m.edge(e).waiting_next = o.waiting ? last.waiting_next : e;
  if (o.waiting) t.set(last.waiting_next, e);
  t.set(o.waiting, e);
  t.set(task.pending, task.pending + 1);
  if (o.origin) news::want(t, awaited);
}

inline void add_dependency(Transaction& t, u32 i, u32 awaited) {
  Task& task = t.m.task(i);
  u32 e = object::new_edge(t, awaited, i, NIL);
  if (task.deps_last) t.set(t.m.edge(task.deps_last).next, e);
  else t.set(task.deps, e);
  t.write(task.deps_last, e);
  wait_with(t, i, e);
}

inline void add_nested(Transaction& t, u32 i, u32 contained) {
  Task& task = t.m.task(i);
  t.set(task.nested, object::new_edge(t, contained, i, task.nested));
}

// Kept alive by an edge that is no argument, and waited for all the same.
inline void await_function(Transaction& t, u32 i) {
  Task& task = t.m.task(i);
  if (!task.function || t.m.object(task.function).state != OBJECT_PENDING) return;
  add_nested(t, i, task.function);
  wait_with(t, i, task.nested);
}

// --- the work list of tasks that fail or are dropped ------------------------------------------------

inline void add_work(Transaction& t, u32 i) {
  t.set(t.m.task(i).next, NIL);
  if (t.h.task_work_tail) t.set(t.m.task(t.h.task_work_tail).next, i);
  else t.set(t.h.task_work_head, i);
  t.set(t.h.task_work_tail, i);
}

inline void drop(Transaction& t, u32 i) {
  t.set(t.m.task(i).state, TASK_DROPPING);
  if (t.m.task(i).pending == 0) add_work(t, i);
}

// A few edges; true when none is left.
inline bool drop_edges(Transaction& t, Task& task, u32 most) {
  for (u32 n = 0; n < most && (task.deps || task.nested); ++n) {
    u32& list = task.deps ? task.deps : task.nested;
    u32 e = list;
    t.set(list, t.m.edge(e).next);
    u32 o = t.m.edge(e).object;
    edges(t.m).give(t, e);
    object::unreference(t, o);
  }
  return !task.deps && !task.nested;
}

inline void release_actor(Transaction& t, Task& task) {
  if (!(task.flags & COUNTS_ACTOR)) return;
  t.set(task.flags, task.flags & ~u32(COUNTS_ACTOR));
  object::unreference(t, t.m.actor(task.actor).object);
}

inline void free_record(Transaction& t, u32 i) {
  Task& task = t.m.task(i);
  if (task.function) object::unreference(t, task.function);
  if (task.flags & STOPPED && task.report) object::unreference(t, task.report);
  if (task.block) heap::release(t, task.block);
  release_actor(t, task);
  t.set(task.block, NIL);
  t.set(task.state, TASK_FREE);
  tasks(t.m).give(t, i);
}

// Frees it now if that is little work, else leaves it to the work list.
inline void let_go(Transaction& t, u32 i) {
  if (drop_edges(t, t.m.task(i), 3)) free_record(t, i);
  else drop(t, i);
}

struct SystemData {
  i32 code, status, pid;
  u32 attempt;
  u8 function_id[ID_BYTES];
};
static_assert(sizeof(SystemData) == 36);

inline SystemData failure_data(Mapping& m, const Task& task) {
  SystemData d{};
  d.code = i32(SystemFailure::worker_died);
  d.status = i32(task.failure_status);
  d.pid = i32(task.failure_pid);
  d.attempt = task.attempt;
  if (task.flags & STOPPED) d.code = i32(SystemFailure::task_stopped);
  if (task.flags & JOB_ENDED) d.code = i32(SystemFailure::job_ended);
  else if (task.flags & NODE_DIED) d.code = i32(SystemFailure::node_died);
  u32 named = task.function;
  if (task.flags & ACTOR_GONE) {
    const Actor& actor = m.actor(task.actor);
    d.code = i32(actor.failure_code);
    d.status = i32(actor.failure_status);
    d.pid = i32(actor.failure_pid);
  }
  if (named) memcpy(d.function_id, m.object(named).id, ID_BYTES);
  return d;
}

// The object that says why a task fails; NIL when the kernel's own words do.
inline u32 failure_of(Mapping& m, const Task& task) {
  if (task.flags & STOPPED) return task.report;
  return task.flags & ACTOR_GONE ? m.actor(task.actor).failure : NIL;
}

// Seals one return with the failure: the kernel's own words, or an alias of what its actor failed with, or of why
// it was stopped.  With no record left for the alias the kernel's own words do: what lets go of records must not
// need one.
inline void fail_return(Transaction& t, Task& task, u32 o) {
  // Of a dead actor's calls the one that ran tells of it.
  bool told = task.flags & RECEIVED && !(task.flags & JOB_ENDED) && (!(task.flags & ACTOR_GONE) || task.failure_pid);
  bool first = t.m.object(o).state == OBJECT_PENDING && object::place_of(t.m.object(o).id) == 0;
  if (told && first) news::mark_failure(t, o);
  u32 alias = failure_of(t.m, task);
  if (alias && t.m.object(o).state == OBJECT_PENDING && edges(t.m).has_room()) {
    object::add_nested(t, o, alias);
    object::seal(t, o, Value{nullptr, 0, NIL, FORMAT_ALIAS});
  } else {
    SystemData d = failure_data(t.m, task);
    object::seal(t, o, Value{reinterpret_cast<const u8*>(&d), sizeof d, NIL, FORMAT_SYSTEM});
  }
}

// A result that this node was to make for its owner is another's to make.
inline void take_from(Transaction& t, u32 i) {
  Object& o = t.m.object(i);
  if (o.state == OBJECT_PENDING) {
    t.set(o.task, NIL);
    if (o.watches || o.waiting || o.watcher) news::want(t, i);
  }
  loan::take_back(t, i, owner_of(o), ~0u);
}

inline void fail(Transaction& t, u32 i) {
  t.set(t.m.task(i).state, TASK_FAILING);
  add_work(t, i);
}

// One bounded piece.
inline void work(Transaction& t) {
  u32 i = t.h.task_work_head;
  if (!i) return;
  Task& task = t.m.task(i);
  if (task.state == TASK_FAILING && task.returns) {
    u32 o = task.returns;
    bool fails = !(task.flags & TAKEN_BACK);
    if (fails) fail_return(t, task, o);
    t.set(task.returns, t.m.object(o).next_return);
    if (!fails) take_from(t, o);
    object::unreference(t, o);
    return;
  }
  auto pop = [&] {
    t.set(t.h.task_work_head, task.next);
    if (!task.next) t.set(t.h.task_work_tail, NIL);
    t.set(task.next, NIL);
  };
  if (task.state == TASK_FAILING) {
    t.set(task.state, TASK_DROPPING);
    release_actor(t, task);
    // Objects it waits for still link to it: the last of them brings it back here.
    if (task.pending) pop();
    return;
  }
  if (task.returns) {  // an abandoned build: nobody will ever make these
    u32 o = task.returns;
    fail_return(t, task, o);
    t.set(task.returns, t.m.object(o).next_return);
    object::unreference(t, o);
    return;
  }
  if (!drop_edges(t, task, 4)) return;
  pop();
  free_record(t, i);
}

}  // namespace ray::task
