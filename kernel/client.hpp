// One process's part in an arena: every operation, each made of one or more whole transactions.
//
// A client is used under one lock of its host (the interpreter's); the arena itself is shared by any
// number of clients.
#pragma once

#include "spill.hpp"
#include "wait.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

namespace ray {

struct Submission {
  u32 function = NIL;
  const u8* payload = nullptr;
  u64 payload_bytes = 0;
  u32 block = NIL;
  std::span<const u32> deps, nested;
  u32 num_returns = 1;
  u32 shape = NIL;
  u32 max_retries = 0;
};

struct Assignment {
  u32 task = NIL;
  TaskKind kind = TaskKind::task;
  u32 function = NIL;
  u64 function_key = 0;
  u32 num_returns = 0;
};

struct Result {
  Value value;
  std::span<const u32> nested;
};

struct JournalItem {
  u64 sequence;
  u32 kind, job, format;
  u32 object;  // held for the caller; 0: bytes
  std::string bytes;
};

struct Demand {
  u32 fitting, idle, workers, limit;
};

class Client;

// Which clients are alive, for threads that end later than their client.
inline std::mutex live_mutex;
inline std::map<u64, Client*> live_clients;
inline std::atomic<u32> forks{0};

// What a thread is to its client: its record, where its ids start from, the lanes it has opened.
struct CallerState {
  u64 client = 0;
  u32 index = NIL;
  u8 parent[TASK_ID_BYTES] = {};
  u32 ordinal = 0;
  u64 counter = 0;
  std::unordered_map<u32, std::pair<u64, u32>> lanes;  // actor -> its serial, lane
};
// The destructor gives the record back, so this is never copied whole: a copy's end would end the thread's.
struct LocalThread : CallerState {
  LocalThread() = default;
  LocalThread(const LocalThread&) = delete;
  LocalThread& operator=(const LocalThread&) = delete;
  ~LocalThread();
};
inline thread_local LocalThread local_thread;

class Client {
 public:
  explicit Client(Mapping* mapping) : m_(mapping), h_(mapping->header()) {
    static std::once_flag once;
    std::call_once(once, [] { pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1); }); });
    std::lock_guard lock(live_mutex);
    static u64 next_serial = 0;
    serial_ = ++next_serial;
    live_clients[serial_] = this;
    if (!peek(h_.blocks.high_water)) {
      Transaction t(m(), NIL);
      if (!h_.blocks.high_water) heap::format(t, HEAP, h_.heaps[HEAP].capacity);
      t.commit();
    }
  }
  ~Client() {
    close_spill_file();
    std::lock_guard lock(live_mutex);
    live_clients.erase(serial_);
  }
  Client(const Client&) = delete;

  Mapping& m() { return *m_; }
  Header& header() { return h_; }

  // While one lives this process does not leave: memory and places of the file that it reads or writes with
  // the mutex free stay its own.  Made and ended under the host's lock.
  class Stay {
   public:
    explicit Stay(Client& c) : c_(c) { c_.staying_.fetch_add(1); }
    ~Stay() {
      if (c_.staying_.fetch_sub(1) == 1 && c_.left_) futex_wake(c_.staying_, 1);
    }
    Stay(const Stay&) = delete;

   private:
    Client& c_;
  };

  // --- joining and leaving --------------------------------------------------------------------------

  void enter(ProcessKind kind, const u8* root_id) {
    u32 pid = u32(getpid());
    if (process_ && pid == pid_) throw KernelError("this process has joined the arena already");
    if (process_) {  // forked: nothing of the parent's is ours
      m().forget_local();
      drops_.clear();
      close_spill_file();
      staying_ = 0;
      std::lock_guard lock(live_mutex);
      live_clients.erase(serial_);
      serial_ += 1ull << 32;
      live_clients[serial_] = this;
    }
    pid_ = pid;
    forks_ = forks.load();
    left_ = false;
    u64 started = process_start(pid);
    Transaction t(m(), NIL);
    process_ = process::enter(t, kind, pid, started, root_id);
    t.commit();
    kind_ = kind;
    next_ordinal_ = 0;
    if (root_id) memcpy(root_id_, root_id, TASK_ID_BYTES);
    else task::derive_id(root_id_, reinterpret_cast<const u8*>("process without "), pid, started);
    memcpy(current_parent_, root_id_, TASK_ID_BYTES);
    thread();
  }

  bool joined() const { return process_ != NIL && !left_; }
  bool forked() const { return forks_ != forks.load(std::memory_order_relaxed) && u32(getpid()) != pid_; }
  u32 process() const { return process_; }
  u64 job() {
    u32 running = kind_ == ProcessKind::worker ? m().thread(thread()).task : NIL;
    return running ? m().task(running).job : m().process(process_).job;
  }

  void must_be_open() {
    if (forks_ != forks.load(std::memory_order_relaxed)) {
      if (u32(getpid()) != pid_) throw Forked("this process was forked from one that uses Ray");
      forks_ = forks.load();
    }
    if (!process_ || left_) throw ArenaClosed("this process is not part of a session");
    if (h_.shut.load(std::memory_order_relaxed)) throw ArenaClosed("the session has ended");
  }

  // This thread's record, made when it is first needed.
  u32 thread() {
    LocalThread& local = local_thread;
    if (local.client == serial_) return local.index;
    Transaction t(m(), NIL);
    local.index = process::add_thread(t, process_, next_ordinal_ == 0);
    t.commit();
    local.client = serial_;
    local.ordinal = next_ordinal_++;
    local.counter = 0;
    local.lanes.clear();
    memcpy(local.parent, current_parent_, TASK_ID_BYTES);
    return local.index;
  }

  void thread_ends(u32 index) {
    if (forked() || left_ || h_.shut.load()) return;
    while (m().thread(index).lanes) {
      Transaction t(m(), NIL);
      mailbox::close_lane(t, m().thread(index).lanes);
      t.commit();
    }
    Transaction t(m(), NIL);
    Process& p = m().process(process_);
    if (m().thread(index).task) return;  // a worker's own thread: burial will see to it
    u32 before = NIL;
    for (u32 x = p.threads; x && x != index; x = m().thread(x).next) before = x;
    queue::remove_idle(t, index);
    if (before) t.set(m().thread(before).next, m().thread(index).next);
    else t.set(p.threads, m().thread(index).next);
    t.set(m().thread(index).process, NIL);
    threads(m()).give(t, index);
    t.commit();
  }

  // Gives back all but what Views still use.
  void leave() {
    if (!joined() || forked()) return;
    left_ = true;
    drops_.clear();
    while (u32 n = staying_.load()) {
      HostPause pause;
      futex_wait(staying_, n, SLEEP_SLICE_NS);
    }
    close_spill_file();
    bury_record(process_, m().process(process_).serial, 0, true);
  }

  void shut() {
    h_.shut.store(1);
    for (u32 i = 1; i <= h_.threads.high_water; ++i) {
      m().thread(i).word.fetch_add(1);
      futex_wake(m().thread(i).word, 1);
    }
    for (auto* word : {&h_.demand_word, &h_.journal_word, &h_.room_word}) {
      word->fetch_add(1);
      futex_wake(*word, 1 << 30);
    }
  }

  // --- references -----------------------------------------------------------------------------------

  void adopt(u32 o, u32 ref) {
    LocalReference& local = m().local(o);
    local = LocalReference{m().object(o).serial, 1, ref, 0, 0, 0};
  }
  bool owns(u32 o, u64 serial) { return m().local(o).hold && m().local(o).serial == serial; }
  void add_local(u32 o) { m().local(o).count += 1; }
  void drop_local(u32 o) {
    LocalReference& local = m().local(o);
    if (local.count == 0 || --local.count || local.queued) return;
    local.queued = 1;
    drops_.push_back(o);
    // What holds much memory, or an actor, is let go at once; the rest in batches, and before every sleep.
    const Object& object = m().object(o);
    if (drops_.size() >= DROPS_AT_ONCE || object.size_bytes > SNAPSHOT_BYTES || object.state == OBJECT_ACTOR)
      flush_drops();
  }

  void flush_drops() {
    if (left_ || forked() || h_.shut.load(std::memory_order_relaxed)) {
      drops_.clear();
      return;
    }
    while (!drops_.empty()) {
      Transaction t(m(), thread());
      std::array<u32, 3> done;
      u32 n = 0;
      // Whatever ran while the mutex was awaited may have taken one up again.
      while (n < done.size() && !drops_.empty()) {
        u32 o = drops_.back();
        drops_.pop_back();
        LocalReference& local = m().local(o);
        local.queued = 0;
        if (local.count || !local.hold) continue;
        u32 ref = local.hold;
        local.hold = 0;
        object::drop_hold(t, ref);
        done[n++] = o;
      }
      t.commit();
    }
    drain();
  }

  // What this process has dropped is gone when others count.
  void let_go() {
    if (!drops_.empty()) flush_drops();
  }

  // The object with this id, held for this process; NIL if it is gone.
  u32 resolve(const u8* id, u64 key) {
    must_be_open();
    u32 o = u32(key & (OBJECTS_MAX - 1));
    // The key may be of another session: the id decides.
    if (key && owns(o, key >> 22) && memcmp(m().object(o).id, id, ID_BYTES) == 0) {
      add_local(o);
      return o;
    }
    Transaction t(m(), thread());
    o = object::find(m(), id);
    if (!o || !m().object(o).references) {
      t.commit();
      return NIL;
    }
    if (owns(o, m().object(o).serial)) {
      t.commit();
      add_local(o);
      return o;
    }
    u32 ref = object::hold(t, o, process_);
    t.commit();
    adopt(o, ref);
    return o;
  }

  // Pins the value, which is brought back first if it was spilled; for a process that holds the object.
  // May throw StoreFull, SpillFailed.
  void pin(u32 o) {
    Stay stay(*this);
    LocalReference& local = m().local(o);
    while (!local.pins) {
      spill::Place place = pin_if_in_heap(o);
      if (!place.block) break;
      u64 size = m().object(o).size_bytes;
      u32 b = allocate(size);
      int error = transfer(false, heap_of(b), size, place.at);
      Transaction t(m(), thread());
      bool there = spill::still_at(m().object(o), place);
      if (there && !error) {
        spill::bring_back(t, o, b);
        object::pin(t, local.hold);
      } else {
        heap::discard(t, b, process_);
      }
      t.commit();
      if (there && error) throw SpillFailed(error);
      if (there) break;
    }
    local.pins += 1;
  }

  // Copies the value, from wherever it is; nothing is moved, so no room is needed.  May throw SpillFailed.
  void copy_value(u32 o, u8* out) {
    Stay stay(*this);
    Object& object = m().object(o);
    for (;;) {
      if (object.size_bytes <= SNAPSHOT_BYTES) {
        memcpy(out, data_for_reading(o), object.size_bytes);
        return;
      }
      spill::Place place;
      if (!m().local(o).pins) place = pin_if_in_heap(o);
      if (!place.block) {
        m().local(o).pins += 1;
        memcpy(out, data_for_reading(o), object.size_bytes);
        unpin(o);
        return;
      }
      int error = transfer(false, out, object.size_bytes, place.at);
      Transaction t(m(), thread());
      bool there = spill::still_at(object, place);
      t.commit();
      if (there && error) throw SpillFailed(error);
      if (there) return;
    }
  }

  // --- spilling -------------------------------------------------------------------------------------

  // `fd` is a file of no name; this process keeps it open until it leaves.  A second file is not used.
  void set_spill_file(int fd, u64 capacity_bytes) {
    must_be_open();
    u32 capacity = u32(std::min(capacity_bytes, HEAP_BYTES_MAX) / GRANULE_BYTES);
    struct stat s;
    if (fstat(fd, &s) != 0) throw SpillFailed(errno);
    u32 th = thread();
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (own < 0) throw SpillFailed(errno);
    Transaction t(m(), th);
    bool taken = capacity && !h_.heaps[SPILL_FILE].first;
    if (taken) {
      heap::format(t, SPILL_FILE, capacity);
      t.write(h_.spill_pid, pid_);
      t.write(h_.spill_fd, u32(own));
      t.write(h_.spill_device, u64(s.st_dev));
      t.write(h_.spill_inode, u64(s.st_ino));
    }
    t.commit();
    if (taken) std::swap(own, spill_fd_);
    if (own >= 0) close(own);
  }

  // Moves values that nobody uses to the spill file, until the heap has got so many bytes back or no value
  // is left that may go.  Returns the bytes.  May throw SpillFailed.
  u64 spill(u64 bytes) {
    Stay stay(*this);
    u64 freed = 0;
    u64 looked = 0;
    while (freed < bytes && looked <= 2 * u64(h_.objects.high_water) + SPILL_LOOK) {
      must_be_open();
      if (!peek(h_.heaps[SPILL_FILE].first)) return freed;
      spill::Move move;
      u8* data = nullptr;
      u64 size = 0, at = 0;
      {
        Transaction t(m(), thread());
        move = spill::choose(t, process_);
        if (move.object) {
          data = heap_of(m().object(move.object).block);
          size = m().object(move.object).size_bytes;
          at = u64(m().block(move.block).offset) * GRANULE_BYTES;
        }
        t.commit();
      }
      looked += SPILL_LOOK;
      if (!move.object) continue;
      looked = 0;
      int error = transfer(true, data, size, at);
      Transaction t(m(), thread());
      if (error) spill::give_up(t, move, process_);
      else freed += spill::finish(t, move, process_);
      t.commit();
      if (error && freed) break;
      if (error) throw SpillFailed(error);
    }
    drain();
    return freed;
  }

  // The local count decides under the mutex: other threads may have run while it was awaited.
  void unpin(u32 o) {
    LocalReference& local = m().local(o);
    if (--local.pins || forked()) return;
    if (h_.shut.load(std::memory_order_relaxed)) return;
    if (left_) {  // the process has left; this was the last of what it still used
      Transaction t(m(), NIL);
      object::drop_hold(t, local.hold);
      t.commit();
      local.hold = 0;
      drain();
      finish_leaving();
      return;
    }
    Transaction t(m(), thread());
    if (!local.pins) object::unpin(t, local.hold);
    t.commit();
  }

  // --- objects --------------------------------------------------------------------------------------

  void next_id(u8* id) {
    LocalThread& local = local_thread;
    task::derive_id(id, local.parent, local.ordinal, local.counter++);
  }

  u32 reserve() {
    must_be_open();
    u32 th = thread();
    u8 id[ID_BYTES];
    next_id(id);
    memcpy(id + TASK_ID_BYTES, &PUT_INDEX, 4);
    Transaction t(m(), th);
    u32 o = object::create(t, id, NIL, NIL);
    u32 ref = object::hold(t, o, process_);
    t.commit();
    adopt(o, ref);
    return o;
  }

  u32 put(const Value& v, std::span<const u32> nested) {
    must_be_open();
    u32 th = thread();
    u8 id[ID_BYTES];
    next_id(id);
    memcpy(id + TASK_ID_BYTES, &PUT_INDEX, 4);
    Transaction t(m(), th);
    u32 o = object::create(t, id, NIL, NIL);
    u32 ref = object::hold(t, o, process_);
    if (nested.size() > AT_ONCE) {
      t.commit();
      adopt(o, ref);
      try {
        add_nested(o, nested);
        Transaction last(m(), th);
        object::seal(last, o, v);
        last.commit();
      } catch (...) {
        drop_local(o);
        throw;
      }
      return o;
    }
    for (u32 contained : nested) object::add_nested(t, o, contained);
    object::seal(t, o, v);
    t.commit();
    adopt(o, ref);
    return o;
  }

  bool seal(u32 o, const Value& v, std::span<const u32> nested) {
    must_be_open();
    if (peek(m().object(o).state) != OBJECT_PENDING) return false;
    add_nested(o, nested);
    Transaction t(m(), thread());
    bool sealed = object::seal(t, o, v);
    t.commit();
    drain();
    return sealed;
  }

  u32 allocate(u64 bytes) {
    Stay stay(*this);
    must_be_open();
    flush_drops();
    for (;;) {
      try {
        Transaction t(m(), thread());
        u32 b = heap::allocate(t, bytes);
        heap::hold(t, b, process_);
        t.commit();
        return b;
      } catch (const StoreFull& full) {
        if (bytes > full.capacity_bytes || !spill(bytes)) throw;
      }
    }
  }

  // Does nothing to a block that an object or a task has taken over meanwhile.
  void release_block(u32 b) {
    if (forked() || left_ || h_.shut.load(std::memory_order_relaxed)) return;
    Transaction t(m(), thread());
    heap::discard(t, b, process_);
    t.commit();
  }

  // Pages never touched before are written through the file: the system then fills them without first
  // clearing them.
  void write_block(u32 b, u64 offset, const u8* bytes, u64 size) {
    const Block& block = m().block(b);
    u64 start = u64(block.offset) * GRANULE_BYTES + offset;
    u64 cold = u64(block.cold_from) * GRANULE_BYTES;
    u64 warm_bytes = start >= cold ? 0 : (cold - start < size ? cold - start : size);
    if (warm_bytes < size && size - warm_bytes < 65536) warm_bytes = size;
    memcpy(m().heap(start), bytes, warm_bytes);
    while (warm_bytes < size) {
      ssize_t n =
          pwrite(m().fd(), bytes + warm_bytes, size - warm_bytes, off_t(m().heap_offset() + start + warm_bytes));
      if (n <= 0) {
        memcpy(m().heap(start + warm_bytes), bytes + warm_bytes, size - warm_bytes);
        break;
      }
      warm_bytes += u64(n);
    }
  }

  // --- getting --------------------------------------------------------------------------------------

  bool ready(u32 o) { return wait::is_ready(m(), o); }

  // Blocks until the object has a value.
  void wait_for(u32 o, const wait::Deadline& deadline) {
    if (ready(o)) return;
    must_be_open();
    u32 th = thread();
    Thread& me = m().thread(th);
    wait::watch(m(), th, o);
    // SYNC POINT await: written before the state is read again (transaction.hpp).
    me.awaiting.store(o, std::memory_order_seq_cst);
    wait_awaiting(th, deadline, {&o, 1}, [&] { return ready(o); });
  }

  // The alias's target, or the object itself.
  u32 value_of(u32 o) {
    while (m().object(o).format == FORMAT_ALIAS && m().object(o).nested) o = m().edge(m().object(o).nested).object;
    return o;
  }

  // Blocks until all have values, or until the ids so far in order include a failure.
  void wait_all(std::span<const u32> list, const wait::Deadline& deadline) {
    size_t last = list.size();
    size_t known_good = 0;
    while (last > 0) {
      u32 o = list[last - 1];
      if (ready(o)) {
        --last;
        continue;
      }
      must_be_open();
      u32 th = thread();
      Thread& me = m().thread(th);
      wait::watch(m(), th, o);
      me.awaiting.store(o, std::memory_order_seq_cst);
      bool failed = false;
      auto look = [&] {
        if (ready(o)) return true;
        while (known_good < list.size() && ready(list[known_good])) {
          if (m().object(value_of(list[known_good])).format >= FORMAT_ERROR) return failed = true;
          ++known_good;
        }
        return false;
      };
      // Spinning looks at the last one only; the prefix is looked at between sleeps.
      wait_awaiting(th, deadline, {&o, 1}, [&] { return ready(o); }, look);
      if (failed) return;
    }
  }

  // Marks which have values, at most `wanted` of them; blocks until that many have, or the time is over.
  std::vector<bool> wait_some(std::span<const u32> list, size_t wanted, const wait::Deadline& deadline) {
    std::vector<bool> marks(list.size());
    size_t count = 0;
    std::vector<u32> pending;
    for (size_t i = 0; i < list.size() && count < wanted; ++i)
      if (ready(list[i])) marks[i] = true, ++count;
    if (count >= wanted || deadline.passed()) return marks;
    must_be_open();
    u32 th = thread();
    Thread& me = m().thread(th);
    for (size_t i = 0; i < list.size(); ++i)
      if (!marks[i]) pending.push_back(list[i]);
    for (u32 o : pending)
      if (!ready(o)) wait::watch(m(), th, o);
    size_t missing = wanted - count;
    // `needed` is set before the count, and what was counted is taken off after it: a seal in between is taken
    // off twice, which wakes too early, never too late.
    me.needed.store(i32(missing), std::memory_order_relaxed);
    me.awaiting.store(AWAITS_ANY, std::memory_order_seq_cst);
    auto look = [&] {
      for (;;) {
        me.needed.store(i32(missing), std::memory_order_seq_cst);
        size_t found = 0;
        for (size_t i = 0; i < pending.size() && found < missing; ++i)
          if (ready(pending[i])) ++found;
        if (found >= missing) return true;
        if (me.needed.fetch_sub(i32(found), std::memory_order_seq_cst) > i32(found)) return false;
      }
    };
    auto glance = [&] { return me.needed.load(std::memory_order_relaxed) <= 0 && look(); };
    try {
      wait_awaiting(th, deadline, pending, glance, look);
    } catch (const WaitTimeout&) {
    }
    for (size_t i = 0; i < list.size() && count < wanted; ++i)
      if (!marks[i] && ready(list[i])) marks[i] = true, ++count;
    return marks;
  }

  const u8* data_for_reading(u32 o) {
    Object& object = m().object(o);
    if (!object.block) return object.data;
    return m().heap_for_reading(u64(m().block(object.block).offset) * GRANULE_BYTES);
  }

  // --- tasks ----------------------------------------------------------------------------------------

  u32 shape(const i64 (&need)[RESOURCE_KINDS]) {
    must_be_open();
    Transaction t(m(), thread());
    u32 i = resources::intern(t, need);
    t.commit();
    return i;
  }

  // Fills `out` with the return objects, in order, held for this process.
  void submit(const Submission& s, std::vector<u32>& out) {
    must_be_open();
    u8 id[TASK_ID_BYTES];
    u32 th = thread();
    next_id(id);
    build(th, s, TaskKind::task, NIL, 0, id, out);
  }

  u32 create_actor(const Submission& s, u32 interval) {
    must_be_open();
    u32 th = thread();
    u8 id[TASK_ID_BYTES];
    next_id(id);
    std::vector<u32> none;
    Submission creation = s;
    creation.num_returns = 0;
    return build(th, creation, TaskKind::actor_create, NIL, interval, id, none);
  }

  void call(u32 actor_object, const Submission& s, std::vector<u32>& out) {
    must_be_open();
    must_be_actor(actor_object);
    u32 th = thread();
    u8 id[TASK_ID_BYTES];
    next_id(id);
    build(th, s, TaskKind::actor_call, m().object(actor_object).actor, 0, id, out);
  }

  // Seals `result` as the running task's only result if there is one, then takes the next task.
  // False: this process shall end.
  bool next(const Value* result, Assignment& out) {
    must_be_open();
    u32 th = thread();
    Thread& me = m().thread(th);
    if (me.lanes) close_lanes(th);
    let_go();
    bool finishing = me.task != NIL;
    if (finishing) record_event(th);
    drain();
    u32 got;
    bool idle, late = false;
    {
      Transaction t(m(), th);
      if (finishing) {
        Task& running = m().task(me.task);
        bool sealed = result && running.returns && object::seal(t, running.returns, *result);
        worker::complete(t, th);
        // A call that is run again has its results already.
        if (result && !sealed && result->block) heap::discard(t, result->block, process_);
      }
      got = may_end(th) ? NIL : worker::take(t, th);
      if (!got && finishing) queue::offer(t);
      t.commit();
    }
    drain();
    while (!got) {
      must_be_open();
      if (may_end(th)) return false;
      u32 value = me.word.load(std::memory_order_seq_cst);
      auto woken = [&] { return me.word.load(std::memory_order_seq_cst) != value; };
      Transaction t(m(), th);
      got = worker::take(t, th, late);
      idle = me.idle || me.actor;
      t.commit();
      if (got || may_end(th)) continue;
      if (!idle) continue;
      if (wait::spin(m(), th, woken)) continue;
      wait::Deadline slice(100);
      wait::Outcome outcome = wait::sleep(m(), th, slice, woken);
      if (outcome == wait::Outcome::interrupted) throw Interrupted("");
      late = outcome == wait::Outcome::timeout;
      drain();
    }
    out = assignment(got);
    enter_task(m().task(got));
    return true;
  }

  // The running task is done, its results sealed or failed; no other is taken.
  void complete() {
    must_be_open();
    u32 th = thread();
    running_task(th);
    if (m().thread(th).lanes) close_lanes(th);
    record_event(th);
    {
      Transaction t(m(), th);
      worker::complete(t, th);
      queue::offer(t);
      t.commit();
    }
    drain();
  }

  // --- helping --------------------------------------------------------------------------------------

  void set_helps(bool yes) { helps_ = yes; }

  // Where the ids and lanes of the task below go on once the one on top of it is done.
  struct Below {
    CallerState local;
    u8 current_parent[TASK_ID_BYTES];
    u32 depth;
  };
  std::unique_ptr<Below> step_up(u32 task) {
    auto below = std::make_unique<Below>();
    below->local = local_thread;
    memcpy(below->current_parent, current_parent_, TASK_ID_BYTES);
    below->depth = m().thread(thread()).depth;
    local_thread.lanes.clear();
    enter_task(m().task(task));
    return below;
  }
  // The task below goes on, with its CPUs: it may find that it need not wait any more.
  void step_down(Below& below) {
    static_cast<CallerState&>(local_thread) = std::move(below.local);
    memcpy(current_parent_, below.current_parent, TASK_ID_BYTES);
    Transaction t(m(), thread());
    worker::retake_cpu(t, thread());
    t.commit();
  }

  Assignment assignment(u32 i) {
    Task& task = m().task(i);
    return Assignment{i, TaskKind(task.kind), task.function, task.function ? object::key(m(), task.function) : 0,
                      task.num_returns};
  }

  // Gives the running task's results their values; `next` without a result completes it.
  void seal_results(std::span<const Result> results) {
    must_be_open();
    u32 th = thread();
    Task& running = running_task(th);
    while (u32 o = running.returns) {
      u32 index;
      memcpy(&index, m().object(o).id + TASK_ID_BYTES, 4);
      const Result& r = results[index < results.size() ? index : 0];
      add_nested(o, r.nested);
      bool last = !m().object(o).next_return;
      Transaction t(m(), th);
      object::seal(t, o, r.value);
      if (!last) {
        t.set(running.returns, m().object(o).next_return);
        object::unreference(t, o);
      }
      t.commit();
      drain();
      if (last) break;
    }
  }

  // Seals every return with this failure: the first holds the data, the others are aliases of it.
  void fail(const Value& v, std::span<const u32> nested, bool journal) {
    must_be_open();
    u32 th = thread();
    Task& running = running_task(th);
    u32 job = running.job;
    u32 first = running.returns;
    if (!first) {
      if (!journal || running.num_returns) return;  // of a call that runs again, the first failure stays
      u32 o = put(v, nested);
      {
        Transaction t(m(), th);
        journal::append(t, {JournalKind::error, job, v.format, nullptr, 0, o});
        t.commit();
      }
      drop_local(o);
      return;
    }
    u32 index;
    memcpy(&index, m().object(first).id + TASK_ID_BYTES, 4);
    add_nested(first, nested);
    {
      Transaction t(m(), th);
      bool sealed = object::seal(t, first, v);  // not if an attempt before this one came so far
      if (sealed && journal) journal::append(t, {JournalKind::error, job, v.format, nullptr, 0, first});
      t.commit();
    }
    drain();
    while (u32 o = m().object(first).next_return) {
      Transaction t(m(), th);
      if (m().object(o).state == OBJECT_PENDING) object::add_nested(t, o, first);
      object::seal(t, o, Value{nullptr, 0, NIL, FORMAT_ALIAS});
      t.set(m().object(first).next_return, m().object(o).next_return);
      object::unreference(t, o);
      t.commit();
      drain();
    }
  }

  u32 running() { return m().thread(thread()).task; }

  // --- actors ---------------------------------------------------------------------------------------

  u32 own_actor() {
    u32 a = m().thread(thread()).actor;
    if (!a) throw KernelError("this process serves no actor");
    return a;
  }

  void actor_failed(const Value& v) {
    must_be_open();
    u32 th = thread();
    u32 a = own_actor();
    u32 o = put(v, {});
    {
      Transaction t(m(), th);
      Actor& actor = m().actor(a);
      object::reference(t, o);
      t.set(actor.failure, o);
      mailbox::die(t, a, SystemFailure::actor_died, 0, pid_);
      journal::append(t, {JournalKind::error, u32(job()), v.format, nullptr, 0, o});
      t.commit();
    }
    drop_local(o);
    drain();
  }

  void checkpoint(const Value& v, std::span<const u32> nested) {
    must_be_open();
    u32 th = thread();
    u32 a = own_actor();
    u32 o = put(v, nested);
    {
      Transaction t(m(), th);
      Actor& actor = m().actor(a);
      object::reference(t, o);
      u32 old = actor.checkpoint;
      t.set(actor.checkpoint, o);
      mailbox::forget_done(t, actor);
      if (old) object::unreference(t, old);
      t.commit();
    }
    drop_local(o);
    drain();
  }

  u32 kill_actor(u32 actor_object) {
    must_be_open();
    must_be_actor(actor_object);
    u32 a = m().object(actor_object).actor;
    u32 pid = 0;
    {
      Transaction t(m(), thread());
      Actor& actor = m().actor(a);
      if (actor.thread) pid = m().process(m().thread(actor.thread).process).pid;
      if (actor.state != ACTOR_DEAD) mailbox::die(t, a, SystemFailure::actor_killed, 0, pid);
      t.commit();
    }
    drain();
    return pid;
  }

  // --- burial ---------------------------------------------------------------------------------------

  bool bury(u32 pid, i32 status) {
    u32 index;
    u64 serial;
    {
      Transaction t(m(), process_ && !left_ ? thread() : NIL);
      index = process::find(m(), pid);
      serial = m().process(index).serial;
      t.commit();
    }
    if (!index) return false;
    bury_record(index, serial, status, false);
    return true;
  }

  // Lets go of what work lists hold, a bounded piece a transaction.
  void drain() {
    while (peek(h_.object_work) || peek(h_.task_work_head) || peek(h_.actor_work)) {
      Transaction t(m(), process_ && !left_ ? thread() : NIL);
      if (h_.object_work) object::work(t);
      else if (h_.task_work_head) task::work(t);
      else mailbox::work(t);
      t.commit();
    }
  }

  // --- journal --------------------------------------------------------------------------------------

  u64 journal(JournalKind kind, const u8* bytes, u32 size) {
    must_be_open();
    u32 o = NIL;
    if (size > JOURNAL_INLINE_BYTES) {
      u32 b = allocate(size);
      write_block(b, 0, bytes, size);
      try {
        o = put(Value{nullptr, size, b, 2}, {});
      } catch (...) {
        release_block(b);
        throw;
      }
    }
    u64 sequence;
    {
      Transaction t(m(), thread());
      journal::append(t, {kind, u32(job()), 2, bytes, size, o});
      sequence = h_.journal_last;
      t.commit();
    }
    if (o) drop_local(o);
    drain();
    return sequence;
  }

  u64 journal_read(u64 after, i64 timeout_ms, std::vector<JournalItem>& out) {
    must_be_open();
    flush_drops();
    wait::Deadline deadline(timeout_ms);
    u32 seen = h_.journal_word.load();
    sleep_on(h_.journal_word, h_.journal_sleepers, deadline, [&] {
      return std::atomic_ref(h_.journal_last).load(std::memory_order_acquire) > after || h_.journal_word.load() != seen;
    });
    Transaction t(m(), thread());
    u64 sequence = journal::first_after(h_, after);
    std::vector<std::pair<u32, u32>> adopted;  // known to this process only once they are committed
    auto is_new = [&](u32 o) {
      return std::none_of(adopted.begin(), adopted.end(), [&](const auto& pair) { return pair.first == o; });
    };
    for (; sequence <= h_.journal_last && out.size() < AT_ONCE; ++sequence) {
      JournalEntry& e = m().journal_entry(sequence);
      JournalItem item{sequence, e.kind, e.job, e.format, e.object, {}};
      if (!e.object) {
        item.bytes.assign(reinterpret_cast<const char*>(e.data), e.size_bytes);
      } else if (!owns(e.object, m().object(e.object).serial) && is_new(e.object)) {
        adopted.emplace_back(e.object, object::hold(t, e.object, process_));
      }
      out.push_back(std::move(item));
    }
    t.commit();
    for (auto [o, ref] : adopted) adopt(o, ref), m().local(o).count = 0;
    for (const JournalItem& item : out)
      if (item.object) add_local(item.object);
    return sequence - 1;
  }

  // --- workers --------------------------------------------------------------------------------------

  Demand demand() {
    Transaction t(m(), process_ && !left_ ? thread() : NIL);
    Demand d{0, h_.idle_count, h_.worker_count, h_.max_workers};
    for (u32 i = 1; i < SHAPES_MAX; ++i) {
      const Shape& s = m().shape(i);
      if (!s.used) break;
      if (!s.count) continue;
      // Every actor will need a process of its own, so these may start up while CPUs are still taken.
      u64 for_life = ~0ull, now = ~0ull;
      for (u32 k = 0; k < RESOURCE_KINDS; ++k) {
        if (s.need[k] <= 0) continue;
        u64 times = h_.free[k] > 0 ? u64(h_.free[k] / s.need[k]) : 0;
        now = std::min(now, times);
        if (k != CPU) for_life = std::min(for_life, times);
      }
      d.fitting += u32(std::max(std::min<u64>(s.count, now), std::min<u64>(s.creations, for_life)));
    }
    t.commit();
    return d;
  }

  // Ends waits for demand and for the journal, everywhere: something else is to be looked at.
  void nudge() {
    for (auto* word : {&h_.demand_word, &h_.journal_word}) {
      word->fetch_add(1, std::memory_order_seq_cst);
      futex_wake(*word, 1 << 30);
    }
  }

  void wait_demand(i64 timeout_ms) {
    wait::Deadline deadline(timeout_ms);
    u32 seen = demand_seen_;
    sleep_on(h_.demand_word, h_.demand_sleepers, deadline, [&] { return h_.demand_word.load() != seen; });
    demand_seen_ = h_.demand_word.load();
  }

  // Blocks until heap memory was freed since this process last found none, or the time is over.
  void wait_room(i64 timeout_ms) {
    wait::Deadline deadline(timeout_ms);
    auto releases = [&] { return std::atomic_ref(h_.heaps[HEAP].releases).load(std::memory_order_acquire); };
    sleep_on(h_.room_word, h_.room_sleepers, deadline, [&] { return releases() != m().releases_when_full; });
    m().releases_when_full = releases();
  }

  u32 retire(u32 count) {
    Transaction t(m(), process_ && !left_ ? thread() : NIL);
    u32 asked = 0;
    for (u32 i = t.h.idle_head; i && asked < count && asked < AT_ONCE; i = m().thread(i).idle_next) {
      Process& p = m().process(m().thread(i).process);
      if (p.retire) continue;
      t.set(p.retire, 1u);
      t.wake(i);
      ++asked;
    }
    t.commit();
    return asked;
  }

  // The process that has held the mutex for so long, 0 if the mutex was to be had.
  u32 lock_holder(i64 timeout_ms) {
    {
      HostPause pause;
      int r = lock_waiting(m(), timeout_ms);
      if (r != ETIMEDOUT) {
        must_be_locked(m(), r);
        pthread_mutex_unlock(&h_.mutex);
        return 0;
      }
    }
    u32 tid = u32(h_.mutex.__data.__owner);
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%u/status", tid);
    FILE* f = fopen(path, "re");
    if (!f) return 0;
    u32 pid = 0;
    while (fgets(line, sizeof line, f))
      if (sscanf(line, "Tgid: %u", &pid) == 1) break;
    fclose(f);
    return pid;
  }

  const u8* current_parent() { return local_thread.client == serial_ ? local_thread.parent : current_parent_; }

 private:
  static constexpr size_t DROPS_AT_ONCE = 48;
  static constexpr i64 HELP_PAUSE_MS = 20;
  static constexpr i64 LOOK_UP_MS = 100;  // until it is seen that the limit has been reached since

  // At the limit of workers, with none idle: what one of these objects needs runs here, by way of the host.
  u32 take_help(u32 th, std::span<const u32> targets) {
    if (!helps_ || !worker::may_help(m(), th)) return NIL;
    Transaction t(m(), th);
    u32 chosen = NIL;
    if (help_from_) chosen = worker::find_help(t, help_from_, help_from_);
    for (u32 i = 0; i < targets.size() && i < AT_ONCE && !chosen && !help_from_; ++i)
      chosen = worker::find_help(t, targets[i], help_from_);
    if (chosen) worker::help(t, th, chosen);
    t.commit();
    return chosen;
  }

  template <typename Glance, typename Look>
  void wait_awaiting(u32 th, const wait::Deadline& deadline, std::span<const u32> targets, Glance glance, Look look) {
    Thread& me = m().thread(th);
    bool done = false;
    {
      HostPause pause;
      done = wait::spin(m(), th, glance);
    }
    wait::Outcome outcome = wait::Outcome::done;
    if (!done) {
      flush_drops();
      bool gives = me.task && me.shape && me.is_main;
      if (gives) {
        Transaction t(m(), th);
        worker::give_back_cpu(t, th);
        t.commit();
      }
      u32 helped = NIL;
      help_from_ = NIL;
      do {
        if (gives && (helped = take_help(th, targets))) {
          me.awaiting.store(0, std::memory_order_relaxed);
          throw Help{helped};
        }
        // At the limit, look for something to run again and again: nobody else might.
        bool at_limit = peek(h_.worker_count) >= h_.max_workers;
        bool may_help_later = gives && helps_;
        outcome = wait::sleep(
            m(), th, may_help_later ? deadline.at_most(at_limit ? HELP_PAUSE_MS : LOOK_UP_MS) : deadline, look);
      } while (outcome == wait::Outcome::timeout && !deadline.passed());
      if (gives) {
        Transaction t(m(), th);
        worker::retake_cpu(t, th);
        t.commit();
      }
    }
    me.awaiting.store(0, std::memory_order_relaxed);
    if (outcome == wait::Outcome::timeout) throw WaitTimeout("the time is over");
    if (outcome == wait::Outcome::interrupted) throw Interrupted("");
    if (outcome == wait::Outcome::closed) throw ArenaClosed("the session has ended");
  }
  template <typename Look>
  void wait_awaiting(u32 th, const wait::Deadline& deadline, std::span<const u32> targets, Look look) {
    wait_awaiting(th, deadline, targets, look, look);
  }

  // Sleeps on a word that many may sleep on; false when interrupted, closed or out of time.
  template <typename Done>
  bool sleep_on(std::atomic<u32>& word, std::atomic<u32>& sleepers, const wait::Deadline& deadline, Done done) {
    bool interrupted = false, ok = false;
    {
      HostPause pause;
      sleepers.fetch_add(1, std::memory_order_seq_cst);
      for (;;) {
        u32 value = word.load(std::memory_order_seq_cst);
        if ((ok = done()) || h_.shut.load() || deadline.passed()) break;
        futex_wait(word, value, deadline.slice_ns());
        if ((interrupted = pause.interrupted())) break;
      }
      sleepers.fetch_sub(1, std::memory_order_seq_cst);
    }
    if (interrupted) throw Interrupted("");
    return ok;
  }

  void close_spill_file() {
    if (spill_fd_ >= 0) close(spill_fd_);
    spill_fd_ = -1;
  }

  u8* heap_of(u32 b) { return m().heap(u64(m().block(b).offset) * GRANULE_BYTES); }

  // Where the value is in the spill file; none: it is in the heap, and now pinned.
  spill::Place pin_if_in_heap(u32 o) {
    Transaction t(m(), thread());
    if (left_) throw ArenaClosed("this process is not part of a session");
    spill::Place place = spill::place_of(m(), m().object(o));
    if (!place.block) object::pin(t, m().local(o).hold);
    t.commit();
    return place;
  }

  // Between memory and a place in the spill file; 0 or the system's error number.
  int transfer(bool out, u8* data, u64 size, u64 at) {
    int fd = spill_fd();
    if (fd < 0) return errno;
    HostPause pause;
    while (size) {
      ssize_t n = out ? pwrite(fd, data, size, off_t(at)) : pread(fd, data, size, off_t(at));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return n < 0 ? errno : EIO;
      data += n;
      at += u64(n);
      size -= u64(n);
    }
    return 0;
  }

  // The file has no name: it is opened through the process that keeps it, whose pid may be another's by now.
  int spill_fd() {
    if (spill_fd_ >= 0) return spill_fd_;
    char path[64];
    snprintf(path, sizeof path, "/proc/%u/fd/%u", h_.spill_pid, h_.spill_fd);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return fd;
    struct stat s;
    if (fstat(fd, &s) != 0 || u64(s.st_dev) != h_.spill_device || u64(s.st_ino) != h_.spill_inode) {
      close(fd);
      errno = ESTALE;
      return -1;
    }
    return spill_fd_ = fd;
  }

  void add_nested(u32 o, std::span<const u32> nested) {
    for (size_t i = 0; i < nested.size(); i += AT_ONCE) {
      Transaction t(m(), thread());
      for (u32 contained : nested.subspan(i, std::min<size_t>(AT_ONCE, nested.size() - i)))
        object::add_nested(t, o, contained);
      t.commit();
    }
  }

  void must_be_actor(u32 o) {
    if (m().object(o).state != OBJECT_ACTOR) throw KernelError("this object is not an actor");
  }

  Task& running_task(u32 th) {
    u32 i = m().thread(th).task;
    if (!i) throw KernelError("no task runs on this thread");
    return m().task(i);
  }

  bool may_end(u32 th) {
    Thread& me = m().thread(th);
    if (me.actor) return peek(m().actor(me.actor).state) == ACTOR_DEAD;
    return peek(m().process(process_).retire) != 0;
  }

  void close_lanes(u32 th) {
    while (u32 l = m().thread(th).lanes) {
      Transaction t(m(), th);
      mailbox::close_lane(t, l);
      t.commit();
    }
    local_thread.lanes.clear();
  }

  // Where ids of this task's children start from; an attempt after the first has ids of its own.
  void enter_task(const Task& task) {
    LocalThread& local = local_thread;
    memcpy(local.parent, task.id, TASK_ID_BYTES);
    if (task.attempt) task::derive_id(local.parent, task.id, 0xFFFFFu, task.attempt);
    memcpy(current_parent_, local.parent, TASK_ID_BYTES);
    local.counter = 0;
    local.ordinal = 0;
  }

  void record_event(u32 th) {
    Thread& me = m().thread(th);
    Task& task = m().task(me.task);
    u32 n = me.event_count.load(std::memory_order_relaxed);
    Event& e = m().events(th)[n % EVENTS_PER_THREAD];
    e.pid = pid_;
    e.kind = task.kind;
    e.start_ns = me.task_since_ns;
    e.end_ns = now_ns();
    e.function_key = task.function ? object::key(m(), task.function) : 0;
    memcpy(e.task_id, task.id, TASK_ID_BYTES);
    me.event_count.store(n + 1, std::memory_order_release);
  }

  u32 lane_for(Transaction& t, u32 th, u32 a, bool& opened) {
    u64 serial = m().actor(a).serial;
    auto known = local_thread.lanes.find(a);
    opened = false;
    if (known != local_thread.lanes.end() && known->second.first == serial) return known->second.second;
    opened = true;
    return mailbox::open_lane(t, a, th);
  }

  void launch(Transaction& t, u32 th, u32 i) {
    Task& task = m().task(i);
    t.set(task.pending, task.pending - 1);
    t.set(task.state, TASK_WAITING);
    if (TaskKind(task.kind) != TaskKind::actor_call) {
      if (task.pending == 0) task_may_run(t, i);
      return;
    }
    u32 a = task.actor;
    if (m().actor(a).state == ACTOR_DEAD) {
      t.set(task.flags, task.flags | u32(ACTOR_GONE));
      task::fail(t, i);
      return;
    }
    bool opened;
    u32 l = lane_for(t, th, a, opened);
    mailbox::append(t, l, i);
    if (opened) new_lane_ = l;
    if (m().lane(l).head == i && task.pending == 0) {
      mailbox::lane_ready(t, l);
      mailbox::activate(t, a);
    }
  }

  void remember_lane(u32 a) {
    if (!new_lane_) return;
    local_thread.lanes[a] = {m().actor(a).serial, new_lane_};
    new_lane_ = NIL;
  }

  // Makes a task of any kind, and for a creation the actor; returns the actor's object.
  u32 build(u32 th, const Submission& s, TaskKind kind, u32 a, u32 interval, const u8* id, std::vector<u32>& out) {
    out.assign(s.num_returns, NIL);
    size_t parts = s.num_returns + s.deps.size() + s.nested.size();
    new_lane_ = NIL;
    u32 job_number = u32(job());
    u32 i, actor_object = NIL;
    {
      Transaction t(m(), th);
      if (kind == TaskKind::actor_create) a = mailbox::create(t, id, s.function, s.shape, interval, process_);
      u32 function = a ? m().actor(a).cls : s.function;
      i = task::create(t, {kind, function, s.num_returns, s.shape, s.max_retries, job_number, a, id, s.payload,
                           s.payload_bytes, s.block});
      if (a) {
        Actor& actor = m().actor(a);
        Task& task = m().task(i);
        task.flags = COUNTS_ACTOR;
        task.shape = actor.shape;
        object::reference(t, actor.object);
        if (kind == TaskKind::actor_create) {
          t.write(actor.creation, i);
          actor_object = actor.object;
        }
      }
      if (parts <= AT_ONCE) {
        for (u32 r = s.num_returns; r > 0; --r) out[r - 1] = task::add_return(t, i, r - 1, process_, th);
        for (u32 d : s.deps) task::add_dependency(t, i, d);
        for (u32 n : s.nested) task::add_nested(t, i, n);
        launch(t, th, i);
      } else {
        t.set(m().thread(th).building, i);
      }
      t.commit();
    }
    if (actor_object) adopt(actor_object, HOLD_IN_OBJECT | actor_object);
    if (parts > AT_ONCE) build_rest(th, i, s, actor_object, out);
    if (a) remember_lane(a);
    for (u32 o : out) adopt(o, HOLD_IN_OBJECT | o);
    drain();
    return actor_object;
  }

  // What is too long for one transaction is built under the thread's ledger, and appears with its last one.
  void build_rest(u32 th, u32 i, const Submission& s, u32 actor_object, std::vector<u32>& out) {
    size_t returns_made = 0;
    auto in_pieces = [&](size_t count, auto add) {
      for (size_t k = 0; k < count;) {
        size_t end = std::min<size_t>(count, k + AT_ONCE);
        Transaction t(m(), th);
        for (; k < end; ++k) add(t, k);
        t.commit();
      }
    };
    try {
      while (returns_made < s.num_returns) {
        size_t end = std::min<size_t>(s.num_returns, returns_made + AT_ONCE);
        Transaction t(m(), th);
        for (size_t k = returns_made; k < end; ++k) {
          u32 r = s.num_returns - 1 - u32(k);
          out[r] = task::add_return(t, i, r, process_, th);
        }
        t.commit();
        returns_made = end;
      }
      in_pieces(s.deps.size(), [&](Transaction& t, size_t k) { task::add_dependency(t, i, s.deps[k]); });
      in_pieces(s.nested.size(), [&](Transaction& t, size_t k) { task::add_nested(t, i, s.nested[k]); });
      Transaction t(m(), th);
      t.set(m().thread(th).building, NIL);
      launch(t, th, i);
      t.commit();
    } catch (...) {
      {
        Transaction t(m(), th);
        process::abandon_build(t, m().thread(th), 0, pid_);
        t.commit();
      }
      for (size_t k = 0; k < returns_made; ++k) {
        Transaction t(m(), th);
        object::drop_hold(t, HOLD_IN_OBJECT | out[s.num_returns - 1 - k]);
        t.commit();
      }
      if (actor_object) drop_local(actor_object);
      drain();
      throw;
    }
  }

  // `serial` tells this process from one that got its record after another's burial of it.
  void bury_record(u32 index, u64 serial, i32 status, bool keep_pinned) {
    auto log = [&] { return index == process_ || !process_ || left_ ? u32(NIL) : thread(); };
    auto gone = [&] { return m().process(index).serial != serial || m().process(index).state == PROCESS_FREE; };
    {
      Transaction t(m(), log());
      if (gone()) return t.commit();
      t.set(m().process(index).state, keep_pinned ? PROCESS_LEFT : PROCESS_DYING);
      t.set(m().process(index).status, u32(status));
      t.commit();
    }
    for (bool done = false; !done;) {
      Transaction t(m(), log());
      done = gone() || process::bury_piece(t, index, status, keep_pinned);
      t.commit();
    }
    drain();
    Transaction t(m(), log());
    if (!gone() && !m().process(index).holds) process::free_record(t, index);
    t.commit();
  }

  void finish_leaving() {
    Transaction t(m(), NIL);
    Process& p = m().process(process_);
    if (p.state == PROCESS_LEFT && !p.holds && p.pid == pid_) process::free_record(t, process_);
    t.commit();
  }

  std::unique_ptr<Mapping> m_;
  Header& h_;
  u64 serial_ = 0;
  u32 process_ = NIL;
  u32 pid_ = 0;
  u32 forks_ = 0;
  ProcessKind kind_ = ProcessKind::driver;
  bool left_ = false;
  bool helps_ = false;
  u32 help_from_ = NIL;  // a long look for something to help with goes on from this object
  u32 next_ordinal_ = 0;
  u32 new_lane_ = NIL;
  u32 demand_seen_ = 0;
  int spill_fd_ = -1;
  std::atomic<u32> staying_{0};
  u8 root_id_[TASK_ID_BYTES] = {};
  u8 current_parent_[TASK_ID_BYTES] = {};
  std::vector<u32> drops_;
};

inline LocalThread::~LocalThread() {
  if (!client) return;
  std::lock_guard lock(live_mutex);
  auto found = live_clients.find(client);
  if (found == live_clients.end()) return;
  try {
    found->second->thread_ends(index);
  } catch (const KernelError&) {
    // The arena is gone or closed: there is nothing to give back to.
  }
}

}  // namespace ray
