// What Python holds of an arena: a client that is shared, and ids that count.
#pragma once

#include "client.hpp"

// The same conversions everywhere: a type must not mean one thing in one file and another in the next.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <string>
#include <unordered_map>
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
inline thread_local std::vector<Collector> collectors;

inline nb::bytes to_bytes(const u8* data, size_t size) { return nb::bytes(reinterpret_cast<const char*>(data), size); }

}  // namespace ray::python
