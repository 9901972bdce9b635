// Tasks and actors: calls made, and run.
#include "bindings/arena.hpp"
#include "bindings/module.hpp"

namespace ray::python {

using namespace nb::literals;

nb::object Arena::submit(nb::handle payload, nb::handle deps, nb::handle nested, u32 num_returns, Submission& s,
                         const ObjectID* actor) {
  std::vector<u32> dep_list = indices(deps), nested_list = indices(nested);
  s.deps = dep_list;
  s.nested = nested_list;
  s.num_returns = num_returns;
  Payload p(shared, payload, 0);
  s.payload = p.value.bytes;
  s.payload_bytes = p.value.size;
  s.block = p.value.block;
  s.kept_at = p.value.kept_at;
  std::vector<u32> out;
  if (actor) c().call(index_of(*actor), s, out);
  else c().submit(s, out);
  return ids_of(out);
}

nb::object Arena::next(nb::handle data, u32 format) {
  Client& client = c();
  Assignment a;
  bool go_on;
  if (data.is_none()) {
    go_on = client.next(nullptr, a);
  } else {
    Payload p(shared, data, format);
    go_on = client.next(&p.value, a);
  }
  if (!go_on) return nb::none();
  return work_of(a);
}

nb::tuple Arena::work_of(const Assignment& a) {
  Client& client = c();
  Task& task = client.m().task(a.task);
  const u8* payload =
      task.block ? client.m().heap(u64(client.m().block(task.block).offset) * GRANULE_BYTES) : task.payload;
  nb::bytes bytes(reinterpret_cast<const char*>(payload), task.payload_bytes);
  nb::object deps = nb::none();
  if (task.deps) {
    nb::list list;
    for (u32 e = task.deps; e; e = client.m().edge(e).next) list.append(hold(client.m().edge(e).object));
    deps = list;
  }
  return nb::make_tuple(u32(a.kind), a.function_key, bytes, deps, a.num_returns,
                        u64(task.job) << 32 | resources::handle(client.m(), task.shape));
}

// A task on top of the one that waits.
void Arena::run_on_top(u32 task) {
  // Of Python's frames. The user's code may have left none to the worker's own steps, which must come to their end.
  constexpr int FRAMES = 128;
  auto below = c().step_up(task);
  int limit = Py_GetRecursionLimit();
  auto leave = [&] {
    if (Py_GetRecursionLimit() == limit + FRAMES) Py_SetRecursionLimit(limit);  // else it is the user's
    c().step_down(*below);
  };
  Py_SetRecursionLimit(limit + FRAMES);
  try {
    helper(work_of(c().assignment(task)));
  } catch (const std::exception& e) {
    // With a task half done, the one below would be answered as if it were that.  A death is sorted out by others.
    if (!c().m().header().shut && c().running() == task) {
      fprintf(stderr, "ray: A worker ends, since a task that ran while another waited could not be ended: %s\n",
              e.what());
      _exit(1);
    }
    leave();
    throw;
  }
  leave();
}

void Arena::finish(nb::list results) {
  std::vector<std::unique_ptr<Payload>> payloads;
  std::vector<std::vector<u32>> nested;
  std::vector<Result> list;
  nested.reserve(nb::len(results));
  for (nb::handle h : results) {
    nb::tuple r = nb::cast<nb::tuple>(h);
    payloads.push_back(std::make_unique<Payload>(shared, r[0], nb::cast<u32>(r[1])));
    nested.push_back(indices(r[2]));
  }
  for (size_t i = 0; i < payloads.size(); ++i) list.push_back(Result{payloads[i]->value, nested[i]});
  c().seal_results(list);
}

void add_tasks(nb::class_<Arena>& arena) {
  arena
      .def(
          "shape", [](Arena& a, i64 cpu, i64 gpu, i64 custom) { return a.c().shape({cpu, gpu, custom}); }, "cpu"_a,
          "gpu"_a, "custom"_a)
      .def(
          "submit",
          [](Arena& a, Id function, nb::handle payload, nb::handle deps, nb::handle nested, u32 num_returns, u32 shape,
             u32 max_retries) {
            Submission s;
            s.function = a.index_of(*function);
            s.shape = shape;
            s.max_retries = max_retries;
            return a.submit(payload, deps, nested, num_returns, s, nullptr);
          },
          "function"_a, "payload"_a, "deps"_a.none(), "nested"_a.none(), "num_returns"_a, "shape"_a, "max_retries"_a)
      .def("next", &Arena::next, "data"_a = nb::none(), "fmt"_a = 0)
      .def("finish", &Arena::finish, "results"_a)
      .def("complete", [](Arena& a) { a.c().complete(); })
      .def(
          "set_helper",
          [](Arena& a, nb::object helper) {
            a.c().set_helps(!helper.is_none());
            a.helper = helper;
          },
          "helper"_a.none())
      .def(
          "fail",
          [](Arena& a, nb::handle data, u32 fmt, nb::handle nested, bool journal) {
            std::vector<u32> list = a.indices(nested);
            Payload p(a.shared, data, fmt);
            a.c().fail(p.value, list, journal);
          },
          "data"_a, "fmt"_a, "nested"_a = nb::none(), "journal"_a = true)
      .def("task_id",
           [](Arena& a) {
             u8 id[ID_BYTES] = {};
             u32 i = a.c().running();
             memcpy(id, i ? a.c().m().task(i).id : a.c().current_parent(), TASK_ID_BYTES);
             return to_bytes(id, ID_BYTES);
           })
      .def("attempt", [](Arena& a) { return a.running().attempt; })
      .def("gpu_ids",
           [](Arena& a) {
             std::vector<u32> ids;
             u64 mask = a.c().m().thread(a.c().thread()).gpu_mask;
             for (u32 g = 0; g < GPUS_MAX; ++g)
               if (mask >> g & 1) ids.push_back(g);
             return ids;
           })
      .def("running_shape",
           [](Arena& a) {
             const Shape& s = a.c().m().shape(a.running().shape);
             return nb::make_tuple(s.need[CPU], s.need[GPU], s.need[CUSTOM]);
           })
      .def(
          "function",
          [](Arena& a, u64 key) {
            u32 o = a.running().function;
            if (!o || object::key(a.c().m(), o) != key)
              throw StaleHandle("the running task is not made of this function");
            return a.hold(o);
          },
          "key"_a)
      .def("returns", [](Arena& a) {
        nb::list out;
        Task& task = a.running();
        for (u32 o = task.returns; o; o = a.c().m().object(o).next_return) out.append(a.hold(o));
        return out;
      });
}

void add_actors(nb::class_<Arena>& arena) {
  arena
      .def(
          "create_actor",
          [](Arena& a, Id cls, nb::handle payload, nb::handle deps, nb::handle nested, u32 shape,
             u32 checkpoint_interval) {
            std::vector<u32> dep_list = a.indices(deps), nested_list = a.indices(nested);
            Payload p(a.shared, payload, 0);
            Submission s;
            s.function = a.index_of(*cls);
            s.shape = shape;
            s.deps = dep_list;
            s.nested = nested_list;
            s.payload = p.value.bytes;
            s.payload_bytes = p.value.size;
            s.block = p.value.block;
            s.kept_at = p.value.kept_at;
            u32 o = a.c().create_actor(s, checkpoint_interval);
            return a.id_of(o);
          },
          "cls"_a, "payload"_a, "deps"_a.none(), "nested"_a.none(), "shape"_a, "checkpoint_interval"_a)
      .def(
          "call",
          [](Arena& a, Id actor, nb::handle payload, nb::handle deps, nb::handle nested, u32 num_returns, u32 method) {
            Submission s;
            s.max_retries = method;
            return a.submit(payload, deps, nested, num_returns, s, &*actor);
          },
          "actor"_a, "payload"_a, "deps"_a.none(), "nested"_a.none(), "num_returns"_a, "method"_a = 0)
      .def(
          "actor_failed",
          [](Arena& a, nb::handle data, u32 fmt) {
            Payload p(a.shared, data, fmt);
            a.c().actor_failed(p.value);
          },
          "data"_a, "fmt"_a)
      .def(
          "checkpoint",
          [](Arena& a, nb::handle data, u32 fmt, nb::handle nested, bool leaves) {
            std::vector<u32> list = a.indices(nested);
            Payload p(a.shared, data, fmt);
            a.c().checkpoint(p.value, list, leaves);
          },
          "data"_a, "fmt"_a, "nested"_a = nb::none(), "leaves"_a = false)
      .def("last_checkpoint",
           [](Arena& a) -> nb::object {
             u32 o = a.c().m().actor(a.c().own_actor()).checkpoint;
             return o ? a.hold(o) : nb::none();
           })
      .def("kill_actor", [](Arena& a, Id actor) { return a.c().kill_actor(a.index_of(*actor)); }, "actor"_a);
}

}  // namespace ray::python
