// Values that nobody uses, moved from the heap to a file and back.
//
// The file has no name; its memory is accounted by a second table of blocks like the heap's.  Whoever needs
// room moves values himself: it pins one, writes it out, and in one transaction swaps its block for that of
// the file, unless somebody has pinned it meanwhile.  Bringing one back is the same the other way round; while
// the file has room the copy in it stays, values being final, and need not be written again.
//
// Invariants: a value is in the heap, or in the file, or the same in both; what is pinned is in the heap; what is
// being moved is pinned, or its new block is in the ledger of who moves it.  The hand and `uses` are hints:
// undoing a transaction need not put them back.
#pragma once

#include "object.hpp"

namespace ray::spill {

inline bool may_go(const Object& o) {
  return o.state == OBJECT_SEALED && o.block && o.size_bytes > SNAPSHOT_BYTES && !o.pins && !o.work_next &&
         o.format < FORMAT_ERROR;
}

// Copies of values that are in the heap are worth their room.
inline bool has_room_for_copies(const HeapTable& file) { return file.used <= file.capacity / 4 * 3; }

inline void drop_copy(Transaction& t, Object& o) {
  u32 b = o.spilled;
  t.set(o.spilled, NIL);
  heap::release(t, b);
}

// A value that is in the file too leaves the heap.  Returns the bytes that the heap got back.
inline u64 leave_heap(Transaction& t, Object& o) {
  u32 b = o.block;
  u64 bytes = u64(t.m.block(b).size) * GRANULE_BYTES;
  t.set(o.block, NIL);
  t.write(o.uses, (o.uses | 1u) + 1);  // counts this time, and begins unused
  heap::release(t, b);
  return bytes;
}

struct Move {
  u32 object = NIL;
  u32 hold = NIL;       // keeps the object where it is while it is written
  u32 block = NIL;      // in the file, in the ledger
  u64 freed_bytes = 0;  // no move: the value was in the file already
  bool again = false;   // no move: the file has got room
  bool unused = false;  // a value was passed over because it had been used: the next time it may go
};

// The next value that has not been used since it was looked at last, pinned for the move; looks a bounded
// number of objects far, and passes over those for which the file has no room.
inline Move choose(Transaction& t, u32 process) {
  HeapTable& file = t.h.heaps[SPILL_FILE];
  Move move;
  u32 i = t.h.spill_hand;
  for (u32 n = 0; n < SPILL_LOOK && !move.object; ++n) {
    i = i >= t.h.objects.high_water ? 1 : i + 1;
    Object& o = t.m.object(i);
    bool copied = o.block && o.spilled;
    if (copied && o.pins && !has_room_for_copies(file)) {
      drop_copy(t, o);
      move.again = true;
      break;
    }
    if (!may_go(o)) continue;
    if (o.uses & 1) {
      t.write(o.uses, o.uses & ~1u);
      move.unused = true;
    } else if (copied) {
      move.freed_bytes = leave_heap(t, o);
      break;
    } else if (heap::find(file, t.m, heap::granules(o.size_bytes))) {
      move.object = i;
    }
  }
  t.write(t.h.spill_hand, i);
  if (!move.object) return move;
  move.block = heap::allocate(t, t.m.object(i).size_bytes, SPILL_FILE);
  heap::hold(t, move.block, process);
  move.hold = object::hold(t, i, process);
  object::pin(t, move.hold);
  return move;
}

// The value has been written: it leaves the heap, unless somebody else began to use it.  Returns the bytes
// that the heap got back.
inline u64 finish(Transaction& t, const Move& move, u32 process) {
  Object& o = t.m.object(move.object);
  u64 bytes = 0;
  if (o.pins == 1) {
    heap::let_go(t, move.block);
    t.set(o.spilled, move.block);
    t.write(t.h.spilled_bytes, t.h.spilled_bytes + o.size_bytes);
    bytes = leave_heap(t, o);
  } else {
    heap::discard(t, move.block, process);
  }
  object::drop_hold(t, move.hold);
  return bytes;
}

inline void give_up(Transaction& t, const Move& move, u32 process) {
  heap::discard(t, move.block, process);
  object::drop_hold(t, move.hold);
}

// Where a value is that is in the file only, as it was seen under the mutex; the file may change meanwhile.
struct Place {
  u32 block = NIL;
  u32 uses = 0;
  u64 at = 0;  // bytes from the file's beginning
};

inline Place place_of(Mapping& m, const Object& o) {
  if (!o.spilled || o.block) return {};
  return {o.spilled, o.uses, u64(m.block(o.spilled).offset) * GRANULE_BYTES};
}

// Whether the value has been there, and not in the heap, all the time since it was seen there.
inline bool still_at(const Object& o, const Place& place) {
  return o.spilled == place.block && !o.block && o.uses >> 1 == place.uses >> 1;
}

// The value has been read into `block` from its place, where it still is.
inline void bring_back(Transaction& t, u32 i, u32 block) {
  Object& o = t.m.object(i);
  heap::let_go(t, block);
  t.set(o.block, block);
  t.write(o.uses, o.uses | 1u);
  t.write(t.h.restored_bytes, t.h.restored_bytes + o.size_bytes);
  if (!has_room_for_copies(t.h.heaps[SPILL_FILE])) drop_copy(t, o);
}

// --- free places go back to the disk ----------------------------------------------------------------

struct Hole {
  u32 block = NIL;  // in the ledger of who makes it
  u64 at = 0, bytes = 0;
};

inline u32 written_block(Transaction& t) {
  HeapTable& file = t.h.heaps[SPILL_FILE];
  u32 looked = 0;
  for (u32 c = HEAP_CLASSES * HEAP_SUBCLASSES; c-- > heap::class_of(heap::granules(TRIM_LEAST_BYTES)).index();)
    for (u32 b = file.heads[c]; b && looked < SPILL_LOOK; b = t.m.block(b).next, ++looked)
      if (t.m.block(b).written) return b;
  return NIL;
}

// The last part of a free place that the disk may have bytes of, in whole pages as far as they are free.
inline Hole choose_hole(Transaction& t, u32 process) {
  constexpr u32 PAGE = PAGE_BYTES / GRANULE_BYTES;
  u32 b = written_block(t);
  if (!b) return {};
  Block& block = t.m.block(b);
  u32 end = std::min(block.offset + block.size, (block.offset + block.written + PAGE - 1) / PAGE * PAGE);
  u32 piece = heap::granules(TRIM_PIECE_BYTES);
  u32 begin = end - block.offset > piece ? std::max(block.offset, (end - piece) / PAGE * PAGE) : block.offset;
  heap::unlink_free(t, b);
  if (end < block.offset + block.size) heap::link_free(t, heap::split(t, b, end - block.offset));
  u32 chosen = b;
  if (begin > block.offset) {
    chosen = heap::split(t, b, begin - block.offset);
    t.set(block.written, begin - block.offset);
    heap::link_free(t, b);
  }
  t.set(t.h.heaps[SPILL_FILE].used, t.h.heaps[SPILL_FILE].used + end - begin);
  heap::hold(t, chosen, process);
  u32 first_page = (begin + PAGE - 1) / PAGE, last_page = end / PAGE;
  if (first_page >= last_page) return {chosen, 0, 0};
  return {chosen, first_page * PAGE_BYTES, (last_page - first_page) * PAGE_BYTES};
}

// It has been made, or can't be: then the disk is asked for nothing again until the place was used once more.
inline void finish_hole(Transaction& t, const Hole& hole, u32 process) {
  t.write(t.m.block(hole.block).written, 0u);
  heap::discard(t, hole.block, process);
}

}  // namespace ray::spill
