// A client as Python sees it; what its methods share.
#pragma once

#include "bindings/memory.hpp"

#include <vector>

namespace ray::python {

class Arena {
 public:
  explicit Arena(Mapping* m) : shared(new Shared(m)) {}
  explicit Arena(const SharedClient& s) : shared(s) {}
  Client& c() { return *shared; }

  u32 index_of(const ObjectID& o) {
    if (!(o.client == shared)) throw StaleHandle("this id belongs to a session that has ended");
    if (!o.index) throw StaleHandle("this object is gone: nothing referred to it any more");
    return o.index;
  }
  std::vector<u32> indices(nb::handle sequence) {
    std::vector<u32> out;
    if (sequence.is_none()) return out;
    PyObject* list = sequence.ptr();
    if (!PyList_CheckExact(list)) throw nb::type_error("ids are given in a list");
    out.resize(size_t(PyList_GET_SIZE(list)));
    for (size_t i = 0; i < out.size(); ++i) {
      nb::handle h = PyList_GET_ITEM(list, Py_ssize_t(i));
      if (!is_object_id(h.ptr())) throw nb::type_error("the list holds what is no ObjectID");
      out[i] = index_of(id_in(h));
    }
    return out;
  }

  nb::object id_of(u32 o) { return make_id(shared, o); }
  nb::object ids_of(const std::vector<u32>& list) {
    if (list.empty()) return nb::none();
    if (list.size() == 1) return id_of(list[0]);
    nb::list out;
    for (u32 o : list) out.append(id_of(o));
    return out;
  }
  // For objects that something else keeps alive meanwhile.
  nb::object hold(u32 o) {
    Client& client = c();
    return id_of(client.resolve(client.m().object(o).id, object::key(client.m(), o)));
  }

  // A value as (format, bytes or View).
  nb::tuple data_of(u32 o);
  nb::object copy_of(u32 o);

  nb::object submit(nb::handle payload, nb::handle deps, nb::handle nested, u32 num_returns, Submission& s,
                    const ObjectID* actor);
  nb::object next(nb::handle data, u32 format);
  nb::tuple work_of(const Assignment& a);
  void finish(nb::list results);
  Task& running() {
    u32 i = c().running();
    if (!i) throw KernelError("no task runs on this thread");
    return c().m().task(i);
  }

  // Waits, and meanwhile runs what the kernel says this thread shall run.
  template <typename Wait>
  auto with_help(Wait wait) {
    for (;;) {
      u32 task;
      try {
        return wait();
      } catch (const Help& help) {
        task = help.task;
      }
      run_on_top(task);
    }
  }

  SharedClient shared;
  nb::object helper;  // runs work_of's tuples

 private:
  void run_on_top(u32 task);
};

}  // namespace ray::python
