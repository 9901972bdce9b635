// A node whose workers and callers are thread records that the test acts for, all in one process: who runs what,
// when, can then be compared with a model step by step.
#pragma once

#include "orders.hpp"

#include <deque>

namespace ray::testing {

struct Worker {
  u32 pid, process, thread;
};

struct Node {
  explicit Node(i64 cpus, i64 gpus = 0, i64 custom = 0) : c(make(cpus, gpus, custom)), m(c.m()), h(c.header()) {
    u8 root[ID_BYTES] = {'o', 'r', 'd', 'e', 'r'};
    c.enter(ProcessKind::driver, root);
    function = c.put(Value{nullptr, 0, NIL, FORMAT_TEST}, {});
  }
  static Mapping* make(i64 cpus, i64 gpus, i64 custom) {
    ArenaOptions o;
    o.heap_bytes = 4 << 20;
    o.resources[CPU] = cpus * UNIT, o.resources[GPU] = gpus * UNIT, o.resources[CUSTOM] = custom * UNIT;
    return Mapping::create(o);
  }

  Worker add_worker() {
    Worker w{next_pid_++, NIL, NIL};
    Transaction t(m, NIL);
    w.process = process::enter(t, ProcessKind::worker, w.pid, w.pid, nullptr);
    w.thread = process::add_thread(t, w.process, true);
    t.commit();
    return w;
  }
  u32 shape(i64 cpu, i64 gpu = 0, i64 custom = 0) { return c.shape({cpu, gpu, custom}); }

  Submission submission(u32 shape, std::span<const u32> deps = {}) {
    Submission s;
    s.function = function;
    s.shape = shape;
    s.max_retries = ~0u;
    s.deps = deps;
    return s;
  }
  // The task; its result is held.
  u32 submit(u32 shape, std::span<const u32> deps = {}) {
    std::vector<u32> out;
    c.submit(submission(shape, deps), out);
    return m.object(out[0]).task;
  }
  u32 take(const Worker& w, bool late = false) {
    Transaction t(m, w.thread);
    u32 i = worker::take(t, w.thread, late);
    t.commit();
    c.drain();
    return i;
  }
  void finish(const Worker& w) {
    u32 result = NIL;
    {
      Transaction t(m, w.thread);
      result = m.task(m.thread(w.thread).task).returns;
      if (result) object::seal(t, result, Value{nullptr, 0, NIL, FORMAT_TEST});
      worker::complete(t, w.thread);
      queue::offer(t);
      t.commit();
    }
    c.drain();
    if (result && c.owns(result, m.object(result).serial)) c.drop_local(result);
  }
  void look(const char* when) { expect_whole(m, when); }

  Client c;
  Mapping& m;
  Header& h;
  u32 function;

 private:
  u32 next_pid_ = 5'000'000;  // beyond any real process
};

}  // namespace ray::testing
