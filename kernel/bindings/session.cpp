// Arenas made, joined and left, and what is said of their processes.
#include "bindings/arena.hpp"
#include "bindings/module.hpp"
#include "check.hpp"

namespace ray::python {

using namespace nb::literals;

void add_session(nb::class_<Arena>& arena) {
  arena
      .def_static(
          "create",
          [](u64 heap_bytes, std::vector<i64> resources, std::optional<std::string> directory, bool huge_pages,
             u32 max_workers, bool any_user) {
            ArenaOptions o;
            o.heap_bytes = heap_bytes;
            if (resources.size() != RESOURCE_KINDS) throw nb::value_error("resources are [cpu, gpu, custom]");
            for (u32 k = 0; k < RESOURCE_KINDS; ++k) o.resources[k] = resources[k];
            if (resources[GPU] > i64(GPUS_MAX) * UNIT) throw nb::value_error("at most 64 GPUs a node");
            o.directory = directory ? directory->c_str() : nullptr;
            o.huge_pages = huge_pages;
            o.max_workers = max_workers;
            o.any_user = any_user;
            return new Arena(Mapping::create(o));
          },
          "heap_bytes"_a, "resources"_a, "directory"_a = nb::none(), "huge_pages"_a = false, "max_workers"_a = 1024,
          "any_user"_a = false, nb::rv_policy::take_ownership)
      .def_static(
          "attach", [](int fd) { return new Arena(Mapping::attach(fd)); }, "fd"_a, nb::rv_policy::take_ownership)
      .def(
          "register",
          [](Arena& a, u32 kind, std::optional<nb::bytes> root_id) {
            if (root_id && root_id->size() != ID_BYTES) throw nb::value_error("a root id has 20 bytes");
            a.c().enter(ProcessKind(kind), root_id ? reinterpret_cast<const u8*>(root_id->c_str()) : nullptr);
          },
          "kind"_a, "root_id"_a = nb::none())
      .def("leave",
           [](Arena& a) {
             if (current() == a.shared) current() = SharedClient();
             a.c().m().close_fd();
             a.c().leave();
           })
      .def("shut", [](Arena& a) { a.c().shut(); })
      .def_prop_ro("fd", [](Arena& a) { return a.c().m().fd(); })
      .def_prop_ro("is_shut", [](Arena& a) { return a.c().header().shut.load() != 0; })
      .def_prop_ro("job", [](Arena& a) { return a.c().job(); })
      .def_prop_ro("journal_last", [](Arena& a) { return std::atomic_ref(a.c().header().journal_last).load(); })
      .def_prop_ro("ready_tasks", [](Arena& a) { return peek(a.c().header().ready_count); })
      .def(
          "set_session",
          [](Arena& a, nb::bytes data) {
            if (data.size() > SESSION_BYTES) throw nb::value_error("a session record has at most 16 KiB");
            memcpy(a.c().header().session, data.c_str(), data.size());
            a.c().header().session_bytes = u32(data.size());
          },
          "data"_a)
      .def("session", [](Arena& a) { return to_bytes(a.c().header().session, a.c().header().session_bytes); })
      .def("make_current", [](Arena& a) { current() = a.shared; });
}

nb::list to_list(const std::vector<Activity>& activities) {
  nb::list out;
  for (const Activity& each : activities)
    out.append(nb::make_tuple(each.pid, each.started, each.kind, each.key, to_bytes(each.function_id, ID_BYTES),
                              each.job, each.since_ns, each.retriable, each.stops));
  return out;
}

void add_node(nb::class_<Arena>& arena) {
  arena.def(
           "bury", [](Arena& a, u32 pid, i32 status) { return a.c().bury(pid, status); }, "pid"_a, "status"_a)
      .def("processes",
           [](Arena& a) {
             Mapping& m = a.c().m();
             nb::list out;
             for (u32 i = 1; i <= m.header().processes.high_water; ++i) {
               Process& p = m.process(i);
               if (p.state == PROCESS_FREE || !process::is_local(p)) continue;
               u64 key = 0, since = 0;
               for (u32 x = p.threads, n = 0; x && n < 1000; x = m.thread(x).next, ++n)
                 if (u32 task = m.thread(x).task) {
                   key = m.task(task).function ? object::key(m, m.task(task).function) : 0;
                   since = m.thread(x).task_since_ns;
                 }
               out.append(nb::make_tuple(p.pid, p.started, p.kind, key, since));
             }
             return out;
           })
      .def("demand",
           [](Arena& a) {
             Demand d = a.c().demand();
             return nb::make_tuple(d.fitting, d.idle, d.workers, d.limit);
           })
      .def(
          "wait_demand", [](Arena& a, i64 timeout_ms) { a.c().wait_demand(timeout_ms); }, "timeout_ms"_a)
      .def("nudge", [](Arena& a) { a.c().nudge(); })
      .def(
          "retire", [](Arena& a, u32 count) { return a.c().retire(count); }, "count"_a)
      .def("running", [](Arena& a) { return to_list(a.c().activities()); })
      .def("end_jobs",
           [](Arena& a) {
             std::vector<Activity> running;
             u32 doomed = a.c().end_jobs(running);
             return nb::make_tuple(doomed, to_list(running));
           })
      .def(
          "stop",
          [](Arena& a, u32 pid, u64 key, int pidfd, std::optional<Id> report, bool again) {
            return a.c().stop(pid, key, pidfd, report ? a.index_of(**report) : NIL,
                              again ? STOPPED_TO_RUN_AGAIN : STOPPED_FOR_GOOD);
          },
          "pid"_a, "key"_a, "pidfd"_a, "report"_a.none(), "again"_a)
      .def(
          "stop_with_job",
          [](Arena& a, u32 pid, u64 key, int pidfd) { return a.c().stop(pid, key, pidfd, NIL, STOPPED_WITH_ITS_JOB); },
          "pid"_a, "key"_a, "pidfd"_a)
      .def_prop_ro("resting", [](Arena& a) { return a.c().resting(); })
      .def("resume", [](Arena& a) { return a.c().resume(); })
      .def(
          "lock_holder", [](Arena& a, i64 timeout_ms) { return a.c().lock_holder(timeout_ms); }, "timeout_ms"_a)
      .def(
          "journal",
          [](Arena& a, u32 kind, nb::handle data, u32 job, u32 format) {
            Bytes b(data);
            return a.c().journal(JournalKind(kind), b.data(), u32(b.size()), job, format);
          },
          "kind"_a, "data"_a, "job"_a = 0, "fmt"_a = FORMAT_BYTES)
      .def(
          "journal_read",
          [](Arena& a, u64 after, i64 timeout_ms) {
            std::vector<JournalItem> items;
            u64 place = a.c().journal_read(after, timeout_ms, items);
            nb::list out;
            for (JournalItem& item : items) {
              nb::object data = nb::bytes(item.bytes.data(), item.bytes.size());
              if (item.object) {
                nb::object id = a.id_of(item.object);
                data = a.copy_of(a.c().value_of(item.object));
              }
              out.append(nb::make_tuple(item.sequence, item.kind, item.job, item.format, data));
            }
            return nb::make_tuple(place, out);
          },
          "after"_a, "timeout_ms"_a = 0)
      .def("stats",
           [](Arena& a) {
             nb::dict out;
             a.c().let_go();
             for (auto& [name, value] : statistics(a.c().m())) out[name.c_str()] = value;
             return out;
           })
      .def("check", [](Arena& a) { return check(a.c().m()); })
      .def("events", [](Arena& a) {
        Mapping& m = a.c().m();
        nb::list out;
        for (u32 i = 1; i <= m.header().threads.high_water; ++i) {
          u32 n = m.thread(i).event_count.load(std::memory_order_acquire);
          for (u32 k = n > EVENTS_PER_THREAD ? n - EVENTS_PER_THREAD : 0; k < n; ++k) {
            const Event& e = m.events(i)[k % EVENTS_PER_THREAD];
            out.append(nb::make_tuple(e.pid, e.kind, e.start_ns, e.end_ns, to_bytes(e.task_id, TASK_ID_BYTES),
                                      e.function_key, e.method));
          }
        }
        return out;
      });
}

}  // namespace ray::python
