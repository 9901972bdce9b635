// What this process holds: its counts of objects, of which the arena sees the first and the last, and its pins.
#pragma once

#include "client.hpp"

namespace ray {

inline void Client::adopt(u32 o, u32 ref) {
  LocalReference& local = m().local(o);
  local = LocalReference{m().object(o).serial, 1, ref, 0, 0, 0};
}

inline void Client::drop_local(u32 o) {
  LocalReference& local = m().local(o);
  if (local.count == 0 || --local.count || local.queued) return;
  local.queued = 1;
  drops_.push_back(o);
  // What holds much memory, or an actor, is let go at once; the rest in batches, and before every sleep.
  const Object& object = m().object(o);
  if (drops_.size() >= DROPS_AT_ONCE || object.size_bytes > SNAPSHOT_BYTES || object.state == OBJECT_ACTOR)
    flush_drops();
}

inline void Client::flush_drops() {
  if (left_ || forked() || h_.shut.load(std::memory_order_relaxed)) {
    drops_.clear();
    return;
  }
  while (!drops_.empty()) {
    Transaction t(m(), thread());
    std::array<u32, 3> done;
    u32 n = 0;
    // Whatever ran while the mutex was awaited may have taken one up again.
    while (n < done.size() && !drops_.empty()) {
      u32 o = drops_.back();
      drops_.pop_back();
      LocalReference& local = m().local(o);
      local.queued = 0;
      if (local.count || !local.hold) continue;
      u32 ref = local.hold;
      local.hold = 0;
      process::drop_hold(t, ref, SystemFailure::object_lost, 0, pid_);
      done[n++] = o;
    }
    t.commit();
  }
  drain();
}

inline u32 Client::resolve(const u8* id, u64 key) {
  must_be_open();
  u32 o = u32(key & (OBJECTS_MAX - 1));
  // The key may be of another session: the id decides.
  if (key && owns(o, key >> 22) && memcmp(m().object(o).id, id, ID_BYTES) == 0) {
    add_local(o);
    return o;
  }
  Transaction t(m(), thread());
  o = object::find(m(), id);
  if (!o || !m().object(o).references) {
    t.commit();
    return NIL;
  }
  if (owns(o, m().object(o).serial)) {
    t.commit();
    add_local(o);
    return o;
  }
  u32 ref = object::hold(t, o, process_);
  t.commit();
  adopt(o, ref);
  return o;
}

inline void Client::pin(u32 o) {
  Stay stay(*this);
  LocalReference& local = m().local(o);
  while (!local.pins) {
    spill::Place place = pin_if_in_heap(o);
    if (!place.block) break;
    u64 size = m().object(o).size_bytes;
    u32 b = allocate(size);
    int error = transfer(false, heap_of(b), size, place.at);
    Transaction t(m(), thread());
    bool there = spill::still_at(m().object(o), place);
    if (there && !error) {
      spill::bring_back(t, o, b);
      object::pin(t, local.hold);
    } else {
      heap::discard(t, b, process_);
    }
    t.commit();
    if (there && error) throw SpillFailed(error);
    if (there) break;
  }
  local.pins += 1;
}

// Where the value is in the spill file; none: it is in the heap, and now pinned.
inline spill::Place Client::pin_if_in_heap(u32 o) {
  Transaction t(m(), thread());
  if (left_) throw ArenaClosed("this process is not part of a session");
  spill::Place place = spill::place_of(m(), m().object(o));
  if (!place.block) object::pin(t, m().local(o).hold);
  t.commit();
  return place;
}

// The local count decides under the mutex: other threads may have run while it was awaited.
inline void Client::unpin(u32 o) {
  LocalReference& local = m().local(o);
  if (--local.pins || forked()) return;
  if (h_.shut.load(std::memory_order_relaxed)) return;
  if (left_) {  // the process has left; this was the last of what it still used
    Transaction t(m(), NIL);
    object::drop_hold(t, local.hold);
    t.commit();
    local.hold = 0;
    drain();
    finish_leaving();
    return;
  }
  Transaction t(m(), thread());
  if (!local.pins) object::unpin(t, local.hold);
  t.commit();
}

inline void Client::copy_value(u32 o, u8* out) {
  Stay stay(*this);
  Object& object = m().object(o);
  for (;;) {
    if (object.size_bytes <= SNAPSHOT_BYTES) {
      memcpy(out, data_for_reading(o), object.size_bytes);
      return;
    }
    spill::Place place;
    if (!m().local(o).pins) place = pin_if_in_heap(o);
    if (!place.block) {
      m().local(o).pins += 1;
      memcpy(out, data_for_reading(o), object.size_bytes);
      unpin(o);
      return;
    }
    int error = transfer(false, out, object.size_bytes, place.at);
    Transaction t(m(), thread());
    bool there = spill::still_at(object, place);
    t.commit();
    if (there && error) throw SpillFailed(error);
    if (there) return;
  }
}

}  // namespace ray
