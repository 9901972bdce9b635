// What the node manager does about a worker that holds too much: looks what it runs, stops it, and later lets
// what it ran run again.
#pragma once

#include "client.hpp"

#include <csignal>
#include <sys/syscall.h>

namespace ray {

namespace stopping {

inline constexpr u64 ACTOR_KEY = 1ull << 63;

inline u32 main_thread(Mapping& m, const Process& p) {
  for (u32 i = p.threads; i; i = m.thread(i).next)
    if (m.thread(i).is_main) return i;
  return NIL;
}

// Names an actor whatever it does; 0: none is served.
inline u64 actor_key(Mapping& m, const Thread& thread) {
  return thread.actor ? ACTOR_KEY | object::key(m, m.actor(thread.actor).object) : 0;
}

// Names what the thread does; 0: nothing.
inline u64 key_of(Mapping& m, const Thread& thread) {
  return thread.task ? m.task(thread.task).serial << 21 | thread.task : actor_key(m, thread);
}
static_assert(TASKS_MAX == 1u << 21, "keys keep 21 bits for the index");

inline Activity activity_of(Mapping& m, const Process& p, const Thread& thread) {
  Activity a{p.pid, p.started, 0, key_of(m, thread), {}, p.job, 0, false, 0};
  u32 named = NIL;
  if (u32 i = thread.task) {
    const Task& task = m.task(i);
    a.kind = task.kind;
    a.job = task.job;
    a.since_ns = thread.task_since_ns;
    a.retriable = task.max_retries > 0;
    a.stops = task.flags / ONE_STOP;
    named = task.function;
  }
  if (thread.actor) {
    const Actor& actor = m.actor(thread.actor);
    if (!a.kind) a.kind = u32(TaskKind::actor_call);
    a.retriable = actor.interval > 0;
    a.stops = actor.deaths;
    named = actor.cls ? actor.cls : named;
  }
  if (named) memcpy(a.function_id, m.object(named).id, ID_BYTES);
  return a;
}

}  // namespace stopping

inline std::vector<Activity> Client::activities() {
  std::vector<Activity> out;
  Transaction t(m(), thread());
  for (u32 i = 1; i <= h_.processes.high_water; ++i) {
    const Process& p = m().process(i);
    if (p.state != PROCESS_ALIVE || ProcessKind(p.kind) != ProcessKind::worker || p.stop) continue;
    if (u32 th = stopping::main_thread(m(), p)) out.push_back(stopping::activity_of(m(), p, m().thread(th)));
  }
  t.commit();
  return out;
}

// Killed before the commit: from then on it can take no other task, since that needs the mutex.
// An actor's own key stands for it whatever call it runs; with the others it must still do just that.
inline bool Client::stop(u32 pid, u64 key, int pidfd, u32 report, u32 how) {
  must_be_open();
  Transaction t(m(), thread());
  Process& p = m().process(process::find(m(), pid));
  u32 th = p.state == PROCESS_ALIVE ? stopping::main_thread(m(), p) : NIL;
  bool same =
      th && (stopping::key_of(m(), m().thread(th)) == key || (key && stopping::actor_key(m(), m().thread(th)) == key));
  if (!same || p.stop) {
    t.commit();
    return false;
  }
  t.set(p.stop, how);
  if (report) {
    t.set(p.report, report);
    object::reference(t, report);
  }
  syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, nullptr, 0);
  t.commit();
  return true;
}

inline bool Client::resume() {
  must_be_open();
  Transaction t(m(), thread());
  bool any = h_.resting_head != NIL;
  if (any) {
    queue::resume(t);
    queue::offer(t);
  }
  t.commit();
  return any;
}

}  // namespace ray
