// Workers that are stopped for what they hold: stopped, buried, their tasks at rest and running again.
#pragma once

#include "situations_processes.hpp"

#include <poll.h>
#include <sys/syscall.h>

namespace ray::testing {

struct StopCase {
  u32 retries;
  u32 returns;
  bool again;
  bool reported;
  std::string name() const {
    return std::to_string(retries) + " retries and " + std::to_string(returns) + " returns" +
           (again ? ", to run again" : ", for good") + (reported ? "" : ", without a report");
  }
};
inline const std::vector<StopCase> STOP_CASES = {
    {1, 1, true, true},  {1, 0, true, true},  {0, 1, true, true},   {1, 1, false, true},
    {0, 5, false, true}, {0, 0, false, true}, {1, 5, false, false}, {0, 1, false, false},
};

inline u32 report_of(Stage& s) {
  std::vector<u8> bytes = bytes_of(1, 700);
  u32 o = s.c.put(Value{bytes.data(), bytes.size(), NIL, FORMAT_TEST_FAILURE}, {});
  s.held.push_back(o);
  return o;
}

inline int open_pidfd(pid_t pid) { return int(syscall(SYS_pidfd_open, pid, 0)); }

inline u64 key_of(Stage& s, pid_t pid) {
  for (const Activity& each : s.c.activities())
    if (each.pid == u32(pid)) return each.key;
  return ~0ull;
}

inline bool stop_worker(Stage& s, pid_t pid, u32 report, bool again) {
  int pidfd = open_pidfd(pid);
  bool stopped = s.c.stop(u32(pid), key_of(s, pid), pidfd, report, again ? STOPPED_TO_RUN_AGAIN : STOPPED_FOR_GOOD);
  close(pidfd);
  return stopped;
}

// A worker that runs such a task, with another task behind it that waits for its result.
inline void running_worker(Stage& s, const StopCase& stop) {
  s.victim = s.start_worker();
  Options o = with(0, 0, stop.returns);
  o.retries = stop.retries;
  o.may_fail = s.tasks_may_fail = !stop.retries || !stop.again;
  if (s.random.coin()) o.deps = {s.put(100)};
  u32 first = s.task(Act::gate, 1, o);
  s.at_gate(1);
  if (!first) return;
  Options on;
  on.deps = {first};
  s.task(Act::value, 0, on);
}

// Who is marked as stopped has its signal: marked and alive it could not be stopped any more.
inline void dies_if_marked(Stage& s, pid_t pid) {
  if (!s.m.process(process::find(s.m, u32(pid))).stop) return;
  pollfd end{open_pidfd(pid), POLLIN, 0};
  if (end.fd < 0) return;
  if (poll(&end, 1, 2'000) != 1) s.board.complain("a worker is marked as stopped, and lives");
  close(end.fd);
}

// The stop in the child; whatever it came to, the worker is dead afterwards.
inline Situation stops(const std::string& name, Step prepare, bool again, bool reported) {
  return {"stop " + name,
          ProcessKind::node_manager,
          prepare,
          [=](Stage& s) { s.y = reported ? report_of(s) : u32(NIL); },
          {},
          [=](Stage& s) {
            if (!stop_worker(s, s.victim, s.y, again)) s.board.complain("a worker could not be stopped");
          },
          true,
          true,
          [](Stage& s) {
            dies_if_marked(s, s.victim);
            s.kill_and_bury(s.victim);
          }};
}

// Stopped by the parent, buried by the child.
inline Situation stopped(const std::string& name, Step prepare, bool again, bool reported) {
  return buries("stopped: " + name, [=](Stage& s) {
    prepare(s);
    if (!stop_worker(s, s.victim, reported ? report_of(s) : u32(NIL), again))
      s.board.complain("a worker could not be stopped");
  });
}

inline void rest_one(Stage& s, u32 gate) {
  pid_t pid = s.start_worker();
  s.task(Act::gate, gate);
  s.at_gate(gate);
  stop_worker(s, pid, report_of(s), true);
  s.kill_and_bury(pid);
}

inline void add_stopping_situations(Situations& list) {
  for (const StopCase& each : STOP_CASES) {
    StopCase stop = each;
    Step prepare = [=](Stage& s) { running_worker(s, stop); };
    list.push_back(stops("a worker that runs a task with " + stop.name(), prepare, stop.again, stop.reported));
    list.push_back(stopped("a worker that runs a task with " + stop.name(), prepare, stop.again, stop.reported));
  }
  list.push_back(stops(
      "an idle worker",
      [](Stage& s) {
        s.workers(1);
        s.victim = *s.helpers.begin();
      },
      false, true));
  for (u32 interval : {0u, 2u})
    for (bool again : {false, true})
      for (auto& [state, name] : STATES) {
        State in = state;
        if (in != State::creating && in != State::idle && in != State::busy && in != State::killed) continue;
        Step prepare = [=](Stage& s) {
          s.actors_may_die = s.tasks_may_fail = !interval || !again || in == State::killed;
          s.x = actor_in(s, in, interval);
          s.held.push_back(s.x);
          if (in == State::idle) {
            for (u32 i = 0; i < 3; ++i) s.c.wait_for(s.call(s.x), wait::Deadline(-1));
            wait_until_alive(s, s.x);
          }
        };
        std::string what = "the process of an actor " + name + named(interval) + (again ? ", to run again" : "");
        list.push_back(stops(what, prepare, again, true));
        list.push_back(stopped(what, prepare, again, true));
      }
  list.push_back(stopped("a worker that helps", helping_worker, true, true));
  list.push_back({"stop a worker that does something else by now",
                  ProcessKind::node_manager,
                  [](Stage& s) {
                    s.victim = s.start_worker();
                    s.task(Act::gate, 1);
                    s.at_gate(1);
                  },
                  {},
                  {},
                  [](Stage& s) {
                    int pidfd = open_pidfd(s.victim);
                    for (u64 key : {u64(0), key_of(s, s.victim) + 1})
                      if (s.c.stop(u32(s.victim), key, pidfd, NIL, STOPPED_TO_RUN_AGAIN))
                        s.board.complain("the wrong one was stopped");
                  }});
  list.push_back({"resume the first of two tasks that rest",
                  ProcessKind::node_manager,
                  [](Stage& s) {
                    rest_one(s, 1);
                    rest_one(s, 2);
                  },
                  {},
                  {},
                  [](Stage& s) {
                    if (!s.c.resume()) s.board.complain("nothing rested");
                  }});
  list.push_back({"resume when nothing rests", ProcessKind::node_manager, nothing, {}, {}, [](Stage& s) {
                    if (s.c.resume()) s.board.complain("something rested");
                  }});
  list.push_back({"kill an actor whose creation rests",
                  ProcessKind::driver,
                  [](Stage& s) {
                    s.actors_may_die = s.tasks_may_fail = true;
                    s.x = actor_in(s, State::busy, 2);
                    s.held.push_back(s.x);
                    stop_worker(s, s.victim, report_of(s), true);
                    s.kill_and_bury(s.victim);
                  },
                  [](Stage& s) { s.take(s.x); },
                  {},
                  [](Stage& s) { s.c.kill_actor(s.x); }});
}

}  // namespace ray::testing
