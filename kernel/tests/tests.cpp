// Runs one of the tests of this build, in a process of its own: kernel_tests NAME [PATTERN]. Without a name: lists
// them. RAY_CHECK_SHORT=1 takes the short forms; RAY_SEED repeats a run.

#include "test.hpp"

int main(int argc, char** argv) {
  using ray::testing::Test;
  for (const Test* test : Test::all()) {
    if (argc == 1) puts(test->name);
    else if (!strcmp(test->name, argv[1])) return test->run(argc > 2 ? argv[2] : nullptr);
  }
  if (argc == 1) return 0;
  fprintf(stderr, "kernel_tests: this build has no test named '%s'; without a name it lists them\n", argv[1]);
  return 2;
}
