// Actors against a model: the order of each caller's calls, arguments that come late, what is run again after a
// death, and turns with tasks.

#include "node.hpp"

namespace ray::testing::lanes_test {
namespace {

struct Call {
  u32 task, caller;
  u32 argument = NIL;  // pending object that it waits for
};

// Several callers, arguments that come late, deaths and checkpoints; one actor.
void lanes(Random& random, u32 steps) {
  Node n(2);
  constexpr u32 CALLERS = 5;
  u32 interval = 1 + random.below(6);
  std::vector<CallerState> callers(CALLERS);
  auto as_caller = [&](u32 k, auto work) {
    std::swap(static_cast<CallerState&>(local_thread), callers[k]);
    work();
    std::swap(static_cast<CallerState&>(local_thread), callers[k]);
  };
  u32 actor_object = n.c.create_actor(n.submission(n.shape(UNIT)), interval);
  Actor& actor = n.m.actor(n.m.object(actor_object).actor);
  Worker w = n.add_worker();
  expect(n.take(w) == actor.creation, "the creation is not taken");
  n.finish(w);
  auto as_worker = [&](auto work) {
    u32 own = local_thread.index;
    local_thread.index = w.thread;
    work();
    local_thread.index = own;
  };
  std::vector<std::deque<Call>> waiting(CALLERS);
  std::vector<u32> served_ago(CALLERS, 0);
  std::deque<Call> again;  // to run again, in this order
  std::vector<Call> done;
  Call running{};
  std::vector<u32> pending;
  u32 finished = 0, deaths = 0, replayed = 0;
  auto ready = [&](const Call& call) { return !call.argument || n.c.ready(call.argument); };
  for (u32 step = 0; step < steps && !failures; ++step) {
    u32 what = random.below(100);
    if (what < 30) {
      u32 k = random.below(CALLERS);
      Call call{NIL, k, NIL};
      if (random.below(4) == 0) pending.push_back(call.argument = n.c.reserve());
      as_caller(k, [&] {
        std::vector<u32> out;
        std::vector<u32> deps;
        if (call.argument) deps.push_back(call.argument);
        n.c.call(actor_object, n.submission(NIL, deps), out);
        call.task = n.m.object(out[0]).task;
      });
      waiting[k].push_back(call);
    } else if (what < 45 && !pending.empty()) {
      u32 i = random.below(u32(pending.size()));
      n.c.seal(pending[i], Value{nullptr, 0, NIL, FORMAT_TEST}, {});
      pending[i] = pending.back();
      pending.pop_back();
    } else if (what < 90) {
      if (running.task) {
        n.finish(w);
        done.push_back(running);
        running = {};
        ++finished;
        if (done.size() >= interval && random.coin()) {
          u64 state = finished;
          as_worker([&] { n.c.checkpoint(Value{reinterpret_cast<u8*>(&state), 8, NIL, FORMAT_TEST}, {}); });
          done.clear();
        }
        continue;
      }
      u32 got = n.take(w);
      if (!again.empty()) {
        expect(got == again.front().task, "step %u: call %u is run again, not %u", step, got, again.front().task);
        running = again.front();
        again.pop_front();
        ++replayed;
        continue;
      }
      bool any = false;
      for (u32 k = 0; k < CALLERS; ++k) any |= !waiting[k].empty() && ready(waiting[k].front());
      expect(any == (got != NIL), "step %u: %s", step, got ? "a call runs that can't" : "a call that can run does not");
      if (!got) continue;
      bool found = false;
      for (u32 k = 0; k < CALLERS; ++k) {
        bool can = !waiting[k].empty() && ready(waiting[k].front());
        if (can && waiting[k].front().task == got) {
          running = waiting[k].front();
          waiting[k].pop_front();
          served_ago[k] = 0;
          found = true;
        } else if (can) {
          expect(++served_ago[k] <= CALLERS, "step %u: caller %u starves", step, k);
        } else {
          served_ago[k] = 0;
        }
      }
      expect(found, "step %u: call %u is not the first of any caller, or is not ready", step, got);
    } else if (what < 93) {
      n.c.bury(w.pid, -9);
      ++deaths;
      actor.deaths = 0;
      w = n.add_worker();
      // First what was done since the last checkpoint, in order, then what ran, then what was still to run again.
      std::deque<Call> rest = again;
      again.assign(done.begin(), done.end());
      if (running.task) again.push_back(running);
      again.insert(again.end(), rest.begin(), rest.end());
      done.clear();
      running = {};
      expect(n.take(w) == actor.creation, "step %u: the actor is not created again", step);
      n.finish(w);
    }
    if (step % 64 == 0) n.look("lanes");
  }
  n.look("lanes, at the end");
  printf("lanes: %u steps, %u calls finished, %u deaths, %u calls run again\n", steps, finished, deaths, replayed);
}

// An actor and a stream of tasks share one CPU: each gets its turn.
void turns() {
  Node n(1);
  u32 shape = n.shape(UNIT);
  u32 actor_object = n.c.create_actor(n.submission(shape), 0);
  Worker serves = n.add_worker(), works = n.add_worker();
  expect(n.take(serves) != NIL, "the creation is not taken");
  n.finish(serves);
  std::vector<u32> out;
  u32 calls = 0, tasks = 0;
  for (u32 i = 0; i < 50; ++i) {
    n.c.call(actor_object, n.submission(NIL), out);
    n.submit(shape);
  }
  for (u32 i = 0; i < 60; ++i)
    for (const Worker& w : {serves, works})
      if (n.take(w)) {
        (w.thread == serves.thread ? calls : tasks) += 1;
        n.finish(w);
      }
  expect(calls >= 20 && tasks >= 20, "in turns: %u calls and %u tasks", calls, tasks);
  printf("turns: %u calls, %u tasks\n", calls, tasks);
}

// It is a task's turn, and no worker comes to take it: the actor goes on.
void nobody_comes() {
  Node n(1);
  Worker w = n.add_worker();
  u32 actor = n.c.create_actor(n.submission(n.shape(0)), 0);
  n.take(w);
  n.finish(w);
  n.submit(n.shape(UNIT));
  std::vector<u32> out;
  for (u32 i = 0; i < 6; ++i) n.c.call(actor, n.submission(NIL), out);
  u32 done = 0;
  for (u32 looks = 0; looks < 12; ++looks)
    if (n.take(w, looks % 2)) {
      n.finish(w);
      ++done;
    }
  expect(done == 6, "an actor did %u of its 6 calls while a task had nobody to run it", done);
  n.look("after an actor that went on");
}

int run(const char*) {
  Random random(run_seed("lanes"));
  u32 rounds = short_form() ? 4 : 40;
  for (u32 i = 0; i < rounds && !failures; ++i) lanes(random, short_form() ? 2500 : 8000);
  turns();
  nobody_comes();
  return result("lanes");
}

const Test test{"lanes", run};

}  // namespace
}  // namespace ray::testing::lanes_test
