// A store filled to several times its size by several threads, which read, drop and spill each other's values.

#include "orders.hpp"

#include <deque>
#include <sys/mman.h>
#include <thread>

namespace ray::testing::spilling_test {
namespace {

constexpr u64 HEAP_SIZE = 4 << 20, FILE_SIZE = 64 << 20;
constexpr u32 SLOTS = 80, THREADS = 4, PINS = 8;

Mapping* make_arena() {
  ArenaOptions o;
  o.heap_bytes = HEAP_SIZE;
  return Mapping::create(o);
}

void give_file(Client& c) {
  int fd = memfd_create("spill", MFD_CLOEXEC);
  c.set_spill_file(fd, FILE_SIZE);
  close(fd);
}

u32 put(Client& c, u32 tag, u32 size) {
  Value v{nullptr, size, block_with(c, bytes_of(tag, size)), FORMAT_TEST};
  v.kept_at = &v.block;
  try {
    return c.put(v, {});
  } catch (...) {
    if (v.block) c.release_block(v.block);
    throw;
  }
}

// What each slot has: the id of a value, which its bytes are made of.
struct Slot {
  std::mutex lock{};
  u8 id[ID_BYTES] = {};
  u32 tag = 0, size = 0;
};
struct Shelf {
  Slot slots[SLOTS];
  std::atomic<u32> tags{0}, full{0}, wrong{0};
};

class Hand {
 public:
  Hand(Client& client, Shelf& all, u64 seed) : c_(client), shelf_(all), random_(seed) {}
  ~Hand() {
    while (!pinned_.empty()) unpin_oldest();
    for (auto [slot, o] : own_) c_.drop_local(o);
    c_.flush_drops();
  }

  void something() {
    try {
      switch (random_.below(8)) {
        case 0:
        case 1: return replace();
        case 2: c_.spill(random_.below(1 << 20)); return;
        case 3: c_.trim_spill_file(1 << 20); return;
        case 4: return copy();
        default: return read();
      }
    } catch (const StoreFull&) {
      shelf_.full += 1;
    }
  }

 private:
  void replace() {
    u32 n = random_.below(SLOTS), tag = ++shelf_.tags, size = 5000 + random_.below(200'000);
    u32 o = put(c_, tag, size);
    auto found = own_.find(n);
    {
      std::lock_guard lock(shelf_.slots[n].lock);
      Slot& slot = shelf_.slots[n];
      memcpy(slot.id, c_.m().object(o).id, ID_BYTES);
      slot.tag = tag, slot.size = size;
    }
    if (found != own_.end()) c_.drop_local(found->second);
    own_[n] = o;
  }

  struct Taken {
    u32 object = NIL, tag = 0, size = 0;
  };
  // A slot's value, held; none if whoever put it has dropped it since.
  Taken take() {
    Slot& slot = shelf_.slots[random_.below(SLOTS)];
    u8 id[ID_BYTES];
    Taken taken;
    {
      std::lock_guard lock(slot.lock);
      memcpy(id, slot.id, ID_BYTES);
      taken.tag = slot.tag, taken.size = slot.size;
    }
    if (taken.size) taken.object = c_.resolve(id, 0);
    return taken;
  }
  void look(const Taken& taken, const u8* data) {
    for (u32 i = 0; i < taken.size; i += 1 + random_.below(500))
      if (data[i] != pattern(taken.tag, i)) shelf_.wrong += 1;
  }
  void read() {
    Taken taken = take();
    if (!taken.object) return;
    try {
      c_.pin(taken.object);
    } catch (...) {
      c_.drop_local(taken.object);
      throw;
    }
    pinned_.push_back(taken);
    if (pinned_.size() > PINS) unpin_oldest();
  }
  void unpin_oldest() {
    Taken taken = pinned_.front();
    pinned_.pop_front();
    look(taken, c_.data_for_reading(taken.object));
    c_.unpin(taken.object);
    c_.drop_local(taken.object);
  }
  void copy() {
    Taken taken = take();
    if (!taken.object) return;
    std::vector<u8> bytes(taken.size);
    c_.copy_value(taken.object, bytes.data());
    look(taken, bytes.data());
    c_.drop_local(taken.object);
  }

  Client& c_;
  Shelf& shelf_;
  Random random_;
  std::map<u32, u32> own_;
  std::deque<Taken> pinned_;
};

void look_at_the_end(Mapping& pages, Shelf& shelf, const char* how) {
  Client c(Mapping::beside(pages));
  c.enter(ProcessKind::driver, nullptr);
  Header& h = c.header();
  expect(!shelf.wrong, "values are what they were");
  expect(h.spilled_bytes > HEAP_SIZE && h.restored_bytes > 0, "values went and came back");
  expect(!h.heaps[HEAP].used && !h.heaps[SPILL_FILE].used, "nothing is left");
  expect_whole(c.m(), how);
  printf("%s: %u values, %llu MiB spilled, %llu MiB brought back, refused %u times\n", how, shelf.tags.load(),
         static_cast<unsigned long long>(h.spilled_bytes >> 20),
         static_cast<unsigned long long>(h.restored_bytes >> 20), shelf.full.load());
}

// A client for every thread.
void apart(u64 seed, u32 steps) {
  std::unique_ptr<Mapping> pages(make_arena());
  Shelf shelf;
  std::vector<std::thread> threads;
  {
    Client keeper(Mapping::beside(*pages));
    keeper.enter(ProcessKind::driver, nullptr);
    give_file(keeper);
    for (u32 k = 0; k < THREADS; ++k)
      threads.emplace_back([&, k] {
        Client c(Mapping::beside(*pages));
        u8 root[ID_BYTES] = {u8(k + 1)};
        c.enter(ProcessKind::driver, root);
        {
          Hand hand(c, shelf, seed + k);
          for (u32 i = 0; i < steps; ++i) hand.something();
        }
        c.leave();
      });
    for (std::thread& t : threads) t.join();
    keeper.leave();
  }
  look_at_the_end(*pages, shelf, "apart");
}

// --- one client for all threads, under the host's lock -------------------------------------------------

void together(u64 seed, u32 steps) {
  std::unique_ptr<Mapping> pages(make_arena());
  Shelf shelf;
  HostLock lock;
  {
    Client c(Mapping::beside(*pages));
    u8 root[ID_BYTES] = {77};
    HostLock::take();
    c.enter(ProcessKind::driver, root);
    give_file(c);
    HostLock::let_go();
    std::vector<std::thread> threads;
    for (u32 k = 0; k < THREADS; ++k)
      threads.emplace_back([&, k] {
        HostLock::take();
        {
          Hand hand(c, shelf, seed + k);
          for (u32 i = 0; i < steps; ++i) hand.something();
        }
        HostLock::let_go();
      });
    for (std::thread& t : threads) t.join();
    HostLock::take();
    c.leave();
    HostLock::let_go();
  }
  look_at_the_end(*pages, shelf, "together");
}

// Whoever is refused has looked at each object once, not more often.
void refusals() {
#ifdef RAY_CRASH_POINTS
  Client c(make_arena());
  c.enter(ProcessKind::driver, nullptr);
  give_file(c);
  constexpr u32 MANY = 40 * SPILL_LOOK;
  for (u32 i = 0; i < MANY; ++i) c.put(Value{nullptr, 0, NIL, FORMAT_TEST}, {});
  c.allocate(HEAP_SIZE / 2);
  crash::kill_at_step = 1l << 60;
  auto steps_of = [](auto work) {
    crash::steps_taken = 0;
    work();
    return crash::steps_taken;
  };
  long one_look = steps_of([&] {
    Transaction t(c.m(), c.thread());
    spill::choose(t, c.process());
    t.commit();
  });
  long all = steps_of([&] {
    try {
      c.allocate(HEAP_SIZE / 2 + 1);
      expect(false, "there is room for more than all");
    } catch (const StoreFull& full) {
      expect(full.nothing_may_go, "who is refused learns that nothing may go");
    }
  });
  crash::kill_at_step = -1;
  expect(all < one_look * (MANY / SPILL_LOOK + 10), "a refusal looks at every object once");
  printf("a refusal: %ld steps, one look has %ld\n", all, one_look);
#endif
}

int run(const char*) {
  u64 seed = run_seed("spilling");
  u32 steps = short_form() ? 1000 : 20'000;
  apart(seed, steps);
  together(seed + 100, steps);
  refusals();
  return result("spilling");
}

const Test test{"spilling", run};

}  // namespace
}  // namespace ray::testing::spilling_test
