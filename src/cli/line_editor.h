// LineEditor: lines typed in a terminal, with the usual keys and a history of this session's. libedit does the work.
#pragma once

#include <atomic>
#include <string>

namespace hearth {

class LineEditor {
 public:
  // `interrupted`: set by the handler of SIGINT.
  LineEditor(std::string prompt, const std::atomic<bool>& interrupted);
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  // Ctrl-C drops a line, ctrl-D on an empty one ends.
  enum class Typed { kLine, kInterrupted, kEnd };
  Typed read(std::string& out);

 private:
  struct Impl;
  Impl* const impl_;
};

}  // namespace hearth
