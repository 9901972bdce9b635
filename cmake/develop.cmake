# A checkout as an installed package: the extension lies in src/ray (target `place`), and all that is
# installed is a .pth naming src. No import hook, so imports cost what they cost in a real install.
add_custom_target(place
  COMMAND ${CMAKE_COMMAND}
    "-DBUILT=$<TARGET_FILE:_kernel>"
    "-DPLACED=${CMAKE_SOURCE_DIR}/src/ray/$<TARGET_FILE_NAME:_kernel>"
    -P "${CMAKE_SOURCE_DIR}/cmake/place.cmake"
  VERBATIM)
add_dependencies(place _kernel)
if(RAY_DEVELOP)
  add_custom_target(develop ALL)
  add_dependencies(develop place)
  file(WRITE "${CMAKE_BINARY_DIR}/raycore.pth" "${CMAKE_SOURCE_DIR}/src\n")
  install(FILES "${CMAKE_BINARY_DIR}/raycore.pth" DESTINATION .)
endif()
