// What the node manager is to be told of objects that are not this node's alone: a list, taken from the front.
//
// Why an object is in the list stands in its flags, and what is said of it is decided when it is taken: it may have
// changed meanwhile, and then nothing is said.
//
// Invariants: LISTED is set, and `news` the link, exactly while an object is in the list; an object without references
// whose end is news is in the list.
#pragma once

#include "heap.hpp"

namespace ray {

inline constexpr u32 WORK_END = ~0u;  // ends the lists of objects; 0 in a link means "not in the list"

inline u32 owner_of(const Object& o) { return o.origin & OWNER; }

namespace news {

// Somebody else has to hear that nothing here refers to it any more; or it is in the list, and freed from there.
inline bool its_end_is(const Object& o) { return o.origin & (NOTED | LOCATED | LISTED); }

inline void add(Transaction& t, u32 i) {
  Object& o = t.m.object(i);
  if (o.origin & LISTED) return;
  t.set(o.origin, o.origin | u32(LISTED));
  t.set(o.news, WORK_END);
  if (t.h.news_tail) t.set(t.m.object(t.h.news_tail).news, i);
  else t.set(t.h.news_head, i);
  t.set(t.h.news_tail, i);
  t.tell_news();
}

// The owner is to have this result, or this actor's newest checkpoint, after all that is in the list by now: where it
// stands in that already, it goes to the end once more.
inline void tell_behind(Transaction& t, u32 i) {
  Object& o = t.m.object(i);
  t.set(o.origin, o.origin | u32(DONE) | (o.origin & LISTED ? u32(AGAIN) : 0));
  add(t, i);
}

inline u32 pop(Transaction& t) {
  u32 i = t.h.news_head;
  if (!i) return NIL;
  Object& o = t.m.object(i);
  if (i == t.h.news_tail) t.set(t.h.news_tail, NIL);
  t.set(t.h.news_head, o.news == WORK_END ? NIL : o.news);
  t.set(o.news, NIL);
  t.set(o.origin, o.origin & ~u32(LISTED));
  return i;
}

// Nothing of this node will give it its value.
inline bool must_be_fetched(const Object& o) {
  return o.state == OBJECT_PENDING && (o.origin & LOCATED || (owner_of(o) && !o.task));
}

// Somebody waits for it.  Said once.
inline void want(Transaction& t, u32 i) {
  Object& o = t.m.object(i);
  if (!must_be_fetched(o) || o.origin & WANTED) return;
  t.set(o.origin, o.origin | u32(WANTED));
  add(t, i);
}

// By a thread.  The watcher may be whoever submitted its task, and wait for something else, or nothing.
inline bool is_watched(Mapping& m, u32 i) {
  const Object& o = m.object(i);
  return o.watches || (o.watcher && m.thread(o.watcher).awaiting.load(std::memory_order_relaxed));
}

// By a thread that waits for this very one, or for any of several.
inline bool is_blocked_on(Mapping& m, u32 i) {
  const Object& o = m.object(i);
  u32 awaited = o.watcher ? m.thread(o.watcher).awaiting.load(std::memory_order_relaxed) : NIL;
  return o.watches || awaited == i || awaited == AWAITS_ANY;
}

inline bool is_awaited(Mapping& m, u32 i) { return m.object(i).waiting || is_watched(m, i); }

// A failure of another node's task belongs into the journal there.  Says nothing of an object that has a value after
// all.
inline void mark_failure(Transaction& t, u32 i) {
  Object& o = t.m.object(i);
  if (owner_of(o)) t.write(o.origin, o.origin | u32(FAILED));
}

}  // namespace news
}  // namespace ray
