// Memory between Python and the store: blocks to be filled, views of values, data on its way in.
#pragma once

#include "bindings/ids.hpp"

#include <optional>

namespace ray::python {

struct PyBlock {
  SharedClient client;
  u32 block;
  u64 bytes;
  u32 exports = 0;  // buffers of it that are in use
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

inline void write_block(Client& c, u32 block, u64 offset, const Bytes& bytes) {
  if (bytes.size() < (1u << 18)) {
    c.write_block(block, offset, bytes.data(), bytes.size());
    return;
  }
  Client::Stay stay(c);
  nb::gil_scoped_release release;
  c.write_block(block, offset, bytes.data(), bytes.size());
}

// Data on its way into the store; a block that the kernel has not taken in the end is released.
class Payload {
 public:
  Payload(const SharedClient& c, nb::handle data, u32 format) : client_(c) {
    value.format = format;
    if (nb::isinstance<PyBlock>(data)) {
      PyBlock* given = nb::inst_ptr<PyBlock>(data);
      if (!given->block) throw nb::value_error("this Block is in the store already");
      if (given->exports) throw nb::value_error("somebody may still write to this Block: release its buffers first");
      value.block = given->block;
      value.size = given->bytes;
      value.kept_at = &given->block;
      return;
    }
    bytes_.emplace(data);
    value.size = bytes_->size();
    value.bytes = bytes_->data();
    if (value.size > COPY_BYTES) {
      own_ = value.block = c->allocate(value.size);
      value.kept_at = &own_;
      write_block(*c, own_, 0, *bytes_);
    }
  }
  ~Payload() {
    if (own_) client_->release_block(own_);
  }
  Payload(const Payload&) = delete;
  Value value;

 private:
  const SharedClient& client_;
  std::optional<Bytes> bytes_;
  u32 own_ = NIL;
};

}  // namespace ray::python
