// What a process knows of its own references: stale ids, keys of other sessions, forks, pins that outlive the
// session, and counts that stay right however often an id is taken up and dropped.

#include "stage.hpp"

namespace ray::testing::references_test {
namespace {

Mapping* make_arena() {
  ArenaOptions o;
  o.heap_bytes = 4 << 20;
  o.resources[CPU] = UNIT;
  return Mapping::create(o);
}

Value small(u8& byte) { return Value{&byte, 1, NIL, FORMAT_TEST}; }

void stale_ids() {
  Client c(make_arena());
  c.enter(ProcessKind::driver, nullptr);
  u8 byte = 1;
  u32 o = c.put(small(byte), {});
  u8 id[ID_BYTES];
  memcpy(id, c.m().object(o).id, ID_BYTES);
  u64 key = object::key(c.m(), o);
  expect(c.resolve(id, key) == o, "an id resolves by its key");
  c.drop_local(o);
  expect(c.resolve(id, 0) == o, "an id resolves without its key");
  c.drop_local(o);
  c.drop_local(o);
  // Dropped, but not yet told to the arena: it may be taken up again.
  expect(c.resolve(id, key) == o, "an id that is being dropped is taken up again");
  c.flush_drops();
  expect(c.m().object(o).references == 1, "one reference is left");
  c.drop_local(o);
  c.flush_drops();
  expect(c.resolve(id, key) == NIL, "an id of a gone object resolves to nothing");
  u32 other = c.put(small(byte), {});
  expect(other == o, "the record is used again");
  expect(c.resolve(id, key) == NIL, "an old id is not the record's next object");
  // A key from elsewhere that happens to fit: the id decides.
  expect(c.resolve(id, object::key(c.m(), other)) == NIL, "a key of another session does not count");
  expect_whole(c.m(), "stale ids");
}

void many_references(Random& random, u32 steps) {
  Client c(make_arena());
  c.enter(ProcessKind::driver, nullptr);
  u8 byte = 1;
  struct Known {
    u32 object;
    u32 count;
    u8 id[ID_BYTES];
  };
  std::vector<Known> known;
  u64 before = c.header().objects.used;
  for (u32 i = 0; i < steps; ++i) {
    u32 what = random.below(10);
    if (known.size() < 20 || what == 0) {
      Known k{c.put(small(byte), {}), 1, {}};
      memcpy(k.id, c.m().object(k.object).id, ID_BYTES);
      known.push_back(k);
      continue;
    }
    Known& k = known[random.below(u32(known.size()))];
    if (what < 5) {
      u64 key = random.coin() ? object::key(c.m(), k.object) : 0;
      expect(c.resolve(k.id, key) == k.object, "a held id resolves");
      ++k.count;
    } else {
      c.drop_local(k.object);
      if (--k.count == 0) {
        k = known.back();
        known.pop_back();
      }
    }
    if (i % 100 == 0) {
      c.flush_drops();
      expect(c.header().objects.used - before == known.size(), "as many objects as are referred to");
    }
  }
  expect_whole(c.m(), "many references");
}

void forked_children() {
  Client c(make_arena());
  c.enter(ProcessKind::driver, nullptr);
  u8 byte = 1;
  u32 o = c.put(small(byte), {});
  u64 recoveries = c.header().recoveries;
  pid_t child = start([&] {
    try {
      c.put(small(byte), {});
      _exit(10);
    } catch (const Forked&) {
    }
    // What the parent's objects do at their end in the child changes nothing.
    c.drop_local(o);
    c.flush_drops();
    c.leave();
    c.enter(ProcessKind::driver, nullptr);
    u32 mine = c.put(small(byte), {});
    u8 id[ID_BYTES];
    memcpy(id, c.m().object(o).id, ID_BYTES);
    if (c.resolve(id, 0) != o) _exit(11);
    c.drop_local(mine);
    c.leave();
  });
  int status = await(child);
  expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a fork is told, and may enter by itself");
  expect(c.m().object(o).references == 1 && c.owns(o, c.m().object(o).serial), "the parent's reference is untouched");
  expect(c.header().processes.used == 1 && c.header().recoveries == recoveries, "the child has left");
  expect_whole(c.m(), "forks");
}

// What a process still uses when it leaves stays where it is until it is let go.
void pins() {
  Client c(make_arena());
  c.enter(ProcessKind::driver, nullptr);
  u64 used = c.header().heaps[HEAP].used;
  std::vector<u8> bytes = bytes_of(1, 20'000);
  auto big = [&] { return c.put(Value{nullptr, bytes.size(), block_with(c, bytes), FORMAT_TEST}, {}); };
  u32 kept = big(), gone = big();
  const u8* data = c.data_for_reading(kept);
  c.pin(kept);
  c.pin(kept);
  c.pin(gone);
  c.unpin(gone);
  c.leave();
  expect(c.header().heaps[HEAP].used == used + (bytes.size() + 63) / 64, "only what is used is kept");
  expect(c.header().processes.used == 1, "a process with views is remembered");
  bool same = true;
  for (size_t i = 0; i < bytes.size(); ++i) same &= data[i] == bytes[i];
  expect(same, "a view reads what it read before");
  c.unpin(kept);
  expect(c.header().processes.used == 1, "one view of two is left");
  c.unpin(kept);
  expect(c.header().processes.used == 0 && c.header().heaps[HEAP].used == used, "the last view takes all with it");
  expect_whole(c.m(), "pins");
}

// Leaving takes time in proportion to what is held, pinned or not.
void many_pins() {
  Client c(make_arena());
  c.enter(ProcessKind::driver, nullptr);
  u8 byte = 1;
  std::vector<u32> pinned;
  for (u32 i = 0; i < 200'000; ++i) {
    u32 o = c.put(small(byte), {});
    if (i % 2) continue;
    c.pin(o);
    pinned.push_back(o);
  }
  u64 from = now_ns();
  c.leave();
  u64 took_ms = (now_ns() - from) / 1'000'000;
  printf("leaving with %zu pins: %llu ms\n", pinned.size(), static_cast<unsigned long long>(took_ms));
  expect(took_ms < 5000, "leaving with many pins is soon done");
  expect(c.header().objects.used == pinned.size(), "what is not pinned goes");
  for (u32 o : pinned) c.unpin(o);
  expect(!c.header().objects.used && !c.header().processes.used, "everything goes with its pins");
  expect_whole(c.m(), "many pins");
}

int run(const char*) {
  Random random(run_seed("references"));
  stale_ids();
  for (u32 i = 0; i < (short_form() ? 3u : 30u); ++i) many_references(random, 20'000);
  forked_children();
  pins();
  many_pins();
  return result("references");
}

const Test test{"references", run};

}  // namespace
}  // namespace ray::testing::references_test
