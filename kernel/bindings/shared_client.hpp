// The client of an arena, shared by all that Python holds of it.
#pragma once

#include "client.hpp"

// The same conversions everywhere: a type must not mean one thing in one file and another in the next.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <utility>
#include <vector>

namespace ray::python {

namespace nb = nanobind;

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
inline SharedClient& current() {
  static SharedClient c;
  return c;
}

inline nb::bytes to_bytes(const u8* data, size_t size) { return nb::bytes(reinterpret_cast<const char*>(data), size); }

}  // namespace ray::python
