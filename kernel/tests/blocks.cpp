// A block is its maker's until the transaction that takes it over has committed, and not a moment longer: whoever
// releases it after that would free another's.

#include "node.hpp"

namespace ray::testing::blocks_test {
namespace {

constexpr u32 SIZE = 9000;

// A block of the caller's, and the value that it is for.
struct Kept {
  Client& c;
  u32 block;
  explicit Kept(Client& client) : c(client), block(c.allocate(SIZE)) {}
  Kept(const Kept&) = delete;
  ~Kept() {
    if (block) c.release_block(block);
  }
  Value value() { return Value{nullptr, SIZE, block, FORMAT_TEST, &block}; }
};

struct Place {
  Node n{4};
  u32 used = n.h.heaps[HEAP].used;
  u32 shape = n.shape(UNIT);
  void end(const char* what) {
    n.c.flush_drops();
    expect(n.h.heaps[HEAP].used == used, "%s: %u granules are used at the end, %u at the beginning", what,
           n.h.heaps[HEAP].used, used);
    n.look(what);
  }
  // A task of this many results, which this thread runs.
  std::vector<u32> run(u32 results) {
    std::vector<u32> out;
    Submission s = n.submission(shape);
    s.num_returns = results;
    n.c.submit(s, out);
    Assignment a;
    expect(n.c.next(nullptr, a), "there is no task to run");
    return out;
  }
};

template <typename Call>
bool throws(Call call) {
  try {
    call();
    return false;
  } catch (const KernelError&) {
    return true;
  }
}

void put() {
  Place p;
  Kept kept(p.n.c);
  u32 o = p.n.c.put(kept.value(), {});
  expect(!kept.block, "a put takes its block");
  p.n.c.drop_local(o);
  p.end("put");
}

void seal_of_what_has_a_value() {
  Place p;
  u32 o = p.n.c.reserve();
  p.n.c.seal(o, Value{nullptr, 0, NIL, FORMAT_TEST}, {});
  {
    Kept kept(p.n.c);
    expect(!p.n.c.seal(o, kept.value(), {}) && kept.block, "a seal that comes too late takes no block");
  }
  p.n.c.drop_local(o);
  p.end("a seal that comes too late");
}

// A signal ends the wait for the next task, after the result of the last one was taken; or there was none to finish.
void next_is_interrupted() {
  Place p;
  std::vector<u32> out = p.run(1);
  host.interrupted = [] { return true; };
  for (bool finishing : {true, false}) {
    Kept kept(p.n.c);
    Value value = kept.value();
    Assignment a;
    expect(throws([&] { p.n.c.next(&value, a); }), "the wait for the next task is interrupted");
    expect(finishing == !kept.block, "a result is taken exactly if a task ends with it");
  }
  host = Host{};
  expect(p.n.c.ready(out[0]), "the result is there though the wait after it was interrupted");
  p.n.c.drop_local(out[0]);
  p.end("next, interrupted");
}

void one_block_for_two_results() {
  Place p;
  std::vector<u32> out = p.run(2);
  Kept kept(p.n.c);
  Result results[] = {{kept.value(), {}}, {kept.value(), {}}};
  expect(throws([&] { p.n.c.seal_results(results); }), "one block can't be two results");
  expect(!kept.block, "the first result has the block");
  u8 byte = 1;
  Result right[] = {{Value{&byte, 1, NIL, FORMAT_TEST}, {}}, {Value{&byte, 1, NIL, FORMAT_TEST}, {}}};
  p.n.c.seal_results(right);
  p.n.c.complete();
  for (u32 o : out) {
    expect(p.n.c.ready(o), "a result is missing");
    p.n.c.drop_local(o);
  }
  p.end("one block for two results");
}

void fail_of_what_has_failed() {
  Place p;
  std::vector<u32> out = p.run(2);
  for (bool first : {true, false}) {
    Kept kept(p.n.c);
    Value value = kept.value();
    value.format = FORMAT_TEST_FAILURE;
    p.n.c.fail(value, {}, true);
    expect(first == !kept.block, "only the first failure is taken");
  }
  p.n.c.complete();
  for (u32 o : out) p.n.c.drop_local(o);
  p.n.c.flush_drops();
  // The journal keeps the failure.
  p.used += heap::granules(SIZE);
  p.end("a second failure");
}

// The table of references is full when the task has been begun: it is taken apart again, with its block.
void submit_fails_half_way() {
  Place p;
  {
    Kept kept(p.n.c);
    std::vector<u32> deps(40, p.n.function), out;
    Submission s = p.n.submission(p.shape, deps);
    s.block = kept.block;
    s.payload_bytes = SIZE;
    s.kept_at = &kept.block;
    Pool& edges = p.n.h.edges;
    u32 capacity = std::exchange(edges.capacity, edges.high_water + 20);
    expect(throws([&] { p.n.c.submit(s, out); }), "there is room for the task");
    edges.capacity = capacity;
    expect(!kept.block, "the task has taken its block");
  }
  p.end("a submit that fails half-way");
}

int run(const char*) {
  put();
  seal_of_what_has_a_value();
  next_is_interrupted();
  one_block_for_two_results();
  fail_of_what_has_failed();
  submit_fails_half_way();
  return result("blocks");
}

const Test test{"blocks", run};

}  // namespace
}  // namespace ray::testing::blocks_test
