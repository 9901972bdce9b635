// Spilling: values move to the file and back, meet others on the way, and their processes die.
#pragma once

#include "situations_processes.hpp"

#include <sys/mman.h>

namespace ray::testing {

inline constexpr u64 SPILL_FILE_BYTES = 16 << 20;
inline constexpr u32 SPILLED_SIZE = 20'000;
inline constexpr u64 EVERYTHING = ~0ull;

// What lies between two steps of a move that others come between.
inline spill::Move moving;
inline spill::Place place;
inline spill::Hole hole;
inline u32 landing = NIL;    // block that a value is to come back to
inline int spill_file = -1;  // the parent's

// A new file for every round; the last one's has been left empty.
inline void give_file(Stage& s, u64 bytes = SPILL_FILE_BYTES, const char* path = nullptr) {
  {
    Transaction t(s.m, s.c.thread());
    if (u32 first = s.h.heaps[SPILL_FILE].first) blocks(s.m).give(t, first);
    t.commit();
    memset(static_cast<void*>(&s.h.heaps[SPILL_FILE]), 0, sizeof(HeapTable));
  }
  if (spill_file >= 0) close(spill_file);
  spill_file = path ? open(path, O_RDWR | O_CLOEXEC) : memfd_create("spill", MFD_CLOEXEC);
  if (bytes) s.c.set_spill_file(spill_file, bytes);
}

// The n-th of these values has bytes of its own.
inline u32 put_value(Stage& s, u32 n, u32 size = SPILLED_SIZE) {
  std::vector<u8> bytes = bytes_of(n, size);
  return s.c.put(Value{nullptr, size, block_with(s.c, bytes), FORMAT_TEST}, {});
}
inline void put_values(Stage& s, u32 count) {
  for (u32 n = 0; n < count; ++n) {
    s.list.push_back(put_value(s, n));
    s.held.push_back(s.list.back());
  }
}

// The next look for something to spill takes this one first.
inline void choose_next(Stage& s, u32 o) {
  s.h.spill_hand = o - 1;
  s.m.object(o).uses &= ~1u;
}
inline void spill_this(Stage& s, u32 o) {
  choose_next(s, o);
  s.c.spill(1);
  if (!s.m.object(o).spilled) s.board.complain("object %u was not spilled", o);
}
inline void begin_move(Stage& s, u32 o) {
  choose_next(s, o);
  Transaction t(s.m, s.c.thread());
  moving = spill::choose(t, s.c.process());
  t.commit();
  if (moving.object != o) s.board.complain("object %u was chosen, not %u", moving.object, o);
  off_t at = off_t(s.m.block(moving.block).offset) * GRANULE_BYTES;
  ssize_t size = ssize_t(s.m.object(o).size_bytes);
  if (pwrite(spill_file, s.c.data_for_reading(o), size_t(size), at) != size) s.board.complain("the file took nothing");
}
inline void end_move(Stage& s) {
  Transaction t(s.m, s.c.thread());
  spill::finish(t, moving, s.c.process());
  t.commit();
}

inline void spill_in_vain(Stage& s) {
  try {
    s.c.spill(EVERYTHING);
  } catch (const SpillFailed&) {
  }
}

inline void look_into(Stage& s, u32 o, u32 n) {
  s.c.pin(o);
  const u8* data = s.c.data_for_reading(o);
  for (u32 i = 0; i < SPILLED_SIZE; ++i)
    if (data[i] != pattern(n, i)) {
      s.board.complain("value %u has the wrong byte %u", n, i);
      break;
    }
  s.c.unpin(o);
}

// The values are what they were; then everything is brought back and in the heap only, so that the tables can be
// compared.
inline void look_at_values(Stage& s) {
  for (u32 n = 0; n < s.list.size(); ++n) look_into(s, s.list[n], n);
  for (u32 o = 1; o <= s.h.objects.high_water; ++o) {
    if (s.m.object(o).state != OBJECT_SEALED || !s.m.object(o).spilled) continue;
    u32 held = s.take(o);
    s.c.pin(held);
    s.c.unpin(held);
    s.c.drop_local(held);
  }
  for (u32 o = 1; o <= s.h.objects.high_water; ++o) {
    if (s.m.object(o).state != OBJECT_SEALED || !s.m.object(o).spilled) continue;
    Transaction t(s.m, s.c.thread());
    spill::drop_copy(t, s.m.object(o));
    t.commit();
  }
  const HeapTable& table = s.h.heaps[SPILL_FILE];
  if (table.used) s.board.complain("%u granules of the spill file are lost", table.used);
  if (u64(table.capacity) * GRANULE_BYTES < TRIM_LEAST_BYTES) return;
  s.c.trim_spill_file(EVERYTHING);
  struct stat file;
  if (fstat(spill_file, &file) == 0 && file.st_blocks) s.board.complain("the disk keeps what no value needs");
}

// Takes the largest free block, so that no value of these tests fits any more.
inline void fill_heap(Stage& s) {
  u32 largest = 0;
  for (u32 b = s.h.heaps[HEAP].first; b; b = s.m.block(b).after)
    if (s.m.block(b).state == BLOCK_FREE) largest = std::max(largest, s.m.block(b).size);
  s.x = s.c.allocate(u64(largest) * GRANULE_BYTES);
}
inline void make_room_again(Stage& s) {
  s.c.release_block(s.x);
  look_at_values(s);
}

inline void add_spills(Situations& list) {
  for (bool used : {false, true}) {
    Situation spill{used ? "spill of what was used" : "spill",
                    ProcessKind::driver,
                    [=](Stage& s) {
                      give_file(s);
                      put_values(s, 3);
                      for (u32 o : s.list) s.m.object(o).uses = (s.m.object(o).uses & ~1u) | u32(used);
                    },
                    {},
                    {},
                    [](Stage& s) { s.c.spill(EVERYTHING); }};
    spill.after = look_at_values;
    list.push_back(spill);
  }
  Situation twice{"spill of what was spilled before",
                  ProcessKind::driver,
                  [](Stage& s) {
                    give_file(s);
                    put_values(s, 3);
                    s.c.spill(EVERYTHING);
                    look_at_values(s);
                  },
                  {},
                  {},
                  [](Stage& s) { s.c.spill(EVERYTHING); }};
  twice.after = look_at_values;
  list.push_back(twice);
  Situation little{"spill to a file with room for one",
                   ProcessKind::driver,
                   [](Stage& s) {
                     give_file(s, SPILLED_SIZE + 2 * GRANULE_BYTES);
                     put_values(s, 3);
                   },
                   {},
                   {},
                   [](Stage& s) { s.c.spill(EVERYTHING); }};
  little.after = look_at_values;
  list.push_back(little);
  // A value in use has a copy in the file, whose room another value needs.
  Situation copy{"spill in the place of a copy",
                 ProcessKind::driver,
                 [](Stage& s) {
                   give_file(s, 4 * u64(heap::granules(SPILLED_SIZE)) * GRANULE_BYTES);
                   put_values(s, 5);
                   for (u32 n : {0, 1}) spill_this(s, s.list[n]);
                   s.c.pin(s.list[0]);
                   for (u32 n : {2, 3}) spill_this(s, s.list[n]);
                 },
                 {},
                 {},
                 [](Stage& s) {
                   choose_next(s, s.list[4]);
                   if (!s.c.spill(1)) s.board.complain("a copy was worth more than room");
                 }};
  copy.after = [](Stage& s) {
    s.c.unpin(s.list[0]);
    look_at_values(s);
  };
  list.push_back(copy);
  Situation full{"spill to a full disk",
                 ProcessKind::driver,
                 [](Stage& s) {
                   give_file(s, SPILL_FILE_BYTES, "/dev/full");
                   put_values(s, 2);
                 },
                 {},
                 {},
                 spill_in_vain};
  full.after = look_at_values;
  list.push_back(full);
  Situation room{"allocate where values must go first",
                 ProcessKind::driver,
                 [](Stage& s) {
                   give_file(s, 0);
                   put_values(s, 3);
                   fill_heap(s);
                   s.c.set_spill_file(spill_file, SPILL_FILE_BYTES);
                 },
                 {},
                 {},
                 [](Stage& s) { s.c.allocate(SPILLED_SIZE); }};
  room.after = make_room_again;
  list.push_back(room);
}

// Between choosing a value and letting it go, somebody else comes.
inline void add_meetings(Situations& list) {
  auto meeting = [&](const char* name, Step meet, Step after) {
    Situation s{name,
                ProcessKind::driver,
                [](Stage& s) {
                  give_file(s);
                  put_values(s, 2);
                },
                [](Stage& s) { begin_move(s, s.list[0]); },
                meet,
                end_move};
    s.after = after;
    list.push_back(s);
  };
  meeting(
      "spill of what somebody else pins meanwhile", [](Stage& s) { s.c.pin(s.list[0]); },
      [](Stage& s) {
        if (!s.m.object(s.list[0]).block) s.board.complain("a pinned value left the heap");
        s.c.unpin(s.list[0]);
        look_at_values(s);
      });
  meeting(
      "spill of what was pinned meanwhile and is not any more",
      [](Stage& s) {
        s.c.pin(s.list[0]);
        s.c.unpin(s.list[0]);
      },
      look_at_values);
  meeting(
      "spill of what nobody holds any more",
      [](Stage& s) {
        std::erase(s.held, s.list[0]);
        s.c.drop_local(s.list[0]);
        s.c.flush_drops();
        s.list.clear();
      },
      look_at_values);
}

inline void spilled_values(Stage& s, u32 count) {
  give_file(s);
  put_values(s, count);
  for (u32 o : s.list) spill_this(s, o);
}

inline void add_returns(Situations& list) {
  auto returns = [&](const char* name, Step prepare, Step ready, Step meet, Step act) {
    Situation s{name, ProcessKind::driver, prepare, ready, meet, act};
    s.after = look_at_values;
    list.push_back(s);
  };
  auto three = [](Stage& s) { spilled_values(s, 3); };
  auto own = [](Stage& s) { take_all(s, s.list); };
  returns("pin of what was spilled", three, own, {}, [](Stage& s) {
    s.c.pin(s.list[0]);
    s.c.pin(s.list[1]);
    s.c.unpin(s.list[0]);
  });
  returns("copy of what was spilled", three, own, {}, [](Stage& s) {
    std::vector<u8> bytes(SPILLED_SIZE);
    s.c.copy_value(s.list[1], bytes.data());
    if (bytes != bytes_of(1, SPILLED_SIZE)) s.board.complain("the copy of a spilled value is wrong");
  });
  // Two read the same value; the second finds that the first has brought it back, and that it went again.
  for (bool again : {false, true})
    returns(
        again ? "pin of what came back and went again" : "pin of what came back meanwhile", three,
        [](Stage& s) {
          take_all(s, s.list);
          landing = s.c.allocate(SPILLED_SIZE);
          place = spill::place_of(s.m, s.m.object(s.list[0]));
        },
        [=](Stage& s) {
          s.c.pin(s.list[0]);
          s.c.unpin(s.list[0]);
          if (again) spill_this(s, s.list[0]);
        },
        [](Stage& s) {
          if (spill::still_at(s.m.object(s.list[0]), place)) s.board.complain("a value's journey is not noticed");
          s.c.release_block(landing);
          s.c.pin(s.list[0]);
        });
  Situation room{"pin of what needs the room of others",
                 ProcessKind::driver,
                 [](Stage& s) {
                   give_file(s, 0);
                   put_values(s, 3);
                   fill_heap(s);
                   s.c.set_spill_file(spill_file, SPILL_FILE_BYTES);
                   spill_this(s, s.list[0]);
                   s.list.push_back(put_value(s, 3));
                   s.held.push_back(s.list[3]);
                 },
                 own,
                 {},
                 [](Stage& s) { s.c.pin(s.list[0]); }};
  room.after = make_room_again;
  list.push_back(room);
  Situation unreadable{"pin of what can't be read",
                       ProcessKind::driver,
                       three,
                       own,
                       [](Stage& s) {
                         if (ftruncate(spill_file, 0) != 0) s.board.complain("the file can't be cut");
                       },
                       [](Stage& s) {
                         try {
                           s.c.pin(s.list[0]);
                           s.board.complain("what can't be read was read");
                         } catch (const SpillFailed&) {
                         }
                       }};
  unreadable.after = [](Stage& s) { s.list.clear(); };
  list.push_back(unreadable);
}

// The file was full once, and the second of three values is still in it.
inline void once_full(Stage& s) {
  give_file(s);
  u32 whole = s.h.heaps[SPILL_FILE].capacity;
  for (u64 at = 0; at < SPILL_FILE_BYTES; at += 256 << 10)
    if (pwrite(spill_file, "full", 4, off_t(at)) != 4) s.board.complain("no room for a file");
  s.m.block(s.h.heaps[SPILL_FILE].first).written = whole;
  put_values(s, 3);
  for (u32 o : s.list) spill_this(s, o);
  for (u32 n : {0, 2}) look_into(s, s.list[n], n);
}

inline void add_trims(Situations& list) {
  Situation trim{
      "trim the spill file", ProcessKind::driver, once_full, {}, {}, [](Stage& s) {
                   s.c.trim_spill_file(EVERYTHING); }};
  trim.after = look_at_values;
  list.push_back(trim);
  Situation fill{"spill to a file that was full once",   ProcessKind::driver, once_full, {}, {},
                 [](Stage& s) { s.c.spill(EVERYTHING); }};
  fill.after = look_at_values;
  list.push_back(fill);
  // Another takes a place, and one is given back, beside the hole that is being made.
  Situation beside{"spill beside a hole that is being made",
                   ProcessKind::driver,
                   once_full,
                   [](Stage& s) {
                     Transaction t(s.m, s.c.thread());
                     hole = spill::choose_hole(t, s.c.process());
                     t.commit();
                     int how = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
                     if (fallocate(spill_file, how, off_t(hole.at), off_t(hole.bytes)) != 0)
                       s.board.complain("no hole");
                   },
                   [](Stage& s) {
                     spill_this(s, s.list[0]);
                     look_into(s, s.list[1], 1);
                   },
                   [](Stage& s) {
                     Transaction t(s.m, s.c.thread());
                     spill::finish_hole(t, hole, s.c.process());
                     t.commit();
                   }};
  beside.after = look_at_values;
  list.push_back(beside);
  Situation burial = buries("a process that makes a hole", [](Stage& s) {
    once_full(s);
    make_victim(s, ProcessKind::driver, [&s] {
      Transaction t(s.m, s.c.thread());
      hole = spill::choose_hole(t, s.c.process());
      t.commit();
    });
  });
  burial.after = look_at_values;
  list.push_back(burial);
}

inline void add_spilled_ends(Situations& list) {
  auto own_values = [](Stage& s) {
    for (u32 n = 0; n < 3; ++n) s.list.push_back(put_value(s, n));
    for (u32 o : s.list) spill_this(s, o);
  };
  auto file = [](Stage& s) { give_file(s); };
  list.push_back({"last reference to what was spilled", ProcessKind::driver, file, own_values, {}, drop_all});
  list.push_back({"last reference to spilled values that hold ids",
                  ProcessKind::driver,
                  file,
                  [](Stage& s) {
                    std::vector<u32> inner{put_value(s, 0), s.put(5)};
                    std::vector<u8> bytes = bytes_of(1, SPILLED_SIZE);
                    u32 b = block_with(s.c, bytes);
                    s.list = {s.c.put(Value{nullptr, SPILLED_SIZE, b, FORMAT_TEST}, inner)};
                    spill_this(s, s.list[0]);
                    spill_this(s, inner[0]);
                    for (u32 o : inner) s.c.drop_local(o);
                    s.c.flush_drops();
                  },
                  {},
                  drop_all});
  list.push_back({"leave with spilled values",
                  ProcessKind::driver,
                  file,
                  [=](Stage& s) {
                    own_values(s);
                    s.c.pin(s.list[1]);
                  },
                  {},
                  [](Stage& s) {
                    s.c.leave();
                    s.c.unpin(s.list[1]);
                  }});
  list.push_back({"set the spill file",
                  ProcessKind::driver,
                  [](Stage& s) { give_file(s, 0); },
                  {},
                  {},
                  [](Stage& s) { s.c.set_spill_file(spill_file, SPILL_FILE_BYTES); }});
  auto burial = [&](const char* name, std::function<void(Stage&)> work) {
    Situation s = buries(name, [=](Stage& s) {
      give_file(s);
      put_values(s, 2);
      make_victim(s, ProcessKind::driver, [&s, work] { work(s); });
    });
    s.after = look_at_values;
    list.push_back(s);
  };
  burial("a process that is spilling", [](Stage& s) { begin_move(s, s.list[0]); });
  burial("a process that brings back", [](Stage& s) {
    u32 own = put_value(s, 7);
    spill_this(s, own);
    landing = s.c.allocate(SPILLED_SIZE);
  });
  burial("a process that has pinned what was spilled", [](Stage& s) {
    spill_this(s, s.list[1]);
    take_all(s, s.list);
    s.c.pin(s.list[1]);
  });
}

inline void add_spill_situations(Situations& list) {
  add_spills(list);
  add_meetings(list);
  add_returns(list);
  add_spilled_ends(list);
  add_trims(list);
}

}  // namespace ray::testing
