// Which parameters are strings.
#include "formats/tool.h"

#include <algorithm>

namespace hearth {

ValueStyle value_style(const Json& plain) {
  if (plain.contains("enum")) {
    const bool strings = std::ranges::all_of(plain["enum"], [](const Json& value) {
      return value.is_string() && value.get_ref<const std::string&>().find_first_of("<[\n") == std::string::npos;
    });
    return strings ? ValueStyle::kRaw : ValueStyle::kJson;
  }
  if (!plain.contains("type") || plain["type"] != "string") return ValueStyle::kJson;
  return plain.contains("minLength") || plain.contains("maxLength") || plain.contains("pattern") ? ValueStyle::kJson
                                                                                                 : ValueStyle::kRaw;
}

const Json* parameter_schema(const Json& parameters, std::string_view name) {
  const auto properties = parameters.find("properties");
  if (properties == parameters.end()) return nullptr;
  const auto at = properties->find(name);
  return at == properties->end() ? nullptr : &*at;
}

}  // namespace hearth
