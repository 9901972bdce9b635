// The parts that the module is put together from.
#pragma once

#include <nanobind/nanobind.h>

namespace ray::python {

class Arena;

// In a catch block: the C++ exception becomes Python's.
void raise_current_exception();

void add_ids(nanobind::module_& m);
void add_memory(nanobind::module_& m);
void add_session(nanobind::class_<Arena>& arena);
void add_objects(nanobind::class_<Arena>& arena);
void add_tasks(nanobind::class_<Arena>& arena);
void add_actors(nanobind::class_<Arena>& arena);
void add_node(nanobind::class_<Arena>& arena);
void add_peers(nanobind::class_<Arena>& arena);

}  // namespace ray::python
