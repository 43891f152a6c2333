// SentencePiece's tokenizer.model: a protocol buffer with pieces, scores and types, read field by field into a
// Vocabulary.
#include <bit>
#include <cstring>
#include <unordered_map>

#include "text/token_names.h"
#include "text/tokenizer.h"

namespace hearth {
namespace {

enum PieceType { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kByte = 6 };

// One message's fields, in order. A malformed one ends the reading with failed().
class ProtoReader {
 public:
  explicit ProtoReader(std::string_view message) : rest_(message) {}

  // The next field into number, and integer or bytes; false at the end or on failure.
  bool next() {
    if (rest_.empty() || failed_) return false;
    const uint64_t key = varint();
    number = key >> 3;
    switch (key & 7) {
      case 0: integer = varint(); break;
      case 1: bytes = take(8); break;
      case 2: bytes = take(varint()); break;
      case 5: bytes = take(4); break;
      default: failed_ = true;  // groups do not occur
    }
    return !failed_;
  }
  bool failed() const { return failed_; }
  float float_value() {
    uint32_t bits = 0;
    if (bytes.size() == sizeof bits) std::memcpy(&bits, bytes.data(), sizeof bits);
    return std::bit_cast<float>(bits);
  }

  uint64_t number = 0, integer = 0;
  std::string_view bytes;

 private:
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    failed_ = true;
    return 0;
  }
  std::string_view take(uint64_t size) {
    if (size > rest_.size()) failed_ = true;
    if (failed_) return {};
    const auto taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

  std::string_view rest_;
  bool failed_ = false;
};

const Status& malformed() {
  static const Status status = invalid("tokenizer.model: malformed protocol buffer");
  return status;
}

Status read_piece(std::string_view message, Vocabulary& vocabulary) {
  std::string text;
  float score = 0;
  int32_t type = 1;
  ProtoReader field(message);
  while (field.next()) {
    if (field.number == 1) text = field.bytes;
    if (field.number == 2) score = field.float_value();
    if (field.number == 3) type = static_cast<int32_t>(field.integer);
  }
  if (field.failed()) return malformed();
  vocabulary.tokens.push_back(std::move(text));
  vocabulary.scores.push_back(score);
  vocabulary.types.push_back(type);
  return {};
}

Status read_trainer(std::string_view message, Vocabulary& vocabulary) {
  constexpr uint64_t kBytePair = 2;
  uint64_t model_type = 1;
  // Negative ids are ten-byte varints: as signed numbers they are negative again.
  ProtoReader field(message);
  while (field.next()) {
    if (field.number == 3) model_type = field.integer;
    if (field.number == 24 && field.integer != 0) return unimplemented("tokenizer.model: space marks after words");
    if (field.number == 40) vocabulary.unknown = static_cast<int32_t>(field.integer);
    if (field.number == 41) vocabulary.bos = static_cast<int32_t>(field.integer);
    if (field.number == 42) vocabulary.eos = static_cast<int32_t>(field.integer);
  }
  if (field.failed()) return malformed();
  if (model_type != kBytePair) return unimplemented("tokenizer.model: only byte-pair models are supported");
  return {};
}

Status read_normalizer(std::string_view message, Vocabulary& vocabulary) {
  bool collapses_spaces = true, marks_spaces = true;
  ProtoReader field(message);
  while (field.next()) {
    if (field.number == 2 && !field.bytes.empty()) return unimplemented("tokenizer.model: a character map");
    if (field.number == 3) vocabulary.add_space_prefix = field.integer != 0;
    if (field.number == 4) collapses_spaces = field.integer != 0;
    if (field.number == 5) marks_spaces = field.integer != 0;
  }
  if (field.failed()) return malformed();
  if (collapses_spaces || !marks_spaces) return unimplemented("tokenizer.model: normalization of white space");
  return {};
}

// What the folder's other files add and name.
Status apply_names(const TokenNames& names, Vocabulary& vocabulary) {
  std::unordered_map<std::string, size_t> place;
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i) place.try_emplace(vocabulary.tokens[i], i);
  vocabulary.first_added = static_cast<int64_t>(vocabulary.tokens.size());
  for (const auto& [token, normalized] : names.added) {
    if (token.strip_left || token.strip_right || token.single_word) {
      return unimplemented("tokenizer.model: an added token that strips or is a single word, without tokenizer.json");
    }
    const auto [known, is_new] = place.try_emplace(token.text, vocabulary.tokens.size());
    if (is_new && token.id < 0) {
      place.erase(known);  // a name for what the vocabulary lacks
      continue;
    }
    if (is_new && token.id != static_cast<int64_t>(vocabulary.tokens.size())) {
      return invalid("tokenizer.model: the files beside it add token ", token.id, ", expected ",
                     vocabulary.tokens.size());
    }
    if (is_new) {
      vocabulary.tokens.push_back(token.text);
      vocabulary.scores.push_back(0);
      vocabulary.types.push_back(kNormal);
    }
    int32_t& type = vocabulary.types[known->second];
    if (type != kUnknown && type != kByte) type = token.special ? kControl : kUserDefined;
  }
  for (const auto& [name, id] : {std::pair{"bos_token", &vocabulary.bos}, std::pair{"eos_token", &vocabulary.eos},
                                 std::pair{"pad_token", &vocabulary.padding}}) {
    const std::string* text = names.find(name);
    const auto found = text == nullptr ? place.end() : place.find(*text);
    if (found != place.end()) *id = static_cast<int64_t>(found->second);
  }
  vocabulary.names = names.names;
  vocabulary.add_bos = names.add_bos.value_or(vocabulary.add_bos);
  vocabulary.add_eos = names.add_eos.value_or(vocabulary.add_eos);
  return {};
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> Tokenizer::from_sentencepiece(std::string_view model_proto,
                                                                 const TokenNames& names) {
  // The defaults are the format's own.
  Vocabulary vocabulary{.model = "llama", .bos = 1, .eos = 2, .unknown = 0, .add_bos = true, .add_space_prefix = true};
  bool has_trainer = false, has_normalizer = false, denormalizes = false;
  ProtoReader field(model_proto);
  while (field.next()) {
    if (field.number == 1) HEARTH_TRY(read_piece(field.bytes, vocabulary));
    if (field.number == 2) {
      has_trainer = true;
      HEARTH_TRY(read_trainer(field.bytes, vocabulary));
    }
    if (field.number == 3) {
      has_normalizer = true;
      HEARTH_TRY(read_normalizer(field.bytes, vocabulary));
    }
    if (field.number == 5) {
      ProtoReader denormalizer(field.bytes);
      while (denormalizer.next()) denormalizes |= denormalizer.number == 2 && !denormalizer.bytes.empty();
      if (denormalizer.failed()) return malformed();
    }
  }
  if (field.failed()) return malformed();
  if (denormalizes) return unimplemented("tokenizer.model: a denormalizer");
  if (!has_trainer || !has_normalizer) return invalid("tokenizer.model: no trainer or normalizer specification");
  HEARTH_TRY(apply_names(names, vocabulary));
  return from_vocabulary(vocabulary);
}

}  // namespace hearth
