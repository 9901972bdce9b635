// What the kernel asks of the system, and of the program that it is part of.
#pragma once

#include "numbers.hpp"

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utility>

namespace ray {

inline u64 now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return u64(t.tv_sec) * 1'000'000'000ull + u64(t.tv_nsec);
}

inline void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// The futex calls are made directly: the library's atomic waits are private to one process.
inline int futex_wait(std::atomic<u32>& word, u32 value, long timeout_ns) {
  timespec t{timeout_ns / 1'000'000'000, timeout_ns % 1'000'000'000};
  return int(syscall(SYS_futex, &word, FUTEX_WAIT, value, &t, nullptr, 0)) == 0 ? 0 : errno;
}
inline void futex_wake(std::atomic<u32>& word, int count) {
  syscall(SYS_futex, &word, FUTEX_WAKE, count, nullptr, nullptr, 0);
}

// What the embedding language does around a sleep; the kernel's own tests leave it empty.
struct Host {
  void* (*leave)() = nullptr;       // about to sleep: let other threads run
  void (*enter)(void*) = nullptr;   // awake again
  bool (*interrupted)() = nullptr;  // a signal handler raised
};
inline Host host;

class HostPause {
 public:
  HostPause() { leave(); }
  ~HostPause() { resume(); }
  void resume() {
    if (host.enter && token_) host.enter(token_);
    token_ = nullptr;
  }
  // Lets the host's signal handlers run, if this thread may; true when one of them raised.
  bool interrupted() {
    if (!host.interrupted || (host.leave && !token_)) return false;
    resume();
    if (host.interrupted()) return true;
    leave();
    return false;
  }
  HostPause(const HostPause&) = delete;
  HostPause& operator=(const HostPause&) = delete;

 private:
  void leave() { token_ = host.leave ? host.leave() : nullptr; }
  void* token_ = nullptr;
};

// start time of a process in clock ticks since boot, 0 if there is none: with the pid, its identity
inline u64 process_start(u32 pid) {
  char path[64], text[1024];
  snprintf(path, sizeof path, "/proc/%u/stat", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return 0;
  text[n] = 0;
  const char* p = strrchr(text, ')');
  if (!p) return 0;
  u64 value = 0;
  int field = 2;
  for (++p; *p && field < 22; ++p)
    if (*p == ' ') ++field;
  for (; *p >= '0' && *p <= '9'; ++p) value = value * 10 + u64(*p - '0');
  return value;
}

inline u64 pid_namespace() {
  struct stat s;
  return stat("/proc/self/ns/pid", &s) == 0 ? u64(s.st_ino) : 0;
}

// The system's memory for a part of a file, so that touching it later can't fail; 0 or the system's error number.
inline int reserve_pages(int fd, u64 page, u64 at, u64 bytes) {
  constexpr u64 AT_ONCE_BYTES = 64ull << 20;  // a signal makes the system begin the call again
  u64 end = (at + bytes + page - 1) / page * page;
  for (at = at / page * page; at < end;) {
    u64 size = end - at < AT_ONCE_BYTES ? end - at : AT_ONCE_BYTES;
    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, off_t(at), off_t(size)) == 0) at += size;
    else if (errno == EOPNOTSUPP) return 0;
    else if (errno != EINTR) return errno;
  }
  return 0;
}

// Which file a descriptor is of.
struct FileIdentity {
  u64 device = 0, inode = 0;
  static FileIdentity of(int fd) {
    struct stat s;
    return fd >= 0 && fstat(fd, &s) == 0 ? FileIdentity{u64(s.st_dev), u64(s.st_ino)} : FileIdentity{};
  }
  bool operator==(const FileIdentity&) const = default;
};

// An open file, closed at the end.  The program around may close descriptors that it does not own, and their numbers
// be of other files then: such a number is neither used nor closed any more.
class File {
 public:
  explicit File(int fd = -1) : fd_(fd), identity_(FileIdentity::of(fd)) {}
  ~File() { close(); }
  File(File&& o) noexcept : fd_(std::exchange(o.fd_, -1)), identity_(o.identity_) {}
  File& operator=(File&& o) noexcept {
    std::swap(fd_, o.fd_);
    std::swap(identity_, o.identity_);
    return *this;
  }
  explicit operator bool() const { return fd_ >= 0; }
  int fd() const { return fd_; }
  // -1: it is not this file's any more.
  int own_fd() const { return FileIdentity::of(fd_) == identity_ ? fd_ : -1; }
  const FileIdentity& identity() const { return identity_; }
  void close() {
    if (fd_ >= 0 && own_fd() >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
  FileIdentity identity_;
};

}  // namespace ray
