// Every operation, in every situation that takes another path through the kernel.
#pragma once

#include "stage.hpp"

#include <functional>

namespace ray::testing {

using Step = std::function<void(Stage&)>;

struct Situation {
  std::string name;
  ProcessKind kind = ProcessKind::driver;
  Step prepare;         // in the parent
  Step ready = {};      // in the child, before it is in danger
  Step meet = {};       // in the parent, after `ready`
  Step act = {};        // in the child, which may be killed at any step
  bool joins = true;    // the child enters the arena before `ready`
  bool settles = true;  // the session goes on afterwards
  Step after = {};      // in the parent, once the dead are buried
};
using Situations = std::vector<Situation>;

inline void nothing(Stage&) {}

Situations all_situations();

}  // namespace ray::testing
