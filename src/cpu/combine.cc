// combine: the weighted sum of a token's experts, in the order in which they were chosen.
#include "cpu/cpu_ops.h"
#include "cpu/float_types.h"
#include "cpu/simd.h"

namespace hearth {

void CpuOps::combine(const CombineArgs& args) {
  const int64_t hidden = args.out.dim(1), top_k = args.routing->rows.dim(1);
  visit_act(args.out.dtype, [&]<typename Act>(Act) {
    pool_.run(args.out.dim(0), [&](int64_t begin, int64_t end, int) {
      for (int64_t token = begin; token < end; ++token) {
        const int32_t* rows = args.routing->rows.as<int32_t>() + token * top_k;
        const float* weights = args.routing->weights.as<float>() + token * top_k;
        for (int64_t i = 0; i < hidden; i += simd::kLanes) {
          simd::Lanes sum = simd::splat(0);
          for (int64_t k = 0; k < top_k; ++k) {
            const Act* row = args.expert_out.as<Act>() + rows[k] * hidden;
            sum = fma(simd::splat(weights[k]), simd::load_some(row + i, hidden - i), sum);
          }
          simd::store_some(args.out.as<Act>() + token * hidden + i, hidden - i, sum);
        }
      }
    });
  });
}

}  // namespace hearth
