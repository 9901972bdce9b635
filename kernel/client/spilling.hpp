// Values moved to the spill file, and the file itself.
#pragma once

#include "client.hpp"

namespace ray {

inline void Client::set_spill_file(int fd, u64 capacity_bytes) {
  must_be_open();
  u32 capacity = u32(std::min(capacity_bytes, HEAP_BYTES_MAX) / GRANULE_BYTES);
  u32 th = thread();
  File own(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!own) throw SpillFailed(errno);
  Transaction t(m(), th);
  bool taken = capacity && !h_.heaps[SPILL_FILE].first;
  if (taken) {
    heap::format(t, SPILL_FILE, capacity);
    t.write(h_.spill_pid, pid_);
    t.write(h_.spill_fd, u32(own.fd()));
    t.write(h_.spill_device, own.identity().device);
    t.write(h_.spill_inode, own.identity().inode);
  }
  t.commit();
  FileIdentity known{h_.spill_device, h_.spill_inode};  // given once, so that the mutex is not needed
  if (taken || own.identity() == known) spill_file_ = std::move(own);
}

inline u64 Client::spill(u64 bytes) {
  Stay stay(*this);
  u64 freed = 0;
  u64 looked = 0;
  bool unused = false;
  // Once round all objects, and once more if any had been used before.
  while (freed < bytes && looked <= (unused ? 2 : 1) * u64(peek(h_.objects.high_water)) + SPILL_LOOK) {
    must_be_open();
    if (!peek(h_.heaps[SPILL_FILE].first)) return freed;
    spill::Move move;
    u8* data = nullptr;
    u64 size = 0, at = 0;
    {
      Transaction t(m(), thread());
      move = spill::choose(t, process_);
      if (move.object) {
        data = heap_of(m().object(move.object).block);
        size = m().object(move.object).size_bytes;
        at = u64(m().block(move.block).offset) * GRANULE_BYTES;
      }
      t.commit();
    }
    freed += move.freed_bytes;
    bool moves = move.object || move.freed_bytes || move.again;
    looked = moves ? 0 : looked + SPILL_LOOK;
    unused = !moves && (unused || move.unused);
    if (!move.object) continue;
    int error = transfer(true, data, size, at);
    Transaction t(m(), thread());
    if (error) spill::give_up(t, move, process_);
    else freed += spill::finish(t, move, process_);
    t.commit();
    if (error && freed) break;
    if (error) throw SpillFailed(error);
  }
  drain();
  return freed;
}

inline u64 Client::trim_spill_file(u64 limit_bytes) {
  Stay stay(*this);
  u64 given_back = 0;
  while (given_back < limit_bytes) {
    must_be_open();
    if (!peek(h_.heaps[SPILL_FILE].first)) break;
    spill::Hole hole;
    {
      Transaction t(m(), thread());
      hole = spill::choose_hole(t, process_);
      t.commit();
    }
    if (!hole.block) break;
    bool made = make_hole(hole.at, hole.bytes);
    Transaction t(m(), thread());
    spill::finish_hole(t, hole, process_);
    t.commit();
    if (made) given_back += hole.bytes;
  }
  return given_back;
}

inline bool Client::make_hole(u64 at, u64 bytes) {
  int fd = spill_fd();
  if (fd < 0 || !bytes) return false;
  HostPause pause;
  for (;;) {
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off_t(at), off_t(bytes)) == 0) return true;
    if (errno != EINTR) return false;
  }
}

// Between memory and a place in the spill file; 0 or the system's error number.
inline int Client::transfer(bool out, u8* data, u64 size, u64 at) {
  int fd = spill_fd();
  if (fd < 0) return errno;
  HostPause pause;
  while (size) {
    ssize_t n = out ? pwrite(fd, data, size, off_t(at)) : pread(fd, data, size, off_t(at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? errno : EIO;
    data += n;
    at += u64(n);
    size -= u64(n);
  }
  return 0;
}

// The file has no name: it is opened through the process that keeps it, whose pid may be another's by now.
inline int Client::spill_fd() {
  if (spill_file_.own_fd() >= 0) return spill_file_.fd();
  char path[64];
  snprintf(path, sizeof path, "/proc/%u/fd/%u", h_.spill_pid, h_.spill_fd);
  File file(open(path, O_RDWR | O_CLOEXEC));
  if (!file) return -1;
  if (file.identity() != FileIdentity{h_.spill_device, h_.spill_inode}) {
    errno = ESTALE;
    return -1;
  }
  spill_file_ = std::move(file);
  return spill_file_.fd();
}

}  // namespace ray
