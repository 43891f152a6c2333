// Recursive descent over the tokens, with Jinja's precedences. A tree's depth is bounded, so that all later recursion
// is.
#include <algorithm>

#include "text/jinja/ast.h"
#include "text/jinja/lexer.h"
#include "text/utf8.h"

namespace hearth::jinja {
namespace {

using Kind = Node::Kind;
using TokenKind = Token::Kind;

constexpr size_t kMaxSource = 1 << 20;
constexpr int kMaxDepth = 150;

// After the first error every rule returns at once: current() is then the end, which nothing accepts.
class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  Result<Template> parse() {
    Template out{statements({})};
    if (status_.ok() && current().kind != TokenKind::kEnd) fail("an unexpected end tag");
    if (!status_.ok()) return status_;
    return out;
  }

 private:
  // Tokens.
  const Token& current() const {
    static const Token end;
    return status_.ok() ? tokens_[at_] : end;
  }
  const Token& peek() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token take() {
    const Token token = current();
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool is_operator(std::string_view op) const { return current().kind == TokenKind::kOperator && current().text == op; }
  bool is_name(std::string_view name) const { return current().kind == TokenKind::kName && current().text == name; }
  bool accept(std::string_view op) {
    if (!is_operator(op)) return false;
    take();
    return true;
  }
  bool accept_name(std::string_view name) {
    if (!is_name(name)) return false;
    take();
    return true;
  }
  void expect(std::string_view op) {
    if (!accept(op)) fail("expected ", op);
  }
  void expect(TokenKind kind) {
    if (current().kind != kind) {
      fail("unexpected end of an expression or tag");
    } else {
      take();
    }
  }
  std::string expect_name() {
    if (current().kind != TokenKind::kName) {
      fail("expected a name");
      return {};
    }
    return take().text;
  }
  template <typename... Args>
  void fail(const Args&... args) {
    if (status_.ok()) status_ = invalid("chat template: line ", tokens_[at_].line, ": ", args...);
  }

  // Nodes. Recursion is counted on the way down, the tree's depth on the way up: a chain of operators is deep, too.
  struct Level {
    explicit Level(Parser& parser) : parser(parser) {
      if (++parser.level_ > kMaxDepth) parser.fail("nested too deep");
    }
    ~Level() { --parser.level_; }
    Parser& parser;
  };
  template <typename... Children>
  NodePtr make(Kind kind, std::string name, Children... children) {
    auto node = std::make_unique<Node>();
    node->kind = kind;
    node->line = current().line;
    node->name = std::move(name);
    (add_child(*node, std::move(children)), ...);
    return node;
  }
  void deepen(Node& node, const NodePtr& child) {
    if (child == nullptr) return;
    node.depth = std::max(node.depth, child->depth + 1);
    if (node.depth > kMaxDepth) fail("nested too deep");
  }
  void add_child(Node& node, NodePtr child) {
    deepen(node, child);
    node.children.push_back(std::move(child));
  }
  NodePtr constant(Value value) {
    NodePtr node = make(Kind::kConstant, "");
    node->value = std::move(value);
    return node;
  }

  // Expressions.
  NodePtr expression() {
    Level level(*this);
    NodePtr value = either();
    while (status_.ok() && accept_name("if")) {
      NodePtr condition = either();
      NodePtr otherwise = accept_name("else") ? expression() : nullptr;
      value = make(Kind::kConditional, "", std::move(condition), std::move(value), std::move(otherwise));
    }
    return value;
  }
  NodePtr either() {
    NodePtr left = both();
    while (accept_name("or")) left = make(Kind::kOr, "", std::move(left), both());
    return left;
  }
  NodePtr both() {
    NodePtr left = negation();
    while (accept_name("and")) left = make(Kind::kAnd, "", std::move(left), negation());
    return left;
  }
  NodePtr negation() {
    Level level(*this);
    if (status_.ok() && accept_name("not")) return make(Kind::kNot, "", negation());
    return comparison();
  }
  NodePtr comparison() {
    NodePtr first = sum();
    NodePtr node;
    while (status_.ok()) {
      std::string op;
      for (const char* known : {"==", "!=", "<", "<=", ">", ">="}) {
        if (is_operator(known)) op = known;
      }
      if (is_name("in")) op = "in";
      if (is_name("not") && peek().kind == TokenKind::kName && peek().text == "in") {
        take();
        op = "not in";
      }
      if (op.empty()) break;
      take();
      if (node == nullptr) node = make(Kind::kComparison, "", std::move(first));
      node->words.push_back(op);
      add_child(*node, sum());
    }
    return node == nullptr ? std::move(first) : std::move(node);
  }
  NodePtr chain(std::initializer_list<const char*> operators, NodePtr (Parser::*operand)()) {
    NodePtr left = (this->*operand)();
    while (status_.ok()) {
      const auto op = std::ranges::find_if(operators, [&](const char* known) { return is_operator(known); });
      if (op == operators.end()) break;
      take();
      left = make(Kind::kArithmetic, *op, std::move(left), (this->*operand)());
    }
    return left;
  }
  NodePtr sum() { return chain({"+", "-"}, &Parser::joined); }
  NodePtr joined() { return chain({"~"}, &Parser::product); }
  NodePtr product() { return chain({"*", "/", "//", "%"}, &Parser::power); }
  NodePtr power() { return chain({"**"}, &Parser::filtered_unary); }
  NodePtr filtered_unary() { return unary(true); }
  NodePtr unary(bool with_filter) {
    Level level(*this);
    NodePtr node;
    if (!status_.ok()) return constant({});
    if (accept("-")) {
      node = make(Kind::kNegative, "", unary(false));
    } else if (accept("+")) {
      node = make(Kind::kPositive, "", unary(false));
    } else {
      node = primary();
    }
    node = postfix(std::move(node));
    return with_filter ? filters(std::move(node)) : std::move(node);
  }
  NodePtr primary() {
    const Token token = take();
    switch (token.kind) {
      case TokenKind::kName:
        if (token.text == "true" || token.text == "True") return constant(true);
        if (token.text == "false" || token.text == "False") return constant(false);
        if (token.text == "none" || token.text == "None") return constant(None{});
        return make(Kind::kName, token.text);
      case TokenKind::kString: {
        std::string text = token.text;
        while (current().kind == TokenKind::kString) text += take().text;
        return constant(Value::text(text));
      }
      case TokenKind::kInteger: return constant(token.integer);
      case TokenKind::kReal: return constant(token.real);
      case TokenKind::kOperator:
        if (token.text == "(") {
          if (accept(")")) return make(Kind::kTuple, "");
          NodePtr inner = tuple();
          expect(")");
          return inner;
        }
        if (token.text == "[") return list_literal();
        if (token.text == "{") return dict_literal();
        [[fallthrough]];
      default: fail("expected an expression"); return constant({});
    }
  }
  // One expression, or several with commas between them. Of a loop's, "if" is not a part: it is the loop's filter.
  NodePtr tuple(bool of_loop = false) {
    const auto element = [&] { return of_loop ? either() : expression(); };
    NodePtr first = element();
    if (!is_operator(",")) return first;
    NodePtr list = make(Kind::kTuple, "", std::move(first));
    while (accept(",")) {
      if (is_operator(")") || is_operator("=") || current().kind == TokenKind::kBlockEnd ||
          current().kind == TokenKind::kVariableEnd || (of_loop && (is_name("if") || is_name("recursive")))) {
        break;
      }
      add_child(*list, element());
    }
    return list;
  }
  NodePtr list_literal() {
    NodePtr list = make(Kind::kList, "");
    while (status_.ok() && !accept("]")) {
      add_child(*list, expression());
      if (!is_operator("]")) expect(",");
    }
    return list;
  }
  NodePtr dict_literal() {
    NodePtr dict = make(Kind::kDict, "");
    while (status_.ok() && !accept("}")) {
      add_child(*dict, expression());
      expect(":");
      add_child(*dict, expression());
      if (!is_operator("}")) expect(",");
    }
    return dict;
  }
  NodePtr postfix(NodePtr node) {
    while (status_.ok()) {
      if (accept(".")) {
        if (current().kind == TokenKind::kInteger) {
          node = make(Kind::kItem, "", std::move(node), constant(take().integer));
        } else {
          node = make(Kind::kAttribute, expect_name(), std::move(node));
        }
      } else if (accept("[")) {
        node = subscript(std::move(node));
      } else if (is_operator("(")) {
        node = make(Kind::kCall, "", std::move(node));
        arguments(*node);
      } else {
        break;
      }
    }
    return node;
  }
  NodePtr subscript(NodePtr object) {
    NodePtr part[3];
    size_t parts = 0;
    bool slice = false;
    while (status_.ok() && !accept("]")) {
      if (accept(":")) {
        slice = true;
        if (++parts > 2) fail("too many parts in a slice");
      } else if (part[parts] != nullptr) {
        fail("expected ]");
      } else {
        part[parts] = expression();
      }
    }
    if (slice) {
      return make(Kind::kSlice, "", std::move(object), std::move(part[0]), std::move(part[1]), std::move(part[2]));
    }
    if (part[0] == nullptr) fail("an empty subscript");
    return make(Kind::kItem, "", std::move(object), std::move(part[0]));
  }
  void arguments(Node& call) {
    expect("(");
    while (status_.ok() && !accept(")")) {
      if (current().kind == TokenKind::kName && peek().kind == TokenKind::kOperator && peek().text == "=") {
        const std::string name = take().text;
        take();
        NodePtr value = expression();
        deepen(call, value);
        call.named.emplace_back(name, std::move(value));
      } else {
        if (!call.named.empty()) fail("a positional argument after a named one");
        add_child(call, accept("*") ? make(Kind::kSpread, "", expression()) : expression());
      }
      if (!is_operator(")")) expect(",");
    }
  }
  NodePtr filters(NodePtr node) {
    while (status_.ok()) {
      if (accept("|")) {
        node = filter(std::move(node));
      } else if (accept_name("is")) {
        node = test(std::move(node));
      } else if (is_operator("(")) {
        node = postfix(std::move(node));
      } else {
        break;
      }
    }
    return node;
  }
  std::string dotted_name() {
    std::string name = expect_name();
    while (accept(".")) {
      name += '.';
      name += expect_name();
    }
    return name;
  }
  NodePtr filter(NodePtr input) {
    NodePtr node = make(Kind::kFilter, dotted_name(), std::move(input));
    if (is_operator("(")) arguments(*node);
    return node;
  }
  NodePtr test(NodePtr input) {
    const bool negated = accept_name("not");
    NodePtr node = make(Kind::kTest, dotted_name(), std::move(input));
    const auto kind = current().kind;
    const bool literal = kind == TokenKind::kString || kind == TokenKind::kInteger || kind == TokenKind::kReal ||
                         is_operator("[") || is_operator("{") ||
                         (kind == TokenKind::kName && !is_name("else") && !is_name("or") && !is_name("and") &&
                          !is_name("is") && !is_name("if") && !is_name("in") && !is_name("not"));
    if (is_operator("(")) {
      arguments(*node);
    } else if (literal) {
      add_child(*node, postfix(primary()));
    }
    return negated ? make(Kind::kNot, "", std::move(node)) : std::move(node);
  }

  // Statements, up to a tag that begins with one of the `ends` (left unread, but for its opening).
  Nodes statements(std::initializer_list<std::string_view> ends) {
    Level level(*this);
    Nodes out;
    while (status_.ok() && current().kind != TokenKind::kEnd) {
      if (current().kind == TokenKind::kData) {
        out.push_back(make(Kind::kData, take().text));
      } else if (current().kind == TokenKind::kVariableBegin) {
        take();
        out.push_back(make(Kind::kPrint, "", tuple()));
        expect(TokenKind::kVariableEnd);
      } else {
        expect(TokenKind::kBlockBegin);
        if (std::ranges::find(ends, current().text) != ends.end()) return out;
        if (NodePtr node = statement()) out.push_back(std::move(node));
      }
    }
    if (ends.size() > 0) fail("a block without end");
    return out;
  }
  void end_of_tag() { expect(TokenKind::kBlockEnd); }
  Nodes body_until(std::string_view end) {
    end_of_tag();
    Nodes body = statements({end});
    take();
    end_of_tag();
    return body;
  }

  NodePtr statement() {
    const std::string word = expect_name();
    if (word == "if") return if_statement();
    if (word == "for") return for_statement();
    if (word == "set") return set_statement();
    if (word == "macro") return macro_statement();
    if (word == "call") return call_statement();
    if (word == "filter") {
      NodePtr node = make(Kind::kFilterBlock, "", filters(filter(make(Kind::kInput, ""))));
      node->body = body_until("endfilter");
      return node;
    }
    if (word == "with") return with_statement();
    if (word == "generation") {
      NodePtr node = make(Kind::kBlock, "");
      node->body = body_until("endgeneration");
      return node;
    }
    if (word == "break" || word == "continue") {
      if (loops_ == 0) fail(word, " outside a loop");
      end_of_tag();
      return make(word == "break" ? Kind::kBreak : Kind::kContinue, "");
    }
    fail("a statement that is not supported");
    return nullptr;
  }
  NodePtr if_statement() {
    NodePtr node = make(Kind::kIf, "", tuple());
    end_of_tag();
    node->body = statements({"elif", "else", "endif"});
    // A chain of elifs is one node in another: written as a loop, since it may be long.
    Node* last = node.get();
    while (status_.ok() && accept_name("elif")) {
      NodePtr next = make(Kind::kIf, "", tuple());
      end_of_tag();
      next->body = statements({"elif", "else", "endif"});
      if (++elifs_ > kMaxDepth) fail("too many elif");
      Node* inner = next.get();
      last->otherwise.push_back(std::move(next));
      last = inner;
    }
    elifs_ = 0;
    if (accept_name("else")) {
      end_of_tag();
      last->otherwise = statements({"endif"});
    }
    take();
    end_of_tag();
    return node;
  }
  // A name, names with commas between them (in brackets or not), or, where allowed, an attribute of a namespace.
  NodePtr target(bool attributes) {
    const auto one = [&]() -> NodePtr {
      if (accept("(")) {
        NodePtr inner = target(false);
        expect(")");
        return inner;
      }
      NodePtr name = make(Kind::kName, expect_name());
      if (attributes && accept(".")) return make(Kind::kAttribute, expect_name(), std::move(name));
      return name;
    };
    Level level(*this);
    if (!status_.ok()) return constant({});
    NodePtr first = one();
    if (!is_operator(",")) return first;
    NodePtr list = make(Kind::kList, "", std::move(first));
    while (accept(",") && current().kind == TokenKind::kName && !is_name("in")) add_child(*list, one());
    return list;
  }
  NodePtr for_statement() {
    NodePtr variable = target(false);
    if (!accept_name("in")) fail("expected in");
    NodePtr iterable = tuple(true);
    NodePtr condition = accept_name("if") ? expression() : nullptr;
    const bool recursive = accept_name("recursive");
    NodePtr node =
        make(Kind::kFor, recursive ? "recursive" : "", std::move(variable), std::move(iterable), std::move(condition));
    end_of_tag();
    ++loops_;
    node->body = statements({"else", "endfor"});
    --loops_;
    if (accept_name("else")) {
      end_of_tag();
      node->otherwise = statements({"endfor"});
    }
    take();
    end_of_tag();
    return node;
  }
  NodePtr set_statement() {
    NodePtr variable = target(true);
    if (accept("=")) {
      NodePtr node = make(Kind::kSet, "", std::move(variable), tuple());
      end_of_tag();
      return node;
    }
    NodePtr chain = accept("|") ? filters(filter(make(Kind::kInput, ""))) : nullptr;
    NodePtr node = make(Kind::kSetBlock, "", std::move(variable), std::move(chain));
    node->body = body_until("endset");
    return node;
  }
  void parameters(Node& node) {
    if (!accept("(")) return;
    while (status_.ok() && !accept(")")) {
      node.words.push_back(expect_name());
      add_child(node, accept("=") ? expression() : nullptr);
      if (!is_operator(")")) expect(",");
    }
  }
  NodePtr macro_statement() {
    NodePtr node = make(Kind::kMacro, expect_name());
    if (!is_operator("(")) fail("expected (");
    parameters(*node);
    const int outer_loops = std::exchange(loops_, 0);
    node->body = body_until("endmacro");
    loops_ = outer_loops;
    return node;
  }
  NodePtr call_statement() {
    NodePtr node = make(Kind::kCallBlock, "", nullptr);
    parameters(*node);
    node->children[0] = postfix(primary());
    deepen(*node, node->children[0]);
    if (status_.ok() && node->children[0]->kind != Kind::kCall) fail("expected a call");
    const int outer_loops = std::exchange(loops_, 0);
    node->body = body_until("endcall");
    loops_ = outer_loops;
    return node;
  }
  NodePtr with_statement() {
    NodePtr node = make(Kind::kWith, "");
    while (status_.ok() && current().kind != TokenKind::kBlockEnd) {
      add_child(*node, target(false));
      expect("=");
      add_child(*node, expression());
      if (!accept(",")) break;
    }
    node->body = body_until("endwith");
    return node;
  }

  const std::vector<Token> tokens_;
  size_t at_ = 0;
  int level_ = 0, loops_ = 0, elifs_ = 0;
  Status status_;
};

}  // namespace

Result<Template> parse_template(std::string_view source) {
  if (source.size() > kMaxSource) return invalid("chat template: longer than ", kMaxSource, " bytes");
  if (!valid_utf8(source)) return invalid("chat template: not valid UTF-8");
  HEARTH_ASSIGN(auto tokens, tokenize(source));
  return Parser(std::move(tokens)).parse();
}

}  // namespace hearth::jinja
