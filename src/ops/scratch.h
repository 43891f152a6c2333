// Scratch: memory that lasts from one op to the next, by what it is for, what form it has and how wide it is.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ops/ops.h"

namespace hearth {

class Backend;

class Scratch {
 public:
  // Rows of `dim` channels in the form of `type`. Where it was asked for with as many rows before, the same memory;
  // with fewer, new memory in its place, and the old one stays for those who have it.
  Result<Activation> reserve(Backend& backend, std::string_view what, InputType type, int64_t max_rows, int64_t dim);
  // What was reserved; an error of ours where nothing was.
  Activation get(std::string_view what, InputType type, int64_t dim) const;

  // Rows that a product makes and another reads in the form of `type`. Where they get scales, they are stored in
  // the act type first, for their largest must be known.
  struct Product {
    Activation out;
    Tensor act;  // or empty
    Product rows(int64_t count) const { return {out.rows(count), act ? act.rows(0, count) : Tensor{}}; }
  };
  Status reserve_product(Backend& backend, std::string_view what, InputType type, int64_t max_rows, int64_t dim);
  Product product(std::string_view what, InputType type, int64_t dim) const;

 private:
  struct Entry {
    std::string what;
    InputType type;
    int64_t dim;
    Activation memory;
  };
  DType act_ = DType::kF32;  // of the backend that reserves products
  std::vector<Entry> entries_;
};

}  // namespace hearth
