// An arena as one process maps it: the control tables and the heap, once for writing, once for reading.
//
// Layout of the memory: header, tables (each from a page boundary), then the heap.  Nothing in it is a
// pointer.  Pages are taken by the system when they are first written, so large tables cost nothing
// until they are used.  Where the system may have none left (in a folder, of huge pages) each part is
// reserved before it is touched: touching it would end in a signal.
#pragma once

#include "failure.hpp"
#include "records.hpp"
#include "system.hpp"

#include <algorithm>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <utility>
#include <vector>

namespace ray {

// This process's own count of an object; the arena sees only the first and the last one.
struct LocalReference {
  u64 serial;
  u32 count;
  u32 hold;
  u32 pins;
  u32 queued;  // in the queue of drops
  u32 stamp;   // of the last list that was looked through for ids given twice
};

struct ArenaOptions {
  u64 heap_bytes = 1ull << 30;
  i64 resources[RESOURCE_KINDS] = {UNIT, 0, 0};
  const char* directory = nullptr;
  bool huge_pages = false;
  u32 max_workers = 1024;
  bool any_user = false;
};

// Mapped memory, unmapped at the end.
class Pages {
 public:
  Pages() = default;
  // At an address that lies within its huge page as the offset does within the file's: else none can be mapped.
  Pages(u64 bytes, int protection, int flags, int fd, u64 offset = 0) : bytes_(bytes) {
    u64 room = bytes + HUGE_PAGE_BYTES;
    u8* p = mapped(nullptr, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    u64 before = (offset - reinterpret_cast<u64>(p)) & (HUGE_PAGE_BYTES - 1);
    base_ = p + before;
    try {
      mapped(base_, bytes, protection, flags | MAP_FIXED, fd, offset);
    } catch (...) {
      munmap(p, room);
      throw;
    }
    u64 end = (before + bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    if (before) munmap(p, before);
    if (end < room) munmap(p + end, room - end);
  }
  ~Pages() {
    if (base_) munmap(base_, bytes_);
  }
  Pages(Pages&& o) : base_(std::exchange(o.base_, nullptr)), bytes_(o.bytes_) {}
  Pages(const Pages&) = delete;
  u8* base() const { return base_; }

 private:
  u8* mapped(u8* at, u64 bytes, int protection, int flags, int fd, u64 offset) {
    void* p = mmap(at, bytes, protection, flags | MAP_NORESERVE, fd, off_t(offset));
    if (p == MAP_FAILED) throw SystemFailed("can't map " + std::to_string(bytes_) + " bytes of the arena", errno);
    return static_cast<u8*>(p);
  }

  u8* base_ = nullptr;
  u64 bytes_ = 0;
};

// Where everything lies.
struct Layout {
  Layout(u64 page_bytes, u64 heap_bytes) : page(page_bytes) {
    whole(sizeof(Header));
    objects = table(OBJECTS_MAX, sizeof(Object));
    tasks = table(TASKS_MAX, sizeof(Task));
    edges = table(EDGES_MAX, sizeof(Edge));
    holds = table(HOLDS_MAX, sizeof(PooledHold));
    loans = table(LOANS_MAX, sizeof(Loan));
    watches = table(WATCHES_MAX, sizeof(Watch));
    blocks = table(BLOCKS_MAX, sizeof(Block));
    actors = table(ACTORS_MAX, sizeof(Actor));
    lanes = table(LANES_MAX, sizeof(Lane));
    processes = table(PROCESSES_MAX, sizeof(Process));
    threads = table(THREADS_MAX, sizeof(Thread));
    buckets = whole(u64(BUCKETS) * sizeof(u32));
    journal = whole(u64(JOURNAL_ENTRIES) * sizeof(JournalEntry));
    events = place(u64(THREADS_MAX) * EVENTS_PER_THREAD * sizeof(Event));
    heap = place(heap_bytes);
  }

  // A table's memory is reserved a step at a time.
  static u64 step_end(u64 page, u64 offset) {
    u64 step = std::max(page, RESERVE_STEP_BYTES);
    return (offset + step - 1) / step * step;
  }

  struct Part {
    u64 offset, bytes;
  };
  u64 page, end = 0;
  std::vector<Part> used_at_once;
  Pool objects, tasks, edges, holds, loans, watches, blocks, actors, lanes, processes, threads;
  u64 buckets, journal, events, heap;

 private:
  u64 place(u64 bytes) {
    u64 at = end;
    end = (end + bytes + page - 1) / page * page;
    return at;
  }
  u64 whole(u64 bytes) {
    used_at_once.push_back({end, bytes});
    return place(bytes);
  }
  // The record 0 is looked at, though never used.
  Pool table(u32 capacity, u64 record_bytes) {
    used_at_once.push_back({end, step_end(page, end + record_bytes) - end});
    return Pool{place(capacity * record_bytes), capacity, 0, 0, 0};
  }
};

class Mapping {
 public:
  // May throw SystemFailed, DirectoryFull.
  static Mapping* create(const ArenaOptions& options) {
    File file = new_file(options);
    u64 heap_bytes = std::min(options.heap_bytes, HEAP_BYTES_MAX) / GRANULE_BYTES * GRANULE_BYTES;
    bool reserves = options.directory || options.huge_pages;
    Layout layout(options.huge_pages ? HUGE_PAGE_BYTES : PAGE_BYTES, heap_bytes);
    if (ftruncate(file.fd(), off_t(layout.end)) != 0)
      throw SystemFailed("can't size the arena to " + std::to_string(layout.end) + " bytes", errno);
    for (const Layout::Part& part : layout.used_at_once) {
      int error = reserves ? reserve_pages(file.fd(), layout.page, part.offset, part.bytes) : 0;
      if (error) throw DirectoryFull(error);
    }
    Mapping* m = new Mapping(std::move(file), layout.end, layout.heap);
    Header& h = m->header();
    h.objects = layout.objects, h.tasks = layout.tasks, h.edges = layout.edges, h.holds = layout.holds;
    h.loans = layout.loans, h.watches = layout.watches, h.blocks = layout.blocks, h.actors = layout.actors,
    h.lanes = layout.lanes;
    h.processes = layout.processes, h.threads = layout.threads;
    h.buckets_offset = layout.buckets, h.journal_offset = layout.journal, h.events_offset = layout.events;
    h.heap_offset = layout.heap;
    h.total_bytes = layout.end;
    h.reserved_page_bytes = reserves ? layout.page : 0;
    h.magic = ARENA_MAGIC;
    h.layout_version = LAYOUT_VERSION;
    h.uid = options.any_user ? ANY_USER : getuid();
    h.pid_namespace = pid_namespace();
    h.max_workers = options.max_workers;
    h.heaps[HEAP].capacity = u32(heap_bytes / GRANULE_BYTES);
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

  // May throw SystemFailed, ArenaCorrupt.
  static Mapping* attach(int given_fd) {
    File file(fcntl(given_fd, F_DUPFD_CLOEXEC, 3));
    if (file.fd() < 0) throw SystemFailed("can't take the arena's descriptor", errno);
    struct stat s;
    if (fstat(file.fd(), &s) != 0 || u64(s.st_size) < sizeof(Header))
      throw ArenaCorrupt("this descriptor is not an arena: it is smaller than an arena's header");
    u64 heap;
    {
      Pages head(sizeof(Header), PROT_READ, MAP_SHARED, file.fd());
      const Header& h = *reinterpret_cast<const Header*>(head.base());
      std::string wrong;
      if (h.magic != ARENA_MAGIC) wrong = "it does not begin with an arena's mark";
      else if (h.layout_version != LAYOUT_VERSION)
        wrong = "its layout is version " + std::to_string(h.layout_version) + ", this package's is " +
                std::to_string(LAYOUT_VERSION) + ": both processes need the same release";
      else if (!h.ready) wrong = "its creator never finished it";
      else if (h.uid != ANY_USER && h.uid != getuid()) wrong = "it belongs to user " + std::to_string(h.uid);
      else if (h.pid_namespace != pid_namespace()) wrong = "it belongs to another container (process namespace)";
      else if (h.total_bytes != u64(s.st_size)) wrong = "its size is not what its header says";
      if (!wrong.empty()) throw ArenaCorrupt("the arena failed its checks: " + wrong);
      heap = h.heap_offset;
    }
    return new Mapping(std::move(file), u64(s.st_size), heap);
  }

  // The same pages, with reference counts of its own: for a second client in one process.  Ends before `first`.
  static Mapping* beside(Mapping& first) {
    File file(fcntl(first.fd(), F_DUPFD_CLOEXEC, 3));
    if (file.fd() < 0) throw SystemFailed("can't take the arena's descriptor", errno);
    return new Mapping(std::move(file), first);
  }

  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  Header& header() { return *reinterpret_cast<Header*>(base_); }
  u8* base() { return base_; }
  u8* heap(u64 offset) { return base_ + heap_offset_ + offset; }
  const u8* heap_for_reading(u64 offset) const { return reading_ + offset; }
  u64 heap_offset() const { return heap_offset_; }
  int fd() const { return file_.fd(); }
  int own_fd() const { return file_.own_fd(); }

  // The memory stays mapped for whoever still looks at it; nobody new can be given it.
  void close_fd() { file_.close(); }

  Object& object(u32 i) { return at<Object>(header().objects, i); }
  Task& task(u32 i) { return at<Task>(header().tasks, i); }
  Edge& edge(u32 i) { return at<Edge>(header().edges, i); }
  PooledHold& pooled_hold(u32 i) { return at<PooledHold>(header().holds, i); }
  Loan& loan(u32 i) { return at<Loan>(header().loans, i); }
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
  LocalReference& local(u32 object) { return reinterpret_cast<LocalReference*>(local_.base())[object]; }

  // --- memory that the system might not have: each may throw DirectoryFull ---

  bool reserves() { return header().reserved_page_bytes && file_.own_fd() >= 0; }
  void reserve(u64 at, u64 bytes) {
    if (!reserves()) return;
    if (int error = reserve_pages(file_.fd(), header().reserved_page_bytes, at, bytes)) throw DirectoryFull(error);
  }
  void reserve_heap(u64 offset, u64 bytes) { reserve(heap_offset_ + offset, bytes); }
  // The first record that reaches into a step of the table takes the whole of it.
  void reserve_record(const Pool& pool, u32 index, u64 record_bytes) {
    if (!reserves()) return;
    u64 begin = pool.offset + index * record_bytes;
    u64 reserved = Layout::step_end(header().reserved_page_bytes, begin);
    u64 needed = Layout::step_end(header().reserved_page_bytes, begin + record_bytes);
    if (needed > reserved) reserve(reserved, needed - reserved);
  }

  // Whether there is; nothing is thrown, since events are for people to look at only.
  bool has_memory_for_event(u32 thread, u32 number) {
    if (!reserves() || number >= EVENTS_PER_THREAD) return true;
    u64 begin = header().events_offset + (u64(thread) * EVENTS_PER_THREAD + number) * sizeof(Event);
    u64 page = header().reserved_page_bytes;
    bool has = number && (begin - 1) / page == (begin + sizeof(Event) - 1) / page;
    return has || reserve_pages(file_.fd(), page, begin, sizeof(Event)) == 0;
  }

  u32 releases_when_full = 0;  // of heap blocks, when this process last found no room

  // A forked child has inherited counts that are its parent's; it starts with none.
  void forget_local() { madvise(local_.base(), sizeof(LocalReference) * OBJECTS_MAX, MADV_DONTNEED); }

 private:
  Mapping(File file, u64 bytes, u64 heap_offset)
      : file_(std::move(file)),
        pages_(bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_.fd()),
        pages_for_reading_(bytes - heap_offset, PROT_READ, MAP_SHARED, file_.fd(), heap_offset),
        base_(pages_.base()),
        reading_(pages_for_reading_.base()),
        heap_offset_(heap_offset) {}
  Mapping(File file, const Mapping& first)
      : file_(std::move(file)), base_(first.base_), reading_(first.reading_), heap_offset_(first.heap_offset_) {}

  static File new_file(const ArenaOptions& options) {
    if (!options.directory) {
      File file(memfd_create("ray-arena", MFD_CLOEXEC | (options.huge_pages ? MFD_HUGETLB : 0)));
      if (file.fd() < 0) throw SystemFailed("can't make the arena's memory", errno);
      return file;
    }
    std::string path = std::string(options.directory) + "/raycore-XXXXXX";
    File file(mkostemp(path.data(), O_CLOEXEC));
    if (file.fd() < 0) throw SystemFailed("can't make the arena's file in " + std::string(options.directory), errno);
    unlink(path.c_str());
    return file;
  }

  template <typename Record>
  Record& at(const Pool& pool, u32 index) {
    return reinterpret_cast<Record*>(base_ + pool.offset)[index];
  }

  File file_;
  Pages pages_, pages_for_reading_;  // none: those of another Mapping are used
  Pages local_{sizeof(LocalReference) * OBJECTS_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1};
  u8* base_;
  const u8* reading_;
  u64 heap_offset_;
};

}  // namespace ray
