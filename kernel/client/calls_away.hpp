// Calls to actors that other nodes serve, and their ends.
#pragma once

#include "sending.hpp"

namespace ray {

// One goes in each transaction, the callers by turns.
inline std::vector<SentTask> Client::send_calls(u32 peer, u32 actor_object, u32 count) {
  must_be_open();
  must_be_actor(actor_object);
  std::vector<SentTask> out;
  while (out.size() < count) {
    Away sent;
    std::optional<TaskIdBytes> after;
    try {
      sent = send_call(peer, actor_object, after);
      if (!sent.index) return out;
      out.push_back(describe(sent.index, peer));
      out.back().after = after;
    } catch (const TableFull&) {
      if (sent.index) come_back(sent, peer, false);
      if (out.empty()) throw;
      break;
    }
  }
  Transaction t(m(), thread());
  u32 a = m().object(actor_object).actor;
  if (m().actor(a).state == ACTOR_AWAY) mailbox::activate(t, a);  // there may be more
  t.commit();
  return out;
}

inline Away Client::send_call(u32 peer, u32 actor_object, std::optional<TaskIdBytes>& after) {
  Away sent;
  Transaction t(m(), thread());
  must_be_peer(peer);
  u32 i = away::send_call(t, m().object(actor_object).actor, peer);
  if (i) {
    const Task& task = m().task(i);
    sent = Away{i, task.serial, {}, task.sequence};
    bool follows = task.lane ? m().lane(task.lane).head != i : task.previous != NIL;
    if (follows) {
      after.emplace();
      memcpy(after->data(), m().task(task.previous).id, TASK_ID_BYTES);
    }
    lend_ids(t, i, peer, 0);
  }
  t.commit();
  return sent;
}

inline bool Client::take_checkpoint(u32 peer, u32 actor_object, u32 turn, u32 o) {
  must_be_open();
  must_be_actor(actor_object);
  u32 a = m().object(actor_object).actor;
  bool taken;
  {
    Transaction t(m(), thread());
    Actor& actor = m().actor(a);
    bool served_there = actor.state == ACTOR_AWAY && actor.peer == peer && actor.interval;
    bool has_value = m().object(o).state == OBJECT_SEALED && m().object(o).format < FORMAT_ERROR;
    bool is_newer = mailbox::is_before(actor.covered, turn) || (actor.covered == turn && !actor.checkpoint);
    taken = served_there && has_value && is_newer;
    if (taken) {
      object::reference(t, o);
      u32 old = actor.checkpoint;
      t.set(actor.checkpoint, o);
      t.set(actor.covered, turn);
      u32& origin = m().object(o).origin;
      if (owner_of(m().object(o)) == peer) t.write(origin, origin & ~OWNER);  // a copy is as good as the peer's
      if (old) object::unreference(t, old);
    }
    t.commit();
  }
  if (taken) forget_covered(a);
  return taken;
}

inline bool Client::reclaim_actor(u32 peer, u32 actor_object) {
  must_be_open();
  must_be_actor(actor_object);
  u32 a = m().object(actor_object).actor;
  std::vector<Away> all = tasks_away(peer);
  std::erase_if(all, [&](const Away& away) {
    const Task& task = m().task(away.index);
    return task.actor != a || !(away::is_creation(task) || (away::is_call(task) && (task.lane || task.flags & LOGGED)));
  });
  for (const Away& task : all) {
    settle(task, peer);
    come_back(task, peer, true);
  }
  return !all.empty();
}

inline std::vector<u32> Client::served_actors() {
  std::vector<u32> out;
  for (u32 a = 1; a <= peek(h_.actors.high_water); ++a) {
    Fresh fresh;
    Transaction t(m(), thread());
    const Actor& actor = m().actor(a);
    bool lives = actor.state == ACTOR_CREATING || actor.state == ACTOR_ALIVE;
    u32 o = lives && actor.interval && owner_of(m().object(actor.object)) ? actor.object : NIL;
    if (o) hold_all({&o, 1}, t, fresh);
    t.commit();
    if (o) adopt_all({&o, 1}, fresh), out.push_back(o);
  }
  return out;
}

// Also what a process that died had left of it.
inline void Client::forget_covered(u32 a) {
  for (bool more = true; more;) {
    Transaction t(m(), thread());
    more = m().actor(a).state == ACTOR_AWAY && away::forget_covered(t, m().actor(a));
    t.commit();
  }
  drain();
}

inline void Client::heard_of_end(u32 peer, const ObjectIdBytes& actor_id) {
  must_be_open();
  {
    Transaction t(m(), thread());
    u8 own[ID_BYTES];
    task::return_id(own, actor_id.data(), ACTOR_INDEX);
    u32 o = object::find(m(), own);
    u32 a = o && m().object(o).state == OBJECT_ACTOR ? m().object(o).actor : NIL;
    Actor& actor = m().actor(a);
    if (a && actor.state == ACTOR_AWAY && actor.peer == peer) mailbox::stop_ending(t, a);
    t.commit();
  }
  drain();
}

}  // namespace ray
