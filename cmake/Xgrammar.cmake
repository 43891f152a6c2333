# The grammar library: a static library from its source package, without its Python bindings and with our own flags.
# Nobody but src/grammar sees its headers.
set(version 0.2.8-1)  # and our patches
set(source ${CMAKE_SOURCE_DIR}/.cache/xgrammar-${version})
execute_process(COMMAND ${CMAKE_SOURCE_DIR}/tools/fetch_xgrammar.sh RESULT_VARIABLE failed)
if(failed OR NOT EXISTS ${source})
  message(FATAL_ERROR "tools/fetch_xgrammar.sh did not bring ${source}")
endif()
file(REAL_PATH ${source} source)  # one path for all checkouts that share .cache, so that ccache knows the objects
file(GLOB_RECURSE sources ${source}/cpp/*.cc)
list(FILTER sources EXCLUDE REGEX "/cpp/tvm_ffi/")
add_library(xgrammar STATIC ${sources})
target_include_directories(xgrammar SYSTEM PUBLIC ${source}/include ${source}/3rdparty/picojson ${source}/3rdparty/dlpack/include)
if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
  set_target_properties(xgrammar PROPERTIES CXX_STANDARD 17)  # its headers are not C++20's to clang 14
endif()
# What it logs (keywords that it drops, among others) is checked before it is asked, or its exceptions say it.
target_compile_definitions(xgrammar PRIVATE XGRAMMAR_ENABLE_CPPTRACE=0 XGRAMMAR_ENABLE_INTERNAL_CHECK=0 XGRAMMAR_LOG_CUSTOMIZE=1)
target_compile_options(xgrammar PRIVATE -w -march=x86-64-v3 $<$<CONFIG:Release>:-O2>)
if(HEARTH_SANITIZE)
  target_compile_options(xgrammar PRIVATE -fsanitize=${HEARTH_SANITIZE} -fno-omit-frame-pointer -g1)
endif()
