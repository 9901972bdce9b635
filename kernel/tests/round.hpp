// One round of one situation: made, killed at a step, looked at, put right, counted.
#pragma once

#include "situations.hpp"

#include <climits>

namespace ray::testing {

inline constexpr unsigned ROUND_LIMIT_S = 30;

// Set in the child before it acts.
struct Danger {
  i64 kill_at = LONG_MAX;    // step of the operation
  i64 recovery_kill_at = 0;  // step of the recovery after it; 0: nobody is killed there
  const char* skip_file = nullptr;
  u32 skip_line = 0;
};

#ifdef RAY_CRASH_POINTS

namespace detail {
inline Stage* watched = nullptr;

// Notes the sites of undo records, the step each came at, and the longest log.
inline void note_site(const std::source_location& site) {
  Board& b = watched->board;
  u32 undo = watched->m.thread(watched->h.holder).undo_count + 1;
  if (undo > b.undo_most) b.undo_most = undo;
  const char* name = strrchr(site.file_name(), '/');
  name = name ? name + 1 : site.file_name();
  u32 n = b.site_count;
  for (u32 i = 0; i < n; ++i)
    if (b.sites[i].line == site.line() && strcmp(b.sites[i].file, name) == 0) return;
  if (n >= SITES) return;
  snprintf(b.sites[n].file, sizeof b.sites[n].file, "%s", name);
  b.sites[n].line = site.line();
  b.sites[n].step = u32(crash::steps_taken);
  b.site_count = n + 1;
}
}  // namespace detail

inline void arm(Stage& s, const Danger& danger, bool note) {
  if (note) {
    detail::watched = &s;
    crash::on_undo = detail::note_site;
  }
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
  alarm(ROUND_LIMIT_S);
  Board& board = s.board;
  board.killed_at = danger.kill_at;
  board.recovery_killed_at = danger.recovery_kill_at;
  board.rounds += 1;
  s.list.clear();
  s.bytes.clear();
  s.x = s.y = NIL;
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
  s.settle();
  alarm(0);
  return finished;
}

#endif

}  // namespace ray::testing
