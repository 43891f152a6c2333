// A call's arguments in the order of the callee's parameters. What the callee does not take is an error, never ignored.
#pragma once

#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace hearth::jinja {

class Bound {
 public:
  // `parameters`: names with spaces between them. "name?" may be absent, "/name?" is given by place only, "*" takes
  // further arguments by place and "**" further ones by name. Fails where the call does not fit.
  // Points into `given`.
  Bound(Context& context, std::string_view callee, std::string_view parameters, const Arguments& given);
  Bound(Context&, std::string_view, std::string_view, const Arguments&&) = delete;

  // Null where absent.
  const Value* operator[](size_t i) const { return values_[i]; }
  // These fail on another type. Null, or `otherwise`, where absent; None too is absent for text().
  const MarkedString* text(size_t i) const;
  const MarkedString& needed_text(size_t i) const;
  int64_t integer(size_t i, int64_t otherwise) const;
  bool flag(size_t i, bool otherwise = false) const { return values_[i] == nullptr ? otherwise : values_[i]->truthy(); }
  // What "*" and "**" took.
  const Arguments& rest() const { return rest_; }

 private:
  Context& context_;
  const std::string_view callee_;
  std::vector<const Value*> values_;
  Arguments rest_;
};

}  // namespace hearth::jinja
