// embed: rows of the token table. A sample that failed (token -1) stands for token 0; its request is answered already.
#include <algorithm>

#include "cpu/cpu_ops.h"
#include "cpu/float_types.h"
#include "cpu/simd.h"

namespace hearth {

void CpuOps::embed(const EmbedArgs& args) {
  const int64_t vocab = args.table.dim(0), hidden = args.table.dim(1);
  const int32_t* ids = args.token_ids.as<int32_t>();
  pool_.run(args.out.dim(0), [&](int64_t begin, int64_t end, int) {
    for (int64_t token = begin; token < end; ++token) {
      const int64_t id =
          std::max(ids[token] >= 0 ? ids[token] : args.previous_tokens.as<int32_t>()[-1 - ids[token]], 0);
      HEARTH_CHECK(id < vocab);
      visit_act(args.table.dtype, [&]<typename From>(From) {
        visit_act(args.out.dtype, [&]<typename To>(To) {
          simd::convert(args.table.as<From>() + id * hidden, args.out.as<To>() + token * hidden, hidden);
        });
      });
    }
  });
}

}  // namespace hearth
