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
