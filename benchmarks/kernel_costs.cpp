// What the steps of the kernel's hot path cost by themselves, in one process and between several: lines of
// "name nanoseconds".  Built with crash points it says instead how many undo records each operation writes.
//
// The operations are those of kernel/tests/node.hpp, in which one process acts for driver and worker; so
// nothing waits here, and no cache line comes from another core, but where it is said.
#include "tests/node.hpp"

#include <sys/mman.h>
#include <sys/wait.h>

#include <algorithm>

using namespace ray;
using namespace ray::testing;

namespace {

constexpr u32 TASKS = 2000;
constexpr u32 ROUNDS = 41;
constexpr u64 CONTEND_NS = 150'000'000;
constexpr u32 PASSES = 20'000;

template <typename Act>
double per_act_ns(u32 count, Act act) {
  std::vector<double> rounds;
  for (u32 r = 0; r < ROUNDS; ++r) {
    u64 began = now_ns();
    for (u32 i = 0; i < count; ++i) act(i);
    rounds.push_back(double(now_ns() - began) / count);
  }
  std::nth_element(rounds.begin(), rounds.begin() + ROUNDS / 2, rounds.end());
  return rounds[ROUNDS / 2];
}

struct Hot {
  Node node{1};
  Worker worker = node.add_worker();
  u32 shape = node.shape(1);
  std::vector<u32> ids, made;

  void submit() {
    node.c.submit(node.submission(shape), made);
    ids.push_back(made[0]);
  }
  // As Client::next does it: seal, complete and take, in one transaction.
  void next() {
    Mapping& m = node.m;
    u8 ok[15] = {};
    {
      Transaction t(m, worker.thread);
      if (u32 running = m.thread(worker.thread).task) {
        object::seal(t, m.task(running).returns, Value{ok, sizeof ok, NIL, FORMAT_TEST});
        worker::complete(t, worker.thread);
      }
      worker::take(t, worker.thread);
      t.commit();
    }
    node.c.drain();
  }
  void drop() {
    for (u32 o : ids) node.c.drop_local(o);
    ids.clear();
    node.c.flush_drops();
    node.c.drain();
  }
};

#ifdef RAY_CRASH_POINTS

u32 undone = 0;

template <typename Act>
void count(const char* name, u32 times, Act act) {
  undone = 0;
  for (u32 i = 0; i < times; ++i) act();
  printf("%s %.3g\n", name, double(undone) / times);
}

void measure() {
  Hot hot;
  for (int warm = 0; warm < 2; ++warm) {
    hot.submit(), hot.submit(), hot.next(), hot.next(), hot.next(), hot.drop();
  }
  crash::on_undo = [](const std::source_location&) { undone += 1; };
  constexpr u32 few = 96;
  count("submit", few, [&] { hot.submit(); });
  hot.next();
  count("next", few - 1, [&] { hot.next(); });
  hot.next();
  undone = 0;
  hot.drop();
  printf("drop %.3g\n", double(undone) / few);
}

#else

void operations() {
  Hot hot;
  std::vector<double> submits, nexts, drops;
  for (u32 r = 0; r < ROUNDS; ++r) {
    u64 a = now_ns();
    for (u32 i = 0; i < TASKS; ++i) hot.submit();
    u64 b = now_ns();
    for (u32 i = 0; i <= TASKS; ++i) hot.next();
    u64 c = now_ns();
    hot.drop();
    u64 d = now_ns();
    submits.push_back(double(b - a) / TASKS);
    nexts.push_back(double(c - b) / TASKS);
    drops.push_back(double(d - c) / TASKS);
  }
  for (auto& [name, found] : {std::pair{"submit", &submits}, {"next", &nexts}, {"drop", &drops}}) {
    std::nth_element(found->begin(), found->begin() + ROUNDS / 2, found->end());
    printf("%s %.4g\n", name, (*found)[ROUNDS / 2]);
  }
}

void steps() {
  Node node(1);
  Mapping& m = node.m;
  Worker w = node.add_worker();
  pthread_mutex_t* mutex = &node.h.mutex;
  printf("mutex %.4g\n", per_act_ns(TASKS, [&](u32) {
           pthread_mutex_lock(mutex);
           pthread_mutex_unlock(mutex);
         }));
  auto transaction = [&](u32 undo, bool wake) {
    return per_act_ns(TASKS, [&](u32 i) {
      Transaction t(m, w.thread);
      for (u32 n = 0; n < undo; ++n) t.set(m.task(1 + n).function, i);
      if (wake) {
        t.publish(1);
        t.wake(w.thread);
      }
      t.commit();
    });
  };
  double empty = transaction(0, false), ten = transaction(10, false), told = transaction(0, true);
  printf("transaction %.4g\nundo_record %.4g\npublish_and_wake %.4g\n", empty, (ten - empty) / 10, told - empty);
}

struct Shared {
  alignas(64) std::atomic<u32> token;
  alignas(64) std::atomic<u64> done;
  alignas(64) std::atomic<u32> go;
};

Shared* shared_page() {
  void* page = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) throw std::bad_alloc();
  return new (page) Shared{};
}

// A word handed to another process and back: half of it is one handing over.
void handing_over() {
  for (bool sleeps : {false, true}) {
    Shared* s = shared_page();
    auto pass = [&](u32 mine) {
      for (u32 i = 0; i < PASSES; ++i) {
        u32 now;
        while ((now = s->token.load()) % 2 != mine) {
          if (sleeps) futex_wait(s->token, now, SLEEP_SLICE_NS);
          else pause_cpu();
        }
        s->token.store(now + 1);
        if (sleeps) futex_wake(s->token, 1);
      }
    };
    pid_t child = fork();
    if (child == 0) {
      pass(1);
      _exit(0);
    }
    u64 began = now_ns();
    pass(0);
    waitpid(child, nullptr, 0);
    printf("%s %.4g\n", sleeps ? "hand_over_sleeping" : "hand_over_spinning", double(now_ns() - began) / PASSES / 2);
    munmap(s, sizeof(Shared));
  }
}

// Transactions of ten undo records by several processes: nanoseconds of the machine's time for each.
void contention() {
  Node node(1);
  Mapping& m = node.m;
  for (u32 count : {1u, 2u, 4u, 8u, 16u, 32u, 64u}) {
    Shared* s = shared_page();
    for (u32 p = 0; p < count; ++p) {
      if (fork()) continue;
      while (!s->go.load()) futex_wait(s->go, 0, SLEEP_SLICE_NS);
      u64 until = now_ns() + CONTEND_NS, mine = 0;
      for (; mine % 64 || now_ns() < until; ++mine) {
        Transaction t(m, NIL);
        for (u32 n = 0; n < 10; ++n) t.set(m.task(1 + n).function, u32(mine));
        t.commit();
      }
      s->done.fetch_add(mine);
      _exit(0);
    }
    u64 began = now_ns();
    s->go.store(1);
    futex_wake(s->go, 1 << 30);
    while (::wait(nullptr) > 0) {
    }
    printf("contended_%u %.4g\n", count, double(now_ns() - began) / double(s->done.load()));
    munmap(s, sizeof(Shared));
  }
}

void measure() {
  steps();
  operations();
  handing_over();
  contention();
}

#endif

}  // namespace

int main() {
  measure();
  return 0;
}
