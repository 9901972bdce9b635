// Threads over one arena: drivers and workers in one process, each with a client of its own, and one client
// shared by several threads as an interpreter shares it, under one lock that is let go for every sleep.
//
// All map the same pages at the same addresses, so that ThreadSanitizer sees every pair of accesses.

#include "orders.hpp"

#include <thread>

namespace ray::testing::threads_test {
namespace {

// --- what the drivers do ------------------------------------------------------------------------------

struct Driver {
  Client& c;
  Board& board;
  Random random;
  u32 function, cpu;
  std::atomic<u32>& next_tag;

  u32 submit(Act act, u32 number, u32 size, std::span<const u32> deps = {}, u32 returns = 1) {
    tag = next_tag.fetch_add(8) % (TAGS - 64);
    Order order{act, tag, number, size};
    Submission s;
    s.function = function;
    s.payload = reinterpret_cast<const u8*>(&order);
    s.payload_bytes = sizeof order;
    s.deps = deps;
    s.num_returns = returns;
    s.shape = cpu;
    s.max_retries = 3;
    c.submit(s, out);
    return out.empty() ? NIL : out[0];
  }
  void must_be(u32 o, u32 of, u32 size) {
    u32 v = c.value_of(o);
    const Object& object = c.m().object(v);
    const u8* data = c.data_for_reading(v);
    bool right = object.format == FORMAT_TEST && object.size_bytes == size;
    for (u32 i = 0; right && i < size; ++i) right = data[i] == pattern(of, i);
    if (!right) board.complain("task %u has the wrong result", of);
  }
  void one() {
    u32 size = random.coin() ? 8 : 3000;
    u32 o = submit(Act::value, 0, size);
    c.wait_for(o, wait::Deadline(-1));
    must_be(o, tag, size);
    c.drop_local(o);
  }
  void many() {
    std::vector<u32> all, tags;
    for (u32 i = 0; i < 40; ++i) {
      all.push_back(submit(Act::value, 0, 8));
      tags.push_back(tag);
    }
    if (random.coin()) {
      c.wait_all(all, wait::Deadline(-1));
    } else {
      for (u32 wanted = 1; wanted <= all.size(); wanted += 1 + random.below(8))
        c.wait_some(all, wanted, wait::Deadline(random.coin() ? -1 : 1));
      c.wait_all(all, wait::Deadline(-1));
    }
    for (size_t i = 0; i < all.size(); ++i) must_be(all[i], tags[i], 8);
    for (u32 o : all) c.drop_local(o);
  }
  void chain() {
    u32 o = c.reserve();
    u32 first = o;
    std::vector<u32> all;
    for (u32 i = 0; i < 6; ++i) {
      u32 deps[] = {o};
      o = submit(Act::value, 0, 100, deps);
      all.push_back(o);
    }
    u32 last = tag;
    u8 byte = 1;
    c.seal(first, Value{&byte, 1, NIL, FORMAT_TEST}, {});
    c.wait_for(o, wait::Deadline(-1));
    must_be(o, last, 100);
    c.drop_local(first);
    for (u32 x : all) c.drop_local(x);
  }
  void nested() {
    u32 o = submit(Act::many, 2, 300, {}, 3);
    u32 of = tag;
    std::vector<u32> all = out;
    c.wait_all(all, wait::Deadline(-1));
    for (u32 i = 0; i < 3; ++i) must_be(all[i], of + i, 300);
    (void)o;
    for (u32 x : all) c.drop_local(x);
    u32 s = submit(Act::spawn, 3, 20);
    of = tag;
    c.wait_for(s, wait::Deadline(-1));
    must_be(s, of, 20);
    c.drop_local(s);
  }
  void big() {
    std::vector<u8> bytes = bytes_of(9, 60'000);
    u32 b = block_with(c, bytes);
    u32 o = c.put(Value{nullptr, bytes.size(), b, FORMAT_TEST}, {});
    c.pin(o);
    must_be(o, 9, u32(bytes.size()));
    c.unpin(o);
    c.drop_local(o);
  }
  void actor() {
    Order order{Act::actor_new, 1, 0, 4};
    Submission s;
    s.function = function;
    s.payload = reinterpret_cast<const u8*>(&order);
    s.payload_bytes = sizeof order;
    s.shape = cpu;
    u32 a = c.create_actor(s, 0);
    std::vector<u32> all;
    order = {Act::actor_add, 2, 1, 0};
    for (u32 i = 0; i < 20; ++i) {
      c.call(a, s, out);
      all.push_back(out[0]);
    }
    c.wait_all(all, wait::Deadline(-1));
    for (u64 i = 0; i < all.size(); ++i) {
      u64 sum = 0;
      memcpy(&sum, c.data_for_reading(all[i]), 8);
      if (sum != i + 1)
        board.complain("call %llu gave %llu", static_cast<unsigned long long>(i + 1),
                       static_cast<unsigned long long>(sum));
    }
    for (u32 o : all) c.drop_local(o);
    c.drop_local(a);
    c.flush_drops();
  }
  void journal() {
    std::vector<u8> bytes = bytes_of(1, 200);
    c.journal(JournalKind::note, bytes.data(), random.coin() ? 30 : 200);
    std::vector<JournalItem> items;
    c.journal_read(place, 0, items);
    if (!items.empty()) place = items.back().sequence;
    for (auto& item : items)
      if (item.object) c.drop_local(item.object);
  }
  void something(bool actors) {
    switch (random.below(actors ? 8 : 7)) {
      case 0: return many();
      case 1: return chain();
      case 2: return nested();
      case 3: return big();
      case 4: return journal();
      case 5: (void)c.demand(); return one();
      case 7: return actor();
      default: return one();
    }
  }

  u32 tag = 0;
  u64 place = 0;
  std::vector<u32> out{};
};

Mapping* make_arena() {
  ArenaOptions o;
  o.heap_bytes = 64 << 20;
  o.resources[CPU] = 3 * UNIT;
  o.max_workers = 64;
  return Mapping::create(o);
}

struct Crew {
  Board& board;
  Mapping& pages;
  std::vector<std::thread> workers{};
  std::atomic<bool> over{false};
  std::thread forker{};
  std::atomic<u32> ended{0};  // workers

  // New workers when tasks are ready and nobody is idle, as the template does.
  void begin() {
    forker = std::thread([this] {
      Client c(Mapping::beside(pages));
      c.enter(ProcessKind::template_, nullptr);
      while (!over) {
        Demand d = c.demand();
        for (u32 i = d.idle; i < d.fitting && workers.size() < 400 && d.workers < 24; ++i, ++d.workers) add();
        c.wait_demand(5);
      }
      c.leave();
    });
  }
  void add() {
    workers.emplace_back([this] {
      try {
        Client c(Mapping::beside(pages));
        c.enter(ProcessKind::worker, nullptr);
        serve(c, board);
      } catch (const ArenaClosed&) {
      }
      ended += 1;
    });
  }
};

void drive(Client& c, Board& board, u64 seed, u32 rounds, bool actors) {
  static std::atomic<u32> next_tag{64};
  resources::Needs need = {UNIT, 0, 0};
  u32 function = c.put(Value{nullptr, 0, NIL, FORMAT_TEST}, {});
  Driver driver{c, board, Random(seed), function, c.shape(need), next_tag};
  for (u32 i = 0; i < rounds && !board.trouble; ++i) driver.something(actors);
  c.drop_local(function);
  c.flush_drops();
}

void end_and_compare(Board& board, Mapping& pages, Crew& crew) {
  Client c(Mapping::beside(pages));
  c.enter(ProcessKind::node_manager, nullptr);
  crew.over = true;
  crew.forker.join();
  while (crew.ended < crew.workers.size()) {  // one may not even have joined
    c.retire(64);
    u32 seen = board.changes.load();
    futex_wait(board.changes, seen, 1'000'000);
  }
  for (std::thread& t : crew.workers) t.join();
  c.drain();
  for (const std::string& problem : check(pages)) board.complain("at the end: %s", problem.c_str());
  Header& h = c.header();
  if (h.tasks.used || h.actors.used || h.lanes.used || h.free[CPU] != h.total[CPU] || h.processes.used != 1)
    board.complain("left at the end: %u tasks, %u actors, %u lanes, %u processes, %lld CPUs free", h.tasks.used,
                   h.actors.used, h.lanes.used, h.processes.used, static_cast<long long>(h.free[CPU]));
}

// A client for every thread.
void apart(Board& board, u64 seed, u32 drivers, u32 rounds) {
  std::unique_ptr<Mapping> pages(make_arena());
  Client first(Mapping::beside(*pages));
  Crew crew{board, *pages};
  crew.begin();
  std::vector<std::thread> threads;
  for (u32 k = 0; k < drivers; ++k)
    threads.emplace_back([&, k] {
      Client c(Mapping::beside(*pages));
      u8 root[ID_BYTES] = {u8(k + 1)};
      c.enter(ProcessKind::driver, root);
      drive(c, board, seed + k, rounds, true);
      c.leave();
    });
  for (std::thread& t : threads) t.join();
  end_and_compare(board, *pages, crew);
  printf("apart: %u drivers, %zu workers, %llu tasks\n", drivers, crew.workers.size(),
         static_cast<unsigned long long>(pages->header().tasks_done));
}

// One client for all driver threads, under the host's lock; the workers are apart.
void together(Board& board, u64 seed, u32 drivers, u32 rounds) {
  std::unique_ptr<Mapping> pages(make_arena());
  HostLock lock;
  host.interrupted = [] { return false; };
  {
    Client c(Mapping::beside(*pages));
    u8 root[ID_BYTES] = {77};
    HostLock::take();
    c.enter(ProcessKind::driver, root);
    HostLock::let_go();
    Crew crew{board, *pages};
    crew.begin();
    std::vector<std::thread> threads;
    for (u32 k = 0; k < drivers; ++k)
      threads.emplace_back([&, k] {
        HostLock::take();
        drive(c, board, seed + k, rounds, true);
        HostLock::let_go();
      });
    for (std::thread& t : threads) t.join();
    HostLock::take();
    c.leave();
    HostLock::let_go();
    end_and_compare(board, *pages, crew);
    printf("together: %u threads, %zu workers, %llu tasks\n", drivers, crew.workers.size(),
           static_cast<unsigned long long>(pages->header().tasks_done));
  }
}

int run(const char*) {
  u64 seed = run_seed("threads");
  Board* board = make_board();
  u32 rounds = short_form() ? 60 : 600;
  for (u32 i = 0; i < (short_form() ? 1u : 5u) && !board->trouble; ++i) {
    apart(*board, seed + 100 * i, 3, rounds);
    together(*board, seed + 100 * i + 50, 3, rounds);
  }
  if (board->trouble) printf("FAILED: %s\n", board->text);
  printf("threads: %s\n", board->trouble ? "failed" : "done");
  return board->trouble ? 1 : 0;
}

const Test test{"threads", run};

}  // namespace
}  // namespace ray::testing::threads_test
