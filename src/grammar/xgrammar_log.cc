// What xgrammar logs: an error becomes an exception, which is caught where it was called; a warning is counted, because
// it mostly says that something asked for is dropped, which is refused then.
#include "grammar/xgrammar_log.h"

#include <stdexcept>

namespace hearth {

std::string& xgrammar_warning() {
  thread_local std::string last;
  return last;
}

}  // namespace hearth

namespace xgrammar {

[[noreturn]] void LogFatalImpl(const std::string&, int, const std::string& message) {
  throw std::runtime_error(message);
}

void LogMessageImpl(const std::string&, int, int level, const std::string& message) {
  constexpr int kWarning = 1;
  if (level >= kWarning) hearth::xgrammar_warning() = message;
}

}  // namespace xgrammar
