// Every operation, in every situation that takes another path through the kernel.
#pragma once

#include "stage.hpp"

#include <functional>

namespace ray::testing {

using Step = std::function<void(Stage&)>;

struct Situation {
  std::string name;
  ProcessKind kind = ProcessKind::driver;
  Step prepare;         // in the parent
  Step ready = {};      // in the child, before it is in danger
  Step meet = {};       // in the parent, after `ready`
  Step act = {};        // in the child, which may be killed at any step
  bool joins = true;    // the child enters the arena before `ready`
  bool settles = true;  // the session goes on afterwards
  Step after = {};      // in the parent, once the dead are buried
};
using Situations = std::vector<Situation>;

inline void nothing(Stage&) {}

}  // namespace ray::testing

#include "situations_actors.hpp"
#include "situations_jobs.hpp"
#include "situations_objects.hpp"
#include "situations_peers.hpp"
#include "situations_processes.hpp"
#include "situations_sending.hpp"
#include "situations_spill.hpp"
#include "situations_stopping.hpp"
#include "situations_tasks.hpp"

namespace ray::testing {

inline Situations all_situations() {
  Situations list;
  add_object_situations(list);
  add_task_situations(list);
  add_worker_situations(list);
  add_actor_situations(list);
  add_process_situations(list);
  add_spill_situations(list);
  add_stopping_situations(list);
  add_job_situations(list);
  add_peer_situations(list);
  add_sending_situations(list);
  return list;
}

}  // namespace ray::testing
