// Tests ("is defined"), by name.
#include <unordered_map>

#include "text/jinja/arguments.h"
#include "text/jinja/builtins.h"
#include "text/jinja/strings.h"

namespace hearth::jinja {
namespace {

using Test = bool (*)(Context&, const Value&, const Value&);
const std::unordered_map<std::string_view, Test>& tests() {
  static const std::unordered_map<std::string_view, Test> table = {
      {"boolean", [](Context&, const Value& v, const Value&) { return v.boolean() != nullptr; }},
      {"callable", [](Context&, const Value& v, const Value&) { return v.function() != nullptr; }},
      {"defined", [](Context&, const Value& v, const Value&) { return !v.is_undefined(); }},
      {"divisibleby",
       [](Context& c, const Value& v, const Value& by) { return arithmetic(c, "%", v, by).as_real() == 0; }},
      {"eq", [](Context& c, const Value& v, const Value& other) { return equal(c, v, other); }},
      {"even", [](Context& c, const Value& v,
                  const Value&) { return equal(c, arithmetic(c, "%", v, int64_t{2}), int64_t{0}); }},
      {"false", [](Context&, const Value& v, const Value&) { return v.boolean() != nullptr && !*v.boolean(); }},
      {"filter", [](Context&, const Value& v, const Value&) { return v.string() && is_filter(v.string()->text()); }},
      {"float", [](Context&, const Value& v, const Value&) { return v.real() != nullptr; }},
      {"ge", [](Context& c, const Value& v, const Value& other) { return compare(c, v, other) >= 0; }},
      {"gt", [](Context& c, const Value& v, const Value& other) { return compare(c, v, other) > 0; }},
      {"in", [](Context& c, const Value& v, const Value& other) { return contains(c, other, v); }},
      {"integer", [](Context&, const Value& v, const Value&) { return v.integer() != nullptr; }},
      {"iterable",
       [](Context&, const Value& v, const Value&) {
         return v.string() || v.list() || (v.dict() && !v.dict()->is_namespace) || v.is_undefined();
       }},
      {"le", [](Context& c, const Value& v, const Value& other) { return compare(c, v, other) <= 0; }},
      {"lower", [](Context& c, const Value& v,
                   const Value&) { return cased(to_text(c, v), Category::kLower, Category::kUpper).truthy(); }},
      {"lt", [](Context& c, const Value& v, const Value& other) { return compare(c, v, other) < 0; }},
      {"mapping", [](Context&, const Value& v, const Value&) { return v.dict() && !v.dict()->is_namespace; }},
      {"ne", [](Context& c, const Value& v, const Value& other) { return !equal(c, v, other); }},
      {"none", [](Context&, const Value& v, const Value&) { return v.is_none(); }},
      {"number", [](Context&, const Value& v, const Value&) { return v.is_number(); }},
      {"odd", [](Context& c, const Value& v,
                 const Value&) { return equal(c, arithmetic(c, "%", v, int64_t{2}), int64_t{1}); }},
      {"sameas",
       [](Context& c, const Value& v, const Value& other) {
         return std::string_view(v.type_name()) == other.type_name() && equal(c, v, other);
       }},
      {"sequence",
       [](Context&, const Value& v, const Value&) {
         return v.string() || v.list() || (v.dict() && !v.dict()->is_namespace) || v.is_undefined();
       }},
      {"string", [](Context&, const Value& v, const Value&) { return v.string() != nullptr; }},
      {"true", [](Context&, const Value& v, const Value&) { return v.boolean() != nullptr && *v.boolean(); }},
      {"undefined", [](Context&, const Value& v, const Value&) { return v.is_undefined(); }},
      {"upper", [](Context& c, const Value& v,
                   const Value&) { return cased(to_text(c, v), Category::kUpper, Category::kLower).truthy(); }},
  };
  return table;
}

}  // namespace

bool apply_test(Context& context, std::string_view name, const Value& input, const Args& args) {
  constexpr std::pair<std::string_view, std::string_view> kOther[] = {
      {"==", "eq"}, {"equalto", "eq"},  {"!=", "ne"}, {">", "gt"}, {"greaterthan", "gt"},
      {"<", "lt"},  {"lessthan", "lt"}, {">=", "ge"}, {"<=", "le"}};
  for (const auto& [other, common] : kOther) {
    if (name == other) name = common;
  }
  const auto found = tests().find(name);
  if (found == tests().end()) {
    context.fail("a test that is not known: ", name);
    return false;
  }
  return found->second(context, input, args.positional.empty() ? Value() : args.positional[0]);
}

}  // namespace hearth::jinja
