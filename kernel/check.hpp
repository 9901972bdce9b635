// Every invariant of the tables, looked at from outside: what the crash tests ask after each death.
//
// Holds the mutex for the whole look, which is long: for tests and for people, not for the hot path.
#pragma once

#include "away.hpp"

#include <map>
#include <set>
#include <string>
#include <vector>

namespace ray {

class Checker {
 public:
  explicit Checker(Mapping& mapping) : m(mapping), h(mapping.header()) {}

  std::vector<std::string> run() {
    counts_.assign(h.objects.high_water + 1, 0);
    places_.assign(h.tasks.high_water + 1, 0);
    logs();
    pools();
    heap_blocks();
    processes_and_threads();
    task_records();
    queues();
    actor_records();
    journal_entries();
    object_records();
    loan_records();
    news_list();
    work_lists();
    waiting_actors();
    places_of_tasks();
    resources_held();
    nobody_sleeps_in_vain();
    return problems_;
  }

 private:
  template <typename... Parts>
  void expect(bool truth, const Parts&... parts) {
    if (truth || problems_.size() > 40) return;
    std::string text;
    auto add = [&](const auto& part) {
      if constexpr (std::is_arithmetic_v<std::decay_t<decltype(part)>>) text += std::to_string(part);
      else text += part;
    };
    (add(parts), ...);
    problems_.push_back(text);
  }

  void logs() {
    for (u32 i = 0; i <= h.threads.high_water; ++i) {
      const Thread& t = m.thread(i);
      expect(t.undo_count == 0 && t.publish_count == 0 && !t.committed, "log of thread ", i, " is not empty");
    }
  }

  template <typename Record>
  void pool(const Table<Record>& table, std::vector<bool>& is_free) {
    is_free.assign(table.pool.high_water + 1, false);
    u32 n = 0;
    Table<Record> t = table;
    for (u32 i = table.pool.free_head; i; i = t[i].free_next) {
      if (i > table.pool.high_water || is_free[i]) {
        expect(false, "free list of ", table.name, " is broken at ", i);
        break;
      }
      is_free[i] = true;
      ++n;
    }
    expect(n + table.pool.used == table.pool.high_water, table.name, ": ", n, " free + ", table.pool.used,
           " used is not ", table.pool.high_water);
  }

  void pools() {
    pool(objects(m), free_objects_);
    pool(tasks(m), free_tasks_);
    pool(edges(m), free_edges_);
    pool(holds(m), free_holds_);
    pool(loans(m), free_loans_);
    pool(watches(m), free_watches_);
    pool(blocks(m), free_blocks_);
    pool(actors(m), free_actors_);
    pool(lanes(m), free_lanes_);
    pool(processes(m), free_processes_);
    pool(threads(m), free_threads_);
  }

  void heap_blocks() {
    for (u32 table : {HEAP, SPILL_FILE}) blocks_of(table, h.heaps[table]);
  }

  void blocks_of(u32 table, const HeapTable& heap) {
    u32 at = 0, used = 0, before = NIL;
    bool was_free = false;
    std::map<u32, u32> free_by_class;
    for (u32 b = heap.first; b; b = m.block(b).after) {
      const Block& block = m.block(b);
      if (free_blocks_[b]) {
        expect(false, "block ", b, " lies in the heap but its descriptor is free");
        return;
      }
      expect(block.table == table, "block ", b, " is of another table");
      expect(block.offset == at, "block ", b, " begins at ", block.offset, ", not ", at);
      expect(block.before == before, "block ", b, " has the wrong neighbour before it");
      expect(block.size > 0, "block ", b, " is empty");
      expect(table == HEAP || block.written <= block.size, "block ", b, " is said to be written beyond its end");
      bool free = block.state == BLOCK_FREE;
      expect(!(free && was_free), "block ", b, " and the one before it are both free");
      if (free) free_by_class[heap::class_of(block.size).index()] += 1;
      else used += block.size;
      block_uses_[b] = 0;
      at += block.size;
      before = b;
      was_free = free;
      if (block.size == 0) break;
    }
    expect(at == heap.capacity, "blocks end at ", at, ", the heap at ", heap.capacity);
    expect(used == heap.used, "blocks in use sum to ", used, ", not ", heap.used);
    for (u32 c = 0; c < HEAP_CLASSES * HEAP_SUBCLASSES; ++c) {
      u32 n = 0, previous = NIL;
      for (u32 b = heap.heads[c]; b && n <= h.blocks.high_water; b = m.block(b).next) {
        expect(m.block(b).state == BLOCK_FREE && m.block(b).previous == previous, "block ", b,
               " is in a free list and not free, or not well linked");
        previous = b;
        ++n;
      }
      expect(n == free_by_class[c], "free list ", c, " has ", n, " blocks, not ", free_by_class[c]);
      bool bit = heap.subclass_bits[c / HEAP_SUBCLASSES] >> (c % HEAP_SUBCLASSES) & 1;
      expect(bit == (n > 0), "bit of free list ", c, " is wrong");
    }
    for (u32 c = 0; c < HEAP_CLASSES; ++c)
      expect((heap.class_bits >> c & 1) == (heap.subclass_bits[c] != 0), "bit of free lists ", c, " is wrong");
  }

  void use_block(u32 b, const char* who, u32 i, u32 table) {
    if (!b) return;
    expect(m.block(b).table == table, who, " ", i, " has block ", b, " of another table");
    expect(m.block(b).state == BLOCK_USED, who, " ", i, " has block ", b, ", which is not in use");
    expect(++block_uses_[b] == 1, "block ", b, " has two users");
  }

  void processes_and_threads() {
    std::vector<bool> held(h.holds.high_water + 1, false);
    u32 workers = 0, peers = 0;
    for (u32 i = 1; i <= h.processes.high_water; ++i) {
      if (free_processes_[i]) continue;
      Process& p = m.process(i);
      expect(p.state != PROCESS_FREE, "process ", i, " is in use and says it is free");
      workers += ProcessKind(p.kind) == ProcessKind::worker;
      peers += ProcessKind(p.kind) == ProcessKind::peer;
      if (!process::is_local(p))
        expect(!p.holds && !p.blocks && !p.threads, "process ", i, " is none, and holds things");
      if (p.home) expect(is_peer(p.home), "guest ", i, " is of no node");
      if (p.report) counts_[p.report] += 1;
      expect(p.stop || !p.report, "process ", i, " has a report of a stop that was none");
      u32 before = NIL, n = 0;
      for (u32 ref = p.holds; ref; ref = object::hold_at(m, ref).next) {
        Hold& hold = object::hold_at(m, ref);
        expect(hold.process == i && hold.previous == before, "hold list of process ", i, " is broken");
        u32 o = object::held_object(m, ref);
        expect(!free_objects_[o], "process ", i, " holds object ", o, ", which is free");
        counts_[o] += 1;
        if (hold.pins) pins_[o] += 1;
        if (!(ref & HOLD_IN_OBJECT)) held[ref] = true;
        else ++held_within_;
        before = ref;
        if (++n > OBJECTS_MAX) break;
      }
      before = NIL;
      for (u32 b = p.blocks; b; b = m.block(b).next) {
        expect(m.block(b).state == BLOCK_HELD && m.block(b).process == i && m.block(b).previous == before,
               "ledger of process ", i, " is broken at block ", b);
        expect(++block_uses_[b] == 1, "block ", b, " has two users");
        before = b;
      }
      for (u32 t = p.threads; t; t = m.thread(t).next) {
        expect(m.thread(t).process == i && !free_threads_[t], "thread ", t, " is not of process ", i);
        if (++owned_threads_ > h.threads.high_water) break;
        lanes_of(t, m.thread(t).lanes);
        for (u32 d = 0; d < m.thread(t).depth; ++d) lanes_of(t, m.thread(t).lanes_below[d]);
      }
    }
    expect(peers == h.peers, peers, " processes are peers, not ", h.peers);
    expect(workers == h.worker_count, workers, " processes are workers, not ", h.worker_count);
    expect(owned_threads_ == h.threads.used, owned_threads_, " threads have a process, not ", h.threads.used);
    for (u32 i = 1; i <= h.holds.high_water; ++i)
      expect(held[i] != free_holds_[i], "hold ", i, " is in use and in no list, or the other way round");
    u32 n = 0, before = NIL;
    for (u32 t = h.idle_head; t; t = m.thread(t).idle_next) {
      expect(m.thread(t).idle && m.thread(t).idle_previous == before, "idle list is broken at ", t);
      expect(!m.thread(t).task && !m.thread(t).shape, "idle thread ", t, " runs or holds something");
      before = t;
      if (++n > h.threads.high_water) break;
    }
    expect(n == h.idle_count, n, " threads are idle, not ", h.idle_count);
  }

  void lanes_of(u32 thread, u32 first) {
    u32 previous = NIL;
    for (u32 l = first; l; l = m.lane(l).thread_next) {
      expect(m.lane(l).thread == thread && m.lane(l).thread_previous == previous, "lanes of thread ", thread,
             " are broken");
      if (++owned_lanes_ > h.lanes.high_water) break;
      previous = l;
    }
  }

  void edge_list(u32 e, u32 task, const char* who, u32 i) {
    for (u32 n = 0; e; e = m.edge(e).next) {
      if (free_edges_[e] || ++n > EDGES_MAX) {
        expect(false, who, " ", i, " has a broken list of edges");
        return;
      }
      expect(m.edge(e).task == task, "edge ", e, " names the wrong task");
      counts_[m.edge(e).object] += 1;
      used_edges_ += 1;
    }
  }

  void task_records() {
    u32 running = 0;
    for (u32 i = 1; i <= h.tasks.high_water; ++i) {
      Task& t = m.task(i);
      if (free_tasks_[i]) continue;
      expect(t.state != TASK_FREE, "task ", i, " is in use and says it is free");
      edge_list(t.deps, i, "task", i);
      edge_list(t.nested, i, "task", i);
      u32 pending = t.state == TASK_BUILDING ? 1 : 0;
      for (u32 e = t.deps; e; e = m.edge(e).next) pending += waits_for(e) ? 1 : 0;
      for (u32 e = t.nested; e && t.flags & RECEIVED; e = m.edge(e).next) pending += waits_for(e) ? 1 : 0;
      expect(pending == t.pending, "task ", i, " says ", t.pending, " pending, counted ", pending);
      if (t.function) counts_[t.function] += 1;
      if (t.flags & STOPPED && t.report) counts_[t.report] += 1;
      for (u32 o = t.returns; o; o = m.object(o).next_return) {
        counts_[o] += 1;
        if (m.object(o).state == OBJECT_PENDING) {
          expect(m.object(o).task == i, "object ", o, " is a return of task ", i, " and names another");
          promised_ += 1;
          expect(!(m.object(o).origin & STORED), "object ", o, " is stored elsewhere, and still to be made");
        }
      }
      if (t.flags & COUNTS_ACTOR) counts_[m.actor(t.actor).object] += 1;
      use_block(t.block, "task", i, HEAP);
      if (t.state == TASK_RUNNING) {
        ++running;
        expect(t.thread && runs_on(m.thread(t.thread), i), "task ", i, " runs on no thread");
      }
      expect(!t.shape || m.shape(t.shape).used, "task ", i, " has a demand that is forgotten");
      if (t.flags & TAKEN_BACK)
        expect(t.state == TASK_FAILING || t.state == TASK_DROPPING, "task ", i, " was taken back, and is not gone");
      bool waits = t.state == TASK_WAITING && t.pending && TaskKind(t.kind) != TaskKind::actor_call;
      bool kept = t.state == TASK_HELD && TaskKind(t.kind) == TaskKind::actor_create;
      if (t.state == TASK_AWAY) {
        expect(!t.pending && is_peer(t.peer), "task ", i, " is away nowhere");
        expect(t.returns || t.stored || t.flags & LOGGED, "task ", i, " is away for nothing");
        promised_ += t.stored;
        stored_[i] = t.stored;
        if (!away::is_call(t) || (!t.lane && !(t.flags & LOGGED))) places_[i] += 1;
        else expect(t.returns || !t.lane, "call ", i, " is done, and in its lane");
      }
      if (t.flags & LOGGED) expect(t.state == TASK_AWAY && !t.lane, "call ", i, " is logged and not done");
      if (t.flags & REPLAYED) expect(t.flags & LOGGED && t.returns, "call ", i, " runs again, and is not logged");
      if (waits || kept || (t.state == TASK_DROPPING && t.pending)) places_[i] += 1;
    }
    expect(running == h.running_count, running, " tasks run, not ", h.running_count);
  }

  // An edge counts as pending while it hangs in the list of the object it waits for.
  bool waits_for(u32 e) {
    bool found = false;
    for_each_waiting(m.object(m.edge(e).object), [&](u32 w) { found |= w == e; });
    return found;
  }

  template <typename Look>
  void for_each_waiting(const Object& o, Look look) {
    u32 e = o.waiting;
    for (u32 n = 0; e && n <= h.edges.high_water; ++n) {
      e = m.edge(e).waiting_next;
      look(e);
      if (e == o.waiting) return;
    }
    expect(!e, "the ring of edges that wait for an object is broken");
  }

  void queues() {
    u32 ready = 0;
    for (u32 s = 1; s < SHAPES_MAX; ++s) {
      const Shape& shape = m.shape(s);
      u32 n = 0, last = NIL, creations = 0, stays = 0;
      for (u32 i = shape.head; i && n <= h.tasks.high_water; i = m.task(i).next) {
        expect(m.task(i).state == TASK_READY && m.task(i).pending == 0 && m.task(i).shape == s, "task ", i,
               " is queued and not ready");
        place(i);
        expect(m.task(i).previous == last, "task ", i, " is queued behind the wrong one");
        bool creates = TaskKind(m.task(i).kind) == TaskKind::actor_create;
        creations += creates;
        stays += bool(m.task(i).flags & STAYS);
        last = i;
        ++n;
      }
      expect(creations == shape.creations, "shape ", s, " counts ", shape.creations, " creations, not ", creations);
      expect(stays == shape.stays, "shape ", s, " counts ", shape.stays, " tasks that stay, not ", stays);
      expect(n == shape.count && last == shape.tail, "queue of shape ", s, " is broken");
      expect(bool(h.shapes_ready[s / 64] >> (s % 64) & 1) == (n > 0), "bit of shape ", s, " is wrong");
      ready += n;
    }
    expect(ready == h.ready_count, ready, " tasks are ready, not ", h.ready_count);
    u32 n = 0, last = NIL;
    for (u32 i = h.task_work_head; i; i = m.task(i).next) {
      last = i;
      place(i);
      if (++n > h.tasks.high_water) break;
      u32 state = m.task(i).state;
      expect(state == TASK_FAILING || state == TASK_DROPPING || state == TASK_HELD, "task ", i,
             " is on the work list in state ", state);
    }
    expect(last == h.task_work_tail, "the work list of tasks is broken");
    resting();
  }

  void resting() {
    u32 n = 0, last = NIL;
    for (u32 i = h.resting_head; i && n <= h.tasks.high_water; i = m.task(i).next) {
      expect(m.task(i).state == TASK_RESTING && m.task(i).pending == 0, "task ", i, " rests in state ",
             m.task(i).state);
      place(i);
      last = i;
      ++n;
    }
    expect(n == h.resting_count && last == h.resting_tail, "the list of ", h.resting_count, " resting tasks is broken");
  }

  void actor_records() {
    for (u32 a = 1; a <= h.actors.high_water; ++a) {
      Actor& actor = m.actor(a);
      if (free_actors_[a]) {
        expect(actor.state == ACTOR_FREE, "actor ", a, " is free, and in use");
        continue;
      }
      expect(actor.state != ACTOR_FREE, "actor ", a, " is in use and says it is free");
      if (actor.thread) expect(m.thread(actor.thread).actor == a, "actor ", a, " has a thread that does not serve it");
      expect(m.object(actor.object).state == OBJECT_ACTOR && m.object(actor.object).actor == a, "actor ", a,
             " has an object that is not its own");
      creation(a, actor);
      if (actor.checkpoint) counts_[actor.checkpoint] += 1;
      if (actor.failure) counts_[actor.failure] += 1;
      if (actor.cls) counts_[actor.cls] += 1;
      if (actor.state == ACTOR_AWAY) {
        expect(is_peer(actor.peer) && !actor.thread, "actor ", a, " is served nowhere, or twice");
        if (actor.failure_code) counts_[actor.object] += 1;
      }
      u32 ready = 0, previous = NIL, marked = 0;
      for (u32 l = actor.lanes; l; l = m.lane(l).actor_next) {
        Lane& lane = m.lane(l);
        expect(lane.actor == a && lane.actor_previous == previous, "lanes of actor ", a, " are broken");
        if (free_lanes_[l] || ++used_lanes_ > h.lanes.high_water) break;
        previous = l;
        u32 last = NIL, sent = NIL, away = 0;
        for (u32 i = lane.head; i; i = m.task(i).next) {
          const Task& call = m.task(i);
          bool is_away = call.state == TASK_AWAY && call.peer == actor.peer && sent == last;
          expect((call.state == TASK_WAITING || is_away) && call.lane == l, "call ", i, " is in the wrong lane");
          expect(!last || call.previous == last, "call ", i, " is behind the wrong one");
          expect(is_away || !call.turn, "call ", i, " has its turn, and waits");
          if (!place(i)) break;
          last = i;
          if (is_away) sent = i, ++away;
        }
        expect(last == lane.tail, "lane ", l, " has the wrong end");
        expect(sent == lane.sent && away == lane.away, "lane ", l, " says ", lane.away, " are away, counted ", away);
        if (lane.ready) ++marked;
        if (actor.state != ACTOR_DEAD)
          expect(bool(lane.ready) == mailbox::has_turn(m, lane), "lane ", l,
                 " is ready and should not be, or the other way round");
        if (!lane.thread) expect(lane.head || actor.working, "lane ", l, " has neither caller nor calls");
        if (lane.thread) ++called_lanes_;
      }
      calls(actor.replay_head, actor.replay_tail, a, "to run again");
      u32 done = calls(actor.done_head, actor.done_tail, a, "done"), again = 0;
      for (u32 i = actor.done_head, n = 0; i && n < done; i = m.task(i).next, ++n)
        again += bool(m.task(i).flags & REPLAYED);
      expect(again == actor.replaying, "actor ", a, " has ", again, " calls that run again, not ", actor.replaying);
      expect(done == actor.done_count, "actor ", a, " has ", done, " calls done, not ", actor.done_count);
      if (actor.state == ACTOR_DEAD) continue;
      u32 end = NIL;
      for (u32 l = actor.ready_head; l && ready <= h.lanes.high_water; l = m.lane(l).ready_next) {
        expect(m.lane(l).ready && m.lane(l).actor == a, "lane ", l, " is in the wrong ready list");
        end = l;
        ++ready;
      }
      expect(ready == marked && end == actor.ready_tail, "actor ", a, " has ", ready, " lanes in its ready list, ",
             marked, " marked so");
      if (actor.state == ACTOR_ALIVE) expect(actor.thread, "actor ", a, " lives on no thread");
    }
    expect(used_lanes_ == h.lanes.used, used_lanes_, " lanes belong to actors, not ", h.lanes.used);
    expect(called_lanes_ == owned_lanes_, owned_lanes_, " lanes are in their callers' lists, not ", called_lanes_);
  }

  void creation(u32 a, const Actor& actor) {
    u32 i = actor.creation;
    if (!i) {
      expect(actor.state != ACTOR_CREATING, "actor ", a, " is to be created by no task");
      return;
    }
    const Task& t = m.task(i);
    expect(!free_tasks_[i] && TaskKind(t.kind) == TaskKind::actor_create && t.actor == a, "actor ", a,
           " is created by task ", i, ", which does not");
    if (actor.state == ACTOR_ALIVE)
      expect(actor.interval && t.state == TASK_HELD, "actor ", a, " lives, and keeps its creation");
  }

  // Calls linked by an actor; how many.
  u32 calls(u32 head, u32 tail, u32 a, const char* what) {
    u32 last = NIL, n = 0;
    for (u32 i = head; i && place(i); i = m.task(i).next) {
      const Task& t = m.task(i);
      bool logged = t.flags & LOGGED && t.peer == m.actor(a).peer;
      expect((t.state == TASK_HELD || t.state == TASK_WAITING || logged) && t.actor == a, "call ", i,
             " is in the list of those ", what);
      if (logged && last && m.task(last).flags & LOGGED)
        expect(mailbox::is_before(m.task(last).turn, t.turn), "call ", i, " is logged behind a later one");
      last = i;
      ++n;
    }
    expect(last == tail, "the list of calls ", what, " of actor ", a, " has the wrong end");
    return n;
  }

  // Counts where a task is linked; false in a circle.
  bool place(u32 i) {
    expect(!free_tasks_[i], "task ", i, " is linked and free");
    return ++places_[i] <= 2;
  }

  // Every task is in exactly one place: a queue, a lane, a list of its actor, the work list, a thread's hands, or
  // where the objects it waits for will find it.
  void places_of_tasks() {
    for (u32 i = 1; i <= h.threads.high_water; ++i) {
      if (free_threads_[i]) continue;
      const Thread& t = m.thread(i);
      if (t.task) {
        expect(m.task(t.task).state == TASK_RUNNING && m.task(t.task).thread == i, "thread ", i, " runs task ", t.task,
               ", which does not know");
        place(t.task);
      }
      for (u32 d = 0; d < t.depth; ++d) {
        expect(m.task(t.below[d]).state == TASK_RUNNING && m.task(t.below[d]).thread == i, "thread ", i,
               " has below it task ", t.below[d], ", which does not know");
        place(t.below[d]);
      }
      if (t.building) {
        expect(m.task(t.building).state == TASK_BUILDING, "thread ", i, " builds task ", t.building,
               ", which is built");
        place(t.building);
      }
      if (t.actor) expect(m.actor(t.actor).thread == i, "thread ", i, " serves an actor that does not know");
      if (t.gave_back) expect(t.shape, "thread ", i, " gave back what it does not hold");
      if (t.granted) expect(t.actor && !t.task, "thread ", i, " was granted CPUs for nothing");
    }
    for (u32 i = 1; i <= h.tasks.high_water; ++i)
      if (!free_tasks_[i])
        expect(places_[i] == 1, "task ", i, " in state ", m.task(i).state, " is in ", places_[i], " places");
  }

  void work_lists() {
    u32 listed = 0, marked = 0;
    for (u32 i = h.object_work; i && i != WORK_END && listed <= h.objects.high_water; i = m.object(i).work_next) {
      expect(!free_objects_[i] && m.object(i).work_next, "object ", i, " is on the work list and should not be");
      ++listed;
    }
    for (u32 i = 1; i <= h.objects.high_water; ++i) marked += !free_objects_[i] && m.object(i).work_next;
    expect(listed == marked, listed, " objects are on the work list, ", marked, " marked so");
    listed = marked = 0;
    for (u32 a = h.actor_work; a && listed <= h.actors.high_water; a = m.actor(a).work_next) ++listed;
    for (u32 a = 1; a <= h.actors.high_water; ++a) marked += !free_actors_[a] && m.actor(a).working;
    expect(listed == marked, listed, " actors are on the work list, ", marked, " marked so");
  }

  void waiting_actors() {
    u32 listed = 0, marked = 0, last = NIL;
    for (u32 a = h.actors_wait_head; a && listed <= h.actors.high_water; a = m.actor(a).wait_next) {
      expect(m.actor(a).waits && m.actor(a).state == ACTOR_ALIVE, "actor ", a, " waits for a CPU and should not");
      last = a;
      ++listed;
    }
    for (u32 a = 1; a <= h.actors.high_water; ++a) marked += !free_actors_[a] && m.actor(a).waits;
    expect(listed == marked && last == h.actors_wait_tail, listed, " actors wait for a CPU, ", marked, " marked so");
  }

  // What could run, and somebody could run it, has somebody told.
  void nobody_sleeps_in_vain() {
    if (h.waking)
      expect(!free_threads_[h.waking] && m.thread(h.waking).idle, "a thread that is not idle is being woken");
    for (u32 s = 1; s < SHAPES_MAX; ++s)
      if (m.shape(s).passed >= HOLD_BACK_AFTER) return;  // the clock decides here
    bool fits = queue::choose(m).shape != NIL;
    expect(!fits || !h.idle_head || h.waking, "a task is ready and a worker idle, and nobody is woken");
    if (u32 a = h.actors_wait_head)
      expect(!resources::cpu_fits(h, m.shape(m.actor(a).shape)) || (fits && queue::tasks_have_turn(h)), "actor ", a,
             " waits for CPUs that are free");
  }

  void journal_entries() {
    // The slot to be written next may still hold the object of an entry outside the window.
    if (u32 o = h.journal_last > journal::WINDOW ? m.journal_entry(h.journal_last + 1).object : NIL) counts_[o] += 1;
    for (u64 s = h.journal_last > journal::WINDOW ? h.journal_last - journal::WINDOW + 1 : 1; s <= h.journal_last;
         ++s) {
      const JournalEntry& e = m.journal_entry(s);
      expect(e.sequence == s, "journal entry ", s, " carries number ", e.sequence);
      if (e.object) counts_[e.object] += 1;
    }
  }

  // Whatever id a record has or had: what its bucket links is in use and belongs there.
  void bucket_of(u32 i) {
    u32 bucket = object::bucket_of(m.object(i).id), n = 0;
    for (u32 x = m.bucket(bucket); x && n <= h.objects.high_water; x = m.object(x).bucket_next, ++n) {
      bool linked = x <= h.objects.high_water && !free_objects_[x] && object::bucket_of(m.object(x).id) == bucket;
      expect(linked, "object ", x, " is linked under an id that is not its own");
      if (!linked) return;
    }
  }

  void object_records() {
    // The record after the last may have been taken by a transaction that was undone.
    for (u32 i = 1; i <= h.objects.high_water + 1 && i < h.objects.capacity; ++i) bucket_of(i);
    u32 held_within = 0;
    for (u32 i = 1; i <= h.objects.high_water; ++i)
      if (!free_objects_[i] && m.object(i).hold.process) ++held_within;
    expect(held_within == held_within_, held_within, " objects name a holder, ", held_within_, " are held by it");
    for (u32 i = 1; i <= h.objects.high_water; ++i) {
      Object& o = m.object(i);
      if (free_objects_[i]) {
        expect(!o.loans && !o.news, "object ", i, " is free, and nodes have it");
        continue;
      }
      remote(i, o);
      expect(o.state != OBJECT_FREE, "object ", i, " is in use and says it is free");
      edge_list(o.nested, NIL, "object", i);
      use_block(o.block, "object", i, HEAP);
      use_block(o.spilled, "object", i, SPILL_FILE);
      expect(!o.spilled || (o.state == OBJECT_SEALED && (o.block || !o.pins)), "object ", i,
             " is spilled, and in use as well");
      expect(o.published == o.state, "object ", i, " is in state ", o.state, " and says ", o.published);
      bool found = false;
      for (u32 x = m.bucket(object::bucket_of(o.id)); x && !found; x = m.object(x).bucket_next) found = x == i;
      expect(found, "object ", i, " is not found under its id");
      if (o.state == OBJECT_SEALED && (o.waiting || o.watches))
        expect(o.work_next, "object ", i, " has a value, and somebody waits for it untold");
      for (u32 w = o.watches, n = 0; w && n <= h.watches.high_water; w = m.watch(w).next, ++n) {
        expect(!free_watches_[w], "object ", i, " has a watch that is free");
        used_watches_ += 1;
      }
      for_each_waiting(o, [&](u32 e) {
        expect(!free_edges_[e] && m.edge(e).object == i && m.edge(e).task, "object ", i, " is awaited by a wrong edge");
      });
      bool served = o.state == OBJECT_ACTOR && o.origin & STORED;
      if ((o.state == OBJECT_PENDING || served) && o.task) awaited_ += 1;
      else expect(!o.task, "object ", i, " has a value, and a task that will make it");
      expect(o.pins == pins_[i], "object ", i, " has ", o.pins, " pins, counted ", pins_[i]);
    }
    for (u32 i = 1; i <= h.objects.high_water; ++i) {
      Object& o = m.object(i);
      if (free_objects_[i]) {
        expect(!counts_[i], "object ", i, " is free and has ", counts_[i], " references");
        continue;
      }
      expect(o.references == counts_[i], "object ", i, " has ", o.references, " references, counted ", counts_[i]);
      expect(o.references || o.work_next || o.news || o.state == OBJECT_ACTOR, "object ", i,
             " is unreachable and kept");
    }
    expect(used_watches_ == h.watches.used, used_watches_, " watches are reachable, not ", h.watches.used);
    expect(awaited_ == promised_, awaited_, " objects wait for their task, ", promised_, " are listed by one");
    expect(used_edges_ == h.edges.used, used_edges_, " edges are reachable, not ", h.edges.used);
    for (auto& [b, uses] : block_uses_)
      expect(m.block(b).state == BLOCK_FREE ? uses == 0 : uses == 1, "block ", b, " has ", uses, " users in state ",
             m.block(b).state);
  }

  bool is_peer(u32 i) {
    return i && i <= h.processes.high_water && !free_processes_[i] &&
           ProcessKind(m.process(i).kind) == ProcessKind::peer;
  }

  // What an object has to do with other nodes.
  void remote(u32 i, const Object& o) {
    u32 owner = owner_of(o), noted = 0;
    expect(!owner || is_peer(owner), "object ", i, " is owned by no node");
    std::set<u32> with;
    for (u32 l = o.loans; l; l = m.loan(l).next) {
      const Loan& loan = m.loan(l);
      if (free_loans_[l] || loan.object != i || !with.insert(loan.peer).second) {
        expect(false, "object ", i, " has a broken list of loans");
        break;
      }
      expect(loan.lent || loan.noted, "loan ", l, " is settled and kept");
      if (loan.lent) counts_[i] += 1;
      noted += loan.noted;
      used_loans_ += 1;
    }
    expect(bool(o.origin & NOTED) == (noted > 0), "object ", i, " is noted, and does not know, or the other way round");
    expect(bool(o.origin & LISTED) == (o.news != NIL), "object ", i, " is news, and does not know, or not");
    if (o.origin & LOCATED)
      expect(o.state != OBJECT_SEALED && m.task(o.task).state == TASK_AWAY, "object ", i, " is at no peer");
    if (news::must_be_fetched(o))
      expect(!o.waiting || o.origin & WANTED, "a task waits for object ", i, ", which nobody fetches");
    if (o.origin & STORED) {
      expect(o.origin & LOCATED, "object ", i, " is stored nowhere");
      stored_[o.task] -= 1;
    }
    if (o.origin & ASKED && (o.state != OBJECT_PENDING || o.origin & LOCATED))
      expect(o.news, "object ", i, " was asked for and is known, and nobody hears of it");
    if (o.origin & (DONE | FAILED) && o.state == OBJECT_SEALED)
      expect(o.news || !loan::is_result(m, i), "object ", i, " is a result that nobody hears of");
  }

  void loan_records() {
    expect(used_loans_ == h.loans.used, used_loans_, " loans are reachable, not ", h.loans.used);
    for (u32 l = 1; l <= h.loans.high_water; ++l)
      expect(free_loans_[l] ? !m.loan(l).peer : is_peer(m.loan(l).peer), "loan ", l, " is with no node");
    for (auto& [i, left] : stored_) expect(!left, "task ", i, " counts ", left, " stored results too many");
  }

  void news_list() {
    u32 listed = 0, marked = 0, last = NIL;
    for (u32 i = h.news_head; i && i != WORK_END && listed <= h.objects.high_water; i = m.object(i).news) {
      expect(!free_objects_[i] && m.object(i).origin & LISTED, "object ", i, " is news and should not be");
      last = i;
      ++listed;
    }
    for (u32 i = 1; i <= h.objects.high_water; ++i)
      marked += !free_objects_[i] && m.object(i).news && m.object(i).origin & LISTED;
    expect(listed == marked && last == h.news_tail, listed, " objects are in the list of news, ", marked, " marked so");
  }

  static bool runs_on(const Thread& t, u32 task) {
    for (u32 d = 0; d < t.depth; ++d)
      if (t.below[d] == task) return true;
    return t.task == task;
  }

  void resources_held() {
    i64 taken[RESOURCE_KINDS] = {};
    u32 gpus[GPUS_MAX] = {};
    for (u32 i = 1; i <= h.threads.high_water; ++i) {
      if (free_threads_[i]) continue;
      const Thread& t = m.thread(i);
      if (t.shape && !t.gave_back) taken[CPU] += m.shape(t.shape).need[CPU];
      if (t.granted) taken[CPU] += m.shape(m.actor(t.actor).shape).need[CPU];
      u32 rest = t.life_shape ? t.life_shape : t.depth ? m.task(t.below[0]).shape : t.shape;
      for (u32 k = 1; rest && k < RESOURCE_KINDS; ++k) taken[k] += m.shape(rest).need[k];
      for (u32 g = 0; g < GPUS_MAX; ++g)
        if (t.gpu_mask >> g & 1) gpus[g] += t.gpu_units;
    }
    for (u32 k = 0; k < RESOURCE_KINDS; ++k)
      expect(h.free[k] + taken[k] == h.total[k], "resource ", k, ": ", h.free[k], " free + ", taken[k],
             " taken is not ", h.total[k]);
    for (u32 g = 0; g < GPUS_MAX; ++g) {
      u32 total = i64(g) * UNIT < h.total[GPU] ? UNIT : 0;
      expect(h.gpu_free[g] + gpus[g] == total, "GPU ", g, " is not accounted for");
    }
  }

  Mapping& m;
  Header& h;
  std::vector<std::string> problems_;
  std::vector<u32> counts_, places_;
  std::map<u32, u32> pins_, block_uses_, stored_;
  std::vector<bool> free_objects_, free_tasks_, free_edges_, free_holds_, free_loans_, free_watches_, free_blocks_,
      free_actors_, free_lanes_, free_processes_, free_threads_;
  u32 used_edges_ = 0, used_watches_ = 0, owned_threads_ = 0, owned_lanes_ = 0, used_lanes_ = 0, called_lanes_ = 0;
  u32 awaited_ = 0, promised_ = 0, held_within_ = 0, used_loans_ = 0;
};

inline std::vector<std::string> check(Mapping& m) {
  Transaction t(m, NIL);
  std::vector<std::string> problems = Checker(m).run();
  t.commit();
  return problems;
}

inline std::vector<std::pair<std::string, i64>> statistics(Mapping& m) {
  Header& h = m.header();
  return {
      {"objects", h.objects.used},
      {"tasks", h.tasks.used},
      {"links", h.edges.used},
      {"references", h.holds.used},
      {"loans", h.loans.used},
      {"watches", h.watches.used},
      {"actors", h.actors.used},
      {"lanes", h.lanes.used},
      {"processes", h.processes.used},
      {"threads", h.threads.used},
      {"workers", h.worker_count},
      {"idle_workers", h.idle_count},
      {"ready_tasks", h.ready_count},
      {"running_tasks", h.running_count},
      {"resting_tasks", h.resting_count},
      {"tasks_done", i64(h.tasks_done)},
      {"heap_blocks", h.blocks.used},
      {"heap_used_bytes", i64(u64(h.heaps[HEAP].used) * GRANULE_BYTES)},
      {"spill_file_used_bytes", i64(u64(h.heaps[SPILL_FILE].used) * GRANULE_BYTES)},
      {"spill_file_capacity_bytes", i64(u64(h.heaps[SPILL_FILE].capacity) * GRANULE_BYTES)},
      {"spilled_bytes", i64(h.spilled_bytes)},
      {"restored_bytes", i64(h.restored_bytes)},
      {"heap_touched_bytes", i64(u64(h.heaps[HEAP].touched) * GRANULE_BYTES)},
      {"heap_capacity_bytes", i64(u64(h.heaps[HEAP].capacity) * GRANULE_BYTES)},
      {"cpu_free", h.free[CPU]},
      {"gpu_free", h.free[GPU]},
      {"custom_free", h.free[CUSTOM]},
      {"cpu_total", h.total[CPU]},
      {"gpu_total", h.total[GPU]},
      {"custom_total", h.total[CUSTOM]},
      {"jobs_ended", h.jobs_ended},
      {"journal_last", i64(h.journal_last)},
      {"recoveries", h.recoveries},
  };
}

}  // namespace ray
