// What the tasks of the tests do, and the workers that do it.
#pragma once

#include "test.hpp"

namespace ray::testing {

enum class Act : u32 {
  value,        // returns `size` bytes made of its tag
  many,         // each return is `size` bytes and contains `number` ids
  fail,         // fails with `size` bytes
  gate,         // waits until gate `number` is opened, then as `value`
  spawn,        // submits `number` tasks with the tags after its own and waits for all of them
  spawn_gated,  // the same, which wait at gate 4; calls the actor that is its first nested id before and after
  listen,       // waits up to 2 ms for its first nested id
  actor_new,
  actor_fail,  // the constructor fails
  actor_add,   // adds `number` to the actor's sum and returns that
  actor_gate,  // as actor_add, after gate `size` was opened
};

struct Order {
  Act act = Act::value;
  u32 tag = 0;
  u32 number = 0;
  u32 size = 4;
};

inline constexpr u32 FORMAT_TEST = 7;
inline constexpr u32 FORMAT_TEST_FAILURE = 101;

inline u8 pattern(u32 tag, u64 i) { return u8(tag * 37 + i * 11 + (i >> 8) + 5); }
inline std::vector<u8> bytes_of(u32 tag, u64 size) {
  std::vector<u8> bytes(size);
  for (u64 i = 0; i < size; ++i) bytes[i] = pattern(tag, i);
  return bytes;
}

struct ActorMemory {
  u64 sum = 0;
};

// What a task's body leaves for `next` to seal.
struct Outcome {
  std::vector<u8> bytes;
  u32 block = NIL;
  bool has_result = false;
  Value value() const { return Value{bytes.data(), bytes.size(), block, FORMAT_TEST}; }
};

inline Order order_of(Client& c, u32 task) {
  Task& t = c.m().task(task);
  Order order;
  const u8* from = t.block ? c.m().heap(u64(c.m().block(t.block).offset) * GRANULE_BYTES) : t.payload;
  memcpy(&order, from, sizeof order);
  return order;
}

inline u32 block_with(Client& c, const std::vector<u8>& bytes) {
  u32 b = c.allocate(bytes.size());
  c.write_block(b, 0, bytes.data(), bytes.size());
  return b;
}

inline void return_value(Client& c, Outcome& out, std::vector<u8> bytes) {
  out.has_result = true;
  out.bytes = std::move(bytes);
  if (out.bytes.size() > COPY_BYTES) out.block = block_with(c, out.bytes);
}

inline void return_many(Client& c, const Order& order, u32 count) {
  std::vector<std::vector<u8>> bytes;
  std::vector<std::vector<u32>> nested(count);
  for (u32 i = 0; i < count; ++i) {
    bytes.push_back(bytes_of(order.tag + i, order.size));
    for (u32 k = 0; k < order.number; ++k) {
      u8 inner = u8(k);
      nested[i].push_back(c.put(Value{&inner, 1, NIL, FORMAT_TEST}, {}));
    }
  }
  std::vector<Result> results;
  for (u32 i = 0; i < count; ++i) {
    Value v{bytes[i].data(), bytes[i].size(), NIL, FORMAT_TEST};
    if (v.size > COPY_BYTES) v.block = block_with(c, bytes[i]);
    results.push_back(Result{v, nested[i]});
  }
  c.seal_results(results);
  for (auto& list : nested)
    for (u32 o : list) c.drop_local(o);
}

Outcome perform(Client& c, Board& board, const Assignment& a, struct ActorMemory& memory);

// Waits, and meanwhile runs what the kernel says this thread shall run.
template <typename Wait>
inline void wait_helping(Client& c, Board& board, Wait wait) {
  for (;;) {
    u32 task;
    try {
      return wait();
    } catch (const Help& help) {
      task = help.task;
    }
    auto below = c.step_up(task);
    ActorMemory none;
    Outcome out = perform(c, board, c.assignment(task), none);
    if (out.has_result) c.seal_results(std::array{Result{out.value(), {}}});
    c.complete();
    c.step_down(*below);
  }
}

inline void call_first_nested(Client& c, Board& board, const Task& task, u32 tag) {
  if (!task.nested) return;
  u32 actor = c.m().edge(task.nested).object;
  u32 held = c.resolve(c.m().object(actor).id, 0);
  Order call{Act::actor_add, tag, 0, 0};
  Submission s;
  s.payload = reinterpret_cast<const u8*>(&call);
  s.payload_bytes = sizeof call;
  std::vector<u32> out;
  c.call(held, s, out);
  board.returned[tag] = 1;
  for (u32 o : out) c.drop_local(o);
  c.drop_local(held);
}

inline void spawn(Client& c, Board& board, const Order& order, const Task& parent) {
  std::vector<u32> all, out;
  bool gated = order.act == Act::spawn_gated;
  call_first_nested(c, board, parent, order.tag + 20);
  for (u32 i = 1; i <= order.number; ++i) {
    Order child{gated ? Act::gate : Act::value, order.tag + i, 4, 4};
    Submission s;
    s.function = parent.function;
    s.payload = reinterpret_cast<const u8*>(&child);
    s.payload_bytes = sizeof child;
    s.shape = resources::handle(c.m(), parent.shape);
    s.max_retries = 5;
    c.submit(s, out);
    board.returned[child.tag] = 1;
    all.push_back(out[0]);
  }
  wait_helping(c, board, [&] { c.wait_all(all, wait::Deadline(-1)); });
  call_first_nested(c, board, parent, order.tag + 21);
  for (u32 o : all) c.drop_local(o);
}

inline void wait_at_gate(Board& board, u32 gate) {
  board.at_gate[gate].fetch_add(1);
  board.tell();
  board.until([&] { return board.gates[gate].load() != 0; });
}

inline void checkpoint_if_due(Client& c, const ActorMemory& memory) {
  Actor& actor = c.m().actor(c.own_actor());
  if (!actor.interval || actor.done_count < actor.interval) return;
  c.checkpoint(Value{reinterpret_cast<const u8*>(&memory.sum), 8, NIL, FORMAT_TEST}, {});
}

inline Outcome perform(Client& c, Board& board, const Assignment& a, ActorMemory& memory) {
  Outcome out;
  Task& task = c.m().task(a.task);
  Order order = order_of(c, a.task);
  u32 runs_before = board.runs[order.tag].fetch_add(1);
  if (task.attempt > runs_before + board.unseen_attempts)
    board.complain("task %u says attempt %u after %u runs", order.tag, task.attempt, runs_before);
  for (u32 e = task.deps; e; e = c.m().edge(e).next)
    if (!c.ready(c.m().edge(e).object)) board.complain("task %u runs before its argument has a value", order.tag);
  switch (order.act) {
    case Act::gate: wait_at_gate(board, order.number); [[fallthrough]];
    case Act::value:
      if (a.num_returns > 1) return_many(c, order, a.num_returns);
      else if (a.num_returns) return_value(c, out, bytes_of(order.tag, order.size));
      break;
    case Act::many: return_many(c, order, a.num_returns); break;
    case Act::fail: {
      std::vector<u8> bytes = bytes_of(order.tag, order.size);
      Value v{bytes.data(), bytes.size(), NIL, FORMAT_TEST_FAILURE};
      if (v.size > COPY_BYTES) v.block = block_with(c, bytes);
      c.fail(v, {}, true);
      break;
    }
    case Act::spawn:
    case Act::spawn_gated:
      spawn(c, board, order, task);
      return_value(c, out, bytes_of(order.tag, order.size));
      break;
    case Act::listen: {
      u32 o = c.m().edge(task.nested).object;
      u32 held = c.resolve(c.m().object(o).id, 0);
      try {
        c.wait_for(held, wait::Deadline(2));
      } catch (const WaitTimeout&) {
      }
      c.drop_local(held);
      return_value(c, out, bytes_of(order.tag, order.size));
      break;
    }
    case Act::actor_fail: {
      std::vector<u8> bytes = bytes_of(order.tag, order.size);
      c.actor_failed(Value{bytes.data(), bytes.size(), NIL, FORMAT_TEST_FAILURE});
      break;
    }
    case Act::actor_new: {
      memory.sum = 0;
      if (order.number) wait_at_gate(board, order.number);
      if (u32 o = c.m().actor(c.own_actor()).checkpoint) memcpy(&memory.sum, c.data_for_reading(o), 8);
      break;
    }
    case Act::actor_gate: wait_at_gate(board, order.size); [[fallthrough]];
    case Act::actor_add: {
      checkpoint_if_due(c, memory);
      memory.sum += order.number;
      if (a.num_returns) {
        std::vector<u8> bytes(8);
        memcpy(bytes.data(), &memory.sum, 8);
        return_value(c, out, bytes);
      }
      break;
    }
  }
  return out;
}

inline bool finish_and_take(Client& c, const Outcome& out, Assignment& a) {
  Value v = out.value();
  return c.next(out.has_result ? &v : nullptr, a);
}

// A worker's whole life.
inline void serve(Client& c, Board& board) {
  c.set_helps(true);
  Assignment a;
  ActorMemory memory;
  bool more = c.next(nullptr, a);
  while (more) {
    Outcome out = perform(c, board, a, memory);
    more = finish_and_take(c, out, a);
  }
  c.leave();
}

}  // namespace ray::testing
