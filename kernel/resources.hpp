// Resources: integers in 1/10,000, counted in the header, held under the thread that took them.
//
// Invariant: for each kind, free + what running threads and living actors hold = total.  CPUs of a task
// that waits inside `get` are given back, so free CPUs may go below zero when it goes on.
#pragma once

#include "transaction.hpp"

namespace ray::resources {

using Needs = std::array<i64, RESOURCE_KINDS>;

inline bool gpus_fit(const Header& h, i64 need) {
  if (need == 0) return true;
  i64 whole = need / UNIT;
  i64 found = 0;
  for (u32 g = 0; g < GPUS_MAX; ++g) {
    if (whole == 0 ? h.gpu_free[g] >= u32(need) : h.gpu_free[g] == UNIT) ++found;
    if (found > 0 && found >= whole) return true;
  }
  return false;
}

inline bool fits(const Header& h, const Shape& s) {
  for (u32 k = 0; k < RESOURCE_KINDS; ++k)
    if (s.need[k] > 0 && s.need[k] > h.free[k]) return false;
  return gpus_fit(h, s.need[GPU]);
}

// Whether that many of them fit side by side.  Of GPUs the sum is looked at, and one of them: parts may not add up.
inline bool fit_side_by_side(const Header& h, const Shape& s, u32 count) {
  for (u32 k = 0; k < RESOURCE_KINDS; ++k)
    if (s.need[k] > 0 && s.need[k] * i64(count) > h.free[k]) return false;
  return gpus_fit(h, s.need[GPU]);
}

inline bool feasible(const Header& h, const Shape& s) {
  for (u32 k = 0; k < RESOURCE_KINDS; ++k)
    if (s.need[k] > h.total[k]) return false;
  return true;
}

inline bool cpu_fits(const Header& h, const Shape& s) { return s.need[CPU] <= 0 || s.need[CPU] <= h.free[CPU]; }

// What processes know a demand by; its record may be given to another demand once no task or actor has it.
inline u32 handle(Mapping& m, u32 i) { return m.shape(i).generation * SHAPES_MAX + i; }
inline u32 index_of(u32 handle) { return handle % SHAPES_MAX; }
inline bool is_current(Mapping& m, u32 handle) {
  return peek(m.shape(index_of(handle)).generation) == handle / SHAPES_MAX;
}

// The index of this combination, made if it is new.
inline u32 intern(Transaction& t, const Needs& need) {
  u32 unused = NIL;
  for (u32 i = 1; i < SHAPES_MAX; ++i) {
    const Shape& s = t.m.shape(i);
    if (!s.used && !unused) unused = i;
    if (s.used && memcmp(s.need, need.data(), sizeof s.need) == 0) return i;
  }
  if (!unused) throw TableFull("resource demands", SHAPES_MAX - 1);
  Shape& s = t.m.shape(unused);
  for (u32 k = 0; k < RESOURCE_KINDS; ++k) t.set(s.need[k], need[k]);
  t.set(s.used, 1u);
  t.write(s.passed, 0u);
  return unused;
}

// Nobody has this demand.  Undone, it is forgotten all the same: whoever wants it makes it anew.
inline void forget(Transaction& t, u32 i) {
  Shape& s = t.m.shape(i);
  t.write(s.used, 0u);
  t.write(s.generation, (s.generation + 1) % SHAPE_GENERATIONS);
}

inline void take_cpu(Transaction& t, const Shape& s) {
  if (s.need[CPU]) t.set(t.h.free[CPU], t.h.free[CPU] - s.need[CPU]);
}
inline void give_cpu(Transaction& t, const Shape& s) {
  if (s.need[CPU]) t.set(t.h.free[CPU], t.h.free[CPU] + s.need[CPU]);
}

// Everything but CPUs, with the GPUs chosen: whole ones, or a part of the fullest that has room.
inline void take_rest(Transaction& t, Thread& thread, const Shape& s) {
  for (u32 k = 1; k < RESOURCE_KINDS; ++k)
    if (s.need[k]) t.set(t.h.free[k], t.h.free[k] - s.need[k]);
  i64 need = s.need[GPU];
  if (!need) return;
  u64 mask = 0;
  if (need >= UNIT) {
    i64 left = need / UNIT;
    for (u32 g = 0; g < GPUS_MAX && left; ++g)
      if (t.h.gpu_free[g] == UNIT) {
        t.set(t.h.gpu_free[g], 0u);
        mask |= 1ull << g;
        --left;
      }
    t.set(thread.gpu_units, UNIT);
  } else {
    u32 best = GPUS_MAX;
    for (u32 g = 0; g < GPUS_MAX; ++g)
      if (t.h.gpu_free[g] >= u32(need) && (best == GPUS_MAX || t.h.gpu_free[g] < t.h.gpu_free[best])) best = g;
    t.set(t.h.gpu_free[best], t.h.gpu_free[best] - u32(need));
    mask = 1ull << best;
    t.set(thread.gpu_units, u32(need));
  }
  t.set(thread.gpu_mask, mask);
}

inline void give_rest(Transaction& t, Thread& thread, const Shape& s) {
  for (u32 k = 1; k < RESOURCE_KINDS; ++k)
    if (s.need[k]) t.set(t.h.free[k], t.h.free[k] + s.need[k]);
  if (!thread.gpu_mask) return;
  for (u32 g = 0; g < GPUS_MAX; ++g)
    if (thread.gpu_mask >> g & 1) t.set(t.h.gpu_free[g], t.h.gpu_free[g] + thread.gpu_units);
  t.set(thread.gpu_mask, 0ull);
}

}  // namespace ray::resources
