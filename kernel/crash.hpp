// Crash points: in a check build, the process can be killed at a chosen step, or one undo record left out.
//
// In the build that ships, every call here is empty.
#pragma once

#include <source_location>

#ifdef RAY_CRASH_POINTS
#include <csignal>
#include <unistd.h>
#endif

namespace ray::crash {

#ifdef RAY_CRASH_POINTS

// Plain globals: a crash run is single-threaded by construction.
inline long kill_at_step = -1;
inline long steps_taken = 0;
inline unsigned skip_undo_at_line = 0;
inline const char* skip_undo_in_file = nullptr;
inline void (*on_undo)(const std::source_location&) = nullptr;

inline void point() {
  if (kill_at_step >= 0 && ++steps_taken == kill_at_step) kill(getpid(), SIGKILL);
}

inline bool skips_undo(const std::source_location& site) {
  if (on_undo) on_undo(site);
  return skip_undo_at_line == site.line() && skip_undo_in_file != nullptr &&
         __builtin_strcmp(skip_undo_in_file, site.file_name()) == 0;
}

#else

inline void point() {}
inline constexpr bool skips_undo(const std::source_location&) { return false; }

#endif

}  // namespace ray::crash
