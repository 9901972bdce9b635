// What a transaction has written and not committed decides nothing: its process dies, and it never was.

#include "orders.hpp"

#include <thread>

namespace ray::testing::uncommitted_test {
namespace {

constexpr u32 A_WHILE_US = 350'000;  // longer than those who sleep do before they look again

struct Session {
  Client c{[] {
    ArenaOptions o;
    o.heap_bytes = 4 << 20;
    o.resources[CPU] = 2 * UNIT;
    return Mapping::create(o);
  }()};
  Mapping& m = c.m();
  Board* board = make_board();
  u32 function = NIL, cpu = NIL;
  pid_t worker = 0;

  Session() {
    c.enter(ProcessKind::driver, nullptr);
    function = c.put(Value{nullptr, 0, NIL, FORMAT_TEST}, {});
    cpu = c.shape({UNIT, 0, 0});
    worker = start([this] {
      c.enter(ProcessKind::worker, nullptr);
      board->tell();
      serve(c, *board);
    });
    board->until([this] { return peek(c.header().worker_count) == 1; });  // or `end` would send nobody home
  }

  Submission submission(const Order& order) {
    Submission s;
    s.function = function;
    s.payload = reinterpret_cast<const u8*>(&order);
    s.payload_bytes = sizeof order;
    s.shape = cpu;
    return s;
  }
  bool runs(u32 o) {
    try {
      c.wait_for(o, wait::Deadline(5000));
      return m.object(o).format == FORMAT_TEST;
    } catch (const WaitTimeout&) {
      return false;
    }
  }

  // A process that does `work` in a transaction, and is killed before it commits; `meanwhile` runs before that.
  template <typename Work, typename Meanwhile>
  void undone(Work work, Meanwhile meanwhile) {
    pid_t child = start([&] {
      c.enter(ProcessKind::driver, nullptr);
      Transaction t(m, c.thread());
      work(t);
      board->at(1);
      for (;;) pause();
    });
    board->until([&] { return board->stage.load() == 1; });
    board->at(0);
    std::thread killer([&] {
      usleep(A_WHILE_US);
      kill(child, SIGKILL);
    });
    meanwhile();
    killer.join();
    await(child);
    c.bury(u32(child), -SIGKILL);
  }

  void end() {
    while (peek(c.header().worker_count)) {
      c.retire(1);
      board->until([&, looks = 0]() mutable { return !peek(c.header().worker_count) || looks++; });
    }
    expect(await(worker) == 0, "the worker ends well");
    expect_whole(m, "at the end");
  }
};

void a_seal() {
  Session s;
  u32 o = s.c.reserve();
  u8 first = 1, second = 2;
  bool sealed = false;
  s.undone([&](Transaction& t) { object::seal(t, o, Value{&first, 1, NIL, FORMAT_TEST}); },
           [&] { sealed = s.c.seal(o, Value{&second, 1, NIL, FORMAT_TEST}, {}); });
  expect(sealed && s.c.ready(o) && *s.c.data_for_reading(o) == second, "the seal that is committed is the one");
  s.end();
}

void the_end_of_an_actor() {
  Session s;
  Order order{Act::actor_new};
  u32 actor = s.c.create_actor(s.submission(order), 0);
  order.act = Act::actor_add;
  std::vector<u32> out;
  s.c.call(actor, s.submission(order), out);
  expect(s.runs(out[0]), "the actor is there");
  s.undone([&](Transaction& t) { mailbox::die(t, s.m.object(actor).actor, SystemFailure::actor_killed, 0, 0); },
           [] { usleep(A_WHILE_US); });
  s.c.call(actor, s.submission(order), out);
  expect(s.runs(out[0]), "an actor that was not killed after all goes on");
  s.c.drop_local(actor);
  s.c.flush_drops();
  expect(await(s.worker) == 0, "the actor's process ends with its last reference");
  expect_whole(s.m, "the end of an actor");
}

void the_end_of_a_worker() {
  Session s;
  s.undone([&](Transaction& t) { t.set(s.m.process(process::find(s.m, u32(s.worker))).retire, 1u); },
           [] { usleep(A_WHILE_US); });
  std::vector<u32> out;
  Order order;
  s.c.submit(s.submission(order), out);
  expect(s.runs(out[0]), "a worker that was not sent home after all goes on");
  s.end();
}

int run(const char*) {
  alarm(60);
  a_seal();
  the_end_of_an_actor();
  the_end_of_a_worker();
  return result("uncommitted");
}

const Test test{"uncommitted", run};

}  // namespace
}  // namespace ray::testing::uncommitted_test
