// One arena in which situations are made, a process dies, and everything is put right and counted again.
//
// A round: `prepare` in the parent, `ready` and then `act` in the child that will be killed.  Afterwards all
// invariants must hold, every task must end with its right result, and when all references are dropped the
// tables must be as empty as they were before.
#pragma once

#include "promises.hpp"

#include <map>
#include <set>

namespace ray::testing {

inline constexpr u32 ARENA_CPUS = 4, ARENA_GPUS = 2, ARENA_CUSTOM = 1;
inline constexpr u32 HELPERS_MAX = 24, WORKERS_MAX = 32;

struct Options {
  std::vector<u32> deps, nested;
  u32 returns = 1;
  u32 shape = 0;  // index into Stage::shapes
  u32 retries = 3;
  u32 payload = sizeof(Order);
  bool may_fail = false;
  bool block = false;
};

class Stage {
 public:
  explicit Stage(Board& shared, u64 seed) : board(shared), random(seed), c(make_arena()), m(c.m()), h(c.header()) {
    u8 root[ID_BYTES] = {'p', 'a', 'r', 'e', 'n', 't'};
    memcpy(root + 8, &seed, 8);
    c.enter(ProcessKind::driver, root);
    board.clear();
    function = put(2);
    resources::Needs needs[] = {{UNIT, 0, 0},        {0, 0, 0},       {UNIT, UNIT / 2, 0},
                                {UNIT, 2 * UNIT, 0}, {UNIT, 0, UNIT}, {4 * UNIT, 0, 0}};
    for (auto& need : needs) shapes.push_back(c.shape(need));
    held.clear();
    make_ballast();
    baseline = counts();
  }

  // --- made by the parent ---------------------------------------------------------------------------

  u32 put(u64 size, std::vector<u32> nested = {}) {
    std::vector<u8> bytes = bytes_of(1, size);
    Value v{bytes.data(), size, NIL, FORMAT_TEST};
    if (size > COPY_BYTES) v.block = block_with(c, bytes);
    u32 o = c.put(v, nested);
    held.push_back(o);
    return o;
  }

  // Pending until the end of the round.
  u32 pending() {
    u32 o = c.reserve();
    held.push_back(o);
    reserved.push_back(o);
    return o;
  }

  // Works in the parent and in a child alike: the caller's tag and objects are its own.
  std::vector<u32> submit(Order order, const Options& options = {}) {
    std::vector<u32> out;
    std::vector<u8> payload;
    Submission s = submission(order, options, payload);
    c.submit(s, out);
    board.returned[order.tag] = 1;
    return out;
  }

  // A task whose result the parent holds and will look at.
  u32 task(Act act = Act::value, u32 number = 0, const Options& options = {}, u32 size = 4) {
    Order order{act, new_tag(), number, size};
    std::vector<u32> out = submit(order, options);
    // Several results, and failures, are sealed before the task is done.
    bool final = act != Act::fail && act != Act::many && out.size() == 1;
    for (u32 i = 0; i < out.size(); ++i) promise(out[i], order, i, options.may_fail, final);
    return out.empty() ? NIL : out[0];
  }

  u32 actor(u32 interval, Act act = Act::actor_new, u32 gate = 0, const Options& options = {}) {
    Order order{act, new_tag(), gate, 4};
    std::vector<u8> payload;
    Submission s = submission(order, options, payload);
    u32 o = c.create_actor(s, interval);
    board.returned[order.tag] = 1;
    return o;
  }

  // Adds 1; the n-th call from the parent must give n, unless it may fail.
  u32 call(u32 a, Act act = Act::actor_add, const Options& options = {}, u32 gate = 0) {
    Order order{act, new_tag(), 1, gate};
    std::vector<u32> out = call_with(a, order, options);
    u64 sum = ++calls[a];
    for (u32 o : out) {
      held.push_back(o);
      promises.push_back({o, order.tag, 8, Right::sum, options.deps.empty() || !options.may_fail ? sum : 0,
                          options.may_fail || actors_may_die, false});
    }
    return out.empty() ? NIL : out[0];
  }
  std::vector<u32> call_with(u32 a, Order order, const Options& options = {}) {
    std::vector<u8> payload;
    std::vector<u32> out;
    Submission s = submission(order, options, payload);
    c.call(a, s, out);
    board.returned[order.tag] = 1;
    return out;
  }

  // --- made by the child ----------------------------------------------------------------------------

  // A reference of this process's own to an object whose index it knows from its parent.
  u32 take(u32 o) {
    u8 id[ID_BYTES];
    memcpy(id, m.object(o).id, ID_BYTES);
    return c.resolve(id, 0);
  }
  void tell_id(u32 slot, u32 o) { memcpy(board.id[slot], m.object(o).id, ID_BYTES); }
  u32 hear_id(u32 slot) {
    u32 o = c.resolve(board.id[slot], 0);
    if (o) held.push_back(o);
    return o;
  }
  u32 new_tag() { return next_tag_ += 64; }

  // --- other processes ------------------------------------------------------------------------------

  pid_t start_worker() {
    return helper([this] {
      c.enter(ProcessKind::worker, nullptr);
      serve(c, board);
    });
  }
  void workers(u32 count) {
    u32 before = idle();
    for (u32 i = 0; i < count; ++i) start_worker();
    board.until([&] { return idle() >= before + count; });
  }
  u32 idle() { return std::atomic_ref(h.idle_count).load(); }

  template <typename Work>
  pid_t helper(Work work) {
    pid_t pid = start(work);
    helpers.insert(pid);
    return pid;
  }
  void at_gate(u32 gate, u32 count = 1) {
    board.until([&] { return board.at_gate[gate].load() >= count; });
  }
  void open(u32 gate) {
    board.gates[gate] = 1;
    board.tell();
  }

  // Many threads that have waited for an object.
  pid_t watchers(u32 o, u32 count) {
    pid_t pid = helper([=, this] {
      c.enter(ProcessKind::driver, nullptr);
      take(o);
      for (u32 i = 0; i < count; ++i) {
        u32 th;
        {
          Transaction t(m, NIL);
          th = process::add_thread(t, c.process(), false);
          t.commit();
        }
        wait::watch(m, th, o);
      }
      board.at(90);
      for (;;) pause();
    });
    board.until([&] { return board.stage.load() == 90; });
    board.stage = 0;
    doomed.insert(pid);
    return pid;
  }

  void kill_helper(pid_t pid) {
    kill_and_reap(pid);
    helpers.erase(pid);
    doomed.erase(pid);
    deaths += 1;
  }
  void kill_and_bury(pid_t pid) {
    kill_helper(pid);
    c.bury(u32(pid), -SIGKILL);
  }

  // Whoever has ended by itself.
  void reap() {
    for (;;) {
      int status = 0;
      pid_t pid = waitpid(-1, &status, WNOHANG);
      if (pid <= 0) return;
      if (!helpers.erase(pid)) continue;
      if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        board.complain("helper %d ended with status %#x", pid, status);
      c.bury(u32(pid), WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
    }
  }

  // --- the end of a round ---------------------------------------------------------------------------

  void look(const char* when) {
    for (const std::string& problem : check(m)) board.complain("%s: %s", when, problem.c_str());
    if (watched && m.object(watched).state == OBJECT_PENDING && m.object(watched).watcher != c.thread())
      board.complain("%s: who waits for an object is forgotten", when);
  }

  void settle() {
    for (Promise& p : promises)
      if (c.ready(p.object)) p.runs_when_ready = board.runs[p.tag];
    h.max_workers = WORKERS_MAX;
    for (pid_t pid : helpers) kill(pid, SIGCONT);
    for (u32 g = 1; g < GATES; ++g) open(g);
    while (!doomed.empty()) kill_and_bury(*doomed.begin());
    for (u32 o : reserved) {
      std::vector<u8> bytes = bytes_of(1, 4);
      c.seal(o, Value{bytes.data(), 4, NIL, FORMAT_TEST}, {});
    }
    while (!quiet()) {
      c.resume();
      if (h.ready_count && !idle() && helpers.size() < HELPERS_MAX) start_worker();
      u32 seen = board.changes.load();
      futex_wait(board.changes, seen, 200'000);
      reap();
    }
    look("when all was done");
    for (const Promise& p : promises) verify(p, c, board, deaths, tasks_may_fail);
    for (u32 tag = 1; tag <= next_tag_ + 128 && tag < TAGS; ++tag)
      if (board.returned[tag] && !board.runs[tag] && !actors_may_die && !tasks_may_fail)
        board.complain("task %u was made and never ran", tag);
    finish();
  }

  // Drops everything, sends the workers home and compares the tables with those of the beginning.
  void finish() {
    for (u32 o : held) c.drop_local(o);
    held.clear();
    c.flush_drops();
    while (!helpers.empty()) {
      c.retire(HELPERS_MAX);
      u32 seen = board.changes.load();
      futex_wait(board.changes, seen, 100'000);
      reap();
    }
    c.drain();
    look("when all was dropped");
    look_at_journal();
    auto now = counts();
    for (auto& [name, value] : now)
      if (value != baseline[name])
        board.complain("%s: %lld at the end, %lld at the beginning", name.c_str(), static_cast<long long>(value),
                       static_cast<long long>(baseline[name]));
    promises.clear();
    reserved.clear();
    calls.clear();
    deaths = 0;
    actors_may_die = tasks_may_fail = false;
    next_tag_ = 0;
    board.clear();
  }

  // Entries are whole: the tests write notes of 30 bytes or of a value, and failures.
  void look_at_journal() {
    for (u64 s = std::max<u64>(journal_seen_ + 1, journal::first_after(h, 0)); s <= h.journal_last; ++s) {
      const JournalEntry& e = m.journal_entry(s);
      bool note = JournalKind(e.kind) == JournalKind::note;
      if (!e.object && e.size_bytes != (note ? 30 : sizeof(task::SystemData)))
        board.complain("journal entry %llu has %u bytes", static_cast<unsigned long long>(s), e.size_bytes);
    }
    journal_seen_ = h.journal_last;
  }

  std::map<std::string, i64> counts() {
    std::map<std::string, i64> now;
    for (auto& [name, value] : statistics(m)) now[name] = value;
    for (const char* name : {"tasks_done", "recoveries", "journal_last", "heap_touched_bytes", "heap_blocks",
                             "spill_file_capacity_bytes", "spilled_bytes", "restored_bytes", "jobs_ended"})
      now.erase(name);
    now["ready_tasks"] = h.ready_count;
    std::set<u32> kept;
    u64 first = h.journal_last > journal::WINDOW ? h.journal_last - journal::WINDOW : 1;
    for (u64 s = first; s <= h.journal_last; ++s)
      if (u32 o = m.journal_entry(s).object) kept.insert(o);
    for (u32 o : kept) {
      now["objects"] -= 1;
      if (u32 b = m.object(o).block) now["heap_used_bytes"] -= i64(m.block(b).size) * GRANULE_BYTES;
    }
    return now;
  }

  Board& board;
  Random random;
  Client c;
  Mapping& m;
  Header& h;
  u32 function = NIL;
  std::vector<u32> shapes;
  std::vector<u32> held, reserved;
  std::vector<Promise> promises;
  std::map<u32, u64> calls;
  std::set<pid_t> helpers, doomed;
  u32 deaths = 0;
  bool actors_may_die = false, tasks_may_fail = false;
  // for a situation's own use, from `prepare` to `act`
  u32 x = NIL, y = NIL;
  pid_t victim = 0;
  u32 watched = NIL;  // an object that the parent waits for
  std::vector<u32> list;
  Assignment assignment;
  Outcome outcome;
  ActorMemory memory;
  std::vector<std::vector<u8>> bytes;

 private:
  static Mapping* make_arena() {
    ArenaOptions options;
    options.heap_bytes = 8 << 20;
    options.resources[CPU] = ARENA_CPUS * UNIT;
    options.resources[GPU] = ARENA_GPUS * UNIT;
    options.resources[CUSTOM] = ARENA_CUSTOM * UNIT;
    options.max_workers = WORKERS_MAX;
    return Mapping::create(options);
  }

  // Holes in the heap and in the tables, different with each seed.
  void make_ballast() {
    std::vector<u32> all;
    for (u32 i = 0, n = random.below(24); i < n; ++i) all.push_back(put(1 + random.below(9000)));
    held.clear();
    for (u32 o : all)
      if (random.below(3)) c.drop_local(o);
    c.flush_drops();
  }

  Submission submission(const Order& order, const Options& options, std::vector<u8>& payload) {
    payload = bytes_of(order.tag, std::max<u32>(options.payload, sizeof order));
    memcpy(payload.data(), &order, sizeof order);
    Submission s;
    s.function = function;
    s.payload = payload.data();
    s.payload_bytes = payload.size();
    if (options.block) s.block = block_with(c, payload);
    s.deps = options.deps;
    s.nested = options.nested;
    s.num_returns = options.returns;
    s.shape = shapes[options.shape];
    s.max_retries = options.retries;
    return s;
  }

  void promise(u32 o, const Order& order, u32 index, bool may_fail, bool final) {
    held.push_back(o);
    Right right = order.act == Act::fail ? Right::failure : Right::value;
    promises.push_back({o, order.tag, order.size, right, index, may_fail, final});
  }

  // Nothing is left to run.
  bool quiet() {
    if (h.object_work || h.task_work_head || h.actor_work) c.drain();
    Transaction t(m, c.thread());
    bool yes = !h.ready_count && !h.running_count && !h.object_work && !h.task_work_head && !h.actor_work;
    for (u32 i = 1; yes && i <= h.tasks.high_water; ++i) {
      u32 state = m.task(i).state;
      yes = state == TASK_FREE || state == TASK_HELD || is_free(i);
    }
    t.commit();
    return yes;
  }
  bool is_free(u32 task) {
    for (u32 i = h.tasks.free_head; i; i = m.task(i).free_next)
      if (i == task) return true;
    return false;
  }

  std::map<std::string, i64> baseline;
  u32 next_tag_ = 0;
  u64 journal_seen_ = 0;
};

}  // namespace ray::testing
