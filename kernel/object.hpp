// Objects: named values, counted references to them, and what follows when one gets its value or loses
// its last reference.
//
// Invariants
//   1. references = holds of processes + edges (of tasks, of containing values) + one while the task that
//      makes it is unfinished + one for each journal entry and actor that names it, and each peer it is lent to.
//   2. An object with references is found under its id; one without is free, or on the work list, or news.
//   3. SEALED is final: format, size, data and contained ids never change after it.
#pragma once

#include "news.hpp"

namespace ray {

struct Value {
  const u8* bytes = nullptr;  // copied, unless there is a block
  u64 size = 0;
  u32 block = NIL;  // held by the calling process; moves into the object
  u32 format = 0;
  u32* kept_at = nullptr;  // where the caller keeps the block's number: 0 once the block is another's
  void taken() const {
    if (kept_at) *kept_at = NIL;
  }
};

// Elsewhere: what objects lead to.
void task_may_run(Transaction& t, u32 task);                      // queue.hpp
void actor_lost_last_reference(Transaction& t, u32 actor);        // mailbox.hpp
void remote_object_sealed(Transaction& t, u32 object, u32 task);  // away.hpp
void remote_object_rests(Transaction& t, u32 object);             // loan.hpp

namespace object {

// Ids made one after the other lie in one cache line of the table: their second words count
// (task::derive_id), and both words are mixed already.
inline u32 bucket_of(const u8* id) {
  u64 family, place;
  u32 index;
  memcpy(&family, id, 8);
  memcpy(&place, id + 8, 8);
  memcpy(&index, id + TASK_ID_BYTES, 4);
  return u32(family + place + u64(index) * 0x9E3779B97F4A7C15ull) & (BUCKETS - 1);
}

inline u32 index_of(const u8* id) {
  u32 index;
  memcpy(&index, id + TASK_ID_BYTES, 4);
  return index;
}

// Among its task's results; also of one that has come around, and of a spare one.
inline u32 place_of(const u8* id) { return index_of(id) & ~(AROUND_INDEX | SPARE_INDEX); }

// Needs the mutex.
inline u32 find(Mapping& m, const u8* id) {
  for (u32 o = m.bucket(bucket_of(id)); o; o = m.object(o).bucket_next)
    if (memcmp(m.object(o).id, id, ID_BYTES) == 0) return o;
  return NIL;
}

// Of a transaction that was undone a free record may say what it likes.  Needs the mutex.
inline bool is_in_use(Mapping& m, u32 i) {
  u32 o = m.bucket(bucket_of(m.object(i).id));
  while (o && o != i) o = m.object(o).bucket_next;
  return o;
}

inline u64 key(Mapping& m, u32 o) { return m.object(o).serial << 22 | o; }
static_assert(OBJECTS_MAX == 1u << 22, "keys keep 22 bits for the index");

// A new object with no references; the caller adds them before it commits.
inline u32 create(Transaction& t, const u8* id, u32 task, u32 watcher, u32 state = OBJECT_PENDING) {
  u32 i = objects(t.m).take(t);
  Object& o = t.m.object(i);
  o.serial += 1;
  o.state = o.published = state;
  o.format = o.references = 0;
  o.task = task;
  o.waiting = o.watches = o.nested = o.next_return = o.work_next = o.block = o.spilled = o.pins = o.actor = NIL;
  o.watcher = watcher;
  o.origin = 0;
  o.size_bytes = 0;
  o.hold = Hold{};
  memcpy(o.id, id, ID_BYTES);
  u32& bucket = t.m.bucket(bucket_of(id));
  o.bucket_next = bucket;
  t.set(bucket, i);
  return i;
}

inline void add_work(Transaction& t, u32 i) {
  Object& o = t.m.object(i);
  if (o.work_next) return;
  t.set(o.work_next, t.h.object_work ? t.h.object_work : WORK_END);
  t.set(t.h.object_work, i);
}

inline void free_record(Transaction& t, u32 i) {
  Object& o = t.m.object(i);
  u32* link = &t.m.bucket(bucket_of(o.id));
  while (*link && *link != i) link = &t.m.object(*link).bucket_next;
  if (*link == i) t.set(*link, o.bucket_next);
  if (o.block) heap::release(t, o.block);
  if (o.spilled) heap::release(t, o.spilled);
  t.set(o.block, NIL);
  t.set(o.spilled, NIL);
  t.set(o.state, OBJECT_FREE);
  objects(t.m).give(t, i);
}

inline void retire(Transaction& t, u32 i) {
  Object& o = t.m.object(i);
  if (o.origin && news::its_end_is(o)) news::add(t, i);
  else if (o.state == OBJECT_ACTOR) actor_lost_last_reference(t, o.actor);
  else if (o.nested || o.waiting || o.watches || o.work_next) add_work(t, i);
  else free_record(t, i);
}

inline void reference(Transaction& t, u32 i) { t.set(t.m.object(i).references, t.m.object(i).references + 1); }

inline void unreference(Transaction& t, u32 i) {
  Object& o = t.m.object(i);
  t.set(o.references, o.references - 1);
  if (o.references == 0) retire(t, i);
  else if (o.references == 1 && o.origin & NOTED) remote_object_rests(t, i);
}

// --- holds: the references of processes -------------------------------------------------------------

inline Hold& hold_at(Mapping& m, u32 ref) {
  return ref & HOLD_IN_OBJECT ? m.object(ref & ~HOLD_IN_OBJECT).hold : m.pooled_hold(ref).hold;
}
inline u32 held_object(Mapping& m, u32 ref) {
  return ref & HOLD_IN_OBJECT ? ref & ~HOLD_IN_OBJECT : m.pooled_hold(ref).object;
}

inline u32 hold(Transaction& t, u32 i, u32 process) {
  Object& o = t.m.object(i);
  Process& p = t.m.process(process);
  u32 ref;
  if (o.hold.process == NIL) {
    ref = HOLD_IN_OBJECT | i;
    t.set(o.hold.process, process);
    t.write(o.hold.next, p.holds);
    t.write(o.hold.previous, NIL);
    t.write(o.hold.pins, 0u);
  } else {
    ref = holds(t.m).take(t);
    PooledHold& pooled = t.m.pooled_hold(ref);
    pooled.object = i;
    pooled.hold = Hold{process, NIL, p.holds, 0};
  }
  if (p.holds) t.set(hold_at(t.m, p.holds).previous, ref);
  t.set(p.holds, ref);
  reference(t, i);
  return ref;
}

inline void pin(Transaction& t, u32 ref) {
  Hold& hold = hold_at(t.m, ref);
  Object& o = t.m.object(held_object(t.m, ref));
  if (hold.pins) return;
  t.set(hold.pins, 1u);
  t.set(o.pins, o.pins + 1);
  if (!(o.uses & 1)) t.write(o.uses, o.uses | 1);
}

inline void unpin(Transaction& t, u32 ref) {
  Hold& hold = hold_at(t.m, ref);
  Object& o = t.m.object(held_object(t.m, ref));
  if (!hold.pins) return;
  t.set(hold.pins, 0u);
  t.set(o.pins, o.pins - 1);
}

inline void drop_hold(Transaction& t, u32 ref) {
  unpin(t, ref);
  Hold& hold = hold_at(t.m, ref);
  u32 i = held_object(t.m, ref);
  if (hold.next) t.set(hold_at(t.m, hold.next).previous, hold.previous);
  if (hold.previous) t.set(hold_at(t.m, hold.previous).next, hold.next);
  else t.set(t.m.process(hold.process).holds, hold.next);
  t.set(hold.process, NIL);
  if (!(ref & HOLD_IN_OBJECT)) holds(t.m).give(t, ref);
  unreference(t, i);
}

// --- values -----------------------------------------------------------------------------------------

inline u32 new_edge(Transaction& t, u32 object, u32 task, u32 next) {
  u32 e = edges(t.m).take(t);
  Edge& edge = t.m.edge(e);
  edge.object = object;
  edge.task = task;
  edge.next = next;
  edge.waiting_next = NIL;
  reference(t, object);
  return e;
}

inline void add_nested(Transaction& t, u32 i, u32 contained) {
  Object& o = t.m.object(i);
  t.set(o.nested, new_edge(t, contained, NIL, o.nested));
}

// A bounded part of what follows a seal; the rest goes on the work list.
inline void tell_those_who_wait(Transaction& t, u32 i) {
  Object& o = t.m.object(i);
  if (o.watcher) {
    t.wake(o.watcher, i);
    t.set(o.watcher, NIL);
  }
  for (u32 n = 0; o.watches && n < PIECE; ++n) {
    u32 w = o.watches;
    t.wake(t.m.watch(w).thread, i);
    t.set(o.watches, t.m.watch(w).next);
    watches(t.m).give(t, w);
  }
  for (u32 n = 0; o.waiting && n < PIECE; ++n) {
    Edge& last = t.m.edge(o.waiting);
    Edge& edge = t.m.edge(last.waiting_next);
    if (&edge == &last) t.set(o.waiting, NIL);
    else t.set(last.waiting_next, edge.waiting_next);
    Task& task = t.m.task(edge.task);
    t.set(task.pending, task.pending - 1);
    if (task.pending == 0) task_may_run(t, edge.task);
  }
  if (o.waiting || o.watches) add_work(t, i);
}

// Gives a pending object its value.  Small data is copied here, so nothing that could be taken from a
// pool after a give may precede it in the transaction.
inline bool seal(Transaction& t, u32 i, const Value& v) {
  Object& o = t.m.object(i);
  if (o.state != OBJECT_PENDING) return false;
  u32 b = v.block;
  if (b) {
    heap::let_go(t, b);
  } else if (v.size > INLINE_BYTES) {
    b = heap::allocate(t, v.size);
    memcpy(t.m.heap(u64(t.m.block(b).offset) * GRANULE_BYTES), v.bytes, v.size);
  } else if (v.size) {
    memcpy(o.data, v.bytes, v.size);
  }
  if (o.origin & LOCATED) {  // these say something already
    t.set(o.size_bytes, v.size);
    t.set(o.format, v.format);
  }
  u32 task = o.task;
  t.set(o.block, b);
  t.write(o.size_bytes, v.size);
  t.write(o.format, v.format);
  t.set(o.task, NIL);
  t.set(o.state, OBJECT_SEALED);
  t.publish(i);
  tell_those_who_wait(t, i);
  if (o.origin) remote_object_sealed(t, i, task);
  return true;
}

// One bounded piece of the work list.
inline void work(Transaction& t) {
  u32 i = t.h.object_work;
  if (!i) return;
  Object& o = t.m.object(i);
  t.set(t.h.object_work, o.work_next == WORK_END ? NIL : o.work_next);
  t.set(o.work_next, NIL);
  if (o.state == OBJECT_SEALED && (o.waiting || o.watches)) {
    tell_those_who_wait(t, i);
    if (o.waiting || o.watches || o.references) return;
  }
  if (o.references) return;
  if (o.origin && news::its_end_is(o)) {
    news::add(t, i);
    return;
  }
  for (u32 n = 0; o.watches && n < PIECE; ++n) {  // of a promise that nobody kept, nor waits for any more
    u32 w = o.watches;
    t.set(o.watches, t.m.watch(w).next);
    watches(t.m).give(t, w);
  }
  if (o.watches) {
    add_work(t, i);
    return;
  }
  if (!o.nested) {
    free_record(t, i);
    return;
  }
  for (u32 n = 0; o.nested && n < PIECE; ++n) {
    u32 e = o.nested;
    t.set(o.nested, t.m.edge(e).next);
    u32 contained = t.m.edge(e).object;
    edges(t.m).give(t, e);
    unreference(t, contained);
  }
  add_work(t, i);
}

}  // namespace object
}  // namespace ray
