// The heap: two-level segregated fit, with its descriptors kept away from the payload.
//
// Allocation and release take constant time (M. Masmano et al., "TLSF: a new dynamic memory allocator for
// real-time systems", 2004).  Sizes and offsets count granules of 64 bytes, so every value is 64-byte
// aligned.  What was released last is handed out first, while its pages are warm.
//
// Invariants: blocks tile the heap up to its capacity; no two neighbours are both free; a class's bit is
// set exactly when its list is not empty; used is the sum of the sizes of blocks that are not free.
#pragma once

#include "transaction.hpp"

#include <bit>

namespace ray::heap {

struct Class {
  u32 first, second;
  u32 index() const { return first * HEAP_SUBCLASSES + second; }
};

inline Class class_of(u32 size) {
  if (size < HEAP_SUBCLASSES) return {0, size};
  u32 log = 31 - u32(std::countl_zero(size));
  return {log - 3, (size >> (log - 4)) & (HEAP_SUBCLASSES - 1)};
}

inline void link_free(Transaction& t, u32 b) {
  Block& block = t.m.block(b);
  HeapTable& heap = t.h.heaps[block.table];
  Class c = class_of(block.size);
  u32& head = heap.heads[c.index()];
  t.set(block.state, BLOCK_FREE);
  t.set(block.previous, NIL);
  t.set(block.next, head);
  if (head) t.set(t.m.block(head).previous, b);
  t.set(head, b);
  t.set(heap.subclass_bits[c.first], heap.subclass_bits[c.first] | 1u << c.second);
  t.set(heap.class_bits, heap.class_bits | 1u << c.first);
}

inline void unlink_free(Transaction& t, u32 b) {
  Block& block = t.m.block(b);
  HeapTable& heap = t.h.heaps[block.table];
  Class c = class_of(block.size);
  if (block.next) t.set(t.m.block(block.next).previous, block.previous);
  if (block.previous) {
    t.set(t.m.block(block.previous).next, block.next);
    return;
  }
  t.set(heap.heads[c.index()], block.next);
  if (block.next) return;
  t.set(heap.subclass_bits[c.first], heap.subclass_bits[c.first] & ~(1u << c.second));
  if (!heap.subclass_bits[c.first]) t.set(heap.class_bits, heap.class_bits & ~(1u << c.first));
}

// One free block that spans the heap, or the spill file, when it is new.
inline void format(Transaction& t, BlockTable table, u32 capacity) {
  u32 b = blocks(t.m).take(t);
  Block& block = t.m.block(b);
  t.set(t.h.heaps[table].capacity, capacity);
  t.set(t.h.heaps[table].first, b);
  block.table = table;
  block.offset = 0;
  block.size = capacity;
  block.before = block.after = block.process = NIL;
  block.written = 0;
  link_free(t, b);
}

// A block that is in no list keeps its first granules; the rest is a new one.
inline u32 split(Transaction& t, u32 b, u32 size) {
  u32 r = blocks(t.m).take(t);
  Block& block = t.m.block(b);
  Block& rest = t.m.block(r);
  rest.offset = block.offset + size;
  rest.size = block.size - size;
  rest.before = b;
  rest.after = block.after;
  rest.table = block.table;
  rest.process = NIL;
  rest.written = block.written > size ? block.written - size : 0;
  if (block.after) t.set(t.m.block(block.after).before, r);
  t.set(block.after, r);
  t.set(block.size, size);
  return r;
}

inline u32 find(HeapTable& heap, Mapping& m, u32 size) {
  // A value released just now is often followed by one of the same size: look into its own class first.
  Class own = class_of(size);
  u32 b = heap.heads[own.index()];
  for (u32 i = 0; b && i < 4; ++i, b = m.block(b).next)
    if (m.block(b).size >= size) return b;
  u32 rounded = size;
  if (size >= HEAP_SUBCLASSES) {
    u32 log = 31 - u32(std::countl_zero(size));
    rounded = size + (1u << (log - 4)) - 1;
    if (rounded < size) return NIL;
  }
  Class c = class_of(rounded);
  if (c.first >= HEAP_CLASSES) return NIL;
  u32 bits = heap.subclass_bits[c.first] & (~0u << c.second);
  if (!bits) {
    if (c.first + 1 >= HEAP_CLASSES) return NIL;
    u32 above = heap.class_bits & (~0u << (c.first + 1));
    if (!above) return NIL;
    c.first = u32(std::countr_zero(above));
    bits = heap.subclass_bits[c.first];
  }
  c.second = u32(std::countr_zero(bits));
  return heap.heads[c.index()];
}

inline u32 granules(u64 bytes) { return u32((bytes + GRANULE_BYTES - 1) / GRANULE_BYTES); }

// A block for `bytes`; the caller links it to an owner before it commits, and reserves the memory of a large one
// once it has.
inline u32 allocate(Transaction& t, u64 bytes, BlockTable table = HEAP) {
  HeapTable& heap = t.h.heaps[table];
  u64 capacity_bytes = u64(heap.capacity) * GRANULE_BYTES;
  u64 used_bytes = u64(heap.used) * GRANULE_BYTES;
  if (t.gave_memory) throw KernelError("allocation after release in one transaction: this is a bug in the kernel");
  u32 size = bytes ? granules(bytes) : 1;
  u32 b = bytes > capacity_bytes ? NIL : find(heap, t.m, size);
  if (!b) {
    if (table == HEAP) t.m.releases_when_full = heap.releases;
    throw StoreFull(bytes, capacity_bytes, used_bytes);
  }
  Block& block = t.m.block(b);
  if (table == HEAP && bytes <= COPY_BYTES) t.m.reserve_heap(u64(block.offset) * GRANULE_BYTES, bytes);
  unlink_free(t, b);
  if (block.size > size) link_free(t, split(t, b, size));
  u32 end = block.offset + size;
  if (table == HEAP) t.write(block.cold_from, heap.touched < block.offset ? block.offset : heap.touched);
  else t.set(block.written, size);
  if (end > heap.touched) t.write(heap.touched, end);
  t.set(heap.used, heap.used + size);
  t.set(block.state, BLOCK_USED);
  return b;
}

inline void release(Transaction& t, u32 b) {
  Block& block = t.m.block(b);
  t.gave_memory = true;
  u32 block_table = block.table;
  HeapTable& heap = t.h.heaps[block_table];
  t.set(heap.used, heap.used - block.size);
  t.write(heap.releases, heap.releases + 1);
  u32 kept = b;
  if (u32 before = block.before; before && t.m.block(before).state == BLOCK_FREE) {
    Block& lower = t.m.block(before);
    unlink_free(t, before);
    if (block_table == SPILL_FILE && block.written) t.set(lower.written, lower.size + block.written);
    t.set(lower.size, lower.size + block.size);
    t.set(lower.after, block.after);
    if (block.after) t.set(t.m.block(block.after).before, before);
    t.set(block.state, BLOCK_FREE);
    t.set(block.size, 0u);
    blocks(t.m).give(t, b);
    kept = before;
  }
  Block& whole = t.m.block(kept);
  if (u32 after = whole.after; after && t.m.block(after).state == BLOCK_FREE) {
    Block& upper = t.m.block(after);
    unlink_free(t, after);
    if (block_table == SPILL_FILE && upper.written) t.set(whole.written, whole.size + upper.written);
    t.set(whole.size, whole.size + upper.size);
    t.set(whole.after, upper.after);
    if (upper.after) t.set(t.m.block(upper.after).before, kept);
    t.set(upper.size, 0u);
    blocks(t.m).give(t, after);
  }
  link_free(t, kept);
  if (block_table == HEAP && t.h.room_sleepers.load(std::memory_order_relaxed)) t.tell_room();
}

// --- the ledger: blocks that only their maker knows -------------------------------------------------

inline void hold(Transaction& t, u32 b, u32 process) {
  Block& block = t.m.block(b);
  Process& p = t.m.process(process);
  t.set(block.state, BLOCK_HELD);
  t.write(block.process, process);
  t.set(block.previous, NIL);
  t.set(block.next, p.blocks);
  if (p.blocks) t.set(t.m.block(p.blocks).previous, b);
  t.set(p.blocks, b);
}

inline void let_go(Transaction& t, u32 b) {
  Block& block = t.m.block(b);
  if (block.state != BLOCK_HELD) throw KernelError("this block is in use already");
  if (block.next) t.set(t.m.block(block.next).previous, block.previous);
  if (block.previous) t.set(t.m.block(block.previous).next, block.next);
  else t.set(t.m.process(block.process).blocks, block.next);
  t.set(block.process, NIL);
  t.set(block.state, BLOCK_USED);
}

// Frees a block that this process still holds; one that it does not is somebody else's by now.
inline void discard(Transaction& t, u32 b, u32 process) {
  if (t.m.block(b).state != BLOCK_HELD || t.m.block(b).process != process) return;
  let_go(t, b);
  release(t, b);
}

}  // namespace ray::heap
