// What a thread is to its client: its record in the arena, where its ids start from, the lanes it has opened.
#pragma once

#include "numbers.hpp"

#include <atomic>
#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

namespace ray {

class Client;

// Which clients are alive, for threads that end later than their client.
inline std::mutex live_mutex;
inline std::map<u64, Client*> live_clients;
inline std::atomic<u32> forks{0};

struct CallerState {
  u64 client = 0;
  u32 index = NIL;
  u8 parent[TASK_ID_BYTES] = {};
  u32 ordinal = 0;
  u64 counter = 0;
  std::unordered_map<u32, std::pair<u64, u32>> lanes;  // actor -> its serial, lane
};
// The destructor gives the record back, so this is never copied whole: a copy's end would end the thread's.
struct LocalThread : CallerState {
  LocalThread() = default;
  LocalThread(const LocalThread&) = delete;
  LocalThread& operator=(const LocalThread&) = delete;
  ~LocalThread();

  // Where this thread is with other clients.
  std::vector<CallerState> others;

  // From one client to another; false if this thread is new to it.
  bool turn_to(u64 other) {
    if (client) others.push_back(std::exchange(static_cast<CallerState&>(*this), CallerState{}));
    for (CallerState& state : others)
      if (state.client == other) {
        static_cast<CallerState&>(*this) = std::exchange(state, std::move(others.back()));
        others.pop_back();
        return true;
      }
    return false;
  }
};
inline thread_local LocalThread local_thread;

}  // namespace ray
