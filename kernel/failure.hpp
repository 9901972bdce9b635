// What the kernel throws.  Thrown inside a transaction it rolls the transaction back.
#pragma once

#include "numbers.hpp"

#include <cstring>
#include <stdexcept>
#include <string>

namespace ray {

struct KernelError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct StoreFull : KernelError {
  u64 wanted_bytes, capacity_bytes, used_bytes;
  bool nothing_may_go = false;  // no value is left that could be spilled
  StoreFull(u64 wanted, u64 capacity, u64 used)
      : KernelError("the object store is full"), wanted_bytes(wanted), capacity_bytes(capacity), used_bytes(used) {}
};

// The spill file took nothing more: `error` is the system's number for why.
struct SpillFailed : KernelError {
  int error;
  explicit SpillFailed(int number) : KernelError("the spill file can't be used"), error(number) {}
};

// The folder of the arena's memory, or the system's huge pages, have no room: `error` is the system's number for why.
struct DirectoryFull : KernelError {
  int error;
  explicit DirectoryFull(int number) : KernelError("no room for the arena's memory"), error(number) {}
};

// A call of the system that should not fail did: `error` is its number for why.
struct SystemFailed : KernelError {
  int error;
  SystemFailed(const std::string& what, int number) : KernelError(what + ": " + strerror(number)), error(number) {}
};

struct TableFull : KernelError {
  const char* table;
  u32 capacity;
  TableFull(const char* name, u32 most)
      : KernelError(std::string("the table of ") + name + " is full"), table(name), capacity(most) {}
};

struct StaleHandle : KernelError {
  using KernelError::KernelError;
};
struct ArenaCorrupt : KernelError {
  using KernelError::KernelError;
};
struct ArenaClosed : KernelError {
  using KernelError::KernelError;
};
struct Forked : KernelError {
  using KernelError::KernelError;
};
struct WaitTimeout : KernelError {
  using KernelError::KernelError;
};
// Every worker there may be waits, for tasks that only one more worker could run.
struct NoWorkerLeft : KernelError {
  u32 limit;
  explicit NoWorkerLeft(u32 workers)
      : KernelError("every worker waits for tasks that no worker is left for"), limit(workers) {}
};
// The host shall run this task, which is on the stack of the thread that waits, and wait again.
struct Help {
  u32 task;
};
// A signal handler wants to run; the caller asks its interpreter what to raise.
struct Interrupted : KernelError {
  using KernelError::KernelError;
};

}  // namespace ray
