// Actors: made, called, finished, checkpointed, failed, killed, let go, in every state they can be in.
#pragma once

#include "situations_tasks.hpp"

namespace ray::testing {

enum class State { waiting, queued, creating, idle, busy, hungry, restarting, killed, gone };
inline const std::vector<std::pair<State, std::string>> STATES = {
    {State::waiting, "whose creation waits for an argument"},
    {State::queued, "whose creation is queued"},
    {State::creating, "that is being created"},
    {State::idle, "that is idle"},
    {State::busy, "that is busy, with calls behind"},
    {State::hungry, "that waits for CPUs"},
    {State::restarting, "that will be restarted"},
    {State::killed, "that was killed and whose process lives"},
    {State::gone, "that is dead"},
};

inline void wait_until_alive(Stage& s, u32 a) {
  Actor& actor = s.m.actor(s.m.object(a).actor);
  s.board.until([&] { return std::atomic_ref(actor.state).load() == ACTOR_ALIVE && !s.m.thread(actor.thread).task; });
}

// An actor in this state, made and held by the calling process, which also starts its worker.
inline u32 actor_in(Stage& s, State state, u32 interval) {
  Options on;
  if (state == State::waiting) on.deps = {s.pending()};
  on.shape = s.random.coin() ? 0 : 2;
  u32 a = s.actor(interval, Act::actor_new, state == State::creating ? 1 : 0, on);
  if (state == State::waiting || state == State::queued) {
    s.call(a);
    return a;
  }
  pid_t pid = s.start_worker();
  s.victim = pid;
  if (state == State::creating) {
    s.at_gate(1);
    s.call(a);
    return a;
  }
  wait_until_alive(s, a);
  if (state == State::idle) return a;
  if (state == State::hungry) {
    Options all;
    all.shape = 5;
    s.workers(1);
    s.task(Act::gate, 3, all);
    s.at_gate(3);
    s.call(a);
    Actor& actor = s.m.actor(s.m.object(a).actor);
    s.board.until([&] { return std::atomic_ref(actor.waits).load() != 0; });
    return a;
  }
  for (u32 i = 0; i < 2; ++i) s.c.wait_for(s.call(a), wait::Deadline(-1));
  s.call(a, Act::actor_gate, {}, 2);
  s.at_gate(2);
  for (u32 i = 0; i < 2; ++i) s.call(a);
  if (state == State::restarting) s.kill_and_bury(pid);
  if (state == State::killed || state == State::gone) {
    s.c.kill_actor(a);
    if (state == State::gone) s.kill_and_bury(pid);
  }
  return a;
}

inline std::string named(u32 interval) {
  return interval ? " (checkpoint every " + std::to_string(interval) + ")" : "";
}

inline Situation calls(const std::string& name, State state, u32 interval, Options options = {}, bool second = false) {
  return {"call " + name + named(interval),
          ProcessKind::driver,
          [=](Stage& s) {
            s.actors_may_die = state == State::killed || state == State::gone;
            s.x = actor_in(s, state, interval);
            for (u32 i = 0; i < options.deps.size() + options.nested.size(); ++i)
              s.list.push_back(i % 3 ? s.put(100) : s.pending());
            s.held.push_back(s.x);
          },
          [=](Stage& s) {
            s.take(s.x);
            s.list = take_all(s, s.list);
            if (second) s.call_with(s.x, {Act::actor_add, s.new_tag(), 0, 0});
          },
          {},
          [=](Stage& s) {
            Options own = options;
            own.deps.assign(s.list.begin(), s.list.begin() + long(options.deps.size()));
            own.nested.assign(s.list.begin() + long(options.deps.size()), s.list.end());
            s.call_with(s.x, {Act::actor_add, s.new_tag(), 0, 0}, own);
          }};
}

inline void add_calls(Situations& list) {
  for (u32 interval : {0u, 2u})
    for (auto& [state, name] : STATES)
      if (interval || state != State::restarting) list.push_back(calls("an actor " + name, state, interval));
  list.push_back(calls("a second time", State::busy, 0, {}, true));
  list.push_back(calls("a second time, idle", State::idle, 0, {}, true));
  list.push_back(calls("with a pending argument", State::idle, 0, with(1, 0)));
  list.push_back(calls("with 20 arguments and ids", State::idle, 0, with(10, 10)));
  list.push_back(calls("without returns", State::idle, 0, with(0, 0, 0)));
  list.push_back(calls("a dead actor with a pending argument", State::gone, 0, with(1, 0)));
  list.push_back(calls("a dead actor with 30 arguments", State::gone, 0, with(30, 0)));
}

inline void add_creations(Situations& list) {
  for (u32 deps : {0u, 1u, 20u})
    for (u32 interval : {0u, 3u})
      list.push_back({"create an actor with " + std::to_string(deps) + " arguments" + named(interval),
                      ProcessKind::driver,
                      [=](Stage& s) {
                        s.actors_may_die = true;
                        if (s.random.coin()) s.workers(1);
                        for (u32 i = 0; i < deps; ++i) s.list.push_back(i % 2 ? s.put(10) : s.pending());
                      },
                      [](Stage& s) { s.list = take_all(s, s.list); },
                      {},
                      [=](Stage& s) {
                        Options on;
                        on.deps = s.list;
                        s.actor(interval, Act::actor_new, 0, on);
                      }});
  // The child is the worker that the actor is created on.
  for (u32 interval : {0u, 3u}) {
    auto prepare = [=](Stage& s) {
      s.actors_may_die = !interval;
      s.x = actor_in(s, State::queued, interval);
      s.held.push_back(s.x);
      s.call(s.x);
    };
    list.push_back({"take a creation" + named(interval), ProcessKind::worker, prepare, {}, {}, take_task});
    list.push_back({"finish a creation" + named(interval), ProcessKind::worker, prepare, take_and_do, {}, finish_task});
    list.push_back({"finish a call" + named(interval),
                    ProcessKind::worker,
                    prepare,
                    [](Stage& s) {
                      take_and_do(s);
                      finish_task(s);
                      do_task(s);
                    },
                    {},
                    finish_task});
    list.push_back({"fail to create" + named(interval),
                    ProcessKind::worker,
                    [=](Stage& s) {
                      s.actors_may_die = true;
                      s.x = s.actor(interval, Act::actor_fail);
                      s.held.push_back(s.x);
                      s.call(s.x);
                      s.call(s.x);
                    },
                    take_task,
                    {},
                    [](Stage& s) {
                      do_task(s);
                      finish_task(s);
                    }});
    list.push_back({"take the creation of a killed actor" + named(interval),
                    ProcessKind::worker,
                    [=](Stage& s) {
                      prepare(s);
                      s.actors_may_die = s.tasks_may_fail = true;
                      s.c.kill_actor(s.x);
                      s.task();
                    },
                    {},
                    {},
                    take_task});
    list.push_back({"finish the creation of a killed actor" + named(interval), ProcessKind::worker,
                    [=](Stage& s) {
                      prepare(s);
                      s.actors_may_die = true;
                      s.tasks_may_fail = true;
                    },
                    take_and_do, [](Stage& s) { s.c.kill_actor(s.x); }, finish_task});
    list.push_back({"finish the creation of an actor nobody holds" + named(interval), ProcessKind::worker,
                    [=](Stage& s) {
                      s.actors_may_die = true;
                      s.x = s.actor(interval);
                    },
                    take_and_do,
                    [](Stage& s) {
                      s.c.drop_local(s.x);
                      s.c.flush_drops();
                    },
                    finish_task});
  }
}

inline void add_checkpoints(Situations& list) {
  // Three calls are done when the child saves the state; a fourth runs.
  auto prepare = [](Stage& s) {
    s.x = actor_in(s, State::queued, 3);
    s.held.push_back(s.x);
    for (u32 i = 0; i < 5; ++i) s.call(s.x);
  };
  auto ready = [](Stage& s) {
    take_and_do(s);
    for (u32 i = 0; i < 3; ++i) {
      finish_task(s);
      do_task(s);
    }
    finish_task(s);
  };
  list.push_back(
      {"checkpoint", ProcessKind::worker, prepare, ready, {}, [](Stage& s) { checkpoint_if_due(s.c, s.memory); }});
  list.push_back({"checkpoint again, with ids",
                  ProcessKind::worker,
                  [=](Stage& s) {
                    prepare(s);
                    s.list = some_objects(s, 15);
                  },
                  [=](Stage& s) {
                    s.list = take_all(s, s.list);
                    ready(s);
                    checkpoint_if_due(s.c, s.memory);
                    do_task(s);
                    finish_task(s);
                  },
                  {},
                  [](Stage& s) {
                    s.c.checkpoint(Value{reinterpret_cast<const u8*>(&s.memory.sum), 8, NIL, FORMAT_TEST}, s.list);
                  }});
  list.push_back({"finish a call that was run again",
                  ProcessKind::worker,
                  [](Stage& s) {
                    s.x = actor_in(s, State::restarting, 5);
                    s.held.push_back(s.x);
                    s.open(2);
                  },
                  [](Stage& s) {
                    take_and_do(s);
                    finish_task(s);
                    do_task(s);
                  },
                  {},
                  [](Stage& s) {
                    for (u32 i = 0; i < 2; ++i) {
                      finish_task(s);
                      do_task(s);
                    }
                  }});
  list.push_back({"finish a call when three callers have more",
                  ProcessKind::worker,
                  [](Stage& s) {
                    s.x = actor_in(s, State::queued, 2);
                    s.held.push_back(s.x);
                    for (u32 i = 0; i < 2; ++i) s.call(s.x);
                    for (u32 k = 0; k < 2; ++k) {
                      make_victim(s, ProcessKind::driver, [&s] {
                        s.take(s.x);
                        for (u32 i = 0; i < 3; ++i) s.call_with(s.x, {Act::actor_add, s.new_tag(), 0, 0});
                      });
                      s.doomed.insert(s.victim);
                    }
                  },
                  [](Stage& s) {
                    take_and_do(s);
                    finish_task(s);
                    do_task(s);
                  },
                  {},
                  [](Stage& s) {
                    finish_task(s);
                    do_task(s);
                    finish_task(s);
                  }});
  list.push_back({"finish the last call of an actor nobody holds",
                  ProcessKind::worker,
                  [](Stage& s) {
                    s.x = actor_in(s, State::queued, 2);
                    s.c.drop_local(s.x);
                    s.c.flush_drops();
                  },
                  [](Stage& s) {
                    take_and_do(s);
                    finish_task(s);
                    do_task(s);
                  },
                  {},
                  finish_task});
  list.push_back({"finish a call while an actor and a task wait for CPUs", ProcessKind::worker,
                  [](Stage& s) {
                    s.x = s.actor(2, Act::actor_new, 0, Options{{}, {}, 1, 5});
                    s.held.push_back(s.x);
                    for (u32 i = 0; i < 3; ++i) s.call(s.x);
                  },
                  [](Stage& s) {
                    take_and_do(s);
                    finish_task(s);
                    do_task(s);
                  },
                  [](Stage& s) {
                    s.workers(1);
                    s.task();
                  },
                  finish_task});
}

inline void add_endings(Situations& list) {
  for (u32 interval : {0u, 2u})
    for (auto& [state, name] : STATES) {
      if (!interval && state == State::restarting) continue;
      State in = state;
      list.push_back({"kill an actor " + name + named(interval),
                      ProcessKind::driver,
                      [=](Stage& s) {
                        s.actors_may_die = s.tasks_may_fail = true;
                        s.x = actor_in(s, in, interval);
                        s.held.push_back(s.x);
                      },
                      [](Stage& s) { s.take(s.x); },
                      {},
                      [](Stage& s) { s.c.kill_actor(s.x); }});
      list.push_back({"drop the last handle of an actor " + name + named(interval), ProcessKind::driver,
                      [=](Stage& s) {
                        s.actors_may_die = in == State::killed || in == State::gone;
                        s.x = actor_in(s, in, interval);
                      },
                      [](Stage& s) { s.list = {s.take(s.x)}; },
                      [](Stage& s) {
                        s.c.drop_local(s.x);
                        s.c.flush_drops();
                      },
                      drop_all});
    }
  list.push_back({"kill the first of two actors that wait for CPUs",
                  ProcessKind::driver,
                  [](Stage& s) {
                    s.actors_may_die = s.tasks_may_fail = true;
                    s.x = s.actor(0, Act::actor_new, 0, Options{{}, {}, 1, 5});
                    s.start_worker();
                    wait_until_alive(s, s.x);
                    s.y = actor_in(s, State::hungry, 0);
                    s.held.push_back(s.x);
                    s.held.push_back(s.y);
                    s.call(s.x);
                  },
                  [](Stage& s) { s.take(s.y); },
                  {},
                  [](Stage& s) { s.c.kill_actor(s.y); }});
}

inline void add_actor_situations(Situations& list) {
  add_creations(list);
  add_calls(list);
  add_checkpoints(list);
  add_endings(list);
}

}  // namespace ray::testing
