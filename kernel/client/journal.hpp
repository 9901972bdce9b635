// The journal, written and read.
#pragma once

#include "client.hpp"

namespace ray {

inline u64 Client::journal(JournalKind kind, const u8* bytes, u32 size, u32 job, u32 format) {
  must_be_open();
  u32 o = NIL;
  if (size > JOURNAL_INLINE_BYTES) {
    u32 b = allocate(size);
    write_block(b, 0, bytes, size);
    try {
      o = put(Value{nullptr, size, b, format, &b}, {});
    } catch (...) {
      if (b) release_block(b);
      throw;
    }
  }
  u64 sequence;
  {
    Transaction t(m(), thread());
    journal::append(t, {kind, job ? job : u32(this->job()), format, bytes, size, o});
    sequence = h_.journal_last;
    t.commit();
  }
  if (o) drop_local(o);
  drain();
  return sequence;
}

inline u64 Client::journal_read(u64 after, i64 timeout_ms, std::vector<JournalItem>& out) {
  must_be_open();
  flush_drops();
  wait::Deadline deadline(timeout_ms);
  u32 seen = h_.journal_word.load();
  auto longer = [&] {
    return std::atomic_ref(h_.journal_last).load(std::memory_order_acquire) > after || h_.journal_word.load() != seen;
  };
  sleep_on(h_.journal_word, h_.journal_sleepers, deadline, longer, IDLE_SLICE_NS);
  Transaction t(m(), thread());
  u64 sequence = journal::first_after(h_, after);
  std::vector<std::pair<u32, u32>> adopted;  // known to this process only once they are committed
  auto is_new = [&](u32 o) {
    return std::none_of(adopted.begin(), adopted.end(), [&](const auto& pair) { return pair.first == o; });
  };
  for (; sequence <= h_.journal_last && out.size() < AT_ONCE; ++sequence) {
    JournalEntry& e = m().journal_entry(sequence);
    JournalItem item{sequence, e.kind, e.job, e.format, e.object, {}};
    if (!e.object) {
      item.bytes.assign(reinterpret_cast<const char*>(e.data), e.size_bytes);
    } else if (!owns(e.object, m().object(e.object).serial) && is_new(e.object)) {
      adopted.emplace_back(e.object, object::hold(t, e.object, process_));
    }
    out.push_back(std::move(item));
  }
  t.commit();
  for (auto [o, ref] : adopted) adopt(o, ref), m().local(o).count = 0;
  for (const JournalItem& item : out)
    if (item.object) add_local(item.object);
  return sequence - 1;
}

}  // namespace ray
