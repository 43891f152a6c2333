// One editor a process: libedit has its terminal's state to itself.
#include "cli/line_editor.h"

#include <histedit.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <cwchar>

#include "base/check.h"

namespace hearth {

struct LineEditor::Impl {
  std::string prompt;
  const std::atomic<bool>& interrupted;
  EditLine* edit;
  History* history;
  mbstate_t character{};

  static Impl& of(EditLine* edit) {
    void* self = nullptr;
    el_get(edit, EL_CLIENTDATA, &self);
    return *static_cast<Impl*>(self);
  }
  static char* show_prompt(EditLine* edit) { return of(edit).prompt.data(); }

  // libedit's own goes on reading after a signal. A signal may come to another thread, or just before a read would
  // begin: so the flag is looked at now and then.
  static int next_character(EditLine* edit, wchar_t* out) {
    Impl& self = of(edit);
    while (true) {
      if (self.interrupted) return -1;
      constexpr int kMilliseconds = 50;
      pollfd waiting{STDIN_FILENO, POLLIN, 0};
      if (poll(&waiting, 1, kMilliseconds) <= 0) continue;
      char byte;
      const ssize_t n = ::read(STDIN_FILENO, &byte, 1);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return static_cast<int>(n);
      const size_t used = mbrtowc(out, &byte, 1, &self.character);
      if (used == static_cast<size_t>(-2)) continue;  // the beginning of a character
      if (used != static_cast<size_t>(-1)) return 1;
      self.character = {};  // what is no text is not typed
    }
  }
};

LineEditor::LineEditor(std::string prompt, const std::atomic<bool>& interrupted)
    : impl_(new Impl{std::move(prompt), interrupted, nullptr, nullptr}) {
  setlocale(LC_CTYPE, "");
  if (MB_CUR_MAX == 1) setlocale(LC_CTYPE, "C.UTF-8");
  impl_->edit = el_init("hearth", stdin, stdout, stderr);
  impl_->history = history_init();
  HEARTH_CHECK(impl_->edit != nullptr && impl_->history != nullptr);
  HistEvent event;
  constexpr int kRemembered = 1000;
  ::history(impl_->history, &event, H_SETSIZE, kRemembered);
  ::history(impl_->history, &event, H_SETUNIQUE, 1);
  el_set(impl_->edit, EL_CLIENTDATA, impl_);
  el_set(impl_->edit, EL_PROMPT, &Impl::show_prompt);
  el_set(impl_->edit, EL_EDITOR, "emacs");
  el_set(impl_->edit, EL_SIGNAL, 0);
  el_set(impl_->edit, EL_HIST, ::history, impl_->history);
  el_set(impl_->edit, EL_GETCFN, &Impl::next_character);
  el_set(impl_->edit, EL_BIND, "^R", "em-inc-search-prev", nullptr);
}

LineEditor::~LineEditor() {
  el_end(impl_->edit);
  history_end(impl_->history);
  delete impl_;
}

LineEditor::Typed LineEditor::read(std::string& out) {
  int size = 0;
  el_set(impl_->edit, EL_PREP_TERM, 1);  // before the prompt is seen: what is typed then is for the editor
  const char* const line = el_gets(impl_->edit, &size);
  if (line == nullptr || size <= 0) {
    if (!impl_->interrupted) return Typed::kEnd;
    el_set(impl_->edit, EL_PREP_TERM, 0);
    return Typed::kInterrupted;
  }
  out.assign(line, static_cast<size_t>(size));
  while (out.ends_with('\n') || out.ends_with('\r')) out.pop_back();
  HistEvent event;
  if (out.find_first_not_of(" \t") != out.npos) ::history(impl_->history, &event, H_ENTER, out.c_str());
  return Typed::kLine;
}

}  // namespace hearth
