// What the processes of a test share beside the arena, and how they are started and awaited.
#pragma once

#include "check.hpp"
#include "client.hpp"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <sys/prctl.h>
#include <sys/wait.h>

namespace ray::testing {

inline bool short_form() {
  const char* s = getenv("RAY_CHECK_SHORT");
  return s && *s && *s != '0';
}

// SplitMix64: small, and the same on every machine.
class Random {
 public:
  explicit Random(u64 seed) : state_(seed) {}
  u64 next() { return task::mix(state_ += 0x9E3779B97F4A7C15ull); }
  u32 below(u32 n) { return u32(next() % n); }
  bool coin() { return next() & 1; }

 private:
  u64 state_;
};

// The seed of this run: RAY_SEED, or a new one; printed, so that a failure can be had again.
inline u64 run_seed(const char* test) {
  const char* given = getenv("RAY_SEED");
  u64 seed = given ? strtoull(given, nullptr, 10) : now_ns() % 1'000'000'007;
  printf("%s: RAY_SEED=%llu\n", test, static_cast<unsigned long long>(seed));
  fflush(stdout);
  return seed;
}

inline constexpr u32 TAGS = 16384;
inline constexpr u32 GATES = 16;
inline constexpr u32 SITES = 512;  // places in the kernel that make undo records

// A place in the kernel's sources that makes undo records, and how many it made.
struct Site {
  char file[64];
  u32 line;
  u32 times;
};

// Shared by all processes of a test.  A tag names one task that a test has made.
struct Board {
  std::atomic<u32> changes;
  std::atomic<u32> runs[TAGS];
  std::atomic<u32> returned[TAGS];  // the call that made the task came back
  std::atomic<u32> gates[GATES];    // tasks wait at these until they are opened
  std::atomic<u32> at_gate[GATES];
  std::atomic<u32> stage;
  std::atomic<u32> unseen_attempts;  // so often a process may die between taking a task and beginning it
  std::atomic<u32> steps, undo_most, finished, rounds;
  std::atomic<u32> kills, recovery_kills;
  std::atomic<i64> killed_at, recovery_killed_at;
  std::atomic<u32> site_count;
  Site sites[SITES];
  u8 id[8][ID_BYTES];  // from a child to its parent
  std::atomic<u32> trouble;
  char text[1024];

  void tell() {
    changes.fetch_add(1);
    futex_wake(changes, 1 << 30);
  }
  void at(u32 number) {
    stage.store(number);
    tell();
  }
  template <typename Condition>
  void until(Condition condition) {
    for (;;) {
      u32 seen = changes.load();
      if (condition()) return;
      futex_wait(changes, seen, 200'000);
    }
  }
  void complain(const char* format, ...) __attribute__((format(printf, 2, 3))) {
    if (trouble.fetch_add(1)) return;
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
  }
  void clear() {
    for (u32 i = 0; i < TAGS; ++i) runs[i] = returned[i] = 0;
    for (u32 i = 0; i < GATES; ++i) gates[i] = at_gate[i] = 0;
    stage = 0;
    unseen_attempts = 1;
    finished = 0;
  }
};

inline Board* make_board() {
  void* p = mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) abort();
  return static_cast<Board*>(p);
}

// A child that ends with its parent; 0 if `work` came to its end, 3 if it threw.
template <typename Work>
pid_t start(Work work) {
  fflush(nullptr);
  pid_t parent = getpid();
  pid_t pid = fork();
  if (pid < 0) {
    perror("fork");
    abort();
  }
  if (pid > 0) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(4);
  int code = 3;
  try {
    work();
    code = 0;
  } catch (const ArenaClosed&) {
    code = 0;
  } catch (const std::exception& e) {
    fprintf(stderr, "process %d: %s\n", getpid(), e.what());
  }
  fflush(nullptr);
  _exit(code);
}

inline int await(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

// Stops a child anywhere but inside a transaction.
inline void stop(Mapping& m, pid_t pid) {
  for (;;) {
    kill(pid, SIGSTOP);
    siginfo_t info;
    waitid(P_PID, id_t(pid), &info, WSTOPPED | WNOWAIT);
    if (int r = lock_waiting(m, 50); r != ETIMEDOUT) {
      must_be_locked(m, r);
      pthread_mutex_unlock(&m.header().mutex);
      return;
    }
    kill(pid, SIGCONT);
  }
}

inline void kill_and_reap(pid_t pid) {
  kill(pid, SIGKILL);
  await(pid);
}

}  // namespace ray::testing
