// The end of a job: what an ended driver had begun, in every state that it can be in.
#pragma once

#include "situations_stopping.hpp"

namespace ray::testing {

// All that there is now was begun by a driver that has ended.
inline void disown(Stage& s) {
  pid_t pid = start([&s] { s.c.enter(ProcessKind::driver, nullptr); });
  await(pid);
  u32 job = s.h.next_job;
  s.c.bury(u32(pid), 0);
  for (u32 i = 1; i <= s.h.tasks.high_water; ++i)
    if (s.m.task(i).state != TASK_FREE) s.m.task(i).job = job;
  for (u32 i = 1; i <= s.h.actors.high_water; ++i)
    if (s.m.actor(i).state != ACTOR_FREE) s.m.actor(i).job = job;
}

// Ends all of it, as the node manager does.
inline void end_all(Stage& s) {
  for (;;) {
    std::vector<Activity> running;
    u32 doomed = s.c.end_jobs(running);
    if (!doomed && running.empty()) break;
    for (const Activity& each : running) {
      int pidfd = open_pidfd(pid_t(each.pid));
      if (!s.c.stop(each.pid, each.key, pidfd, NIL, STOPPED_WITH_ITS_JOB))
        s.board.complain("a worker could not be stopped");
      close(pidfd);
      s.kill_and_bury(pid_t(each.pid));
    }
  }
  jobs::Living living(s.m);
  for (u32 i = 1; i <= s.h.tasks.high_water; ++i)
    if (jobs::may_doom(s.m.task(i)) && !living.has(s.m.task(i).job)) s.board.complain("task %u was left", i);
}

inline Situation ends(const std::string& name, Step prepare) {
  return {"end the job of " + name,
          ProcessKind::node_manager,
          [=](Stage& s) {
            s.actors_may_die = s.tasks_may_fail = true;
            prepare(s);
            disown(s);
          },
          {},
          {},
          [](Stage& s) {
            std::vector<Activity> running;
            s.c.end_jobs(running);
          },
          true,
          true,
          end_all};
}

inline void add_job_situations(Situations& list) {
  for (u32 returns : {0u, 1u, 5u})
    for (bool waits : {false, true})
      list.push_back(ends(
          (waits ? "tasks that wait, with " : "tasks that are ready, with ") + std::to_string(returns) + " returns",
          [=](Stage& s) {
            Options o = with(0, 0, returns);
            o.may_fail = true;
            if (waits) o.deps = {s.pending(), s.put(100), s.pending()};
            o.nested = {s.put(10)};
            for (u32 n = 0; n < 3; ++n) {
              o.shape = s.random.below(4);
              u32 first = s.task(returns == 5 ? Act::many : Act::value, 0, o);
              if (!first) continue;
              Options on;
              on.may_fail = true;
              on.deps = {first};
              s.task(Act::value, 0, on);
            }
          }));
  list.push_back(ends("a task that runs", [](Stage& s) {
    Options o;
    o.may_fail = true;
    s.start_worker();
    s.task(Act::gate, 1, o);
    s.at_gate(1);
    s.task(Act::value, 0, o);
  }));
  list.push_back(ends("a worker that helps, and of what waits below", helping_worker));
  list.push_back(ends("two tasks that rest", [](Stage& s) {
    rest_one(s, 1);
    rest_one(s, 2);
  }));
  for (u32 interval : {0u, 2u})
    for (auto& [state, name] : STATES) {
      State in = state;
      if (in == State::restarting && !interval) continue;
      list.push_back(ends("an actor " + name + named(interval), [=](Stage& s) {
        s.x = actor_in(s, in, interval);
        s.held.push_back(s.x);
      }));
    }
  list.push_back({"end no job",
                  ProcessKind::node_manager,
                  [](Stage& s) {
                    s.start_worker();
                    s.task(Act::gate, 1);
                    s.at_gate(1);
                    s.task();
                  },
                  {},
                  {},
                  [](Stage& s) {
                    std::vector<Activity> running;
                    if (s.c.end_jobs(running) || !running.empty())
                      s.board.complain("a job was ended whose driver lives");
                  }});
}

}  // namespace ray::testing
