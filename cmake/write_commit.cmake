# Writes the commit of the source tree, as a string literal, into OUTPUT; touches it only where it changed.
execute_process(COMMAND git describe --always --dirty --abbrev=7 --exclude=* OUTPUT_VARIABLE commit RESULT_VARIABLE failed
                OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(failed)
  set(commit unknown)
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "\"${commit}\"\n")
