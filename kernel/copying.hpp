// Copies of large values into the store, as fast as the memory takes them.
//
// Nothing here knows of records: whoever calls owns both ends, and writes memory that nothing reachable refers to.
#pragma once

#include "system.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif
#ifndef MADV_COLLAPSE  // of Linux 6.1; older headers don't know it, older systems refuse it
#define MADV_COLLAPSE 25
#endif

namespace ray::copying {

// Around the caches: a line that is to be overwritten whole need not be read from memory first.
inline void stream_all(u8* to, const u8* from, u64 bytes) {
#ifdef __SSE2__
  u64 head = std::min(bytes, u64(-reinterpret_cast<u64>(to) & 63));
  memcpy(to, from, head);
  to += head, from += head, bytes -= head;
  for (; bytes >= 64; to += 64, from += 64, bytes -= 64)
    for (int i = 0; i < 64; i += 16)
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + i), _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)));
  _mm_sfence();  // whoever is told of the value finds all of it
#endif
  memcpy(to, from, bytes);
}

// What is larger than the caches is not read again soon: 19 GiB/s where `memcpy` makes 12 (on an AMD EPYC).
inline void stream(u8* to, const u8* from, u64 bytes) {
  if (bytes >= STREAM_BYTES) stream_all(to, from, bytes);
  else memcpy(to, from, bytes);
}

// Makes one huge page of memory at its boundary, none of which was ever touched; false where the system gives none.
// It may have to move others' pages first: when that takes long, small ones are the better choice for a while.
inline bool enlarge(u8* at) {
  static std::atomic<u64> not_before_ns{0};
  u64 began = now_ns();
  if (began < not_before_ns.load(std::memory_order_relaxed)) return false;
  *static_cast<volatile u8*>(at) = 0;  // one small page must be there to begin with
  bool done = madvise(at, HUGE_PAGE_BYTES, MADV_COLLAPSE) == 0;
  u64 ended = now_ns();
  if (!done || ended - began > SLOW_HUGE_PAGE_NS) not_before_ns.store(ended + NO_HUGE_PAGES_NS);
  return done;
}

// Pages never touched before, as many as there are bytes.  By themselves through the file, if the system lets us: it
// then fills a page without first clearing it; but one thread at a time.
inline void fill_small(int fd, u64 file_offset, u8* to, const u8* from, u64 bytes) {
  while (bytes && fd >= 0) {
    ssize_t n = pwrite(fd, from, bytes, off_t(file_offset));
    if (n <= 0) break;
    file_offset += u64(n), to += n, from += n, bytes -= u64(n);
  }
  memcpy(to, from, bytes);
}

// Into pages never touched before: of huge ones where they can be had, which cost the system less than the small ones
// that they stand for; from both ends, the back in a thread of its own.
inline void fill_cold(int fd, u64 file_offset, u8* to, const u8* from, u64 bytes) {
  u64 head = std::min(bytes, u64(-reinterpret_cast<u64>(to) & (HUGE_PAGE_BYTES - 1)));
  u64 pieces = (bytes - head) / HUGE_PAGE_BYTES, tail = head + pieces * HUGE_PAGE_BYTES;
  std::atomic<u64> left{pieces};
  auto take = [&left] {
    u64 n = left.load(std::memory_order_relaxed);
    while (n && !left.compare_exchange_weak(n, n - 1, std::memory_order_relaxed)) {
    }
    return n != 0;
  };
  auto fill = [&](u64 piece, int through) {
    u64 begin = head + piece * HUGE_PAGE_BYTES;
    if (enlarge(to + begin)) stream_all(to + begin, from + begin, HUGE_PAGE_BYTES);
    else fill_small(through, file_offset + begin, to + begin, from + begin, HUGE_PAGE_BYTES);
  };
  std::thread helper;
  if (pieces > 1 && std::thread::hardware_concurrency() > 1) {
    sigset_t all, before;  // signals are for the threads that the user knows of
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      helper = std::thread([&] {
        for (u64 back = pieces; take();) fill(--back, -1);
      });
    } catch (const std::system_error&) {  // no more threads: slower, no more than that
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  for (u64 front = 0; take(); ++front) fill(front, fd);
  if (helper.joinable()) helper.join();
  fill_small(fd, file_offset, to, from, head);
  fill_small(fd, file_offset + tail, to + tail, from + tail, bytes - tail);
}

}  // namespace ray::copying
