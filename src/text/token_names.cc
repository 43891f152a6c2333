// transformers' precedence: tokenizer_config.json with added_tokens_decoder is complete, and special_tokens_map.json
// then only names what it leaves out; without it that file wins, and added_tokens.json counts.
#include "text/token_names.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/log.h"
#include "text/json_members.h"

namespace hearth {
namespace {

constexpr const char *kConfig = "tokenizer_config.json", *kMap = "special_tokens_map.json",
                     *kAdded = "added_tokens.json";

constexpr const char* kNames[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                  "pad_token", "cls_token", "mask_token"};

Result<Json> parse(const std::optional<std::string>& text, const char* file) {
  if (!text) return Json();
  auto parsed = parse_json(*text);
  if (!parsed.ok()) return parsed.status().prefixed(file);
  return parsed;
}

// A token is spelled by a string or an object's "content".
std::optional<std::string> spelling(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (const Json& content = member(value, "content"); content.is_string()) return content.get<std::string>();
  return std::nullopt;
}

TokenNames::Added added_token(const Json& value, std::string text, int64_t id, bool special) {
  return {{.id = static_cast<int32_t>(id),
           .text = std::move(text),
           .special = flag(value, "special", special),
           .strip_left = flag(value, "lstrip"),
           .strip_right = flag(value, "rstrip"),
           .single_word = flag(value, "single_word")},
          flag(value, "normalized", !special)};
}

class Reader {
 public:
  Status read(const Json& config, const Json& map, const Json& added) {
    if (flag(config, "clean_up_tokenization_spaces")) {
      log_info(kConfig, ": clean_up_tokenization_spaces is not applied: an answer is what its tokens spell");
    }
    const Json& decoder = member(config, "added_tokens_decoder");
    const bool complete = decoder.is_object();
    if (flag(config, "split_special_tokens")) {
      return unimplemented(kConfig, ": split_special_tokens: expected false, found true");
    }
    if (complete) {
      HEARTH_TRY(read_names(map, kMap, /*standard_only=*/true));
      HEARTH_TRY(read_names(config, kConfig, false));
    } else {
      HEARTH_TRY(read_names(config, kConfig, false));
      HEARTH_TRY(read_names(map, kMap, false));
    }
    if (complete) {
      for (const auto& [key, value] : decoder.items()) {
        int64_t id = -1;
        const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
        const auto text = spelling(value);
        if (!text || error != std::errc() || end != key.data() + key.size() || !is_token_id(id)) {
          return invalid(kConfig, ": added_tokens_decoder: expected ids with a content each");
        }
        out.added.push_back(added_token(value, *text, id, false));
      }
    } else if (added.is_object()) {
      for (const auto& [text, value] : added.items()) {
        const int64_t id = id_of(value);
        if (text.empty() || id < 0) return invalid(kAdded, ": expected tokens with an id each");
        out.added.push_back(added_token({}, text, id, is_special(text)));
      }
    }
    std::ranges::sort(out.added, {}, [](const auto& entry) { return entry.token.id; });
    // What has a name is a control token, listed or not.
    for (const auto& [name, value] : named_) {
      const auto text = *spelling(value);
      const auto known = std::ranges::find_if(out.added, [&](const auto& entry) { return entry.token.text == text; });
      if (known != out.added.end()) {
        known->token.special = true;
      } else if (!text.empty()) {
        out.added.push_back(added_token(value, text, -1, true));
        out.added.back().token.special = true;
      }
    }
    const auto setting = [&](const char* key) {
      const Json& value = member(config, key);
      return value.is_boolean() ? std::optional(value.get<bool>()) : std::nullopt;
    };
    out.add_bos = setting("add_bos_token");
    out.add_eos = setting("add_eos_token");
    out.tokenizer_class = text_of(config, "tokenizer_class");
    for (const auto& [name, value] : named_) {
      if (!name.empty()) out.names.emplace_back(name, *spelling(value));
    }
    return {};
  }

  TokenNames out;

 private:
  bool is_special(const std::string& text) const {
    return std::ranges::any_of(named_, [&](const auto& entry) { return *spelling(entry.second) == text; });
  }

  void name(const std::string& key, const Json& value) {
    const auto known =
        std::ranges::find_if(named_, [&](const auto& entry) { return !key.empty() && entry.first == key; });
    if (known != named_.end()) {
      known->second = value;
    } else {
      named_.emplace_back(key, value);
    }
  }

  // Names that an earlier file gave are replaced.
  Status read_names(const Json& file, const char* where, bool standard_only) {
    if (!file.is_object()) return {};
    for (const auto& [key, value] : file.items()) {
      const bool standard = std::ranges::find(kNames, key) != std::end(kNames);
      const bool list = key == "extra_special_tokens" || key == "additional_special_tokens";
      if (value.is_null() || (standard_only && !standard)) continue;
      if (standard || (key.ends_with("_token") && (value.is_string() || member(value, "content").is_string()))) {
        if (!spelling(value)) return invalid(where, ": ", key, ": expected a token");
        name(key, value);
      } else if (list && value.is_object()) {
        for (const auto& [own, token] : value.items()) {
          if (!spelling(token)) return invalid(where, ": ", key, ": expected tokens");
          name(own.ends_with("_token") ? own : "", token);  // a template's variables of other names are the request's
        }
      } else if (list && value.is_array()) {
        for (const Json& token : value) {
          if (!spelling(token)) return invalid(where, ": ", key, ": expected tokens");
          name("", token);
        }
      } else if (list) {
        return invalid(where, ": ", key, ": expected tokens");
      }
    }
    return {};
  }

  std::vector<std::pair<std::string, Json>> named_;  // a name may be empty: a control token that has none
};

}  // namespace

const std::string* TokenNames::find(std::string_view name) const {
  const auto found = std::ranges::find_if(names, [&](const auto& entry) { return entry.first == name; });
  return found == names.end() ? nullptr : &found->second;
}

Result<TokenNames> read_token_names(const TokenizerFiles& files) {
  HEARTH_ASSIGN(const Json config, parse(files.tokenizer_config, kConfig));
  HEARTH_ASSIGN(const Json map, parse(files.special_tokens_map, kMap));
  HEARTH_ASSIGN(const Json added, parse(files.added_tokens, kAdded));
  Reader reader;
  HEARTH_TRY(reader.read(config, map, added));
  return std::move(reader.out);
}

}  // namespace hearth
