// One process's part in an arena: every operation, each made of one or more whole transactions.
//
// A client is used under one lock of its host (the interpreter's); the arena itself is shared by any
// number of clients.  How each operation is done stands in client/, a file a concern.
#pragma once

#include "bell.hpp"
#include "client/caller.hpp"
#include "client/remote.hpp"
#include "spill.hpp"
#include "wait.hpp"

#include <algorithm>
#include <bitset>
#include <memory>
#include <set>
#include <span>
#include <vector>

namespace ray {

struct Submission {
  u32 function = NIL;
  const u8* payload = nullptr;
  u64 payload_bytes = 0;
  u32 block = NIL;
  u32* kept_at = nullptr;  // as a Value's
  std::span<const u32> deps, nested;
  u32 num_returns = 1;
  u32 shape = NIL;
  u32 max_retries = 0;
};

struct Assignment {
  u32 task = NIL;
  TaskKind kind = TaskKind::task;
  u32 function = NIL;
  u64 function_key = 0;
  u32 num_returns = 0;
};

struct Result {
  Value value;
  std::span<const u32> nested;
};

struct JournalItem {
  u64 sequence;
  u32 kind, job, format;
  u32 object;  // held for the caller; 0: bytes
  std::string bytes;
};

struct Demand {
  u32 fitting, idle, workers, limit;
};

// What a worker does.  `key` names it, and changes with it.
struct Activity {
  u32 pid;
  u64 started;
  u32 kind;  // TaskKind, or 0: nothing; an actor between two calls has that of a call
  u64 key;
  u8 function_id[ID_BYTES];  // or the actor's class
  u32 job;
  u64 since_ns;
  bool retriable;
  u32 stops;  // of the task; of an actor, its deaths
};

class Client {
 public:
  explicit Client(Mapping* mapping);
  ~Client();
  Client(const Client&) = delete;

  Mapping& m() { return *m_; }
  Header& header() { return h_; }

  // While one lives this process does not leave: memory and places of the file that it reads or writes with
  // the mutex free stay its own.  Made and ended under the host's lock.
  class Stay {
   public:
    explicit Stay(Client& c) : c_(c) { c_.staying_.fetch_add(1); }
    ~Stay() {
      if (c_.staying_.fetch_sub(1) == 1 && c_.left_) futex_wake(c_.staying_, 1);
    }
    Stay(const Stay&) = delete;

   private:
    Client& c_;
  };

  // --- processes and threads ------------------------------------------------------------------------

  void enter(ProcessKind kind, const u8* root_id);
  // Gives back all but what Views still use.
  void leave();
  void shut();
  bool bury(u32 pid, i32 status);

  bool joined() const { return process_ != NIL && !left_; }
  bool forked() const { return forks_ != forks.load(std::memory_order_relaxed) && u32(getpid()) != pid_; }
  void must_be_open();
  u32 process() const { return process_; }
  u64 job();
  u32 maker();
  // This thread's record, made when it is first needed.
  u32 thread();
  void thread_ends(u32 index);
  const u8* current_parent() { return local_thread.client == serial_ ? local_thread.parent : current_parent_; }

  // --- references -----------------------------------------------------------------------------------

  void adopt(u32 o, u32 ref);
  bool owns(u32 o, u64 serial) { return m().local(o).hold && m().local(o).serial == serial; }
  void add_local(u32 o) { m().local(o).count += 1; }
  void drop_local(u32 o);
  void flush_drops();
  // What this process has dropped is gone when others count.
  void let_go() {
    if (!drops_.empty()) flush_drops();
  }
  // The object with this id, held for this process; NIL if it is gone.
  u32 resolve(const u8* id, u64 key);
  // Pins the value, which is brought back first if it was spilled; for a process that holds the object.
  // May throw StoreFull, SpillFailed.
  void pin(u32 o);
  void unpin(u32 o);
  // Copies the value, from wherever it is; nothing is moved, so no room is needed.  May throw SpillFailed.
  void copy_value(u32 o, u8* out);

  // --- objects --------------------------------------------------------------------------------------

  u32 reserve();
  u32 put(const Value& v, std::span<const u32> nested);
  bool seal(u32 o, const Value& v, std::span<const u32> nested);
  // May throw StoreFull, SpillFailed, DirectoryFull.
  u32 allocate(u64 bytes);
  // Does nothing to a block that an object or a task has taken over meanwhile.
  void release_block(u32 b);
  void write_block(u32 b, u64 offset, const u8* bytes, u64 size);
  // The alias's target, or the object itself.
  u32 value_of(u32 o);
  const u8* data_for_reading(u32 o);

  // --- spilling -------------------------------------------------------------------------------------

  // `fd` is a file of no name; this process keeps it open until it leaves.  A second file is not used.  Of the one
  // that there is already it keeps its own descriptor: another user may not open it through /proc.
  void set_spill_file(int fd, u64 capacity_bytes);
  // Moves values that nobody uses to the spill file, until the heap has got so many bytes back or no value
  // is left that may go.  Returns the bytes.  May throw SpillFailed.
  u64 spill(u64 bytes);
  // Gives room that values have left in the spill file back to the disk, until it is about so much or nothing is left.
  // Returns the bytes.
  u64 trim_spill_file(u64 limit_bytes);

  // --- waiting --------------------------------------------------------------------------------------

  bool ready(u32 o) { return wait::is_ready(m(), o); }
  // Blocks until the object has a value.
  void wait_for(u32 o, const wait::Deadline& deadline);
  // Blocks until all have values, or until the ids so far in order include a failure.
  void wait_all(std::span<const u32> list, const wait::Deadline& deadline);
  // Marks which have values, at most `wanted` of them; blocks until that many have, or the time is over.
  std::vector<bool> wait_some(std::span<const u32> list, size_t wanted, const wait::Deadline& deadline);
  // Blocks until heap memory was freed since this process last found none, or the time is over.
  void wait_room(i64 timeout_ms);

  // --- calls ----------------------------------------------------------------------------------------

  // The handle of a demand, for a Submission.
  u32 shape(const resources::Needs& need);
  // Fills `out` with the return objects, in order, held for this process.
  void submit(const Submission& s, std::vector<u32>& out);
  u32 create_actor(const Submission& s, u32 interval);
  void call(u32 actor_object, const Submission& s, std::vector<u32>& out);

  // --- work -----------------------------------------------------------------------------------------

  // Seals `result` as the running task's only result if there is one, then takes the next task.
  // False: this process shall end.
  bool next(const Value* result, Assignment& out);
  Assignment assignment(u32 i);
  u32 running() { return m().thread(thread()).task; }
  // Gives the running task's results their values; `next` without a result completes it.
  void seal_results(std::span<const Result> results);
  // Seals every return with this failure: the first holds the data, the others are aliases of it.
  void fail(const Value& v, std::span<const u32> nested, bool journal);
  // The running task is done, its results sealed or failed; no other is taken.
  void complete();
  // Lets go of what work lists hold, a bounded piece a transaction.
  void drain();

  // --- helping --------------------------------------------------------------------------------------

  // Where the ids and lanes of the task below go on once the one on top of it is done.
  struct Below {
    CallerState local;
    u8 current_parent[TASK_ID_BYTES];
    u32 depth;
  };
  void set_helps(bool yes) { helps_ = yes; }
  std::unique_ptr<Below> step_up(u32 task);
  // The task below goes on, with its CPUs: it may find that it need not wait any more.
  void step_down(Below& below);

  // --- actors ---------------------------------------------------------------------------------------

  u32 own_actor();
  void actor_failed(const Value& v);
  // `leaves`: of an actor that this node serves for another, which goes on elsewhere from there.
  void checkpoint(const Value& v, std::span<const u32> nested, bool leaves = false);
  // Those with checkpoints that this node serves for others, held for this process.
  std::vector<u32> served_actors();
  u32 kill_actor(u32 actor_object);

  // --- journal --------------------------------------------------------------------------------------

  // For a job of that number; NIL: the one that this process works for.
  u64 journal(JournalKind kind, const u8* bytes, u32 size, u32 job = NIL, u32 format = FORMAT_BYTES);
  u64 journal_read(u64 after, i64 timeout_ms, std::vector<JournalItem>& out);

  // --- node -----------------------------------------------------------------------------------------

  Demand demand();
  void wait_demand(i64 timeout_ms);
  // Ends waits for demand, for the journal and for news, everywhere: something else is to be looked at.
  void nudge();
  u32 retire(u32 count);
  std::vector<Activity> activities();
  u32 end_jobs(std::vector<Activity>& running);
  // Kills a worker for what it does, if it still does that.  `how`, a Stop, says what becomes of that: it runs again
  // after a rest, fails with this report, or ends with its job.
  bool stop(u32 pid, u64 key, int pidfd, u32 report, u32 how);
  u32 resting() { return peek(h_.resting_count); }
  // The one that has rested longest may run; false: none rests.
  bool resume();
  // The process that has held the mutex for so long, 0 if the mutex was to be had.
  u32 lock_holder(i64 timeout_ms);

  // --- other nodes: for the node manager only -------------------------------------------------------

  // The same number again while the node is known.
  u32 enter_peer(const u8* node_id);
  void bury_peer(u32 peer);
  // The job here of that peer's driver; the same again.
  u32 enter_guest(u32 home, const u8* root_id);
  void bury_guest(u32 job);
  std::vector<Remote> remotes(ProcessKind kind);
  std::optional<Remote> job_root(u32 job);

  // The objects as they are known here, or made, held for this process; noted as lent by `peer` if that is one.
  std::vector<u32> take_in(std::span<const IdRef> refs, u32 peer = NIL);
  u32 owner(u32 o);
  void lend(u32 peer, std::span<const u32> list);
  // The ids in the value that this object has or stands for.
  std::vector<IdRef> lend_nested(u32 peer, u32 o);
  void take_back(u32 peer, std::span<const IdTimes> returned);
  void note(u32 peer, std::span<const IdRef> refs);
  std::vector<IdTimes> notes(u32 peer);
  std::vector<IdTimes> forget_notes(u32 peer, std::span<const ObjectIdBytes> ids);
  std::vector<IdTimes> loans(u32 peer);
  void match_loans(u32 peer, std::span<const IdTimes> noted);

  std::vector<QueueState> queues();
  // Whose tasks of this shape are ready, among a bounded number of them; the next call goes on from there.
  std::set<u32> waiting_jobs(u32 shape, Away& from);
  std::vector<SentTask> send_tasks(u32 peer, u32 shape, u32 count);
  // Calls to an actor that this peer serves.
  std::vector<QueueState> followers(u32 o);
  std::vector<SentTask> send_followers(u32 peer, u32 o, u32 shape, u32 count);
  bool is_wanted(u32 o);
  std::vector<SentTask> send_calls(u32 peer, u32 actor_object, u32 count);
  // The peer has ended it, as it was told.
  void heard_of_end(u32 peer, const ObjectIdBytes& actor_id);
  std::vector<TaskIdBytes> away(u32 peer);
  u32 recall(u32 peer, const std::set<TaskIdBytes>& ids);
  void receive_task(u32 peer, const SentTask& sent, const Value& payload);
  std::vector<TaskIdBytes> received(u32 peer);
  std::vector<TaskIdBytes> drop_received(u32 peer, std::span<const TaskIdBytes> ids);
  // A result from that peer; not `here`: it is stored there, and only size and format are known.
  // False: nobody waits for it here.
  // `turn`: of a call's result, which of the actor's turns that was there.
  bool finish_return(u32 peer, const ObjectIdBytes& id, const Value& v, bool here, std::span<const IdRef> nested,
                     bool journal, u32 turn = 0);
  // Of an actor that this peer serves, a value that is here, and covers its calls up to that turn; it is this node's
  // own from now on, since the peer may leave before the actor goes elsewhere.  False: it is of no use.
  bool take_checkpoint(u32 peer, u32 actor_object, u32 turn, u32 o);
  // An actor that this peer serves no more is placed anew, with the calls that it has not executed.  False: it was not
  // there.
  bool reclaim_actor(u32 peer, u32 actor_object);

  std::optional<Location> location(u32 o);
  std::vector<News> news(u32 most, i64 timeout_ms);
  void listen(std::optional<int> fd);
  void arm(bool hears_queue);
  bool has_news(bool hears_queue) const;
  void hear(std::optional<int> fd);
  bool give_way() { return ears_ && ears_->give_way(); }
  Ears::Heard sleep(i64 timeout_ms, bool hears_queue);
  void renew_news(u32 peer);
  bool subscribe(u32 o);
  bool is_watched(u32 o);

 private:
  using Fresh = std::vector<std::pair<u32, u32>>;  // objects that this process did not hold before, and their holds

  static constexpr size_t DROPS_AT_ONCE = 48;
  // Since when the node has begun and done no task, as a waiting thread sees it.
  struct Standstill {
    u64 since_ns = 0, tasks_done = 0;
    u32 running = 0;
  };
  static constexpr i64 HELP_PAUSE_MS = 20;
  static constexpr i64 LOOK_UP_MS = 100;  // until it is seen that the limit has been reached since

  void bury_record(u32 index, u64 serial, i32 status, bool keep_pinned);
  void finish_leaving();

  spill::Place pin_if_in_heap(u32 o);
  u8* heap_of(u32 b) { return m().heap(u64(m().block(b).offset) * GRANULE_BYTES); }
  void next_id(u8* id);
  void reserve_block(u32 b, u64 bytes);
  void add_nested(u32 o, std::span<const u32> nested);

  int transfer(bool out, u8* data, u64 size, u64 at);
  bool make_hole(u64 at, u64 bytes);
  int spill_fd();

  template <typename Glance, typename Look>
  void wait_awaiting(u32 th, const wait::Deadline& deadline, std::span<const u32> targets, Glance glance, Look look);
  template <typename Look>
  void wait_awaiting(u32 th, const wait::Deadline& deadline, std::span<const u32> targets, Look look);
  template <typename Done>
  bool sleep_on(std::atomic<u32>& word, std::atomic<u32>& sleepers, const wait::Deadline& deadline, Done done,
                long slice_ns = SLEEP_SLICE_NS);
  u32 take_help(u32 th, std::span<const u32> targets);
  bool stuck(u32 th, std::span<const u32> targets, Standstill& seen);

  void must_be_actor(u32 o);
  u32 shape_now(u32 handle);
  bool forget_shapes();
  u32 build(u32 th, const Submission& s, TaskKind kind, u32 a, u32 interval, const u8* id, std::vector<u32>& out);
  void build_rest(u32 th, u32 i, const Submission& s, u32 actor_object, std::vector<u32>& out);
  void launch(Transaction& t, u32 th, u32 i);
  u32 lane_for(Transaction& t, u32 th, u32 a, bool& opened);
  void remember_lane(u32 a);
  u32 lane_of_received(Transaction& t, u32 a);
  u32 called_as(u32 a);

  template <typename Visit>
  void walk(const Pool& pool, Visit visit);
  u32 find_remote(ProcessKind kind, u32 home, const u8* id);
  u32 enter_remote(ProcessKind kind, u32 home, const u8* id);
  void must_be_peer(u32 peer);
  u32 disown(Transaction& t, u32 i, u32 peer);
  u32 object_of(Transaction& t, const IdRef& ref);
  IdRef ref_of(u32 o) { return {to_id(m().object(o).id), owner_of(m().object(o))}; }
  void hold_all(std::span<const u32> list, Transaction& t, Fresh& fresh);
  void adopt_all(std::span<const u32> list, const Fresh& fresh);
  template <typename Count>
  std::vector<IdTimes> loans_where(u32 peer, Count count);
  u32 looked_until(u32 shape, const Away& from);
  Away send_task(u32 peer, u32 shape, Away& from);
  Away send_follower(u32 peer, u32 o, u32 shape);
  template <typename Look>
  void each_waiting(u32 o, Look look);
  Away send_call(u32 peer, u32 actor_object, std::optional<TaskIdBytes>& after);
  static bool sends_function(const Task& task);
  u32 checkpoint_of(const Task& task);
  IdRef served_as(u32 actor_object);
  size_t lend_ids(Transaction& t, u32 i, u32 peer, size_t n);
  SentTask describe(u32 i, u32 peer);
  std::vector<Away> tasks_away(u32 peer, const std::set<TaskIdBytes>* ids = nullptr);
  std::vector<Away> with_calls(u32 peer, const std::vector<Away>& tasks);
  bool is_away(const Away& away, u32 peer);
  void settle(const Away& away, u32 peer);
  bool come_back(const Away& away, u32 peer, bool died);
  bool finish_return(u32 peer, u32 o, const Value& v, bool here, std::span<const u32> contained, bool journal,
                     u32 turn);
  void forget_covered(u32 a);
  template <typename Add>
  void in_pieces(u32 th, size_t count, Add add);
  bool is_served_here(const IdRef& actor);
  void build_received(u32 peer, const SentTask& sent, std::span<const u32> objects, u32 actor_object,
                      const Value& payload);
  void build_rest_of_received(u32 peer, u32 i, u32 end, u32 results, std::span<const u32> deps,
                              std::span<const u32> nested, bool awaits_last);
  void begin_at(Transaction& t, u32 a, u32 checkpoint, u32 turn);
  void take_news(std::vector<News>& out);
  void add_what_is_left(Transaction& t, u32 i);
  u32 renew_calls(Transaction& t, u32 i, u32 peer);
  u32 renew_checkpoint(Transaction& t, u32 a, u32 peer);
  void renew_turns(std::vector<std::pair<u32, u64>>& turns, u32 peer);
  void take_checkpoint_news(Transaction& t, u32 i, News& item);
  void take_last_news(Transaction& t, u32 i, News& item);
  void take_notes(Transaction& t, u32 i, News& item);
  void want(std::span<const u32> list);

  Task& running_task(u32 th);
  void enter_failure(Transaction& t, const Task& task, u32 o);
  bool may_end(u32 th);
  bool must_end(u32 th);
  void close_lanes(u32 th);
  void enter_task(const Task& task);
  void record_event(u32 th);

  std::unique_ptr<Mapping> m_;
  Header& h_;
  u64 serial_ = 0;
  u32 process_ = NIL;
  u32 pid_ = 0;
  u32 forks_ = 0;
  ProcessKind kind_ = ProcessKind::driver;
  bool left_ = false;
  bool helps_ = false;
  u32 help_from_ = NIL;  // a long look for something to help with goes on from this object
  u32 next_ordinal_ = 0;
  u32 new_lane_ = NIL;
  std::optional<TaskIdBytes> after_;  // the call before the one that is being received
  u32 demand_seen_ = 0;
  File spill_file_;
  std::atomic<u32> staying_{0};
  u8 root_id_[TASK_ID_BYTES] = {};
  u8 current_parent_[TASK_ID_BYTES] = {};
  std::vector<u32> drops_;
  // Demands by their handles, and by what handle each goes now.
  struct KnownShape {
    resources::Needs need;
    u32 now;
  };
  std::unordered_map<u32, KnownShape> shapes_;
  std::unique_ptr<Ears> ears_;
  std::unique_ptr<Bell> bell_;  // last, so first to end
};

}  // namespace ray

#include "client/actors.hpp"
#include "client/calls.hpp"
#include "client/calls_away.hpp"
#include "client/helping.hpp"
#include "client/jobs.hpp"
#include "client/journal.hpp"
#include "client/lending.hpp"
#include "client/news.hpp"
#include "client/node.hpp"
#include "client/objects.hpp"
#include "client/peers.hpp"
#include "client/processes.hpp"
#include "client/receiving.hpp"
#include "client/references.hpp"
#include "client/sending.hpp"
#include "client/spilling.hpp"
#include "client/stopping.hpp"
#include "client/waiting.hpp"
#include "client/work.hpp"
