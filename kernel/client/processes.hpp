// Joining a session and leaving it: processes, their threads, burials.
#pragma once

#include "stopping.hpp"

namespace ray {

inline Client::Client(Mapping* mapping) : m_(mapping), h_(mapping->header()) {
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

inline Client::~Client() {
  std::lock_guard lock(live_mutex);
  live_clients.erase(serial_);
}

inline void Client::enter(ProcessKind kind, const u8* root_id) {
  u32 pid = u32(getpid());
  if (process_ && pid == pid_) throw KernelError("this process has joined the arena already");
  if (process_) {  // forked: nothing of the parent's is ours
    m().forget_local();
    drops_.clear();
    spill_file_.close();
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

inline u64 Client::job() {
  if (kind_ != ProcessKind::worker) return m().process(process_).job;
  if (u32 running = m().thread(thread()).task) return m().task(running).job;
  return maker();  // a thread that the user's code has started
}

// The job of what this process begins: its actor's, whoever calls that, or that of the task that it runs.
inline u32 Client::maker() {
  if (kind_ != ProcessKind::worker) return m().process(process_).job;
  Thread& me = m().thread(thread());
  u32 x = me.is_main ? thread() : stopping::main_thread(m(), m().process(process_));
  if (!x) return 0;
  if (u32 a = m().thread(x).actor) return m().actor(a).job;
  u32 running = me.task ? me.task : m().thread(x).task;
  return running ? m().task(running).job : 0;
}

inline void Client::must_be_open() {
  if (forks_ != forks.load(std::memory_order_relaxed)) {
    if (u32(getpid()) != pid_) throw Forked("this process was forked from one that uses Ray");
    forks_ = forks.load();
  }
  if (!process_ || left_) throw ArenaClosed("this process is not part of a session");
  if (h_.shut.load(std::memory_order_relaxed)) throw ArenaClosed("the session has ended");
}

inline u32 Client::thread() {
  LocalThread& local = local_thread;
  if (local.client == serial_ || local.turn_to(serial_)) return local.index;
  {
    std::lock_guard lock(live_mutex);
    std::erase_if(local.others, [](const CallerState& state) { return !live_clients.count(state.client); });
  }
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

inline void Client::thread_ends(u32 index) {
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

inline void Client::leave() {
  if (!joined() || forked()) return;
  left_ = true;
  drops_.clear();
  while (u32 n = staying_.load()) {
    HostPause pause;
    futex_wait(staying_, n, SLEEP_SLICE_NS);
  }
  spill_file_.close();
  bury_record(process_, m().process(process_).serial, 0, true);
}

inline void Client::finish_leaving() {
  Transaction t(m(), NIL);
  Process& p = m().process(process_);
  if (p.state == PROCESS_LEFT && !p.holds && p.pid == pid_) process::free_record(t, process_);
  t.commit();
}

inline bool Client::bury(u32 pid, i32 status) {
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

// `serial` tells this process from one that got its record after another's burial of it.
inline void Client::bury_record(u32 index, u64 serial, i32 status, bool keep_pinned) {
  auto log = [&] { return index == process_ || !process_ || left_ ? u32(NIL) : thread(); };
  auto gone = [&] { return m().process(index).serial != serial || m().process(index).state == PROCESS_FREE; };
  {
    Transaction t(m(), log());
    if (gone()) return t.commit();
    const Process& p = m().process(index);
    if (p.state == PROCESS_ALIVE && p.job) t.set(h_.jobs_ended, h_.jobs_ended + 1);
    t.set(m().process(index).state, keep_pinned ? PROCESS_LEFT : PROCESS_DYING);
    t.set(m().process(index).status, u32(status));
    t.commit();
  }
  process::Burial burial{index, status, keep_pinned};
  for (bool done = false; !done;) {
    Transaction t(m(), log());
    done = gone() || process::bury_piece(t, burial);
    t.commit();
  }
  drain();
  Transaction t(m(), log());
  if (!gone() && !m().process(index).holds) process::free_record(t, index);
  t.commit();
}

inline void Client::shut() {
  h_.shut.store(1);
  for (u32 i = 1; i <= h_.threads.high_water; ++i) {
    m().thread(i).word.fetch_add(1);
    futex_wake(m().thread(i).word, 1);
  }
  for (auto* word : {&h_.demand_word, &h_.journal_word, &h_.news_word, &h_.room_word}) {
    word->fetch_add(1);
    futex_wake(*word, 1 << 30);
  }
}

inline LocalThread::~LocalThread() {
  if (client) others.push_back(std::move(static_cast<CallerState&>(*this)));
  std::lock_guard lock(live_mutex);
  for (const CallerState& state : others) {
    auto found = live_clients.find(state.client);
    if (found == live_clients.end()) continue;
    try {
      found->second->thread_ends(state.index);
    } catch (const KernelError&) {
      // The arena is gone or closed: there is nothing to give back to.
    }
  }
}

}  // namespace ray
