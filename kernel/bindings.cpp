// Python's view of the kernel: types in, types out, no logic.  `src/ray/_kernel.pyi` is its contract.

#include "check.hpp"
#include "client.hpp"

#include <algorithm>
#include <malloc.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

namespace nb = nanobind;
using namespace nb::literals;
using namespace ray;

namespace {

// A client shared by the Arena, its ids and its views; counted under the interpreter's lock.
struct Shared {
  Client client;
  u32 count = 0;
  explicit Shared(Mapping* m) : client(m) {}
};

class SharedClient {
 public:
  SharedClient() = default;
  explicit SharedClient(Shared* s) : s_(s) {
    if (s_) ++s_->count;
  }
  SharedClient(const SharedClient& o) : SharedClient(o.s_) {}
  SharedClient& operator=(const SharedClient& o) {
    SharedClient copy(o);
    std::swap(s_, copy.s_);
    return *this;
  }
  ~SharedClient() {
    if (s_ && --s_->count == 0) delete s_;
  }
  Client* operator->() const { return &s_->client; }
  Client& operator*() const { return s_->client; }
  explicit operator bool() const { return s_ != nullptr; }
  bool operator==(const SharedClient& o) const { return s_ == o.s_; }

 private:
  Shared* s_ = nullptr;
};

// Where ids made from bytes resolve.
SharedClient& current() {
  static SharedClient c;
  return c;
}

struct ObjectID {
  SharedClient client;
  u32 index = NIL;  // NIL: the object was gone when this id was made
  u8 id[ID_BYTES] = {};

  ObjectID(const SharedClient& c, u32 i) : client(c), index(i) { memcpy(id, c->m().object(i).id, ID_BYTES); }
  ObjectID(nb::bytes data, u64 key) {
    if (data.size() != ID_BYTES) throw nb::value_error("an ObjectID is made of 20 bytes");
    memcpy(id, data.c_str(), ID_BYTES);
    client = current();
    if (client && client->joined()) index = client->resolve(id, key);
  }
  ObjectID(const ObjectID& o) : client(o.client), index(o.index) {
    memcpy(id, o.id, ID_BYTES);
    if (index) client->add_local(index);
  }
  ObjectID& operator=(const ObjectID&) = delete;
  ~ObjectID() {
    if (!index) return;
    try {
      client->drop_local(index);
    } catch (const KernelError&) {
      // A closed or corrupt arena has nothing to take back.
    }
  }
  u64 key() const { return index ? object::key(client->m(), index) : 0; }
  std::string hex() const {
    std::string s;
    for (u8 b : id) {
      s += "0123456789abcdef"[b >> 4];
      s += "0123456789abcdef"[b & 15];
    }
    return s;
  }
};

// The ids met while values are being pickled, innermost last.
struct Collector {
  std::vector<nb::object> ids;
  std::unordered_map<u32, bool> seen;
};
thread_local std::vector<Collector> collectors;

struct PyBlock {
  SharedClient client;
  u32 block;
  u64 bytes;
  PyBlock(const SharedClient& c, u32 b, u64 n) : client(c), block(b), bytes(n) {}
  PyBlock(const PyBlock&) = delete;
  ~PyBlock() {
    if (!block) return;
    try {
      client->release_block(block);
    } catch (const KernelError&) {
      // As above.
    }
  }
};

struct View {
  SharedClient client;
  u32 index;
  const u8* data;
  u64 bytes;
  View(const SharedClient& c, u32 i, const u8* d, u64 n) : client(c), index(i), data(d), bytes(n) {}
  View(const View&) = delete;
  ~View() {
    try {
      client->unpin(index);
      client->drop_local(index);
    } catch (const KernelError&) {
      // As above.
    }
  }
};

int view_buffer(PyObject* self, Py_buffer* buffer, int flags) {
  View* view = nb::inst_ptr<View>(self);
  return PyBuffer_FillInfo(buffer, self, const_cast<u8*>(view->data), Py_ssize_t(view->bytes), 1, flags);
}
PyType_Slot view_slots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(view_buffer)}, {0, nullptr}};

// A C-contiguous buffer, held while it is read.
class Bytes {
 public:
  explicit Bytes(nb::handle h) {
    if (PyBytes_CheckExact(h.ptr())) {
      data_ = reinterpret_cast<const u8*>(PyBytes_AS_STRING(h.ptr()));
      size_ = u64(PyBytes_GET_SIZE(h.ptr()));
      return;
    }
    if (PyObject_GetBuffer(h.ptr(), &buffer_, PyBUF_C_CONTIGUOUS) != 0) throw nb::python_error();
    held_ = true;
    data_ = static_cast<const u8*>(buffer_.buf);
    size_ = u64(buffer_.len);
  }
  ~Bytes() {
    if (held_) PyBuffer_Release(&buffer_);
  }
  Bytes(const Bytes&) = delete;
  const u8* data() const { return data_; }
  u64 size() const { return size_; }

 private:
  Py_buffer buffer_{};
  bool held_ = false;
  const u8* data_ = nullptr;
  u64 size_ = 0;
};

void write_block(Client& c, u32 block, u64 offset, const Bytes& bytes) {
  if (bytes.size() < (1u << 18)) {
    c.write_block(block, offset, bytes.data(), bytes.size());
    return;
  }
  Client::Stay stay(c);
  nb::gil_scoped_release release;
  c.write_block(block, offset, bytes.data(), bytes.size());
}

// Data on its way into the store; a block not used in the end is released.
class Payload {
 public:
  Payload(const SharedClient& c, nb::handle data, u32 format) : client_(c) {
    value.format = format;
    if (nb::isinstance<PyBlock>(data)) {
      given_ = nb::inst_ptr<PyBlock>(data);
      if (!given_->block) throw nb::value_error("this Block is in the store already");
      value.block = given_->block;
      value.size = given_->bytes;
      return;
    }
    bytes_.emplace(data);
    value.size = bytes_->size();
    value.bytes = bytes_->data();
    if (value.size > COPY_BYTES) {
      own_ = value.block = c->allocate(value.size);
      write_block(*c, own_, 0, *bytes_);
    }
  }
  ~Payload() {
    if (own_) client_->release_block(own_);
  }
  Payload(const Payload&) = delete;
  void used() {
    own_ = NIL;
    if (given_) given_->block = NIL;
  }
  Value value;

 private:
  const SharedClient& client_;
  std::optional<Bytes> bytes_;
  PyBlock* given_ = nullptr;
  u32 own_ = NIL;
};

class Arena {
 public:
  explicit Arena(Mapping* m) : shared(new Shared(m)) {}
  explicit Arena(const SharedClient& s) : shared(s) {}
  SharedClient shared;
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
      if (h.type().ptr() != nb::type<ObjectID>().ptr()) throw nb::type_error("the list holds what is no ObjectID");
      out[i] = index_of(*nb::inst_ptr<ObjectID>(h));
    }
    return out;
  }
  // Each id once; the time is linear.
  void must_differ(const std::vector<u32>& list) {
    static u32 stamp = 0;
    if (++stamp == 0) ++stamp;
    for (u32 o : list) {
      u32& last = c().m().local(o).stamp;
      if (last == stamp) throw nb::value_error("an id is given twice");
      last = stamp;
    }
  }
  // Made in place: an id is part of its Python object.
  nb::object id_of(u32 o) {
    static const nb::handle type = nb::type<ObjectID>();
    nb::object id = nb::inst_alloc(type);
    new (nb::inst_ptr<ObjectID>(id)) ObjectID(shared, o);
    nb::inst_mark_ready(id);
    return id;
  }
  nb::object ids_of(const std::vector<u32>& list) {
    if (list.empty()) return nb::none();
    if (list.size() == 1) return id_of(list[0]);
    nb::list out;
    for (u32 o : list) out.append(id_of(o));
    return out;
  }

  nb::tuple data_of(u32 o) {
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

  nb::object copy_of(u32 o) {
    Client& client = c();
    nb::object held = hold(o);
    nb::object bytes = nb::steal(PyBytes_FromStringAndSize(nullptr, Py_ssize_t(client.m().object(o).size_bytes)));
    if (!bytes.is_valid()) throw nb::python_error();
    client.copy_value(o, reinterpret_cast<u8*>(PyBytes_AS_STRING(bytes.ptr())));
    return bytes;
  }

  nb::object submit(nb::handle payload, nb::handle deps, nb::handle nested, u32 num_returns, Submission& s,
                    const ObjectID* actor) {
    std::vector<u32> dep_list = indices(deps), nested_list = indices(nested);
    s.deps = dep_list;
    s.nested = nested_list;
    s.num_returns = num_returns;
    Payload p(shared, payload, 0);
    s.payload = p.value.bytes;
    s.payload_bytes = p.value.size;
    s.block = p.value.block;
    std::vector<u32> out;
    if (actor) c().call(index_of(*actor), s, out);
    else c().submit(s, out);
    p.used();
    return ids_of(out);
  }

  nb::object next(nb::handle data, u32 format) {
    Client& client = c();
    Assignment a;
    bool go_on;
    if (data.is_none()) {
      go_on = client.next(nullptr, a);
    } else {
      Payload p(shared, data, format);
      go_on = client.next(&p.value, a);
      p.used();
    }
    if (!go_on) return nb::none();
    return work_of(a);
  }

  nb::tuple work_of(const Assignment& a) {
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
    return nb::make_tuple(u32(a.kind), a.function_key, bytes, deps, a.num_returns);
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
      auto below = c().step_up(task);
      try {
        helper(work_of(c().assignment(task)));
      } catch (...) {
        c().step_down(*below);
        throw;
      }
      c().step_down(*below);
    }
  }
  nb::object helper;

  // For objects that something else keeps alive meanwhile.
  nb::object hold(u32 o) {
    Client& client = c();
    return id_of(client.resolve(client.m().object(o).id, object::key(client.m(), o)));
  }

  void finish(nb::list results) {
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
    for (auto& p : payloads)
      if (!p->value.block || c().m().block(p->value.block).state == BLOCK_USED) p->used();
  }

  Task& running() {
    u32 i = c().running();
    if (!i) throw KernelError("no task runs on this thread");
    return c().m().task(i);
  }
};

nb::bytes to_bytes(const u8* data, size_t size) { return nb::bytes(reinterpret_cast<const char*>(data), size); }

// Argument tuples carry the numbers that the message does not repeat.
void translate(const std::exception_ptr& p, void* module) {
  nb::handle m(static_cast<PyObject*>(module));
  auto raise = [&](const char* name, nb::object args) {
    nb::object type = m.attr(name);
    PyErr_SetObject(type.ptr(), args.ptr());
  };
  try {
    std::rethrow_exception(p);
  } catch (const Interrupted&) {
    if (!PyErr_Occurred()) PyErr_SetNone(PyExc_KeyboardInterrupt);
  } catch (const StoreFull& e) {
    raise("StoreFull", nb::make_tuple(e.wanted_bytes, e.capacity_bytes, e.used_bytes));
  } catch (const SpillFailed& e) {
    raise("SpillFailed", nb::make_tuple(e.error));
  } catch (const TableFull& e) {
    raise("TableFull", nb::make_tuple(e.table, e.capacity));
  } catch (const StaleHandle& e) {
    raise("StaleHandle", nb::make_tuple(e.what()));
  } catch (const ArenaCorrupt& e) {
    raise("ArenaCorrupt", nb::make_tuple(e.what()));
  } catch (const ArenaClosed& e) {
    raise("ArenaClosed", nb::make_tuple(e.what()));
  } catch (const Forked& e) {
    raise("Forked", nb::make_tuple(e.what()));
  } catch (const WaitTimeout& e) {
    raise("WaitTimeout", nb::make_tuple(e.what()));
  } catch (const KernelError& e) {
    raise("KernelError", nb::make_tuple(e.what()));
  }
}

void add_exceptions(nb::module_& m) {
  std::string prefix = nb::cast<std::string>(m.attr("__name__")) + ".";
  auto make = [&](const char* name, PyObject* base) {
    PyObject* type = PyErr_NewException((prefix + name).c_str(), base, nullptr);
    m.attr(name) = nb::steal(type);
    return type;
  };
  PyObject* root = make("KernelError", PyExc_Exception);
  for (const char* name :
       {"StoreFull", "SpillFailed", "TableFull", "StaleHandle", "ArenaCorrupt", "ArenaClosed", "Forked", "WaitTimeout"})
    make(name, root);
  nb::register_exception_translator(translate, m.ptr());
}

void add_constants(nb::module_& m) {
  m.attr("UNIT") = UNIT;
  m.attr("INLINE_BYTES") = INLINE_BYTES;
  m.attr("COPY_BYTES") = COPY_BYTES;
  m.attr("DRIVER") = u32(ProcessKind::driver);
  m.attr("WORKER") = u32(ProcessKind::worker);
  m.attr("NODE_MANAGER") = u32(ProcessKind::node_manager);
  m.attr("KEEPER") = u32(ProcessKind::keeper);
  m.attr("TEMPLATE") = u32(ProcessKind::template_);
  m.attr("FORMAT_ERROR") = FORMAT_ERROR;
  m.attr("FORMAT_ALIAS") = FORMAT_ALIAS;
  m.attr("FORMAT_SYSTEM") = FORMAT_SYSTEM;
  m.attr("WORKER_DIED") = u32(SystemFailure::worker_died);
  m.attr("ACTOR_DIED") = u32(SystemFailure::actor_died);
  m.attr("ACTOR_KILLED") = u32(SystemFailure::actor_killed);
  m.attr("TASK") = u32(TaskKind::task);
  m.attr("ACTOR_CREATE") = u32(TaskKind::actor_create);
  m.attr("ACTOR_CALL") = u32(TaskKind::actor_call);
  m.attr("JOURNAL_ERROR") = u32(JournalKind::error);
  m.attr("JOURNAL_FUNCTION") = u32(JournalKind::function);
  m.attr("JOURNAL_JOB") = u32(JournalKind::job);
  m.attr("JOURNAL_NOTE") = u32(JournalKind::note);
}

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

void add_arena_life(nb::class_<Arena>& arena) {
  arena
      .def_static(
          "create",
          [](u64 heap_bytes, std::vector<i64> resources, std::optional<std::string> directory, bool huge_pages,
             u32 max_workers) {
            ArenaOptions o;
            o.heap_bytes = heap_bytes;
            if (resources.size() != RESOURCE_KINDS) throw nb::value_error("resources are [cpu, gpu, custom]");
            for (u32 k = 0; k < RESOURCE_KINDS; ++k) o.resources[k] = resources[k];
            if (resources[GPU] > i64(GPUS_MAX) * UNIT) throw nb::value_error("at most 64 GPUs a node");
            o.directory = directory ? directory->c_str() : nullptr;
            o.huge_pages = huge_pages;
            o.max_workers = max_workers;
            return new Arena(Mapping::create(o));
          },
          "heap_bytes"_a, "resources"_a, "directory"_a = nb::none(), "huge_pages"_a = false, "max_workers"_a = 1024,
          nb::rv_policy::take_ownership)
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

// Another thread may change the caller's list during a wait.
nb::object own_list(nb::handle ids) {
  if (!PyList_CheckExact(ids.ptr())) throw nb::type_error("ids are given in a list");
  return nb::steal(PyList_GetSlice(ids.ptr(), 0, PyList_GET_SIZE(ids.ptr())));
}

void add_arena_objects(nb::class_<Arena>& arena) {
  arena
      .def(
          "put",
          [](Arena& a, nb::handle data, u32 fmt, nb::handle nested) {
            std::vector<u32> list = a.indices(nested);
            Payload p(a.shared, data, fmt);
            u32 o = a.c().put(p.value, list);
            p.used();
            return a.id_of(o);
          },
          "data"_a, "fmt"_a, "nested"_a = nb::none())
      .def(
          "allocate", [](Arena& a, u64 nbytes) { return new PyBlock(a.shared, a.c().allocate(nbytes), nbytes); },
          "nbytes"_a, nb::rv_policy::take_ownership)
      .def("reserve", [](Arena& a) { return a.id_of(a.c().reserve()); })
      .def(
          "seal",
          [](Arena& a, const ObjectID& oid, nb::handle data, u32 fmt, nb::handle nested) {
            std::vector<u32> list = a.indices(nested);
            Payload p(a.shared, data, fmt);
            bool sealed = a.c().seal(a.index_of(oid), p.value, list);
            if (sealed) p.used();
            return sealed;
          },
          "oid"_a, "data"_a, "fmt"_a, "nested"_a = nb::none())
      .def(
          "get",
          [](Arena& a, const ObjectID& oid, i64 timeout_ms) {
            u32 o = a.index_of(oid);
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
            a.must_differ(list);
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
          "is_ready", [](Arena& a, const ObjectID& oid) { return a.c().ready(a.index_of(oid)); }, "oid"_a)
      .def(
          "set_spill_file", [](Arena& a, int fd, u64 capacity_bytes) { a.c().set_spill_file(fd, capacity_bytes); },
          "fd"_a, "capacity_bytes"_a)
      .def(
          "spill", [](Arena& a, u64 nbytes) { return a.c().spill(nbytes); }, "nbytes"_a)
      .def("wait_room", [](Arena& a, i64 timeout_ms) { a.c().wait_room(timeout_ms); }, "timeout_ms"_a);
}

void add_arena_tasks(nb::class_<Arena>& arena) {
  arena
      .def(
          "shape", [](Arena& a, i64 cpu, i64 gpu, i64 custom) { return a.c().shape({cpu, gpu, custom}); }, "cpu"_a,
          "gpu"_a, "custom"_a)
      .def(
          "submit",
          [](Arena& a, const ObjectID& function, nb::handle payload, nb::handle deps, nb::handle nested,
             u32 num_returns, u32 shape, u32 max_retries) {
            Submission s;
            s.function = a.index_of(function);
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
            if (!p.value.block || a.c().m().block(p.value.block).state == BLOCK_USED) p.used();
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

void add_arena_actors(nb::class_<Arena>& arena) {
  arena
      .def(
          "create_actor",
          [](Arena& a, const ObjectID& cls, nb::handle payload, nb::handle deps, nb::handle nested, u32 shape,
             u32 checkpoint_interval) {
            std::vector<u32> dep_list = a.indices(deps), nested_list = a.indices(nested);
            Payload p(a.shared, payload, 0);
            Submission s;
            s.function = a.index_of(cls);
            s.shape = shape;
            s.deps = dep_list;
            s.nested = nested_list;
            s.payload = p.value.bytes;
            s.payload_bytes = p.value.size;
            s.block = p.value.block;
            u32 o = a.c().create_actor(s, checkpoint_interval);
            p.used();
            return a.id_of(o);
          },
          "cls"_a, "payload"_a, "deps"_a.none(), "nested"_a.none(), "shape"_a, "checkpoint_interval"_a)
      .def(
          "call",
          [](Arena& a, const ObjectID& actor, nb::handle payload, nb::handle deps, nb::handle nested, u32 num_returns) {
            Submission s;
            return a.submit(payload, deps, nested, num_returns, s, &actor);
          },
          "actor"_a, "payload"_a, "deps"_a.none(), "nested"_a.none(), "num_returns"_a)
      .def(
          "actor_failed",
          [](Arena& a, nb::handle data, u32 fmt) {
            Payload p(a.shared, data, fmt);
            a.c().actor_failed(p.value);
            p.used();
          },
          "data"_a, "fmt"_a)
      .def(
          "checkpoint",
          [](Arena& a, nb::handle data, u32 fmt, nb::handle nested) {
            std::vector<u32> list = a.indices(nested);
            Payload p(a.shared, data, fmt);
            a.c().checkpoint(p.value, list);
            p.used();
          },
          "data"_a, "fmt"_a, "nested"_a = nb::none())
      .def("last_checkpoint",
           [](Arena& a) -> nb::object {
             u32 o = a.c().m().actor(a.c().own_actor()).checkpoint;
             return o ? a.hold(o) : nb::none();
           })
      .def(
          "kill_actor", [](Arena& a, const ObjectID& actor) { return a.c().kill_actor(a.index_of(actor)); }, "actor"_a);
}

void add_arena_processes(nb::class_<Arena>& arena) {
  arena.def(
           "bury", [](Arena& a, u32 pid, i32 status) { return a.c().bury(pid, status); }, "pid"_a, "status"_a)
      .def("processes",
           [](Arena& a) {
             Mapping& m = a.c().m();
             nb::list out;
             for (u32 i = 1; i <= m.header().processes.high_water; ++i) {
               Process& p = m.process(i);
               if (p.state == PROCESS_FREE) continue;
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
      .def(
          "lock_holder", [](Arena& a, i64 timeout_ms) { return a.c().lock_holder(timeout_ms); }, "timeout_ms"_a)
      .def(
          "journal",
          [](Arena& a, u32 kind, nb::handle data) {
            Bytes b(data);
            return a.c().journal(JournalKind(kind), b.data(), u32(b.size()));
          },
          "kind"_a, "data"_a)
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
                                      e.function_key));
          }
        }
        return out;
      });
}

}  // namespace

NB_MODULE(_kernel, m) {
  host.leave = []() -> void* { return PyGILState_Check() ? PyEval_SaveThread() : nullptr; };
  host.enter = [](void* state) { PyEval_RestoreThread(static_cast<PyThreadState*>(state)); };
  host.interrupted = []() -> bool { return PyErr_CheckSignals() != 0; };
  // Arrays and ids may outlive the interpreter's last look at them; that is no leak.
  nb::set_leak_warnings(false);
  add_exceptions(m);
  add_constants(m);
  add_ids(m);
  add_memory(m);
  nb::class_<Arena> arena(m, "Arena");
  add_arena_life(arena);
  add_arena_objects(arena);
  add_arena_tasks(arena);
  add_arena_actors(arena);
  add_arena_processes(arena);
  // By default glibc gives memory at the end of its heap back with every large free, and faults it in again
  // with the next allocation (mallopt(3)).
  m.def(
      "keep_freed_memory",
      [](int nbytes) {
#ifdef M_TRIM_THRESHOLD
        mallopt(M_TRIM_THRESHOLD, nbytes);
        mallopt(M_MMAP_THRESHOLD, nbytes);
#else
        (void)nbytes;
#endif
      },
      "nbytes"_a);
  m.def("current", []() -> nb::object {
    if (!current()) return nb::none();
    return nb::cast(new Arena(current()), nb::rv_policy::take_ownership);
  });
}
