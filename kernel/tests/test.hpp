// A test and what it says. All tests of a build are one program: the kernel, which is headers, is compiled once in it.
#pragma once

#include "board.hpp"

#include <mutex>

namespace ray::testing {

inline constexpr int SKIPPED = 77;  // the exit status of a test that has nothing to do

// Registers the test of a source file; `run` gives the exit status of its process, which runs nothing else.
struct Test {
  const char* name;
  int (*run)(const char* pattern);  // what of the test is to be run; nullptr: all

  Test(const char* name, int (*run)(const char* pattern)) : name(name), run(run) { all().push_back(this); }
  Test(const Test&) = delete;
  static std::vector<const Test*>& all() {
    static std::vector<const Test*> list;
    return list;
  }
};

// --- expectations --------------------------------------------------------------------------------------

inline constexpr u32 SHOWN_MOST = 20;
inline u32 failures = 0;

inline void expect(bool truth, const char* format, ...) __attribute__((format(printf, 2, 3)));
inline void expect(bool truth, const char* format, ...) {
  if (truth || ++failures > SHOWN_MOST) return;
  va_list list;
  va_start(list, format);
  printf("FAILED: ");
  vprintf(format, list);
  printf(failures == SHOWN_MOST ? "\nof more failures only the number is shown\n" : "\n");
  va_end(list);
}

inline void expect_whole(Mapping& m, const char* when) {
  for (const std::string& problem : check(m)) expect(false, "%s: %s", when, problem.c_str());
}

// The exit status of a test that has come to its end.
inline int result(const char* test) {
  printf("%s: %u failed\n", test, failures);
  return failures ? 1 : 0;
}

// --- a lock like the interpreter's ---------------------------------------------------------------------

// The kernel lets go of it for every sleep while one of these lives.
class HostLock {
 public:
  HostLock() {
    host.leave = []() -> void* {
      if (!held_) return nullptr;
      let_go();
      return &lock_;
    };
    host.enter = [](void*) { take(); };
  }
  HostLock(const HostLock&) = delete;
  ~HostLock() { host = Host{}; }

  static void take() {
    lock_.lock();
    held_ = true;
  }
  static void let_go() {
    held_ = false;
    lock_.unlock();
  }

 private:
  static inline std::mutex lock_;
  static inline thread_local bool held_ = false;
};

}  // namespace ray::testing
