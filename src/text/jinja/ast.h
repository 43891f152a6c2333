// The syntax tree of a template: expressions and statements are nodes of one kind of struct.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace hearth::jinja {

struct Node;
using NodePtr = std::unique_ptr<Node>;
using Nodes = std::vector<NodePtr>;

struct Node {
  enum class Kind {
    // Expressions; what their children are.
    kConstant,     // value
    kName,         // name
    kAttribute,    // object; name
    kItem,         // object, key
    kSlice,        // object, start, stop, step (null where absent)
    kCall,         // callee, arguments; named
    kSpread,       // list, as arguments
    kFilter,       // input, arguments; name, named
    kTest,         // input, arguments; name, named
    kList,         // items
    kTuple,        // items
    kDict,         // key, value, key, value, ...
    kNot,          // operand
    kNegative,     // operand
    kPositive,     // operand
    kArithmetic,   // left, right; name is the operator, "~" too
    kAnd,          // left, right
    kOr,           // left, right
    kComparison,   // first, second, ...; operators between them, "in" and "not in" too
    kConditional,  // condition, then, else (null where absent)
    // Statements; `body` is what they enclose.
    kData,         // name is the text
    kPrint,        // expression
    kIf,           // condition; body; otherwise
    kFor,          // target, iterable, filter (null where absent); body; otherwise; name is "recursive" or empty
    kSet,          // target, value
    kSetBlock,     // target, filter chain or null; body
    kMacro,        // default values (null where absent); parameters; name; body
    kCallBlock,    // call; parameters, default values follow it; body
    kFilterBlock,  // filter chain; body
    kWith,         // target, value, target, value, ...; body
    kBlock,        // body (generation)
    kBreak,
    kContinue,
    kInput,  // what a filter block or set block filters
  };
  Kind kind;
  int line = 0;
  int depth = 1;  // of the tree below, bounded by the parser
  std::string name;
  Value value;
  Nodes children;
  std::vector<std::pair<std::string, NodePtr>> named;
  std::vector<std::string> words;  // parameters, operators
  Nodes body, otherwise;
};

struct Template {
  Nodes body;
};

Result<Template> parse_template(std::string_view source);

}  // namespace hearth::jinja
