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
  target_compile_options(kernel_options INTERFACE
    -O1 -fsanitize=${RAY_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(kernel_options INTERFACE -fsanitize=${RAY_SANITIZE})
endif()

# These do nothing without crash points, and take minutes to compile.
set(crash_tests crash mutation)

foreach(source IN LISTS test_sources)
  get_filename_component(name "${source}" NAME_WE)
  if(NOT RAY_CRASH_POINTS AND name IN_LIST crash_tests)
    continue()
  endif()
  add_executable(${name} ${source})
  ray_kernel_target(${name})
  target_link_libraries(${name} PRIVATE kernel_options)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
endforeach()
