// Tasks that go to other nodes, and their results when they come.
#pragma once

#include "peers.hpp"

namespace ray {

inline std::vector<QueueState> Client::queues() {
  std::vector<QueueState> out;
  Transaction t(m(), thread());
  for (u32 i = 1; i < SHAPES_MAX; ++i) {
    const Shape& s = m().shape(i);
    u32 may_go = s.count - s.stays;
    if (may_go)
      out.push_back({resources::handle(m(), i), {s.need[0], s.need[1], s.need[2]}, may_go, resources::feasible(h_, s)});
  }
  t.commit();
  return out;
}

inline std::set<u32> Client::waiting_jobs(u32 shape, Away& from) {
  must_be_open();
  std::set<u32> jobs;
  Transaction t(m(), thread());
  u32 i = looked_until(shape, from);
  for (u32 n = 0; i && n < PEER_LOOK; ++n, i = m().task(i).next) jobs.insert(m().task(i).job);
  from = {i, i ? m().task(i).serial : 0, {}, 0};
  t.commit();
  return jobs;
}

// Where a look at the queue has ended; its head when that task is no longer in it.
inline u32 Client::looked_until(u32 shape, const Away& from) {
  const Task& last = m().task(from.index);
  u32 queue = resources::index_of(shape);
  if (from.index && last.serial == from.serial && last.state == TASK_READY && last.shape == queue) return from.index;
  return resources::is_current(m(), shape) ? m().shape(queue).head : NIL;
}

// The oldest first; in each transaction one goes, or a bounded number is looked at.
inline std::vector<SentTask> Client::send_tasks(u32 peer, u32 shape, u32 count) {
  must_be_open();
  std::vector<SentTask> out;
  Away from;  // where the look goes on; none: at the head
  while (out.size() < count) {
    Away sent;
    try {
      sent = send_task(peer, shape, from);
      if (sent.index) out.push_back(describe(sent.index, peer));
    } catch (const TableFull&) {
      if (sent.index) come_back(sent, peer, false);
      if (out.empty()) throw;
      break;
    }
    if (!sent.index && !from.index) break;
  }
  return out;
}

inline Away Client::send_task(u32 peer, u32 shape, Away& from) {
  Away sent;
  auto at = [&](u32 i) { return Away{i, m().task(i).serial, {}, 0}; };
  Transaction t(m(), thread());
  must_be_peer(peer);
  u32 i = looked_until(shape, from);
  for (u32 n = 0; i && n < PEER_LOOK && !away::may_go(m(), i); ++n) i = m().task(i).next;
  from = at(i);
  if (i && away::may_go(m(), i)) {
    sent = at(i);
    from = at(m().task(i).next);
    away::send(t, i, peer);
    lend_ids(t, i, peer, 0);
  }
  t.commit();
  return sent;
}

// An actor's node knows its class.
inline bool Client::sends_function(const Task& task) { return task.function && !away::is_call(task); }

// An actor that is created goes on from there.
inline u32 Client::checkpoint_of(const Task& task) {
  return away::is_creation(task) ? m().actor(task.actor).checkpoint : NIL;
}

// How the node that serves an actor names it.
inline IdRef Client::served_as(u32 actor_object) {
  IdRef ref = ref_of(actor_object);
  if (!ref.owner) task::return_id(ref.id.data(), ref.id.data(), SERVED_INDEX);
  return ref;
}

// Tasks that wait for this value alone, by their shapes, among a bounded number.  None if a thread waits for it too:
// then it comes in any case.
inline std::vector<QueueState> Client::followers(u32 o) {
  must_be_open();
  std::vector<QueueState> out;
  Transaction t(m(), thread());
  if (!news::is_blocked_on(m(), o))
    each_waiting(o, [&](u32 e, u32) {
      u32 i = m().edge(e).task;
      if (!away::may_follow(m(), i)) return false;
      const Shape& s = m().shape(m().task(i).shape);
      u32 handle = resources::handle(m(), m().task(i).shape);
      auto same = [&](const QueueState& q) { return q.shape == handle; };
      auto found = std::find_if(out.begin(), out.end(), same);
      if (found != out.end()) ++found->tasks;
      else out.push_back({handle, {s.need[0], s.need[1], s.need[2]}, 1, resources::feasible(h_, s)});
      return false;
    });
  t.commit();
  return out;
}

// Until `look` says so, at each edge that waits, the oldest first, and the one before it in the ring.
template <typename Look>
inline void Client::each_waiting(u32 o, Look look) {
  u32 last = m().object(o).waiting, before = last;
  for (u32 n = 0; before && n < PEER_LOOK; ++n) {
    u32 e = m().edge(before).waiting_next;
    if (look(e, before) || e == last) return;
    before = e;
  }
}

// To the peer that has the value, the oldest first.
inline std::vector<SentTask> Client::send_followers(u32 peer, u32 o, u32 shape, u32 count) {
  must_be_open();
  std::vector<SentTask> out;
  while (out.size() < count) {
    Away sent;
    try {
      sent = send_follower(peer, o, shape);
      if (sent.index) out.push_back(describe(sent.index, peer));
    } catch (const TableFull&) {
      if (sent.index) come_back(sent, peer, false);
      if (out.empty()) throw;
      break;
    }
    if (!sent.index) break;
  }
  return out;
}

inline Away Client::send_follower(u32 peer, u32 o, u32 shape) {
  Away sent;
  u32 queue = resources::index_of(shape);
  Transaction t(m(), thread());
  must_be_peer(peer);
  bool goes = away::is_at(m(), o, peer) && resources::is_current(m(), shape);
  if (goes)
    each_waiting(o, [&](u32 e, u32 before) {
      u32 i = m().edge(e).task;
      if (m().task(i).shape != queue || !away::may_follow(m(), i)) return false;
      sent = {i, m().task(i).serial, {}, 0};
      away::stop_waiting(t, e, before);
      away::mark_sent(t, i, peer);
      lend_ids(t, i, peer, 0);
      away::forget_wanted(t, o);
      return true;
    });
  t.commit();
  return sent;
}

// The ids in a task, function first.  Lends those from the n-th on, as many as one transaction may.
inline size_t Client::lend_ids(Transaction& t, u32 i, u32 peer, size_t n) {
  const Task& task = m().task(i);
  size_t k = 0, done = 0;
  auto each = [&](u32 o) {
    if (k++ < n || done == AT_ONCE) return;
    if (owner_of(m().object(o)) != peer) loan::lend(t, o, peer);
    ++done;
  };
  if (sends_function(task)) each(task.function);
  if (u32 o = checkpoint_of(task)) each(o);
  for (u32 list : {task.deps, task.nested})
    for (u32 e = list; e && done < AT_ONCE; e = m().edge(e).next) each(m().edge(e).object);
  return n + done;
}

// What the peer is told.  The many ids of a task are lent here, piece by piece: if this process dies meanwhile, the
// peer has not heard of the task, and Sync takes all of it back.
inline SentTask Client::describe(u32 i, u32 peer) {
  const Task& task = m().task(i);
  SentTask sent{};
  memcpy(sent.id.data(), task.id, TASK_ID_BYTES);
  sent.job = task.flags & REPLAYED ? m().actor(task.actor).job : task.job;  // its own may have ended
  if (sends_function(task)) sent.function = ref_of(task.function);
  if (away::is_call(task)) sent.actor = served_as(m().actor(task.actor).object);
  if (away::is_call(task)) sent.around = task.returns && owner_of(m().object(task.returns)) == peer;
  if (task.flags & REPLAYED) sent.around = true;
  if (away::is_creation(task)) sent.interval = m().actor(task.actor).interval;
  if (u32 o = checkpoint_of(task)) sent.checkpoint = ref_of(o), sent.turn = m().actor(task.actor).covered;
  for (u32 e = task.deps; e; e = m().edge(e).next) sent.deps.push_back(ref_of(m().edge(e).object));
  for (u32 e = task.nested; e; e = m().edge(e).next) sent.nested.push_back(ref_of(m().edge(e).object));
  const u8* payload = task.block ? heap_of(task.block) : task.payload;
  sent.payload.assign(reinterpret_cast<const char*>(payload), task.payload_bytes);
  sent.num_returns = task.num_returns;
  for (u32 k = 0; k < RESOURCE_KINDS; ++k) sent.need[k] = m().shape(task.shape).need[k];
  sent.attempt = task.attempt;
  u32 used = task.attempt - task.flags / ONE_STOP;
  sent.retries_left = task.max_retries > used ? task.max_retries - used : 0;
  if (sent.actor) sent.retries_left = task.max_retries;  // its method
  size_t ids = sent.deps.size() + sent.nested.size() + (sent.function ? 1 : 0) + (sent.checkpoint ? 1 : 0);
  for (size_t n = AT_ONCE; n < ids;) {
    Transaction t(m(), thread());
    n = lend_ids(t, i, peer, n);
    t.commit();
  }
  return sent;
}

// Those that are at this peer, and have these ids if any are given; the youngest first, so that each goes back before
// those that came after it.
inline std::vector<Away> Client::tasks_away(u32 peer, const std::set<TaskIdBytes>* ids) {
  std::vector<Away> out;
  walk(h_.tasks, [&](Transaction&, u32 i) {
    const Task& task = m().task(i);
    if (task.state != TASK_AWAY || task.peer != peer) return 0u;
    TaskIdBytes id;
    memcpy(id.data(), task.id, TASK_ID_BYTES);
    if (!ids || ids->count(id)) out.push_back({i, task.serial, id, task.sequence});
    return 0u;
  });
  std::sort(out.begin(), out.end(), [](const Away& a, const Away& b) { return a.sequence > b.sequence; });
  return out;
}

inline bool Client::is_away(const Away& away, u32 peer) {
  const Task& task = m().task(away.index);
  return task.serial == away.serial && task.state == TASK_AWAY && task.peer == peer;
}

inline std::vector<TaskIdBytes> Client::away(u32 peer) {
  must_be_open();
  std::vector<TaskIdBytes> out;
  for (const Away& task : tasks_away(peer)) {
    settle(task, peer);
    Transaction t(m(), thread());
    // What is logged has been done and told of; the peer need not know it any more.
    const Task& record = m().task(task.index);
    if (is_away(task, peer) && (!(record.flags & LOGGED) || record.flags & REPLAYED || record.stored))
      out.push_back(task.id);
    t.commit();
  }
  return out;
}

// Also what a process that died had left.
inline void Client::settle(const Away& away, u32 peer) {
  for (bool more = true; more;) {
    Transaction t(m(), thread());
    more = is_away(away, peer) && away::settle(t, away.index);
    t.commit();
  }
  drain();
}

// And where an actor's creation is among them, all calls to it, which went after it.
inline std::vector<Away> Client::with_calls(u32 peer, const std::vector<Away>& tasks) {
  std::set<u32> actors;
  std::set<u64> chosen;
  for (const Away& away : tasks) {
    chosen.insert(away.sequence);
    const Task& task = m().task(away.index);
    if (away::is_creation(task)) actors.insert(task.actor);
  }
  if (actors.empty()) return tasks;
  std::vector<Away> all = tasks_away(peer);
  std::erase_if(all, [&](const Away& away) {
    const Task& task = m().task(away.index);
    bool follows = away::is_call(task) && (task.lane || task.flags & LOGGED) && actors.count(task.actor);
    return !follows && !chosen.count(away.sequence);
  });
  return all;
}

inline u32 Client::recall(u32 peer, const std::set<TaskIdBytes>& ids) {
  must_be_open();
  u32 count = 0;
  std::vector<Away> chosen = tasks_away(peer, &ids);
  std::erase_if(chosen, [&](const Away& away) {
    u32 flags = m().task(away.index).flags;
    return flags & LOGGED && !(flags & REPLAYED);
  });
  for (const Away& task : with_calls(peer, chosen)) {
    settle(task, peer);
    count += come_back(task, peer, false);
  }
  return count;
}

// False: it was not away any more.
inline bool Client::come_back(const Away& away, u32 peer, bool died) {
  u32 returns = std::max(1u, m().task(away.index).num_returns);
  bool unmade = false;
  for (u32 index = 0; index < returns;) {
    Transaction t(m(), thread());
    if (!is_away(away, peer)) {
      t.commit();
      return false;
    }
    for (u32 n = 0; n < PIECE && index < returns; ++n, ++index) unmade |= away::relist(t, away.index, index);
    t.commit();
  }
  for (bool more = m().task(away.index).flags & LOGGED; more;) {
    Transaction t(m(), thread());
    more = is_away(away, peer) && away::give_up_result(t, away.index);
    t.commit();
  }
  {
    Transaction t(m(), thread());
    if (is_away(away, peer)) away::come_back(t, away.index, unmade, died);
    t.commit();
  }
  drain();
  return true;
}

inline bool Client::finish_return(u32 peer, const ObjectIdBytes& id, const Value& v, bool here,
                                  std::span<const IdRef> nested, bool journal, u32 turn) {
  must_be_open();
  std::vector<u32> contained = take_in(nested, peer);
  ObjectIdBytes known_as;
  bool around = object::index_of(id.data()) >> 30 == AROUND_INDEX >> 30;
  task::return_id(known_as.data(), id.data(), around ? object::place_of(id.data()) : object::index_of(id.data()));
  u32 o = resolve(id.data(), 0);  // of a call that runs again there is one of that name
  if (!o && around) o = resolve(known_as.data(), 0);
  bool fresh = false;
  if (o) {
    if (here && contained.size() > AT_ONCE && !ready(o)) add_nested(o, contained);
    fresh = finish_return(peer, o, v, here, contained, journal, turn);
    drop_local(o);
  }
  for (u32 each : contained) drop_local(each);
  flush_drops();
  return fresh;
}

inline bool Client::finish_return(u32 peer, u32 o, const Value& v, bool here, std::span<const u32> contained,
                                  bool journal, u32 turn) {
  Away away{};
  bool fresh = false;
  {
    Transaction t(m(), thread());
    Object& object = m().object(o);
    u32 i = object.state == OBJECT_PENDING ? object.task : NIL;
    const Task& task = m().task(i);
    if (i) away = {i, task.serial, {}, 0};
    // Written, not set: until the call is done nobody reads it.
    if (i && turn && task.state == TASK_AWAY && task.peer == peer && away::is_call(task))
      t.write(m().task(i).turn, turn);
    if (i && task.flags & REPLAYED) {  // what it has returned the first time stays
      object::seal(t, o, Value{});
    } else if (here && object.state == OBJECT_PENDING) {
      if (contained.size() <= AT_ONCE)
        for (u32 each : contained) object::add_nested(t, o, each);
      u32 job = i ? task.job : 0;
      fresh = object::seal(t, o, v);
      if (journal) journal::append(t, {JournalKind::error, job, v.format, nullptr, 0, o});
    } else if (i && task.state == TASK_AWAY && task.peer == peer) {
      if (!(object.origin & LOCATED)) away::locate(t, o, v.size, v.format);
      fresh = true;
    }
    t.commit();
    if (fresh && here) v.taken();
  }
  if (away.index) settle(away, peer);
  return fresh;
}

inline std::optional<Location> Client::location(u32 o) {
  std::optional<Location> where;
  Transaction t(m(), thread());
  const Object& object = m().object(o);
  if (object.state == OBJECT_PENDING && object.origin & LOCATED)
    where = {m().task(object.task).peer, object.size_bytes, object.format};
  t.commit();
  return where;
}

}  // namespace ray
