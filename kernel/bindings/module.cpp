// Python's view of the kernel: types in, types out, no logic.  `src/ray/_kernel.pyi` is its contract.
#include "bindings/module.hpp"
#include "bindings/arena.hpp"

#include <malloc.h>

namespace ray::python {

using namespace nb::literals;

namespace {

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
    raise("StoreFull", nb::make_tuple(e.wanted_bytes, e.capacity_bytes, e.used_bytes, e.nothing_may_go));
  } catch (const SpillFailed& e) {
    raise("SpillFailed", nb::make_tuple(e.error));
  } catch (const DirectoryFull& e) {
    raise("DirectoryFull", nb::make_tuple(e.error));
  } catch (const SystemFailed& e) {
    raise("SystemFailed", nb::make_tuple(e.what(), e.error));
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
  } catch (const NoWorkerLeft& e) {
    raise("NoWorkerLeft", nb::make_tuple(e.limit));
  } catch (const WaitTimeout& e) {
    raise("WaitTimeout", nb::make_tuple(e.what()));
  } catch (const KernelError& e) {
    raise("KernelError", nb::make_tuple(e.what()));
  }
}

PyObject* module_ = nullptr;  // lives as long as the process

void add_exceptions(nb::module_& m) {
  std::string prefix = nb::cast<std::string>(m.attr("__name__")) + ".";
  auto make = [&](const char* name, PyObject* base) {
    PyObject* type = PyErr_NewException((prefix + name).c_str(), base, nullptr);
    m.attr(name) = nb::steal(type);
    return type;
  };
  PyObject* root = make("KernelError", PyExc_Exception);
  for (const char* name : {"StoreFull", "SpillFailed", "DirectoryFull", "SystemFailed", "TableFull", "StaleHandle",
                           "ArenaCorrupt", "ArenaClosed", "Forked", "NoWorkerLeft", "WaitTimeout"})
    make(name, root);
  module_ = m.ptr();
  nb::register_exception_translator(translate, module_);
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
  m.attr("PEER") = u32(ProcessKind::peer);
  m.attr("GUEST") = u32(ProcessKind::guest);
  m.attr("FORMAT_ERROR") = FORMAT_ERROR;
  m.attr("FORMAT_ALIAS") = FORMAT_ALIAS;
  m.attr("FORMAT_SYSTEM") = FORMAT_SYSTEM;
  m.attr("WORKER_DIED") = u32(SystemFailure::worker_died);
  m.attr("ACTOR_DIED") = u32(SystemFailure::actor_died);
  m.attr("ACTOR_KILLED") = u32(SystemFailure::actor_killed);
  m.attr("TASK_STOPPED") = u32(SystemFailure::task_stopped);
  m.attr("ACTOR_STOPPED") = u32(SystemFailure::actor_stopped);
  m.attr("LAYOUT_VERSION") = LAYOUT_VERSION;
  m.attr("JOB_ENDED") = u32(SystemFailure::job_ended);
  m.attr("NODE_DIED") = u32(SystemFailure::node_died);
  m.attr("ACTOR_NODE_DIED") = u32(SystemFailure::actor_node_died);
  m.attr("OBJECT_LOST") = u32(SystemFailure::object_lost);
  m.attr("TASK") = u32(TaskKind::task);
  m.attr("ACTOR_CREATE") = u32(TaskKind::actor_create);
  m.attr("ACTOR_CALL") = u32(TaskKind::actor_call);
  m.attr("NEWS_DONE") = u32(NewsKind::done);
  m.attr("NEWS_WANTED") = u32(NewsKind::wanted);
  m.attr("NEWS_GONE") = u32(NewsKind::gone);
  m.attr("NEWS_SEALED") = u32(NewsKind::sealed);
  m.attr("NEWS_QUEUED") = u32(NewsKind::queued);
  m.attr("NEWS_CALLS") = u32(NewsKind::calls);
  m.attr("NEWS_CHECKPOINT") = u32(NewsKind::checkpoint);
  m.attr("JOURNAL_ERROR") = u32(JournalKind::error);
  m.attr("JOURNAL_FUNCTION") = u32(JournalKind::function);
  m.attr("JOURNAL_JOB") = u32(JournalKind::job);
  m.attr("JOURNAL_NOTE") = u32(JournalKind::note);
}

}  // namespace

void raise_current_exception() {
  try {
    translate(std::current_exception(), module_);
  } catch (nb::python_error& e) {
    e.restore();
  } catch (const std::exception& e) {
    PyErr_SetString(PyExc_RuntimeError, e.what());
  }
}

}  // namespace ray::python

NB_MODULE(_kernel, m) {
  using namespace ray;
  using namespace ray::python;
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
  add_session(arena);
  add_objects(arena);
  add_tasks(arena);
  add_actors(arena);
  add_node(arena);
  add_peers(arena);
  // By default glibc gives memory at the end of its heap back with every large free, and faults it in again
  // with the next allocation; and it merges all small free pieces whenever it is asked for more than a
  // kilobyte, as every pickle does (mallopt(3)).
  m.def(
      "keep_freed_memory",
      [](int nbytes) {
#ifdef M_TRIM_THRESHOLD
        mallopt(M_TRIM_THRESHOLD, nbytes);
        mallopt(M_MMAP_THRESHOLD, nbytes);
        mallopt(M_MXFAST, 0);
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
