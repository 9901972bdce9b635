// An arena as one process maps it: the control tables and the heap, once for writing, once for reading.
//
// Layout of the memory: header, tables (each from a page boundary), then the heap.  Nothing in it is a
// pointer.  Pages are taken by the system when they are first written, so large tables cost nothing
// until they are used.
#pragma once

#include "failure.hpp"
#include "records.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <linux/futex.h>
#include <string>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

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

// This process's own count of an object; the arena sees only the first and the last one.
struct LocalReference {
  u64 serial;
  u32 count;
  u32 hold;
  u32 pins;
  u32 queued;  // in the queue of drops
  u32 stamp;   // of the last list that was looked through for ids given twice
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

struct ArenaOptions {
  u64 heap_bytes = 1ull << 30;
  i64 resources[RESOURCE_KINDS] = {UNIT, 0, 0};
  const char* directory = nullptr;
  bool huge_pages = false;
  u32 max_workers = 1024;
};

class Mapping {
 public:
  static Mapping* create(const ArenaOptions& given) {
    ArenaOptions options = given;
    options.heap_bytes = std::min(options.heap_bytes, HEAP_BYTES_MAX);
    int fd = -1;
    if (options.directory) {
      std::string path = std::string(options.directory) + "/raycore-XXXXXX";
      fd = mkostemp(path.data(), O_CLOEXEC);
      if (fd < 0) fail_system("can't make the arena's file in " + std::string(options.directory));
      unlink(path.c_str());
    } else {
      fd = memfd_create("ray-arena", MFD_CLOEXEC | (options.huge_pages ? MFD_HUGETLB : 0));
      if (fd < 0) fail_system("can't make the arena's memory");
    }
    u64 offset = 0;
    auto place = [&](u64 bytes) {
      u64 at = offset;
      u64 page = options.huge_pages ? (2ull << 20) : 4096;
      offset = (offset + bytes + page - 1) / page * page;
      return at;
    };
    place(sizeof(Header));
    Header plan{};
    auto table = [&](Pool& pool, u32 capacity, u64 stride) {
      pool.capacity = capacity;
      pool.offset = place(u64(capacity) * stride);
    };
    table(plan.objects, OBJECTS_MAX, sizeof(Object));
    table(plan.tasks, TASKS_MAX, sizeof(Task));
    table(plan.edges, EDGES_MAX, sizeof(Edge));
    table(plan.holds, HOLDS_MAX, sizeof(PooledHold));
    table(plan.watches, WATCHES_MAX, sizeof(Watch));
    table(plan.blocks, BLOCKS_MAX, sizeof(Block));
    table(plan.actors, ACTORS_MAX, sizeof(Actor));
    table(plan.lanes, LANES_MAX, sizeof(Lane));
    table(plan.processes, PROCESSES_MAX, sizeof(Process));
    table(plan.threads, THREADS_MAX, sizeof(Thread));
    u64 buckets = place(u64(BUCKETS) * sizeof(u32));
    u64 journal = place(u64(JOURNAL_ENTRIES) * sizeof(JournalEntry));
    u64 events = place(u64(THREADS_MAX) * EVENTS_PER_THREAD * sizeof(Event));
    u64 heap = place(options.heap_bytes / GRANULE_BYTES * GRANULE_BYTES);
    if (ftruncate(fd, off_t(offset)) != 0) {
      int e = errno;
      close(fd);
      errno = e;
      fail_system("can't size the arena to " + std::to_string(offset) + " bytes");
    }
    Mapping* m = nullptr;
    try {
      m = new Mapping(fd, offset, heap);
    } catch (...) {
      close(fd);
      throw;
    }
    Header& h = m->header();
    h.objects = plan.objects, h.tasks = plan.tasks, h.edges = plan.edges, h.holds = plan.holds;
    h.watches = plan.watches, h.blocks = plan.blocks, h.actors = plan.actors, h.lanes = plan.lanes;
    h.processes = plan.processes, h.threads = plan.threads;
    h.buckets_offset = buckets, h.journal_offset = journal, h.events_offset = events;
    h.heap_offset = heap;
    h.total_bytes = offset;
    h.magic = ARENA_MAGIC;
    h.layout_version = LAYOUT_VERSION;
    h.uid = getuid();
    h.pid_namespace = pid_namespace();
    h.max_workers = options.max_workers;
    h.heaps[HEAP].capacity = u32(options.heap_bytes / GRANULE_BYTES);
    for (u32 k = 0; k < RESOURCE_KINDS; ++k) h.free[k] = h.total[k] = options.resources[k];
    for (u32 g = 0; g < GPUS_MAX; ++g) h.gpu_free[g] = i64(g) * UNIT < options.resources[GPU] ? UNIT : 0;
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&h.mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
    h.ready = 1;
    return m;
  }

  static Mapping* attach(int given_fd) {
    int fd = fcntl(given_fd, F_DUPFD_CLOEXEC, 3);
    if (fd < 0) fail_system("can't take the arena's descriptor");
    struct stat s;
    if (fstat(fd, &s) != 0 || u64(s.st_size) < sizeof(Header)) {
      close(fd);
      throw ArenaCorrupt("this descriptor is not an arena: it is smaller than an arena's header");
    }
    void* head = mmap(nullptr, sizeof(Header), PROT_READ, MAP_SHARED, fd, 0);
    if (head == MAP_FAILED) {
      close(fd);
      fail_system("can't map the arena's header");
    }
    const Header& h = *static_cast<const Header*>(head);
    std::string wrong;
    if (h.magic != ARENA_MAGIC) wrong = "it does not begin with an arena's mark";
    else if (h.layout_version != LAYOUT_VERSION)
      wrong = "its layout is version " + std::to_string(h.layout_version) + ", this package's is " +
              std::to_string(LAYOUT_VERSION) + ": both processes need the same release";
    else if (!h.ready) wrong = "its creator never finished it";
    else if (h.uid != getuid()) wrong = "it belongs to user " + std::to_string(h.uid);
    else if (h.pid_namespace != pid_namespace()) wrong = "it belongs to another container (process namespace)";
    else if (h.total_bytes != u64(s.st_size)) wrong = "its size is not what its header says";
    u64 heap = h.heap_offset;
    munmap(head, sizeof(Header));
    if (!wrong.empty()) {
      close(fd);
      throw ArenaCorrupt("the arena failed its checks: " + wrong);
    }
    try {
      return new Mapping(fd, u64(s.st_size), heap);
    } catch (...) {
      close(fd);
      throw;
    }
  }

  // The same pages, with reference counts of its own: for a second client in one process.  Ends before `first`.
  static Mapping* beside(Mapping& first) {
    int fd = fcntl(first.fd_, F_DUPFD_CLOEXEC, 3);
    if (fd < 0) fail_system("can't take the arena's descriptor");
    return new Mapping(fd, first);
  }

  ~Mapping() {
    if (owns_pages_) {
      munmap(base_, bytes_);
      munmap(const_cast<u8*>(reading_), bytes_ - heap_offset_);
    }
    munmap(local_, sizeof(LocalReference) * OBJECTS_MAX);
    close_fd();
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  Header& header() { return *reinterpret_cast<Header*>(base_); }
  u8* base() { return base_; }
  u8* heap(u64 offset) { return base_ + heap_offset_ + offset; }
  const u8* heap_for_reading(u64 offset) const { return reading_ + offset; }
  u64 heap_offset() const { return heap_offset_; }
  int fd() const { return fd_; }

  // The memory stays mapped for whoever still looks at it; nobody new can be given it.
  void close_fd() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

  Object& object(u32 i) { return at<Object>(header().objects, i); }
  Task& task(u32 i) { return at<Task>(header().tasks, i); }
  Edge& edge(u32 i) { return at<Edge>(header().edges, i); }
  PooledHold& pooled_hold(u32 i) { return at<PooledHold>(header().holds, i); }
  Watch& watch(u32 i) { return at<Watch>(header().watches, i); }
  Block& block(u32 i) { return at<Block>(header().blocks, i); }
  Actor& actor(u32 i) { return at<Actor>(header().actors, i); }
  Lane& lane(u32 i) { return at<Lane>(header().lanes, i); }
  Process& process(u32 i) { return at<Process>(header().processes, i); }
  Thread& thread(u32 i) { return at<Thread>(header().threads, i); }
  Shape& shape(u32 i) { return header().shapes[i]; }
  u32& bucket(u32 i) { return reinterpret_cast<u32*>(base_ + header().buckets_offset)[i]; }
  JournalEntry& journal_entry(u64 sequence) {
    return reinterpret_cast<JournalEntry*>(base_ + header().journal_offset)[sequence % JOURNAL_ENTRIES];
  }
  Event* events(u32 thread) {
    return reinterpret_cast<Event*>(base_ + header().events_offset) + u64(thread) * EVENTS_PER_THREAD;
  }
  LocalReference& local(u32 object) { return local_[object]; }

  u32 releases_when_full = 0;  // of heap blocks, when this process last found no room

  // A forked child has inherited counts that are its parent's; it starts with none.
  void forget_local() { madvise(local_, sizeof(LocalReference) * OBJECTS_MAX, MADV_DONTNEED); }

 private:
  Mapping(int fd, u64 bytes, u64 heap_offset) : bytes_(bytes), heap_offset_(heap_offset), fd_(fd) {
    base_ = map(bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    reading_ = map(bytes - heap_offset, PROT_READ, MAP_SHARED, fd, heap_offset);
    local_ = map_local();
  }
  Mapping(int fd, const Mapping& first)
      : base_(first.base_),
        reading_(first.reading_),
        local_(map_local()),
        bytes_(first.bytes_),
        heap_offset_(first.heap_offset_),
        fd_(fd),
        owns_pages_(false) {}

  static u8* map(u64 size, int protection, int flags, int file, u64 offset) {
    void* p = mmap(nullptr, size, protection, flags | MAP_NORESERVE, file, off_t(offset));
    if (p == MAP_FAILED) fail_system("can't map " + std::to_string(size) + " bytes of the arena");
    return static_cast<u8*>(p);
  }
  static LocalReference* map_local() {
    return reinterpret_cast<LocalReference*>(
        map(sizeof(LocalReference) * OBJECTS_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  }

  template <typename Record>
  Record& at(const Pool& pool, u32 index) {
    return reinterpret_cast<Record*>(base_ + pool.offset)[index];
  }

  [[noreturn]] static void fail_system(const std::string& what) { throw KernelError(what + ": " + strerror(errno)); }

  u8* base_ = nullptr;
  const u8* reading_ = nullptr;
  LocalReference* local_ = nullptr;
  u64 bytes_;
  u64 heap_offset_;
  int fd_;
  bool owns_pages_ = true;
};

}  // namespace ray
