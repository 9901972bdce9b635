// Every limit and code of the kernel, in one place.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ray {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i32 = std::int32_t;
using i64 = std::int64_t;

// Index 0 of every table is never used, so that zeroed memory means "none" everywhere.
inline constexpr u32 NIL = 0;

inline constexpr u32 ANY_USER = ~0u;  // a number that the system gives to nobody: (uid_t)-1, setresuid(2)
inline constexpr u64 ARENA_MAGIC = 0x52415941'52454e41ull;
inline constexpr u32 LAYOUT_VERSION = 5;

inline constexpr u32 UNIT = 10'000;  // resources are whole numbers of 1/10,000
inline constexpr u32 RESOURCE_KINDS = 3;
inline constexpr u32 CPU = 0;
inline constexpr u32 GPU = 1;
inline constexpr u32 CUSTOM = 2;
inline constexpr u32 GPUS_MAX = 64;

inline constexpr u32 ID_BYTES = 20;
inline constexpr u32 TASK_ID_BYTES = 16;
inline constexpr u32 PUT_INDEX = 0x8000'0000u;
inline constexpr u32 ACTOR_INDEX = 0xC000'0000u;
inline constexpr u32 SERVED_INDEX = ACTOR_INDEX + 1;  // an actor as the node knows it that serves it for its owner
inline constexpr u32 AROUND_INDEX = 0x4000'0000u;     // and in that of a call's result: of one that has come around
inline constexpr u32 SPARE_INDEX = 0x2000'0000u;      // and in that of what is made in place of a result that is known

inline constexpr u32 GRANULE_BYTES = 64;
inline constexpr u64 HEAP_BYTES_MAX = 0xFFFF'FF00ull * GRANULE_BYTES;  // granules are counted in 32 bits
inline constexpr u64 PAGE_BYTES = 4096;
inline constexpr u64 HUGE_PAGE_BYTES = 2ull << 20;
inline constexpr u64 RESERVE_STEP_BYTES = 65536;  // of a table, where memory must be reserved
inline constexpr u32 INLINE_BYTES = 56;           // of a value, in its object's record
inline constexpr u32 INLINE_PAYLOAD_BYTES = 64;   // of arguments, in their task's record
inline constexpr u32 COPY_BYTES = 4096;           // copied inside one transaction
inline constexpr u32 SNAPSHOT_BYTES = 4096;       // up to here `get` copies instead of pinning
inline constexpr u32 NEWS_BYTES = 65536;          // a result up to this size goes to its owner unasked
inline constexpr u32 SESSION_BYTES = 16384;
inline constexpr u64 STREAM_BYTES = 4 << 20;         // from here on a copy goes around the caches
inline constexpr u64 COLD_BYTES = 64 << 10;          // fewer, never touched before, are copied like others
inline constexpr u64 SLOW_HUGE_PAGE_NS = 1'500'000;  // to make one: more than its small pages take
inline constexpr u64 NO_HUGE_PAGES_NS = 20'000'000;  // after that, or after none at all

// Table sizes.  Memory is taken only as far as a table has ever been filled.
inline constexpr u32 OBJECTS_MAX = 1u << 22;
inline constexpr u32 BUCKETS = 1u << 21;
inline constexpr u32 TASKS_MAX = 1u << 21;
inline constexpr u32 EDGES_MAX = 1u << 22;
inline constexpr u32 HOLDS_MAX = 1u << 21;
inline constexpr u32 WATCHES_MAX = 1u << 20;
inline constexpr u32 BLOCKS_MAX = 1u << 21;
inline constexpr u32 ACTORS_MAX = 1u << 16;
inline constexpr u32 LANES_MAX = 1u << 18;
inline constexpr u32 LOANS_MAX = 1u << 21;
inline constexpr u32 PROCESSES_MAX = 1u << 13;
inline constexpr u32 THREADS_MAX = 1u << 13;
inline constexpr u32 SHAPES_MAX = 256;
inline constexpr u32 SHAPE_GENERATIONS = 1u << 24;
inline constexpr u32 JOURNAL_ENTRIES = 1u << 14;
inline constexpr u32 JOURNAL_INLINE_BYTES = 64;
inline constexpr u32 EVENTS_PER_THREAD = 1u << 12;
inline constexpr u32 SPINNERS_MAX = 64;

// Bounds inside one transaction.
inline constexpr u32 UNDO_MAX = 1024;
inline constexpr u32 PUBLISH_MAX = 32;
inline constexpr u32 WAKES_MAX = 64;
inline constexpr u32 PIECE = 8;     // items of a long job done in one transaction
inline constexpr u32 AT_ONCE = 12;  // ids that one transaction may still link

inline constexpr u64 TRIM_LEAST_BYTES = 1 << 20;  // free places of the spill file that go back to the disk
inline constexpr u64 TRIM_PIECE_BYTES = 4 << 20;  // of one, at a time
inline constexpr u32 SPILL_LOOK = 256;            // objects looked at in one transaction for one to spill
inline constexpr u32 SHAPE_LOOK = 1024;           // tasks looked at in one transaction for whose demands there are
inline constexpr u32 JOB_LOOK = 1024;             // tasks looked at in one transaction for one of an ended job
inline constexpr u32 PEER_LOOK = 1024;            // records looked at in one transaction for what a peer has
inline constexpr u32 PINS_LOOK = 256;             // pinned holds that are passed over in one transaction
inline constexpr u32 HOLD_BACK_AFTER = 512;       // younger tasks that may pass one that does not fit
inline constexpr u64 HOLD_BACK_NS = 2'000'000'000;
inline constexpr u32 CALLS_AWAY_MAX = 1024;  // of one caller to one actor of another node
inline constexpr u32 ACTOR_DEATHS_MAX = 5;   // in a row, without one new call finished
inline constexpr u32 HELP_STEPS = 64;
inline constexpr u64 STUCK_NS = 3'000'000'000;  // without a task begun or done, before anybody looks whether all wait
inline constexpr u32 HELP_DEPTH_MAX = 48;       // tasks that wait below the one that runs on a worker's stack
inline constexpr long SLEEP_SLICE_NS = 100'000'000;
inline constexpr long IDLE_SLICE_NS = 300'000'000;  // of who has had nothing to do for so many slices
inline constexpr u32 IDLE_AFTER = 10;
inline constexpr long LOCK_SLICE_NS = 20'000'000;         // of a wait for the mutex
inline constexpr u64 OWNER_STOPPED_NS = 3'000'000'000;    // later than the node manager's lock watch is with it
inline constexpr i64 TIMEOUT_MAX_MS = 1'000'000'000'000;  // three decades: as good as for ever
inline constexpr long SPIN_NS = 25'000;
inline constexpr long WOKEN_NS = 125'000;      // two that wake each other may take as long
inline constexpr u32 SPINS_IN_VAIN = 4;        // one after the other, until a thread that waits sleeps at once
inline constexpr u32 SPINS_ANYWAY = 16;        // each time that it has waited so often, it spins all the same
inline constexpr long EARS_SPIN_NS = 150'000;  // of an event loop: others run meanwhile
inline constexpr long WAY_NS = 1'000'000;      // who was let run for so long was computing
inline constexpr long REST_NS = 10'000'000;    // without such, after one: the least and the most
inline constexpr long REST_MAX_NS = 100'000'000;
inline constexpr int LOCK_ATTEMPTS = 4;  // to take the mutex without keeping the host's other threads waiting

// Formats the kernel writes or understands; from FORMAT_ERROR on they are failures.
inline constexpr u32 FORMAT_BYTES = 2;  // of what a process enters in the journal by itself
inline constexpr u32 FORMAT_ERROR = 100;
inline constexpr u32 FORMAT_ALIAS = 200;
inline constexpr u32 FORMAT_SYSTEM = 201;

enum class ProcessKind : u32 {
  driver = 1,
  worker = 2,
  node_manager = 3,
  keeper = 4,
  template_ = 5,
  peer = 6,
  guest = 7
};
enum class TaskKind : u32 { task = 1, actor_create = 2, actor_call = 3 };
enum class JournalKind : u32 { error = 1, function = 2, job = 3, note = 4 };
enum class SystemFailure : u32 {
  worker_died = 1,
  actor_died = 2,
  actor_killed = 3,
  task_stopped = 4,
  actor_stopped = 5,
  object_lost = 6,
  job_ended = 7,
  node_died = 8,
  actor_node_died = 9,
  actor_left = 10  // it is to go on at another node
};
enum class NewsKind : u32 { done = 1, wanted = 2, gone = 3, sealed = 4, queued = 5, calls = 6, checkpoint = 7 };

}  // namespace ray
