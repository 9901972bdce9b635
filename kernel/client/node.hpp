// What the node manager asks: how many workers there shall be, and who holds the mutex.
#pragma once

#include "client.hpp"

namespace ray {

inline Demand Client::demand() {
  Transaction t(m(), process_ && !left_ ? thread() : NIL);
  Demand d{0, h_.idle_count, h_.worker_count, h_.max_workers};
  for (u32 i = 1; i < SHAPES_MAX; ++i) {
    const Shape& s = m().shape(i);
    if (!s.count || !resources::feasible(h_, s)) continue;
    // Every actor will need a process of its own, so these may start up while CPUs are still taken.
    u64 for_life = ~0ull, now = ~0ull;
    for (u32 k = 0; k < RESOURCE_KINDS; ++k) {
      if (s.need[k] <= 0) continue;
      u64 times = h_.free[k] > 0 ? u64(h_.free[k] / s.need[k]) : 0;
      now = std::min(now, times);
      if (k != CPU) for_life = std::min(for_life, times);
    }
    d.fitting += u32(std::max(std::min<u64>(s.count, now), std::min<u64>(s.creations, for_life)));
  }
  t.commit();
  return d;
}

inline void Client::wait_demand(i64 timeout_ms) {
  wait::Deadline deadline(timeout_ms);
  u32 seen = demand_seen_;
  auto changed = [&] { return h_.demand_word.load() != seen; };
  sleep_on(h_.demand_word, h_.demand_sleepers, deadline, changed, IDLE_SLICE_NS);
  demand_seen_ = h_.demand_word.load();
}

inline void Client::nudge() {
  for (auto* word : {&h_.demand_word, &h_.journal_word, &h_.news_word}) {
    word->fetch_add(1, std::memory_order_seq_cst);
    futex_wake(*word, 1 << 30);
  }
}

inline u32 Client::retire(u32 count) {
  Transaction t(m(), process_ && !left_ ? thread() : NIL);
  u32 asked = 0;
  for (u32 i = t.h.idle_head; i && asked < count && asked < AT_ONCE; i = m().thread(i).idle_next) {
    Process& p = m().process(m().thread(i).process);
    if (p.retire) continue;
    t.set(p.retire, 1u);
    t.wake(i);
    ++asked;
  }
  t.commit();
  return asked;
}

inline u32 Client::lock_holder(i64 timeout_ms) {
  {
    HostPause pause;
    int r = lock_waiting(m(), timeout_ms);
    if (r != ETIMEDOUT) {
      must_be_locked(m(), r);
      pthread_mutex_unlock(&h_.mutex);
      return 0;
    }
  }
  u32 tid = u32(h_.mutex.__data.__owner);
  char path[64], line[256];
  snprintf(path, sizeof path, "/proc/%u/status", tid);
  FILE* f = fopen(path, "re");
  if (!f) return 0;
  u32 pid = 0;
  while (fgets(line, sizeof line, f))
    if (sscanf(line, "Tgid: %u", &pid) == 1) break;
  fclose(f);
  return pid;
}

}  // namespace ray
