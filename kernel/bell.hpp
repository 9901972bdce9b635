// The bridge from the arena's news to an event loop: a thread that sleeps on the futex and rings a descriptor.
//
// It rings once for each time it is armed, so that whoever has been told can look at the news in its own time, and
// nobody who makes some pays for a wake-up meanwhile.  To arm it wakes nobody: the thread sleeps on the word of the
// news all the time, and whoever makes news wakes it only while `news_sleepers` counts it.  It runs no transaction and
// holds nothing in the arena.
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
    h_.news_word.fetch_add(1, std::memory_order_seq_cst);
    futex_wake(h_.news_word, 1 << 30);
    thread_.join();
    disarm();
  }
  Bell(const Bell&) = delete;
  Bell& operator=(const Bell&) = delete;

  // Rings at once if there is something to hear; that tasks wait is nothing to hear unless `hears_queue`.
  void arm(bool hears_queue) {
    hears_queue_.store(hears_queue);
    if (!armed_.exchange(true)) h_.news_sleepers.fetch_add(1, std::memory_order_seq_cst);
    // SYNC POINT bell: `news_sleepers` is written before the look; who makes news writes it first and reads
    // `news_sleepers` after (transaction.hpp).
    if (any()) ring();
  }

 private:
  void run() {
    for (;;) {
      u32 value = h_.news_word.load(std::memory_order_seq_cst);
      if (stopped_.load()) return;
      if (armed_.load() && any()) ring();
      else futex_wait(h_.news_word, value, IDLE_SLICE_NS);
    }
  }

  // Also when the arena is shut.
  bool any() const { return h_.shut.load() || peek(h_.news_head) || (hears_queue_.load() && peek(h_.queued)); }

  // By whichever of the two threads is first.
  void ring() {
    u64 one = 1;
    if (!disarm()) return;
    while (write(fd_, &one, sizeof one) < 0 && errno == EINTR) continue;
  }

  bool disarm() {
    if (!armed_.exchange(false)) return false;
    h_.news_sleepers.fetch_sub(1, std::memory_order_seq_cst);
    return true;
  }

  Header& h_;
  const int fd_;
  std::atomic<bool> stopped_{false};
  std::atomic<bool> armed_{false};
  std::atomic<bool> hears_queue_{true};
  std::thread thread_;  // last: it uses the others
};

}  // namespace ray
