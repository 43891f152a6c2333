// Tests ("is defined"), by name.
#include <unordered_map>

#include "text/jinja/arguments.h"
#include "text/jinja/builtins.h"
#include "text/jinja/strings.h"

namespace hearth::jinja {
namespace {

using C = Context&;
using V = const Value&;

// `other` is undefined for a test without a parameter.
struct Test {
  bool has_parameter;
  bool (*holds)(Context&, const Value&, const Value& other);
};

bool is_mapping(V v) { return v.dict() != nullptr && !v.dict()->is_namespace; }
bool is_iterable(C, V v, V) {
  return v.string() || v.list() || v.generator() || v.loop() || is_mapping(v) || v.is_undefined();
}
// What has a length and items by key.
bool is_sequence(C, V v, V) { return v.string() || (v.list() && !v.is_view()) || is_mapping(v) || v.is_undefined(); }
template <bool (*kKnown)(std::string_view)>
bool names(C c, V v, V) {
  if (!is_hashable(v)) c.fail("a ", v.type_name(), " is no name");
  return v.string() && kKnown(v.string()->text());
}
template <int64_t kRest>
bool has_rest(C c, V v, V) {
  return equal(c, arithmetic(c, "%", v, int64_t{2}), kRest);
}

const std::unordered_map<std::string_view, Test>& tests() {
  static const std::unordered_map<std::string_view, Test> table = {
      {"boolean", {false, [](C, V v, V) { return v.boolean() != nullptr; }}},
      {"callable",
       {false, [](C, V v, V) { return v.function() || v.is_undefined() || (v.loop() && v.loop()->recursion); }}},
      {"defined", {false, [](C, V v, V) { return !v.is_undefined(); }}},
      {"divisibleby", {true, [](C c, V v, V by) { return equal(c, arithmetic(c, "%", v, by), int64_t{0}); }}},
      {"eq", {true, [](C c, V v, V other) { return equal(c, v, other); }}},
      {"even", {false, has_rest<0>}},
      {"false", {false, [](C, V v, V) { return v.boolean() != nullptr && !*v.boolean(); }}},
      {"filter", {false, names<is_filter>}},
      {"float", {false, [](C, V v, V) { return v.real() != nullptr; }}},
      {"ge", {true, [](C c, V v, V other) { return compare(c, v, other) >= 0; }}},
      {"gt", {true, [](C c, V v, V other) { return compare(c, v, other) > 0; }}},
      {"in", {true, [](C c, V v, V other) { return contains(c, other, v); }}},
      {"integer", {false, [](C, V v, V) { return v.integer() != nullptr; }}},
      {"iterable", {false, is_iterable}},
      {"le", {true, [](C c, V v, V other) { return compare(c, v, other) <= 0; }}},
      {"lower", {false, [](C c, V v, V) { return is_cased(to_text(c, v), Property::kLower, Property::kUpper); }}},
      {"lt", {true, [](C c, V v, V other) { return compare(c, v, other) < 0; }}},
      {"mapping", {false, [](C, V v, V) { return is_mapping(v); }}},
      {"ne", {true, [](C c, V v, V other) { return !equal(c, v, other); }}},
      {"none", {false, [](C, V v, V) { return v.is_none(); }}},
      {"number", {false, [](C, V v, V) { return v.is_number(); }}},
      {"odd", {false, has_rest<1>}},
      {"sameas",
       {true,
        [](C c, V v, V other) { return std::string_view(v.type_name()) == other.type_name() && equal(c, v, other); }}},
      {"sequence", {false, is_sequence}},
      {"string", {false, [](C, V v, V) { return v.string() != nullptr; }}},
      {"test", {false, names<is_test>}},
      {"true", {false, [](C, V v, V) { return v.boolean() != nullptr && *v.boolean(); }}},
      {"undefined", {false, [](C, V v, V) { return v.is_undefined(); }}},
      {"upper", {false, [](C c, V v, V) { return is_cased(to_text(c, v), Property::kUpper, Property::kLower); }}},
  };
  return table;
}

std::string_view common_name(std::string_view name) {
  constexpr std::pair<std::string_view, std::string_view> kOther[] = {
      {"==", "eq"}, {"equalto", "eq"},  {"!=", "ne"}, {">", "gt"}, {"greaterthan", "gt"},
      {"<", "lt"},  {"lessthan", "lt"}, {">=", "ge"}, {"<=", "le"}};
  for (const auto& [other, common] : kOther) {
    if (name == other) return common;
  }
  return name;
}

}  // namespace

bool is_test(std::string_view name) { return tests().contains(common_name(name)); }

bool apply_test(Context& context, std::string_view name, const Value& input, const Arguments& given) {
  const auto found = tests().find(common_name(name));
  if (found == tests().end()) {
    context.fail("a test that is not known: ", name);
    return false;
  }
  const Bound args(context, name, found->second.has_parameter ? "/other" : "", given);
  return !context.failed() && found->second.holds(context, input, found->second.has_parameter ? *args[0] : Value());
}

}  // namespace hearth::jinja
