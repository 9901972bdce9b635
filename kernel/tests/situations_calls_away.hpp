// Calls to actors of other nodes, calls that come from there, and the end of such actors.
#pragma once

#include "situations_sending.hpp"

namespace ray::testing {

inline IdRef made_up_actor(Stage& s, u32 owner) {
  IdRef ref = made_up(s, 1, owner)[0];
  u32 index = ACTOR_INDEX;
  memcpy(ref.id.data() + TASK_ID_BYTES, &index, sizeof index);
  return ref;
}

// An actor that a peer serves; held by the parent, and noted.
inline u32 actor_there(Stage& s) {
  s.actors_may_die = true;
  IdRef ref = made_up_actor(s, peer(s, 1));
  s.held.push_back(s.c.take_in({&ref, 1}, peer(s, 1))[0]);
  return s.x = s.held.back();
}

inline void call_there(Stage& s, u32 returns, u32 times, bool with_ids = true) {
  for (u32 n = 0; n < times; ++n) {
    Options o;
    o.returns = returns;
    if (with_ids) o.deps = {s.put(10)};
    if (with_ids) o.nested = {s.put(10), foreign(s, 1, peer(s, 1))[0], foreign(s, 1, peer(s, 2))[0]};
    o.may_fail = true;
    s.call(s.x, Act::actor_add, o);
  }
}

inline std::vector<SentTask> send_calls(Stage& s, u32 count = 100) { return s.c.send_calls(peer(s, 1), s.x, count); }

inline void tell_sum(Stage& s, const Promise& p, bool here = true, u32 turn = 0) {
  Value v{reinterpret_cast<const u8*>(&p.sum), sizeof p.sum, NIL, FORMAT_TEST};
  s.board.runs[p.tag] = 1;
  s.c.finish_return(peer(s, 1), id_of(s, p.object), v, here, {}, false, turn);
}

inline void add_calls_that_go(Situations& list) {
  for (u32 returns : {0u, 1u, 3u})
    for (bool again : {false, true})
      list.push_back(with_peers(
          std::string("call another node's actor") + (again ? " again" : "") + ", " + std::to_string(returns) +
              " returns",
          [](Stage& s) { actor_there(s); },
          [=](Stage& s) { s.call_with(s.x, {Act::actor_add, s.new_tag(), 1, 0}, with(0, 0, returns)); },
          [=](Stage& s) {
            s.take(s.x);
            if (again) s.call_with(s.x, {Act::actor_add, s.new_tag(), 1, 0});
          },
          ProcessKind::driver));
  for (u32 returns : {0u, 1u, 3u})
    list.push_back(with_peers(
        "send calls with " + std::to_string(returns) + " returns",
        [=](Stage& s) {
          actor_there(s);
          call_there(s, returns, 4);
          if (s.random.coin()) hear(s);
        },
        [](Stage& s) {
          send_calls(s, 3);
          std::vector<SentTask> rest = send_calls(s);
          if (rest.size() != 1 || !rest[0].after) s.board.complain("a call does not say which one it comes after");
        }));
  list.push_back(with_peers(
      "send a call with many ids",
      [](Stage& s) {
        actor_there(s);
        Options o;
        o.deps = some_objects(s, 20);
        o.nested = some_objects(s, 20);
        o.may_fail = true;
        s.call(s.x, Act::actor_add, o);
      },
      [](Stage& s) { send_calls(s); }));
  list.push_back(with_peers(
      "send calls up to one that waits",
      [](Stage& s) {
        actor_there(s);
        call_there(s, 1, 2);
        Options o;
        o.deps = {s.pending()};
        o.may_fail = true;
        s.call(s.x, Act::actor_add, o);
        call_there(s, 1, 1);
      },
      [](Stage& s) {
        if (send_calls(s).size() != 2) s.board.complain("a call went before its argument was there");
        std::vector<u8> bytes = bytes_of(1, 4);
        s.c.seal(s.take(s.reserved[0]), Value{bytes.data(), 4, NIL, FORMAT_TEST}, {});
        if (send_calls(s).size() != 2) s.board.complain("a call did not go when its argument was there");
      }));
  list.push_back(with_peers(
      "hear of calls, and again after a new connection",
      [](Stage& s) {
        actor_there(s);
        call_there(s, 1, 2);
      },
      [](Stage& s) {
        hear(s);
        s.c.renew_news(peer(s, 1));
        s.c.renew_news(peer(s, 2));
        u32 told = 0;
        for (const News& each : hear(s)) told += each.kind == NewsKind::calls && each.peer == peer(s, 1) && !each.ends;
        if (told != 1) s.board.complain("calls that have not gone are not told of once");
      }));
}

inline void add_calls_that_come_back(Situations& list) {
  auto recall = [](Stage& s) {
    std::vector<TaskIdBytes> ids = s.c.away(peer(s, 1));
    s.c.recall(peer(s, 1), {ids.begin(), ids.end()});
    send_calls(s);
  };
  auto bury = [](Stage& s) { s.c.bury_peer(peer(s, 1)); };
  for (bool dies : {false, true}) {
    auto add = [&](const std::string& name, Step prepare) {
      list.push_back(
          with_peers((dies ? "bury a peer with " : "recall ") + name, prepare, dies ? Step(bury) : Step(recall)));
    };
    for (u32 returns : {0u, 1u, 3u})
      add("calls with " + std::to_string(returns) + " returns", [=](Stage& s) {
        actor_there(s);
        call_there(s, returns, 3);
        send_calls(s, 2);
      });
    add("calls, of which some are done", [](Stage& s) {
      actor_there(s);
      call_there(s, 1, 6, false);
      send_calls(s, 5);
      for (u32 n : {0, 2}) tell_sum(s, s.promises[n]);
    });
    add("calls half done", [](Stage& s) {
      actor_there(s);
      call_there(s, 3, 3, false);
      send_calls(s);
      for (u32 n : {0, 4, 8}) tell_sum(s, s.promises[n], n != 4);
    });
    add("calls whose results are stored there", [](Stage& s) {
      s.tasks_may_fail = true;
      actor_there(s);
      call_there(s, 2, 3, false);
      send_calls(s);
      for (u32 n : {0, 1, 2, 5}) tell_sum(s, s.promises[n], false);
    });
    add("a call whose caller has ended", [](Stage& s) {
      actor_there(s);
      pid_t caller = s.helper([&s] {
        s.c.enter(ProcessKind::driver, nullptr);
        u32 a = s.take(s.x);
        Order order{Act::actor_add, 1, 1, 0};
        Submission call;
        call.payload = reinterpret_cast<const u8*>(&order);
        call.payload_bytes = sizeof order;
        std::vector<u32> out;
        s.c.call(a, call, out);
        s.board.at(91);
        for (;;) pause();
      });
      s.board.until([&] { return s.board.stage.load() == 91; });
      s.board.stage = 0;
      send_calls(s);
      s.kill_and_bury(caller);
    });
  }
}

inline void add_some_that_come_back(Situations& list) {
  auto add = [&](const std::string& name, u32 calls, std::vector<u32> chosen) {
    list.push_back(with_peers(
        "recall " + name,
        [=](Stage& s) {
          actor_there(s);
          call_there(s, 1, calls, false);
          send_calls(s);
        },
        [=](Stage& s) {
          std::set<TaskIdBytes> ids;
          for (u32 n : chosen) {
            TaskIdBytes id;
            memcpy(id.data(), s.m.object(s.promises[n].object).id, TASK_ID_BYTES);
            ids.insert(id);
          }
          if (s.c.recall(peer(s, 1), ids) != chosen.size()) s.board.complain("not all that were named come back");
          if (send_calls(s).size() != chosen.size()) s.board.complain("they do not go again");
        }));
  };
  add("the first of two calls", 2, {0});
  add("the second of four calls", 4, {1});
  add("two calls from amid five", 5, {1, 2});
}

inline void add_results_of_calls(Situations& list) {
  auto away = [](Stage& s, u32 returns) {
    actor_there(s);
    call_there(s, returns, 3, false);
    send_calls(s, 2);
    has_run(s);
  };
  list.push_back(tells("of a call", [=](Stage& s) { away(s, 1); }, [](Stage& s) { tell_sum(s, s.promises[0]); }));
  list.push_back(tells(
      "of the calls of one caller, out of order", [=](Stage& s) { away(s, 1); },
      [](Stage& s) {
        tell_sum(s, s.promises[1]);
        tell_sum(s, s.promises[0]);
      }));
  list.push_back(tells(
      "of calls, stored there", [=](Stage& s) { away(s, 2); },
      [](Stage& s) {
        for (u32 n : {1, 0, 2}) tell_sum(s, s.promises[n], false);
      }));
  list.push_back(tells(
      "of calls without returns", [=](Stage& s) { away(s, 0); },
      [](Stage& s) {
        for (const TaskIdBytes& id : s.c.away(peer(s, 1))) {
          ObjectIdBytes hidden;
          task::return_id(hidden.data(), id.data(), 0);
          s.c.finish_return(peer(s, 1), hidden, Value{}, true, {}, false);
        }
      }));
}

inline void add_ends_elsewhere(Situations& list) {
  list.push_back(with_peers(
      "kill another node's actor",
      [](Stage& s) {
        actor_there(s);
        call_there(s, 1, 1);
      },
      [](Stage& s) {
        if (s.c.kill_actor(s.x)) s.board.complain("another node's process is named");
        s.c.kill_actor(s.x);
      },
      [](Stage& s) { s.take(s.x); }, ProcessKind::driver));
  list.push_back(with_peers(
      "hear that another node's actor was killed, and that it has ended",
      [](Stage& s) {
        actor_there(s);
        s.bytes.push_back({s.m.object(s.x).id, s.m.object(s.x).id + ID_BYTES});
        s.c.kill_actor(s.x);
        let_go(s, {s.x});
      },
      [](Stage& s) {
        for (const News& each : hear(s))
          if (each.kind == NewsKind::calls && !each.ends)
            s.board.complain("the peer is not told that an actor shall end");
        ObjectIdBytes id = to_id(s.bytes[0].data());
        s.c.heard_of_end(peer(s, 2), id);
        s.c.heard_of_end(peer(s, 1), id);
        s.c.heard_of_end(peer(s, 1), id);
        hear(s);
      }));
  list.push_back(with_peers(
      "bury a peer whose actor was to end",
      [](Stage& s) {
        actor_there(s);
        call_there(s, 1, 2);
        send_calls(s, 1);
        s.c.kill_actor(s.x);
      },
      [](Stage& s) { s.c.bury_peer(peer(s, 1)); }));
  list.push_back(with_peers(
      "drop the last handle of another node's actor",
      [](Stage& s) {
        s.actors_may_die = true;
        IdRef ref = made_up_actor(s, peer(s, 1));
        s.x = s.c.take_in({&ref, 1}, peer(s, 1))[0];
      },
      [](Stage& s) {
        drop_all(s);
        hear(s);
      },
      [](Stage& s) {
        s.list = {s.take(s.x)};
        s.call_with(s.x, {Act::actor_add, s.new_tag(), 1, 0}, with(0, 0, 0));
      },
      ProcessKind::node_manager, [](Stage& s) { let_go(s, {s.x}); }));
  for (bool own : {false, true})
    list.push_back(with_peers(
        own ? "note an actor of this node's that is gone" : "note another node's actor",
        [=](Stage& s) { s.list.push_back(own); },
        [](Stage& s) {
          bool gone = s.list[0];
          IdRef ref = made_up_actor(s, gone ? NIL : peer(s, 1));
          for (u32 n = 0; n < 2; ++n) s.c.note(peer(s, 2), {&ref, 1});
          hear(s);
        }));
}

inline void add_calls_that_come(Situations& list) {
  auto make = [](Stage& s, u32 returns, std::vector<IdRef> deps = {}, std::vector<IdRef> nested = {}) {
    SentTask call = sent(s, {Act::actor_add, s.new_tag(), 0, 0}, returns, std::move(deps), std::move(nested));
    call.function.reset();
    call.actor = IdRef{id_of(s, s.x), NIL};
    return call;
  };
  for (auto& [state, name] : STATES) {
    if (state == State::restarting) continue;
    State in = state;
    list.push_back(with_peers(
        "receive calls to an actor " + name,
        [=](Stage& s) {
          s.actors_may_die = s.tasks_may_fail = true;
          s.x = actor_in(s, in, 0);
          s.held.push_back(s.x);
        },
        [=](Stage& s) {
          SentTask first = make(s, 1), second = make(s, 0), third = make(s, 1);
          second.after = first.id;
          third.after = second.id;
          for (const SentTask& call : {first, second, third}) receive(s, call);
          receive(s, second);  // once more: it is here
        }));
  }
  list.push_back(with_peers(
      "receive calls with many arguments",
      [=](Stage& s) {
        s.actors_may_die = s.tasks_may_fail = true;
        s.x = actor_in(s, State::idle, 0);
        s.held.push_back(s.x);
      },
      [=](Stage& s) {
        SentTask first = make(s, 2, made_up(s, 20, peer(s, 1)), made_up(s, 20, peer(s, 2)));
        SentTask second = make(s, 1);
        second.after = first.id;
        receive(s, first);
        receive(s, second);
      }));
  list.push_back(with_peers(
      "give the object of an actor a value with many ids",
      [](Stage& s) {
        s.actors_may_die = true;
        s.x = actor_in(s, State::idle, 0);
        s.held.push_back(s.x);
      },
      [](Stage& s) {
        u64 sum = 1;
        Value v{reinterpret_cast<const u8*>(&sum), sizeof sum, NIL, FORMAT_TEST};
        std::vector<IdRef> nested = made_up(s, 20, peer(s, 2));
        if (s.c.finish_return(peer(s, 1), to_id(s.m.object(s.x).id), v, true, nested, false, 0))
          s.board.complain("an actor is a result");
      }));
  list.push_back(with_peers(
      "receive a call to an actor that is gone",
      [](Stage& s) {
        s.actors_may_die = s.tasks_may_fail = true;
        s.x = s.put(10);
      },
      [=](Stage& s) {
        SentTask call = make(s, 2);
        call.actor = made_up_actor(s, NIL);
        receive(s, call);
      }));
}

// --- actors that one node has and another serves --------------------------------------------------------------

// The parent's, with calls behind; at the peer.
inline void placed(Stage& s, u32 calls, bool all_sent = true) {
  s.actors_may_die = true;
  Options o;
  o.deps = {s.put(10)};
  s.held.push_back(s.x = s.actor(2, Act::actor_new, 0, o));
  call_there(s, 1, calls, false);
  send_all(s);
  if (all_sent) send_calls(s);
}

inline void add_placements(Situations& list) {
  list.push_back(with_peers(
      "send the creation of an actor",
      [](Stage& s) {
        s.actors_may_die = true;
        for (u32 n = 0; n < 2; ++n) {
          s.held.push_back(s.x = s.actor(n, Act::actor_new, 0, {}));
          s.call(s.x);
        }
        s.c.lend(peer(s, 1), {&s.x, 1});
      },
      [](Stage& s) { send_all(s); }));
  list.push_back(with_peers(
      "recall the creation of an actor", [](Stage& s) { placed(s, 3); },
      [](Stage& s) {
        std::vector<TaskIdBytes> ids = s.c.away(peer(s, 1));
        s.c.recall(peer(s, 1), {ids.begin(), ids.end()});
      }));
  for (bool killed : {false, true})
    list.push_back(with_peers(
        std::string("hear that an actor was refused") + (killed ? ", which was killed" : ""),
        [=](Stage& s) {
          placed(s, 3);
          if (killed) s.c.kill_actor(s.x);
        },
        [](Stage& s) {
          TaskIdBytes id;
          memcpy(id.data(), s.m.object(s.x).id, TASK_ID_BYTES);
          s.c.recall(peer(s, 1), {id});
          hear(s);
        }));
  for (bool made : {false, true})
    list.push_back(with_peers(
        made ? "bury a peer that serves an actor" : "bury a peer that creates an actor",
        [=](Stage& s) {
          placed(s, 3, made);
          ObjectIdBytes hidden;
          u32 creation = s.m.actor(s.m.object(s.x).actor).creation;
          task::return_id(hidden.data(), s.m.task(creation).id, 0);
          if (made) s.c.finish_return(peer(s, 1), hidden, Value{}, true, {}, false);
        },
        [](Stage& s) { s.c.bury_peer(peer(s, 1)); }));
  list.push_back(with_peers(
      "drop the last handle of an actor that a peer serves",
      [](Stage& s) {
        placed(s, 0);
        std::erase(s.held, s.x);
        ObjectIdBytes hidden;
        u32 creation = s.m.actor(s.m.object(s.x).actor).creation;
        task::return_id(hidden.data(), s.m.task(creation).id, 0);
        s.c.finish_return(peer(s, 1), hidden, Value{}, true, {}, false);
      },
      [](Stage& s) {
        drop_all(s);
        for (const News& each : hear(s))
          if (each.located && object::index_of(each.id.id.data()) != SERVED_INDEX)
            s.board.complain("the peer is told of an actor that it does not know");
      },
      [](Stage& s) { s.list = {s.take(s.x)}; }, ProcessKind::node_manager, [](Stage& s) { let_go(s, {s.x}); }));
  auto creation = [](Stage& s, std::vector<IdRef> deps) {
    SentTask task = sent(s, {Act::actor_new, s.new_tag(), 0, 4}, 0, std::move(deps));
    task.interval = 2;
    return task;
  };
  for (u32 deps : {0u, 20u})
    list.push_back(receives(
        "the creation of an actor with " + std::to_string(deps) + " arguments",
        [](Stage& s) { s.actors_may_die = s.tasks_may_fail = true; },
        [=](Stage& s) { return creation(s, made_up(s, deps, peer(s, 1))); }));
  for (u32 deps : {0u, 20u})
    list.push_back(receives(
        "an actor that goes on from a checkpoint, with " + std::to_string(deps) + " arguments",
        [](Stage& s) { s.actors_may_die = s.tasks_may_fail = true; },
        [=](Stage& s) {
          SentTask task = creation(s, made_up(s, deps, peer(s, 1)));
          task.checkpoint = made_up(s, 1, peer(s, 1))[0];
          task.turn = 7;
          return task;
        }));
  auto serves = [=](Stage& s, u32 interval = 0) {
    s.actors_may_die = s.tasks_may_fail = true;
    SentTask task = creation(s, {});
    task.interval = interval;
    receive(s, task);
    s.start_worker();  // which serves it
    IdRef handle{{}, peer(s, 1)};
    task::return_id(handle.id.data(), task.id.data(), ACTOR_INDEX);
    s.x = s.c.take_in({&handle, 1}, peer(s, 1))[0];
    s.held.push_back(s.x);
    s.bytes.push_back({handle.id.begin(), handle.id.end()});
  };
  for (u32 interval : {0u, 2u})
    list.push_back(with_peers(
        "call an actor that this node serves for another" + named(interval), [=](Stage& s) { serves(s, interval); },
        [=](Stage& s) {
          s.call_with(s.x, {Act::actor_add, s.new_tag(), 1, 0});
          bool goes_around = s.m.actor(s.m.object(s.x).actor).ready_head;
          if (goes_around != bool(interval)) s.board.complain("a call does not go the right way");
        },
        [](Stage& s) { s.take(s.x); }, ProcessKind::driver));
  for (u32 returns : {0u, 1u, 20u})
    list.push_back(with_peers(
        "receive calls that have come around, with " + std::to_string(returns) + " returns",
        [=](Stage& s) {
          actor_there(s);
          call_there(s, returns, 2, false);
          s.tasks_may_fail = true;
          SentTask task = creation(s, {});
          memcpy(task.id.data(), s.m.object(s.x).id, TASK_ID_BYTES);
          receive(s, task);
          if (returns < 2) s.start_worker();  // who makes one result
        },
        [](Stage& s) {
          for (SentTask& call : send_calls(s)) {
            call.around = true;
            call.job = guest(s);
            task::return_id(call.actor->id.data(), call.actor->id.data(), SERVED_INDEX);
            call.actor->owner = NIL;
            receive(s, call);
            receive(s, call);  // once more: it is here
          }
          if (s.c.received(peer(s, 1)).size() != 3) s.board.complain("calls that came around are not here");
        }));
  list.push_back(with_peers(
      "return an actor that this node serves for another", [=](Stage& s) { serves(s); },
      [](Stage& s) {
        ObjectIdBytes served = to_id(s.bytes[0].data());
        task::return_id(served.data(), served.data(), SERVED_INDEX);
        std::vector<IdTimes> returned{{served, 1}};
        s.c.take_back(peer(s, 1), returned);
      }));
}

// --- checkpoints of actors that one node has and another serves -----------------------------------------------

// Of the parent's, at the peer: the sum is that of so many calls.
inline bool take_checkpoint(Stage& s, u64 sum) {
  u32 o = foreign(s, 1, peer(s, 1))[0];
  s.c.seal(o, Value{reinterpret_cast<const u8*>(&sum), sizeof sum, NIL, FORMAT_TEST}, {});
  return s.c.take_checkpoint(peer(s, 1), s.x, u32(sum), o);
}

// One was made there, and calls done in this order.
inline void placed_and_called(Stage& s, u32 calls, const std::vector<u32>& done, u32 stored = ~0u) {
  placed(s, calls, false);
  send_calls(s, calls - 1);
  ObjectIdBytes hidden;
  u32 creation = s.m.actor(s.m.object(s.x).actor).creation;
  task::return_id(hidden.data(), s.m.task(creation).id, 0);
  s.c.finish_return(peer(s, 1), hidden, Value{}, true, {}, false);
  for (u32 n : done) tell_sum(s, s.promises[n], n != stored, n + 1);
  s.deaths = 1;  // what was done there may be done again
}

inline void add_logs(Situations& list) {
  list.push_back(tells(
      "of a call to an actor with checkpoints", [](Stage& s) { placed_and_called(s, 4, {0}); },
      [](Stage& s) { tell_sum(s, s.promises[1], true, 2); }));
  for (u32 covered : {2u, 4u})
    list.push_back(with_peers(
        "take a checkpoint that covers " + std::to_string(covered) + " calls",
        [](Stage& s) { placed_and_called(s, 7, {0, 1, 2, 3, 4}, 1); },
        [=](Stage& s) {
          if (!take_checkpoint(s, covered)) s.board.complain("a checkpoint is not taken");
          if (take_checkpoint(s, covered - 1)) s.board.complain("an older checkpoint is taken");
          if (!take_checkpoint(s, covered + 1)) s.board.complain("a newer checkpoint is not taken");
        }));
  list.push_back(with_peers(
      "drop the results of calls that are logged",
      [](Stage& s) {
        placed_and_called(s, 5, {0, 1, 2}, 1);
        let_go(s, {s.promises[1].object, s.promises[0].object});
      },
      [](Stage& s) {
        hear(s);
        take_checkpoint(s, 2);
      }));
  auto bury = [](Stage& s) { s.c.bury_peer(peer(s, 1)); };
  for (u32 covered : {0u, 2u})
    for (bool stored : {false, true})
      list.push_back(with_peers(
          "bury a peer that serves an actor with " + std::to_string(covered) + " calls covered" +
              (stored ? ", and a result stored there" : ""),
          [=](Stage& s) {
            placed_and_called(s, 7, {0, 1, 2, 3}, stored ? 2 : ~0u);
            if (covered) take_checkpoint(s, covered);
          },
          bury));
  list.push_back(with_peers(
      "bury a peer that serves an actor that was to end, with calls logged",
      [](Stage& s) {
        s.tasks_may_fail = true;
        placed_and_called(s, 7, {0, 1, 2, 3}, 2);
        s.c.kill_actor(s.x);
      },
      bury));
  auto starts_again = [](Stage& s, u32 covered) {
    s.board.unseen_attempts = 2;  // at two nodes that are not there
    placed_and_called(s, 7, {0, 1, 2, 3});
    if (covered) take_checkpoint(s, covered);
    s.c.bury_peer(peer(s, 1));
    s.c.flush_drops();
  };
  auto send_to_second = [](Stage& s, u32 calls = 100) {
    send_all(s, 2);
    return s.c.send_calls(peer(s, 2), s.x, calls);
  };
  auto hidden = [](Stage& s, const Promise& p) {
    ObjectIdBytes id = id_of(s, p.object);
    task::return_id(id.data(), id.data(), AROUND_INDEX);
    return id;
  };
  for (u32 covered : {0u, 2u})
    list.push_back(with_peers(
        "send an actor that starts again with " + std::to_string(covered) + " calls covered",
        [=](Stage& s) { starts_again(s, covered); },
        [=](Stage& s) {
          std::vector<SentTask> calls = send_to_second(s);
          if (calls.size() != 4 - covered) s.board.complain("%zu calls run again", calls.size());
          for (const SentTask& call : calls)
            if (!call.around || bool(call.after) != (&call != &calls[0]))
              s.board.complain("a call that runs again is not sent as one, or without the one before it");
        }));
  for (u32 told : {1u, 2u})
    list.push_back(with_peers(
        "a result: of " + std::to_string(told) + " of two calls that run again elsewhere",
        [=](Stage& s) {
          starts_again(s, 2);
          send_to_second(s);
          hear(s);
        },
        [=](Stage& s) {
          for (u32 n = 0; n < told; ++n) {
            u64 sum = 0;
            Value v{reinterpret_cast<const u8*>(&sum), sizeof sum, NIL, FORMAT_TEST};
            s.c.finish_return(peer(s, 2), hidden(s, s.promises[n + 2]), v, n == 0, {}, false, n + 3);
          }
          hear(s);
          size_t calls = s.c.send_calls(peer(s, 2), s.x, 100).size();
          if (calls != (told == 2 ? 3 : 0)) s.board.complain("%zu calls are sent after those", calls);
        }));
  for (bool all : {false, true})
    list.push_back(with_peers(
        all ? "recall an actor that starts again, with its calls" : "recall calls that were to run again",
        [=](Stage& s) {
          starts_again(s, 0);
          send_to_second(s, 3);
        },
        [=](Stage& s) {
          std::vector<TaskIdBytes> ids = s.c.away(peer(s, 2));
          std::set<TaskIdBytes> lost{ids.begin(), ids.end()};
          TaskIdBytes first{};
          memcpy(first.data(), s.m.object(s.promises[0].object).id, TASK_ID_BYTES);
          TaskIdBytes creation{};
          memcpy(creation.data(), s.m.object(s.x).id, TASK_ID_BYTES);
          if (!all) lost.erase(first), lost.erase(creation);
          s.c.recall(peer(s, 2), lost);
          if (!all) s.c.send_calls(peer(s, 2), s.x, 1);
        }));
  list.push_back(with_peers(
      "bury a second peer, where calls run again",
      [=](Stage& s) {
        starts_again(s, 0);
        send_to_second(s, 3);
        u64 sum = 1;
        Value v{reinterpret_cast<const u8*>(&sum), sizeof sum, NIL, FORMAT_TEST};
        s.c.finish_return(peer(s, 2), hidden(s, s.promises[0]), v, true, {}, false, 1);
        s.deaths = 2;
      },
      [](Stage& s) { s.c.bury_peer(peer(s, 2)); }));
  list.push_back(with_peers(
      "reclaim an actor",
      [](Stage& s) {
        placed_and_called(s, 7, {0, 1});
        take_checkpoint(s, 2);
      },
      [](Stage& s) {
        s.c.reclaim_actor(peer(s, 1), s.x);
        if (s.c.reclaim_actor(peer(s, 1), s.x)) s.board.complain("it comes back twice");
      }));
  // With a result that only a node that can't serve the actor could make again.
  list.push_back(with_peers(
      "bury a peer with a result of an actor that nobody here can serve",
      [](Stage& s) {
        s.tasks_may_fail = true;
        placed_and_called(s, 6, {0, 1, 2}, 1);
        s.h.total[CPU] -= ARENA_CPUS * UNIT;
        s.h.free[CPU] -= ARENA_CPUS * UNIT;
      },
      bury, {}, ProcessKind::node_manager,
      [](Stage& s) {
        s.h.total[CPU] += ARENA_CPUS * UNIT;
        s.h.free[CPU] += ARENA_CPUS * UNIT;
        Transaction t(s.m, s.c.thread());
        queue::offer(t);
        t.commit();
      }));
}

// An actor with checkpoints that this node serves, and calls to it.
inline void serves_with_calls(Stage& s, u32 calls) {
  s.actors_may_die = s.tasks_may_fail = true;
  SentTask creation = sent(s, {Act::actor_new, s.new_tag(), 0, 4}, 0);
  creation.interval = 2;
  receive(s, creation);
  std::optional<TaskIdBytes> after;
  for (u32 n = 0; n < calls; ++n) {
    SentTask call = sent(s, {Act::actor_add, s.new_tag(), 1, 0}, n % 2);
    call.function.reset();
    call.actor = IdRef{{}, NIL};
    task::return_id(call.actor->id.data(), creation.id.data(), SERVED_INDEX);
    call.after = after;
    after = call.id;
    receive(s, call);
  }
}

inline void add_checkpoints_for_owners(Situations& list) {
  auto ready = [](Stage& s) {
    take_and_do(s);
    for (u32 n = 0; n < 2; ++n) {
      finish_task(s);
      do_task(s);
    }
  };
  list.push_back(with_peers(
      "finish calls to an actor with checkpoints that this node serves", [](Stage& s) { serves_with_calls(s, 3); },
      [](Stage& s) {
        finish_task(s);
        do_task(s);
      },
      ready, ProcessKind::worker));
  list.push_back(with_peers(
      "checkpoint of an actor that this node serves", [](Stage& s) { serves_with_calls(s, 4); },
      [](Stage& s) {
        s.c.checkpoint(Value{reinterpret_cast<const u8*>(&s.memory.sum), 8, NIL, FORMAT_TEST}, {});
        do_task(s);
        finish_task(s);
        s.c.checkpoint(Value{reinterpret_cast<const u8*>(&s.memory.sum), 8, NIL, FORMAT_TEST}, {});
      },
      [=](Stage& s) {
        ready(s);
        finish_task(s);
      },
      ProcessKind::worker,
      [](Stage& s) {  // each turn has added one
        s.c.renew_news(peer(s, 1));
        for (const News& each : s.c.news(1000, 0)) {
          u64 sum = each.turn;
          if (each.kind == NewsKind::checkpoint) memcpy(&sum, s.c.data_for_reading(each.object), sizeof sum);
          if (sum != each.turn) s.board.complain("a checkpoint says that it covers what it does not");
          if (each.object) s.c.drop_local(each.object);
        }
        s.c.flush_drops();
      }));
  list.push_back(with_peers(
      "the last checkpoint of an actor that leaves", [](Stage& s) { serves_with_calls(s, 5); },
      [](Stage& s) {
        s.c.checkpoint(Value{reinterpret_cast<const u8*>(&s.memory.sum), 8, NIL, FORMAT_TEST}, {}, true);
        finish_task(s);
      },
      [=](Stage& s) {
        ready(s);
        finish_task(s);
        do_task(s);
      },
      ProcessKind::worker));
  list.push_back(with_peers(
      "hear of the last checkpoint, and of calls that come behind it",
      [](Stage& s) {
        serves_with_calls(s, 3);
        pid_t last = s.helper([&s] {
          s.c.enter(ProcessKind::worker, nullptr);
          take_and_do(s);
          finish_task(s);
          do_task(s);
          s.c.checkpoint(Value{reinterpret_cast<const u8*>(&s.memory.sum), 8, NIL, FORMAT_TEST}, {}, true);
          s.c.next(nullptr, s.assignment);
          s.c.leave();
        });
        s.board.until([&] { return !s.helpers.count(last) || (s.reap(), !s.helpers.count(last)); });
        s.x = s.m.actor(s.m.header().actors.high_water).object;
      },
      [](Stage& s) {
        u32 last = 0;
        for (const News& each : hear(s)) last += each.kind == NewsKind::checkpoint && each.ends;
        if (last != 1) s.board.complain("an actor has left, and its owner is not told");
        SentTask call = sent(s, {Act::actor_add, s.new_tag(), 1, 0}, 1);
        call.function.reset();
        call.actor = IdRef{id_of(s, s.x), NIL};
        receive(s, call);
        s.c.renew_news(peer(s, 1));
        std::vector<IdTimes> returned{{id_of(s, s.x), 1}};
        s.c.take_back(peer(s, 1), returned);
        if (!s.c.served_actors().empty()) s.board.complain("an actor that has left is served");
      }));
  // Its object is in the list of news, and nothing refers to it, when its process ends.
  Situation ends = with_peers(
      "the process of an actor that has left ends", [](Stage& s) { serves_with_calls(s, 2); },
      [](Stage& s) { s.c.leave(); },
      [=](Stage& s) {
        ready(s);
        s.c.checkpoint(Value{reinterpret_cast<const u8*>(&s.memory.sum), 8, NIL, FORMAT_TEST}, {}, true);
        finish_task(s);
      },
      ProcessKind::worker, [](Stage& s) { hear(s); });
  ends.meet = [](Stage& s) {
    hear(s);
    s.x = s.m.actor(s.m.header().actors.high_water).object;
    std::vector<IdTimes> returned{{id_of(s, s.x), 1}};
    s.c.take_back(peer(s, 1), returned);
    s.c.renew_news(peer(s, 1));
  };
  list.push_back(ends);
  list.push_back(with_peers(
      "look for the actors that this node serves", [](Stage& s) { serves_with_calls(s, 1); },
      [](Stage& s) {
        if (s.c.served_actors().size() != 1) s.board.complain("one actor is served");
      }));
  list.push_back(with_peers(
      "hear of a checkpoint, and again after a new connection",
      [](Stage& s) {
        serves_with_calls(s, 5);
        s.start_worker();
        Actor& actor = s.m.actor(s.m.header().actors.high_water);
        s.board.until([&] { return std::atomic_ref(actor.checkpoint).load() != 0 && !s.h.running_count; });
      },
      [](Stage& s) {
        auto told = [&] {
          u32 results = 0, checkpoints = 0;
          for (const News& each : hear(s)) {
            results += each.kind == NewsKind::done && each.turn;
            if (each.kind != NewsKind::checkpoint) continue;
            ++checkpoints;
            if (each.turn > results) s.board.complain("a checkpoint comes before results that it covers");
          }
          if (checkpoints != 1) s.board.complain("a checkpoint is told of %u times", checkpoints);
        };
        told();
        s.c.renew_news(peer(s, 1));
        s.c.renew_news(peer(s, 1));
        told();
        s.c.renew_news(peer(s, 2));
        if (!hear(s).empty()) s.board.complain("another peer is told");
      }));
}

inline void add_calls_away_situations(Situations& list) {
  add_placements(list);
  add_calls_that_go(list);
  add_calls_that_come_back(list);
  add_some_that_come_back(list);
  add_results_of_calls(list);
  add_ends_elsewhere(list);
  add_calls_that_come(list);
  add_logs(list);
  add_checkpoints_for_owners(list);
}

}  // namespace ray::testing
