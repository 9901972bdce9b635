// The journal: what happened, in order, bounded.  Readers keep their own places.
//
// Entry n lies in slot n modulo the size; the slot that the next entry will use is already outside the
// window of valid entries, so writing it needs no undo.
#pragma once

#include "object.hpp"

namespace ray::journal {

inline constexpr u64 WINDOW = JOURNAL_ENTRIES - 1;

struct Note {
  JournalKind kind;
  u32 job;
  u32 format;
  const u8* bytes;
  u32 size;
  u32 object;  // instead of bytes
};

// After every take of the transaction: the evicted entry may let its object go.
inline void append(Transaction& t, const Note& note) {
  u64 sequence = t.h.journal_last + 1;
  JournalEntry& entry = t.m.journal_entry(sequence);
  u32 evicted = entry.object;
  t.set(entry.object, note.object);
  entry.sequence = sequence;
  entry.kind = u32(note.kind);
  entry.job = note.job;
  entry.format = note.format;
  entry.size_bytes = note.object ? 0 : note.size;
  if (!note.object && note.size) memcpy(entry.data, note.bytes, note.size);
  if (note.object) object::reference(t, note.object);
  t.set(t.h.journal_last, sequence);
  t.tell_journal();
  if (evicted) object::unreference(t, evicted);
}

inline u64 first_after(const Header& h, u64 place) {
  u64 oldest = h.journal_last > WINDOW ? h.journal_last - WINDOW : 0;
  return (place < oldest ? oldest : place) + 1;
}

}  // namespace ray::journal
