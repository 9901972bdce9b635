// Leaves out one undo record at a time: at least one look, count or result must then be wrong.
//
// A place in the kernel's sources that makes undo records is a mutant.  It is killed when, without its records
// and with a process that dies right after the write, a situation of the crash tests fails (or hangs, or takes
// the whole test down).  One that survives either needs no undo record, or shows a hole in the tests.
//
// kernel_tests mutation [FILE[:LINE]]: only the places in that file, or that one.  RAY_SEED repeats a run;
// RAY_CHECK_SHORT=1 tries a sample of the places.

#include "round.hpp"

#include <fstream>

namespace ray::testing::mutation_test {
namespace {

constexpr unsigned LIMIT_S = 8;
// Only a place that nobody misses takes them all; with fewer, a rare miss would be one of chance.
constexpr u32 TRIES_LEAST = 40, TRIES_MOST = 300;
constexpr u32 PLACES_SHORT = 30;

struct Place {
  std::string file;
  u32 line;
  bool operator<(const Place& o) const { return std::tie(file, line) < std::tie(o.file, o.line); }
  std::string name() const { return file.substr(file.rfind('/') + 1) + ":" + std::to_string(line); }
  bool is_named(const std::string& one) const { return name() == one || name().starts_with(one + ":"); }
  std::string text() const {
    std::ifstream source(file);
    std::string text;
    for (u32 i = 0; i < line && std::getline(source, text); ++i) {
    }
    size_t first = text.find_first_not_of(' ');
    return first == std::string::npos ? "" : text.substr(first);
  }
};

// Places whose records nobody can miss, and why they are kept: leaving a field to its next writer is right
// only as long as nobody reads it before, and here that is not worth having to think about.
struct Spared {
  const char* file;
  const char* text;
  const char* why;
};
constexpr Spared SPARED[] = {
    {"client/node.hpp", "t.set(p.retire, 1u)", "a worker ends that need not have"},
    {"client/calls.hpp", "| u32(ACTOR_GONE)", "the call will fail, one way or the other"},
    {"mailbox.hpp", "| u32(ACTOR_GONE)", "the call will fail, one way or the other"},
    {"process.hpp", "| u32(ACTOR_GONE)", "the call will fail, one way or the other"},
    {"client/processes.hpp", "PROCESS_LEFT : PROCESS_DYING", "the burial is begun again"},
    {"client/peers.hpp", "PROCESS_DYING", "the burial is begun again"},
    {"client/processes.hpp", "status, u32(status)", "the burial is begun again"},
    {"client/processes.hpp", "h_.jobs_ended + 1", "whoever follows the count looks once more than it need have"},
    {"client/actors.hpp", "h_.jobs_ended + 1", "whoever follows the count looks once more than it need have"},
    {"client/jobs.hpp", "task.flags | u32(JOB_ENDED)", "its driver has ended all the same"},
    {"process.hpp", "failure_status, u32(status)", "the burial is begun again"},
    {"process.hpp", "task.report, p.report", "says something only once the task fails for it"},
    {"process.hpp", "failure_pid, pid", "the burial is begun again"},
    {"process.hpp", "task.flags + ONE_STOP", "the task may run again once more than it need have"},
    {"away.hpp", "actor.state, ACTOR_CREATING", "what has come back comes back once more"},
    {"away.hpp", "actor.creation, NIL", "what has come back comes back once more"},
    {"mailbox.hpp", "actor.serial, actor.serial + 1", "a number is left out"},
    {"mailbox.hpp", "actor.failure_", "says something only once the actor is dead"},
    {"mailbox.hpp", "actor.work_next", "says something only while the actor is on the work list"},
    {"heap.hpp", "BLOCK_HELD", "allocate has its record in the same transaction"},
    {"process.hpp", "t.h.next_job", "a number is left out"},
    {"queue.hpp", "s.passed", "counts roughly"},
    {"queue.hpp", "holds_back_until_ns", "counts roughly"},
    {"queue.hpp", "t.h.waking, t.h.idle_head", "the worker looks by itself, at the latest after a slice"},
    {"mailbox.hpp", "t.h.actor_had_turn, 1u", "a turn is given away"},
    {"process.hpp", "t.set(thread.task, below)", "who ended the task above has a record of it"},
    {"process.hpp", "t.set(thread.shape, t.m.task(below).shape)", "who ended the task above has a record of it"},
    {"wait.hpp", "o.watcher, thread", "a thread is told that need not have been"},
    {"resources.hpp", "s.need[k], need[k]", "a shape is left that nobody uses"},
    {"resources.hpp", "s.used, 1u", "a shape is left that nobody uses"},
    {"transaction.hpp", "free_next, pool.free_head",
     "needed if a transaction gave a record, then another that it had taken: none does yet"},
    {"worker.hpp", "task.attempt + 1", "an attempt's number is left out"},
    {"worker.hpp", "t.set(actor.creation, NIL)", "the creation of a dead actor is taken again, with the same end"},
};
const Spared* spared(const Place& place) {
  std::string text = place.text();
  for (const Spared& s : SPARED)
    if (place.file.ends_with(s.file) && text.find(s.text) != std::string::npos) return &s;
  return nullptr;
}

struct Passes {
  u32 situation;
  u32 times;  // or, of a try, which of these
};

// Runs one round in a process of its own, in which anything may go wrong.
template <typename Round>
bool goes_wrong(Board* board, Round round) {
  memset(static_cast<void*>(board), 0, sizeof *board);
  pid_t pid = start([&] {
    if (!freopen("/dev/null", "w", stderr)) abort();
    round();
    if (board->trouble) _exit(1);
  });
  int status = await(pid);
  return board->trouble || !WIFEXITED(status) || WEXITSTATUS(status);
}

bool is_caught(Board* board, const Situations& all, const Place& place, const std::vector<Passes>& by, Random& random) {
  // Each record of each situation, twice: the process dies at once, or a little later.
  std::vector<Passes> tries;
  for (const Passes& p : by)
    for (u32 nth = 1; nth <= p.times; ++nth) tries.push_back({p.situation, nth});
  for (size_t i = tries.size(); i > 1; --i) std::swap(tries[i - 1], tries[random.below(u32(i))]);
  if (tries.size() > TRIES_MOST) tries.resize(TRIES_MOST);
  for (u32 n = 0; n < std::max<size_t>(TRIES_LEAST, 2 * tries.size()); ++n) {
    const Passes& one = tries[n % tries.size()];
    Danger danger;
    danger.skip_file = place.file.c_str();
    danger.skip_line = place.line;
    danger.nth = one.times;
    danger.steps_later = n / tries.size() % 2 ? random.below(30) : 0;
    danger.limit_s = short_form() ? LIMIT_S / 2 : LIMIT_S;
    u64 seed = random.next();
    bool wrong = goes_wrong(board, [&] {
      Stage stage(*board, seed);
      for (u32 round = 0; round < 2 && !board->trouble; ++round) run_round(stage, all[one.situation], danger);
    });
    if (wrong) return true;
  }
  return false;
}

int run(const char* pattern) {
  // The short form takes the same sample each time: whether a place is missed must not be a matter of luck in CI.
  if (short_form()) setenv("RAY_SEED", "598140341", 0);
  u64 seed = run_seed("mutation");
  Random random(seed);
  Situations all = all_situations();
  u32 at_once = std::max(2u, std::thread::hardware_concurrency());
  std::map<Place, std::vector<Passes>> places;
  Board* board = make_board();
  for (u32 i = 0; i < all.size(); ++i) {
    if (!all[i].settles) continue;
    u64 its_seed = random.next();
    if (goes_wrong(board, [&] {
          Stage stage(*board, its_seed);
          run_round(stage, all[i], {}, true);
        })) {
      printf("FAILED %s goes wrong without a mutant: %s\n", all[i].name.c_str(), board->text);
      return 1;
    }
    for (u32 k = 0; k < board->site_count; ++k)
      if (!strstr(board->sites[k].file, "situations"))
        places[{board->sites[k].file, board->sites[k].line}].push_back({i, board->sites[k].times});
  }

  // Each process takes every n-th place.
  std::vector<pid_t> pids;
  int results[2];
  if (pipe(results) != 0) return 1;
  for (u32 part = 0; part < at_once; ++part)
    pids.push_back(start([&] {
      Board* own = make_board();
      u32 n = 0;
      for (auto& [place, by] : places) {
        if (n++ % at_once != part) continue;
        if (short_form() && !pattern && Random(seed ^ n).below(u32(places.size())) >= PLACES_SHORT) continue;
        if (pattern && !place.is_named(pattern)) continue;
        if ((!pattern || place.name() != pattern) && spared(place)) continue;
        Random mine(seed + n);
        if (is_caught(own, all, place, by, mine)) continue;
        std::string line = "FAILED: nobody misses the record of " + place.name() + ": " + place.text() +
                           " (passed by " + std::to_string(by.size()) + " situations, for one \"" +
                           all[by[0].situation].name + "\")\n";
        if (write(results[1], line.data(), line.size()) < 0) abort();
      }
    }));
  close(results[1]);
  std::string survivors;
  char text[4096];
  for (ssize_t n; (n = read(results[0], text, sizeof text)) > 0;) survivors.append(text, size_t(n));
  bool broken = false;
  for (pid_t pid : pids) broken |= await(pid) != 0;
  u32 count = u32(std::count(survivors.begin(), survivors.end(), '\n'));
  printf("%s", survivors.c_str());
  u32 kept = 0;
  for (auto& [place, by] : places) kept += spared(place) != nullptr;
  printf("mutation: %zu places make undo records; %u are spared, %u others can do without them unnoticed\n",
         places.size(), kept, count);
  return count || broken ? 1 : 0;
}

const Test test{"mutation", run};

}  // namespace
}  // namespace ray::testing::mutation_test
