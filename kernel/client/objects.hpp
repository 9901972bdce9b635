// Objects: made, given their values, read.
#pragma once

#include "client.hpp"
#include "copying.hpp"

namespace ray {

inline void Client::next_id(u8* id) {
  LocalThread& local = local_thread;
  task::derive_id(id, local.parent, local.ordinal, local.counter++);
}

inline u32 Client::reserve() {
  must_be_open();
  u32 th = thread();
  u8 id[ID_BYTES];
  next_id(id);
  memcpy(id + TASK_ID_BYTES, &PUT_INDEX, 4);
  Transaction t(m(), th);
  u32 o = object::create(t, id, NIL, NIL);
  u32 ref = object::hold(t, o, process_);
  t.commit();
  adopt(o, ref);
  return o;
}

inline u32 Client::put(const Value& v, std::span<const u32> nested) {
  must_be_open();
  u32 th = thread();
  u8 id[ID_BYTES];
  next_id(id);
  memcpy(id + TASK_ID_BYTES, &PUT_INDEX, 4);
  Transaction t(m(), th);
  u32 o = object::create(t, id, NIL, NIL);
  u32 ref = object::hold(t, o, process_);
  if (nested.size() > AT_ONCE) {
    t.commit();
    adopt(o, ref);
    try {
      add_nested(o, nested);
      Transaction last(m(), th);
      object::seal(last, o, v);
      last.commit();
      v.taken();
    } catch (...) {
      drop_local(o);
      throw;
    }
    return o;
  }
  for (u32 contained : nested) object::add_nested(t, o, contained);
  object::seal(t, o, v);
  t.commit();
  v.taken();
  adopt(o, ref);
  return o;
}

inline bool Client::seal(u32 o, const Value& v, std::span<const u32> nested) {
  must_be_open();
  if (ready(o)) return false;
  // Too many ids for one transaction are linked before it: of two who seal at once, the loser's stay as well.
  if (nested.size() > AT_ONCE) add_nested(o, nested), nested = {};
  Transaction t(m(), thread());
  bool pending = m().object(o).state == OBJECT_PENDING;
  for (u32 contained : nested)
    if (pending) object::add_nested(t, o, contained);
  bool sealed = object::seal(t, o, v);
  t.commit();
  if (sealed) v.taken();
  drain();
  return sealed;
}

inline void Client::add_nested(u32 o, std::span<const u32> nested) {
  for (size_t i = 0; i < nested.size(); i += AT_ONCE) {
    Transaction t(m(), thread());
    if (m().object(o).state != OBJECT_PENDING) return t.commit();  // it has its value by now, or is an actor's
    for (u32 contained : nested.subspan(i, std::min<size_t>(AT_ONCE, nested.size() - i)))
      object::add_nested(t, o, contained);
    t.commit();
  }
}

inline u32 Client::allocate(u64 bytes) {
  Stay stay(*this);
  must_be_open();
  flush_drops();
  for (;;) {
    try {
      Transaction t(m(), thread());
      u32 b = heap::allocate(t, bytes);
      heap::hold(t, b, process_);
      t.commit();
      if (m().reserves()) reserve_block(b, bytes);
      return b;
    } catch (StoreFull& full) {
      if (bytes > full.capacity_bytes) throw;
      full.nothing_may_go = !spill(bytes);
      if (full.nothing_may_go) throw;
    }
  }
}

inline void Client::reserve_block(u32 b, u64 bytes) {
  u64 offset = u64(m().block(b).offset) * GRANULE_BYTES;
  try {
    HostPause pause;
    m().reserve_heap(offset, bytes);
  } catch (const DirectoryFull&) {
    release_block(b);
    throw;
  }
}

inline void Client::release_block(u32 b) {
  if (forked() || left_ || h_.shut.load(std::memory_order_relaxed)) return;
  Transaction t(m(), thread());
  heap::discard(t, b, process_);
  t.commit();
}

inline void Client::write_block(u32 b, u64 offset, const u8* bytes, u64 size) {
  const Block& block = m().block(b);
  u64 start = u64(block.offset) * GRANULE_BYTES + offset;
  u64 cold = u64(block.cold_from) * GRANULE_BYTES;
  u64 warm_bytes = start >= cold ? 0 : std::min(cold - start, size);
  if (size - warm_bytes < COLD_BYTES) warm_bytes = size;
  copying::stream(m().heap(start), bytes, warm_bytes);
  if (warm_bytes == size) return;
  start += warm_bytes;
  copying::fill_cold(m().own_fd(), m().heap_offset() + start, m().heap(start), bytes + warm_bytes, size - warm_bytes);
}

inline u32 Client::value_of(u32 o) {
  while (m().object(o).format == FORMAT_ALIAS && m().object(o).nested) o = m().edge(m().object(o).nested).object;
  return o;
}

inline const u8* Client::data_for_reading(u32 o) {
  Object& object = m().object(o);
  if (!object.block) return object.data;
  return m().heap_for_reading(u64(m().block(object.block).offset) * GRANULE_BYTES);
}

}  // namespace ray
