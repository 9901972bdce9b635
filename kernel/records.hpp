// The records that make up an arena: plain data, linked by index, zero meaning "none".
//
// A record taken from a table is written freely until the transaction that took it commits, because
// nothing refers to it yet; `free_next` alone stays as it was, so that rolling the take back finds the
// free list whole.  Every other change goes through Transaction::set, or, where undoing it would change
// nothing, Transaction::write.  Fields that change under the log are 4 or 8 bytes wide.
#pragma once

#include "numbers.hpp"

#include <atomic>
#include <pthread.h>

namespace ray {

enum ObjectState : u32 { OBJECT_FREE = 0, OBJECT_PENDING = 1, OBJECT_SEALED = 2, OBJECT_ACTOR = 3 };

// Where an object is, beside here; above the number of the peer that owns it in `Object::origin`.
inline constexpr u32 OWNER = 0xFFFF;
static_assert(PROCESSES_MAX <= OWNER + 1);
enum RemoteFlag : u32 {
  LOCATED = 1u << 16,  // its value is at the peer that its task is away at
  STORED = 1u << 17,   // located, and counted by its task instead of referenced
  WANTED = 1u << 18,   // somebody here waits for it, and the node manager has been told or will be
  DONE = 1u << 19,     // a result for its owner, or an actor's checkpoint, of which that has yet to be told
  FAILED = 1u << 20,   // by a failure that belongs into its owner's journal
  NOTED = 1u << 21,    // some peer has lent it to this node
  LISTED = 1u << 22,   // in the list of news, which alone may free it
  ASKED = 1u << 23,    // the node manager is to be told when it has a value, or where it is
  AGAIN = 1u << 24,    // DONE, and to be told of behind what is in the list of news by now
};

// One process's counted reference to one object.  Each object carries the first one in itself.
struct Hold {
  u32 process, previous, next;
  u32 pins;  // not 0: the process has mapped memory of the value in use
};
inline constexpr u32 HOLD_IN_OBJECT = 0x8000'0000u;

struct alignas(64) Object {
  u32 free_next;
  u32 published;  // the state as others read it without the mutex
  u64 serial;
  u32 state;
  u32 format;
  u32 references;  // holds, edges, the unfinished task, the journal, loans
  u32 task;        // that will make it, while it runs or waits
  u32 waiting;     // last of the edges of tasks that wait for it: a ring
  u32 watches;     // threads that wait for it, beyond `watcher`
  u32 watcher;     // thread
  u32 nested;      // edges to the objects whose ids it contains
  u32 next_return;
  u32 bucket_next;
  u32 work_next;
  u32 block;  // 0: the value is inline
  // --- second line ---
  u8 id[ID_BYTES];
  Hold hold;
  u32 pins;
  union {
    u32 actor;  // for OBJECT_ACTOR
    u32 turn;   // of a call's result, for the owner of its actor: which turn of the actor's that was; 0: none
  };
  u32 origin;   // peer that owns it, 0: this node; RemoteFlags above
  u32 spilled;  // block of the spill file that has the value, while it is not in the heap
  u32 uses;     // bit 0: used since the last look for something to spill; above: times it was spilled
  u64 size_bytes;
  // --- third line: the next two are 0 in a free record, so that making an object need not touch it ---
  u32 loans;  // what peers have of it, or have lent of it to this node
  u32 news;   // next in the list of what the node manager is to be told
  u8 data[INLINE_BYTES];
};
static_assert(sizeof(Object) == 192);

enum TaskState : u32 {
  TASK_FREE = 0,
  TASK_BUILDING = 1,
  TASK_WAITING = 2,  // for its dependencies, or in its lane
  TASK_READY = 3,
  TASK_RUNNING = 4,
  TASK_FAILING = 5,   // its returns are being sealed with a failure, then it is dropped
  TASK_DROPPING = 6,  // its edges are being let go
  TASK_HELD = 7,      // an actor's finished call, kept until the next checkpoint
  TASK_RESTING = 8,   // stopped, and to run again when the node manager says so
  TASK_AWAY = 9,      // sent to a peer, or kept for results that are stored there
};

enum TaskFlag : u32 {
  COUNTS_ACTOR = 1,     // holds a reference to its actor's object
  ACTOR_GONE = 2,       // fails with what its actor failed with
  STOPPED = 4,          // fails with the report of who stopped it
  JOB_ENDED = 8,        // its driver has ended
  STAYS = 16,           // may not be sent to a peer
  RECEIVED = 32,        // another node's: its results are for that one
  TAKEN_BACK = 64,      // received, and not to be run: its results come from elsewhere
  NODE_DIED = 128,      // fails because the node that it was sent to has died
  LOGGED = 256,         // a call that another node has done, and that no checkpoint here covers
  REPLAYED = 512,       // logged, and sent to another node to run again there: its end is yet to be heard of
  ONE_STOP = 1u << 16,  // from this bit on: how often it was stopped
};

struct alignas(64) Task {
  u32 free_next;
  u32 state;
  u64 serial;
  u64 sequence;
  u32 function;  // object, counted
  u32 returns;   // first of the return objects
  u32 num_returns;
  u32 pending;  // dependencies without a value, plus one while building
  u32 deps;     // edges, in order
  union {
    u32 deps_last;  // while building
    u32 turn;       // of a call to an actor that is not its owner's to run: its number in the order of execution
  };
  u32 nested;  // edges only kept alive
  u32 next, previous;
  u32 shape;
  u32 kind;
  u32 attempt;
  u32 max_retries;  // of an actor's call: its method's number
  union {
    u32 thread;  // runs it
    u32 peer;    // that it is away at
  };
  u32 actor;
  union {
    u32 lane;    // of a call; 0: it has left it
    u32 report;  // of a task that was stopped and fails: object, counted
  };
  u32 block, payload_bytes;
  u32 job;
  u32 flags;  // TaskFlag
  union {
    u32 failure_status;
    u32 stored;  // of one that is away: its results that are stored there, and no longer among `returns`
  };
  u32 failure_pid;
  u8 id[TASK_ID_BYTES];
  u8 payload[INLINE_PAYLOAD_BYTES];
};
static_assert(sizeof(Task) == 192);

struct Edge {
  u32 free_next;
  u32 object;
  u32 task;
  u32 next;          // of the same task or the same containing value
  u32 waiting_next;  // of the same awaited object
};

struct PooledHold {
  u32 free_next;
  u32 object;
  Hold hold;
};

// What one peer and this node have lent each other of one object: ids that were sent and not yet returned.
struct Loan {
  u32 free_next;
  u32 object;
  u32 peer;   // 0: the record is free
  u32 next;   // of the same object
  u32 lent;   // times, to that peer: together one reference of the object
  u32 noted;  // times, by that peer to this node: no reference
};

struct Watch {
  u32 free_next;
  u32 thread;
  u32 next;
};

enum BlockState : u32 { BLOCK_FREE = 0, BLOCK_HELD = 1, BLOCK_USED = 2 };

// A run of heap granules.  `next` and `previous` link it into a free list or its maker's ledger.
struct Block {
  u32 free_next;
  u32 state;
  u32 offset, size;   // granules
  u32 before, after;  // neighbours in memory
  u32 next, previous;
  u32 process;  // holds it while nothing else refers to it
  u32 table;    // 0: the heap, 1: the spill file
  union {
    u32 cold_from;  // of the heap: granule from which its pages had never been touched when it was allocated
    u32 written;    // of the spill file: of its first granules the disk may have bytes, of the others it has none
  };
};

enum ActorState : u32 {
  ACTOR_FREE = 0,
  ACTOR_CREATING = 1,
  ACTOR_ALIVE = 2,
  ACTOR_DEAD = 3,
  ACTOR_AWAY = 4,  // another node serves it
};

struct alignas(64) Actor {
  u32 free_next;
  u32 state;
  u64 serial;
  u32 object;
  u32 thread;
  u32 creation;                  // its creation task, kept for restarts
  u32 lanes;                     // all of its lanes
  u32 ready_head, ready_tail;    // lanes with a call that can run
  u32 replay_head, replay_tail;  // calls to run again, before any lane
  u32 done_head, done_tail;      // calls finished since the last checkpoint
  u32 done_count;
  u32 interval;                                   // calls between checkpoints; 0: none
  u32 checkpoint;                                 // object, counted
  u32 failure;                                    // object, counted: what every call returns
  u32 cls;                                        // object, counted: its class
  u32 failure_code, failure_status, failure_pid;  // of one that is away, a code says that its peer is to end it
  u32 job_ended;                                  // its driver's: the next death is its last
  u32 unreferenced;
  u32 deaths;
  u32 waits;  // linked in the list of actors that wait for a CPU
  u32 wait_next;
  u32 work_next, working;
  u32 shape;
  u32 job;
  u32 peer;  // that serves it, while it is away
  // Of one with checkpoints that one node serves for another.  Turns go round, and 0 is none.
  u32 turns;      // the last turn given, where it is served; at its owner the last of a call that runs again there
  u32 reached;    // the last turn done there, by this process
  u32 covered;    // the last one that its checkpoint covers, at both
  u32 replaying;  // at its owner: calls that run again there
};

// The calls of one caller to one actor, in order.
struct Lane {
  u32 free_next;
  u32 actor;
  u64 serial;
  u32 thread;  // of the caller; 0: the caller has ended, or is on another node
  u32 head, tail;
  u32 sent, away;  // the last of the calls that are at the actor's node, and how many are: the first ones
  u32 ready;       // linked in the actor's list of ready lanes
  u32 ready_next;
  u32 actor_next, actor_previous;
  u32 thread_next, thread_previous;
};

struct Shape {
  i64 need[RESOURCE_KINDS];
  u32 used;
  u32 head, tail, count;
  u32 creations;  // of them, actors to be created
  u32 stays;      // of them, tasks that may not be sent to a peer
  u32 passed;     // younger tasks that went before its first one
  u64 holds_back_until_ns;
  u64 last_used;   // sequence of the last task made with it
  u32 generation;  // how often the record was given to another demand, modulo SHAPE_GENERATIONS
};

enum Stop : u32 { NOT_STOPPED = 0, STOPPED_FOR_GOOD = 1, STOPPED_TO_RUN_AGAIN = 2, STOPPED_WITH_ITS_JOB = 3 };

enum ProcessState : u32 { PROCESS_FREE = 0, PROCESS_ALIVE = 1, PROCESS_LEFT = 2, PROCESS_DYING = 3 };

struct alignas(64) Process {
  u32 free_next;
  u32 state;
  u64 serial;
  u32 pid;
  u32 kind;
  u64 started;  // /proc/PID/stat field 22
  u32 job;
  u32 holds;
  u32 blocks;
  u32 threads;
  u32 status;  // how it ended, from whoever buries it
  u32 retire;
  u32 stop;              // Stop: the node manager killed it, for what it ran
  u32 report;            // object, counted: why
  u32 home;              // of a guest: its peer
  u8 root_id[ID_BYTES];  // of a driver, or of a guest; of a peer the node's own id
};

struct Undo {
  u64 where;  // byte offset * 2, plus 1 for an 8-byte field
  u64 old;
};

struct alignas(64) Thread {
  u32 free_next;
  u32 process;
  u64 serial;
  u32 next;  // of the same process
  u32 task;  // running
  u32 actor;
  u32 building;  // task
  u32 lanes;
  u32 idle, idle_next, idle_previous;
  u32 shape;       // whose resources it has taken; 0: none
  u32 gave_back;   // its CPUs, while it waits
  u32 granted;     // an actor's CPUs, taken for it before it woke
  u32 life_shape;  // an actor's GPUs and custom resources, for life
  u64 gpu_mask;
  u32 gpu_units;  // of a fraction
  u32 is_main;    // the thread of a worker that runs tasks
  u64 task_since_ns;
  // Tasks that wait on this thread's stack, outermost first, while it runs one that they need: each has
  // given its CPUs back, keeps the rest, and has the lanes it opened.
  u32 depth;
  u32 below[HELP_DEPTH_MAX];
  u32 lanes_below[HELP_DEPTH_MAX];
  // --- words that others read without the mutex ---
  alignas(64) std::atomic<u32> word;
  std::atomic<u32> sleeping;
  std::atomic<u32> awaiting;  // 0: nothing, AWAITS_ANY, else an object
  std::atomic<i32> needed;    // seals until AWAITS_ANY is worth a wake-up
  std::atomic<u32> event_count;
  // --- the log of the transaction that this thread runs ---
  alignas(64) u32 committed;
  u32 undo_count;
  u32 publish_count;
  u32 publish[PUBLISH_MAX];
  Undo undo[UNDO_MAX];
};
inline constexpr u32 AWAITS_ANY = ~0u;

struct JournalEntry {
  u64 sequence;
  u32 kind;
  u32 job;
  u32 format;
  u32 object;  // counted; 0: the data is inline
  u32 size_bytes;
  u32 padding;
  u8 data[JOURNAL_INLINE_BYTES];
};

struct Event {
  u32 pid;
  u16 kind;
  u16 method;  // its number, of an actor's call
  u64 start_ns, end_ns;
  u64 function_key;
  u8 task_id[TASK_ID_BYTES];
};

// A table of records of one type: free ones are linked, the rest has never been used.
struct Pool {
  u64 offset;
  u32 capacity;
  u32 high_water;
  u32 free_head;
  u32 used;
};

inline constexpr u32 HEAP_CLASSES = 32;
inline constexpr u32 HEAP_SUBCLASSES = 16;

enum BlockTable : u32 { HEAP = 0, SPILL_FILE = 1 };

struct HeapTable {
  u32 capacity;  // granules
  u32 touched;   // granules that have ever been part of an allocation
  u32 used;      // granules
  u32 releases;  // ever, modulo 2^32
  u32 first;     // block at offset 0
  u32 class_bits;
  u32 subclass_bits[HEAP_CLASSES];
  u32 heads[HEAP_CLASSES * HEAP_SUBCLASSES];
};

struct Header {
  u64 magic;
  u32 layout_version;
  u32 uid;  // whose processes may attach; ANY_USER: whoever was given the descriptor
  u64 pid_namespace;
  u64 total_bytes;
  u64 heap_offset;
  u64 reserved_page_bytes;  // memory is reserved before it is touched, in pages of this size; 0: it need not be
  u32 ready;                // set last by the creator
  u32 session_bytes;
  alignas(64) pthread_mutex_t mutex;
  u32 holder;  // thread whose log belongs to the running transaction
  u32 recoveries;
  alignas(64) u64 sequence;
  i64 free[RESOURCE_KINDS];
  i64 total[RESOURCE_KINDS];
  u64 shapes_ready[SHAPES_MAX / 64];
  u32 idle_head;
  u32 idle_count;
  u32 waking;
  u32 worker_count;
  u32 max_workers;
  u32 actors_wait_head, actors_wait_tail;
  u32 resting_head, resting_tail, resting_count;
  u32 object_work, task_work_head, task_work_tail, actor_work;
  u32 peers;                 // how many there are
  u32 news_head, news_tail;  // objects of which the node manager is to be told something
  u32 queued;                // a task has become ready that nobody here takes at once, and that may be sent to a peer
  u32 next_job;
  u32 jobs_ended;  // ever, modulo 2^32; and actors killed: both leave something that runs and shall not
  u32 running_count;
  u32 ready_count;
  u32 actor_had_turn;
  u32 reserved;
  u64 tasks_done;
  u64 journal_last;
  u32 gpu_free[GPUS_MAX];
  Shape shapes[SHAPES_MAX];
  HeapTable heaps[2];                 // by BlockTable
  u32 spill_hand;                     // object at which the look for something to spill goes on
  u32 spill_pid, spill_fd;            // where the spill file is open: /proc/PID/fd/FD
  u64 spill_device, spill_inode;      // which file it must be: the pid may be another's by now
  u64 spilled_bytes, restored_bytes;  // in all
  Pool objects, tasks, edges, holds, loans, watches, blocks, actors, lanes, processes, threads;
  u64 buckets_offset, journal_offset, events_offset;
  // --- read and written without the mutex ---
  alignas(64) std::atomic<u32> shut;
  std::atomic<u32> demand_word;
  std::atomic<u32> demand_sleepers;
  alignas(64) std::atomic<u32> journal_word;
  std::atomic<u32> journal_sleepers;
  std::atomic<u32> news_word;
  std::atomic<u32> news_sleepers;
  alignas(64) std::atomic<u32> room_word;  // bumped when heap memory is freed while somebody waits for it
  std::atomic<u32> room_sleepers;
  alignas(64) std::atomic<u32> spinners[SPINNERS_MAX];
  u8 session[SESSION_BYTES];
};

}  // namespace ray
