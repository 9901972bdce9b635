# One executable a file of kernel/tests; no Python, no nanobind.
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

# What all tests include, the kernel, is parsed once in a build and not by each of them.
file(WRITE "${CMAKE_BINARY_DIR}/kernel.cpp" "")
add_library(kernel_parsed OBJECT "${CMAKE_BINARY_DIR}/kernel.cpp")
ray_kernel_target(kernel_parsed)
target_link_libraries(kernel_parsed PRIVATE kernel_options)
target_precompile_headers(kernel_parsed PRIVATE ${PROJECT_SOURCE_DIR}/kernel/tests/board.hpp)

function(ray_kernel_test target)
  ray_kernel_target(${target})
  target_link_libraries(${target} PRIVATE kernel_options)
  target_precompile_headers(${target} REUSE_FROM kernel_parsed)
endfunction()

# These do nothing without crash points. What they share takes a minute to compile.
set(crash_tests crash mutation)
set(shared_source ${PROJECT_SOURCE_DIR}/kernel/tests/situations.cpp)
list(REMOVE_ITEM test_sources ${shared_source})
if(RAY_CRASH_POINTS)
  add_library(situations OBJECT ${shared_source})
  ray_kernel_test(situations)
endif()

foreach(source IN LISTS test_sources)
  get_filename_component(name "${source}" NAME_WE)
  if(NOT RAY_CRASH_POINTS AND name IN_LIST crash_tests)
    continue()
  endif()
  add_executable(${name} ${source})
  ray_kernel_test(${name})
  if(name IN_LIST crash_tests)
    target_link_libraries(${name} PRIVATE situations)
  endif()
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
endforeach()
