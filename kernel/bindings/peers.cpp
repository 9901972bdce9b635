// What the node manager does with other nodes.
#include "bindings/arena.hpp"
#include "bindings/module.hpp"

namespace ray::python {

using namespace nb::literals;

namespace {

template <size_t BYTES>
std::array<u8, BYTES> id_from(nb::handle h) {
  if (!PyBytes_CheckExact(h.ptr()) || PyBytes_GET_SIZE(h.ptr()) != Py_ssize_t(BYTES))
    throw nb::value_error(BYTES == ID_BYTES ? "an object's id, or a node's, has 20 bytes" : "a task's id has 16 bytes");
  std::array<u8, BYTES> id;
  memcpy(id.data(), PyBytes_AS_STRING(h.ptr()), BYTES);
  return id;
}
auto object_from(nb::handle h) { return id_from<ID_BYTES>(h); }
auto task_from(nb::handle h) { return id_from<TASK_ID_BYTES>(h); }

template <size_t BYTES>
nb::bytes bytes_of(const std::array<u8, BYTES>& id) {
  return to_bytes(id.data(), BYTES);
}

template <typename Read>
auto list_from(nb::handle sequence, Read read) {
  std::vector<decltype(read(sequence))> out;
  if (sequence.is_none()) return out;
  if (!PyList_CheckExact(sequence.ptr())) throw nb::type_error("this is given in a list");
  for (nb::handle h : nb::borrow<nb::list>(sequence)) out.push_back(read(h));
  return out;
}

template <typename Items, typename Write>
nb::list to_list(const Items& items, Write write) {
  nb::list out;
  for (const auto& item : items) out.append(write(item));
  return out;
}

IdRef ref_from(nb::handle h) {
  nb::tuple pair = nb::cast<nb::tuple>(h);
  return {object_from(pair[0]), nb::cast<u32>(pair[1])};
}
nb::object from_ref(const IdRef& ref) { return nb::make_tuple(bytes_of(ref.id), ref.owner); }

IdTimes times_from(nb::handle h) {
  nb::tuple pair = nb::cast<nb::tuple>(h);
  return {object_from(pair[0]), nb::cast<u32>(pair[1])};
}
nb::object from_times(const IdTimes& pair) { return nb::make_tuple(bytes_of(pair.first), pair.second); }

nb::object from_queue(const QueueState& q) {
  return nb::make_tuple(q.shape, q.need[CPU], q.need[GPU], q.need[CUSTOM], q.tasks, q.feasible);
}

nb::object from_sent(const SentTask& s) {
  nb::object function = s.function ? from_ref(*s.function) : nb::none();
  nb::object actor = s.actor ? from_ref(*s.actor) : nb::none();
  nb::object interval = s.interval ? nb::cast(*s.interval) : nb::none();
  nb::object after = s.after ? nb::object(bytes_of(*s.after)) : nb::none();
  return nb::make_tuple(bytes_of(s.id), s.job, function, nb::bytes(s.payload.data(), s.payload.size()),
                        to_list(s.deps, from_ref), to_list(s.nested, from_ref), s.num_returns, s.need[CPU], s.need[GPU],
                        s.need[CUSTOM], s.attempt, s.retries_left, actor, after, interval, s.around,
                        s.checkpoint ? from_ref(*s.checkpoint) : nb::none(), s.turn);
}

SentTask sent_from(const nb::tuple& task) {
  SentTask s{};
  if (task.size() != 18) throw nb::value_error("a task that is sent has 18 parts");
  s.id = task_from(task[0]);
  s.job = nb::cast<u32>(task[1]);
  if (!task[2].is_none()) s.function = ref_from(task[2]);
  s.deps = list_from(task[4], ref_from);
  s.nested = list_from(task[5], ref_from);
  s.num_returns = nb::cast<u32>(task[6]);
  for (u32 k = 0; k < RESOURCE_KINDS; ++k) s.need[k] = nb::cast<i64>(task[7 + k]);
  s.attempt = nb::cast<u32>(task[10]);
  s.retries_left = nb::cast<u32>(task[11]);
  if (!task[12].is_none()) s.actor = ref_from(task[12]);
  if (!task[13].is_none()) s.after = task_from(task[13]);
  if (!task[14].is_none()) s.interval = nb::cast<u32>(task[14]);
  s.around = nb::cast<bool>(task[15]);
  if (!task[16].is_none()) s.checkpoint = ref_from(task[16]);
  s.turn = nb::cast<u32>(task[17]);
  return s;
}

// Large values are for the peer to ask for.
nb::object data_of(Arena& a, u32 value) {
  if (a.c().m().object(value).size_bytes > NEWS_BYTES) return nb::none();
  try {
    return a.copy_of(value);
  } catch (const SpillFailed&) {
    return nb::none();
  }
}

nb::object from_news(Arena& a, const News& n) {
  if (n.kind == NewsKind::gone) {
    auto pair = [](const std::pair<u32, u32>& note) { return nb::make_tuple(note.first, note.second); };
    return nb::make_tuple(u32(n.kind), bytes_of(n.id.id), n.id.owner, to_list(n.notes, pair), n.located);
  }
  if (n.kind == NewsKind::queued) return nb::make_tuple(u32(n.kind));
  nb::object held = a.id_of(n.object);
  nb::object ends = n.ends ? nb::object(bytes_of(n.id.id)) : nb::none();
  if (n.kind == NewsKind::calls) return nb::make_tuple(u32(n.kind), held, n.peer, ends);
  if (n.kind == NewsKind::checkpoint)
    return nb::make_tuple(u32(n.kind), held, n.peer, bytes_of(n.id.id), n.turn, n.ends);
  if (n.kind != NewsKind::done) return nb::make_tuple(u32(n.kind), held);
  u32 value = a.c().value_of(n.object);
  const Object& object = a.c().m().object(value);
  return nb::make_tuple(u32(n.kind), n.id.owner, bytes_of(n.id.id), object.format, data_of(a, value), object.size_bytes,
                        to_list(n.nested, from_ref), n.failed, n.turn);
}

}  // namespace

void add_peers(nb::class_<Arena>& arena) {
  arena
      .def(
          "enter_peer", [](Arena& a, nb::bytes node_id) { return a.c().enter_peer(object_from(node_id).data()); },
          "node_id"_a)
      .def("peers",
           [](Arena& a) {
             return to_list(a.c().remotes(ProcessKind::peer),
                            [](const Remote& r) { return nb::make_tuple(r.index, bytes_of(r.id)); });
           })
      .def(
          "bury_peer", [](Arena& a, u32 peer) { a.c().bury_peer(peer); }, "peer"_a)
      .def(
          "enter_guest",
          [](Arena& a, u32 home, nb::bytes root_id) { return a.c().enter_guest(home, object_from(root_id).data()); },
          "home"_a, "root_id"_a)
      .def(
          "bury_guest", [](Arena& a, u32 job) { a.c().bury_guest(job); }, "job"_a)
      .def("guests",
           [](Arena& a) {
             return to_list(a.c().remotes(ProcessKind::guest),
                            [](const Remote& r) { return nb::make_tuple(r.job, r.home, bytes_of(r.id)); });
           })
      .def(
          "job_root",
          [](Arena& a, u32 job) -> nb::object {
            std::optional<Remote> found = a.c().job_root(job);
            if (!found) return nb::none();
            return nb::make_tuple(found->home, bytes_of(found->id));
          },
          "job"_a)
      .def(
          "foreign",
          [](Arena& a, nb::handle ref) {
            IdRef one = ref_from(ref);
            return a.id_of(a.c().take_in({&one, 1})[0]);
          },
          "ref"_a)
      .def(
          "owner", [](Arena& a, Id oid) { return a.c().owner(a.index_of(*oid)); }, "oid"_a)
      .def(
          "lend", [](Arena& a, u32 peer, nb::handle oids) { a.c().lend(peer, a.indices(oids)); }, "peer"_a, "oids"_a)
      .def(
          "lend_nested",
          [](Arena& a, u32 peer, Id oid) { return to_list(a.c().lend_nested(peer, a.index_of(*oid)), from_ref); },
          "peer"_a, "oid"_a)
      .def(
          "take_back",
          [](Arena& a, u32 peer, nb::handle returned) { a.c().take_back(peer, list_from(returned, times_from)); },
          "peer"_a, "returned"_a)
      .def(
          "note", [](Arena& a, u32 peer, nb::handle refs) { a.c().note(peer, list_from(refs, ref_from)); }, "peer"_a,
          "refs"_a)
      .def(
          "notes", [](Arena& a, u32 peer) { return to_list(a.c().notes(peer), from_times); }, "peer"_a)
      .def(
          "forget_notes",
          [](Arena& a, u32 peer, nb::handle ids) {
            return to_list(a.c().forget_notes(peer, list_from(ids, object_from)), from_times);
          },
          "peer"_a, "ids"_a)
      .def(
          "loans", [](Arena& a, u32 peer) { return to_list(a.c().loans(peer), from_times); }, "peer"_a)
      .def(
          "match_loans",
          [](Arena& a, u32 peer, nb::handle noted) { a.c().match_loans(peer, list_from(noted, times_from)); }, "peer"_a,
          "noted"_a)
      .def("queues", [](Arena& a) { return to_list(a.c().queues(), from_queue); })
      .def(
          "waiting_jobs",
          [](Arena& a, u32 shape, nb::tuple from) {
            Away place{nb::cast<u32>(from[0]), nb::cast<u64>(from[1]), {}, 0};
            std::set<u32> jobs = a.c().waiting_jobs(shape, place);
            return nb::make_tuple(to_list(jobs, [](u32 job) { return job; }),
                                  nb::make_tuple(place.index, place.serial));
          },
          "shape"_a, "place"_a)
      .def(
          "followers", [](Arena& a, Id oid) { return to_list(a.c().followers(a.index_of(*oid)), from_queue); }, "oid"_a)
      .def(
          "send_followers",
          [](Arena& a, u32 peer, Id oid, u32 shape, u32 count) {
            return to_list(a.c().send_followers(peer, a.index_of(*oid), shape, count), from_sent);
          },
          "peer"_a, "oid"_a, "shape"_a, "count"_a)
      .def(
          "send_tasks",
          [](Arena& a, u32 peer, u32 shape, u32 count) {
            return to_list(a.c().send_tasks(peer, shape, count), from_sent);
          },
          "peer"_a, "shape"_a, "count"_a)
      .def(
          "send_calls",
          [](Arena& a, u32 peer, Id actor, u32 count) {
            return to_list(a.c().send_calls(peer, a.index_of(*actor), count), from_sent);
          },
          "peer"_a, "actor"_a, "count"_a)
      .def(
          "heard_of_end",
          [](Arena& a, u32 peer, nb::bytes actor_id) { a.c().heard_of_end(peer, object_from(actor_id)); }, "peer"_a,
          "actor_id"_a)
      .def(
          "away", [](Arena& a, u32 peer) { return to_list(a.c().away(peer), bytes_of<TASK_ID_BYTES>); }, "peer"_a)
      .def(
          "recall",
          [](Arena& a, u32 peer, nb::handle task_ids) {
            std::vector<TaskIdBytes> list = list_from(task_ids, task_from);
            return a.c().recall(peer, {list.begin(), list.end()});
          },
          "peer"_a, "task_ids"_a)
      .def(
          "receive_tasks",
          [](Arena& a, u32 peer, nb::list tasks) {
            for (nb::handle h : tasks) {
              nb::tuple task = nb::cast<nb::tuple>(h);
              SentTask sent = sent_from(task);
              Payload payload(a.shared, task[3], 0);
              a.c().receive_task(peer, sent, payload.value);
            }
          },
          "peer"_a, "tasks"_a)
      .def(
          "received", [](Arena& a, u32 peer) { return to_list(a.c().received(peer), bytes_of<TASK_ID_BYTES>); },
          "peer"_a)
      .def(
          "drop_received",
          [](Arena& a, u32 peer, nb::handle task_ids) {
            return to_list(a.c().drop_received(peer, list_from(task_ids, task_from)), bytes_of<TASK_ID_BYTES>);
          },
          "peer"_a, "task_ids"_a)
      .def(
          "finish_return",
          [](Arena& a, u32 peer, nb::bytes object_id, u32 fmt, nb::handle data, u64 size, nb::handle nested,
             bool failed, u32 turn) {
            std::vector<IdRef> refs = list_from(nested, ref_from);
            if (data.is_none())
              return a.c().finish_return(peer, object_from(object_id), Value{nullptr, size, NIL, fmt}, false, refs,
                                         false, turn);
            Payload p(a.shared, data, fmt);
            return a.c().finish_return(peer, object_from(object_id), p.value, true, refs, failed, turn);
          },
          "peer"_a, "object_id"_a, "fmt"_a, "data"_a.none(), "size"_a, "nested"_a, "failed"_a = false, "turn"_a = 0)
      .def(
          "take_checkpoint",
          [](Arena& a, u32 peer, Id actor, u32 turn, Id value) {
            return a.c().take_checkpoint(peer, a.index_of(*actor), turn, a.index_of(*value));
          },
          "peer"_a, "actor"_a, "turn"_a, "value"_a)
      .def(
          "reclaim_actor", [](Arena& a, u32 peer, Id actor) { return a.c().reclaim_actor(peer, a.index_of(*actor)); },
          "peer"_a, "actor"_a)
      .def("served_actors", [](Arena& a) { return to_list(a.c().served_actors(), [&](u32 o) { return a.id_of(o); }); })
      .def(
          "location",
          [](Arena& a, Id oid) -> nb::object {
            std::optional<Location> where = a.c().location(a.index_of(*oid));
            if (!where) return nb::none();
            return nb::make_tuple(where->peer, where->size_bytes, where->format);
          },
          "oid"_a)
      .def(
          "news",
          [](Arena& a, u32 max_items, i64 timeout_ms) {
            return to_list(a.c().news(max_items, timeout_ms), [&](const News& n) { return from_news(a, n); });
          },
          "max_items"_a, "timeout_ms"_a)
      .def(
          "listen", [](Arena& a, std::optional<int> fd) { a.c().listen(fd); }, "fd"_a.none())
      .def(
          "arm", [](Arena& a, bool hears_queue) { a.c().arm(hears_queue); }, "hears_queue"_a = true)
      .def(
          "has_news", [](Arena& a, bool hears_queue) { return a.c().has_news(hears_queue); }, "hears_queue"_a)
      .def(
          "hear", [](Arena& a, std::optional<int> fd) { a.c().hear(fd); }, "fd"_a.none())
      .def("give_way", [](Arena& a) { return a.c().give_way(); })
      .def(
          "sleep",
          [](Arena& a, i64 timeout_ms, bool hears_queue) {
            Ears::Heard heard = a.c().sleep(timeout_ms, hears_queue);
            return nb::make_tuple(heard.news, heard.descriptor);
          },
          "timeout_ms"_a, "hears_queue"_a)
      .def(
          "renew_news", [](Arena& a, u32 peer) { a.c().renew_news(peer); }, "peer"_a)
      .def("drivers",
           [](Arena& a) {
             return to_list(a.c().remotes(ProcessKind::driver),
                            [](const Remote& d) { return nb::make_tuple(d.job, bytes_of(d.id)); });
           })
      .def(
          "subscribe", [](Arena& a, Id oid) { return a.c().subscribe(a.index_of(*oid)); }, "oid"_a)
      .def(
          "is_watched", [](Arena& a, Id oid) { return a.c().is_watched(a.index_of(*oid)); }, "oid"_a)
      .def(
          "is_wanted", [](Arena& a, Id oid) { return a.c().is_wanted(a.index_of(*oid)); }, "oid"_a)
      .def("resources", [](Arena& a) {
        std::vector<i64> total, free;
        for (u32 k = 0; k < RESOURCE_KINDS; ++k) {
          total.push_back(a.c().header().total[k]);
          free.push_back(std::atomic_ref(a.c().header().free[k]).load(std::memory_order_relaxed));
        }
        return nb::make_tuple(nb::make_tuple(total[0], total[1], total[2]), nb::make_tuple(free[0], free[1], free[2]));
      });
}

}  // namespace ray::python
