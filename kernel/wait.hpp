// Sleeping until something happens, without ever relying on being woken.
//
// A waiter first spins a little, if a seat is free (seats are as many as cores, so spinners never crowd
// out work) and what it waited for lately came at once, then sleeps on its thread's own futex word in slices
// of at most 100 ms, and looks again after each.  Who is no user's thread, or a worker that has had nothing to do for a
// second, sleeps 300 ms at most: what an idle session costs is mostly such looks.
#pragma once

#include "worker.hpp"

namespace ray::wait {

inline bool is_ready(Mapping& m, u32 o) {
  return std::atomic_ref(m.object(o).published).load(std::memory_order_acquire) == OBJECT_SEALED;
}

inline u32 seats() {
  static const u32 count = [] {
    u32 n = std::thread::hardware_concurrency();
    return n < 1 ? 1 : n > SPINNERS_MAX ? SPINNERS_MAX : n;
  }();
  return count;
}

// Of one thread: whether it pays to spin before it sleeps.  Whoever is to give what it waits for may need the core.
// But two that sleep for each other wait long, each for the other to be woken, and find out only by a spin.
class Patience {
 public:
  explicit Patience(long spin_ns = SPIN_NS) : short_ns_(u64(spin_ns + WOKEN_NS)) {}
  bool spins() const { return vain_ < SPINS_IN_VAIN || vain_ % SPINS_ANYWAY == 0; }
  void waited(u64 ns) { vain_ = ns < short_ns_ ? 0 : vain_ + 1; }

 private:
  u64 short_ns_;
  u32 vain_ = 0;  // waits so far, one after the other, that a spin was too short for
};
inline thread_local Patience patience;

// Spins for a bounded time, if that pays; true as soon as `done` says so.
template <typename Done>
inline bool spin(Mapping& m, u32 thread, Done done) {
  std::atomic<u32>* seat = nullptr;
  if (!patience.spins()) return done();
  for (u32 i = 0; i < seats() && !seat; ++i) {
    u32 empty = 0;
    if (m.header().spinners[i].compare_exchange_strong(empty, thread)) seat = &m.header().spinners[i];
  }
  if (!seat) return done();
  u64 end = now_ns() + SPIN_NS;
  bool yes = false;
  do {
    for (int i = 0; i < 32 && !(yes = done()); ++i) pause_cpu();
  } while (!yes && now_ns() < end);
  seat->store(0, std::memory_order_release);
  return yes;
}

class Deadline {
 public:
  explicit Deadline(i64 timeout_ms)
      : end_(timeout_ms < 0 ? 0 : now_ns() + u64(std::min(timeout_ms, TIMEOUT_MAX_MS)) * 1'000'000ull) {}
  bool passed() const { return end_ && now_ns() >= end_; }
  // The same, or this long from now if that is sooner.
  Deadline at_most(i64 timeout_ms) const {
    Deadline sooner(timeout_ms);
    if (end_ && end_ < sooner.end_) sooner.end_ = end_;
    return sooner;
  }
  long slice_ns(long longest = SLEEP_SLICE_NS) const {
    if (!end_) return longest;
    u64 now = now_ns();
    if (now >= end_) return 0;
    return std::min(i64(end_ - now), i64(longest));
  }

 private:
  u64 end_;
};

enum class Outcome { done, timeout, interrupted, closed };

// Sleeps on this thread's word until done; `look` runs after every slice.
template <typename Done>
inline Outcome sleep(Mapping& m, u32 thread, const Deadline& deadline, Done done, long slice_ns = SLEEP_SLICE_NS) {
  Thread& me = m.thread(thread);
  HostPause pause;
  for (;;) {
    u32 value = me.word.load(std::memory_order_seq_cst);
    // SYNC POINT sleep: `sleeping` is written before the last look; a waker bumps the word first and
    // reads `sleeping` after (transaction.hpp).
    me.sleeping.store(1, std::memory_order_seq_cst);
    if (done()) {
      me.sleeping.store(0, std::memory_order_relaxed);
      return Outcome::done;
    }
    futex_wait(me.word, value, deadline.slice_ns(slice_ns));
    me.sleeping.store(0, std::memory_order_relaxed);
    if (done()) return Outcome::done;
    if (m.header().shut.load(std::memory_order_relaxed)) return Outcome::closed;
    // After every slice: a signal may have come to another thread, or between the look and the sleep.
    if (pause.interrupted()) return Outcome::interrupted;
    if (deadline.passed()) return Outcome::timeout;
  }
}

// Sees to it that this thread is told when the object gets its value.
inline void watch(Mapping& m, u32 thread, u32 i) {
  Object& o = m.object(i);
  if (std::atomic_ref(o.watcher).load(std::memory_order_relaxed) == thread) return;
  Transaction t(m, thread);
  if (o.state != OBJECT_PENDING) {
    t.commit();
    return;
  }
  if (o.watcher == NIL) {
    t.set(o.watcher, thread);
  } else if (o.watcher != thread) {
    // Once for each thread, so the list is no longer than there are threads.
    u32 w = o.watches;
    while (w && m.watch(w).thread != thread) w = m.watch(w).next;
    if (!w) {
      u32 fresh = watches(m).take(t);
      m.watch(fresh).thread = thread;
      m.watch(fresh).next = o.watches;
      t.set(o.watches, fresh);
    }
  }
  t.commit();
}

}  // namespace ray::wait
