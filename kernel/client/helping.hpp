// A task that waits runs another on its stack, when no worker is left to run it.
#pragma once

#include "client.hpp"

namespace ray {

// At the limit of workers, with none idle: what one of these objects needs runs here, by way of the host.
inline u32 Client::take_help(u32 th, std::span<const u32> targets) {
  if (!helps_ || !worker::may_help(m(), th)) return NIL;
  Transaction t(m(), th);
  u32 chosen = NIL;
  if (help_from_) chosen = worker::find_help(t, help_from_, help_from_);
  for (u32 i = 0; i < targets.size() && i < AT_ONCE && !chosen && !help_from_; ++i)
    chosen = worker::find_help(t, targets[i], help_from_);
  if (chosen) worker::help(t, th, chosen);
  t.commit();
  return chosen;
}

// Nothing will ever move: this wait is one of those that only one more worker could end, and there can be none.
inline bool Client::stuck(u32 th, std::span<const u32> targets, Standstill& seen) {
  u64 done = std::atomic_ref(h_.tasks_done).load(std::memory_order_relaxed);
  u32 running = peek(h_.running_count);
  u64 now = now_ns();
  if (!seen.since_ns || done != seen.tasks_done || running != seen.running || peek(h_.idle_head)) {
    seen = Standstill{now, done, running};
    return false;
  }
  if (now - seen.since_ns < STUCK_NS) return false;
  seen.since_ns = now;
  Transaction t(m(), th);
  bool yes = worker::all_wait(m());
  for (u32 i = 0; yes && i < targets.size() && i < AT_ONCE; ++i) yes = worker::needs_a_worker(m(), targets[i]);
  t.commit();
  return yes;
}

inline std::unique_ptr<Client::Below> Client::step_up(u32 task) {
  auto below = std::make_unique<Below>();
  below->local = local_thread;
  memcpy(below->current_parent, current_parent_, TASK_ID_BYTES);
  below->depth = m().thread(thread()).depth;
  local_thread.lanes.clear();
  enter_task(m().task(task));
  return below;
}

inline void Client::step_down(Below& below) {
  static_cast<CallerState&>(local_thread) = std::move(below.local);
  memcpy(current_parent_, below.current_parent, TASK_ID_BYTES);
  Transaction t(m(), thread());
  worker::retake_cpu(t, thread());
  t.commit();
}

}  // namespace ray
