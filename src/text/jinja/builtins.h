// The names a template can use without defining them: filters, tests, methods, functions.
#pragma once

#include <optional>
#include <string_view>

#include "text/jinja/value.h"

namespace hearth::jinja {

// filters.cc
Value apply_filter(Context& context, std::string_view name, const Value& input, const Arguments& arguments);
bool is_filter(std::string_view name);

// tests.cc
bool is_test(std::string_view name);
bool apply_test(Context& context, std::string_view name, const Value& input, const Arguments& arguments);

// methods.cc: the object, held by value, and the method as a function; undefined where there is none.
Value string_method(const Value& object, std::string_view name);
Value dict_method(const Value& object, std::string_view name);
Value list_method(const Value& object, std::string_view name);
Value loop_attribute(const Value& object, std::string_view name);
List pairs(Context& context, const Dict& dict);
List keys(Context& context, const Dict& dict);

// operators.cc
// object.name and object[key]: undefined where there is none; fails on an undefined object.
Value attribute(Context& context, const Value& object, std::string_view name);
Value item(Context& context, const Value& object, const Value& key);
Value slice(Context& context, const Value& object, const Value& start, const Value& stop, const Value& step);
Value arithmetic(Context& context, std::string_view op, const Value& left, const Value& right);
bool is_hashable(const Value& value);
bool contains(Context& context, const Value& container, const Value& value);
// What a for loop or list() goes through: a list's items, a dictionary's keys, a string's characters.
std::shared_ptr<const List> iterate(Context& context, const Value& value);

// globals.cc: range, namespace, raise_exception, ...; undefined for an unknown name.
Value global(std::string_view name);

}  // namespace hearth::jinja
