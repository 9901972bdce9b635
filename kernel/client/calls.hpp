// Tasks and actor calls on their way to whoever will run them.
#pragma once

#include "client.hpp"

namespace ray {

inline u32 Client::shape(const resources::Needs& need) {
  must_be_open();
  for (;;) try {
      Transaction t(m(), thread());
      u32 handle = resources::handle(m(), resources::intern(t, need));
      t.commit();
      shapes_.try_emplace(handle, KnownShape{need, handle});
      return handle;
    } catch (const TableFull&) {
      if (!forget_shapes()) throw;
    }
}

inline u32 Client::shape_now(u32 handle) {
  if (resources::is_current(m(), handle)) return handle;
  auto known = shapes_.find(handle);
  if (known == shapes_.end()) throw KernelError("this process knows no demand of this number");
  if (!resources::is_current(m(), known->second.now)) known->second.now = shape(known->second.need);
  return known->second.now;
}

// Demands that no task or actor has make room for others; false if there is none.  Tasks made since the look
// began are known by their sequence.  Of an undone transaction a record may say that it is being made: those that
// are stand under their threads, and an actor's demand is its creation's until that is done.
inline bool Client::forget_shapes() {
  std::bitset<SHAPES_MAX> had;
  u64 since = std::atomic_ref(h_.sequence).load();
  auto look = [&](const Pool& pool, auto shape_of) {
    for (u32 i = 1; i <= peek(pool.high_water);) {
      Transaction t(m(), thread());
      for (u32 n = 0; n < SHAPE_LOOK && i <= pool.high_water; ++n, ++i) had.set(shape_of(i));
      t.commit();
    }
  };
  look(h_.threads, [&](u32 i) {
    const Thread& thread = m().thread(i);
    return thread.process && thread.building ? m().task(thread.building).shape : NIL;
  });
  look(h_.tasks, [&](u32 i) {
    const Task& task = m().task(i);
    return task.state == TASK_FREE || task.state == TASK_BUILDING ? NIL : task.shape;
  });
  look(h_.actors, [&](u32 i) {
    const Actor& actor = m().actor(i);
    return actor.state == ACTOR_FREE || actor.state == ACTOR_CREATING ? NIL : actor.shape;
  });
  bool any = false;
  Transaction t(m(), thread());
  for (u32 i = 1; i < SHAPES_MAX; ++i) {
    const Shape& s = m().shape(i);
    if (!s.used || had[i] || s.last_used > since) continue;
    resources::forget(t, i);
    any = true;
  }
  t.commit();
  return any;
}

inline void Client::submit(const Submission& s, std::vector<u32>& out) {
  must_be_open();
  u8 id[TASK_ID_BYTES];
  u32 th = thread();
  next_id(id);
  build(th, s, TaskKind::task, NIL, 0, id, out);
}

inline u32 Client::create_actor(const Submission& s, u32 interval) {
  must_be_open();
  u32 th = thread();
  u8 id[TASK_ID_BYTES];
  next_id(id);
  std::vector<u32> none;
  Submission creation = s;
  creation.num_returns = 0;
  return build(th, creation, TaskKind::actor_create, NIL, interval, id, none);
}

inline void Client::call(u32 actor_object, const Submission& s, std::vector<u32>& out) {
  must_be_open();
  must_be_actor(actor_object);
  u32 th = thread();
  u8 id[TASK_ID_BYTES];
  next_id(id);
  build(th, s, TaskKind::actor_call, m().object(actor_object).actor, 0, id, out);
}

inline void Client::must_be_actor(u32 o) {
  if (m().object(o).state != OBJECT_ACTOR) throw KernelError("this object is not an actor");
}

inline u32 Client::lane_for(Transaction& t, u32 th, u32 a, bool& opened) {
  u64 serial = m().actor(a).serial;
  auto known = local_thread.lanes.find(a);
  opened = false;
  if (known != local_thread.lanes.end() && known->second.first == serial) return known->second.second;
  opened = true;
  return mailbox::open_lane(t, a, th);
}

inline void Client::launch(Transaction& t, u32 th, u32 i) {
  Task& task = m().task(i);
  t.set(task.pending, task.pending - 1);
  t.set(task.state, TASK_WAITING);
  if (TaskKind(task.kind) != TaskKind::actor_call) {
    if (task.pending == 0) task_may_run(t, i);
    return;
  }
  t.write(task.turn, 0u);  // its arguments are all there
  u32 a = task.actor;
  if (m().actor(a).state == ACTOR_DEAD) {
    t.set(task.flags, task.flags | u32(ACTOR_GONE));
    task::fail(t, i);
    return;
  }
  bool opened = false;
  u32 l = task.flags & RECEIVED ? lane_of_received(t, a) : lane_for(t, th, a, opened);
  mailbox::append(t, l, i);
  if (opened) new_lane_ = l;
  if (mailbox::next_call(m(), m().lane(l)) == i) mailbox::go_on(t, l);
}

// To an actor that this node serves for another a call need not go around by that one; unless earlier ones of this
// caller still do, or its owner must know of it, who keeps the calls since the checkpoint that it has.
inline u32 Client::called_as(u32 a) {
  u32 here = mailbox::served_here(m(), a);
  if (here == a || m().actor(here).interval) return a;
  auto known = local_thread.lanes.find(a);
  bool has_lane = known != local_thread.lanes.end() && known->second.first == m().actor(a).serial;
  return has_lane && m().lane(known->second.second).head ? a : here;
}

inline void Client::remember_lane(u32 a) {
  if (!new_lane_) return;
  local_thread.lanes[a] = {m().actor(a).serial, new_lane_};
  new_lane_ = NIL;
}

// Makes a task of any kind, and for a creation the actor; returns the actor's object.
inline u32 Client::build(u32 th, const Submission& s, TaskKind kind, u32 a, u32 interval, const u8* id,
                         std::vector<u32>& out) {
  out.assign(s.num_returns, NIL);
  size_t parts = s.num_returns + s.deps.size() + s.nested.size();
  new_lane_ = NIL;
  u32 job_number = maker();
  u32 i, actor_object = NIL;
  for (;;) {
    u32 handle = shape_now(s.shape), shape = resources::index_of(handle);
    Transaction t(m(), th);
    if (!resources::is_current(m(), handle)) {  // since
      t.commit();
      continue;
    }
    if (kind == TaskKind::actor_create) a = mailbox::create(t, id, s.function, shape, interval, job_number, process_);
    if (kind == TaskKind::actor_call) a = called_as(a);
    u32 function = a ? m().actor(a).cls : s.function;
    i = task::create(t, {kind, function, s.num_returns, shape, s.max_retries, job_number, a, id, s.payload,
                         s.payload_bytes, s.block});
    if (a) {
      Actor& actor = m().actor(a);
      Task& task = m().task(i);
      task.flags = COUNTS_ACTOR;
      task.shape = actor.shape;
      object::reference(t, actor.object);
      if (kind == TaskKind::actor_create) {
        t.write(actor.creation, i);
        actor_object = actor.object;
      }
    }
    if (parts <= AT_ONCE) {
      for (u32 r = s.num_returns; r > 0; --r) out[r - 1] = task::add_return(t, i, r - 1, process_, th);
      for (u32 d : s.deps) task::add_dependency(t, i, d);
      for (u32 n : s.nested) task::add_nested(t, i, n);
      launch(t, th, i);
    } else {
      t.set(m().thread(th).building, i);
    }
    Shape& its = m().shape(m().task(i).shape);
    t.write(its.last_used, m().task(i).sequence);
    t.commit();
    break;
  }
  if (s.kept_at) *s.kept_at = NIL;
  if (actor_object) adopt(actor_object, HOLD_IN_OBJECT | actor_object);
  if (parts > AT_ONCE) build_rest(th, i, s, actor_object, out);
  if (a) remember_lane(a);
  for (u32 o : out) adopt(o, HOLD_IN_OBJECT | o);
  drain();
  return actor_object;
}

// A bounded number in each transaction.
template <typename Add>
inline void Client::in_pieces(u32 th, size_t count, Add add) {
  for (size_t k = 0; k < count;) {
    size_t end = std::min<size_t>(count, k + AT_ONCE);
    Transaction t(m(), th);
    for (; k < end; ++k) add(t, k);
    t.commit();
  }
}

// What is too long for one transaction is built under the thread's ledger, and appears with its last one.
inline void Client::build_rest(u32 th, u32 i, const Submission& s, u32 actor_object, std::vector<u32>& out) {
  size_t returns_made = 0;
  try {
    while (returns_made < s.num_returns) {
      size_t end = std::min<size_t>(s.num_returns, returns_made + AT_ONCE);
      Transaction t(m(), th);
      for (size_t k = returns_made; k < end; ++k) {
        u32 r = s.num_returns - 1 - u32(k);
        out[r] = task::add_return(t, i, r, process_, th);
      }
      t.commit();
      returns_made = end;
    }
    in_pieces(th, s.deps.size(), [&](Transaction& t, size_t k) { task::add_dependency(t, i, s.deps[k]); });
    in_pieces(th, s.nested.size(), [&](Transaction& t, size_t k) { task::add_nested(t, i, s.nested[k]); });
    Transaction t(m(), th);
    t.set(m().thread(th).building, NIL);
    launch(t, th, i);
    t.commit();
  } catch (...) {
    {
      Transaction t(m(), th);
      process::abandon_build(t, m().thread(th), 0, pid_);
      t.commit();
    }
    for (size_t k = 0; k < returns_made; ++k) {
      Transaction t(m(), th);
      object::drop_hold(t, HOLD_IN_OBJECT | out[s.num_returns - 1 - k]);
      t.commit();
    }
    if (actor_object) drop_local(actor_object);
    drain();
    throw;
  }
}

}  // namespace ray
