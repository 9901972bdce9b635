// What a worker does with the tables: take a task, give its results, take the next.
#pragma once

#include "client.hpp"

namespace ray {

inline bool Client::next(const Value* result, Assignment& out) {
  must_be_open();
  u32 th = thread();
  Thread& me = m().thread(th);
  if (me.lanes) close_lanes(th);
  let_go();
  bool finishing = me.task != NIL;
  if (finishing) record_event(th);
  drain();
  u32 got;
  bool idle, late = false;
  {
    Transaction t(m(), th);
    if (finishing) {
      Task& running = m().task(me.task);
      bool sealed = result && running.returns && object::seal(t, running.returns, *result);
      worker::complete(t, th);
      // A call that is run again has its results already.
      if (result && !sealed && result->block) heap::discard(t, result->block, process_);
    }
    got = may_end(th) ? NIL : worker::take(t, th);
    if (!got && finishing) queue::offer(t);
    t.commit();
    if (finishing && result) result->taken();
  }
  drain();
  for (u32 slices = 0; !got;) {
    must_be_open();
    if (may_end(th) && must_end(th)) return false;
    u32 value = me.word.load(std::memory_order_seq_cst);
    auto woken = [&] { return me.word.load(std::memory_order_seq_cst) != value; };
    Transaction t(m(), th);
    got = worker::take(t, th, late);
    idle = me.idle || me.actor;
    t.commit();
    if (got || may_end(th)) continue;
    if (!idle) continue;
    u64 began = now_ns();
    if (wait::spin(m(), th, woken)) {
      wait::patience.waited(now_ns() - began);
      continue;
    }
    long slice_ns = slices++ < IDLE_AFTER ? SLEEP_SLICE_NS : IDLE_SLICE_NS;
    wait::Outcome outcome = wait::sleep(m(), th, wait::Deadline(slice_ns / 1'000'000), woken, slice_ns);
    wait::patience.waited(now_ns() - began);
    if (outcome == wait::Outcome::interrupted) throw Interrupted("");
    late = outcome == wait::Outcome::timeout;
    drain();
  }
  out = assignment(got);
  enter_task(m().task(got));
  return true;
}

inline void Client::complete() {
  must_be_open();
  u32 th = thread();
  running_task(th);
  if (m().thread(th).lanes) close_lanes(th);
  record_event(th);
  {
    Transaction t(m(), th);
    worker::complete(t, th);
    queue::offer(t);
    t.commit();
  }
  drain();
}

inline Assignment Client::assignment(u32 i) {
  Task& task = m().task(i);
  return Assignment{i, TaskKind(task.kind), task.function, task.function ? object::key(m(), task.function) : 0,
                    task.num_returns};
}

inline void Client::seal_results(std::span<const Result> results) {
  must_be_open();
  u32 th = thread();
  Task& running = running_task(th);
  if (results.empty()) return;  // what only the node knows that a task came from is sealed when that is complete
  while (u32 o = running.returns) {
    u32 index = object::place_of(m().object(o).id);
    const Result& r = results[index < results.size() ? index : 0];
    add_nested(o, r.nested);
    bool last = !m().object(o).next_return;
    Transaction t(m(), th);
    bool sealed = object::seal(t, o, r.value);
    if (!last) {
      t.set(running.returns, m().object(o).next_return);
      object::unreference(t, o);
    }
    t.commit();
    if (sealed) r.value.taken();
    drain();
    if (last) break;
  }
}

inline void Client::fail(const Value& v, std::span<const u32> nested, bool journal) {
  must_be_open();
  u32 th = thread();
  Task& running = running_task(th);
  u32 first = running.returns;
  if (!first) {
    if (!journal || running.num_returns) return;  // of a call that runs again, the first failure stays
    u32 o = put(v, nested);
    {
      Transaction t(m(), th);
      enter_failure(t, running, o);
      t.commit();
    }
    drop_local(o);
    return;
  }
  u32 index;
  memcpy(&index, m().object(first).id + TASK_ID_BYTES, 4);
  add_nested(first, nested);
  {
    Transaction t(m(), th);
    bool sealed = object::seal(t, first, v);  // not if an attempt before this one came so far
    if (sealed && journal) enter_failure(t, running, first);
    t.commit();
    if (sealed) v.taken();
  }
  drain();
  while (u32 o = m().object(first).next_return) {
    Transaction t(m(), th);
    if (m().object(o).state == OBJECT_PENDING) object::add_nested(t, o, first);
    object::seal(t, o, Value{nullptr, 0, NIL, FORMAT_ALIAS});
    t.set(m().object(first).next_return, m().object(o).next_return);
    object::unreference(t, o);
    t.commit();
    drain();
  }
}

// In the journal; of another node's task in the journal there.
inline void Client::enter_failure(Transaction& t, const Task& task, u32 o) {
  if (task.flags & RECEIVED) news::mark_failure(t, o);
  else journal::append(t, {JournalKind::error, task.job, m().object(o).format, nullptr, 0, o});
}

inline Task& Client::running_task(u32 th) {
  u32 i = m().thread(th).task;
  if (!i) throw KernelError("no task runs on this thread");
  return m().task(i);
}

// Who asked may have died before he had decided.
inline bool Client::must_end(u32 th) {
  Transaction t(m(), th);
  bool yes = may_end(th);
  t.commit();
  return yes;
}

inline bool Client::may_end(u32 th) {
  Thread& me = m().thread(th);
  if (me.actor) return peek(m().actor(me.actor).state) == ACTOR_DEAD;
  return peek(m().process(process_).retire) != 0;
}

inline void Client::close_lanes(u32 th) {
  while (u32 l = m().thread(th).lanes) {
    Transaction t(m(), th);
    mailbox::close_lane(t, l);
    t.commit();
  }
  local_thread.lanes.clear();
}

// Where ids of this task's children start from; an attempt after the first has ids of its own.
inline void Client::enter_task(const Task& task) {
  LocalThread& local = local_thread;
  memcpy(local.parent, task.id, TASK_ID_BYTES);
  if (task.attempt) task::derive_id(local.parent, task.id, 0xFFFFFu, task.attempt);
  memcpy(current_parent_, local.parent, TASK_ID_BYTES);
  local.counter = 0;
  local.ordinal = 0;
}

inline void Client::record_event(u32 th) {
  Thread& me = m().thread(th);
  Task& task = m().task(me.task);
  u32 n = me.event_count.load(std::memory_order_relaxed);
  if (!m().has_memory_for_event(th, n)) return;
  Event& e = m().events(th)[n % EVENTS_PER_THREAD];
  e.pid = pid_;
  e.kind = u16(task.kind);
  e.method = TaskKind(task.kind) == TaskKind::actor_call ? u16(task.max_retries) : 0;
  e.start_ns = me.task_since_ns;
  e.end_ns = now_ns();
  e.function_key = task.function ? object::key(m(), task.function) : 0;
  memcpy(e.task_id, task.id, TASK_ID_BYTES);
  me.event_count.store(n + 1, std::memory_order_release);
}

inline void Client::drain() {
  while (peek(h_.object_work) || peek(h_.task_work_head) || peek(h_.actor_work)) {
    Transaction t(m(), process_ && !left_ ? thread() : NIL);
    if (h_.object_work) object::work(t);
    else if (h_.task_work_head) task::work(t);
    else mailbox::work(t);
    t.commit();
  }
}

}  // namespace ray
