# Puts the built extension where Python finds it, by renaming: whoever imports meanwhile sees
# the old file or the new one, never half of one.
execute_process(COMMAND ${CMAKE_COMMAND} -E compare_files "${BUILT}" "${PLACED}" RESULT_VARIABLE differs
  OUTPUT_QUIET ERROR_QUIET)
if(differs)
  configure_file("${BUILT}" "${PLACED}.new" COPYONLY)
  file(RENAME "${PLACED}.new" "${PLACED}")
endif()
