// Objects: put, allocate, seal, resolve, pin, drop, wait; the journal.
#pragma once

#include "situations.hpp"

namespace ray::testing {

// A value for `act`, whose bytes stay until the process ends.
inline Value value_of_size(Stage& s, u64 size) {
  s.bytes.push_back(bytes_of(1, size));
  return Value{s.bytes.back().data(), size, NIL, FORMAT_TEST};
}
inline Value value_in_block(Stage& s, u64 size) {
  s.bytes.push_back(bytes_of(1, size));
  return Value{nullptr, size, block_with(s.c, s.bytes.back()), FORMAT_TEST};
}
inline std::vector<u32> some_objects(Stage& s, u32 count, u32 size = 3) {
  std::vector<u32> list;
  for (u32 i = 0; i < count; ++i) list.push_back(s.put(size));
  return list;
}
inline std::vector<u32> take_all(Stage& s, const std::vector<u32>& list) {
  std::vector<u32> own;
  for (u32 o : list) own.push_back(s.take(o));
  return own;
}
inline void drop_all(Stage& s) {
  for (u32 o : s.list) s.c.drop_local(o);
  s.c.flush_drops();
}

// A helper that does `work` and then waits to be killed; its id is the situation's victim.
template <typename Work>
inline void make_victim(Stage& s, ProcessKind kind, Work work) {
  s.victim = s.helper([&s, kind, work] {
    s.c.enter(kind, nullptr);
    work();
    s.board.at(80);
    for (;;) pause();
  });
  s.board.until([&] { return s.board.stage.load() == 80; });
  s.board.stage = 0;
}

inline void add_puts(Situations& list) {
  for (u32 size : {0u, 40u, 200u, 4096u})
    list.push_back({"put of " + std::to_string(size) + " bytes",
                    ProcessKind::driver,
                    nothing,
                    [=](Stage& s) { s.x = u32(value_of_size(s, size).size); },
                    {},
                    [](Stage& s) { s.c.put(Value{s.bytes.back().data(), s.x, NIL, FORMAT_TEST}, {}); }});
  for (u32 contained : {3u, 12u, 30u})
    for (u32 size : {40u, 700u})
      list.push_back({"put of " + std::to_string(size) + " bytes with " + std::to_string(contained) + " ids",
                      ProcessKind::driver,
                      [=](Stage& s) { s.list = some_objects(s, contained, 90); },
                      [=](Stage& s) {
                        s.list = take_all(s, s.list);
                        s.x = u32(value_of_size(s, size).size);
                      },
                      {},
                      [](Stage& s) { s.c.put(Value{s.bytes.back().data(), s.x, NIL, FORMAT_TEST}, s.list); }});
  list.push_back({"put of a block",
                  ProcessKind::driver,
                  nothing,
                  [](Stage& s) { s.x = value_in_block(s, 9000).block; },
                  {},
                  [](Stage& s) { s.c.put(Value{nullptr, 9000, s.x, FORMAT_TEST}, {}); }});
  list.push_back({"put of a block with 30 ids",
                  ProcessKind::driver,
                  [](Stage& s) { s.list = some_objects(s, 30); },
                  [](Stage& s) {
                    s.list = take_all(s, s.list);
                    s.x = value_in_block(s, 9000).block;
                  },
                  {},
                  [](Stage& s) { s.c.put(Value{nullptr, 9000, s.x, FORMAT_TEST}, s.list); }});
  list.push_back({"allocate",
                  ProcessKind::driver,
                  nothing,
                  [](Stage& s) { s.x = 1 + s.random.below(20000); },
                  {},
                  [](Stage& s) {
                    s.c.allocate(s.x);
                    s.c.allocate(70);
                  }});
  // A free list whose first block is too small, its second just right.
  list.push_back({"allocate from the middle of a free list",
                  ProcessKind::driver,
                  [](Stage& s) {
                    for (u32 tries = 0; tries < 20; ++tries) {
                      u32 blocks[2];
                      u32 k = 0;
                      s.put(GRANULE_BYTES * 2);
                      for (u32 granules : {35, 34}) {
                        u32 o = s.put(granules * GRANULE_BYTES);
                        blocks[k++] = s.m.object(o).block;
                        s.list.push_back(o);
                        s.put(GRANULE_BYTES * 2);
                      }
                      for (u32 o : s.list) {
                        std::erase(s.held, o);
                        s.c.drop_local(o);
                        s.c.flush_drops();
                      }
                      s.list.clear();
                      Block& small = s.m.block(blocks[1]);
                      bool right = small.state == BLOCK_FREE && small.size == 34 && small.previous == NIL;
                      if (right && small.next == blocks[0] && s.m.block(blocks[0]).size == 35) return;
                    }
                  },
                  {},
                  {},
                  [](Stage& s) { s.c.allocate(35 * GRANULE_BYTES); }});
  list.push_back({"release of blocks",
                  ProcessKind::driver,
                  nothing,
                  [](Stage& s) {
                    for (u32 i = 0; i < 4; ++i) s.list.push_back(s.c.allocate(1 + s.random.below(20000)));
                    std::swap(s.list[1], s.list[s.random.below(4)]);
                  },
                  {},
                  [](Stage& s) {
                    for (u32 b : s.list) s.c.release_block(b);
                  }});
}

inline void add_drops(Situations& list) {
  for (u32 size : {10u, 500u})
    list.push_back({"last reference to " + std::to_string(size) + " bytes",
                    ProcessKind::driver,
                    nothing,
                    [=](Stage& s) {
                      for (u32 i = 0; i < 5; ++i) s.list.push_back(s.put(size));
                    },
                    {},
                    drop_all});
  for (u32 contained : {3u, 30u})
    list.push_back({"last reference to a value with " + std::to_string(contained) + " ids",
                    ProcessKind::driver,
                    nothing,
                    [=](Stage& s) {
                      std::vector<u32> inner = some_objects(s, contained, 80);
                      s.list = {s.put(300, inner)};
                      for (u32 o : inner)
                        if (s.random.below(4)) s.c.drop_local(o);
                      s.c.flush_drops();
                    },
                    {},
                    drop_all});
  list.push_back({"last reference to a chain of 40",
                  ProcessKind::driver,
                  nothing,
                  [](Stage& s) {
                    u32 o = s.put(100);
                    for (u32 i = 0; i < 40; ++i) {
                      u32 outer = s.put(i % 2 ? 5 : 100, {o});
                      s.c.drop_local(o);
                      o = outer;
                    }
                    s.c.flush_drops();
                    s.list = {o};
                  },
                  {},
                  drop_all});
  list.push_back({"drop of what the parent holds too",
                  ProcessKind::driver,
                  [](Stage& s) { s.list = some_objects(s, 4, 100); },
                  [](Stage& s) { s.list = take_all(s, s.list); },
                  {},
                  drop_all});
  list.push_back({"drop of one's own that the parent has taken", ProcessKind::driver, nothing,
                  [](Stage& s) {
                    s.list = some_objects(s, 2, 100);
                    s.tell_id(0, s.list[0]);
                    s.tell_id(1, s.list[1]);
                  },
                  [](Stage& s) {
                    s.hear_id(0);
                    s.hear_id(1);
                  },
                  drop_all});
  list.push_back({"drop of a reserved id",
                  ProcessKind::driver,
                  nothing,
                  [](Stage& s) { s.list = {s.c.reserve()}; },
                  {},
                  drop_all});
  Situation broken{"drop of a reserved id that others wait for",
                   ProcessKind::driver,
                   nothing,
                   [](Stage& s) {
                     s.x = s.c.reserve();
                     s.tell_id(0, s.x);
                   },
                   [](Stage& s) {
                     u32 o = s.hear_id(0);
                     wait::watch(s.m, s.c.thread(), o);
                     s.watched = o;
                     Options on;
                     on.deps = {o};
                     for (u32 i = 0; i < 3; ++i) s.task(Act::value, 0, on);
                   },
                   [](Stage& s) {
                     s.c.drop_local(s.x);
                     s.c.flush_drops();
                   }};
  broken.after = [](Stage& s) {
    if (!s.c.ready(s.watched) || s.m.object(s.watched).format != FORMAT_SYSTEM)
      s.board.complain("who waits for a promise that was dropped is not told");
  };
  list.push_back(broken);
  list.push_back({"drop of a reserved id that many threads have waited for",
                  ProcessKind::driver,
                  nothing,
                  [](Stage& s) {
                    s.list = {s.c.reserve()};
                    for (u32 i = 0; i < 12; ++i) {
                      u32 th;
                      {
                        Transaction t(s.m, NIL);
                        th = process::add_thread(t, s.c.process(), false);
                        t.commit();
                      }
                      wait::watch(s.m, th, s.list[0]);
                    }
                  },
                  {},
                  drop_all});
  list.push_back({"drop of ids of tasks that wait",
                  ProcessKind::driver,
                  [](Stage& s) { s.x = s.pending(); },
                  [](Stage& s) {
                    u32 o = s.take(s.x);
                    Options on;
                    on.deps = {o};
                    on.returns = 3;
                    s.list = s.submit({Act::many, s.new_tag(), 1, 100}, on);
                  },
                  {},
                  drop_all});
}

inline void add_references(Situations& list) {
  list.push_back(
      {"resolve", ProcessKind::driver, [](Stage& s) { s.x = s.put(50); }, {}, {}, [](Stage& s) { s.take(s.x); }});
  list.push_back({"resolve of what only a value holds",
                  ProcessKind::driver,
                  [](Stage& s) {
                    s.x = s.put(50);
                    s.put(5, {s.x});
                    s.c.drop_local(s.x);
                    std::erase(s.held, s.x);
                    s.c.flush_drops();
                  },
                  {},
                  {},
                  [](Stage& s) { s.take(s.x); }});
  list.push_back({"pin and unpin",
                  ProcessKind::driver,
                  [](Stage& s) { s.x = s.put(50000); },
                  [](Stage& s) {
                    s.take(s.x);
                    s.y = s.put(40000);
                  },
                  {},
                  [](Stage& s) {
                    s.c.pin(s.x);
                    s.c.pin(s.y);
                    s.c.unpin(s.x);
                    s.c.drop_local(s.x);
                    s.c.flush_drops();
                  }});
  list.push_back({"reserve", ProcessKind::driver, nothing, {}, {}, [](Stage& s) { s.c.reserve(); }});
  for (u32 contained : {0u, 30u})
    list.push_back({"seal with " + std::to_string(contained) + " ids, 20 tasks and 20 watches waiting",
                    ProcessKind::driver, [=](Stage& s) { s.list = some_objects(s, contained); },
                    [](Stage& s) {
                      s.x = s.c.reserve();
                      s.tell_id(0, s.x);
                      s.list = take_all(s, s.list);
                      value_of_size(s, 300);
                    },
                    [](Stage& s) {
                      u32 o = s.hear_id(0);
                      wait::watch(s.m, s.c.thread(), o);
                      s.watched = o;
                      Options on;
                      on.deps = {o};
                      for (u32 i = 0; i < 20; ++i) s.task(Act::value, 0, on);
                      s.watchers(o, 20);
                    },
                    [](Stage& s) { s.c.seal(s.x, Value{s.bytes.back().data(), 300, NIL, FORMAT_TEST}, s.list); }});
  list.push_back({"seal of what has a value",
                  ProcessKind::driver,
                  nothing,
                  [](Stage& s) { s.x = s.put(5); },
                  {},
                  [](Stage& s) { s.c.seal(s.x, Value{nullptr, 0, NIL, FORMAT_TEST}, {}); }});
}

inline void add_waits(Situations& list) {
  auto pending = [](Stage& s) {
    for (u32 i = 0; i < 5; ++i) s.list.push_back(s.pending());
    s.watchers(s.list[0], s.random.below(3));
  };
  auto own = [](Stage& s) { s.list = take_all(s, s.list); };
  auto in_vain = [](auto wait) {
    return [=](Stage& s) {
      try {
        wait(s);
      } catch (const WaitTimeout&) {
      }
    };
  };
  list.push_back({"wait for one", ProcessKind::driver, pending, own, {}, in_vain([](Stage& s) {
                    s.c.wait_for(s.list[0], wait::Deadline(1));
                  })});
  list.push_back({"wait for all", ProcessKind::driver, pending, own, {}, in_vain([](Stage& s) {
                    s.c.wait_all(s.list, wait::Deadline(1));
                  })});
  list.push_back({"wait for some", ProcessKind::driver, pending, own, {}, in_vain([](Stage& s) {
                    s.c.wait_some(s.list, 2, wait::Deadline(1));
                  })});
}

inline void add_journal(Situations& list) {
  for (u32 size : {30u, 300u})
    list.push_back({"journal entry of " + std::to_string(size) + " bytes",
                    ProcessKind::driver,
                    nothing,
                    [=](Stage& s) { s.x = u32(value_of_size(s, size).size); },
                    {},
                    [](Stage& s) { s.c.journal(JournalKind::note, s.bytes.back().data(), s.x); }});
  list.push_back({"reading the journal",
                  ProcessKind::driver,
                  [](Stage& s) {
                    std::vector<u8> bytes = bytes_of(1, 300);
                    s.x = u32(s.h.journal_last);
                    for (u32 i = 0; i < 6; ++i) s.c.journal(JournalKind::note, bytes.data(), i % 2 ? 30 : 300);
                  },
                  {},
                  {},
                  [](Stage& s) {
                    std::vector<JournalItem> items;
                    s.c.journal_read(s.x, 0, items);
                    if (items.size() != 6) s.board.complain("read %zu entries, not 6", items.size());
                    for (auto& item : items)
                      if (item.object) s.c.drop_local(item.object);
                    s.c.flush_drops();
                  }});
}

// Every later entry takes the place of an old one, and lets its object go.
inline void fill_journal(Stage& s) {
  std::vector<u8> bytes = bytes_of(1, 300);
  while (s.h.journal_last < JOURNAL_ENTRIES + 8)
    s.c.journal(JournalKind::note, bytes.data(), s.h.journal_last % 4 ? 300 : 30);
}

inline void add_full_journal(Situations& list) {
  for (u32 size : {30u, 300u})
    list.push_back({"journal entry of " + std::to_string(size) + " bytes in the place of an old one",
                    ProcessKind::driver,
                    fill_journal,
                    [=](Stage& s) { value_of_size(s, size); },
                    {},
                    [=](Stage& s) { s.c.journal(JournalKind::note, s.bytes.back().data(), size); }});
  list.push_back({"reading a journal that has gone on", ProcessKind::driver, fill_journal, {}, {}, [](Stage& s) {
                    std::vector<JournalItem> items;
                    u64 place = s.c.journal_read(0, 0, items);
                    if (items.empty() || place != items.back().sequence || items[0].sequence < 2)
                      s.board.complain("read %zu entries up to %llu", items.size(),
                                       static_cast<unsigned long long>(place));
                  }});
}

inline void add_object_situations(Situations& list) {
  add_puts(list);
  add_drops(list);
  add_references(list);
  add_waits(list);
  add_journal(list);
  add_full_journal(list);
}

}  // namespace ray::testing
