// Tasks that other nodes have sent here.
#pragma once

#include "client.hpp"

namespace ray {

// One that is here already, or whose results are, is passed over; and a call to an actor that is not here any more,
// which its owner recalls.
inline void Client::receive_task(u32 peer, const SentTask& sent, const Value& payload) {
  std::vector<IdRef> refs;
  if (sent.function) refs.push_back(*sent.function);
  refs.insert(refs.end(), sent.deps.begin(), sent.deps.end());
  refs.insert(refs.end(), sent.nested.begin(), sent.nested.end());
  if (sent.checkpoint) refs.push_back(*sent.checkpoint);
  std::vector<u32> objects = take_in(refs, peer);
  u32 actor = NIL;
  bool is_late = sent.actor && !is_served_here(*sent.actor);
  if (sent.actor && !is_late)
    actor = take_in({&*sent.actor, 1})[0];  // the sender has it from this node, or knows that it is here
  auto drop = [&] {
    for (u32 o : objects) drop_local(o);
    if (actor) drop_local(actor);
    flush_drops();
  };
  if (is_late) return drop();
  try {
    after_ = sent.after;
    build_received(peer, sent, objects, actor, payload);
  } catch (...) {
    drop();
    throw;
  }
  drop();
}

// Behind the call before it, if that has not begun.  If it has, so have those before it: any lane will do.
inline u32 Client::lane_of_received(Transaction& t, u32 a) {
  for (u32 index : {AROUND_INDEX, 0u}) {
    if (!after_) break;
    u8 first[ID_BYTES];
    task::return_id(first, after_->data(), index);
    u32 o = object::find(m(), first);
    const Task& before = m().task(o ? m().object(o).task : NIL);
    bool in_lane = before.state == TASK_WAITING || before.state == TASK_AWAY;
    if (in_lane && away::is_call(before) && before.actor == a && before.lane) return before.lane;
  }
  return mailbox::open_lane(t, a, NIL);
}

// Of a call, that its actor is.
inline bool Client::is_served_here(const IdRef& actor) {
  if (object::index_of(actor.id.data()) != SERVED_INDEX) return true;
  Transaction t(m(), thread());
  u32 o = object::find(m(), actor.id.data());
  bool is = o && !mailbox::has_left(m().actor(m().object(o).actor));
  t.commit();
  return is;
}

// A call may have come around: from here to its actor's owner, and from there to here, where the actor is.  So its
// task is here already, and its results are; those of what runs are known by other names, to the owner alone.
inline void Client::build_received(u32 peer, const SentTask& sent, std::span<const u32> objects, u32 actor_object,
                                   const Value& payload) {
  u32 th = thread(), i;
  u32 function = sent.function ? objects[0] : NIL;
  std::span<const u32> arguments = objects.subspan(sent.function ? 1 : 0);
  std::span<const u32> deps = arguments.first(sent.deps.size()), nested = arguments.subspan(sent.deps.size());
  u32 results = std::max(1u, sent.num_returns), first_index = sent.around ? AROUND_INDEX : 0;
  bool at_once = results + objects.size() <= AT_ONCE;
  for (;;) {
    u32 handle = actor_object ? NIL : shape({sent.need[0], sent.need[1], sent.need[2]});
    u32 index = resources::index_of(handle);
    Transaction t(m(), th);
    must_be_peer(peer);
    if (!resources::is_current(m(), handle)) {  // since
      t.commit();
      continue;
    }
    u8 first[ID_BYTES];
    task::return_id(first, sent.id.data(), first_index);
    u32 known = object::find(m(), first);
    if (known && loan::times_lent(m(), known, peer) && owner_of(m().object(known)) == peer) return t.commit();
    if (known && !owner_of(m().object(known))) return t.commit();  // a task of this node's own
    if (actor_object) {
      must_be_actor(actor_object);
      u32 a = m().object(actor_object).actor;
      const Actor& actor = m().actor(a);
      index = actor.shape;
      i = task::create(t, {TaskKind::actor_call, actor.cls, sent.num_returns, index, sent.retries_left, sent.job, a,
                           sent.id.data(), payload.bytes, payload.size, payload.block});
      m().task(i).flags = RECEIVED | STAYS | COUNTS_ACTOR;
      object::reference(t, actor_object);
    } else if (sent.interval) {
      u32 a = mailbox::serve(t, sent.id.data(), function, index, *sent.interval, sent.job, peer);
      i = task::create(t, {TaskKind::actor_create, function, sent.num_returns, index, 0, sent.job, a, sent.id.data(),
                           payload.bytes, payload.size, payload.block});
      m().task(i).flags = RECEIVED | STAYS | COUNTS_ACTOR;
      object::reference(t, m().actor(a).object);
      t.write(m().actor(a).creation, i);
      if (sent.checkpoint) begin_at(t, a, objects.back(), sent.turn);
    } else {
      u32 attempts = sent.attempt + sent.retries_left;
      i = task::create(t, {TaskKind::task, function, sent.num_returns, index, attempts, sent.job, NIL, sent.id.data(),
                           payload.bytes, payload.size, payload.block});
      m().task(i).flags = RECEIVED | STAYS;
    }
    m().task(i).attempt = sent.attempt;
    if (at_once) {
      for (u32 r = results; r > 0; --r) away::add_result(t, i, first_index + r - 1, peer);
      for (u32 o : deps) task::add_dependency(t, i, o);
      for (u32 o : nested) task::add_nested(t, i, o);
      if (sent.checkpoint) task::wait_with(t, i, m().task(i).nested);  // the last of them
      if (!actor_object) task::await_function(t, i);
      launch(t, th, i);
    } else {
      t.set(m().thread(th).building, i);
    }
    t.write(m().shape(index).last_used, m().task(i).sequence);
    t.commit();
    break;
  }
  payload.taken();
  if (!at_once)
    build_rest_of_received(peer, i, first_index + results, results, deps, nested, sent.checkpoint.has_value());
  drain();
}

// It has been elsewhere, and goes on from its last checkpoint.
inline void Client::begin_at(Transaction& t, u32 a, u32 checkpoint, u32 turn) {
  Actor& actor = m().actor(a);
  actor.checkpoint = checkpoint;
  actor.turns = actor.reached = actor.covered = turn;
  object::reference(t, checkpoint);
}

inline void Client::build_rest_of_received(u32 peer, u32 i, u32 end, u32 results, std::span<const u32> deps,
                                           std::span<const u32> nested, bool awaits_last) {
  u32 th = thread();
  try {
    in_pieces(th, results, [&](Transaction& t, size_t k) { away::add_result(t, i, end - 1 - u32(k), peer); });
    in_pieces(th, deps.size(), [&](Transaction& t, size_t k) { task::add_dependency(t, i, deps[k]); });
    in_pieces(th, nested.size(), [&](Transaction& t, size_t k) { task::add_nested(t, i, nested[k]); });
    Transaction t(m(), th);
    if (awaits_last) task::wait_with(t, i, m().task(i).nested);
    if (!away::is_call(m().task(i))) task::await_function(t, i);
    t.set(m().thread(th).building, NIL);
    launch(t, th, i);
    t.commit();
  } catch (...) {
    Transaction t(m(), th);
    process::abandon_build(t, m().thread(th), 0, pid_);
    t.commit();
    drain();
    throw;
  }
}

// Tasks of that peer that are not done, or whose results it has not returned yet: each has results lent to it.
inline std::vector<TaskIdBytes> Client::received(u32 peer) {
  must_be_open();
  drain();  // those that were taken back by a process that died
  std::set<TaskIdBytes> ids;
  walk(h_.loans, [&](Transaction&, u32 l) {
    const Loan& loan = m().loan(l);
    if (loan.peer != peer || !loan.lent || owner_of(m().object(loan.object)) != peer) return 0u;
    TaskIdBytes id;
    memcpy(id.data(), m().object(loan.object).id, TASK_ID_BYTES);
    ids.insert(id);
    return 0u;
  });
  return {ids.begin(), ids.end()};
}

inline std::vector<TaskIdBytes> Client::drop_received(u32 peer, std::span<const TaskIdBytes> ids) {
  must_be_open();
  std::vector<TaskIdBytes> dropped;
  for (const TaskIdBytes& id : ids) {
    u8 first[ID_BYTES];
    task::return_id(first, id.data(), 0);
    Transaction t(m(), thread());
    u32 o = object::find(m(), first);
    u32 i = o && owner_of(m().object(o)) == peer ? m().object(o).task : NIL;
    if (i && away::may_be_taken_back(m().task(i))) {
      away::take_back(t, i);
      dropped.push_back(id);
    }
    t.commit();
  }
  drain();
  return dropped;
}

}  // namespace ray
