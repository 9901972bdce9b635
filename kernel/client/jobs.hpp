// The end of a job: of what a driver had begun, when the driver has ended; and of an actor that was killed.
//
// Which jobs have ended is written down nowhere: it is those whose driver is not there any more.  So whoever dies
// while it sees to them is replaced by one that begins anew.
#pragma once

#include "stopping.hpp"

namespace ray {
namespace jobs {

// As of one moment: drivers may come and go while the tables are walked.
struct Living {
  std::vector<u32> jobs{0};  // 0: of what was begun outside of any task
  u32 last;                  // younger ones are too young to have ended

  explicit Living(Mapping& m) : last(m.header().next_job) {
    for (u32 i = 1; i <= m.header().processes.high_water; ++i) {
      const Process& p = m.process(i);
      if (p.state == PROCESS_ALIVE && p.job) jobs.push_back(p.job);
    }
  }
  bool has(u32 job) const { return job > last || std::find(jobs.begin(), jobs.end(), job) != jobs.end(); }
};

// A task that has not begun, or is away and has results to be made.  Calls are their actor's, which may be another
// job's; and so are those that are to run again for its state.
inline bool may_doom(const Task& task) {
  return (task.state == TASK_AWAY && task.returns && !(task.flags & LOGGED)) || task.state == TASK_READY ||
         task.state == TASK_RESTING || (task.state == TASK_WAITING && TaskKind(task.kind) != TaskKind::actor_call);
}

// One result fails; what is stored at a peer stays there.  The peer hears of the job's end as well.
inline void doom_away(Transaction& t, u32 i) {
  Task& task = t.m.task(i);
  if (away::settle(t, i) || task.state != TASK_AWAY || !task.returns) return;
  u32 o = task.returns;
  task::fail_return(t, task, o);
  t.set(task.returns, t.m.object(o).next_return);
  object::unreference(t, o);
  away::let_go_if_done(t, i);
}

inline void doom(Transaction& t, u32 i) {
  Task& task = t.m.task(i);
  if (task.state == TASK_READY) queue::remove(t, i);
  if (task.state == TASK_RESTING) queue::stop_resting(t, i);
  t.set(task.flags, task.flags | u32(JOB_ENDED));
  if (task.state == TASK_AWAY) return doom_away(t, i);
  if (TaskKind(task.kind) == TaskKind::actor_create) {
    t.set(t.m.actor(task.actor).creation, NIL);
    mailbox::die(t, task.actor, SystemFailure::job_ended, 0, 0);
    task::drop(t, i);
  } else {
    task::fail(t, i);
  }
  queue::offer(t);  // younger ones may have been held back for it
}

// Marks what this thread runs, and what waits below it, as far as its job has ended; true if there is any.  An actor
// is its own job's, whoever calls; one that was killed has no right to run either.  Written, not set: to undo it would
// change nothing, a job that has ended stays so.
inline bool mark(Transaction& t, Thread& thread, const Living& living) {
  if (thread.actor) {
    Actor& actor = t.m.actor(thread.actor);
    if (living.has(actor.job))
      return actor.state == ACTOR_DEAD && SystemFailure(actor.failure_code) == SystemFailure::actor_killed;
    t.write(actor.job_ended, 1u);
    return true;
  }
  bool any = false;
  auto look = [&](u32 i) {
    if (!i || living.has(t.m.task(i).job)) return;
    t.write(t.m.task(i).flags, t.m.task(i).flags | u32(JOB_ENDED));
    any = true;
  };
  look(thread.task);
  for (u32 d = 0; d < thread.depth; ++d) look(thread.below[d]);
  return any;
}

}  // namespace jobs

// Fails what has not begun, and returns how much that was; what runs is for the caller to stop.  What runs may begin
// something new behind the look: nothing is left when neither was there twice in a row.
inline u32 Client::end_jobs(std::vector<Activity>& running) {
  must_be_open();
  u32 th = thread(), doomed = 0;
  Transaction first(m(), th);
  jobs::Living living(m());
  first.commit();
  for (u32 i = 1, last = 1; i <= last;) {
    Transaction t(m(), th);
    last = h_.tasks.high_water;
    for (u32 end = std::min(last, i + JOB_LOOK); i <= end; ++i) {
      const Task& task = m().task(i);
      if (!jobs::may_doom(task) || living.has(task.job)) continue;
      jobs::doom(t, i);
      if (!jobs::may_doom(task)) ++i;
      ++doomed;
      break;
    }
    t.commit();
  }
  drain();
  Transaction t(m(), th);
  for (u32 i = 1; i <= h_.processes.high_water; ++i) {
    const Process& p = m().process(i);
    if (p.state == PROCESS_FREE || ProcessKind(p.kind) != ProcessKind::worker) continue;
    u32 x = stopping::main_thread(m(), p);
    // Marked also in one that is dying: its burial would have it run again.
    if (!x || !jobs::mark(t, m().thread(x), living) || p.state != PROCESS_ALIVE || p.stop) continue;
    running.push_back(stopping::activity_of(m(), p, m().thread(x)));
    if (u64 key = stopping::actor_key(m(), m().thread(x))) running.back().key = key;
  }
  t.commit();
  return doomed;
}

}  // namespace ray
