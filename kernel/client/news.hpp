// What the node manager is told: results for other nodes, values that are wanted from there, ids that are to be
// returned.
#pragma once

#include "client.hpp"

namespace ray {

// Waits until there is any, the time is over, or somebody nudges.
inline std::vector<News> Client::news(u32 most, i64 timeout_ms) {
  must_be_open();
  flush_drops();
  u32 seen = h_.news_word.load();
  auto any = [&] { return peek(h_.news_head) || peek(h_.queued) || h_.news_word.load() != seen; };
  if (!peek(h_.news_head) && !peek(h_.queued))
    sleep_on(h_.news_word, h_.news_sleepers, wait::Deadline(timeout_ms), any, IDLE_SLICE_NS);
  std::vector<News> out;
  if (peek(h_.queued)) {
    Transaction t(m(), thread());
    t.write(h_.queued, 0u);  // a new node manager looks first
    t.commit();
    out.emplace_back().kind = NewsKind::queued;
  }
  try {
    while (out.size() < most && peek(h_.news_head)) take_news(out);
  } catch (const TableFull&) {
    if (out.empty()) throw;  // the rest stays where it is
  }
  drain();
  return out;
}

// From now on that eventfd is rung; none: no more.
inline void Client::listen(std::optional<int> fd) {
  bell_.reset();
  if (fd) bell_ = std::make_unique<Bell>(m(), *fd);
}

// Once, as soon as there is news; that tasks wait in the queue counts if it is to be heard.
inline void Client::arm(bool hears_queue) {
  if (bell_) bell_->arm(hears_queue);
}

// Whether a look at it is worth it; that tasks wait in the queue counts if it is to be heard.
inline bool Client::has_news(bool hears_queue) const { return peek(h_.news_head) || (hears_queue && peek(h_.queued)); }

// From now on this thread can `sleep` for that descriptor and for news at once; none: no more.
inline void Client::hear(std::optional<int> fd) { ears_ = fd ? std::make_unique<Ears>(m(), *fd) : nullptr; }

inline Ears::Heard Client::sleep(i64 timeout_ms, bool hears_queue) {
  if (!ears_) throw std::logic_error("this process has not said what it hears");
  return ears_->sleep(wait::Deadline(timeout_ms), hears_queue);
}

// False: it has a value, or is known to be elsewhere.
inline bool Client::subscribe(u32 i) {
  must_be_open();
  Transaction t(m(), thread());
  Object& o = m().object(i);
  bool pending = !away::is_known(o);
  if (pending) t.write(o.origin, o.origin | u32(ASKED));
  t.commit();
  return pending;
}

// Whether a thread waits for its value, and not tasks alone.
inline bool Client::is_watched(u32 i) {
  must_be_open();
  Transaction t(m(), thread());
  bool watched = news::is_watched(m(), i);
  t.commit();
  return watched;
}

// It was told of as wanted, and has not come.
inline bool Client::is_wanted(u32 i) {
  must_be_open();
  Transaction t(m(), thread());
  bool wanted = m().object(i).origin & WANTED;
  t.commit();
  return wanted;
}

inline void Client::take_news(std::vector<News>& out) {
  News item{};
  Fresh fresh;
  {
    Transaction t(m(), thread());
    u32 i = news::pop(t);
    if (!i) return t.commit();
    Object& o = m().object(i);
    item.id = ref_of(i);
    if (!o.references) {
      take_last_news(t, i, item);
    } else if (o.origin & AGAIN) {
      t.write(o.origin, o.origin & ~u32(AGAIN));  // it is in the log since it was taken from the list
      news::add(t, i);
    } else if (o.state == OBJECT_ACTOR && o.origin & DONE) {
      take_checkpoint_news(t, i, item);
    } else if (o.state == OBJECT_ACTOR) {
      const Actor& actor = m().actor(o.actor);
      if (actor.state == ACTOR_AWAY && (mailbox::may_send(actor) || actor.failure_code)) item.kind = NewsKind::calls;
      item.peer = actor.peer;
      item.ends = actor.failure_code;
      item.id = served_as(i);
    } else if (o.origin & DONE) {
      item.failed = o.origin & FAILED && o.format >= FORMAT_ERROR;
      t.write(o.origin, o.origin & ~u32(DONE | FAILED));  // it is in the log since it was taken from the list
      bool alive = m().process(item.id.owner).state == PROCESS_ALIVE;
      if (alive && loan::is_result(m(), i)) item.kind = NewsKind::done;
      item.turn = o.turn;
      add_what_is_left(t, i);
    } else if (o.origin & ASKED && away::is_known(o)) {
      t.write(o.origin, o.origin & ~u32(ASKED));  // a new node manager is asked anew
      item.kind = NewsKind::sealed;
      add_what_is_left(t, i);
    } else if (o.origin & WANTED && news::must_be_fetched(o)) {
      item.kind = NewsKind::wanted;
    } else if (loan::is_kept_for_its_owner(m(), i)) {
      take_notes(t, i, item);
    }
    if (item.kind != NewsKind{} && item.kind != NewsKind::gone) {
      if (!item.object) item.object = i;
      hold_all({&item.object, 1}, t, fresh);
    }
    t.commit();
  }
  if (item.object) adopt_all({&item.object, 1}, fresh);
  if (item.kind == NewsKind::done) try {
      item.nested = lend_nested(item.id.owner, item.object);
    } catch (const TableFull&) {
      Transaction t(m(), thread());
      u32& origin = m().object(item.object).origin;
      t.set(origin, origin | DONE | (item.failed ? u32(FAILED) : 0));
      news::add(t, item.object);
      t.commit();
      drop_local(item.object);
      throw;
    }
  if (item.kind != NewsKind{}) out.push_back(std::move(item));
}

// Its owner knows the actor by the id of its handles.
inline void Client::take_checkpoint_news(Transaction& t, u32 i, News& item) {
  Object& o = m().object(i);
  const Actor& actor = m().actor(o.actor);
  t.write(o.origin, o.origin & ~u32(DONE));  // it is in the log since it was taken from the list
  if (!actor.checkpoint || m().process(item.id.owner).state != PROCESS_ALIVE) return;
  item.kind = NewsKind::checkpoint;
  item.object = actor.checkpoint;
  item.turn = actor.covered;
  item.ends = mailbox::has_left(actor);
  item.peer = item.id.owner;
  task::return_id(item.id.id.data(), item.id.id.data(), ACTOR_INDEX);
}

// An object is in the list once, and may be there for more than one reason.
inline void Client::add_what_is_left(Transaction& t, u32 i) {
  Object& o = m().object(i);
  bool asked = o.origin & ASKED && away::is_known(o), wanted = o.origin & WANTED && news::must_be_fetched(o);
  if (asked || wanted || loan::is_kept_for_its_owner(m(), i)) news::add(t, i);
}

// Nothing here refers to it: what was noted of it, and where it is, is said and forgotten, and it is freed.
inline void Client::take_last_news(Transaction& t, u32 i, News& item) {
  Object& o = m().object(i);
  take_notes(t, i, item);
  if (o.origin & LOCATED) {
    item.located = m().task(o.task).peer;
    if (o.state == OBJECT_ACTOR) item.id = served_as(i);
    away::forget_location(t, i);
  }
  if (item.located) item.kind = NewsKind::gone;
  object::retire(t, i);
}

// They are said and forgotten; a few at a time.
inline void Client::take_notes(Transaction& t, u32 i, News& item) {
  u32 next = NIL;
  for (u32 l = m().object(i).loans; l && item.notes.size() < AT_ONCE; l = next) {
    next = m().loan(l).next;
    u32 peer = m().loan(l).peer;
    if (u32 times = loan::forget(t, l)) item.notes.emplace_back(peer, times);
  }
  if (!item.notes.empty()) item.kind = NewsKind::gone;
  if (loan::is_kept_for_its_owner(m(), i)) news::add(t, i);
}

inline u32 Client::renew_calls(Transaction& t, u32 i, u32 peer) {
  const Actor& actor = m().actor(m().object(i).actor);
  bool any = mailbox::may_send(actor) || actor.failure_code;
  if (!object::is_in_use(m(), i) || actor.state != ACTOR_AWAY || actor.peer != peer || !any) return 0;
  news::add(t, i);
  return 1;
}

// Results of calls to actors with checkpoints, in the order of their turns: one that the owner knows is behind all that
// have to run again before it.
inline void Client::renew_turns(std::vector<std::pair<u32, u64>>& turns, u32 peer) {
  std::sort(turns.begin(), turns.end());
  for (size_t k = 0; k < turns.size(); k += PIECE) {
    Transaction t(m(), thread());
    for (size_t n = k; n < std::min(turns.size(), k + PIECE); ++n) {
      u32 i = u32(turns[n].second & (OBJECTS_MAX - 1));
      bool same = object::key(m(), i) == turns[n].second && m().object(i).state == OBJECT_SEALED;
      if (same && owner_of(m().object(i)) == peer && loan::is_result(m(), i)) news::tell_behind(t, i);
    }
    t.commit();
  }
}

// After its calls' results, as before.
inline u32 Client::renew_checkpoint(Transaction& t, u32 a, u32 peer) {
  const Actor& actor = m().actor(a);
  bool served = actor.state == ACTOR_ALIVE || actor.state == ACTOR_CREATING || mailbox::has_left(actor);
  if (!served || owner_of(m().object(actor.object)) != peer) return 0;
  if (!actor.checkpoint || (owner_of(m().object(actor.checkpoint)) && !mailbox::has_left(actor))) return 0;
  news::tell_behind(t, actor.object);
  return 1;
}

// After a new connection to that peer: results that it has not returned, what is awaited of it, and calls
// to its actors are news again; then checkpoints of its actors here.
inline void Client::renew_news(u32 peer) {
  must_be_open();
  std::vector<std::pair<u32, u64>> turns;
  walk(h_.objects, [&](Transaction& t, u32 i) {
    Object& o = m().object(i);
    if (o.state == OBJECT_ACTOR) return renew_calls(t, i, peer);
    u32 from = o.origin & LOCATED ? m().task(o.task).peer : owner_of(o);
    if (from != peer || !object::is_in_use(m(), i) || !o.references) return 0u;
    if (o.state == OBJECT_SEALED && loan::is_result(m(), i)) {
      if (o.turn) return turns.emplace_back(o.turn, object::key(m(), i)), 0u;
      t.set(o.origin, o.origin | u32(DONE));
      news::add(t, i);
      return 1u;
    }
    if (!news::must_be_fetched(o) || !(o.origin & WANTED || news::is_awaited(m(), i))) return 0u;
    news::want(t, i);
    news::add(t, i);
    return 1u;
  });
  renew_turns(turns, peer);
  walk(h_.actors, [&](Transaction& t, u32 a) { return renew_checkpoint(t, a, peer); });
}

// What is awaited and must come from another node is told to the node manager.
inline void Client::want(std::span<const u32> list) {
  if (!peek(h_.peers)) return;
  // SYNC POINT want: `awaiting` was written before `origin` is read here; who says that an object is at a peer
  // writes `origin` before it reads `awaiting` (away.hpp).
  std::atomic_thread_fence(std::memory_order_seq_cst);
  for (u32 o : list) {
    u32 origin = peek(m().object(o).origin);
    if (!origin || origin & WANTED || ready(o)) continue;
    Transaction t(m(), thread());
    news::want(t, o);
    t.commit();
  }
}

}  // namespace ray
