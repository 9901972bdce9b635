// An arena in a folder that is full: an error in words, never a signal, and nothing is lost or half done.

#include "orders.hpp"

#include <fstream>
#include <sys/mount.h>
#include <sys/resource.h>

namespace ray::testing::folder_test {
namespace {

void write_file(const char* path, const std::string& text) { std::ofstream(path) << text; }

// Mounts of its own for this process; false where the system allows none.
bool own_mounts() {
  u32 uid = getuid(), gid = getgid();
  if (unshare(CLONE_NEWNS) != 0) {
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
    write_file("/proc/self/setgroups", "deny");
    write_file("/proc/self/uid_map", std::to_string(uid) + " " + std::to_string(uid) + " 1");
    write_file("/proc/self/gid_map", std::to_string(gid) + " " + std::to_string(gid) + " 1");
  }
  return mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
}

Mapping* arena_in(const char* folder) {
  ArenaOptions options;
  options.heap_bytes = 48 << 20;
  options.directory = folder;
  return Mapping::create(options);
}

// Calls until there is no room; how often that went well.
template <typename Call>
u32 until_full(u32 most, Call call) {
  for (u32 n = 0; n < most; ++n) try {
      call();
    } catch (const DirectoryFull& full) {
      expect(full.error == ENOSPC, "the error says why");
      return n;
    }
  expect(false, "the folder is full in the end");
  return most;
}

void values(const char* folder, u64 size, u32 least) {
  Client c(arena_in(folder));
  c.enter(ProcessKind::driver, nullptr);
  std::vector<u8> bytes(size, 7);
  std::vector<u32> kept;
  auto put = [&] {
    Value v{bytes.data(), size, NIL, FORMAT_TEST};
    if (size > COPY_BYTES) {
      v.block = c.allocate(size);
      c.write_block(v.block, 0, v.bytes, size);
    }
    u32 o;
    try {
      o = c.put(v, {});
    } catch (...) {
      if (v.block) c.release_block(v.block);
      throw;
    }
    kept.push_back(o);
  };
  expect(until_full(1'000'000, put) >= least, "the room there is can be used");
  size_t count = kept.size();
  expect(check(c.m()).empty(), "the arena is whole when its folder is full");
  for (u32 o : kept) {
    expect(memcmp(c.data_for_reading(o), bytes.data(), size) == 0, "values are what they were");
    c.drop_local(o);
  }
  c.flush_drops();
  kept.clear();
  for (size_t n = 0; n < count; ++n) put();  // room that was had once stays
  expect(check(c.m()).empty(), "the arena is whole after all");
}

// The worker runs tasks, whose events take room as well, until there is none: then they go unrecorded.
void tasks(const char* folder) {
  Client c(arena_in(folder));
  Board* board = make_board();
  c.enter(ProcessKind::driver, nullptr);
  u32 function = c.put(Value{nullptr, 0, NIL, FORMAT_TEST}, {});
  u32 cpu = c.shape({UNIT, 0, 0});
  pid_t worker = start([&] {
    c.enter(ProcessKind::worker, nullptr);
    serve(c, *board);
  });
  std::vector<u32> out;
  Order order{Act::value, 1, 0, 4};
  auto run = [&] {
    Submission s;
    s.function = function;
    s.payload = reinterpret_cast<const u8*>(&order);
    s.payload_bytes = sizeof order;
    s.shape = cpu;
    c.submit(s, out);
    c.wait_for(out[0], wait::Deadline(-1));
    c.drop_local(out[0]);
  };
  run();
  std::ofstream filler(std::string(folder) + "/filler");
  std::vector<char> page(4096, 1);
  while (filler.write(page.data(), page.size()).flush()) {
  }
  for (u32 n = 0; n < 500; ++n) run();
  for (u32 n = 0; n < 64 && peek(c.header().worker_count); ++n) {
    c.retire(1);
    board->until([&, looks = 0]() mutable { return !peek(c.header().worker_count) || looks++; });
  }
  expect(await(worker) == 0, "the worker ends well");
  expect(check(c.m()).empty(), "the arena is whole after its tasks");
}

// All that was mapped before the mapping that failed is unmapped.
[[maybe_unused]] void no_room_for_addresses() {
  auto mapped = [] {
    std::ifstream maps("/proc/self/maps");
    u32 count = 0;
    for (std::string line; std::getline(maps, line);) count += line.find("ray-arena") != std::string::npos;
    return count;
  };
  u64 table_bytes = Layout(PAGE_BYTES, 32 << 20).end;
  ArenaOptions options;
  options.heap_bytes = 32 << 20;
  u32 refused = 0;
  for (u64 more = 8ull << 20; more < 512ull << 20; more += 8ull << 20) {
    rlimit limit{table_bytes + more, RLIM_INFINITY};
    setrlimit(RLIMIT_AS, &limit);
    try {
      std::unique_ptr<Mapping> m(Mapping::create(options));
      break;
    } catch (const SystemFailed& failed) {
      refused += failed.error == ENOMEM;
      expect(mapped() == 0, "what was mapped is unmapped again");
    }
  }
  expect(refused > 1, "some mappings fail half-way");
}

template <typename Part>
void in_folder(const char* folder, const char* size, Part part) {
  std::string options = std::string("mode=700,size=") + size;
  if (mount("none", folder, "tmpfs", 0, options.c_str()) != 0) perror("mount"), ++failures;
  part();
  if (umount2(folder, MNT_DETACH) != 0) perror("umount"), ++failures;
}

// In a process of its own, so that a signal is a failure of one part.
template <typename Part>
bool skips(const char* what, Part part) {
  int status = await(start([&] {
    part();
    fflush(nullptr);
    _exit(failures ? 1 : 0);
  }));
  if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED) return true;
  if (status) printf("FAILED: %s (status %x)\n", what, status), ++failures;
  return false;
}

int run(const char*) {
  char folder[] = "/tmp/ray-kernel-folder-XXXXXX";
  if (!mkdtemp(folder)) return 1;
  bool skipped = skips("a full folder", [&] {
    if (!own_mounts()) _exit(SKIPPED);
    in_folder(folder, "256k", [&] {
      expect(until_full(1, [&] { Client c(arena_in(folder)); }) == 0, "a folder without room takes no arena");
    });
    in_folder(folder, "24m", [&] { values(folder, (1 << 20) - 100, 8); });
    in_folder(folder, "24m", [&] { values(folder, 3000, 2000); });
    in_folder(folder, "16m", [&] { values(folder, 1, 10'000); });
    in_folder(folder, "14m", [&] { tasks(folder); });
  });
  rmdir(folder);
#ifndef __SANITIZE_ADDRESS__  // whose shadow needs addresses
  skips("no room for addresses", no_room_for_addresses);
#endif
  printf("folder: %u failed%s\n", failures, skipped ? ", no mounts allowed here" : "");
  return failures ? 1 : skipped ? SKIPPED : 0;
}

const Test test{"folder", run};

}  // namespace
}  // namespace ray::testing::folder_test
