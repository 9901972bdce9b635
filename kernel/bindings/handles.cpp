// The types whose instances keep something of the arena alive: ids, blocks, views.
#include "bindings/memory.hpp"
#include "bindings/module.hpp"

namespace ray::python {

using namespace nb::literals;

namespace {

int view_buffer(PyObject* self, Py_buffer* buffer, int flags) {
  View* view = nb::inst_ptr<View>(self);
  return PyBuffer_FillInfo(buffer, self, const_cast<u8*>(view->data), Py_ssize_t(view->bytes), 1, flags);
}
PyType_Slot view_slots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(view_buffer)}, {0, nullptr}};

}  // namespace

void add_ids(nb::module_& m) {
  nb::class_<ObjectID>(m, "ObjectID", nb::is_weak_referenceable(),
                       "A counted reference to one object of a node: 20 bytes, and what keeps the object alive.")
      .def(nb::init<nb::bytes, u64>(), "data"_a, "key"_a = 0)
      .def("binary", [](const ObjectID& o) { return to_bytes(o.id, ID_BYTES); })
      .def("id", [](const ObjectID& o) { return to_bytes(o.id, ID_BYTES); })
      .def("hex", &ObjectID::hex)
      .def_prop_ro("key", &ObjectID::key)
      .def("__hash__",
           [](const ObjectID& o) {
             i64 h;
             memcpy(&h, o.id, 8);
             u32 index;
             memcpy(&index, o.id + TASK_ID_BYTES, 4);
             return i64(u64(h) ^ u64(index) * 0x9E3779B97F4A7C15ull) >> 1;
           })
      .def(
          "__eq__",
          [](const ObjectID& o, nb::handle other) {
            return nb::isinstance<ObjectID>(other) && memcmp(o.id, nb::inst_ptr<ObjectID>(other)->id, ID_BYTES) == 0;
          },
          "other"_a)
      .def("__copy__", [](nb::handle self) { return nb::borrow(self); })
      .def(
          "__deepcopy__", [](nb::handle self, nb::handle) { return nb::borrow(self); }, "memo"_a)
      .def("__repr__", [](const ObjectID& o) { return "ObjectID(" + o.hex() + ")"; })
      .def("__reduce__", [](nb::handle self) {
        ObjectID& o = nb::cast<ObjectID&>(self);
        if (!collectors.empty() && o.index && collectors.back().seen.emplace(o.index, true).second)
          collectors.back().ids.push_back(nb::borrow(self));
        return nb::make_tuple(nb::type<ObjectID>(), nb::make_tuple(to_bytes(o.id, ID_BYTES), o.key()));
      });
  m.def("collect_begin", [] { collectors.emplace_back(); });
  m.def("collect_end", []() -> nb::object {
    if (collectors.empty()) throw nb::value_error("collect_end without collect_begin");
    Collector last = std::move(collectors.back());
    collectors.pop_back();
    if (last.ids.empty()) return nb::none();
    nb::list out;
    for (auto& id : last.ids) out.append(id);
    return out;
  });
}

void add_memory(nb::module_& m) {
  nb::class_<PyBlock>(m, "Block")
      .def_ro("nbytes", &PyBlock::bytes)
      .def(
          "write",
          [](PyBlock& b, u64 offset, nb::handle data) {
            Bytes bytes(data);
            if (!b.block) throw nb::value_error("this Block is in the store already");
            if (offset > b.bytes || bytes.size() > b.bytes - offset)
              throw nb::value_error("the data reaches beyond the Block's end");
            b.client->must_be_open();
            write_block(*b.client, b.block, offset, bytes);
          },
          "offset"_a, "data"_a);
  nb::class_<View>(m, "View", nb::type_slots(view_slots), nb::is_weak_referenceable())
      .def_ro("nbytes", &View::bytes)
      .def("__len__", [](const View& v) { return v.bytes; });
}

}  // namespace ray::python
