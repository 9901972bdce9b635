// What a task's result must be, and how often the task may have run for it.
#pragma once

#include "orders.hpp"

namespace ray::testing {

enum class Right : u32 { value, failure, sum };

// An object that the parent holds and what it must turn into.
struct Promise {
  u32 object;
  u32 tag;
  u32 size;
  Right right;
  u64 sum;  // or, of several returns, the index
  bool may_fail;
  bool final;  // once it has a value the task never runs again
  u32 runs_when_ready = 0;
};

// Complains of a result that is missing or wrong, or that took more runs than there were deaths.
inline void verify(const Promise& p, Client& c, Board& board, u32 deaths, bool tasks_may_fail) {
  if (!c.ready(p.object)) {
    board.complain("the result of task %u is missing", p.tag);
    return;
  }
  u32 o = c.value_of(p.object);
  const Object& object = c.m().object(o);
  u32 runs = board.runs[p.tag];
  bool failed = object.format == FORMAT_SYSTEM || (p.right != Right::failure && object.format >= FORMAT_ERROR);
  if (failed && (p.may_fail || tasks_may_fail)) return;
  if (runs == 0) board.complain("task %u has a result and never ran", p.tag);
  if (runs > 1 + deaths) board.complain("task %u ran %u times with %u deaths", p.tag, runs, deaths);
  if (p.final && p.runs_when_ready && runs != p.runs_when_ready)
    board.complain("task %u ran again after its result was there", p.tag);
  if (failed) {
    board.complain("task %u failed, and should not have", p.tag);
    return;
  }
  const u8* data = c.data_for_reading(o);
  bool right = object.format == (p.right == Right::failure ? FORMAT_TEST_FAILURE : FORMAT_TEST);
  right = right && object.size_bytes == p.size;
  if (p.right == Right::sum) {
    u64 sum = 0;
    if (right) memcpy(&sum, data, 8);
    if (!right || (p.sum && sum != p.sum))
      board.complain("call %u gave %llu, not %llu", p.tag, static_cast<unsigned long long>(sum),
                     static_cast<unsigned long long>(p.sum));
    return;
  }
  u32 tag = p.tag + (p.right == Right::value ? u32(p.sum) : 0);
  for (u32 i = 0; right && i < p.size; ++i) right = data[i] == pattern(tag, i);
  if (!right) board.complain("task %u has the wrong result", p.tag);
}

}  // namespace ray::testing
