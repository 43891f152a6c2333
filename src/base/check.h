// CHECK: an invariant of our own code. A failure is a bug of ours and ends the process; input is never validated with
// it.
#pragma once

#include <cstdio>
#include <cstdlib>

#define HEARTH_CHECK(condition)                                                          \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      std::fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                      \
    }                                                                                    \
  } while (false)
