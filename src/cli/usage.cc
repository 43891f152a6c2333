// Help and wrong words.
#include "cli/usage.h"

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <vector>

namespace hearth {
namespace {

constexpr int kWrongUsage = 2;

// CLI11 has one text for both: "INT:0 to 65535", "TEXT:{auto,cpu}".
std::pair<std::string, std::string> type_and_values(const CLI::Option* option) {
  const std::string all = option->get_type_name();
  const size_t colon = all.find(':');
  std::string type = all.substr(0, colon);
  std::string values = colon == all.npos ? std::string() : all.substr(colon + 1);
  if (type == "INT" || type == "UINT") type = "N";
  if (type == "FLOAT") type = "X";
  if (values == "FILE") type = std::exchange(values, {});
  if (values == "POSITIVE") values = "above 0";
  if (values.starts_with('{')) {
    type = values.substr(1, values.size() - 2);
    std::ranges::replace(type, ',', '|');
    values.clear();
  }
  return {type, values};
}

// Letters to change, add, drop or swap with their neighbour.
size_t edits_between(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  std::iota(d[0].begin(), d[0].end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

// Of `names`, the one that begins `word` or that it begins, else the closest; empty: none is close.
std::string closest(std::string_view word, const std::vector<std::string>& names) {
  constexpr size_t kLongest = 64, kFarthest = 2;
  std::string best;
  size_t least = kFarthest + 1;
  if (word.size() > kLongest) return best;
  for (const std::string& name : names) {
    const bool begins = std::min(word.size(), name.size()) > 4 && (name.starts_with(word) || word.starts_with(name));
    const size_t edits = begins ? 0 : edits_between(word, name);
    if (edits < least) best = name, least = edits;
  }
  return best;
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& names) {
  const std::string name = closest(word, names);
  return name.empty() ? std::string() : cat("; did you mean ", name, "?");
}

std::string what_is_wrong(const CLI::App& command, const CLI::ParseError& error,
                          const std::vector<std::string>& extra) {
  std::vector<std::string> options, commands;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) options.push_back("--" + name);
  }
  for (const CLI::App* sub : command.get_subcommands({})) commands.push_back(sub->get_name());
  for (const std::string& word : extra) {
    const std::string name = word.substr(0, word.find('='));
    if (name.starts_with("-")) return cat("there is no option ", name, did_you_mean(name, options));
    if (!commands.empty()) return cat("there is no command ", name, did_you_mean(name, commands));
  }
  return error.what();
}

}  // namespace

HelpFormatter::HelpFormatter() {
  column_width(32);
  label("Usage", "usage");
  label("OPTIONS", "options");
  label("SUBCOMMAND", "COMMAND");
  label("Positionals", "Arguments");
}

std::string HelpFormatter::make_option_opts(const CLI::Option* option) const {
  if (option->get_type_size() == 0) return {};
  const bool list = option->get_expected_max() == CLI::detail::expected_max_vector_size;
  return cat(" ", type_and_values(option).first, list ? " ..." : "");
}

std::string HelpFormatter::make_option_desc(const CLI::Option* option) const {
  std::string notes;
  const auto note = [&notes](const std::string& text) { notes += cat(notes.empty() ? "" : "; ", text); };
  if (option->get_type_size() != 0) {
    const std::string values = type_and_values(option).second;
    if (!values.empty()) note(values);
    std::string usual = option->get_default_str();
    if (usual.starts_with('[')) usual = usual.substr(1, usual.size() - 2);
    if (!usual.empty() && usual != "\"\"") note("default " + usual);
  }
  if (!option->get_envname().empty()) note(cat("also from ", option->get_envname()));
  const std::string description = option->get_description();
  if (notes.empty()) return description;
  return cat(description, description.empty() ? "" : " ", "(", notes, ")");
}

std::string HelpFormatter::make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const {
  std::string out = CLI::Formatter::make_help(app, std::move(name), mode);
  for (size_t at; (at = out.find("\n\n\n")) != out.npos;) out.erase(at, 1);
  return out;
}

int explain(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) return app.exit(error);  // help, the version
  std::string path = app.get_name(), parents;
  const CLI::App* command = &app;
  while (!command->get_subcommands().empty()) {
    command = command->get_subcommands().back();
    parents = path;
    path += " " + command->get_name();
  }
  const std::vector<std::string> extra = app.remaining(true);
  const bool nothing = extra.empty() && !command->get_subcommands({}).empty();
  if (nothing) {
    std::fputs(command->help(parents).c_str(), stderr);
  } else {
    std::fputs(
        cat(path, ": ", what_is_wrong(*command, error, extra), "\n`", path, " --help` lists what there is\n").c_str(),
        stderr);
  }
  return kWrongUsage;
}

}  // namespace hearth
