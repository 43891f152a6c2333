// How the command line explains itself: help with readable ranges and defaults, and what is said of a wrong word.
#pragma once

#include <CLI/CLI.hpp>

#include <string>

#include "base/cat.h"

namespace hearth {

// A bound that only keeps out the absurd is not shown.
template <typename T>
CLI::Validator between(T least, T most) {
  const bool shown = static_cast<double>(most) < (1 << 20);
  const std::string range = shown ? cat(least, " to ", most) : cat("at least ", least);
  const auto check = [least, most, range](std::string& text) {
    T value{};
    const bool good = CLI::detail::lexical_cast(text, value) && value >= least && value <= most;
    return good ? std::string() : cat("expected ", range, ", found ", text);
  };
  return CLI::Validator(check, range);
}

class HelpFormatter final : public CLI::Formatter {
 public:
  HelpFormatter();
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override;
  std::string make_option_opts(const CLI::Option* option) const override;
  std::string make_option_desc(const CLI::Option* option) const override;
};

// Prints what was asked for (help, the version) or what is wrong with the arguments; the process's exit code.
int explain(const CLI::App& app, const CLI::ParseError& error);

}  // namespace hearth
