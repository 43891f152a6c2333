// embed on the host side.
#include "cuda/kernels/embed.cuh"
#include "cuda/launch.h"
#include "cuda/small_kernels.h"
#include "cuda/visit.h"

namespace hearth::cuda {

void embed(const EmbedArgs& args, cudaStream_t stream) {
  const int64_t rows = args.out.dim(0), hidden = args.out.dim(1);
  if (rows == 0) return;
  HEARTH_CHECK(args.table.dtype == args.out.dtype && dtype_size(args.out.dtype) == 2);
  const EmbedParams params{
      .table = data<uint4>(args.table),
      .token_ids = args.token_ids.as<int32_t>(),
      .previous = data<int32_t>(args.previous_tokens),
      .out = data<uint4>(args.out),
      .num_rows = num_rows_on_device(args.num_rows),
      .vocab = args.table.dim(0),
      .num_previous = args.previous_tokens ? args.previous_tokens.dim(0) : 0,
      .vectors = static_cast<int>(hidden / kVector),
  };
  launch(embed_kernel, row_blocks(rows, hidden), stream, params);
}

}  // namespace hearth::cuda
