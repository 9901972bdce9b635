// Processes and their threads: joining, leaving, and the burial of the dead.
//
// Whatever a process holds is written down under its record, so burying it is walking that ledger, a
// bounded piece at a time.  A burial whose own process dies is simply begun again.
#pragma once

#include "mailbox.hpp"

namespace ray::process {

// Of this node; peers and guests are other nodes, and drivers there.
inline bool is_local(const Process& p) { return p.kind < u32(ProcessKind::peer); }

// Of several with one pid, the one that started first: a pid is used again only after its owner's death.
inline u32 find(Mapping& m, u32 pid) {
  u32 oldest = NIL;
  for (u32 i = m.header().processes.high_water; i; --i) {
    Process& p = m.process(i);
    if (p.state == PROCESS_FREE || p.pid != pid || !is_local(p)) continue;
    if (!oldest || p.started < m.process(oldest).started) oldest = i;
  }
  return oldest;
}

inline u32 enter(Transaction& t, ProcessKind kind, u32 pid, u64 started, const u8* root_id, u32 home = NIL) {
  if (root_id && kind == ProcessKind::driver)
    for (u32 i = t.h.processes.high_water; i; --i) {
      Process& other = t.m.process(i);
      if (other.state == PROCESS_ALIVE && other.kind == u32(ProcessKind::driver) &&
          memcmp(other.root_id, root_id, TASK_ID_BYTES) == 0)
        throw KernelError("another live driver of this session has the same root id");
    }
  u32 i = processes(t.m).take(t);
  Process& p = t.m.process(i);
  p.serial += 1;
  p.pid = pid;
  p.kind = u32(kind);
  p.started = started;
  p.job = 0;
  p.holds = p.blocks = p.threads = NIL;
  p.status = p.retire = 0;
  p.stop = NOT_STOPPED;
  p.report = NIL;
  p.home = home;
  memset(p.root_id, 0, ID_BYTES);
  if (root_id) memcpy(p.root_id, root_id, ID_BYTES);
  if (kind == ProcessKind::driver || kind == ProcessKind::guest) {
    t.set(t.h.next_job, t.h.next_job + 1);
    p.job = t.h.next_job;
  }
  t.set(p.state, PROCESS_ALIVE);
  if (kind == ProcessKind::worker) t.set(t.h.worker_count, t.h.worker_count + 1);
  if (kind == ProcessKind::peer) t.set(t.h.peers, t.h.peers + 1);
  return i;
}

inline u32 add_thread(Transaction& t, u32 process, bool is_main) {
  u32 i = threads(t.m).take(t);
  Thread& thread = t.m.thread(i);
  thread.serial += 1;
  thread.process = process;
  thread.task = thread.actor = thread.building = thread.lanes = NIL;
  thread.idle = thread.idle_next = thread.idle_previous = NIL;
  thread.shape = thread.gave_back = thread.granted = thread.life_shape = 0;
  thread.gpu_mask = 0;
  thread.gpu_units = 0;
  thread.is_main = is_main;
  thread.depth = 0;
  thread.task_since_ns = 0;
  thread.sleeping = 0;
  thread.awaiting = 0;
  thread.needed = 0;
  thread.next = t.m.process(process).threads;
  t.set(t.m.process(process).threads, i);
  return i;
}

// An actor keeps all but its CPUs for life; a task that helps has taken CPUs only.
inline void release_resources(Transaction& t, Thread& thread, bool cpus_only = false) {
  if (!thread.shape) return;
  const Shape& s = t.m.shape(thread.shape);
  if (thread.gave_back) t.set(thread.gave_back, 0u);
  else resources::give_cpu(t, s);
  if (!thread.life_shape && !cpus_only) resources::give_rest(t, thread, s);
  t.set(thread.shape, 0u);
}

// The task that ran on top of others has ended: the thread goes on with the one below, which still waits.
inline void step_down(Transaction& t, Thread& thread) {
  u32 d = thread.depth - 1;
  u32 below = thread.below[d];
  const Shape& s = t.m.shape(t.m.task(below).shape);
  t.set(thread.depth, d);
  t.set(thread.task, below);
  t.set(thread.shape, t.m.task(below).shape);
  t.set(thread.gave_back, s.need[CPU] ? 1u : 0u);
  t.set(thread.lanes, thread.lanes_below[d]);
}

// A thread that died while it spun keeps its seat; later its record may be another's.
inline void clear_seats(Mapping& m, u32 thread) {
  for (auto& seat : m.header().spinners) {
    u32 taken = thread;
    if (seat.load(std::memory_order_relaxed) == thread) seat.compare_exchange_strong(taken, 0);
  }
}

// `report` says it in other words, if there is one.  Of a job that has ended nobody asks for errors; those of another
// node's task are entered there.
inline void note_failure(Transaction& t, Task& task, SystemFailure code, u32 report) {
  if (task.flags & (JOB_ENDED | RECEIVED)) return;
  if (report) {
    journal::append(t, {JournalKind::error, task.job, t.m.object(report).format, nullptr, 0, report});
    return;
  }
  task::SystemData d = task::failure_data(t.m, task);
  d.code = i32(code);
  d.status = i32(task.failure_status);
  d.pid = i32(task.failure_pid);
  journal::append(t, {JournalKind::error, task.job, FORMAT_SYSTEM, reinterpret_cast<const u8*>(&d), sizeof d, NIL});
}

// The task that a dead thread ran: again, or failed.
inline void bury_task(Transaction& t, Thread& thread, u32 i, i32 status, u32 pid) {
  Task& task = t.m.task(i);
  t.set(thread.task, NIL);
  t.set(t.h.running_count, t.h.running_count - 1);
  t.set(task.thread, NIL);
  t.set(task.failure_status, u32(status));
  t.set(task.failure_pid, pid);
  if (TaskKind(task.kind) != TaskKind::task) return;    // its actor decides
  if (task.flags & JOB_ENDED) return task::fail(t, i);  // it does not run again, and nobody asks why
  const Process& p = t.m.process(thread.process);
  u32 stops = task.flags / ONE_STOP;  // these do not count as retries
  if (p.stop == STOPPED_TO_RUN_AGAIN && task.max_retries) {
    t.set(task.attempt, task.attempt + 1);
    t.set(task.flags, task.flags + ONE_STOP);
    queue::rest(t, i);
  } else if (p.stop && p.stop != STOPPED_WITH_ITS_JOB) {  // of another job's above it this one is an ordinary victim
    t.write(task.flags, task.flags | u32(STOPPED));       // if undone, the burial is begun again, and ends here
    t.set(task.report, p.report);
    if (p.report) object::reference(t, p.report);
    task::fail(t, i);
    note_failure(t, task, SystemFailure::task_stopped, p.report);
  } else if (task.attempt - stops < task.max_retries) {
    t.set(task.attempt, task.attempt + 1);
    queue::push(t, i, true);
  } else {
    task::fail(t, i);
    note_failure(t, task, SystemFailure::worker_died, NIL);
  }
}

inline void bury_actor(Transaction& t, Thread& thread, u32 running, i32 status, u32 pid) {
  u32 a = thread.actor;
  Actor& actor = t.m.actor(a);
  t.set(thread.actor, NIL);
  t.set(actor.thread, NIL);
  if (thread.life_shape) {
    resources::give_rest(t, thread, t.m.shape(thread.life_shape));
    t.set(thread.life_shape, 0u);
  }
  bool creating = running && running == actor.creation;
  const Process& p = t.m.process(thread.process);
  bool may_live = actor.state != ACTOR_DEAD && !actor.unreferenced && !actor.job_ended && p.stop != STOPPED_FOR_GOOD;
  if (may_live && actor.interval && actor.deaths < ACTOR_DEATHS_MAX) {
    mailbox::restart(t, a, creating ? NIL : running, p.stop == STOPPED_TO_RUN_AGAIN);
    return;
  }
  SystemFailure why = actor.job_ended ? SystemFailure::job_ended
                      : p.stop        ? SystemFailure::actor_stopped
                                      : SystemFailure::actor_died;
  if (p.report && actor.state != ACTOR_DEAD && !actor.failure) {
    object::reference(t, p.report);
    t.set(actor.failure, p.report);
  }
  if (creating) {
    t.set(actor.creation, NIL);
    task::drop(t, running);
  }
  if (actor.state != ACTOR_DEAD)
    mailbox::die(t, a, actor.unreferenced ? SystemFailure::actor_killed : why, status, pid);
  else mailbox::add_work(t, a);
  if (running && !creating) {
    Task& task = t.m.task(running);
    t.set(task.flags, task.flags | u32(ACTOR_GONE));
    task::fail(t, running);
    note_failure(t, task, SystemFailure(actor.failure_code), p.report);
  } else if (creating) {
    note_failure(t, t.m.task(running), why, p.report);
  }
}

// A build that its maker will not finish; an actor whose creation it was never lives.
inline void abandon_build(Transaction& t, Thread& thread, i32 status, u32 pid) {
  u32 i = thread.building;
  Task& task = t.m.task(i);
  t.set(thread.building, NIL);
  t.set(task.pending, task.pending - 1);
  t.set(task.failure_status, u32(status));
  t.set(task.failure_pid, pid);
  if (TaskKind(task.kind) == TaskKind::actor_create) {
    Actor& actor = t.m.actor(task.actor);
    t.set(actor.creation, NIL);
    mailbox::die(t, task.actor, SystemFailure::actor_died, status, pid);
    if (task.flags & RECEIVED) loan::take_back(t, actor.object, owner_of(t.m.object(actor.object)), ~0u);
  }
  if (!(task.flags & RECEIVED)) return task::drop(t, i);
  t.set(task.flags, task.flags | u32(TAKEN_BACK));
  task::fail(t, i);
}

// Everything of a thread but its lanes, which are closed before.
inline void bury_thread(Transaction& t, u32 process, u32 i, i32 status, u32 pid) {
  Thread& thread = t.m.thread(i);
  if (thread.depth) {
    release_resources(t, thread, true);
    bury_task(t, thread, thread.task, status, pid);
    step_down(t, thread);
    queue::offer(t);
    return;
  }
  clear_seats(t.m, i);
  queue::remove_idle(t, i);
  u32 running = thread.task;
  bool actor_task = running && TaskKind(t.m.task(running).kind) != TaskKind::task;
  release_resources(t, thread);
  if (thread.granted) {
    resources::give_cpu(t, t.m.shape(t.m.actor(thread.actor).shape));
    t.set(thread.granted, 0u);
  }
  if (thread.building) abandon_build(t, thread, status, pid);
  if (running) bury_task(t, thread, running, status, pid);
  if (thread.actor) bury_actor(t, thread, actor_task ? running : NIL, status, pid);
  t.set(t.m.process(process).threads, thread.next);
  t.set(thread.process, NIL);
  threads(t.m).give(t, i);
  queue::offer(t);
}

// A process lets go of an object.  One that it had promised to make, and had not, never comes: whoever waits is told.
// Another node's comes from there.
inline void drop_hold(Transaction& t, u32 ref, SystemFailure code, i32 status, u32 pid) {
  u32 i = object::held_object(t.m, ref);
  Object& o = t.m.object(i);
  if ((ref & HOLD_IN_OBJECT) && o.state == OBJECT_PENDING && o.task == NIL && !o.origin && o.references > 1) {
    task::SystemData d{i32(code), status, i32(pid), 0, {}};
    memcpy(d.function_id, o.id, ID_BYTES);
    object::seal(t, i, Value{reinterpret_cast<const u8*>(&d), sizeof d, NIL, FORMAT_SYSTEM});
  }
  object::drop_hold(t, ref);
}

// A burial, or leaving in good order, and how far it is.
struct Burial {
  u32 process;
  i32 status;
  bool keep_pinned;
  u32 kept = NIL;  // the last hold in the list that stays
};

// One bounded piece; true when nothing is left to do.
inline bool bury_piece(Transaction& t, Burial& burial) {
  u32 index = burial.process;
  i32 status = burial.status;
  Process& p = t.m.process(index);
  if (u32 i = p.threads) {
    if (u32 l = t.m.thread(i).lanes) mailbox::close_lane(t, l);
    else bury_thread(t, index, i, status, p.pid);
    return false;
  }
  if (u32 b = p.blocks) {
    heap::let_go(t, b);
    heap::release(t, b);
    return false;
  }
  if (u32 o = p.report) {
    t.set(p.report, NIL);
    object::unreference(t, o);
    return false;
  }
  u32 ref = p.holds;
  if (burial.keep_pinned) {
    auto stays = [&](u32 r) { return object::hold_at(t.m, r).process == index && object::hold_at(t.m, r).pins; };
    if (burial.kept && stays(burial.kept)) ref = object::hold_at(t.m, burial.kept).next;
    for (u32 n = 0; ref && stays(ref); ref = object::hold_at(t.m, ref).next) {
      burial.kept = ref;
      if (++n == PINS_LOOK) return false;
    }
  }
  if (!ref) return true;
  drop_hold(t, ref, SystemFailure::worker_died, status, p.pid);
  return false;
}

inline void free_record(Transaction& t, u32 index) {
  Process& p = t.m.process(index);
  if (ProcessKind(p.kind) == ProcessKind::worker) t.set(t.h.worker_count, t.h.worker_count - 1);
  if (ProcessKind(p.kind) == ProcessKind::peer) t.set(t.h.peers, t.h.peers - 1);
  t.set(p.state, PROCESS_FREE);
  processes(t.m).give(t, index);
  t.ask_for_workers();
}

}  // namespace ray::process
