// What a node says to others, and hears from them, as plain data.
#pragma once

#include "numbers.hpp"

#include <array>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ray {

using ObjectIdBytes = std::array<u8, ID_BYTES>;
using TaskIdBytes = std::array<u8, TASK_ID_BYTES>;
using IdTimes = std::pair<ObjectIdBytes, u32>;

inline ObjectIdBytes to_id(const u8* bytes) {
  ObjectIdBytes id;
  memcpy(id.data(), bytes, ID_BYTES);
  return id;
}

struct IdRef {
  ObjectIdBytes id;
  u32 owner;  // peer; 0: this node
};

// A peer or a guest; of a local driver `home` is 0.
struct Remote {
  u32 index, job, home;
  ObjectIdBytes id;
};

struct QueueState {
  u32 shape;  // handle
  i64 need[3];
  u32 tasks;  // ready, and may be sent
  bool feasible;
};

struct SentTask {
  TaskIdBytes id;
  u32 job;
  std::optional<IdRef> function;
  std::string payload;
  std::vector<IdRef> deps, nested;
  u32 num_returns;
  i64 need[3];
  u32 attempt, retries_left;         // of a call: its method's number
  std::optional<IdRef> actor;        // of a call
  std::optional<u32> interval;       // of a creation: the actor's
  std::optional<TaskIdBytes> after;  // the call before it of the same caller, if that was not known to be done
  // A call whose results the peer may know already: they are its own, and it has come here from there, or it runs
  // again.
  bool around = false;
  std::optional<IdRef> checkpoint;  // of a creation: it goes on from there,
  u32 turn = 0;                     // behind that turn
};

struct Away {
  u32 index = NIL;
  u64 serial = 0;
  TaskIdBytes id{};
  u64 sequence = 0;
};

struct Location {
  u32 peer;
  u64 size_bytes;
  u32 format;
};

struct News {
  NewsKind kind{};
  IdRef id{};
  u32 object = NIL;   // done, wanted, sealed, calls, checkpoint (its value): held for the caller
  u32 peer = NIL;     // calls: where they go; checkpoint: who owns the actor of this id
  bool ends = false;  // calls: and before them, that the actor of this id shall end; checkpoint: it is the last here
  bool failed = false;
  u32 turn = 0;  // done: of a call's result, at which turn of its actor; checkpoint: the last that it covers
  std::vector<IdRef> nested;
  std::vector<std::pair<u32, u32>> notes;  // gone: peers, and how often each had lent it
  u32 located = NIL;
};

}  // namespace ray
