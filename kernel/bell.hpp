// The bridge from the arena's news to an event loop: a thread that sleeps on the futex and rings a descriptor.
//
// It rings once for each time it is armed, so that whoever has been told can look at the news in its own time, and
// nobody who makes some pays for a wake-up meanwhile.  It runs no transaction and holds nothing in the arena.
#pragma once

#include <unistd.h>

#include <thread>

#include "transaction.hpp"

namespace ray {

class Bell {
 public:
  // `fd` is an eventfd of the caller's, who keeps it open as long as the bell is there.
  Bell(Mapping& m, int fd) : h_(m.header()), fd_(fd), thread_([this] { run(); }) {}
  ~Bell() {
    stopped_.store(true);
    for (auto* word : {&armed_, &h_.news_word}) {
      word->fetch_add(1, std::memory_order_seq_cst);
      futex_wake(*word, 1 << 30);
    }
    thread_.join();
  }
  Bell(const Bell&) = delete;
  Bell& operator=(const Bell&) = delete;

  void arm() {
    armed_.fetch_add(1, std::memory_order_seq_cst);
    futex_wake(armed_, 1);
  }

 private:
  void run() {
    u32 seen = 0;
    while (!stopped_.load()) {
      u32 armed = armed_.load(std::memory_order_seq_cst);
      if (armed == seen) {
        futex_wait(armed_, armed, IDLE_SLICE_NS);
        continue;
      }
      seen = armed;
      wait_for_news();
      u64 one = 1;
      while (write(fd_, &one, sizeof one) < 0 && errno == EINTR) continue;
    }
  }

  // Also when the arena is shut.
  void wait_for_news() {
    h_.news_sleepers.fetch_add(1, std::memory_order_seq_cst);
    for (;;) {
      u32 value = h_.news_word.load(std::memory_order_seq_cst);
      if (stopped_.load() || h_.shut.load() || peek(h_.news_head) || peek(h_.queued)) break;
      futex_wait(h_.news_word, value, IDLE_SLICE_NS);
    }
    h_.news_sleepers.fetch_sub(1, std::memory_order_seq_cst);
  }

  Header& h_;
  const int fd_;
  std::atomic<bool> stopped_{false};
  std::atomic<u32> armed_{0};
  std::thread thread_;  // last: it uses the others
};

}  // namespace ray
