// A change of the arena that happens whole or not at all, whatever instruction its process dies at.
//
// Invariants
//   1. `header.holder` names the thread whose log the owner of the mutex writes; every other log is empty.
//   2. A field is changed only after its old content is in the log (entry, then count, then field).
//   3. `committed` is the one store that decides: before it the next owner undoes, after it it publishes.
//   4. Words that others read without the mutex change only after `committed`.
//
// The order of stores is kept by compiler fences alone: a killed process's stores reach memory in program
// order as far as anyone can tell who takes the mutex after its death (robust futexes: futex(2),
// get_robust_list(2)).
#pragma once

#include "arena.hpp"
#include "crash.hpp"

#include <array>
#include <signal.h>
#include <type_traits>

namespace ray {

// A word that others change under the mutex, looked at without it: a hint, to be looked at again with it.
inline u32 peek(const u32& field) { return std::atomic_ref(const_cast<u32&>(field)).load(std::memory_order_relaxed); }

inline void compiler_fence() { std::atomic_signal_fence(std::memory_order_seq_cst); }

inline void clear_log(Thread& log) {
  // The lists go before `committed`: a committed transaction must never look like an uncommitted one.
  log.undo_count = 0;
  log.publish_count = 0;
  compiler_fence();
  crash::point();
  log.committed = 0;
  compiler_fence();
}

inline void publish_all(Mapping& m, Thread& log) {
  for (u32 i = 0; i < log.publish_count; ++i) {
    Object& o = m.object(log.publish[i]);
    std::atomic_ref(o.published).store(o.state, std::memory_order_release);
    crash::point();
  }
}

inline void undo_all(Mapping& m, Thread& log) {
  for (u32 i = log.undo_count; i > 0; --i) {
    const Undo& u = log.undo[i - 1];
    u8* field = m.base() + (u.where >> 1);
    if (u.where & 1) *reinterpret_cast<u64*>(field) = u.old;
    else *reinterpret_cast<u32*>(field) = u32(u.old);
    compiler_fence();
    crash::point();
  }
}

// What the owner of the mutex finds when the one before it died.
inline void recover(Mapping& m) {
  Header& h = m.header();
  Thread& log = m.thread(h.holder);
  h.recoveries += 1;
  if (log.committed) publish_all(m, log);
  else undo_all(m, log);
  clear_log(log);
  crash::point();
}

// A few tries; EBUSY if others kept it.
inline int try_mutex(Mapping& m) {
  pthread_mutex_t* mutex = &m.header().mutex;
  int r = pthread_mutex_trylock(mutex);
  for (int i = 0; r == EBUSY && i < 100; ++i) {
    for (int j = 0; j < 8; ++j) pause_cpu();
    r = pthread_mutex_trylock(mutex);
  }
  return r;
}

// Waits for it; ETIMEDOUT when it was not to be had within the time (-1: no limit).
//
// In slices: a waiter that is woken and killed takes its wake-up along, if somebody else has the mutex by then, who
// does not know that there are more.  They look again after a slice, which is within what is promised of a dead owner's
// mutex.
//
// Who must have it tells an owner that has kept it for very long to go on, in case it was stopped (signal(7)).
// The node manager does so sooner, and can do more; but it may be the owner, or be stopped as well.
inline int lock_waiting(Mapping& m, long timeout_ms) {
  pthread_mutex_t* mutex = &m.header().mutex;
  u64 began = now_ns();
  u64 deadline = began + u64(timeout_ms) * 1'000'000ull;
  for (;;) {
    timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    long slice = LOCK_SLICE_NS;
    if (timeout_ms >= 0) {
      i64 left = i64(deadline) - i64(now_ns());
      if (left < slice) slice = left > 0 ? left : 0;
    }
    until.tv_nsec += slice;
    until.tv_sec += until.tv_nsec / 1'000'000'000;
    until.tv_nsec %= 1'000'000'000;
    int r = pthread_mutex_timedlock(mutex, &until);
    if (r != ETIMEDOUT || (timeout_ms >= 0 && now_ns() >= deadline)) return r;
    int owner = mutex->__data.__owner;  // a thread's id, which kill(2) takes for its process's
    if (timeout_ms < 0 && owner > 0 && now_ns() - began >= OWNER_STOPPED_NS) kill(owner, SIGCONT);
  }
}

// After a lock call: puts right what a dead owner left.
inline void must_be_locked(Mapping& m, int r) {
  if (r == EOWNERDEAD) {
    recover(m);
    pthread_mutex_consistent(&m.header().mutex);
    r = 0;
  }
  if (r != 0) throw ArenaCorrupt(std::string("the arena's mutex can't be taken: ") + strerror(r));
  crash::point();
}

// Takes the mutex.  The host's lock is let go while waiting, and never waited for with the mutex in hand: one
// busy thread of this process must not hold up the node.
inline void take_mutex(Mapping& m) {
  int r = try_mutex(m);
  for (int i = 0; r == EBUSY; ++i) {
    if (i == LOCK_ATTEMPTS || !host.leave) {
      r = lock_waiting(m, -1);
      break;
    }
    HostPause pause;
    must_be_locked(m, lock_waiting(m, -1));
    pthread_mutex_unlock(&m.header().mutex);
    pause.resume();
    r = try_mutex(m);
  }
  must_be_locked(m, r);
}

struct Wake {
  u32 thread;
  u32 object;  // that got a value; 0: the thread has something else to look at
};

class Transaction {
 public:
  // `thread` owns the log; 0 is the log of those that have no thread record yet.
  Transaction(Mapping& mapping, u32 thread) : m(mapping), h(mapping.header()), log_(mapping.thread(thread)) {
    take_mutex(m);
    begin(thread);
  }
  struct AlreadyLocked {};
  Transaction(Mapping& mapping, u32 thread, AlreadyLocked)
      : m(mapping), h(mapping.header()), log_(mapping.thread(thread)) {
    begin(thread);
  }

  ~Transaction() {
    if (done_) return;
    undo_all(m, log_);
    clear_log(log_);
    pthread_mutex_unlock(&h.mutex);
  }
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  template <typename T>
  void set(T& field, std::type_identity_t<T> value, const std::source_location site = std::source_location::current()) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8);
    static_assert(std::is_trivially_copyable_v<T>);
    if (!crash::skips_undo(site)) {
      u32 n = log_.undo_count;
      if (n >= UNDO_MAX) throw KernelError("a transaction is longer than its log: this is a bug in the kernel");
      u64 old = 0;
      memcpy(&old, &field, sizeof(T));
      log_.undo[n] = Undo{u64(reinterpret_cast<u8*>(&field) - m.base()) << 1 | (sizeof(T) == 8), old};
      compiler_fence();
      log_.undo_count = n + 1;
      compiler_fence();
    }
    crash::point();
    std::atomic_ref(field).store(value, std::memory_order_relaxed);
    crash::point();
  }

  // For a field that means nothing if this transaction is undone, whatever it holds: of a record that nothing
  // refers to yet, a link of one that was in no list when the transaction began, a count that need not be exact.
  template <typename T>
  void write(T& field, std::type_identity_t<T> value) {
    std::atomic_ref(field).store(value, std::memory_order_relaxed);
    crash::point();
  }

  void publish(u32 object) {
    if (log_.publish_count >= PUBLISH_MAX)
      throw KernelError("a transaction publishes too much: this is a bug in the kernel");
    log_.publish[log_.publish_count] = object;
    compiler_fence();
    log_.publish_count += 1;
    compiler_fence();
    crash::point();
  }

  void wake(u32 thread, u32 object = 0) {
    if (wake_count_ < wakes_.size()) wakes_[wake_count_++] = Wake{thread, object};
  }
  bool has_room_for_wakes(u32 count) const { return wake_count_ + count <= wakes_.size(); }
  void ask_for_workers() { demand_ = true; }
  void tell_journal() { journal_ = true; }
  void tell_room() { room_ = true; }
  void tell_news() { news_ = true; }

  void commit() {
    compiler_fence();
    crash::point();
    log_.committed = 1;
    compiler_fence();
    crash::point();
    publish_all(m, log_);
    clear_log(log_);
    done_ = true;
    pthread_mutex_unlock(&h.mutex);
    crash::point();
    after();
  }

  u32 undo_count() const { return log_.undo_count; }

  Mapping& m;
  Header& h;

  // Memory given back in a transaction may be handed out only by a later one: until this one commits,
  // undoing it must find what was there.
  bool gave_memory = false;

 private:
  void begin(u32 thread) {
    h.holder = thread;
    compiler_fence();
    crash::point();
  }

  static void bump(std::atomic<u32>& word, std::atomic<u32>& sleepers) {
    word.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers.load(std::memory_order_seq_cst)) futex_wake(word, 1 << 30);
  }

  void after() {
    // SYNC POINT await: the states above were published before `awaiting` is read here; the waiter
    // writes `awaiting` before it reads the state (wait.hpp).
    if (wake_count_) std::atomic_thread_fence(std::memory_order_seq_cst);
    for (u32 i = 0; i < wake_count_; ++i) {
      Thread& t = m.thread(wakes_[i].thread);
      if (u32 object = wakes_[i].object) {
        u32 awaiting = t.awaiting.load(std::memory_order_relaxed);
        if (awaiting != object && !(awaiting == AWAITS_ANY && t.needed.fetch_sub(1) <= 1)) continue;
      }
      t.word.fetch_add(1, std::memory_order_seq_cst);
      if (t.sleeping.load(std::memory_order_seq_cst)) futex_wake(t.word, 1);
      crash::point();
    }
    if (demand_) bump(h.demand_word, h.demand_sleepers);
    if (journal_) bump(h.journal_word, h.journal_sleepers);
    if (room_) bump(h.room_word, h.room_sleepers);
    if (news_) bump(h.news_word, h.news_sleepers);
  }

  Thread& log_;
  bool done_ = false;
  bool demand_ = false, journal_ = false, room_ = false, news_ = false;
  u32 wake_count_ = 0;
  std::array<Wake, WAKES_MAX> wakes_;
};

// Tables of records.
template <typename Record>
struct Table {
  Pool& pool;
  const char* name;
  Mapping& m;

  Record& operator[](u32 i) { return reinterpret_cast<Record*>(m.base() + pool.offset)[i]; }

  bool has_room() const { return pool.free_head != NIL || pool.high_water + 1 < pool.capacity; }

  u32 take(Transaction& t) {
    u32 i = pool.free_head;
    if (i != NIL) {
      t.set(pool.free_head, (*this)[i].free_next);
    } else {
      i = pool.high_water + 1;
      if (i >= pool.capacity) throw TableFull(name, pool.capacity - 1);
      m.reserve_record(pool, i, sizeof(Record));
      t.set(pool.high_water, i);
    }
    t.set(pool.used, pool.used + 1);
    return i;
  }

  // Give after every take of the same transaction: what is given may not be written over before commit.
  void give(Transaction& t, u32 i) {
    t.set((*this)[i].free_next, pool.free_head);
    t.set(pool.free_head, i);
    t.set(pool.used, pool.used - 1);
  }
};

inline Table<Object> objects(Mapping& m) { return {m.header().objects, "objects", m}; }
inline Table<Task> tasks(Mapping& m) { return {m.header().tasks, "tasks", m}; }
inline Table<Edge> edges(Mapping& m) { return {m.header().edges, "links between tasks and objects", m}; }
inline Table<PooledHold> holds(Mapping& m) { return {m.header().holds, "references", m}; }
inline Table<Loan> loans(Mapping& m) { return {m.header().loans, "ids that nodes have lent each other", m}; }
inline Table<Watch> watches(Mapping& m) { return {m.header().watches, "watches", m}; }
inline Table<Block> blocks(Mapping& m) { return {m.header().blocks, "heap blocks", m}; }
inline Table<Actor> actors(Mapping& m) { return {m.header().actors, "actors", m}; }
inline Table<Lane> lanes(Mapping& m) { return {m.header().lanes, "actor callers", m}; }
inline Table<Process> processes(Mapping& m) { return {m.header().processes, "processes", m}; }
inline Table<Thread> threads(Mapping& m) { return {m.header().threads, "threads", m}; }

}  // namespace ray
