// One round of one situation: made, killed at a step, looked at, put right, counted.
#pragma once

#include "situations.hpp"

#include <climits>
#include <csignal>
#include <sys/time.h>

namespace ray::testing {

// What the child is in for.
struct Danger {
  i64 kill_at = LONG_MAX;    // step of the operation
  i64 recovery_kill_at = 0;  // step of the recovery after it; 0: nobody is killed there
  // Or: no undo records are made at this place, and the process dies `steps_later` after the n-th of them.
  const char* skip_file = nullptr;
  u32 skip_line = 0;
  u32 nth = 0;
  u32 steps_later = 0;
  unsigned limit_s = 30;  // a round that takes longer hangs
};

#ifdef RAY_CRASH_POINTS

// Ends this process by SIGALRM when a round takes too long.  It counts seconds in which the process could run: a
// machine that stands still for a while is no hang.
class Watchdog {
 public:
  explicit Watchdog(unsigned limit_s) {
    left_ = int(limit_s);
    struct sigaction act{};
    act.sa_handler = [](int) {
      left_ = left_ - 1;
      if (left_ > 0) return;
      signal(SIGALRM, SIG_DFL);
      raise(SIGALRM);
    };
    act.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &act, nullptr);
    every(1);
  }
  ~Watchdog() { every(0); }
  Watchdog(const Watchdog&) = delete;

 private:
  static void every(long seconds) {
    itimerval timer{{seconds, 0}, {seconds, 0}};
    setitimer(ITIMER_REAL, &timer, nullptr);
  }
  static inline volatile int left_ = 0;
};

namespace detail {
inline Stage* watched = nullptr;
inline Danger threat;
inline u32 seen = 0;

// Counts the places of undo records, and notes the longest log.
inline void note_site(const std::source_location& site) {
  Board& b = watched->board;
  u32 undo = watched->m.thread(watched->h.holder).undo_count + 1;
  if (undo > b.undo_most) b.undo_most = undo;
  u32 n = b.site_count;
  for (u32 i = 0; i < n; ++i)
    if (b.sites[i].line == site.line() && strcmp(b.sites[i].file, site.file_name()) == 0) {
      b.sites[i].times += 1;
      return;
    }
  if (n >= SITES) return;
  snprintf(b.sites[n].file, sizeof b.sites[n].file, "%s", site.file_name());
  b.sites[n].line = site.line();
  b.sites[n].times = 1;
  b.site_count = n + 1;
}

// The step after the write is the second from here.
inline void die_after_site(const std::source_location& site) {
  if (site.line() != threat.skip_line || strcmp(site.file_name(), threat.skip_file) != 0) return;
  if (++seen == threat.nth) crash::kill_at_step = crash::steps_taken + 2 + threat.steps_later;
}
}  // namespace detail

inline void arm(Stage& s, const Danger& danger, bool note) {
  detail::watched = &s;
  detail::threat = danger;
  detail::seen = 0;
  crash::on_undo = note ? detail::note_site : danger.skip_file ? detail::die_after_site : nullptr;
  crash::skip_undo_at_line = danger.skip_line;
  crash::skip_undo_in_file = danger.skip_file;
  crash::steps_taken = 0;
  crash::kill_at_step = danger.kill_at;
}

inline void disarm(Stage& s) {
  s.board.steps = u32(crash::steps_taken);
  crash::kill_at_step = -1;
  crash::on_undo = nullptr;
  crash::skip_undo_in_file = nullptr;
}

inline std::string describe(int status) {
  if (WIFEXITED(status)) return "ended with status " + std::to_string(WEXITSTATUS(status));
  return "was ended by signal " + std::to_string(WTERMSIG(status));
}

// True when the operation came to its end unharmed.
inline bool run_round(Stage& s, const Situation& situation, const Danger& danger, bool note = false) {
  Watchdog watchdog(danger.limit_s);
  Board& board = s.board;
  board.killed_at = danger.kill_at;
  board.recovery_killed_at = danger.recovery_kill_at;
  board.rounds += 1;
  s.list.clear();
  s.bytes.clear();
  s.x = s.y = s.watched = NIL;
  s.victim = 0;
  s.outcome = {};
  situation.prepare(s);
  s.look("before");
  pid_t child = start([&] {
    if (situation.joins) s.c.enter(situation.kind, nullptr);
    if (situation.ready) situation.ready(s);
    if (situation.meet) {
      board.at(1);
      board.until([&] { return board.stage.load() == 2; });
    }
    arm(s, danger, note);
    situation.act(s);
    disarm(s);
    board.finished = 1;
  });
  if (situation.meet) {
    siginfo_t info{};
    auto dead = [&] { return waitid(P_PID, id_t(child), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid; };
    board.until([&] { return board.stage.load() == 1 || dead(); });
    situation.meet(s);
    board.at(2);
  }
  int status = await(child);
  bool finished = board.finished && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  if (!finished && !killed) board.complain("the child %s", describe(status).c_str());
  s.deaths += 1;
  if (danger.recovery_kill_at) {
    pid_t second = start([&] {
      crash::steps_taken = 0;
      crash::kill_at_step = danger.recovery_kill_at;
      Transaction t(s.m, NIL);
      t.commit();
    });
    board.recovery_killed_at = WIFEXITED(await(second)) ? -1 : danger.recovery_kill_at;
  }
  s.look("after the death");
  if (!situation.settles) return finished;
  s.c.bury(u32(child), -SIGKILL);
  s.look("after the burial");
  if (s.victim && !s.helpers.count(s.victim)) s.c.bury(u32(s.victim), -SIGKILL);
  s.look("after the victim's burial");
  if (situation.after) situation.after(s);
  s.settle();
  return finished;
}

#endif

}  // namespace ray::testing
