// The types whose instances keep memory of the arena: blocks and views.
#include "bindings/memory.hpp"
#include "bindings/module.hpp"

namespace ray::python {

using namespace nb::literals;

namespace {

int view_buffer(PyObject* self, Py_buffer* buffer, int flags) {
  View* view = nb::inst_ptr<View>(self);
  return PyBuffer_FillInfo(buffer, self, const_cast<u8*>(view->data), Py_ssize_t(view->bytes), 1, flags);
}
// The process does not leave while something writes to memory that would be another's then.
int block_buffer(PyObject* self, Py_buffer* buffer, int flags) {
  PyBlock* block = nb::inst_ptr<PyBlock>(self);
  buffer->obj = nullptr;
  if (!block->block || !block->client->joined()) {
    PyErr_SetString(PyExc_BufferError, "this Block is in the store already, or its session has ended");
    return -1;
  }
  u8* memory = block->client->m().heap(u64(block->client->m().block(block->block).offset) * GRANULE_BYTES);
  if (PyBuffer_FillInfo(buffer, self, memory, Py_ssize_t(block->bytes), 0, flags) != 0) return -1;
  block->exports += 1;
  buffer->internal = new Client::Stay(*block->client);
  return 0;
}

void block_buffer_released(PyObject* self, Py_buffer* buffer) {
  nb::inst_ptr<PyBlock>(self)->exports -= 1;
  delete static_cast<Client::Stay*>(buffer->internal);
}

PyType_Slot block_slots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(block_buffer)},
                             {Py_bf_releasebuffer, reinterpret_cast<void*>(block_buffer_released)},
                             {0, nullptr}};
PyType_Slot view_slots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(view_buffer)}, {0, nullptr}};

}  // namespace

void add_memory(nb::module_& m) {
  nb::class_<PyBlock>(m, "Block", nb::type_slots(block_slots))
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
