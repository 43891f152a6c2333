// Walks the tree. After the first error every step returns at once; the context holds the error and the budget.
#include "text/jinja/evaluator.h"

#include <algorithm>

#include "text/jinja/arguments.h"
#include "text/jinja/builtins.h"

namespace hearth::jinja {
namespace {

using Kind = Node::Kind;

constexpr int kMaxDepth = 500;  // of calls of this class within each other

enum class Flow { kNormal, kBreak, kContinue };

using Scope = std::vector<std::pair<std::string_view, Value>>;

class Evaluator {
 public:
  Evaluator(Context& context, size_t max_output, const Dict& variables)
      : context_(context), max_output_(max_output), variables_(variables), scopes_(1) {}

  MarkedString render(const Template& source) {
    run(source.body);
    return std::move(out_);
  }

 private:
  struct Depth {
    explicit Depth(Evaluator& evaluator) : evaluator(evaluator) {
      if (++evaluator.depth_ > kMaxDepth) evaluator.context_.fail("nested too deep");
    }
    ~Depth() { --evaluator.depth_; }
    Evaluator& evaluator;
  };

  // Variables: the innermost scope first, then the request's, then the built-in ones.
  Value lookup(const std::string& name) const {
    for (size_t i = scopes_.size(); i-- > 0;) {
      if (i < first_scope_ && i > 0) continue;  // a macro sees its own scopes and the template's
      for (const auto& [known, value] : scopes_[i]) {
        if (known == name) return value;
      }
    }
    if (const Value* value = variables_.find(name)) return *value;
    return global(name);
  }
  void define(std::string_view name, Value value) {
    for (auto& [known, old] : scopes_.back()) {
      if (known == name) {
        old = std::move(value);
        return;
      }
    }
    scopes_.back().emplace_back(name, std::move(value));
  }
  void assign(const Node& target, const Value& value) {
    if (target.kind == Kind::kName) {
      define(target.name, value);
    } else if (target.kind == Kind::kAttribute) {
      const Value object = evaluate(target.children[0]);
      if (context_.failed()) return;
      if (object.dict() == nullptr || !object.dict()->is_namespace) {
        context_.fail("line ", target.line, ": only a namespace's attributes can be set");
      } else if (value.depth() >= Value::kMaxDepth) {
        context_.fail("line ", target.line, ": a namespace inside another");
      } else {
        object.dict()->set(MarkedString(target.name), value);
      }
    } else {
      const auto items = iterate(context_, value);
      if (context_.failed()) return;
      if (items->size() != target.children.size()) {
        context_.fail("line ", target.line, ": ", items->size(), " values for ", target.children.size(), " names");
        return;
      }
      for (size_t i = 0; i < items->size(); ++i) assign(*target.children[i], (*items)[i]);
    }
  }

  // Statements.
  Flow run(const Nodes& body) {
    for (const NodePtr& node : body) {
      const Flow flow = run(*node);
      if (flow != Flow::kNormal || context_.failed()) return flow;
    }
    return Flow::kNormal;
  }

  Flow run(const Node& node) {
    const Depth depth(*this);
    if (!context_.charge(1)) return Flow::kNormal;
    switch (node.kind) {
      case Kind::kData: write(MarkedString(node.name)); break;
      case Kind::kPrint: write(to_text(context_, evaluate(node.children[0]))); break;
      case Kind::kIf: return run(evaluate(node.children[0]).truthy() ? node.body : node.otherwise);
      case Kind::kFor: return run_for(node, evaluate(node.children[1]), 1);
      case Kind::kSet: assign(*node.children[0], evaluate(node.children[1])); break;
      case Kind::kSetBlock: assign(*node.children[0], filtered(captured(node.body), node.children[1])); break;
      case Kind::kMacro: define(node.name, macro(node, 0)); break;
      case Kind::kCallBlock: {
        const Value caller = macro(node, 1);
        write(to_text(context_, call(*node.children[0], &caller)));
        break;
      }
      case Kind::kFilterBlock: write(to_text(context_, filtered(captured(node.body), node.children[0]))); break;
      case Kind::kWith: {
        scopes_.emplace_back();
        for (size_t i = 0; i + 1 < node.children.size(); i += 2)
          assign(*node.children[i], evaluate(node.children[i + 1]));
        const Flow flow = run(node.body);
        scopes_.pop_back();
        return flow;
      }
      case Kind::kBlock: return run(node.body);
      case Kind::kBreak: return Flow::kBreak;
      case Kind::kContinue: return Flow::kContinue;
      default: context_.fail("line ", node.line, ": not a statement");
    }
    return Flow::kNormal;
  }

  // `depth`: of a recursive loop within itself.
  Flow run_for(const Node& node, const Value& over, int64_t depth) {
    auto items = iterate(context_, over);
    if (context_.failed()) return Flow::kNormal;
    if (node.children[2] != nullptr) {
      List kept;
      for (const Value& value : *items) {
        scopes_.emplace_back();
        assign(*node.children[0], value);
        if (evaluate(node.children[2]).truthy() && context_.charge_items(1)) kept.push_back(value);
        scopes_.pop_back();
        if (context_.failed()) return Flow::kNormal;
      }
      items = std::make_shared<const List>(std::move(kept));
    }
    if (items->empty()) return run(node.otherwise);
    const auto loop = std::make_shared<Loop>(Loop{items, 0, depth});
    if (node.name == "recursive") {
      loop->recursion =
          std::make_shared<const Function>([this, &node, depth](Context&, const Arguments& given) -> Value {
            const Bound args(context_, "loop", "/iterable", given);
            const Depth level(*this);
            if (context_.failed()) return {};
            MarkedString outer = std::exchange(out_, {});
            run_for(node, *args[0], depth + 1);
            return Value(std::exchange(out_, std::move(outer)));
          });
    }
    for (; loop->index < items->size() && context_.charge(1); ++loop->index) {
      scopes_.emplace_back();
      assign(*node.children[0], (*items)[loop->index]);
      define("loop", std::shared_ptr<const Loop>(loop));
      const Flow flow = run(node.body);
      scopes_.pop_back();
      if (flow == Flow::kBreak) break;
    }
    return Flow::kNormal;
  }

  void write(const MarkedString& text) {
    if (out_.size() + text.size() > max_output_) {
      context_.fail("output longer than ", max_output_, " bytes");
    } else if (context_.charge_bytes(text.size())) {
      out_.append(text);
    }
  }
  Value captured(const Nodes& body) {
    MarkedString outer = std::exchange(out_, {});
    scopes_.emplace_back();
    run(body);
    scopes_.pop_back();
    return Value(std::exchange(out_, std::move(outer)));
  }
  Value filtered(Value input, const NodePtr& chain) {
    if (chain == nullptr) return input;
    const Value outer = std::exchange(filter_input_, std::move(input));
    Value result = evaluate(chain);
    filter_input_ = outer;
    return result;
  }

  // A macro's, or a call block's, body as a function; the defaults begin at children[first_default].
  Value macro(const Node& node, size_t first_default) {
    return Function(
        [this, &node, first_default, first_around = first_scope_](Context&, const Arguments& arguments) -> Value {
          const Depth depth(*this);
          if (context_.failed()) return {};
          if (arguments.positional.size() > node.words.size()) {
            return context_.fail("line ", node.line, ": too many arguments");
          }
          for (const auto& [name, value] : arguments.named) {
            const auto place = std::ranges::find(node.words, name) - node.words.begin();
            const bool known = place < static_cast<ptrdiff_t>(node.words.size());
            if (name != "caller" && (!known || place < static_cast<ptrdiff_t>(arguments.positional.size()))) {
              return context_.fail("line ", node.line, ": an argument that the macro does not take, or takes once");
            }
          }
          const auto named = [&](std::string_view name) -> const Value* {
            const auto found = std::ranges::find_if(arguments.named, [&](const auto& a) { return a.first == name; });
            return found == arguments.named.end() ? nullptr : &found->second;
          };
          // A call block's body belongs to the scopes around it; a macro's to the template.
          const size_t outer_first = first_scope_;
          first_scope_ = node.kind == Kind::kMacro ? scopes_.size() : first_around;
          scopes_.emplace_back();
          for (size_t i = 0; i < node.words.size(); ++i) {
            const Value* given = i < arguments.positional.size() ? &arguments.positional[i] : named(node.words[i]);
            const NodePtr& otherwise = node.children[first_default + i];
            define(node.words[i], given != nullptr ? *given : otherwise != nullptr ? evaluate(otherwise) : Value());
          }
          if (const Value* caller = named("caller")) define("caller", *caller);
          Value result = captured(node.body);
          scopes_.pop_back();
          first_scope_ = outer_first;
          return result;
        });
  }

  // Expressions.
  Value evaluate(const NodePtr& node) {
    if (node == nullptr) return {};
    const Depth depth(*this);
    if (!context_.charge(1)) return {};
    Value value = evaluate(*node);
    return value.depth() <= Value::kMaxDepth + 1 ? value
                                                 : context_.fail("line ", node->line, ": a value nested too deep");
  }
  Value evaluate(const Node& node) {
    const auto child = [&](size_t i) { return evaluate(node.children[i]); };
    switch (node.kind) {
      case Kind::kConstant: return node.value;
      case Kind::kInput: return filter_input_;
      case Kind::kName: return lookup(node.name);
      case Kind::kAttribute: return attribute(context_, child(0), node.name);
      case Kind::kItem: {
        const Value object = child(0);
        return item(context_, object, child(1));
      }
      case Kind::kSlice: {
        const auto bound = [&](size_t i) { return node.children[i] == nullptr ? Value(None{}) : child(i); };
        const Value object = child(0), start = bound(1), stop = bound(2), step = bound(3);
        return slice(context_, object, start, stop, step);
      }
      case Kind::kCall: return call(node, nullptr);
      case Kind::kFilter: {
        const Value input = child(0);
        const Arguments given = arguments(node);
        return context_.failed() ? Value() : apply_filter(context_, node.name, input, given);
      }
      case Kind::kTest: {
        const Value input = child(0);
        const Arguments given = arguments(node);
        return context_.failed() ? Value() : Value(apply_test(context_, node.name, input, given));
      }
      case Kind::kList:
      case Kind::kTuple: {
        List items;
        if (!context_.charge_items(node.children.size() + 2)) return {};
        for (const NodePtr& element : node.children) items.push_back(evaluate(element));
        return Value(std::move(items), node.kind == Kind::kTuple ? ListKind::kTuple : ListKind::kList);
      }
      case Kind::kDict: {
        Dict dict;
        if (!context_.charge_items(4 * node.children.size() + 2)) return {};
        for (size_t i = 0; i + 1 < node.children.size(); i += 2) {
          const Value key = child(i);
          if (key.string() == nullptr) return context_.fail("line ", node.line, ": only strings are keys");
          dict.set(*key.string(), child(i + 1));
        }
        return dict;
      }
      case Kind::kNot: return !child(0).truthy();
      case Kind::kNegative: {
        const Value operand = child(0);  // a real's zero has a sign
        return operand.real() != nullptr ? Value(-*operand.real()) : arithmetic(context_, "-", int64_t{0}, operand);
      }
      case Kind::kPositive: return arithmetic(context_, "+", int64_t{0}, child(0));
      case Kind::kArithmetic: {
        const Value left = child(0);
        return arithmetic(context_, node.name, left, child(1));
      }
      case Kind::kAnd: {
        const Value left = child(0);
        return left.truthy() ? child(1) : left;
      }
      case Kind::kOr: {
        const Value left = child(0);
        return left.truthy() ? left : child(1);
      }
      case Kind::kComparison: return comparison(node);
      case Kind::kConditional: return child(0).truthy() ? child(1) : child(2);
      default: return context_.fail("line ", node.line, ": not an expression");
    }
  }

  Value comparison(const Node& node) {
    Value left = evaluate(node.children[0]);
    for (size_t i = 0; i < node.words.size(); ++i) {
      const Value right = evaluate(node.children[i + 1]);
      if (context_.failed()) return {};
      const std::string& op = node.words[i];
      bool holds;
      if (op == "==" || op == "!=") {
        holds = equal(context_, left, right) == (op == "==");
      } else if (op == "in" || op == "not in") {
        holds = contains(context_, right, left) == (op == "in");
      } else {
        const int order = compare(context_, left, right);
        holds = op == "<" ? order < 0 : op == "<=" ? order <= 0 : op == ">" ? order > 0 : order >= 0;
      }
      if (!holds) return false;
      left = right;
    }
    return true;
  }

  // Of a call, filter or test: the first child is what it is applied to.
  Arguments arguments(const Node& node) {
    Arguments out;
    for (size_t i = 1; i < node.children.size(); ++i) {
      const Node& child = *node.children[i];
      if (child.kind == Kind::kSpread) {
        const auto items = iterate(context_, evaluate(child.children[0]));
        if (!context_.charge_items(items->size())) return out;
        out.positional.insert(out.positional.end(), items->begin(), items->end());
      } else {
        out.positional.push_back(evaluate(node.children[i]));
      }
    }
    for (const auto& [name, value] : node.named) out.named.emplace_back(name, evaluate(value));
    return out;
  }
  Value call(const Node& node, const Value* caller) {
    const Value callee = evaluate(node.children[0]);
    Arguments given = arguments(node);
    if (caller != nullptr) given.named.emplace_back("caller", *caller);
    if (context_.failed()) return {};
    const Function* function = callee.loop() != nullptr ? callee.loop()->recursion.get() : callee.function();
    if (function == nullptr) return context_.fail("line ", node.line, ": a ", callee.type_name(), " is called");
    return (*function)(context_, given);
  }

  Context& context_;
  const size_t max_output_;
  const Dict& variables_;
  std::vector<Scope> scopes_;
  size_t first_scope_ = 0;
  int depth_ = 0;
  MarkedString out_;
  Value filter_input_;
};

}  // namespace

MarkedString evaluate(Context& context, const Template& source, const Dict& variables, size_t max_output) {
  return Evaluator(context, max_output, variables).render(source);
}

}  // namespace hearth::jinja
