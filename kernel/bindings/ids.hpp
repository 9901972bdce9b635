// ObjectID: an extension type of our own.  One is made for each task and each put, and an instance of the
// binding library's types costs a table entry, 32 bytes more, and a place in the garbage collector's lists.
#pragma once

#include "bindings/shared_client.hpp"

namespace ray::python {

struct ObjectID {
  SharedClient client;
  u32 index = NIL;  // NIL: the object was gone when this id was made
  u8 id[ID_BYTES] = {};

  ObjectID(const SharedClient& c, u32 i) : client(c), index(i) { memcpy(id, c->m().object(i).id, ID_BYTES); }
  ObjectID(const u8* bytes, u64 key) : client(current()) {
    memcpy(id, bytes, ID_BYTES);
    if (client && client->joined()) index = client->resolve(id, key);
  }
  ObjectID(const ObjectID&) = delete;
  ~ObjectID() {
    if (!index) return;
    try {
      client->drop_local(index);
    } catch (const KernelError&) {
      // A closed or corrupt arena has nothing to take back.
    }
  }
  u64 key() const { return index ? object::key(client->m(), index) : 0; }
};

struct PyObjectID {
  PyObject_HEAD ObjectID value;
};

inline PyTypeObject* object_id_type = nullptr;  // made with the module, for the process's life

inline bool is_object_id(PyObject* o) { return Py_TYPE(o) == object_id_type; }
inline ObjectID& id_in(nb::handle h) { return reinterpret_cast<PyObjectID*>(h.ptr())->value; }

// An ObjectID as an argument of a bound function.
class Id : public nb::object {
 public:
  NB_OBJECT(Id, nb::object, "ray._kernel.ObjectID", is_object_id)
  ObjectID& operator*() const { return id_in(*this); }
};

// A new ObjectID; takes over a count that the process has of the object.
nb::object make_id(const SharedClient& client, u32 index);

}  // namespace ray::python
