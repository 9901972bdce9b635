// Waits: nobody is forgotten, signals are noticed, time-outs are kept, and nobody holds the mutex while it waits
// for its host.
//
// A lost wake-up shows as a wait of a whole slice (100 ms).  A busy machine can be that slow too, so a few are
// forgiven; the seats of spinners are taken, so that every wait goes through its futex.

#include "orders.hpp"

#include <csignal>
#include <thread>

namespace ray::testing::waiting_test {
namespace {

constexpr u64 LATE_NS = 80'000'000;

Mapping* make_arena() {
  ArenaOptions o;
  o.heap_bytes = 4 << 20;
  o.resources[CPU] = 4 * UNIT;
  return Mapping::create(o);
}

struct Session {
  Client c{make_arena()};
  Header& h = c.header();
  Board* board = make_board();
  u32 function, cpu;
  Session() {
    c.enter(ProcessKind::driver, nullptr);
    for (auto& seat : h.spinners) seat = c.thread();
    function = c.put(Value{nullptr, 0, NIL, FORMAT_TEST}, {});
    cpu = c.shape({UNIT, 0, 0});
  }
  u32 submit(u32 tag, u32 size = 4, std::span<const u32> deps = {}) {
    Order order{Act::value, tag, 0, size};
    Submission s;
    s.function = function;
    s.payload = reinterpret_cast<const u8*>(&order);
    s.payload_bytes = sizeof order;
    s.shape = cpu;
    s.deps = deps;
    std::vector<u32> out;
    c.submit(s, out);
    return out[0];
  }
  std::vector<pid_t> workers{};
  void start_workers(u32 count) {
    for (u32 i = 0; i < count; ++i)
      workers.push_back(start([this] {
        c.enter(ProcessKind::worker, nullptr);
        serve(c, *board);
      }));
    board->until([&] { return peek(h.idle_count) == count; });
  }
  void end() {
    while (peek(h.worker_count)) {
      c.retire(64);
      board->until([&, n = 0]() mutable { return !peek(h.worker_count) || n++; });
    }
    for (pid_t pid : workers) expect(await(pid) == 0, "a worker ends well");
    expect_whole(c.m(), "at the end");
  }
};

// Runs `once` many times; how often it took a slice.
template <typename Once>
void must_not_be_late(const char* what, u32 times, Once once) {
  u32 late = 0;
  u64 began = now_ns();
  for (u32 i = 0; i < times; ++i) {
    u64 from = now_ns();
    once(i);
    if (now_ns() - from > LATE_NS) ++late;
  }
  printf("%-28s %5u times, %6.1f us each, %u late\n", what, times, double(now_ns() - began) / 1e3 / times, late);
  expect(late <= 2 + times / 500, "%s", what);
}

void wake_ups(u32 times) {
  Session s;
  s.start_workers(2);
  must_not_be_late("wait for one", times, [&](u32) {
    u32 o = s.submit(1);
    s.c.wait_for(o, wait::Deadline(-1));
    s.c.drop_local(o);
  });
  must_not_be_late("wait for all", times / 4, [&](u32) {
    std::vector<u32> all;
    for (u32 i = 0; i < 8; ++i) all.push_back(s.submit(1));
    s.c.wait_all(all, wait::Deadline(-1));
    for (u32 o : all) s.c.drop_local(o);
  });
  must_not_be_late("wait for some, one by one", times / 4, [&](u32) {
    std::vector<u32> all;
    for (u32 i = 0; i < 8; ++i) all.push_back(s.submit(1));
    for (u32 wanted = 1; wanted <= 8; ++wanted) s.c.wait_some(all, wanted, wait::Deadline(-1));
    for (u32 o : all) s.c.drop_local(o);
  });
  must_not_be_late("a chain of tasks", times / 4, [&](u32) {
    std::vector<u32> all{s.submit(1)};
    for (u32 i = 0; i < 6; ++i) all.push_back(s.submit(1, 4, std::span(&all.back(), 1)));
    s.c.wait_for(all.back(), wait::Deadline(-1));
    for (u32 o : all) s.c.drop_local(o);
  });
  s.end();
}

// The worker that is first in line is stopped: the others go on without it.
void a_stopped_worker() {
  Session s;
  s.start_workers(3);
  Mapping& m = s.c.m();
  pid_t first = pid_t(m.process(m.thread(peek(s.h.idle_head)).process).pid);
  stop(m, first);
  must_not_be_late("with a worker stopped", 200, [&](u32) {
    u32 o = s.submit(1);
    s.c.wait_for(o, wait::Deadline(-1));
    s.c.drop_local(o);
  });
  kill(first, SIGCONT);
  s.end();
}

void other_words(u32 times) {
  Session s;
  auto peer = [&](auto work) {
    return start([&] {
      s.c.enter(ProcessKind::driver, nullptr);
      work();
      s.c.leave();
    });
  };
  std::vector<u8> bytes = bytes_of(1, 20);
  // One writes an entry whenever the other has read the last.
  u64 place = s.h.journal_last;
  pid_t writer = peer([&] {
    for (u32 i = 0; i < times; ++i) {
      s.board->until([&] { return s.board->stage.load() == i; });
      s.c.journal(JournalKind::note, bytes.data(), 20);
    }
  });
  must_not_be_late("the journal", times, [&](u32 i) {
    std::vector<JournalItem> items;
    while (items.empty()) place = s.c.journal_read(place, 1000, items);
    s.board->at(i + 1);
  });
  expect(await(writer) == 0, "the writer ends well");
  // One takes the whole heap, the other waits for room and takes it in turn.
  s.board->at(0);
  auto in_turn = [&](u32 i) {
    u32 b = NIL;
    while (!b) {
      try {
        b = s.c.allocate(s.h.heaps[HEAP].capacity * u64(GRANULE_BYTES));
      } catch (const StoreFull&) {
        s.c.wait_room(2000);
      }
    }
    s.board->at(i + 1);
    s.c.release_block(b);
  };
  pid_t other = peer([&] {
    for (u32 i = 0; i < times; ++i) in_turn(i);
  });
  must_not_be_late("room in the heap", times, in_turn);
  expect(await(other) == 0, "the other ends well");
  expect_whole(s.c.m(), "other words");
}

void time_outs() {
  Session s;
  std::vector<u32> list{s.c.reserve(), s.c.reserve()};
  // Never too short; on a busy machine one of several may be too long.
  auto keeps_its_time = [&](u64 ms, auto work) {
    u64 least = ~0ull;
    for (u32 i = 0; i < 5 && least >= ms + 80; ++i) {
      u64 from = now_ns();
      try {
        work();
      } catch (const WaitTimeout&) {
      }
      least = std::min(least, (now_ns() - from) / 1'000'000);
    }
    return least >= ms && least < ms + 80;
  };
  for (i64 ms : {0, 1, 30, 230}) {
    expect(keeps_its_time(u64(ms), [&] { s.c.wait_for(list[0], wait::Deadline(ms)); }),
           "a wait for one keeps its time");
    expect(keeps_its_time(u64(ms), [&] { s.c.wait_all(list, wait::Deadline(ms)); }), "a wait for all keeps its time");
    expect(keeps_its_time(u64(ms), [&] { s.c.wait_some(list, 1, wait::Deadline(ms)); }),
           "a wait for some keeps its time");
  }
  wait::Deadline far(i64(1) << 62);
  expect(!far.passed(), "a very long time is not over at once");
}

// Threads that look again and again leave one watch each, however many they are.
void watches_of_many() {
  Session s;
  u32 o = s.c.reserve();
  std::vector<u32> all{s.c.thread()};
  for (u32 i = 0; i < 40; ++i) {
    Transaction t(s.c.m(), NIL);
    all.push_back(process::add_thread(t, s.c.process(), false));
    t.commit();
  }
  for (u32 times = 0; times < 5; ++times)
    for (u32 th : all) wait::watch(s.c.m(), th, o);
  expect(s.h.watches.used == 40, "a thread that waits again is not written down again");
  u8 byte = 1;
  s.c.seal(o, Value{&byte, 1, NIL, FORMAT_TEST}, {});
  expect(s.h.watches.used == 0, "nobody watches what has a value");
  expect(check(s.c.m()).empty(), "the arena is whole after many watches");
}

// Who has waited in vain for some time sleeps at once, until what it waits for comes soon again.
void patience_ends_and_comes_back() {
  Session s;
  for (auto& seat : s.h.spinners) seat = 0;
  wait::patience = wait::Patience();
  auto spins = [&] {
    u64 looks = 0;
    wait::spin(s.c.m(), s.c.thread(), [&] { return ++looks > 2; });
    return looks > 2;
  };
  u32 o = s.c.reserve();
  for (u32 i = 0; i < SPINS_IN_VAIN; ++i) {
    expect(spins(), "who has not waited in vain often enough spins");
    try {
      s.c.wait_for(o, wait::Deadline(1));
    } catch (const WaitTimeout&) {
    }
  }
  expect(!spins(), "who has waited in vain does not spin");
  wait::patience.waited(SPIN_NS + WOKEN_NS);
  expect(!spins(), "a long wait changes nothing");
  for (u32 i = SPINS_IN_VAIN + 1; i < SPINS_ANYWAY; ++i) wait::patience.waited(SPIN_NS + WOKEN_NS);
  expect(spins(), "now and then it spins all the same");
  wait::patience.waited(SPIN_NS + WOKEN_NS);
  expect(!spins(), "now and then, and no more");
  wait::patience.waited(SPIN_NS + WOKEN_NS - 1);
  expect(spins(), "after a short wait it spins");
}

// Of an event loop, which sleeps for news and for a descriptor.
void ears(u32 times) {
  Session s;
  const u8 peer_id[ID_BYTES] = {1};
  s.c.enter_peer(peer_id);  // who has no peers has no news
  int ends[2];
  expect(pipe(ends) == 0, "there is a pipe");
  Ears ears(s.c.m(), ends[0]);
  auto hears = [&](i64 ms = -1) {
    Ears::Heard heard;
    for (wait::Deadline end(ms); !heard.any() && !end.passed();) heard = ears.sleep(end, true);
    return heard;
  };
  // Each task is news, since no worker takes it; sooner than anybody sleeps, and later than anybody spins.
  for (u32 pause_us : {0, 500}) {
    s.board->at(0);
    pid_t maker = start([&] {
      s.c.enter(ProcessKind::driver, nullptr);
      for (u32 i = 0; i < times; ++i) {
        s.board->until([&] { return s.board->stage.load() == i; });
        usleep(pause_us);
        s.c.drop_local(s.submit(1));
      }
      s.c.leave();
    });
    must_not_be_late(pause_us ? "news that are slept for" : "news at once", times, [&](u32 i) {
      Ears::Heard heard = hears();
      expect(heard.news && !heard.descriptor, "news are heard, and nothing else");
      s.c.news(10, 0);
      s.board->at(i + 1);
    });
    expect(await(maker) == 0, "who makes news ends well");
  }
  auto say = [&] { expect(write(ends[1], "x", 1) == 1, "the pipe takes a byte"); };
  auto take = [&, byte = '.']() mutable { expect(read(ends[0], &byte, 1) == 1, "the pipe gives it"); };
  for (u32 pause_us : {0, 500}) {
    std::atomic<u32> taken{0};
    std::thread speaker([&] {
      for (u32 i = 0; i < times; ++i) {
        while (taken.load() < i) std::this_thread::yield();
        usleep(pause_us);
        say();
      }
    });
    must_not_be_late(pause_us ? "a descriptor, slept for" : "a descriptor at once", times, [&](u32 i) {
      Ears::Heard heard = hears();
      expect(heard.descriptor && !heard.news, "a descriptor is heard, and nothing else");
      take();
      taken.store(i + 1);
    });
    speaker.join();
  }
  for (i64 ms : {1, 30}) {
    u64 from = now_ns();
    expect(!hears(ms).any(), "nothing is heard when there is nothing");
    expect(now_ns() - from >= u64(ms) * 1'000'000, "and not before the time is over");
  }
  say();
  expect(hears(0).descriptor || hears().descriptor, "what came between two sleeps is heard by the next");
  take();
  s.c.shut();
  expect(hears().news, "that the arena is shut is heard");
  close(ends[0]), close(ends[1]);
}

// Who lets others run does so more rarely when they have taken long.
void courtesy() {
  Courtesy courtesy;
  std::atomic<bool> ends{false};
  u64 patience_ends = now_ns() + 30'000'000'000;  // this machine may compute something else at first
  while (!courtesy.give_way() && now_ns() < patience_ends) usleep(100);
  expect(now_ns() < patience_ends, "who is alone on a core gives way");
  cpu_set_t all, one;
  sched_getaffinity(0, sizeof all, &all);
  CPU_ZERO(&one);
  CPU_SET(u32(sched_getcpu()), &one);
  sched_setaffinity(0, sizeof one, &one);  // the thread below inherits it
  std::thread computes([&] {
    while (!ends.load()) pause_cpu();
  });
  u32 long_ones = 0;
  constexpr u64 SPAN_NS = 3'000'000'000;
  for (u64 began = now_ns(), from = began; from < began + SPAN_NS; from = now_ns()) {
    if (courtesy.give_way()) continue;
    long_ones += now_ns() - from >= u64(WAY_NS);
    usleep(50);
  }
  ends = true;
  computes.join();
  sched_setaffinity(0, sizeof all, &all);
  printf("a way given to who computes: %u times in %.0f s\n", long_ones, double(SPAN_NS) / 1e9);
  // After rests of 10, 20, 40, 80 and then 100 ms.
  expect(long_ones >= 5 && long_ones <= 40, "beside who computes it does so more and more rarely");
}

// --- signals ------------------------------------------------------------------------------------------

std::atomic<bool> signalled{false};

void interrupts() {
  Session s;
  signal(SIGUSR1, [](int) { signalled = true; });
  host.interrupted = [] { return signalled.exchange(false); };
  u32 o = s.c.reserve();
  pthread_t me = pthread_self();
  for (bool elsewhere : {false, true})
    for (u32 round = 0; round < 5; ++round) {
      u64 sent = 0;
      std::thread sender([&] {
        usleep(3000 + 700 * round);
        sent = now_ns();
        if (elsewhere) raise(SIGUSR1);  // this thread handles it: the waiting one gets no EINTR
        else pthread_kill(me, SIGUSR1);
      });
      bool interrupted = false;
      try {
        s.c.wait_for(o, wait::Deadline(3000));
      } catch (const Interrupted&) {
        interrupted = true;
      } catch (const WaitTimeout&) {
      }
      u64 after = now_ns();
      sender.join();
      expect(interrupted, "a signal ends a wait");
      expect(after - sent < 250'000'000, "a signal ends a wait soon");
    }
  // Handlers that raise nothing, many of them: the wait goes on, on the same stack, until one raises.
  static std::atomic<u32> handled{0};
  signal(SIGUSR1, [](int) { handled.fetch_add(1); });
  host.interrupted = [] { return handled >= 2000; };
  std::thread sender([&] {
    while (handled < 2000) {
      u32 before = handled;
      pthread_kill(me, SIGUSR1);
      while (handled == before) std::this_thread::yield();
    }
  });
  bool interrupted = false;
  try {
    s.c.wait_for(o, wait::Deadline(60'000));
  } catch (const Interrupted&) {
    interrupted = true;
  } catch (const WaitTimeout&) {
  }
  expect(interrupted, "the last of many signals ends a wait");
  sender.join();
  host = Host{};
}

// --- the host's lock ----------------------------------------------------------------------------------

// A thread waits for the mutex while another of its process keeps the host's lock for long: a third party must
// get the mutex meanwhile.
void host_is_busy() {
  Session s;
  HostLock lock;
  Mapping& m = s.c.m();
  std::atomic<u32> step{0};
  auto until = [&](u32 n) {
    while (step < n) std::this_thread::yield();
  };
  std::thread holder([&] {  // of another process, as it were: it keeps the mutex for a moment
    take_mutex(m);
    step = 1;
    until(2);
    usleep(30'000);
    pthread_mutex_unlock(&m.header().mutex);
  });
  until(1);
  std::thread waiter([&] {
    HostLock::take();
    step = 2;
    take_mutex(m);
    pthread_mutex_unlock(&m.header().mutex);
    HostLock::let_go();
  });
  until(2);
  HostLock::take();  // as soon as the waiter sleeps
  holder.join();
  usleep(20'000);
  u64 from = now_ns();
  int r = lock_waiting(m, 1000);
  u64 took = now_ns() - from;
  expect(r == 0, "the mutex is to be had while a host is busy");
  expect(took < 100'000'000, "the mutex is to be had soon while a host is busy");
  if (r == 0) pthread_mutex_unlock(&m.header().mutex);
  HostLock::let_go();
  waiter.join();
}

// Who keeps the mutex is named, and once it is dead nobody does.
[[maybe_unused]] void lock_holder() {
  Session s;
  pid_t child = start([&] {
    take_mutex(s.c.m());
    s.board->at(1);
    for (;;) pause();
  });
  s.board->until([&] { return s.board->stage.load() == 1; });
  expect(s.c.lock_holder(100) == u32(child), "the holder of the mutex is named");
  kill_and_reap(child);
  expect(s.c.lock_holder(100) == 0, "a dead holder holds nothing");
  expect(check(s.c.m()).empty(), "the arena is whole after its death");
}

// A process that is stopped with the mutex in hand goes on after a while, though nobody but those who want it looks.
[[maybe_unused]] void stopped_owner() {
  Session s;
  pid_t child = start([&] {
    take_mutex(s.c.m());
    s.board->at(1);
    raise(SIGSTOP);
    pthread_mutex_unlock(&s.h.mutex);
  });
  s.board->until([&] { return s.board->stage.load() == 1; });
  u64 from = now_ns();
  take_mutex(s.c.m());
  u64 took_ms = (now_ns() - from) / 1'000'000;
  pthread_mutex_unlock(&s.h.mutex);
  expect(took_ms < 6000, "a stopped owner of the mutex is sent on within 6 s");
  expect(await(child) == 0, "the owner that was stopped ends well");
}

int run(const char*) {
  run_seed("waiting");
  alarm(300);
  u32 times = short_form() ? 1500 : 20'000;
  wake_ups(times);
  a_stopped_worker();
  other_words(times / 3);
  time_outs();
  patience_ends_and_comes_back();
  watches_of_many();
  ears(times / 3);
  courtesy();
  interrupts();
  host_is_busy();
#ifndef __SANITIZE_THREAD__  // knows nothing of a mutex whose owner died in another process
  lock_holder();
  stopped_owner();
#endif
  return result("waiting");
}

const Test test{"waiting", run};

}  // namespace
}  // namespace ray::testing::waiting_test
