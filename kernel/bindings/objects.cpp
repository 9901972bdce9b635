// Values put, awaited and read.
#include "bindings/arena.hpp"
#include "bindings/module.hpp"

#include <algorithm>

namespace ray::python {

using namespace nb::literals;

namespace {

// Another thread may change the caller's list during a wait.
nb::object own_list(nb::handle ids) {
  if (!PyList_CheckExact(ids.ptr())) throw nb::type_error("ids are given in a list");
  return nb::steal(PyList_GetSlice(ids.ptr(), 0, PyList_GET_SIZE(ids.ptr())));
}

// Each id once; the time is linear.
void must_differ(Client& c, const std::vector<u32>& list) {
  static u32 stamp = 0;
  if (++stamp == 0) ++stamp;
  for (u32 o : list) {
    u32& last = c.m().local(o).stamp;
    if (last == stamp) throw nb::value_error("an id is given twice");
    last = stamp;
  }
}

}  // namespace

nb::tuple Arena::data_of(u32 o) {
  Client& client = c();
  o = client.value_of(o);
  Object& object = client.m().object(o);
  if (object.state == OBJECT_ACTOR) throw StaleHandle("this id is an actor's: call its methods instead");
  if (object.size_bytes <= SNAPSHOT_BYTES) {
    const char* data = reinterpret_cast<const char*>(client.data_for_reading(o));
    return nb::make_tuple(object.format, nb::bytes(data, object.size_bytes));
  }
  // An alias's target may be known to this process only through the alias.
  u32 held = client.resolve(object.id, object::key(client.m(), o));
  try {
    client.pin(held);
  } catch (...) {
    client.drop_local(held);
    throw;
  }
  View* view = new View(shared, o, client.data_for_reading(o), object.size_bytes);
  return nb::make_tuple(object.format, nb::cast(view, nb::rv_policy::take_ownership));
}

nb::object Arena::copy_of(u32 o) {
  Client& client = c();
  nb::object held = hold(o);
  nb::object bytes = nb::steal(PyBytes_FromStringAndSize(nullptr, Py_ssize_t(client.m().object(o).size_bytes)));
  if (!bytes.is_valid()) throw nb::python_error();
  client.copy_value(o, reinterpret_cast<u8*>(PyBytes_AS_STRING(bytes.ptr())));
  return bytes;
}

void add_objects(nb::class_<Arena>& arena) {
  arena
      .def(
          "put",
          [](Arena& a, nb::handle data, u32 fmt, nb::handle nested) {
            std::vector<u32> list = a.indices(nested);
            Payload p(a.shared, data, fmt);
            u32 o = a.c().put(p.value, list);
            return a.id_of(o);
          },
          "data"_a, "fmt"_a, "nested"_a = nb::none())
      .def(
          "allocate", [](Arena& a, u64 nbytes) { return new PyBlock(a.shared, a.c().allocate(nbytes), nbytes); },
          "nbytes"_a, nb::rv_policy::take_ownership)
      .def("reserve", [](Arena& a) { return a.id_of(a.c().reserve()); })
      .def(
          "seal",
          [](Arena& a, Id oid, nb::handle data, u32 fmt, nb::handle nested) {
            std::vector<u32> list = a.indices(nested);
            Payload p(a.shared, data, fmt);
            return a.c().seal(a.index_of(*oid), p.value, list);
          },
          "oid"_a, "data"_a, "fmt"_a, "nested"_a = nb::none())
      .def(
          "get",
          [](Arena& a, Id oid, i64 timeout_ms) {
            u32 o = a.index_of(*oid);
            if (!a.c().ready(o)) {
              if (a.c().m().object(o).state == OBJECT_ACTOR)
                throw StaleHandle("this id is an actor's: call its methods instead");
              wait::Deadline deadline(timeout_ms);
              a.with_help([&] { a.c().wait_for(o, deadline); });
            }
            return a.data_of(o);
          },
          "oid"_a, "timeout_ms"_a = -1)
      .def(
          "get_many",
          [](Arena& a, nb::handle given, i64 timeout_ms) {
            nb::object oids = own_list(given);
            std::vector<u32> list = a.indices(oids);
            wait::Deadline deadline(timeout_ms);
            a.with_help([&] { a.c().wait_all(list, deadline); });
            nb::list out;
            for (u32 o : list) {
              if (!a.c().ready(o)) break;
              out.append(a.data_of(o));
              if (a.c().m().object(a.c().value_of(o)).format >= FORMAT_ERROR) break;
            }
            return out;
          },
          "oids"_a, "timeout_ms"_a = -1)
      .def(
          "wait",
          [](Arena& a, nb::handle given, u32 num_returns, i64 timeout_ms) {
            nb::object oids = own_list(given);
            std::vector<u32> list = a.indices(oids);
            must_differ(a.c(), list);
            size_t wanted = std::min<size_t>(num_returns, list.size());
            wait::Deadline deadline(timeout_ms);
            std::vector<bool> marks = a.with_help([&] { return a.c().wait_some(list, wanted, deadline); });
            Py_ssize_t marked = Py_ssize_t(std::count(marks.begin(), marks.end(), true)), next[2] = {0, 0};
            nb::list lists[2] = {nb::steal<nb::list>(PyList_New(Py_ssize_t(list.size()) - marked)),
                                 nb::steal<nb::list>(PyList_New(marked))};
            for (size_t i = 0; i < list.size(); ++i) {
              bool ready = marks[i];
              nb::handle id = PyList_GET_ITEM(oids.ptr(), Py_ssize_t(i));
              PyList_SET_ITEM(lists[ready].ptr(), next[ready]++, id.inc_ref().ptr());
            }
            return nb::make_tuple(lists[1], lists[0]);
          },
          "oids"_a, "num_returns"_a, "timeout_ms"_a = -1)
      .def(
          "is_ready", [](Arena& a, Id oid) { return a.c().ready(a.index_of(*oid)); }, "oid"_a)
      .def(
          "described",
          [](Arena& a, Id oid) -> nb::object {
            u32 o = a.index_of(*oid);
            if (!a.c().ready(o)) return nb::none();
            const Object& value = a.c().m().object(a.c().value_of(o));
            return nb::make_tuple(value.format, value.size_bytes);
          },
          "oid"_a)
      .def(
          "set_spill_file", [](Arena& a, int fd, u64 capacity_bytes) { a.c().set_spill_file(fd, capacity_bytes); },
          "fd"_a, "capacity_bytes"_a)
      .def(
          "spill", [](Arena& a, u64 nbytes) { return a.c().spill(nbytes); }, "nbytes"_a)
      .def(
          "trim_spill_file", [](Arena& a, u64 limit_bytes) { return a.c().trim_spill_file(limit_bytes); },
          "limit_bytes"_a = u64(1) << 30)
      .def("wait_room", [](Arena& a, i64 timeout_ms) { a.c().wait_room(timeout_ms); }, "timeout_ms"_a);
}

}  // namespace ray::python
