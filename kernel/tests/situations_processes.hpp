// Processes: they enter, leave, end threads, are buried; workers are retired; the session is shut.
#pragma once

#include "situations_actors.hpp"

#include <thread>

namespace ray::testing {

// Threads of the child run one at a time, so counting steps stays exact.
template <typename Work>
inline void on_a_thread(Work work) {
  std::thread(work).join();
}

inline Situation buries(const std::string& name, Step prepare) {
  return {"bury " + name,
          ProcessKind::node_manager,
          [=](Stage& s) {
            s.board.unseen_attempts = 0;
            prepare(s);
            s.kill_helper(s.victim);
          },
          {},
          {},
          [](Stage& s) { s.c.bury(u32(s.victim), -SIGKILL); }};
}

inline void dies_while_it_builds(Stage& s, std::function<void()> build) {
#ifdef RAY_CRASH_POINTS
  s.victim = s.helper([&s, build] {
    s.c.enter(ProcessKind::driver, nullptr);
    static Stage* stage;
    static u32 left;
    stage = &s;
    left = 1 + s.random.below(120);
    crash::on_undo = [](const std::source_location&) {
      if (stage->m.thread(stage->c.thread()).building && --left == 0) kill(getpid(), SIGKILL);
    };
    build();
    pause();
  });
#else
  (void)s, (void)build;
#endif
  siginfo_t info;
  waitid(P_PID, id_t(s.victim), &info, WEXITED | WNOWAIT);
}

// One with a task that waits below the one that it runs.
inline void helping_worker(Stage& s) {
  u32 actor = s.actor(2);
  s.held.push_back(actor);
  s.start_worker();
  s.board.until([&] { return s.m.actor(s.m.object(actor).actor).state == ACTOR_ALIVE; });
  s.victim = s.start_worker();
  s.board.until([&] { return s.idle() == 1; });
  s.h.max_workers = s.h.worker_count;
  Options on;
  on.nested = {actor};
  s.task(Act::spawn_gated, 2, on);
  s.at_gate(4);
}

inline void add_burials(Situations& list) {
  list.push_back(buries("an idle worker", [](Stage& s) {
    s.workers(1);
    s.victim = *s.helpers.begin();
  }));
  list.push_back(buries("a worker that was woken and did not come", [](Stage& s) {
    make_victim(s, ProcessKind::worker, [&s] {
      Transaction t(s.m, s.c.thread());
      worker::take(t, s.c.thread());
      t.commit();
    });
    if (s.random.coin()) s.workers(1);
    s.task();
  }));
  for (u32 retries : {0u, 1u})
    for (u32 returns : {0u, 1u, 5u})
      list.push_back(buries("a worker running a task with " + std::to_string(retries) + " retries and " +
                                std::to_string(returns) + " returns",
                            [=](Stage& s) {
                              s.start_worker();
                              s.victim = *s.helpers.begin();
                              Options o = with(0, 0, returns);
                              o.retries = retries;
                              o.may_fail = retries == 0;
                              o.shape = 2 + s.random.below(3);
                              if (s.random.coin()) o.deps = {s.put(100)};
                              u32 first = s.task(Act::gate, 1, o);
                              if (first) {
                                Options on;
                                on.deps = {first};
                                s.task(Act::value, 0, on);
                              }
                              s.at_gate(1);
                              s.tasks_may_fail = retries == 0;
                              if (s.random.coin()) s.task();
                            }));
  list.push_back(buries("a worker that has sealed half its results", [](Stage& s) {
    s.task(Act::many, 2, with(0, 0, 3), 200);
    make_victim(s, ProcessKind::worker, [&s] {
      take_task(s);
      s.board.runs[order_of(s.c, s.assignment.task).tag] += 1;
      Task& task = s.m.task(s.assignment.task);
      Order order = order_of(s.c, s.assignment.task);
      std::vector<u8> bytes = bytes_of(order.tag, order.size);
      Transaction t(s.m, s.c.thread());
      u32 o = task.returns;
      object::seal(t, o, Value{bytes.data(), bytes.size(), NIL, FORMAT_TEST});
      t.set(task.returns, s.m.object(o).next_return);
      object::unreference(t, o);
      t.commit();
    });
    s.promises.erase(s.promises.begin());  // it was sealed by the first attempt, rightly
  }));
  list.push_back(buries("a driver with blocks, holds, pins and reserved ids", [](Stage& s) {
    std::vector<u32> mine = some_objects(s, 3, 300);
    make_victim(s, ProcessKind::driver, [&s, mine] {
      s.c.allocate(500);
      s.c.allocate(9000);
      for (u32 o : mine) s.c.pin(s.take(o));
      u32 own = s.put(40000, {mine[0]});
      s.c.pin(own);
      s.c.reserve();
      s.x = s.c.reserve();
      s.tell_id(0, s.x);
      s.tell_id(1, own);
    });
    u32 o = s.hear_id(0);
    s.hear_id(1);
    Options on;
    on.deps = {o};
    for (u32 i = 0; i < 10; ++i) s.task(Act::value, 0, on);
    s.watchers(o, 5);
  }));
  list.push_back(buries("a driver with tasks under way", [](Stage& s) {
    u32 p = s.pending();
    make_victim(s, ProcessKind::driver, [&s, p] {
      Options on;
      on.deps = {s.take(p)};
      s.submit({Act::value, s.new_tag(), 0, 100}, on);
      s.submit({Act::many, s.new_tag(), 1, 100}, with(0, 0, 5));
      u32 inner = s.put(10);
      s.put(10, {inner});
    });
  }));
  for (u32 parts : {20u, 60u})
    list.push_back(buries("a driver that dies building a task of " + std::to_string(parts) + " parts", [=](Stage& s) {
      for (u32 i = 0; i < parts; ++i) s.list.push_back(i % 3 ? s.put(100) : s.pending());
      dies_while_it_builds(s, [&s, parts] {
        Options on = with(0, 0, 15);
        on.payload = 800;
        s.list = take_all(s, s.list);
        on.deps.assign(s.list.begin(), s.list.begin() + parts / 2);
        on.nested.assign(s.list.begin() + parts / 2, s.list.end());
        s.submit({Act::many, 64, 0, 4}, on);
      });
      s.board.returned[64] = 0;
    }));
  list.push_back(buries("a driver that dies building an actor", [](Stage& s) {
    s.actors_may_die = true;
    for (u32 i = 0; i < 30; ++i) s.list.push_back(i % 3 ? s.put(100) : s.pending());
    dies_while_it_builds(s, [&s] {
      Options on;
      on.deps = take_all(s, s.list);
      s.actor(0, Act::actor_new, 0, on);
    });
  }));
  list.push_back(buries("a driver that dies building a call", [](Stage& s) {
    s.x = actor_in(s, State::idle, 0);
    s.held.push_back(s.x);
    for (u32 i = 0; i < 30; ++i) s.list.push_back(i % 3 ? s.put(100) : s.pending());
    dies_while_it_builds(s, [&s] {
      Options on;
      on.deps = take_all(s, s.list);
      s.call_with(s.take(s.x), {Act::actor_add, s.new_tag(), 0, 0}, on);
    });
  }));
  list.push_back(buries("a driver with lanes", [](Stage& s) {
    s.x = actor_in(s, State::idle, 0);
    s.y = actor_in(s, State::queued, 2);
    s.held.push_back(s.x);
    s.held.push_back(s.y);
    u32 p = s.pending();
    make_victim(s, ProcessKind::driver, [&s, p] {
      s.take(s.x);
      s.take(s.y);
      s.call_with(s.x, {Act::actor_add, s.new_tag(), 0, 0});
      Options on;
      on.deps = {s.take(p)};
      s.call_with(s.x, {Act::actor_add, s.new_tag(), 0, 0}, on);
      s.call_with(s.x, {Act::actor_add, s.new_tag(), 0, 0});
      s.call_with(s.y, {Act::actor_add, s.new_tag(), 0, 0});
    });
  }));
  for (u32 interval : {0u, 2u})
    for (auto& [state, name] : STATES) {
      State in = state;
      if (in == State::waiting || in == State::queued || in == State::restarting || in == State::gone) continue;
      list.push_back(buries("the process of an actor " + name + named(interval), [=](Stage& s) {
        s.actors_may_die = s.tasks_may_fail = !interval || in == State::killed;
        s.x = actor_in(s, in, interval);
        s.held.push_back(s.x);
        s.m.actor(s.m.object(s.x).actor).deaths = ACTOR_DEATHS_MAX - 1;  // one more, not two
        if (in == State::idle) {
          for (u32 i = 0; i < 3; ++i) s.c.wait_for(s.call(s.x), wait::Deadline(-1));
          wait_until_alive(s, s.x);
        }
      }));
    }
  list.push_back(buries("the process of an actor nobody holds", [](Stage& s) {
    s.actors_may_die = s.tasks_may_fail = true;
    s.x = actor_in(s, State::busy, 2);
    s.c.kill_actor(s.x);
    s.c.drop_local(s.x);
    s.c.flush_drops();
  }));
  list.push_back(buries("a worker blocked in get", [](Stage& s) {
    s.start_worker();
    s.victim = *s.helpers.begin();
    s.task(Act::spawn, 2, Options{{}, {}, 1, 5});
    s.board.until([&] { return s.h.ready_count == 2 && s.h.free[CPU] == i64(ARENA_CPUS) * UNIT; });
  }));
  list.push_back(buries("a worker that helps", helping_worker));
  list.push_back(buries("the same one twice", [](Stage& s) {
    s.workers(2);
    s.victim = *s.helpers.begin();
  }));
}

inline void add_threads(Situations& list) {
  list.push_back(
      {"a second thread", ProcessKind::driver, nothing, {}, {}, [](Stage& s) { on_a_thread([&s] { s.c.thread(); }); }});
  list.push_back({"a second thread that calls actors and ends",
                  ProcessKind::driver,
                  [](Stage& s) {
                    s.x = actor_in(s, State::idle, 0);
                    s.y = actor_in(s, State::queued, 0);
                    s.held.push_back(s.x);
                    s.held.push_back(s.y);
                    s.actors_may_die = true;
                  },
                  [](Stage& s) {
                    s.take(s.x);
                    s.take(s.y);
                  },
                  {},
                  [](Stage& s) {
                    on_a_thread([&s] {
                      s.call_with(s.x, {Act::actor_add, s.new_tag(), 0, 0});
                      s.call_with(s.y, {Act::actor_add, s.new_tag(), 0, 0});
                    });
                  }});
}

inline void add_process_situations(Situations& list) {
  for (ProcessKind kind : {ProcessKind::driver, ProcessKind::worker}) {
    // Into records that others have used before.
    auto used = [](Stage& s) {
      s.workers(2);
      while (!s.helpers.empty()) s.kill_and_bury(*s.helpers.begin());
    };
    Situation enter{"enter", kind, used, {}, {}, [=](Stage& s) { s.c.enter(kind, nullptr); }};
    enter.name += kind == ProcessKind::worker ? " as a worker" : " as a driver";
    enter.joins = false;
    list.push_back(enter);
  }
  add_threads(list);
  list.push_back({"leave",
                  ProcessKind::driver,
                  [](Stage& s) {
                    s.x = actor_in(s, State::idle, 0);
                    s.held.push_back(s.x);
                    s.list = some_objects(s, 3, 300);
                  },
                  [](Stage& s) {
                    s.take(s.x);
                    s.call_with(s.x, {Act::actor_add, s.new_tag(), 0, 0});
                    s.c.allocate(300);
                    take_all(s, s.list);
                    s.put(3000, {s.list[0]});
                  },
                  {},
                  [](Stage& s) { s.c.leave(); }});
  list.push_back({"leave with pins, and unpin",
                  ProcessKind::driver,
                  [](Stage& s) { s.list = some_objects(s, 3, 300); },
                  [](Stage& s) {
                    take_all(s, s.list);
                    s.x = s.put(50000, {s.list[0]});
                    s.c.pin(s.x);
                    s.c.pin(s.list[1]);
                    s.put(100);
                  },
                  {},
                  [](Stage& s) {
                    s.c.leave();
                    s.c.unpin(s.x);
                    s.c.unpin(s.list[1]);
                  }});
  list.push_back({"leave as a worker with a task",
                  ProcessKind::worker,
                  [](Stage& s) { s.task(); },
                  take_task,
                  {},
                  [](Stage& s) { s.c.leave(); }});
  list.push_back({"retire idle workers",
                  ProcessKind::node_manager,
                  [](Stage& s) { s.workers(3); },
                  {},
                  {},
                  [](Stage& s) { s.c.retire(2); }});
  list.push_back({"demand and the mutex's holder",
                  ProcessKind::node_manager,
                  [](Stage& s) { s.task(); },
                  {},
                  {},
                  [](Stage& s) {
                    s.c.demand();
                    s.c.activities();
                    s.c.lock_holder(10);
                  }});
  add_burials(list);
  Situation shut{"shut", ProcessKind::driver, nothing, {}, {}, [](Stage& s) { s.c.shut(); }};
  shut.settles = false;
  list.push_back(shut);
}

}  // namespace ray::testing
