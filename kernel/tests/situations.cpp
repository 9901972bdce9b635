// All situations, for all tests that go through them.

#include "situations_actors.hpp"
#include "situations_calls_away.hpp"
#include "situations_jobs.hpp"
#include "situations_objects.hpp"
#include "situations_peers.hpp"
#include "situations_processes.hpp"
#include "situations_sending.hpp"
#include "situations_spill.hpp"
#include "situations_stopping.hpp"
#include "situations_tasks.hpp"

namespace ray::testing {

Situations all_situations() {
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
  add_calls_away_situations(list);
  return list;
}

}  // namespace ray::testing
