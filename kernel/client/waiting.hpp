// Blocking until objects have values, or until something else has happened.
#pragma once

#include "client.hpp"

namespace ray {

inline void Client::wait_for(u32 o, const wait::Deadline& deadline) {
  if (ready(o)) return;
  must_be_open();
  u32 th = thread();
  Thread& me = m().thread(th);
  wait::watch(m(), th, o);
  // SYNC POINT await: written before the state is read again (transaction.hpp).
  me.awaiting.store(o, std::memory_order_seq_cst);
  want({&o, 1});
  wait_awaiting(th, deadline, {&o, 1}, [&] { return ready(o); });
}

inline void Client::wait_all(std::span<const u32> list, const wait::Deadline& deadline) {
  size_t last = list.size();
  size_t known_good = 0;
  bool wanted = false;  // all of them are, at once
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
    want(wanted ? std::span<const u32>{&o, 1} : list);
    wanted = true;
    bool failed = false;
    auto look = [&] {
      if (ready(o)) return true;
      while (known_good < list.size() && ready(list[known_good])) {
        if (m().object(value_of(list[known_good])).format >= FORMAT_ERROR) return failed = true;
        ++known_good;
      }
      return false;
    };
    if (look()) {
      me.awaiting.store(0, std::memory_order_relaxed);
      if (failed) return;
      continue;
    }
    // Spinning looks at the last one only; the prefix is looked at between sleeps.  Help goes to the first one
    // first: a failure there ends the wait.  All may have got their values since `o` was looked at.
    const u32 targets[] = {list[std::min(known_good, last - 1)], o};
    wait_awaiting(th, deadline, targets, [&] { return ready(o); }, look);
    if (failed) return;
  }
}

inline std::vector<bool> Client::wait_some(std::span<const u32> list, size_t wanted, const wait::Deadline& deadline) {
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
  want(pending);
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

template <typename Glance, typename Look>
inline void Client::wait_awaiting(u32 th, const wait::Deadline& deadline, std::span<const u32> targets, Glance glance,
                                  Look look) {
  Thread& me = m().thread(th);
  bool done = false, stands = false;
  u64 began = now_ns();
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
    Standstill standstill;
    do {
      if (gives && (helped = take_help(th, targets))) {
        me.awaiting.store(0, std::memory_order_relaxed);
        throw Help{helped};
      }
      // At the limit, look for something to run again and again: nobody else might.
      bool at_limit = peek(h_.worker_count) >= h_.max_workers;
      bool may_help_later = gives && helps_;
      if (may_help_later && at_limit && stuck(th, targets, standstill)) {
        stands = true;
        break;
      }
      outcome = wait::sleep(m(), th,
                            may_help_later ? deadline.at_most(at_limit ? HELP_PAUSE_MS : LOOK_UP_MS) : deadline, look);
    } while (outcome == wait::Outcome::timeout && !deadline.passed());
    if (gives) {
      Transaction t(m(), th);
      worker::retake_cpu(t, th);
      t.commit();
    }
  }
  me.awaiting.store(0, std::memory_order_relaxed);
  wait::patience.waited(now_ns() - began);
  if (stands) throw NoWorkerLeft(h_.max_workers);
  if (outcome == wait::Outcome::timeout) throw WaitTimeout("the time is over");
  if (outcome == wait::Outcome::interrupted) throw Interrupted("");
  if (outcome == wait::Outcome::closed) throw ArenaClosed("the session has ended");
}

template <typename Look>
inline void Client::wait_awaiting(u32 th, const wait::Deadline& deadline, std::span<const u32> targets, Look look) {
  wait_awaiting(th, deadline, targets, look, look);
}

// Sleeps on a word that many may sleep on; false when interrupted, closed or out of time.
template <typename Done>
inline bool Client::sleep_on(std::atomic<u32>& word, std::atomic<u32>& sleepers, const wait::Deadline& deadline,
                             Done done, long slice_ns) {
  bool interrupted = false, ok = false;
  {
    HostPause pause;
    sleepers.fetch_add(1, std::memory_order_seq_cst);
    for (;;) {
      u32 value = word.load(std::memory_order_seq_cst);
      if ((ok = done()) || h_.shut.load() || deadline.passed()) break;
      futex_wait(word, value, deadline.slice_ns(slice_ns));
      if ((interrupted = pause.interrupted())) break;
    }
    sleepers.fetch_sub(1, std::memory_order_seq_cst);
  }
  if (interrupted) throw Interrupted("");
  return ok;
}

inline void Client::wait_room(i64 timeout_ms) {
  wait::Deadline deadline(timeout_ms);
  auto releases = [&] { return std::atomic_ref(h_.heaps[HEAP].releases).load(std::memory_order_acquire); };
  sleep_on(h_.room_word, h_.room_sleepers, deadline, [&] { return releases() != m().releases_when_full; });
  m().releases_when_full = releases();
}

}  // namespace ray
