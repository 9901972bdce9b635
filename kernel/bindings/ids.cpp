// The type ObjectID, and the collection of those that are met in pickling.
#include "bindings/ids.hpp"
#include "bindings/module.hpp"

#include <string>
#include <unordered_map>
#include <vector>

namespace ray::python {

using namespace nb::literals;

namespace {

// The ids met while values are being pickled, innermost last.
struct Collector {
  std::vector<nb::object> ids;
  std::unordered_map<u32, bool> seen;
};
thread_local std::vector<Collector> collectors;

// What a slot of the type does, with its exceptions as Python's.
template <typename Do>
PyObject* guarded(Do body) {
  try {
    return body();
  } catch (...) {
    raise_current_exception();
    return nullptr;
  }
}

PyObject* make_new(PyTypeObject* type, PyObject* args, PyObject* keywords) {
  return guarded([&]() -> PyObject* {
    static const char* names[] = {"data", "key", nullptr};
    PyObject* data;
    unsigned long long key = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "S|K:ObjectID", const_cast<char**>(names), &data, &key))
      return nullptr;
    if (PyBytes_Size(data) != Py_ssize_t(ID_BYTES)) {
      PyErr_SetString(PyExc_ValueError, "an ObjectID is made of 20 bytes");
      return nullptr;
    }
    nb::object made = nb::steal(PyType_GenericAlloc(type, 0));
    if (!made) return nullptr;
    new (&id_in(made)) ObjectID(reinterpret_cast<const u8*>(PyBytes_AsString(data)), key);
    return made.release().ptr();
  });
}

void dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  id_in(self).~ObjectID();
  PyObject_Free(self);
  Py_DECREF(type);
}

Py_hash_t hash(PyObject* self) {
  // Ids of one family follow each other in their second word.
  u64 family, place;
  u32 index;
  const u8* id = id_in(self).id;
  memcpy(&family, id, 8);
  memcpy(&place, id + 8, 8);
  memcpy(&index, id + TASK_ID_BYTES, 4);
  Py_hash_t h = Py_hash_t(family + place + u64(index) * 0x9E3779B97F4A7C15ull);
  return h == -1 ? -2 : h;
}

PyObject* compare(PyObject* self, PyObject* other, int operation) {
  if (!is_object_id(other) || (operation != Py_EQ && operation != Py_NE)) Py_RETURN_NOTIMPLEMENTED;
  bool equal = memcmp(id_in(self).id, id_in(other).id, ID_BYTES) == 0;
  return PyBool_FromLong(equal == (operation == Py_EQ));
}

std::string hex_of(PyObject* self) {
  std::string s;
  for (u8 b : id_in(self).id) {
    s += "0123456789abcdef"[b >> 4];
    s += "0123456789abcdef"[b & 15];
  }
  return s;
}

PyObject* hex(PyObject* self, PyObject*) { return PyUnicode_FromString(hex_of(self).c_str()); }
PyObject* repr(PyObject* self) { return PyUnicode_FromString(("ObjectID(" + hex_of(self) + ")").c_str()); }
PyObject* binary(PyObject* self, PyObject*) { return to_bytes(id_in(self).id, ID_BYTES).release().ptr(); }
PyObject* itself(PyObject* self, PyObject*) { return Py_NewRef(self); }

PyObject* key(PyObject* self, void*) {
  return guarded([&] { return PyLong_FromUnsignedLongLong(id_in(self).key()); });
}

PyObject* reduce(PyObject* self, PyObject*) {
  return guarded([&] {
    ObjectID& o = id_in(self);
    if (!collectors.empty() && o.index && collectors.back().seen.emplace(o.index, true).second)
      collectors.back().ids.push_back(nb::borrow(self));
    nb::handle type(reinterpret_cast<PyObject*>(object_id_type));
    return nb::make_tuple(type, nb::make_tuple(to_bytes(o.id, ID_BYTES), o.key())).release().ptr();
  });
}

PyMethodDef methods[] = {{"binary", binary, METH_NOARGS, "binary($self)\n--\n\nIts 20 bytes."},
                         {"id", binary, METH_NOARGS, "id($self)\n--\n\nIts 20 bytes."},
                         {"hex", hex, METH_NOARGS, "hex($self)\n--\n\nIts 20 bytes as text."},
                         {"__copy__", itself, METH_NOARGS, "__copy__($self)\n--\n\n"},
                         {"__deepcopy__", itself, METH_O, "__deepcopy__($self, memo, /)\n--\n\n"},
                         {"__reduce__", reduce, METH_NOARGS, "__reduce__($self)\n--\n\n"},
                         {nullptr, nullptr, 0, nullptr}};

PyGetSetDef attributes[] = {{"key", key, nullptr, "Index and serial of its record in one number.", nullptr},
                            {nullptr, nullptr, nullptr, nullptr, nullptr}};

constexpr char DOC[] =
    "ObjectID(data, key=0)\n--\n\nA counted reference to one object of a node: 20 bytes, and what keeps the object "
    "alive.";

template <typename Function>
PyType_Slot slot(int number, Function* function) {
  return {number, reinterpret_cast<void*>(function)};
}

PyType_Slot slots[] = {slot(Py_tp_new, make_new),
                       slot(Py_tp_dealloc, dealloc),
                       slot(Py_tp_hash, hash),
                       slot(Py_tp_richcompare, compare),
                       slot(Py_tp_repr, repr),
                       {Py_tp_methods, methods},
                       {Py_tp_getset, attributes},
                       {Py_tp_doc, const_cast<char*>(DOC)},
                       {0, nullptr}};

PyType_Spec spec = {"ray._kernel.ObjectID", sizeof(PyObjectID), 0, Py_TPFLAGS_DEFAULT, slots};

}  // namespace

nb::object make_id(const SharedClient& client, u32 index) {
  nb::object made = nb::steal(PyType_GenericAlloc(object_id_type, 0));
  if (!made) throw nb::python_error();
  new (&id_in(made)) ObjectID(client, index);
  return made;
}

void add_ids(nb::module_& m) {
  nb::object type = nb::steal(PyType_FromSpec(&spec));
  if (!type) throw nb::python_error();
  object_id_type = reinterpret_cast<PyTypeObject*>(type.ptr());
  m.attr("ObjectID") = type;
  type.release();
  // One call and not a pair: a signal's exception may come between any two of Python's instructions.
  m.def(
      "collect",
      [](nb::handle function, nb::args args) {
        struct Open {
          Open() { collectors.emplace_back(); }
          ~Open() { collectors.pop_back(); }
        } open;
        nb::object result = nb::steal(PyObject_CallObject(function.ptr(), args.ptr()));
        if (!result.is_valid()) throw nb::python_error();
        const std::vector<nb::object>& ids = collectors.back().ids;
        if (ids.empty()) return nb::make_tuple(result, nb::none());
        nb::list list;
        for (const nb::object& id : ids) list.append(id);
        return nb::make_tuple(result, list);
      },
      "function"_a, "args"_a);
}

}  // namespace ray::python
