// The heap against a model: random allocation and release, exact fits, a full heap that becomes whole again,
// and operations that a full heap or table stops half-way.

#include "stage.hpp"

#include <functional>

namespace ray::testing::heap_test {
namespace {

struct Arena {
  Client c;
  explicit Arena(u64 heap_bytes) : c(make(heap_bytes)) { c.enter(ProcessKind::driver, nullptr); }
  static Mapping* make(u64 heap_bytes) {
    ArenaOptions o;
    o.heap_bytes = heap_bytes;
    o.resources[CPU] = 4 * UNIT;
    return Mapping::create(o);
  }
  u64 used() { return u64(c.header().heaps[HEAP].used) * GRANULE_BYTES; }
  bool is_one_piece() {
    const Block& first = c.m().block(1);
    return first.state == BLOCK_FREE && first.size == c.header().heaps[HEAP].capacity && c.header().blocks.used == 1;
  }
};

// Sizes of many magnitudes, now and then a whole number of granules.
u64 some_size(Random& random, u64 most) {
  u64 size = 1 + random.next() % (1ull << (1 + random.below(63 - u32(std::countl_zero(most)))));
  if (random.below(4) == 0) size = (size + GRANULE_BYTES - 1) / GRANULE_BYTES * GRANULE_BYTES;
  return size;
}

// What the model knows: where each block lies, and what was written into it.
void against_model(Random& random, u32 steps) {
  constexpr u64 HEAP_BYTES = 4 << 20;
  Arena a(HEAP_BYTES);
  struct Held {
    u32 block;
    u64 offset, size;
    u8 mark;
  };
  std::vector<Held> held;
  std::map<u64, u64> taken;  // offset -> end, in bytes
  u64 model_used = 0;
  u32 full = 0;
  auto drop = [&](size_t k) {
    Held& h = held[k];
    const u8* bytes = a.c.m().heap_for_reading(h.offset);
    for (u64 i = 0; i < h.size; i += 1 + h.size / 16)
      if (bytes[i] != u8(h.mark + i)) return expect(false, "a block's bytes were changed by another's");
    a.c.release_block(h.block);
    model_used -= taken[h.offset] - h.offset;
    taken.erase(h.offset);
    held[k] = held.back();
    held.pop_back();
  };
  for (u32 step = 0; step < steps && !failures; ++step) {
    bool grow = held.empty() || random.below(100) < (step / 2000 % 2 ? 60u : 42u);
    if (grow) {
      u64 size = some_size(random, step % 5 ? 32768 : 1 << 20);
      u32 b = NIL;
      try {
        b = a.c.allocate(size);
      } catch (const StoreFull& e) {
        ++full;
        expect(e.wanted_bytes == size && e.capacity_bytes == HEAP_BYTES && e.used_bytes == model_used,
               "a full heap names the wrong sizes");
        if (!held.empty()) drop(random.below(u32(held.size())));
        continue;
      }
      u64 offset = u64(a.c.m().block(b).offset) * GRANULE_BYTES;
      u64 end = offset + (size + GRANULE_BYTES - 1) / GRANULE_BYTES * GRANULE_BYTES;
      auto after = taken.lower_bound(offset);
      expect(end <= HEAP_BYTES, "a block reaches beyond the heap");
      expect(after == taken.end() || after->first >= end, "a block overlaps the one after it");
      expect(after == taken.begin() || std::prev(after)->second <= offset, "a block overlaps the one before it");
      taken[offset] = end;
      model_used += end - offset;
      u8 mark = u8(random.next());
      std::vector<u8> bytes(size);
      for (u64 i = 0; i < size; ++i) bytes[i] = u8(mark + i);
      a.c.write_block(b, 0, bytes.data(), size);
      held.push_back({b, offset, size, mark});
    } else {
      drop(random.below(u32(held.size())));
    }
    expect(a.used() == model_used, "the heap counts what is used wrongly");
    if (step % 512 == 0) expect_whole(a.c.m(), "against the model");
  }
  while (!held.empty()) drop(random.below(u32(held.size())));
  expect(a.is_one_piece(), "the heap is not one piece when all is released");
  expect_whole(a.c.m(), "after the model");
  printf("against a model: %u steps, %u times full\n", steps, full);
}

void exact_fits() {
  Arena a(1 << 20);
  u32 whole = a.c.allocate(1 << 20);
  expect(a.used() == 1 << 20, "the whole heap can be had in one block");
  try {
    a.c.allocate(1);
    expect(false, "a full heap gave more");
  } catch (const StoreFull&) {
  }
  a.c.release_block(whole);
  try {
    a.c.allocate((1 << 20) + 1);
    expect(false, "a heap gave more than it has");
  } catch (const StoreFull&) {
  }
  // Each granule once; then every second is freed, and blocks of one granule fit exactly there.
  std::vector<u32> all;
  for (u32 i = 0; i < (1 << 20) / GRANULE_BYTES; ++i) all.push_back(a.c.allocate(GRANULE_BYTES));
  expect(a.used() == 1 << 20, "granules fill the heap");
  for (size_t i = 0; i < all.size(); i += 2) a.c.release_block(all[i]);
  try {
    a.c.allocate(GRANULE_BYTES + 1);
    expect(false, "two granules were found in a heap of single holes");
  } catch (const StoreFull&) {
  }
  for (size_t i = 0; i < all.size(); i += 2) all[i] = a.c.allocate(GRANULE_BYTES);
  for (u32 b : all) a.c.release_block(b);
  expect(a.is_one_piece(), "the heap is not one piece after single granules");
  expect_whole(a.c.m(), "exact fits");
  // The same size again and again comes from the same, warm place.
  u32 first = a.c.allocate(5000);
  u32 offset = a.c.m().block(first).offset;
  for (u32 i = 0; i < 10; ++i) {
    a.c.release_block(first);
    first = a.c.allocate(5000);
    expect(a.c.m().block(first).offset == offset, "warm memory is not handed out first");
  }
  a.c.release_block(first);
}

// --- operations that are stopped half-way -------------------------------------------------------------

enum class Scarce { heap, objects, tasks, edges, holds, watches, blocks, actors, lanes, threads, last };

Pool& pool_of(Header& h, Scarce s) {
  switch (s) {
    case Scarce::objects: return h.objects;
    case Scarce::tasks: return h.tasks;
    case Scarce::edges: return h.edges;
    case Scarce::holds: return h.holds;
    case Scarce::watches: return h.watches;
    case Scarce::blocks: return h.blocks;
    case Scarce::actors: return h.actors;
    case Scarce::lanes: return h.lanes;
    default: return h.threads;
  }
}

struct Half {
  const char* name;
  std::function<void(Client&, std::vector<u32>& args)> work;
};

Submission submission_of(u32 function, u32 shape, std::vector<u8>& payload, std::span<const u32> deps, u32 returns) {
  payload = bytes_of(3, 600);
  Submission s;
  s.function = function;
  s.payload = payload.data();
  s.payload_bytes = payload.size();
  s.deps = deps;
  s.nested = deps.subspan(0, deps.size() / 2);
  s.num_returns = returns;
  s.shape = shape;
  return s;
}

// Runs `half` with only `spare` records or blocks left; then everything must be as before.
bool stopped_half_way(const Half& half, Scarce scarce, u32 spare) {
  Arena a(1 << 20);
  Client& c = a.c;
  Header& h = c.header();
  std::vector<u32> args;
  for (u32 i = 0; i < 30; ++i) args.push_back(i % 2 ? c.reserve() : c.put(Value{nullptr, 0, NIL, FORMAT_TEST}, {}));
  u8 byte = 1;
  args.push_back(c.put(Value{&byte, 1, NIL, FORMAT_TEST}, {}));  // the function
  resources::Needs need = {UNIT, 0, 0};
  args.push_back(c.shape(need));
  auto before = statistics(c.m());
  u32 filler = NIL;
  u32 capacity = 0;
  if (scarce == Scarce::heap) {
    filler = c.allocate((1 << 20) - u64(spare) * 320 - 64);
  } else {
    Pool& pool = pool_of(h, scarce);
    capacity = pool.capacity;
    pool.capacity = pool.high_water + 1 + spare;
  }
  bool stopped = false;
  try {
    half.work(c, args);
  } catch (const StoreFull&) {
    stopped = true;
  } catch (const TableFull&) {
    stopped = true;
  }
  expect_whole(c.m(), half.name);
  if (capacity) pool_of(h, scarce).capacity = capacity;
  else c.release_block(filler);
  if (stopped) {
    // Local counts must be right too: what is dropped now is gone, and nothing else.  An abandoned task goes when
    // the arguments it waited for have come.
    for (u32 i = 0; i < 30; ++i) c.seal(args[i], Value{nullptr, 0, NIL, FORMAT_TEST}, {});
    c.flush_drops();
    c.drain();
    auto after = statistics(c.m());
    for (size_t i = 0; i < before.size(); ++i)
      if (before[i].second != after[i].second && before[i].first != "heap_touched_bytes" &&
          before[i].first != "heap_blocks" && before[i].first != "journal_last") {
        printf("FAILED: %s, stopped with %u to spare of kind %u: %s was %lld, is %lld\n", half.name, spare, u32(scarce),
               before[i].first.c_str(), static_cast<long long>(before[i].second),
               static_cast<long long>(after[i].second));
        ++failures;
      }
    expect_whole(c.m(), half.name);
  }
  return stopped;
}

void half_way() {
  std::vector<Half> list;
  auto args_of = [](std::vector<u32>& args, size_t n) { return std::span<const u32>(args.data(), n); };
  for (size_t n : {size_t(3), size_t(30)}) {
    for (u64 size : {50ull, 900ull})
      list.push_back({n == 3 ? "put with 3 ids" : "put with 30 ids", [=](Client& c, std::vector<u32>& args) {
                        std::vector<u8> bytes = bytes_of(1, size);
                        c.put(Value{bytes.data(), size, NIL, FORMAT_TEST}, args_of(args, n));
                      }});
    for (u32 returns : {1u, 20u})
      list.push_back(
          {n == 3 ? "submit with 3 arguments" : "submit with 30 arguments", [=](Client& c, std::vector<u32>& args) {
             std::vector<u8> payload;
             std::vector<u32> out;
             c.submit(submission_of(args[30], args[31], payload, args_of(args, n), returns), out);
           }});
    list.push_back({"create an actor", [=](Client& c, std::vector<u32>& args) {
                      std::vector<u8> payload;
                      c.create_actor(submission_of(args[30], args[31], payload, args_of(args, n), 0), 1);
                    }});
    list.push_back({"create and call an actor", [=](Client& c, std::vector<u32>& args) {
                      std::vector<u8> payload;
                      std::vector<u32> out;
                      u32 o = c.create_actor(submission_of(args[30], args[31], payload, {}, 0), 1);
                      try {
                        c.call(o, submission_of(NIL, NIL, payload, args_of(args, n), u32(n)), out);
                      } catch (...) {
                        c.drop_local(o);
                        c.flush_drops();
                        // Nobody will run the creation here: end it as its worker would.
                        Transaction t(c.m(), c.thread());
                        u32 i = queue::pop(t, args[31]);
                        t.set(c.m().actor(c.m().task(i).actor).creation, NIL);
                        mailbox::die(t, c.m().task(i).actor, SystemFailure::actor_killed, 0, 0);
                        task::drop(t, i);
                        t.commit();
                        c.drain();
                        throw;
                      }
                    }});
    list.push_back({"seal with ids", [=](Client& c, std::vector<u32>& args) {
                      u32 o = c.reserve();
                      std::vector<u8> bytes = bytes_of(1, 300);
                      try {
                        c.seal(o, Value{bytes.data(), 300, NIL, FORMAT_TEST}, args_of(args, n));
                      } catch (...) {
                        c.drop_local(o);
                        throw;
                      }
                    }});
  }
  list.push_back({"journal", [](Client& c, std::vector<u32>&) {
                    std::vector<u8> bytes = bytes_of(1, 700);
                    c.journal(JournalKind::note, bytes.data(), 700);
                  }});
  list.push_back({"wait", [](Client& c, std::vector<u32>& args) {
                    try {
                      c.wait_some(args, 20, wait::Deadline(0));
                    } catch (const WaitTimeout&) {
                    }
                  }});
  u32 rounds = 0, stops = 0;
  for (const Half& half : list)
    for (u32 s = 0; s < u32(Scarce::last); ++s) {
      // More and more to spare, until the operation is no longer stopped.
      for (u32 spare = 0; spare < 80; ++spare, ++rounds) {
        if (!stopped_half_way(half, Scarce(s), spare)) break;
        ++stops;
      }
      if (failures > 10) return;
    }
  printf("stopped half-way: %zu operations, %u rounds, %u stops\n", list.size(), rounds, stops);
}

// A process that waits for room is told when there is some, also if it came before the wait.
void room() {
  Arena a(1 << 20);
  u32 b = a.c.allocate(900'000);
  try {
    a.c.allocate(900'000);
    expect(false, "a full heap gave more");
  } catch (const StoreFull&) {
  }
  a.c.release_block(b);
  u64 began = now_ns();
  a.c.wait_room(5000);
  expect(now_ns() - began < 1'000'000'000, "room made before the wait was not seen");
  b = a.c.allocate(900'000);
  began = now_ns();
  a.c.wait_room(50);
  expect(now_ns() - began >= 50'000'000, "a wait for room ended with no room made");
}

int run(const char*) {
  Random random(run_seed("heap"));
  u32 rounds = short_form() ? 2 : 12;
  for (u32 i = 0; i < rounds; ++i) against_model(random, short_form() ? 12'000 : 40'000);
  exact_fits();
  room();
  half_way();
  return result("heap");
}

const Test test{"heap", run};

}  // namespace
}  // namespace ray::testing::heap_test
