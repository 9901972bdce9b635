// Tasks: submitted, taken, finished, failed, waited for.
#pragma once

#include "situations_objects.hpp"

namespace ray::testing {

inline Situation submits(const std::string& name, Step prepare, Options options, Order order = {}) {
  return {"submit " + name,
          ProcessKind::driver,
          [=](Stage& s) {
            if (s.random.coin()) s.workers(1);
            prepare(s);
          },
          [=](Stage& s) { s.list = take_all(s, s.list); },
          {},
          [=](Stage& s) {
            Options own = options;
            Order mine = order;
            mine.tag = s.new_tag();
            // `deps` and `nested` give how many; the objects are the situation's.
            own.deps.assign(s.list.begin(), s.list.begin() + long(options.deps.size()));
            own.nested.assign(s.list.begin() + long(options.deps.size()), s.list.end());
            s.submit(mine, own);
          }};
}

inline Options with(u32 deps, u32 nested, u32 returns = 1) {
  Options o;
  o.deps.assign(deps, NIL);
  o.nested.assign(nested, NIL);
  o.returns = returns;
  return o;
}

inline void add_task_situations(Situations& list) {
  auto mixed = [](u32 count) {
    return [=](Stage& s) {
      for (u32 i = 0; i < count; ++i) s.list.push_back(i % 3 ? s.put(100) : s.pending());
    };
  };
  list.push_back(submits("plain", nothing, {}));
  list.push_back(submits("without returns", nothing, with(0, 0, 0)));
  list.push_back(submits("with a pending argument", mixed(1), with(1, 0)));
  list.push_back(submits("with 30 arguments", mixed(30), with(30, 0)));
  list.push_back(submits("with 20 returns", nothing, with(0, 0, 20), {Act::many, 0, 0, 4}));
  list.push_back(submits("with 3 nested ids", mixed(3), with(0, 3)));
  list.push_back(
      submits("with 5 arguments, 30 nested ids and 14 returns", mixed(35), with(5, 30, 14), {Act::many, 0, 1, 100}));
  Options big = with(0, 0);
  big.payload = 1000;
  list.push_back(submits("with a large payload", nothing, big));
  big.payload = 9000;
  big.block = true;
  list.push_back(submits("with a payload in a block", nothing, big));
  big.nested.assign(20, NIL);
  list.push_back(submits("with a payload in a block and 20 nested ids", mixed(20), big));
  Options gpu = with(0, 0);
  gpu.shape = 3;
  list.push_back(submits("with GPUs", nothing, gpu));
  list.push_back({"a new shape", ProcessKind::driver, nothing, {}, {}, [](Stage& s) {
                    resources::Needs need = {i64(1 + s.random.below(UNIT)), 0, 0};
                    s.c.shape(need);
                  }});
  auto full_table = [](Stage& s) {
    s.task(Act::value);
    s.x = s.c.shape({7, 0, 0});
    while (resources::is_current(s.m, s.x)) s.c.shape({i64(s.random.next() >> 40), 0, 0});
    for (u32 i = 1; i < SHAPES_MAX; ++i)
      if (!s.m.shape(i).used) s.c.shape({i64(s.random.next() >> 40), 0, 0});
  };
  list.push_back(
      {"a new shape in the place of one that nobody has", ProcessKind::driver, full_table, {}, {}, [](Stage& s) {
         s.c.shape({i64(s.random.next() >> 40), 0, 0});
       }});
  list.push_back({"submit with a shape that was forgotten", ProcessKind::driver, full_table, {}, {}, [](Stage& s) {
                    Order order{Act::value, s.new_tag(), 1, 4};
                    std::vector<u32> out;
                    Submission task;
                    task.function = s.take(s.function);
                    task.payload = reinterpret_cast<const u8*>(&order);
                    task.payload_bytes = sizeof order;
                    task.shape = s.x;
                    s.c.submit(task, out);
                  }});
}

// --- workers ----------------------------------------------------------------------------------------

inline bool take_task(Stage& s) { return s.c.next(nullptr, s.assignment); }
inline void do_task(Stage& s) { s.outcome = perform(s.c, s.board, s.assignment, s.memory); }
inline void take_and_do(Stage& s) {
  take_task(s);
  do_task(s);
}
inline void finish_task(Stage& s) { finish_and_take(s.c, s.outcome, s.assignment); }

// The child has run a task and finishes it, and takes another if `another`, else ends.
inline Situation finishes(const std::string& name, Step prepare, bool another = true, Step ready = take_and_do) {
  return {"finish " + name,
          ProcessKind::worker,
          prepare,
          ready,
          [=](Stage& s) {
            if (another) s.task();
          },
          [=](Stage& s) {
            if (!another) {
              Transaction t(s.m, s.c.thread());
              t.set(s.m.process(s.c.process()).retire, 1u);
              t.commit();
            }
            finish_task(s);
          }};
}

inline void add_takes(Situations& list) {
  for (u32 shape : {0u, 1u, 2u, 3u, 4u})
    list.push_back({"take a task of shape " + std::to_string(shape),
                    ProcessKind::worker,
                    [=](Stage& s) {
                      Options o;
                      o.shape = shape;
                      if (s.random.coin()) s.workers(1);
                      s.task(Act::gate, 1, o);
                      for (u32 i = 0; i < 3; ++i) {
                        Options other;
                        // One at least fits beside any other: the helper may have taken the first.
                        other.shape = i ? s.random.below(5) : 0;
                        s.task(Act::gate, 1, other);
                      }
                    },
                    {},
                    {},
                    take_task});
  list.push_back({"take past an older one that does not fit",
                  ProcessKind::worker,
                  [](Stage& s) {
                    Options custom;
                    custom.shape = 4;
                    s.workers(1);
                    s.task(Act::gate, 1, custom);
                    s.at_gate(1);
                    s.task(Act::value, 0, custom);
                    s.m.shape(s.shapes[4]).passed = s.random.coin() ? 0 : HOLD_BACK_AFTER - 1;
                    for (u32 i = 0; i < 3; ++i) s.task();
                  },
                  {},
                  {},
                  take_task});
  list.push_back({"take nothing",
                  ProcessKind::worker,
                  [](Stage& s) { s.workers(s.random.below(3)); },
                  {},
                  {},
                  [](Stage& s) {
                    Transaction t(s.m, s.c.thread());
                    worker::take(t, s.c.thread());
                    t.commit();
                  }});
  list.push_back({"take what a stopped worker was woken for",
                  ProcessKind::worker,
                  [](Stage& s) {
                    s.workers(1);
                    s.victim = *s.helpers.begin();
                    stop(s.m, s.victim);
                    s.task();
                    s.task();
                  },
                  {},
                  {},
                  [](Stage& s) {
                    Transaction t(s.m, s.c.thread());
                    worker::take(t, s.c.thread(), true);
                    t.commit();
                  }});
  list.push_back({"take for the first time, woken", ProcessKind::worker, nothing,
                  [](Stage& s) {
                    Transaction t(s.m, s.c.thread());
                    worker::take(t, s.c.thread());
                    t.commit();
                  },
                  [](Stage& s) {
                    s.task();
                    s.task();
                  },
                  take_task});
}

inline void add_finishes(Situations& list) {
  for (u32 size : {4u, 500u, 9000u})
    list.push_back(
        finishes(std::to_string(size) + " bytes and take", [=](Stage& s) { s.task(Act::value, 0, {}, size); }));
  list.push_back(finishes("and end", [](Stage& s) { s.task(Act::value, 0, {}, 100); }, false));
  for (u32 waiting : {1u, 20u})
    list.push_back(finishes("what " + std::to_string(waiting) + " tasks and as many watches wait for", [=](Stage& s) {
      u32 o = s.task();
      Options on;
      on.deps = {o};
      for (u32 i = 0; i < waiting; ++i) {
        on.shape = s.random.below(4);
        s.task(Act::value, 0, on);
      }
      s.watchers(o, waiting);
    }));
  for (u32 shape : {1u, 2u, 3u, 4u})
    list.push_back(finishes("a task of shape " + std::to_string(shape), [=](Stage& s) {
      Options o;
      o.shape = shape;
      s.task(Act::value, 0, o);
      o.shape = s.random.below(6);
      s.task(Act::value, 0, o);
    }));
  // Shares of GPUs follow each other on one thread.
  auto of_shapes = [](std::vector<u32> shapes) {
    return [=](Stage& s) {
      for (u32 shape : shapes) {
        Options o;
        o.shape = shape;
        s.task(Act::value, 0, o);
      }
    };
  };
  list.push_back(finishes("one with two GPUs and take one with a half", of_shapes({3, 2})));
  list.push_back(finishes("one with half a GPU and take one with two", of_shapes({2, 3})));
  list.push_back(
      finishes("one without GPUs, after one with, and take one with", of_shapes({2, 0, 3}), true, [](Stage& s) {
        take_and_do(s);
        finish_task(s);
        do_task(s);
      }));
  list.push_back(finishes("one with arguments of which these are the last references", [](Stage& s) {
    Options o;
    o.payload = 3000;
    for (u32 i = 0; i < 9; ++i) (i % 2 ? o.deps : o.nested).push_back(s.put(i % 3 ? 300 : 3));
    std::vector<u32> all = o.deps;
    all.insert(all.end(), o.nested.begin(), o.nested.end());
    s.task(Act::value, 0, o, 300);
    for (u32 a : all) {
      s.c.drop_local(a);
      std::erase(s.held, a);
    }
    s.c.flush_drops();
  }));
  list.push_back(finishes("one without returns", [](Stage& s) { s.task(Act::value, 0, with(0, 0, 0)); }));
  list.push_back(finishes("one whose id nobody holds", [](Stage& s) {
    s.task(Act::value, 0, {}, 500);
    s.c.drop_local(s.promises.back().object);
    std::erase(s.held, s.promises.back().object);
    s.promises.pop_back();
    s.c.flush_drops();
  }));
}

// Results of several returns, or a failure, are sealed before `next`.
inline Situation seals(const std::string& name, Act act, u32 returns, u32 inner, u32 size) {
  return {"seal " + name,
          ProcessKind::worker,
          [=](Stage& s) {
            u32 first = s.task(act, inner, with(0, 0, returns), size);
            if (first) {
              Options on;
              on.deps = {first};
              s.task(Act::value, 0, on);
            }
          },
          [](Stage& s) { take_task(s); },
          [](Stage& s) { s.task(); },
          [](Stage& s) {
            do_task(s);
            finish_task(s);
          }};
}

inline void add_worker_situations(Situations& list) {
  add_takes(list);
  add_finishes(list);
  list.push_back(seals("3 results with ids", Act::many, 3, 3, 400));
  list.push_back(seals("20 results with ids", Act::many, 20, 2, 10));
  list.push_back(seals("2 results with 30 ids in blocks", Act::many, 2, 30, 9000));
  for (u32 returns : {0u, 1u, 5u})
    for (u32 size : {30u, 5000u})
      list.push_back(
          seals("a failure of " + std::to_string(size) + " bytes for " + std::to_string(returns) + " returns",
                Act::fail, returns, 0, size));
  list.push_back({"fail, with an entry in the place of an old one", ProcessKind::worker,
                  [](Stage& s) {
                    fill_journal(s);
                    s.task(Act::fail, 0, with(0, 0, 2), 200);
                  },
                  take_task, [](Stage& s) { s.task(); },
                  [](Stage& s) {
                    do_task(s);
                    finish_task(s);
                  }});
  for (u32 shape : {0u, 5u})
    list.push_back({"wait inside a task of shape " + std::to_string(shape), ProcessKind::worker,
                    [=](Stage& s) {
                      Options on;
                      on.nested = {s.pending()};
                      on.shape = shape;
                      s.task(Act::listen, 0, on);
                    },
                    take_task,
                    [](Stage& s) {
                      s.workers(1);
                      s.task();
                    },
                    do_task});
  for (Act act : {Act::spawn, Act::spawn_gated})
    list.push_back({act == Act::spawn ? "help at the limit of workers" : "help, with lanes below", ProcessKind::worker,
                    [=](Stage& s) {
                      Options on;
                      if (act == Act::spawn_gated) {
                        u32 actor = s.actor(0);
                        s.held.push_back(actor);
                        on.nested = {actor};
                        s.actors_may_die = s.tasks_may_fail = true;
                        s.start_worker();
                        s.board.until([&] { return s.m.actor(s.m.object(actor).actor).state == ACTOR_ALIVE; });
                        s.open(4);
                      }
                      s.task(act, 3, on);
                    },
                    [](Stage& s) {
                      take_task(s);
                      s.c.set_helps(true);
                    },
                    [](Stage& s) {
                      s.h.max_workers = s.h.worker_count;
                      s.board.until([&] { return s.idle() == 0; });
                      s.task();
                    },
                    [](Stage& s) {
                      do_task(s);
                      finish_task(s);
                    }});
  list.push_back({"spawn and wait inside a task", ProcessKind::worker, [](Stage& s) { s.task(Act::spawn, 3); },
                  take_task, [](Stage& s) { s.workers(1); }, [](Stage& s) { do_task(s); }});
}

}  // namespace ray::testing
