// The bridge from the arena's news to an event loop.  It runs no transaction and holds nothing in the arena.
#pragma once

#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <thread>

#include "transaction.hpp"
#include "wait.hpp"

namespace ray {

// Whether somebody who listens should look at the arena: there is news, or it is shut.
inline bool is_stirred(const Header& h, bool hears_queue) {
  return h.shut.load() || peek(h.news_head) || (hears_queue && peek(h.queued));
}

// Lets others run that wait for this core, unless that takes long: who computes keeps it for milliseconds.  Then it
// rests, for longer each time that it was no better after that.
class Courtesy {
 public:
  // Whether they could.
  bool give_way() {
    u64 begun = now_ns();
    if (begun < again_) return false;
    sched_yield();
    u64 end = now_ns();
    if (end - begun < u64(WAY_NS)) return true;
    rest_ns_ = end - again_ > 4 * rest_ns_ ? u64(REST_NS) : std::min(2 * rest_ns_, u64(REST_MAX_NS));
    again_ = end + rest_ns_;
    return false;
  }

 private:
  u64 again_ = 0, rest_ns_ = 0;
};

// For any event loop: a thread that sleeps on the futex and rings a descriptor.
//
// It rings once for each time it is armed, so that whoever has been told can look at the news in its own time, and
// nobody who makes some pays for a wake-up meanwhile.  To arm it wakes nobody: the thread sleeps on the word of the
// news all the time, and whoever makes news wakes it only while `news_sleepers` counts it: it should be armed only
// while somebody sleeps who is to be told.
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

  // False: it was not armed, or has rung.
  bool disarm() {
    if (!armed_.exchange(false)) return false;
    h_.news_sleepers.fetch_sub(1, std::memory_order_seq_cst);
    return true;
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

  bool any() const { return is_stirred(h_, hears_queue_.load()); }

  // By whichever of the two threads is first.
  void ring() {
    u64 one = 1;
    if (!disarm()) return;
    while (write(fd_, &one, sizeof one) < 0 && errno == EINTR) continue;
  }

  Header& h_;
  const int fd_;
  std::atomic<bool> stopped_{false};
  std::atomic<bool> armed_{false};
  std::atomic<bool> hears_queue_{true};
  std::thread thread_;  // last: it uses the others
};

// For an event loop that lets this sleep for it, for its descriptors and for the news at once.
//
// While both came soon lately, it first looks for them, and others run between two looks: to be woken takes longer than
// most of what node managers wait for one call to another node.  Used by the thread that makes it.
class Ears {
 public:
  // `fd` is one that can be read when a descriptor of the loop's can (an epoll's).
  Ears(Mapping& m, int fd) : h_(m.header()), fd_(fd), rung_(new_eventfd()), bell_(m, rung_.fd()) {}

  struct Heard {
    bool news = false, descriptor = false;
    bool any() const { return news || descriptor; }
  };
  // Neither: a signal, the end of the time, or of a slice of it.
  Heard sleep(const wait::Deadline& deadline, bool hears_queue) {
    HostPause pause;
    u64 begun = now_ns();
    Heard heard;
    if (patience_.spins()) heard = look(deadline, hears_queue);
    if (!heard.any()) heard = sleep_armed(deadline, hears_queue);
    patience_.waited(now_ns() - begun);
    return heard;
  }

  // Whoever was just given what it waited for may have run; not, if such has taken long.
  bool give_way() { return courtesy_.give_way(); }

 private:
  static File new_eventfd() {
    File file(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (!file) throw SystemFailed("eventfd", errno);
    return file;
  }

  Heard look(const wait::Deadline& deadline, bool hears_queue) {
    Heard heard;
    u64 end = now_ns() + u64(EARS_SPIN_NS);
    do {
      heard.news = is_stirred(h_, hears_queue);
      heard.descriptor = can_read();
    } while (!heard.any() && now_ns() < end && !deadline.passed() && courtesy_.give_way());
    return heard;
  }

  Heard sleep_armed(const wait::Deadline& deadline, bool hears_queue) {
    pollfd both[] = {{fd_, POLLIN, 0}, {rung_.fd(), POLLIN, 0}};
    bell_.arm(hears_queue);
    long slice_ns = deadline.slice_ns(IDLE_SLICE_NS);
    timespec slice{slice_ns / 1'000'000'000, slice_ns % 1'000'000'000};
    ppoll(both, 2, &slice, nullptr);
    u64 times;
    if (!bell_.disarm()) [[maybe_unused]]
      ssize_t taken = read(rung_.fd(), &times, sizeof times);
    return {is_stirred(h_, hears_queue), both[0].revents != 0};
  }

  bool can_read() const {
    pollfd descriptor{fd_, POLLIN, 0};
    return poll(&descriptor, 1, 0) > 0;
  }

  Header& h_;
  const int fd_;
  File rung_;
  Bell bell_;
  wait::Patience patience_{EARS_SPIN_NS};
  Courtesy courtesy_;
};

}  // namespace ray
