// Functions that a template can call without defining them.
#include <ctime>

#include "base/checked.h"
#include "text/jinja/arguments.h"
#include "text/jinja/builtins.h"

namespace hearth::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;

Value range(Context& context, const Args& args) {
  int64_t bounds[3] = {0, 0, 1};
  const size_t count = args.positional.size();
  if (count < 1 || count > 3) return context.fail("range takes one to three numbers");
  for (size_t i = 0; i < count; ++i) {
    const auto value = args.positional[i].as_integer();
    if (!value) return context.fail("range takes integers");
    bounds[count == 1 ? 1 : i] = *value;
  }
  const auto [start, stop, step] = bounds;
  if (step == 0) return context.fail("range with a step of zero");
  List out;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (out.size() >= static_cast<size_t>(kMaxRange)) return context.fail("range longer than ", kMaxRange);
    if (!context.charge_items(1)) return {};
    out.push_back(i);
    const auto next = checked_add(i, step);
    if (!next) break;
    i = *next;
  }
  return out;
}

Value format_time(Context& context, const Args& args) {
  const MarkedString* format = string_argument(args, 0, "format");
  if (format == nullptr || format->size() > 256) return context.fail("strftime_now takes a short format");
  std::tm local = {};
  localtime_r(&context.now, &local);
  char buffer[1024];
  return Value::text(std::string_view(buffer, std::strftime(buffer, sizeof buffer, format->text().c_str(), &local)));
}

Value make_dict(Context& context, const Args& args, bool is_namespace) {
  Dict out;
  if (!args.positional.empty()) {
    if (args.positional[0].dict() == nullptr) return context.fail("a dictionary is made of another");
    if (!context.charge_items(4 * args.positional[0].dict()->items.size())) return {};
    out = *args.positional[0].dict();
  }
  out.is_namespace = is_namespace;
  for (const auto& [name, value] : args.named) out.set(MarkedString(name), value);
  return out;
}

}  // namespace

Value global(std::string_view name) {
  if (name == "range") return Function(range);
  if (name == "namespace") return Function([](Context& c, const Args& a) { return make_dict(c, a, true); });
  if (name == "dict") return Function([](Context& c, const Args& a) { return make_dict(c, a, false); });
  if (name == "self") return Dict();  // the template's blocks, of which there are none
  if (name == "strftime_now") return Function(format_time);
  if (name == "raise_exception") {
    return Function([](Context& context, const Args& args) {
      return context.raise(args.positional.empty() ? MarkedString() : to_text(context, args.positional[0]));
    });
  }
  return {};
}

}  // namespace hearth::jinja
