// Tasks that go to other nodes and come from them, and their results.
#pragma once

#include "situations_peers.hpp"

namespace ray::testing {

// --- sent -------------------------------------------------------------------------------------------------

inline void send_all(Stage& s, u8 to = 1) {
  for (const QueueState& queue : s.c.queues()) s.c.send_tasks(peer(s, to), queue.shape, queue.tasks);
}

// Its results are the parent's; it is said to have run at the peer, if it shall not run again.
inline u32 away(Stage& s, u32 returns, Options options = {}, u32 size = 40, Act act = Act::value) {
  options.returns = returns;
  u32 first = s.task(act == Act::value && returns > 1 ? Act::many : act, 0, options, size);
  send_all(s);
  return first;
}

inline void has_run(Stage& s) {
  for (u32 tag = 1; tag < TAGS; ++tag)
    if (s.board.returned[tag]) s.board.runs[tag] = 1;
}

// What the peer says of one result; sizes above 64 KiB would be stored there.
inline void tell_result(Stage& s, const Promise& p, bool here, u32 nested = 0, bool block = false) {
  std::vector<u8> bytes = bytes_of(p.tag + u32(p.sum), p.size);
  Value v{bytes.data(), bytes.size(), NIL, FORMAT_TEST};
  if (block) v.block = block_with(s.c, bytes);
  s.c.finish_return(peer(s, 1), id_of(s, p.object), v, here, made_up(s, nested, peer(s, 1)), false);
}

inline SentTask sent(Stage& s, Order order, u32 returns, std::vector<IdRef> deps = {}, std::vector<IdRef> nested = {},
                     std::optional<IdRef> function = {}) {
  SentTask task{};
  task.job = guest(s);
  u64 words[2] = {s.random.next(), s.random.next()};
  memcpy(task.id.data(), words, sizeof words);
  task.function = function ? *function : IdRef{id_of(s, s.function), NIL};
  task.deps = std::move(deps);
  task.nested = std::move(nested);
  task.payload.assign(reinterpret_cast<const char*>(&order), sizeof order);
  task.num_returns = returns;
  task.need[CPU] = UNIT;
  task.retries_left = 3;
  return task;
}

inline void receive(Stage& s, const SentTask& task) {
  Value payload{reinterpret_cast<const u8*>(task.payload.data()), task.payload.size(), NIL, 0};
  s.c.receive_task(peer(s, 1), task, payload);
  Order order;
  memcpy(&order, task.payload.data(), sizeof order);
  s.board.returned[order.tag] = 1;
}

inline std::vector<IdRef> results_of(Stage& s, const SentTask& task) {
  std::vector<IdRef> refs;
  for (u32 r = 0; r < std::max(1u, task.num_returns); ++r) {
    refs.push_back({{}, peer(s, 1)});
    task::return_id(refs.back().id.data(), task.id.data(), r);
  }
  return refs;
}

// One that the parent has received, and whose results it looks at.
inline SentTask received(Stage& s, Act act, u32 returns, std::vector<IdRef> deps = {}, bool may_fail = false) {
  Order order{act, s.new_tag(), act == Act::gate ? 1u : 0u, 40};
  SentTask task = sent(s, order, returns, std::move(deps));
  receive(s, task);
  u32 index = 0;
  for (u32 o : s.c.take_in(results_of(s, task))) {
    s.held.push_back(o);
    if (returns)
      s.promises.push_back(
          {o, order.tag, order.size, act == Act::fail ? Right::failure : Right::value, index++, may_fail, false});
  }
  return task;
}

inline void add_sends(Situations& list) {
  for (u32 returns : {0u, 1u, 3u})
    list.push_back(with_peers(
        "send tasks with " + std::to_string(returns) + " returns",
        [=](Stage& s) {
          if (s.random.coin()) s.workers(1);
          Options gate;
          gate.deps = {s.put(100), s.put(9)};
          gate.nested = {s.put(10), s.pending(), foreign(s, 1, peer(s, 1))[0], foreign(s, 1, peer(s, 2))[0]};
          gate.returns = returns;
          for (u32 n = 0; n < 3; ++n) s.task(returns == 3 ? Act::many : Act::value, 0, gate);
        },
        [](Stage& s) { send_all(s); }));
  list.push_back(with_peers(
      "send a task with many ids",
      [](Stage& s) {
        Options o;
        o.deps = some_objects(s, 20);
        o.nested = some_objects(s, 20);
        s.task(Act::value, 0, o);
      },
      [](Stage& s) { send_all(s); }));
  list.push_back(with_peers(
      "send tasks from between others that stay",
      [](Stage& s) {
        for (u32 n = 0; n < 3; ++n) {
          received(s, Act::value, 1);
          s.task();
        }
      },
      [](Stage& s) {
        for (const QueueState& queue : s.c.queues()) {
          Away place;
          if (s.c.waiting_jobs(queue.shape, place).size() != 2) s.board.complain("two jobs' tasks wait in this queue");
          if (place.index) s.board.complain("the look at a short queue has no end");
        }
        send_all(s);
      }));
}

inline void add_recalls(Situations& list) {
  auto recall = [](Stage& s) {
    std::vector<TaskIdBytes> ids = s.c.away(peer(s, 1));
    if (s.c.recall(peer(s, 1), {ids.begin(), ids.end()}) > ids.size()) s.board.complain("more came back than went");
  };
  auto bury = [](Stage& s) { s.c.bury_peer(peer(s, 1)); };
  for (bool dies : {false, true}) {
    auto add = [&](const std::string& name, Step prepare) {
      list.push_back(
          with_peers((dies ? "bury a peer with " : "recall ") + name, prepare, dies ? Step(bury) : Step(recall)));
    };
    for (u32 returns : {0u, 1u, 20u})
      add("tasks with " + std::to_string(returns) + " returns", [=](Stage& s) {
        away(s, returns);
        away(s, returns);
      });
    add("a task that may not run again", [=](Stage& s) {
      Options o;
      o.retries = 0;
      o.may_fail = s.tasks_may_fail = true;
      away(s, 1, o);
    });
    add("a task half done, out of order", [](Stage& s) {
      away(s, 12);
      for (u32 n : {1, 3, 4}) tell_result(s, s.promises[n], true);
      for (u32 n : {2, 5, 8}) tell_result(s, s.promises[n], false);
      has_run(s);
    });
    add("a task half done, in order", [](Stage& s) {
      away(s, 12);
      for (u32 n : {0, 2}) tell_result(s, s.promises[n], true);
      for (u32 n : {1, 3}) tell_result(s, s.promises[n], false);
      has_run(s);
    });
    add("a task that is kept as lineage", [](Stage& s) {
      u32 first = away(s, 10);
      std::vector<Promise> all = s.promises;
      for (const Promise& p : all) tell_result(s, p, false);
      for (const Promise& p : all)
        if (p.object != first && s.random.coin()) let_go(s, {p.object});
      has_run(s);
    });
    add("a task whose results are all here", [](Stage& s) {
      away(s, 20);
      for (u32 n = 20; n-- > 1;) tell_result(s, s.promises[n], true);
      has_run(s);
      Transaction t(s.m, s.c.thread());  // as if who told the last had died
      std::vector<u8> bytes = bytes_of(s.promises[0].tag, s.promises[0].size);
      object::seal(t, s.promises[0].object, Value{bytes.data(), bytes.size(), NIL, FORMAT_TEST});
      t.commit();
    });
  }
}

inline Situation tells(const std::string& name, Step prepare, Step act) {
  return with_peers("a result: " + name, prepare, [act](Stage& s) {
    act(s);
    hear(s);
  });
}

inline void add_results(Situations& list) {
  for (u32 size : {40u, 3000u, 9000u})
    list.push_back(tells(
        "a value of " + std::to_string(size) + " bytes",
        [=](Stage& s) {
          away(s, 1, {}, size);
          has_run(s);
          Options on;
          on.deps = {s.promises[0].object};
          for (u32 n = 0; n < 3; ++n) s.task(Act::value, 0, on);
        },
        [=](Stage& s) { tell_result(s, s.promises[0], true, 0, size > COPY_BYTES); }));
  for (u32 nested : {3u, 30u})
    list.push_back(tells(
        "with " + std::to_string(nested) + " ids",
        [](Stage& s) {
          away(s, 1);
          has_run(s);
        },
        [=](Stage& s) { tell_result(s, s.promises[0], true, nested); }));
  list.push_back(tells(
      "with ids, that nobody waits for", [](Stage& s) { s.x = s.put(10); },
      [](Stage& s) {
        Value v{nullptr, 0, NIL, FORMAT_TEST};
        s.c.finish_return(peer(s, 1), made_up(s, 1, NIL)[0].id, v, true, made_up(s, 3, peer(s, 1)), false);
        s.c.finish_return(peer(s, 1), id_of(s, s.x), v, true, made_up(s, 3, peer(s, 1)), true);
        s.c.finish_return(peer(s, 1), id_of(s, s.x), v, false, {}, false);
      }));
  list.push_back(tells(
      "a failure",
      [](Stage& s) {
        away(s, 2, {}, 40, Act::fail);
        has_run(s);
      },
      [](Stage& s) {
        for (u32 n = 0; n < 2; ++n) {
          std::vector<u8> bytes = bytes_of(s.promises[n].tag, 40);
          Value v{bytes.data(), bytes.size(), NIL, FORMAT_TEST_FAILURE};
          s.c.finish_return(peer(s, 1), id_of(s, s.promises[n].object), v, true, {}, n == 0);
        }
      }));
  list.push_back(tells(
      "of a task without returns",
      [](Stage& s) {
        away(s, 0);
        has_run(s);
      },
      [](Stage& s) {
        for (const TaskIdBytes& id : s.c.away(peer(s, 1))) {
          ObjectIdBytes hidden;
          task::return_id(hidden.data(), id.data(), 0);
          s.c.finish_return(peer(s, 1), hidden, Value{}, true, {}, false);
        }
      }));
  list.push_back(tells(
      "20 of one task, in any order",
      [](Stage& s) {
        away(s, 20);
        has_run(s);
      },
      [](Stage& s) {
        std::vector<u32> order;
        for (u32 n = 0; n < 20; ++n) order.insert(order.begin() + s.random.below(n + 1), n);
        for (u32 n : order) tell_result(s, s.promises[n], true);
      }));
  auto tell_all = [](Stage& s) {
    for (u32 n : {1, 0, 2}) tell_result(s, s.promises[n], false);
  };
  for (bool awaited : {false, true})
    list.push_back(with_peers(
        awaited ? "a result: stored there, and awaited" : "a result: stored there",
        [=](Stage& s) {
          away(s, 3);
          Options on;
          on.deps = {s.promises[1].object};
          if (awaited) s.task(Act::value, 0, on);
        },
        tell_all, {}, ProcessKind::node_manager,
        [=](Stage& s) {
          tell_all(s);
          if (wanted(s) != awaited) s.board.complain("what is awaited is not asked for, or something else is");
          s.c.renew_news(peer(s, 1));
          if (wanted(s) != awaited) s.board.complain("what is awaited is not asked for again");
        }));
  auto ask = [](Stage& s) {
    for (u32 n : {0, 1}) s.c.subscribe(s.promises[n].object);
  };
  list.push_back(with_peers(
      "ask for news of results",
      [](Stage& s) {
        away(s, 3);
        has_run(s);
        Options on;
        on.deps = {s.promises[1].object};
        s.task(Act::value, 0, on);
      },
      ask, {}, ProcessKind::node_manager,
      [=](Stage& s) {
        ask(s);
        tell_result(s, s.promises[0], true);
        tell_result(s, s.promises[1], false);
        u32 known = 0, wanted = 0;
        for (const News& each : hear(s)) {
          known += each.kind == NewsKind::sealed;
          wanted += each.kind == NewsKind::wanted;
        }
        if (known != 2 || wanted != 1) s.board.complain("what was asked for is not told once");
        if (s.c.subscribe(s.promises[0].object)) s.board.complain("what is known is waited for");
      }));
  auto tell_both = [](Stage& s) {
    tell_result(s, s.promises[0], true);
    tell_result(s, s.promises[1], false);
    hear(s);
  };
  list.push_back(with_peers(
      "a result: asked for",
      [=](Stage& s) {
        away(s, 3);
        has_run(s);
        ask(s);
      },
      tell_both, {}, ProcessKind::node_manager, tell_both));
  auto stored = [](Stage& s) {
    away(s, 3);
    for (u32 n : {0, 2, 1}) tell_result(s, s.promises[n], false);
    hear(s);
    has_run(s);
  };
  list.push_back(tells("fetched from where it is stored", stored, [](Stage& s) {
    for (u32 n = 0; n < 3; ++n) {
      const Promise& p = s.promises[n];
      std::vector<u8> bytes = bytes_of(p.tag + u32(p.sum), p.size);
      u32 o = s.take(p.object);
      if (!s.c.location(o)) s.board.complain("a stored result is nowhere");
      if (s.c.is_watched(o)) s.board.complain("a thread waits for what no thread has asked for");
      s.c.seal(o, Value{bytes.data(), bytes.size(), NIL, FORMAT_TEST}, {});
    }
  }));
  // Some of them wait for it alone.
  auto awaited = [=](Stage& s) {
    stored(s);
    Options alone, among_others, many;
    alone.deps = {s.put(9), s.promises[0].object};
    among_others.deps = {s.promises[0].object, s.promises[1].object};
    many.deps = some_objects(s, PIECE);
    many.deps.push_back(s.promises[0].object);
    for (u32 n = 0; n < 3; ++n)
      for (const Options& each : {alone, among_others, many}) s.task(Act::value, 0, each);
    if (s.random.coin()) s.task(Act::value, 0, alone);
    s.x = s.promises[0].object;
    s.tasks_may_fail = true;
  };
  auto follow = [](Stage& s) {
    for (const QueueState& each : s.c.followers(s.x)) {
      if (each.tasks > 4) s.board.complain("tasks may go that wait for other values too");
      s.c.send_followers(peer(s, 1), s.x, each.shape, each.tasks);
    }
    if (!s.c.followers(s.x).empty()) s.board.complain("tasks that may go to their argument have stayed");
    if (!s.c.is_wanted(s.x)) s.board.complain("what others still wait for is not wanted any more");
  };
  list.push_back(with_peers("tasks follow their argument", awaited, follow));
  list.push_back(with_peers(
      "all tasks follow their argument",
      [=](Stage& s) {
        stored(s);
        Options alone;
        alone.deps = {s.promises[0].object};
        for (u32 n = 0; n < 2; ++n) s.task(Act::value, 0, alone);
        s.x = s.promises[0].object;
        hear(s);
      },
      [](Stage& s) {
        for (const QueueState& each : s.c.followers(s.x)) s.c.send_followers(peer(s, 1), s.x, each.shape, each.tasks);
        if (s.c.is_wanted(s.x)) s.board.complain("what nobody waits for is wanted");
        s.task(Act::value, 0, [&] {
          Options again;
          again.deps = {s.x};
          return again;
        }());
        if (wanted(s) != 1) s.board.complain("a value that a task waits for again is no news");
      }));
  list.push_back(with_peers(
      "recall tasks that have followed their argument",
      [=](Stage& s) {
        awaited(s);
        follow(s);
      },
      [](Stage& s) {
        std::vector<TaskIdBytes> ids = s.c.away(peer(s, 1));
        s.c.recall(peer(s, 1), {ids.begin(), ids.end()});
      }));
  list.push_back(with_peers(
      "a result: stored there, and lost",
      [=](Stage& s) {
        stored(s);
        s.tasks_may_fail = true;
      },
      [](Stage& s) {
        std::vector<u8> bytes = bytes_of(1, 20);
        u32 o = s.take(s.promises[0].object);
        s.c.seal(o, Value{bytes.data(), bytes.size(), NIL, FORMAT_TEST_FAILURE}, {});
      },
      {}, ProcessKind::node_manager,
      [](Stage& s) {
        std::optional<Location> where = s.c.location(s.promises[0].object);
        if (where && (where->size_bytes != 40 || where->format != FORMAT_TEST))
          s.board.complain("a stored result is said to be what it is not");
      }));
  list.push_back(tells(
      "stored there, and nobody wants it",
      [=](Stage& s) {
        stored(s);
        let_go(s, {s.promises[2].object, s.promises[0].object});
        let_go(s, {s.promises[0].object});
      },
      nothing));
  list.push_back(with_peers(
      "drop the ids of stored results",
      [=](Stage& s) {
        stored(s);
        s.list = {s.promises[0].object, s.promises[1].object, s.promises[2].object};
      },
      drop_all, [](Stage& s) { s.list = take_all(s, s.list); }));
  list.push_back({"end the job of tasks that are away",
                  ProcessKind::node_manager,
                  [=](Stage& s) {
                    s.board.unseen_attempts = 1;
                    s.actors_may_die = s.tasks_may_fail = true;
                    for (u32 returns : {0u, 1u, 4u, 11u}) away(s, returns);
                    for (u32 n : {1, 2, 3}) tell_result(s, s.promises[n], n == 2);
                    has_run(s);
                    disown(s);
                  },
                  {},
                  {},
                  [](Stage& s) {
                    std::vector<Activity> running;
                    s.c.end_jobs(running);
                  },
                  true,
                  true,
                  [](Stage& s) {
                    end_all(s);
                    bury_peers(s);
                  }});
}

// --- received -----------------------------------------------------------------------------------------------

inline Situation receives(const std::string& name, Step prepare, std::function<SentTask(Stage&)> make) {
  return with_peers("receive " + name, prepare, [=](Stage& s) {
    SentTask task = make(s);
    receive(s, task);
    receive(s, task);  // once more: it is here
  });
}

inline void add_receipts(Situations& list) {
  auto order = [](Stage& s) { return Order{Act::value, s.new_tag(), 0, 4}; };
  for (u32 returns : {0u, 1u, 20u})
    list.push_back(receives("a task with " + std::to_string(returns) + " returns", nothing,
                            [=](Stage& s) { return sent(s, order(s), returns); }));
  for (u32 returns : {1u, 20u})
    list.push_back(
        with_peers("receive a task with " + std::to_string(returns) + " returns that is here for another node", nothing,
                   [=](Stage& s) {
                     SentTask task = sent(s, order(s), returns);
                     receive(s, task);
                     Value payload{reinterpret_cast<const u8*>(task.payload.data()), task.payload.size(), NIL, 0};
                     try {
                       s.c.receive_task(peer(s, 2), task, payload);
                       s.board.complain("a task is made twice");
                     } catch (const StaleHandle&) {
                     }
                   }));
  for (u32 returns : {1u, 3u, 20u})
    list.push_back(with_peers(
        "receive a task with " + std::to_string(returns) + " returns that is here, and whose first result is known",
        [=](Stage& s) {
          s.tasks_may_fail = true;
          SentTask task = sent(s, order(s), 2, refs_of(s, foreign(s, 1, peer(s, 1))));
          receive(s, task);
          s.bytes.push_back({task.id.begin(), task.id.end()});
          std::vector<u8> bytes = bytes_of(1, 4);
          for (u32 o : s.c.take_in(results_of(s, task))) {
            s.c.seal(o, Value{bytes.data(), 4, NIL, FORMAT_TEST}, {});
            s.c.drop_local(o);
          }
        },
        [=](Stage& s) {
          SentTask task = sent(s, order(s), returns);
          memcpy(task.id.data(), s.bytes[0].data(), TASK_ID_BYTES);
          Value payload{reinterpret_cast<const u8*>(task.payload.data()), task.payload.size(), NIL, 0};
          s.c.receive_task(peer(s, 2), task, payload);
          try {
            s.c.receive_task(peer(s, 3), task, payload);
            s.board.complain("a task is made three times");
          } catch (const StaleHandle&) {
          }
        }));
  list.push_back(receives(
      "a task with arguments of all kinds",
      [](Stage& s) {
        s.tasks_may_fail = true;
        s.list = {s.put(100), s.pending(), foreign(s, 1, peer(s, 1))[0], foreign(s, 1, peer(s, 2))[0]};
      },
      [=](Stage& s) {
        std::vector<IdRef> nested = made_up(s, 1, peer(s, 2));
        return sent(s, order(s), 1, refs_of(s, s.list), nested, made_up(s, 1, peer(s, 1))[0]);
      }));
  list.push_back(receives(
      "a task with many arguments", [](Stage& s) { s.tasks_may_fail = true; },
      [=](Stage& s) {
        return sent(s, order(s), 2, made_up(s, 20, peer(s, 1)), made_up(s, 20, peer(s, 2)),
                    made_up(s, 1, peer(s, 2))[0]);
      }));
  for (bool known : {false, true})
    list.push_back(receives(
        known ? "a task of which one result is known" : "a task whose results are awaited here",
        [=](Stage& s) {
          s.tasks_may_fail = true;
          SentTask task = sent(s, order(s), 3);
          s.bytes.push_back({task.id.begin(), task.id.end()});
          std::vector<u32> results = s.c.take_in(results_of(s, task), peer(s, 2));
          s.held.insert(s.held.end(), results.begin(), results.end());
          Options on;
          on.deps = results;
          on.may_fail = true;
          s.task(Act::value, 0, on);
          std::vector<u8> bytes = bytes_of(1, 4);
          if (known) s.c.seal(results[0], Value{bytes.data(), 4, NIL, FORMAT_TEST}, {});
        },
        [=](Stage& s) {
          SentTask task = sent(s, order(s), 3);
          memcpy(task.id.data(), s.bytes[0].data(), TASK_ID_BYTES);
          return task;
        }));
  list.push_back(with_peers(
      "take back tasks that were received",
      [](Stage& s) {
        s.tasks_may_fail = true;
        s.workers(1);
        received(s, Act::gate, 1);
        s.at_gate(1);
        for (u32 returns : {0u, 1u, 13u}) {
          received(s, Act::value, returns, {}, true);
          received(s, Act::value, returns, refs_of(s, foreign(s, 2, peer(s, 1))), true);
        }
        Options on;
        on.deps = {s.promises[1].object};
        on.may_fail = true;
        s.task(Act::value, 0, on);
      },
      [](Stage& s) {
        std::vector<TaskIdBytes> all = s.c.received(peer(s, 1));
        if (s.c.drop_received(peer(s, 1), all).size() > all.size()) s.board.complain("too much was taken back");
      }));
}

// A worker finishes a task of another node, whose node manager then hears of it.
inline void add_foreign_work(Situations& list) {
  for (u32 returns : {0u, 1u, 3u})
    for (Act act : {Act::value, Act::fail}) {
      std::string name = std::string(act == Act::fail ? "fail" : "finish") + " another node's task with " +
                         std::to_string(returns) + " returns";
      list.push_back(with_peers(
          name, [=](Stage& s) { received(s, returns == 3 && act == Act::value ? Act::many : act, returns); },
          [](Stage& s) { finish_task(s); },
          [=](Stage& s) {
            take_and_do(s);
            Transaction t(s.m, s.c.thread());
            t.set(s.m.process(s.c.process()).retire, 1u);
            t.commit();
          },
          ProcessKind::worker));
      if (act == Act::fail)
        list.push_back(with_peers(
            name + ", while it runs", [=](Stage& s) { received(s, act, returns); },
            [](Stage& s) {
              do_task(s);
              s.c.complete();
            },
            [](Stage& s) { take_task(s); }, ProcessKind::worker));
      list.push_back(with_peers(
          "hear that another node's task is done, " + name,
          [=](Stage& s) {
            received(s, returns == 3 && act == Act::value ? Act::many : act, returns);
            s.workers(1);
            u32 last = s.held.back();
            s.c.wait_for(last, wait::Deadline(-1));
            s.board.until([&] { return !peek(s.h.running_count); });
          },
          [](Stage& s) {
            hear(s);
            s.c.renew_news(peer(s, 1));
            for (const News& each : hear(s))
              if (each.kind == NewsKind::done) {
                std::vector<IdTimes> returned{{each.id.id, 1}};
                s.c.take_back(peer(s, 1), returned);
              }
          }));
    }
  list.push_back(with_peers(
      "let go of a result that its owner has lent in turn",
      [](Stage& s) {
        received(s, Act::many, 3);
        for (const Promise& p : s.promises) s.list.push_back(p.object);
        s.c.note(peer(s, 1), refs_of(s, s.list));
        s.c.note(peer(s, 2), refs_of(s, s.list));
        s.workers(1);
        s.c.wait_for(s.list.back(), wait::Deadline(-1));
        s.board.until([&] { return !peek(s.h.running_count); });
        hear(s);
      },
      [](Stage& s) {
        drop_all(s);
        hear(s);
      },
      [](Stage& s) { s.list = take_all(s, s.list); }, ProcessKind::node_manager,
      [](Stage& s) {
        let_go(s, s.list);
        hear(s);
        if (!s.c.notes(peer(s, 2)).empty()) s.board.complain("two nodes keep a result for each other");
      }));
  for (u32 left : {0u, 1u})
    list.push_back(with_peers(
        "bury a worker running another node's task with " + std::to_string(left) + " retries left",
        [=](Stage& s) {
          s.tasks_may_fail = true;
          s.victim = s.start_worker();
          Order order{Act::gate, s.new_tag(), 1, 40};
          SentTask task = sent(s, order, 2);
          task.retries_left = left;
          receive(s, task);
          s.at_gate(1);
          s.kill_helper(s.victim);
        },
        [](Stage& s) { s.c.bury(u32(s.victim), -SIGKILL); }));
}

inline void add_sending_situations(Situations& list) {
  add_sends(list);
  add_recalls(list);
  add_results(list);
  add_receipts(list);
  add_foreign_work(list);
}

}  // namespace ray::testing
