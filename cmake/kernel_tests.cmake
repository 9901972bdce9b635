# One executable for all of kernel/tests; no Python, no nanobind.
set(sanitizers none "address,undefined" thread)
if(NOT RAY_SANITIZE IN_LIST sanitizers)
  message(FATAL_ERROR "RAY_SANITIZE is '${RAY_SANITIZE}'; it must be one of: ${sanitizers}")
endif()

file(GLOB test_sources CONFIGURE_DEPENDS kernel/tests/*.cpp)
if(NOT test_sources)
  message(FATAL_ERROR "kernel/tests has no .cpp file")
endif()

# Assertions stay on in all of these builds (no NDEBUG).
add_library(kernel_options INTERFACE)
if(RAY_SANITIZE STREQUAL "none")
  target_compile_options(kernel_options INTERFACE -O2)
else()
  # -Og leaves the sanitizers more accesses to look at than -O1 does, and compiles in less than half of the time.
  target_compile_options(kernel_options INTERFACE
    -Og -fsanitize=${RAY_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(kernel_options INTERFACE -fsanitize=${RAY_SANITIZE})
endif()
if(RAY_SANITIZE STREQUAL "thread")
  # It knows no fences, and warns of each: those of the kernel order atomics with one another, which it does not judge.
  target_compile_options(kernel_options INTERFACE -Wno-tsan)
endif()

# What a build has nothing to find in stays out of it.
set(needs_crash_points crash mutation)
# ThreadSanitizer: one thread has no races; and it takes a mutex whose owner died in another process for one that
# nobody holds.
set(one_thread blocks folder heap lanes order references)
set(owners_die stress uncommitted)
set(left_out)
if(NOT RAY_CRASH_POINTS)
  list(APPEND left_out ${needs_crash_points} situations)
endif()
if(RAY_SANITIZE STREQUAL "thread")
  list(APPEND left_out ${one_thread} ${owners_die})
endif()
foreach(name IN LISTS left_out)
  list(REMOVE_ITEM test_sources "${PROJECT_SOURCE_DIR}/kernel/tests/${name}.cpp")
endforeach()

foreach(source IN LISTS test_sources)
  get_filename_component(name "${source}" NAME_WE)
  file(STRINGS "${source}" registration REGEX "^const Test test{\"${name}\", run};$")
  if(NOT registration AND NOT name MATCHES "^(tests|situations)$")
    message(FATAL_ERROR "${source} has no line: const Test test{\"${name}\", run};")
  endif()
endforeach()

# The kernel is headers: compiled once for all tests it takes a fraction of the time. The situations take as long
# again, and go beside the rest.
add_executable(kernel_tests ${test_sources})
ray_kernel_target(kernel_tests)
target_link_libraries(kernel_tests PRIVATE kernel_options)
set_target_properties(kernel_tests PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 0)
set_source_files_properties(kernel/tests/situations.cpp PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
