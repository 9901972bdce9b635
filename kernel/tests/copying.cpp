// Large copies: every byte arrives, whatever the sizes, the alignment and the end that a page is written from.
#include "copying.hpp"
#include "node.hpp"

#include <sys/mman.h>
#include <vector>

namespace ray::testing::copying_test {
namespace {

using namespace copying;

std::vector<u8> patterned(u64 bytes, u32 seed) {
  std::vector<u8> data(bytes);
  for (u64 i = 0; i < bytes; ++i) data[i] = u8((i * 2654435761u + seed) >> 13);
  return data;
}

void streamed() {
  for (u64 bytes : {u64(0), u64(1), STREAM_BYTES - 1, STREAM_BYTES, STREAM_BYTES + 63, 2 * STREAM_BYTES + 17})
    for (u64 shift : {0, 1, 63}) {
      std::vector<u8> from = patterned(bytes + 64, u32(bytes + shift)), to(bytes + 128, 0xA5);
      stream(to.data() + shift, from.data() + (64 - shift), bytes);
      expect(!memcmp(to.data() + shift, from.data() + (64 - shift), bytes), "a streamed copy differs");
      for (u64 i = 0; i < to.size(); ++i)
        if (i < shift || i >= shift + bytes) expect(to[i] == 0xA5, "a streamed copy wrote beyond its end");
    }
}

// `fd`: of the file that is mapped, or -1: the pages are filled through the map alone.
void filled(bool through_file) {
  for (u64 bytes : {u64(1), COLD_BYTES, HUGE_PAGE_BYTES, 2 * HUGE_PAGE_BYTES - 1, 4 * HUGE_PAGE_BYTES,
                    7 * HUGE_PAGE_BYTES + 12345}) {
    u64 start = 4096 + 192, room = start + bytes + 4096;
    int fd = memfd_create("copying", MFD_CLOEXEC);
    expect(fd >= 0 && ftruncate(fd, off_t(room)) == 0, "no memory for the test");
    Pages pages(room, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
    u8* map = pages.base();
    expect(reinterpret_cast<u64>(map) % HUGE_PAGE_BYTES == 0, "the map is not where huge pages could be");
    std::vector<u8> from = patterned(bytes, u32(bytes));
    fill_cold(through_file ? fd : -1, start, map + start, from.data(), bytes);
    expect(!memcmp(map + start, from.data(), bytes), "a copy from both ends differs");
    for (u64 i = 0; i < 64; ++i)
      expect(!map[start - 1 - i] && !map[start + bytes + i], "a copy from both ends wrote beyond its own");
    close(fd);
  }
}

int run(const char*) {
  streamed();
  filled(true);
  filled(false);
  return result("copying");
}

const Test test{"copying", run};

}  // namespace
}  // namespace ray::testing::copying_test
