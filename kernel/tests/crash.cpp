// Kills a process at every step of every operation, and has another look at what is left.
//
// kernel_tests crash [PATTERN]: only situations whose names contain PATTERN.
// RAY_SEED repeats a run; RAY_CHECK_SHORT=1 tries a sample of the steps.

#include "round.hpp"

#include <thread>

namespace ray::testing::crash_test {
namespace {

constexpr u32 PASSES = 20;
constexpr u32 ROUNDS_AN_ARENA = 150;
constexpr u64 SHORT_NS_A_SITUATION = 250'000'000;
constexpr u32 SHORT_ROUNDS_LEAST = 6;
constexpr u64 HAND_OVER_NS = 100'000'000;

struct Tries {
  Board& board;
  const Situation& situation;
  Random random;
  std::unique_ptr<Stage> stage;
  u32 rounds_here = 0;

  // One round; a fresh arena now and then, since the journal keeps some objects.
  bool round(const Danger& danger, bool note = false) {
    if (!stage || ++rounds_here > ROUNDS_AN_ARENA || !situation.settles) {
      stage = std::make_unique<Stage>(board, random.next());
      rounds_here = 0;
      board.clear();
    }
    bool finished = run_round(*stage, situation, danger, note);
    if (!finished) board.kills += 1;
    if (danger.recovery_kill_at && board.recovery_killed_at != -1) board.recovery_kills += 1;
    return finished;
  }

  // Kills the operation at one step, and then whoever recovers at every step of that.
  void with_recovery(i64 step) {
    for (i64 r = 1; !board.trouble; ++r) {
      Danger danger;
      danger.kill_at = step;
      danger.recovery_kill_at = r;
      if (round(danger) || board.recovery_killed_at == -1) return;
    }
  }
};

void run_short(Tries& tries) {
  u64 end = now_ns() + SHORT_NS_A_SITUATION;
  tries.round({}, true);
  u32 steps = tries.board.steps;
  for (u32 n = 0; (n < SHORT_ROUNDS_LEAST || now_ns() < end) && !tries.board.trouble; ++n) {
    Danger danger;
    danger.kill_at = 1 + tries.random.below(steps + 1);
    if (n % 8 == 7) danger.recovery_kill_at = 1 + tries.random.below(6);
    tries.round(danger);
  }
}

void run_long(Tries& tries) {
  for (u32 pass = 0; pass < PASSES; ++pass) {
    tries.round({}, true);
    u32 steps = tries.board.steps;
    bool finished = false;
    for (i64 step = 1; !finished && !tries.board.trouble; ++step) {
      Danger danger;
      danger.kill_at = step;
      finished = tries.round(danger);
    }
    if (tries.board.trouble) return;
    if (steps && pass % 5 == 0) tries.with_recovery(1 + tries.random.below(steps));
  }
}

// How long the mutex takes from an owner that is killed in the middle of a transaction to one that waits for it.
bool hands_over(u32 times, Random& random) {
  ArenaOptions options;
  options.heap_bytes = 1 << 20;
  Client c(Mapping::create(options));
  c.enter(ProcessKind::driver, nullptr);
  Board* board = make_board();
  std::vector<u64> took;
  for (u32 n = 0; n < times; ++n) {
    board->at(0);
    pid_t owner = start([&] {
      Transaction t(c.m(), NIL);
      for (u32 i = random.below(200); i > 0; --i) t.set(c.header().next_job, i);
      board->at(1);
      for (;;) pause();
    });
    board->until([&] { return board->stage.load() == 1; });
    u64 taken = 0;
    std::thread waiter([&] {
      take_mutex(c.m());
      taken = now_ns();
      pthread_mutex_unlock(&c.header().mutex);
    });
    usleep(random.below(4000));
    u64 killed = now_ns();
    kill(owner, SIGKILL);
    waiter.join();
    await(owner);
    took.push_back(taken - killed);
  }
  std::sort(took.begin(), took.end());
  printf("the mutex passes on from the dead: %u times, median %.2f ms, p99 %.2f ms, at most %.2f ms\n", times,
         double(took[times / 2]) / 1e6, double(took[times * 99 / 100]) / 1e6, double(took.back()) / 1e6);
  bool whole = check(c.m()).empty() && c.header().recoveries == times;
  if (!whole) printf("FAILED: the arena is not whole after deaths with the mutex\n");
  if (took.back() > HAND_OVER_NS) printf("FAILED: the mutex takes longer than it may to pass on\n");
  return whole && took.back() <= HAND_OVER_NS;
}

struct Running {
  const Situation* situation;
  Board* board;
  u64 seed;
};

int run(const char* pattern) {
  u64 seed = run_seed("crash");
  Random random(seed);
  Situations all = all_situations();
  std::map<pid_t, Running> running;
  std::vector<Board*> boards;
  u32 failed = 0, most_undo = 0;
  u64 rounds = 0, kills = 0, recovery_kills = 0, steps = 0;
  std::string longest;
  if (!pattern && !hands_over(short_form() ? 100 : 2000, random)) return 1;
  u32 at_once = std::max(2u, std::thread::hardware_concurrency());
  for (u32 i = 0; i < at_once; ++i) boards.push_back(make_board());

  auto collect = [&] {
    int status = 0;
    pid_t pid = waitpid(-1, &status, 0);
    auto found = running.find(pid);
    if (found == running.end()) return;
    auto [situation, board, its_seed] = found->second;
    running.erase(found);
    bool hung = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
    bool bad = board->trouble || !WIFEXITED(status) || WEXITSTATUS(status);
    if (bad) {
      ++failed;
      printf("FAILED %s: %s (killed at step %lld, recovery step %lld, its seed %llu)\n", situation->name.c_str(),
             board->trouble ? board->text
             : hung         ? "hangs"
                            : describe(status).c_str(),
             static_cast<long long>(board->killed_at), static_cast<long long>(board->recovery_killed_at),
             static_cast<unsigned long long>(its_seed));
    } else if (!short_form() || pattern) {
      printf("%-70s %5u steps, %6u rounds, log %u\n", situation->name.c_str(), board->steps.load(),
             board->rounds.load(), board->undo_most.load());
    }
    fflush(stdout);
    rounds += board->rounds, kills += board->kills, recovery_kills += board->recovery_kills, steps += board->steps;
    if (board->undo_most > most_undo) most_undo = board->undo_most, longest = situation->name;
    boards.push_back(board);
  };

  u32 count = 0;
  for (const Situation& situation : all) {
    u64 its_seed = getenv("RAY_SEED") && pattern ? seed : random.next() % 1'000'000'007;
    if (pattern && situation.name.find(pattern) == std::string::npos) continue;
    ++count;
    while (boards.empty()) collect();
    Board* board = boards.back();
    boards.pop_back();
    memset(static_cast<void*>(board), 0, sizeof *board);
    pid_t pid = start([&] {
      Tries tries{*board, situation, Random(its_seed), nullptr};
      if (short_form()) run_short(tries);
      else run_long(tries);
      if (board->trouble) _exit(1);
    });
    running[pid] = {&situation, board, its_seed};
  }
  while (!running.empty()) collect();
  auto number = [](u64 n) { return static_cast<unsigned long long>(n); };
  printf(
      "crash: %u situations of %llu steps in all, %llu rounds, killed %llu times (%s), and %llu times while "
      "recovering\n",
      count, number(steps), number(rounds), number(kills),
      short_form() ? "a sample of the steps" : "each step 20 times", number(recovery_kills));
  printf("crash: longest log %u of %u (%s), %u failed\n", most_undo, UNDO_MAX, longest.c_str(), failed);
  if (most_undo > UNDO_MAX * 9 / 10) {
    printf("FAILED: a transaction uses more than 90 %% of its log\n");
    ++failed;
  }
  return failed ? 1 : 0;
}

const Test test{"crash", run};

}  // namespace
}  // namespace ray::testing::crash_test
