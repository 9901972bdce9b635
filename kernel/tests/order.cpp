// Queues and resources against a model; who is held back, and for how long; the longest transaction.

#include "node.hpp"

namespace ray::testing::order_test {
namespace {

// --- queues and resources -----------------------------------------------------------------------------

struct QueueModel {
  struct Waiting {
    u64 sequence;
    u32 task;
  };
  struct Demand {
    i64 need[RESOURCE_KINDS];
    std::deque<Waiting> queue;
  };
  std::map<u32, Demand> shapes;
  i64 free[RESOURCE_KINDS];
  std::vector<i64> gpus;

  bool fits(const Demand& d) const {
    for (u32 k = 0; k < RESOURCE_KINDS; ++k)
      if (d.need[k] > 0 && d.need[k] > free[k]) return false;
    if (d.need[GPU] == 0) return true;
    i64 whole = 0, room = 0;
    for (i64 g : gpus) whole += g == i64(UNIT), room += g >= d.need[GPU];
    return d.need[GPU] >= i64(UNIT) ? whole >= d.need[GPU] / UNIT : room > 0;
  }
  // The oldest of those at the heads of their queues that fit.
  u32 choose() {
    u32 best = NIL;
    for (auto& [shape, d] : shapes)
      if (!d.queue.empty() && fits(d) && (!best || d.queue.front().sequence < shapes[best].queue.front().sequence))
        best = shape;
    return best;
  }
};

void queues(Random& random, u32 steps) {
  constexpr i64 CPUS = 6, GPUS = 3, CUSTOM_UNITS = 2;
  Node n(CPUS, GPUS, CUSTOM_UNITS);
  QueueModel model;
  i64 total[] = {CPUS * UNIT, GPUS * UNIT, CUSTOM_UNITS * UNIT};
  memcpy(model.free, total, sizeof total);
  model.gpus.assign(GPUS, UNIT);
  std::vector<u32> shapes;
  for (u32 i = 0; i < 9; ++i) {
    i64 cpu = i64(random.below(4)) * UNIT / (1 + random.below(2));
    i64 gpu = random.below(3) ? 0 : random.coin() ? i64(1 + random.below(GPUS)) * UNIT : UNIT / (2 + random.below(3));
    i64 custom = random.below(3) ? 0 : i64(1 + random.below(CUSTOM_UNITS)) * UNIT;
    u32 s = n.shape(cpu, gpu, custom);
    shapes.push_back(s);
    model.shapes[s] = {{cpu, gpu, custom}, {}};
  }
  struct Running {
    Worker worker;
    u32 task = NIL, shape = NIL;
    u64 sequence = 0;
    bool gave_back = false;
    std::vector<u32> gpus;
  };
  std::vector<Running> workers;
  for (u32 i = 0; i < 8; ++i) workers.push_back({n.add_worker(), NIL, NIL, 0, false, {}});
  auto give_model = [&](Running& r) {
    QueueModel::Demand& d = model.shapes[r.shape];
    for (u32 k = 0; k < RESOURCE_KINDS; ++k)
      if (k != CPU || !r.gave_back) model.free[k] += d.need[k];
    for (u32 g : r.gpus) model.gpus[g] += std::min<i64>(d.need[GPU], UNIT);
    r.gpus.clear();
    r.gave_back = false;
  };
  u32 taken = 0, died = 0;
  for (u32 step = 0; step < steps && !failures; ++step) {
    for (u32 s : shapes) n.m.shape(s).passed = 0;  // nobody is held back in this model
    Running& r = workers[random.below(u32(workers.size()))];
    u32 what = random.below(100);
    if (what < 35) {
      u32 s = shapes[random.below(u32(shapes.size()))];
      u32 task = n.submit(s);
      model.shapes[s].queue.push_back({n.m.task(task).sequence, task});
    } else if (what < 75) {
      if (!r.task) {
        u32 s = model.choose();
        u32 expected = s ? model.shapes[s].queue.front().task : NIL;
        u32 got = n.take(r.worker);
        expect(got == expected, "step %u: task %u was taken, not %u", step, got, expected);
        if (failures || !got) continue;
        ++taken;
        QueueModel::Demand& d = model.shapes[s];
        r = {r.worker, got, s, d.queue.front().sequence, false, {}};
        d.queue.pop_front();
        for (u32 k = 0; k < RESOURCE_KINDS; ++k) model.free[k] -= d.need[k];
        u64 mask = n.m.thread(r.worker.thread).gpu_mask;
        i64 share = std::min<i64>(d.need[GPU], UNIT);
        for (u32 g = 0; g < GPUS; ++g)
          if (mask >> g & 1) {
            r.gpus.push_back(g);
            expect(model.gpus[g] >= share, "step %u: GPU %u is given twice", step, g);
            model.gpus[g] -= share;
          }
        u32 wanted = d.need[GPU] >= i64(UNIT) ? u32(d.need[GPU] / UNIT) : d.need[GPU] > 0;
        expect(r.gpus.size() == wanted, "step %u: %zu GPUs, not %u", step, r.gpus.size(), wanted);
      } else {
        n.finish(r.worker);
        give_model(r);
        r.task = NIL;
      }
    } else if (what < 85) {
      if (!r.task || !model.shapes[r.shape].need[CPU]) continue;
      Transaction t(n.m, r.worker.thread);
      i64 cpu = model.shapes[r.shape].need[CPU];
      if (r.gave_back) worker::retake_cpu(t, r.worker.thread);
      else worker::give_back_cpu(t, r.worker.thread);
      t.commit();
      model.free[CPU] += r.gave_back ? -cpu : cpu;
      r.gave_back = !r.gave_back;
    } else if (what < 89) {
      n.c.bury(r.worker.pid, -9);
      ++died;
      if (r.task) {
        give_model(r);
        model.shapes[r.shape].queue.push_front({r.sequence, r.task});
      }
      r = {n.add_worker(), NIL, NIL, 0, false, {}};
    }
    for (u32 k = 0; k < RESOURCE_KINDS; ++k)
      expect(n.h.free[k] == model.free[k], "step %u: %lld of resource %u are free, not %lld", step,
             static_cast<long long>(n.h.free[k]), k, static_cast<long long>(model.free[k]));
    if (step % 64 == 0) n.look("queues");
  }
  printf("queues: %u steps, %u taken, %u workers died\n", steps, taken, died);
}

// --- holding back -------------------------------------------------------------------------------------

// `small` tasks come and go on four CPUs; how many of them are taken before the large one, at most `most`.
u32 taken_before_large(Node& n, u32 small, u32 large, u32 most) {
  std::vector<Worker> workers;
  for (u32 i = 0; i < 4; ++i) workers.push_back(n.add_worker());
  for (u32 i = 0; i < 8; ++i) n.submit(small);
  for (Worker& w : workers) n.take(w);
  u32 waiting = n.submit(large);
  u32 taken = 0, turn = 0, nothing = 0;
  while (taken < most && nothing < 16) {
    Worker& w = workers[turn++ % workers.size()];
    if (n.m.thread(w.thread).task) n.finish(w);
    while (n.m.shape(small).count < 8) n.submit(small);
    u32 got = n.take(w);
    if (got == waiting) {
      n.finish(w);
      break;
    }
    taken += got != NIL;
    nothing = got ? 0 : nothing + 1;
  }
  for (Worker& w : workers)
    if (n.m.thread(w.thread).task) n.finish(w);
  n.look("holding back");
  return taken;
}

void hold_back() {
  {
    Node n(4);
    u32 taken = taken_before_large(n, n.shape(UNIT), n.shape(4 * UNIT), 5000);
    expect(taken >= HOLD_BACK_AFTER && taken <= HOLD_BACK_AFTER + 16, "%u tasks passed the large one, not about %u",
           taken, HOLD_BACK_AFTER);
  }
  {
    Node n(4);
    u32 taken = taken_before_large(n, n.shape(UNIT), n.shape(5 * UNIT), 3000);
    expect(taken == 3000, "a demand that can't be met held others back after %u", taken);
  }
  {
    Node n(4, 1);
    Worker w = n.add_worker();
    u32 gpu = n.shape(0, UNIT);
    n.submit(gpu);
    n.take(w);
    u32 taken = taken_before_large(n, n.shape(UNIT), gpu, 3000);
    expect(taken == 3000, "a demand for a GPU held those without one back after %u", taken);
  }
  {
    // What the older one lacks is held for ever: the younger ones go on after a while.
    Node n(4, 2);
    Worker w = n.add_worker();
    u32 gpu = n.shape(0, UNIT);
    n.submit(gpu);
    n.take(w);
    u32 two = n.shape(0, 2 * UNIT);
    u32 taken = taken_before_large(n, gpu, two, 3000);
    expect(taken <= HOLD_BACK_AFTER + 16, "%u passed one that waits for two GPUs", taken);
    Worker other = n.add_worker();
    u64 began = now_ns();
    while (!n.take(other) && now_ns() - began < 2 * HOLD_BACK_NS) usleep(10'000);
    expect(n.m.thread(other.thread).task, "younger tasks are held back for ever");
    expect(now_ns() - began >= HOLD_BACK_NS / 2, "younger tasks were not held back for long");
  }
  printf("holding back: done\n");
}

// The longest transaction that an ordinary program can bring about: a task with every GPU ends, its result and
// arguments go, others waited for it, actors wait for its CPUs, and another with every GPU begins.
void longest_transaction() {
  Node n(64, GPUS_MAX);
  Client& c = n.c;
  u32 all_gpus = n.shape(64 * UNIT, i64(GPUS_MAX) * UNIT), one = n.shape(UNIT), whole = n.shape(64 * UNIT);
  std::vector<Worker> workers;
  for (u32 i = 0; i < 10; ++i) {
    workers.push_back(n.add_worker());
    n.c.create_actor(n.submission(whole), 0);
    n.take(workers.back());
    n.finish(workers.back());
  }
  std::vector<u8> bytes = bytes_of(1, 1000);
  Value big{bytes.data(), bytes.size(), NIL, FORMAT_TEST};
  u32 function = c.put(big, {});
  std::vector<u32> deps{c.put(big, {}), c.put(big, {}), c.put(big, {})};
  Submission s = n.submission(all_gpus, deps);
  s.function = function;
  s.payload = bytes.data();
  s.payload_bytes = bytes.size();
  std::vector<u32> out;
  c.submit(s, out);
  u32 result = out[0];
  for (u32 i = 0; i < 9; ++i) n.submit(one, std::span(&result, 1));
  n.submit(all_gpus);
  Worker w = n.add_worker();
  n.take(w);
  for (u32 o : deps) c.drop_local(o);
  c.drop_local(function);
  c.flush_drops();
  for (u32 i = 0; i < 9; ++i) {
    Worker waits = n.add_worker();
    wait::watch(n.m, waits.thread, result);
  }
  c.drop_local(result);
  c.flush_drops();
  // Every actor has a call and waits in line.
  for (u32 a = 1; a <= 10; ++a) {
    std::vector<u32> none;
    Submission call = n.submission(NIL);
    call.num_returns = 0;
    c.call(n.m.actor(a).object, call, none);
  }
  u32 longest = 0;
  {
    Transaction t(n.m, w.thread);
    object::seal(t, n.m.task(n.m.thread(w.thread).task).returns, big);
    worker::complete(t, w.thread);
    worker::take(t, w.thread);
    longest = t.undo_count();
    t.commit();
  }
  c.drain();
  n.look("the longest transaction");
  printf("the longest transaction: %u records of %u\n", longest, UNDO_MAX);
  expect(longest > 250, "the longest transaction has only %u records: it is not what it was meant to be", longest);
  expect(longest <= UNDO_MAX * 9 / 10, "a transaction has %u records of %u", longest, UNDO_MAX);
}

// The table of demands is full: those that nobody has make room, and are made anew when they are wanted again.
void demands() {
  Node n(4, 0, 1000);
  Worker w = n.add_worker();
  std::vector<u32> shapes, tasks;
  for (u32 i = 0; i < 3 * SHAPES_MAX; ++i) {
    shapes.push_back(n.shape(UNIT, 0, i));
    tasks.push_back(n.submit(shapes.back()));
    expect(n.take(w) == tasks.back(), "task %u of a demand of its own is not taken", i);
    n.finish(w);
  }
  for (u32 i : {5, 300, 700, 5}) {
    u32 task = n.submit(shapes[i]);
    expect(n.m.shape(n.m.task(task).shape).need[CUSTOM] == i, "demand %u is another's by now", i);
    n.take(w);
    n.finish(w);
  }
  // All in use: by tasks in the queue, and by one actor.
  u32 actor = n.c.create_actor(n.submission(n.shape(0, 0, 1)), 0);
  n.take(w);
  n.finish(w);
  for (u32 i = 1; i < SHAPES_MAX - 1; ++i) n.submit(n.shape(UNIT, 0, 2 * i));
  bool full = false;
  try {
    n.shape(UNIT, 0, 3);
  } catch (const TableFull&) {
    full = true;
  }
  expect(full, "a demand in use was given away");
  n.look("after many demands");
  n.c.drop_local(actor);
}

// Tasks that wait for one value run in the order in which they were made.
void dependents() {
  Node n(1);
  Worker w = n.add_worker();
  u32 value = n.c.reserve(), shape = n.shape(UNIT);
  std::vector<u32> made;
  for (u32 i = 0; i < 40; ++i) made.push_back(n.submit(shape, std::span(&value, 1)));
  expect(n.take(w) == NIL, "a task runs before its argument has a value");
  n.c.seal(value, Value{nullptr, 0, NIL, FORMAT_TEST}, {});
  for (u32 i = 0; i < made.size(); ++i) {
    expect(n.take(w) == made[i], "dependent task %u does not run in its turn", i);
    n.finish(w);
  }
  n.look("after dependent tasks");
}

int run(const char*) {
  Random random(run_seed("order"));
  u32 rounds = short_form() ? 4 : 40;
  u32 steps = short_form() ? 2500 : 8000;
  for (u32 i = 0; i < rounds && !failures; ++i) queues(random, steps);
  hold_back();
  longest_transaction();
  dependents();
  demands();
  return result("order");
}

const Test test{"order", run};

}  // namespace
}  // namespace ray::testing::order_test
