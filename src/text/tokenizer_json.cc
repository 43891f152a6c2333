// A tokenizer from Hugging Face's tokenizer.json. What would change a token and is not understood is refused.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/printable.h"
#include "text/json_members.h"
#include "text/token_names.h"
#include "text/tokenizer_parts.h"

namespace hearth {
namespace {

constexpr std::string_view kSpaceMark = "\u2581";
constexpr size_t kMaxSteps = 64;  // each goes over the whole text

// What a file says beyond what is read here might change a token.
Status expect_members(const Json& object, std::string_view what, std::initializer_list<std::string_view> known) {
  if (!object.is_object()) return invalid("tokenizer.json: ", what, ": expected an object");
  for (const auto& [key, value] : object.items()) {
    if (std::ranges::find(known, key) == known.end()) {
      return unimplemented("tokenizer.json: ", what, ": a member that is not known: ", printable(key));
    }
  }
  return {};
}

// Calls read(step) for each member of a "Sequence" (nested ones too), or for the object itself; not for null.
Status for_each_step(const Json& object, std::string_view list, auto&& read) {
  if (object.is_null()) return {};
  if (text_of(object, "type") != "Sequence") return read(object);
  const Json& steps = member(object, list);
  if (!steps.is_array()) return invalid("a Sequence without ", list);
  for (const Json& step : steps) HEARTH_TRY(for_each_step(step, list, read));
  return {};
}

class Maker {
 public:
  Maker(const Json& file, const TokenNames& names) : file_(file), names_(names) {}

  Result<std::unique_ptr<TokenizerParts>> make() {
    // Truncation and padding are for batches; nothing here asks for either.
    HEARTH_TRY(expect_members(file_, "the file",
                              {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                               "post_processor", "decoder", "model"}));
    HEARTH_TRY(read_decoder());  // says which spelling of bytes it is
    HEARTH_TRY(read_vocabulary());
    HEARTH_TRY(
        for_each_step(member(file_, "normalizer"), "normalizers", [&](const Json& s) { return read_normalizer(s); }));
    HEARTH_TRY(for_each_step(member(file_, "pre_tokenizer"), "pretokenizers",
                             [&](const Json& s) { return read_pre_tokenizer(s); }));
    for (const size_t steps : {parts_->rewrites.size(), parts_->piece_rewrites.size(), parts_->splitters.size()}) {
      if (steps > kMaxSteps) return unimplemented("tokenizer.json: more than ", kMaxSteps, " normalizers or splits");
    }
    HEARTH_TRY(read_added_tokens());
    if (byte_level_) {
      use_byte_level(*parts_);
    } else {
      use_metaspace(*parts_);
      if (!flag(model(), "byte_fallback")) std::ranges::fill(parts_->id_of_byte, -1);
    }
    HEARTH_TRY(read_merges());
    HEARTH_TRY(for_each_step(member(file_, "post_processor"), "processors",
                             [&](const Json& s) { return read_post_processor(s); }));
    read_names();
    return std::move(parts_);
  }

 private:
  const Json& model() const { return member(file_, "model"); }

  Status read_vocabulary() {
    HEARTH_TRY(expect_members(model(), "model",
                              {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                               "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"}));
    const std::string type = text_of(model(), "type", "BPE");
    if (type != "BPE") return unimplemented("tokenizer.json: only byte-pair models are supported");
    if (!member(model(), "dropout").is_null() || !text_of(model(), "continuing_subword_prefix").empty() ||
        !text_of(model(), "end_of_word_suffix").empty()) {
      return unimplemented("tokenizer.json: dropout, subword prefixes or word suffixes");
    }
    const Json& vocabulary = member(model(), "vocab");
    if (!vocabulary.is_object()) return invalid("tokenizer.json: model.vocab is not an object");
    for (const auto& [text, id] : vocabulary.items()) HEARTH_TRY(parts_->add_token(id_of(id), {text}));
    parts_->whole_pieces_first = flag(model(), "ignore_merges");
    parts_->fuse_unknown = flag(model(), "fuse_unk");
    if (const Json& unknown = member(model(), "unk_token"); unknown.is_string()) {
      HEARTH_ASSIGN(parts_->unknown, id_of_text(unknown.get<std::string>(), "unk_token"));
    }
    return {};
  }

  Status read_merges() {
    const Json& merges = member(model(), "merges");
    if (!merges.is_array()) return invalid("tokenizer.json: model.merges is not an array");
    parts_->bpe.reserve(merges.size());
    int32_t rank = 0;
    for (const Json& merge : merges) {
      if (merge.is_string()) {
        HEARTH_TRY(add_merge(*parts_, merge.get_ref<const std::string&>(), rank++));
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
        HEARTH_TRY(add_merge(*parts_, merge[0].get<std::string>(), merge[1].get<std::string>(), rank++));
      } else {
        return invalid("tokenizer.json: merge ", rank, " is not a pair");
      }
    }
    return {};
  }

  Status read_added_tokens() {
    std::vector<TokenNames::Added> all;
    const Json& listed = member(file_, "added_tokens");
    if (!listed.is_null() && !listed.is_array()) return invalid("tokenizer.json: added_tokens is not an array");
    for (const Json& entry : listed) {
      HEARTH_TRY(expect_members(entry, "an added token",
                                {"id", "content", "special", "lstrip", "rstrip", "single_word", "normalized"}));
      AddedToken token{.id = static_cast<int32_t>(id_of(member(entry, "id"))),
                       .text = text_of(entry, "content"),
                       .special = flag(entry, "special"),
                       .strip_left = flag(entry, "lstrip"),
                       .strip_right = flag(entry, "rstrip"),
                       .single_word = flag(entry, "single_word")};
      if (token.text.empty()) return invalid("tokenizer.json: an added token without content");
      all.push_back({std::move(token), flag(entry, "normalized")});
    }
    for (const auto& other : names_.added) {
      const auto known = std::ranges::find_if(all, [&](const auto& a) { return a.token.text == other.token.text; });
      if (known == all.end()) {
        all.push_back(other);
      } else if (other.token.id >= 0) {  // stated again, perhaps with other flags
        const auto [id, special] = std::pair(known->token.id, known->token.special);
        *known = other;
        known->token.id = id;
        known->token.special |= special;
      }
    }
    for (auto& [token, normalized] : all) {
      const auto known = parts_->id_of_text.find(token.text);
      if (known != parts_->id_of_text.end() && token.id != known->second) token.id = known->second;
      if (token.id < 0 && known == parts_->id_of_text.end()) continue;  // a name for what the vocabulary lacks
      HEARTH_TRY(add_one(std::move(token), normalized));
    }
    return {};
  }
  Status add_one(AddedToken token, bool normalized) {
    HEARTH_TRY(parts_->add_token(token.id, {token.text, literal_bytes(token), token.special}));
    if (normalized && !token.special && !parts_->rewrites.empty()) {
      WorkBudget budget(token.text.size());
      HEARTH_ASSIGN(token.text, rewrite(parts_->rewrites, token.text, true, budget));
      return parts_->added_after_rewrite.add(std::move(token));
    }
    return parts_->added.add(std::move(token));
  }
  std::string literal_bytes(const AddedToken& token) const {
    return byte_level_ || token.special ? token.text : spaces_for_marks(token.text);
  }

  Status read_normalizer(const Json& step) {
    const std::string type = text_of(step, "type");
    HEARTH_TRY(
        expect_members(step, "normalizer", {"type", "prepend", "pattern", "content", "strip_left", "strip_right"}));
    auto& out = parts_->rewrites;
    if (type == "Prepend") {
      out.push_back({Rewrite::Kind::kPrepend, "", text_of(step, "prepend")});
    } else if (type == "Replace") {
      const std::string from = text_of(member(step, "pattern"), "String");
      if (from.empty()) return unimplemented("tokenizer.json: a normalizer that replaces a regular expression");
      out.push_back({Rewrite::Kind::kReplace, from, text_of(step, "content")});
    } else if (type == "NFC") {
      out.push_back({Rewrite::Kind::kNfc, "", ""});
    } else if (type == "Lowercase") {
      out.push_back({Rewrite::Kind::kLowercase, "", ""});
    } else if (type == "Strip" && flag(step, "strip_left", true) && flag(step, "strip_right", true)) {
      out.push_back({Rewrite::Kind::kStrip, "", ""});
    } else {
      return unimplemented("tokenizer.json: a normalizer that is not known");
    }
    return {};
  }

  Status read_pre_tokenizer(const Json& step) {
    const std::string type = text_of(step, "type");
    HEARTH_TRY(expect_members(step, "pre_tokenizer",
                              {"type", "add_prefix_space", "trim_offsets", "use_regex", "replacement", "str_rep",
                               "prepend_scheme", "split", "pattern", "behavior", "invert", "individual_digits"}));
    if (type == "ByteLevel") {
      if (!byte_level_) return unimplemented("tokenizer.json: ByteLevel without its decoder");
      if (flag(step, "add_prefix_space", true)) HEARTH_TRY(rewrite_pieces({Rewrite::Kind::kPrependIfNone, "", " "}));
      if (flag(step, "use_regex", true)) parts_->splitters.push_back({kGpt2Words});
      return {};
    }
    if (type == "Metaspace") return read_metaspace(step);
    if (type == "Split") return read_split(step);
    if (type == "Digits") {
      const auto behavior =
          flag(step, "individual_digits") ? Splitter::Behavior::kIsolated : Splitter::Behavior::kContiguous;
      parts_->splitters.push_back({Splitter::Class::kDigit, behavior});
      return {};
    }
    if (type == "Punctuation") {
      HEARTH_ASSIGN(const auto behavior, behavior_of(step));
      parts_->splitters.push_back({Splitter::Class::kPunctuation, behavior});
      return {};
    }
    if (type == "WhitespaceSplit") {
      parts_->splitters.push_back({Splitter::Class::kSpace, Splitter::Behavior::kRemoved});
      return {};
    }
    return unimplemented("tokenizer.json: a pre-tokenizer that is not known");
  }

  // Once pieces are cut, a step that rewrites them would have to rewrite each on its own.
  Status rewrite_pieces(Rewrite step) {
    if (!parts_->splitters.empty()) return unimplemented("tokenizer.json: a pre-tokenizer that rewrites after a split");
    parts_->piece_rewrites.push_back(std::move(step));
    return {};
  }

  Status read_metaspace(const Json& step) {
    const std::string mark = text_of(step, "replacement", kSpaceMark);
    if (mark != kSpaceMark) return unimplemented("tokenizer.json: a Metaspace mark other than U+2581");
    HEARTH_TRY(rewrite_pieces({Rewrite::Kind::kReplace, " ", mark}));
    // Older files say add_prefix_space.
    const std::string scheme =
        text_of(step, "prepend_scheme", flag(step, "add_prefix_space", true) ? "always" : "never");
    if (scheme == "always") HEARTH_TRY(rewrite_pieces({Rewrite::Kind::kPrependIfNone, "", mark}));
    if (scheme == "first") HEARTH_TRY(rewrite_pieces({Rewrite::Kind::kPrependAtStart, "", mark}));
    if (flag(step, "split", true)) parts_->splitters.push_back({mark, Splitter::Behavior::kMergedWithNext});
    return {};
  }

  Status read_split(const Json& step) {
    Splitter splitter{.invert = flag(step, "invert")};
    HEARTH_ASSIGN(splitter.behavior, behavior_of(step));
    const std::string regex = text_of(member(step, "pattern"), "Regex");
    const std::string literal = text_of(member(step, "pattern"), "String");
    if (const WordPattern* words = known_word_pattern(regex)) {
      splitter.separator = *words;
    } else if (!regex.empty()) {
      HEARTH_ASSIGN(splitter.separator, Regex::compile(regex));
    } else if (!literal.empty()) {
      splitter.separator = literal;
    } else {
      return invalid("tokenizer.json: a Split without a pattern");
    }
    parts_->splitters.push_back(std::move(splitter));
    return {};
  }

  static Result<Splitter::Behavior> behavior_of(const Json& step) {
    using enum Splitter::Behavior;
    const std::string name = text_of(step, "behavior", "Isolated");
    if (name == "Removed") return kRemoved;
    if (name == "Isolated") return kIsolated;
    if (name == "MergedWithPrevious") return kMergedWithPrevious;
    if (name == "MergedWithNext") return kMergedWithNext;
    if (name == "Contiguous") return kContiguous;
    return invalid("tokenizer.json: a split behavior that is not known");
  }

  Status read_decoder() {
    return for_each_step(member(file_, "decoder"), "decoders", [&](const Json& step) -> Status {
      const std::string type = text_of(step, "type");
      HEARTH_TRY(expect_members(step, "decoder",
                                {"type", "add_prefix_space", "trim_offsets", "use_regex", "replacement", "str_rep",
                                 "prepend_scheme", "split", "pattern", "content", "start", "stop"}));
      if (type == "ByteLevel") {
        byte_level_ = true;
      } else if (type == "Metaspace") {
        parts_->strip_leading_space =
            text_of(step, "prepend_scheme", flag(step, "add_prefix_space", true) ? "always" : "never") != "never";
      } else if (type == "Strip" && text_of(step, "content") == " " && member(step, "start") == 1 &&
                 member(step, "stop") == 0) {
        parts_->strip_leading_space = true;
      } else if (!(type == "Replace" && text_of(member(step, "pattern"), "String") == kSpaceMark &&
                   text_of(step, "content") == " ") &&
                 type != "ByteFallback" && type != "Fuse") {
        return unimplemented("tokenizer.json: a decoder that is not known");
      }
      return {};
    });
  }

  Status read_post_processor(const Json& step) {
    const std::string type = text_of(step, "type");
    HEARTH_TRY(
        expect_members(step, "post_processor",
                       {"type", "add_prefix_space", "trim_offsets", "use_regex", "single", "pair", "special_tokens"}));
    if (type == "ByteLevel") return {};  // about offsets only
    if (type != "TemplateProcessing") return unimplemented("tokenizer.json: a post-processor that is not known");
    auto* side = &parts_->prefix;
    const Json& single = member(step, "single");
    if (!single.is_array()) return invalid("tokenizer.json: a template that is not a list");
    for (const Json& piece : single) {
      if (piece.contains("Sequence")) {
        side = &parts_->suffix;
        continue;
      }
      const std::string name = text_of(member(piece, "SpecialToken"), "id");
      const Json& ids = member(member(member(step, "special_tokens"), name), "ids");
      if (!ids.is_array()) return invalid("tokenizer.json: a template names a token without ids");
      for (const Json& value : ids) {
        const int64_t id = id_of(value);
        if (id < 0 || id >= static_cast<int64_t>(parts_->tokens.size())) {
          return invalid("tokenizer.json: a template's token is not in the vocabulary");
        }
        side->push_back(static_cast<int32_t>(id));
      }
    }
    return {};
  }

  Result<std::optional<int32_t>> id_of_text(const std::string& text, std::string_view name) const {
    const auto found = parts_->id_of_text.find(text);
    if (found == parts_->id_of_text.end()) return invalid("tokenizer.json: ", name, " is not in the vocabulary");
    return std::optional<int32_t>(found->second);
  }

  // Which tokens begin and end a text, and, for Llama's class, whether they are added.
  void read_names() {
    const auto named = [&](std::string_view name) -> std::optional<int32_t> {
      const std::string* text = names_.find(name);
      const auto found = text == nullptr ? parts_->id_of_text.end() : parts_->id_of_text.find(*text);
      if (found == parts_->id_of_text.end()) return std::nullopt;
      return found->second;
    };
    parts_->names = names_.names;
    parts_->bos = named("bos_token");
    parts_->eos = named("eos_token");
    if (!parts_->bos && parts_->prefix.size() == 1) parts_->bos = parts_->prefix[0];
    const std::string& kind = names_.tokenizer_class;
    if (!kind.starts_with("Llama") && !kind.starts_with("CodeLlama") && !kind.starts_with("Gemma")) return;
    const auto set = [&](std::vector<int32_t>& side, const std::optional<int32_t>& token, std::optional<bool> wanted) {
      if (!wanted) return;
      side.clear();
      if (*wanted && token) side.push_back(*token);
    };
    set(parts_->prefix, parts_->bos, names_.add_bos);
    set(parts_->suffix, parts_->eos, names_.add_eos);
  }

  const Json& file_;
  const TokenNames& names_;
  std::unique_ptr<TokenizerParts> parts_ = std::make_unique<TokenizerParts>();
  bool byte_level_ = false;
};

}  // namespace

Result<std::unique_ptr<Tokenizer>> Tokenizer::from_tokenizer_json(std::string_view text, const TokenNames& names) {
  auto file = parse_json(text);
  if (!file.ok()) return file.status().prefixed("tokenizer.json");
  HEARTH_ASSIGN(auto parts, Maker(*file, names).make());
  return std::make_unique<Tokenizer>(std::move(parts));
}

}  // namespace hearth
