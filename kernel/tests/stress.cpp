// Processes under load, killed and stopped at random moments; every task must still end with its right result.

#include "stage.hpp"

namespace ray::testing::stress_test {
namespace {

constexpr u32 TASKS_A_ROUND = 90;
constexpr u32 WORKERS = 6;

struct Load {
  Stage& s;
  Random& random;
  std::vector<u32> actors{};
  std::vector<pid_t> drivers{};
  u64 kills = 0, stops = 0, rounds = 0, tasks = 0;

  void submit_some() {
    Options on;
    on.retries = ~0u;
    on.shape = random.below(6);
    switch (random.below(9)) {
      case 0: s.task(Act::many, 2, {{}, {}, 3, on.shape, ~0u}, random.coin() ? 10 : 900); break;
      case 1: s.task(Act::spawn, 1 + random.below(4), {{}, {}, 1, 0, ~0u}); break;
      case 2: s.task(Act::fail, 0, on, random.coin() ? 10 : 900); break;
      case 3: s.task(Act::value, 0, on, 9000); break;
      case 4: {
        u32 o = s.pending();
        for (u32 i = 0; i < 3; ++i) {
          Options next{{o}, {}, 1, random.below(3), ~0u};
          o = s.task(Act::value, 0, next, 50);
        }
        break;
      }
      case 5: {
        std::vector<u32> all;
        for (u32 i = 0; i < 16; ++i) all.push_back(random.coin() ? s.put(40) : s.put(400));
        s.task(Act::value, 0, {all, all, 1, 0, ~0u}, 700);
        break;
      }
      case 6:
      case 7:
        if (!actors.empty()) s.call(actors[random.below(u32(actors.size()))]);
        break;
      default: s.task(Act::value, 0, on, 4);
    }
    ++tasks;
  }

  // A driver that makes tasks until it dies.
  void add_driver() {
    u32 first = s.new_tag();
    for (u32 i = 0; i < 15; ++i) s.new_tag();
    pid_t pid = s.helper([this, first] {
      s.c.enter(ProcessKind::driver, nullptr);
      for (u32 i = 0; i < 16; ++i) {
        u32 inner = s.put(30);
        Options on{{}, {inner}, 1 + i % 2 * 14, 0, ~0u};
        std::vector<u32> out = s.submit({Act::many, first + i * 64, 1, 100}, on);
        s.c.wait_some(out, 1, wait::Deadline(1));
        for (u32 o : out) s.c.drop_local(o);
      }
      s.c.leave();
    });
    drivers.push_back(pid);
  }

  void disturb() {
    if (s.helpers.empty()) return;
    auto one = std::next(s.helpers.begin(), random.below(u32(s.helpers.size())));
    pid_t pid = *one;
    if (random.below(3)) {
      s.kill_and_bury(pid);
      ++kills;
    } else {
      kill(pid, SIGSTOP);
      nap(300);
      kill(pid, SIGCONT);
      ++stops;
    }
  }
  // Lets others run for up to so many microseconds.
  void nap(u32 most_us) {
    u32 seen = s.board.changes.load();
    futex_wait(s.board.changes, seen, 1000 * long(1 + random.below(most_us)));
  }

  void round() {
    alarm(60);
    s.actors_may_die = true;
    s.board.unseen_attempts = ~0u >> 1;
    for (u32 i = 0; i < 2; ++i) {
      Options on;
      on.shape = i;
      u32 a = s.actor(1 + random.below(4), Act::actor_new, 0, on);
      s.held.push_back(a);
      actors.push_back(a);
    }
    for (u32 i = 0; i < TASKS_A_ROUND; ++i) {
      while (s.helpers.size() < WORKERS) s.start_worker();
      submit_some();
      if (i % 30 == 10) add_driver();
      if (random.below(4) == 0) disturb();
      if (random.below(8) == 0) nap(500);
      s.reap();
    }
    for (u32 i = 0, n = random.below(30); i < n && !s.board.trouble; ++i) {
      while (s.helpers.size() < WORKERS) s.start_worker();
      disturb();
      nap(2000);
      s.reap();
      if (i % 8 == 0) s.look("under load");
    }
    // What they would still submit must be done too.
    for (pid_t pid : drivers)
      while (s.helpers.count(pid)) {
        if (!s.idle() && s.helpers.size() < HELPERS_MAX) s.start_worker();
        nap(300);
        s.reap();
      }
    drivers.clear();
    s.settle();
    actors.clear();
    ++rounds;
    alarm(0);
  }
};

int run(const char*) {
  u64 seed = run_seed("stress");
  Random random(seed);
  Board* board = make_board();
  u64 end = now_ns() + (short_form() ? 6 : 60) * 1'000'000'000ull;
  u64 kills = 0, stops = 0, tasks = 0, rounds = 0;
  while (now_ns() < end && !board->trouble) {
    Stage stage(*board, random.next());
    Load load{stage, random};
    for (u32 i = 0; i < 20 && now_ns() < end && !board->trouble; ++i) load.round();
    kills += load.kills, stops += load.stops, tasks += load.tasks, rounds += load.rounds;
  }
  printf("stress: %llu rounds, %llu batches of tasks, %llu processes killed, %llu stopped\n",
         static_cast<unsigned long long>(rounds), static_cast<unsigned long long>(tasks),
         static_cast<unsigned long long>(kills), static_cast<unsigned long long>(stops));
  if (board->trouble) printf("FAILED: %s\n", board->text);
  return board->trouble ? 1 : 0;
}

const Test test{"stress", run};

}  // namespace
}  // namespace ray::testing::stress_test
