// A sleep for two things at once, a word of memory that others change and a descriptor: io_uring, since Linux 6.7.
//
// Where the system has none of it, or does not let this program use it (containers often don't), `Uring::make` says so
// and a thread has to sleep for the word (bell.hpp).
#pragma once

#include "system.hpp"

#include <array>
#include <memory>

#if __has_include(<linux/io_uring.h>)
#include <linux/io_uring.h>
#include <poll.h>
#include <sys/mman.h>
#endif

namespace ray {

#if defined(IORING_SETUP_DEFER_TASKRUN)

// Used by the thread that has made it, and by no other.
class Uring {
 public:
  // Null: not here.
  static std::unique_ptr<Uring> make() {
    io_uring_params p{};
    p.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    int fd = int(syscall(__NR_io_uring_setup, ENTRIES, &p));
    if (fd < 0) return nullptr;
    std::unique_ptr<Uring> made(new Uring(fd, p));
    return made->is_mapped() && made->has_futexes() ? std::move(made) : nullptr;
  }
  ~Uring() {
    if (rings_ != MAP_FAILED) munmap(rings_, rings_bytes_);
    if (entries_ != MAP_FAILED) munmap(entries_, ENTRIES * sizeof(io_uring_sqe));
    close(fd_);
  }
  Uring(const Uring&) = delete;
  Uring& operator=(const Uring&) = delete;

  // The next `wait` ends when somebody wakes the word's sleepers, or if it has another value.  To ask for what was
  // asked for before and has not come costs nothing.
  void want(std::atomic<u32>& word, u32 value) {
    if (io_uring_sqe* entry = ask(WORD, FUTEX_WAIT_OPERATION, FUTEX_SHARED_U32)) {
      entry->addr = u64(&word);
      entry->off = value;
      entry->addr3 = FUTEX_BITSET_MATCH_ANY;
    }
  }
  // The same when there is something to read.
  void want(int fd) {
    if (io_uring_sqe* entry = ask(DESCRIPTOR, IORING_OP_POLL_ADD, fd)) entry->poll_events = POLLIN;
  }

  struct Came {
    bool word = false, descriptor = false;
  };
  // Until one of what is wanted has come, a signal, or the end of the time; what it tells of is to be looked at anyway.
  Came wait(long timeout_ns) {
    timespec64 time{timeout_ns / 1'000'000'000, timeout_ns % 1'000'000'000};
    io_uring_getevents_arg more{0, 0, 0, u64(&time)};
    long sent = syscall(__NR_io_uring_enter, fd_, unsent_, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &more,
                        sizeof more);
    Came came;
    if (sent > 0) unsent_ -= u32(sent);
    // Out of memory, say: nothing is waited for, so look soon.
    if (sent < 0 && errno != EINTR && errno != ETIME) came.descriptor = poll(nullptr, 0, SHORT_OF_MEMORY_MS) == 0;
    u32 head = *took_;
    for (u32 tail = at(made_).load(std::memory_order_acquire); head != tail; ++head) {
      u64 what = results_[head & results_mask_].user_data;
      asked_ &= ~u32(what);
      came.word |= what == WORD;
      came.descriptor |= what == DESCRIPTOR;
    }
    at(took_).store(head, std::memory_order_release);
    return came;
  }

 private:
  struct timespec64 {
    long long s, ns;
  };
  static constexpr int SHORT_OF_MEMORY_MS = 5;
  static constexpr u32 ENTRIES = 4, WORD = 1, DESCRIPTOR = 2;
  static constexpr u8 FUTEX_WAIT_OPERATION = 51;  // what older headers don't name
  static constexpr int FUTEX_SHARED_U32 = 2;

  Uring(int fd, const io_uring_params& p)
      : fd_(fd),
        rings_bytes_(std::max(p.sq_off.array + p.sq_entries * sizeof(u32),
                              p.cq_off.cqes + p.cq_entries * sizeof(io_uring_cqe))) {
    // One map of both rings: since Linux 5.4.
    auto map = [&](size_t bytes, u64 what) {
      return mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd_, off_t(what));
    };
    rings_ = map(rings_bytes_, IORING_OFF_SQ_RING);
    entries_ = map(ENTRIES * sizeof(io_uring_sqe), IORING_OFF_SQES);
    if (!is_mapped()) return;
    u8* base = static_cast<u8*>(rings_);
    tail_ = reinterpret_cast<u32*>(base + p.sq_off.tail);
    order_ = reinterpret_cast<u32*>(base + p.sq_off.array);
    mask_ = p.sq_entries - 1;
    took_ = reinterpret_cast<u32*>(base + p.cq_off.head);
    made_ = reinterpret_cast<u32*>(base + p.cq_off.tail);
    results_ = reinterpret_cast<io_uring_cqe*>(base + p.cq_off.cqes);
    results_mask_ = p.cq_entries - 1;
  }

  bool is_mapped() const { return rings_ != MAP_FAILED && entries_ != MAP_FAILED; }

  // A word that has another value is one that has been woken.
  bool has_futexes() {
    std::atomic<u32> word{1};
    want(word, 0);
    return wait(0).word && asked_ == 0;
  }

  io_uring_sqe* ask(u32 what, u8 operation, int fd) {
    if (asked_ & what) return nullptr;
    asked_ |= what;
    u32 tail = *tail_, i = tail & mask_;
    io_uring_sqe& entry = static_cast<io_uring_sqe*>(entries_)[i];
    entry = {};
    entry.opcode = operation;
    entry.fd = fd;
    entry.user_data = what;
    order_[i] = i;
    at(tail_).store(tail + 1, std::memory_order_release);
    ++unsent_;
    return &entry;
  }

  static std::atomic_ref<u32> at(u32* field) { return std::atomic_ref<u32>(*field); }

  const int fd_;
  const size_t rings_bytes_;
  void* rings_ = MAP_FAILED;
  void* entries_ = MAP_FAILED;
  u32 *tail_ = nullptr, *order_ = nullptr, *took_ = nullptr, *made_ = nullptr;
  io_uring_cqe* results_ = nullptr;
  u32 mask_ = 0, results_mask_ = 0;
  u32 unsent_ = 0;
  u32 asked_ = 0;  // and not come
};

#else

class Uring {
 public:
  struct Came {
    bool word = false, descriptor = false;
  };
  static std::unique_ptr<Uring> make() { return nullptr; }
  void want(std::atomic<u32>&, u32) {}
  void want(int) {}
  Came wait(long) { return {}; }
};

#endif

}  // namespace ray
