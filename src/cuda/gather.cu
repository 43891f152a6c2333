// embed and gather_rows on the host side.
#include "cuda/kernels/gather.cuh"
#include "cuda/launch.h"
#include "cuda/small_kernels.h"
#include "cuda/visit.h"

namespace hearth::cuda {
namespace {

void gather(const Tensor& table, const Tensor& indices, const Tensor& previous, const Tensor& out,
            const Tensor& num_rows, cudaStream_t stream) {
  const int64_t rows = out.dim(0), hidden = out.dim(1);
  if (rows == 0) return;
  HEARTH_CHECK(table.dtype == out.dtype && dtype_size(out.dtype) == 2);
  const GatherParams params{
      .table = data<uint4>(table),
      .indices = indices.as<int32_t>(),
      .previous = data<int32_t>(previous),
      .out = data<uint4>(out),
      .num_rows = num_rows_on_device(num_rows),
      .table_rows = table.dim(0),
      .previous_rows = previous ? previous.dim(0) : 0,
      .vectors = static_cast<int>(hidden / kVector),
  };
  launch(gather_kernel, row_blocks(rows, hidden), stream, params);
}

}  // namespace

void embed(const EmbedArgs& args, cudaStream_t stream) {
  gather(args.table, args.token_ids, args.previous_tokens, args.out, args.num_rows, stream);
}

void gather_rows(const Tensor& in, const Tensor& rows, const Tensor& out, cudaStream_t stream) {
  gather(in, rows, {}, out, {}, stream);
}

}  // namespace hearth::cuda
