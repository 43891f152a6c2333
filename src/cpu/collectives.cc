// all_reduce and all_gather: what this rank has is made ready, the rest is the communicator's.
#include <cstring>

#include "cpu/combine.h"
#include "cpu/cpu_ops.h"
#include "cpu/float_types.h"

namespace hearth {

void CpuOps::all_reduce(const AllReduceArgs& args) {
  HEARTH_CHECK(comm_ != nullptr);
  const int64_t tokens = args.out.dim(0), hidden = args.out.dim(1);
  if (args.routing) {
    visit_act(args.out.dtype, [&]<typename Act>(Act) {
      pool_.run(tokens, [&](int64_t begin, int64_t end, int) {
        for (int64_t token = begin; token < end; ++token) {
          Act* out = args.out.as<Act>() + token * hidden;
          for (int64_t i = 0; i < hidden; i += simd::kLanes) {
            simd::store_some(out + i, hidden - i, combined(args.delta.as<Act>(), *args.routing, token, hidden, i));
          }
        }
      });
    });
  } else if (args.out.data != args.delta.data) {
    std::memcpy(args.out.data, args.delta.data, static_cast<size_t>(args.out.bytes()));
  }
  (void)comm_->all_reduce(args.out);  // Backend::wait returns its failure
}

void CpuOps::all_gather(const AllGatherArgs& args) {
  HEARTH_CHECK(comm_ != nullptr);
  (void)comm_->all_gather(args.part, args.out);
}

}  // namespace hearth
