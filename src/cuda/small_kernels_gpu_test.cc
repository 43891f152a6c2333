// The small kernels against the CPU's ops: ragged sizes, poisoned outputs, both act types, two seeds; and a row's bits
// in batches of 1, 7, 64 and all.
#include "cuda/small_kernels.h"

#include <algorithm>
#include <functional>

#include "cpu/cpu_backend.h"
#include "cpu/quantize.h"
#include "cuda/gpu_testing.h"

namespace hearth::cuda {
namespace {

constexpr DType kActs[] = {DType::kBF16, DType::kF16};
constexpr uint64_t kSeeds[] = {1, 20261122};

// The most that neighbouring act values differ, relative.
double step_of(DType act) { return act == DType::kBF16 ? 0x1p-7 : 0x1p-10; }

Ops& cpu() {
  static const auto backend = make_cpu_backend(DType::kF32, 2);
  return backend->ops();
}

void for_each_case(const std::function<void(Case&, DType)>& body) {
  for (const DType act : kActs) {
    for (const uint64_t seed : kSeeds) {
      SCOPED_TRACE(cat(dtype_name(act), ", seed ", seed));
      Case c(seed);
      body(c, act);
      HEARTH_CUDA_CHECK(cudaDeviceSynchronize());
    }
  }
}

// The device's true number of rows.
Both count(Case& c, int64_t rows) {
  return c.fill<int32_t>(DType::kI32, {1}, [&](int64_t) { return rows; });
}

struct BothActivation {
  Both data, scales;
  Activation host() const { return {data.host, scales.host}; }
  Activation device() const { return {data.device, scales.device}; }
};
BothActivation poison_activation(Case& c, InputType type, int64_t rows, int64_t dim) {
  BothActivation out{c.poison(type.dtype, {rows, dim}), {}};
  if (const int64_t groups = type.scale_groups(dim); groups > 0) out.scales = c.poison(DType::kF32, {groups, rows});
  return out;
}

constexpr InputType kPerToken{DType::kE4M3, ActivationScales::kPerToken}, kPerGroup{DType::kE4M3};

// Values quantized from numbers that differ in their last bits: nearly all equal, none further off than one step.
void expect_quantized_close(const BothActivation& a, int64_t rows) {
  const Fetched data = fetch(a.data.device), scales = fetch(a.scales.device);
  const int64_t dim = a.data.host.dim(1), stride = a.scales.host.dim(1);
  int64_t different = 0, wrong = 0;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < dim; ++i) {
      const int64_t at = row * dim + i, scale_at = (a.scales.host.dim(0) == 1 ? 0 : i / kScaleGroup * stride) + row;
      const float want_scale = element(a.scales.host, scale_at), scale = element(scales.tensor, scale_at);
      const float want = element(a.data.host, at), got = element(data.tensor, at);
      different += want != got;
      const bool close = std::abs(want - got) <= std::max(0x1p-3f * std::abs(want), 0x1p-9f);
      wrong += !(close && std::abs(scale - want_scale) <= 1e-5f * want_scale);
    }
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_LE(different, rows * dim / 200 + 1);
}

void check_norm(Case& c, DType act, int64_t rows, int64_t padded, int64_t hidden, InputType type, bool delta,
                bool also_act) {
  const bool fp8 = type.dtype == DType::kE4M3;
  SCOPED_TRACE(cat("rows ", rows, " of ", padded, ", hidden ", hidden, fp8 ? ", fp8" : "", delta ? ", delta" : ""));
  const Both residual = c.normal(act, {padded, hidden}, 3.0f), change = c.normal(act, {padded, hidden});
  const Both weight = c.fill<float>(DType::kF32, {hidden}, [&](int64_t) { return c.uniform(0.2f, 2.0f); });
  const BothActivation out = poison_activation(c, type, padded, hidden);
  const Both out_act = also_act ? c.poison(act, {padded, hidden}) : Both{};
  const Both num_rows = count(c, rows);
  const auto check_out = [&](const BothActivation& from, int64_t n) {
    fp8 ? expect_quantized_close(from, n) : expect_close(from.data, "out", step_of(act), 1e-6, n);
  };
  // A few of the tokens, in any order, whose sums go to rows of their own; the residual is not touched.
  const Both picked = c.fill<int32_t>(DType::kI32, {5}, [&](int64_t i) { return i < 3 ? c.below(rows) : -1; });
  const BothActivation some = poison_activation(c, type, 5, hidden);
  const Both gathered = c.poison(act, {5, hidden});
  const Tensor no_delta;
  cpu().norm({residual.host,
              delta ? change.host : no_delta,
              weight.host,
              1e-5f,
              {some.data.host.rows(0, 3), some.scales.host},
              {},
              {},
              nullptr,
              picked.host.rows(0, 3),
              gathered.host.rows(0, 3)});
  norm({residual.device,
        delta ? change.device : no_delta,
        weight.device,
        1e-5f,
        some.device(),
        {},
        count(c, 3).device,
        nullptr,
        picked.device,
        gathered.device},
       nullptr);
  check_out(some, 3);
  expect_same_bits(gathered, "gathered", 3);
  expect_same_bits(residual, "residual");

  NormArgs args{residual.host.rows(0, rows),
                delta ? change.host.rows(0, rows) : Tensor{},
                weight.host,
                1e-5f,
                {out.data.host.rows(0, rows), out.scales.host},
                {}};
  if (also_act) args.out_act = out_act.host.rows(0, rows);
  cpu().norm(args);
  norm({residual.device, delta ? change.device : Tensor{}, weight.device, 1e-5f, out.device(), out_act.device,
        num_rows.device},
       nullptr);
  expect_same_bits(residual, "residual", rows);
  check_out(out, rows);
  if (also_act) expect_close(out_act, "out_act", step_of(act), 1e-6, rows);
}

TEST(NormGpu, SmallMatchesCpu) {
  for_each_case([](Case& c, DType act) {
    check_norm(c, act, 3, 5, 64, kPerGroup, true, true);
    check_norm(c, act, 7, 7, 576, kPerGroup, false, false);
    check_norm(c, act, 7, 9, 576, kPerToken, true, false);
    check_norm(c, act, 2, 2, 200, {act}, true, true);
  });
}
TEST(NormGpu, MatchesCpu) {
  for_each_case([](Case& c, DType act) {
    for (const int64_t hidden : {4096, 1152, 5120, 12288, 16384}) {
      const int64_t rows = 1 + c.below(40);
      check_norm(c, act, rows, rows + c.below(4), hidden, kPerGroup, true, true);
      check_norm(c, act, rows, rows + c.below(4), hidden, kPerToken, true, true);
      check_norm(c, act, rows, rows, hidden, {act}, c.below(2), false);
    }
  });
}

Both random_rows(Case& c, int64_t tokens, int64_t top_k) {
  std::vector<int32_t> rows(static_cast<size_t>(tokens * top_k));
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int32_t>(i);
  std::shuffle(rows.begin(), rows.end(), c.random());
  return c.fill<int32_t>(DType::kI32, {tokens, top_k}, [&](int64_t i) { return rows[static_cast<size_t>(i)]; });
}

void check_dispatch(Case& c, DType act, InputType type, int64_t tokens, int64_t hidden, int64_t top_k) {
  const bool fp8 = type.dtype == DType::kE4M3;
  SCOPED_TRACE(cat("tokens ", tokens, ", hidden ", hidden, ", top_k ", top_k));
  const Both x = c.normal(act, {tokens, hidden}), rows = random_rows(c, tokens, top_k);
  // A group of zeros, and values that saturate nothing but end at 448.
  for (int64_t i = 0; i < std::min<int64_t>(hidden, kScaleGroup); ++i) set_element(x.host, i, 0.0f);
  x.upload();
  const BothActivation out = poison_activation(c, type, tokens * top_k, hidden);
  std::vector<float> row(static_cast<size_t>(hidden));
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t i = 0; i < hidden; ++i) row[static_cast<size_t>(i)] = element(x.host, t * hidden + i);
    for (int64_t k = 0; k < top_k; ++k) {
      store_activation(row.data(), hidden, out.host(), rows.host.as<int32_t>()[t * top_k + k]);
    }
  }
  Routing routing;
  routing.rows = rows.device;
  dispatch(x.device, routing, out.device(), {}, nullptr);
  expect_same_bits(out.data, "data");
  if (fp8) expect_same_bits(out.scales, "scales");
  if (!fp8) return;
  const BothActivation own = poison_activation(c, type, tokens + 3, hidden);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t i = 0; i < hidden; ++i) row[static_cast<size_t>(i)] = element(x.host, t * hidden + i);
    store_activation(row.data(), hidden, own.host(), t);
  }
  // Half of the rows each stand for two.
  const int64_t rows_each = tokens % 2 == 0 ? 2 : 1;
  quantize(x.device, own.device(), count(c, tokens / rows_each).device, rows_each, nullptr);
  expect_same_bits(own.data, "quantized", tokens);
  expect_same_bits(own.scales, "quantized scales");
}

TEST(DispatchGpu, SmallEqualsCpu) {
  for_each_case([](Case& c, DType act) {
    for (const InputType type : {kPerGroup, kPerToken, InputType{act}}) {
      check_dispatch(c, act, type, 3, 64, 2);
      check_dispatch(c, act, type, 6, 576, 1);
      check_dispatch(c, act, type, 5, 200, 3);
    }
  });
}
TEST(DispatchGpu, EqualsCpu) {
  for_each_case([](Case& c, DType act) {
    for (const int64_t hidden : {4096, 5120, 14336}) {
      check_dispatch(c, act, kPerGroup, 1 + c.below(60), hidden, 2);
      check_dispatch(c, act, kPerToken, 1 + c.below(60), hidden, 2);
      check_dispatch(c, act, {act}, 1 + c.below(60), hidden, 3);
    }
  });
}

// Every finite value of an act type quantizes to the bits of the recipe.
TEST(DispatchGpu, EveryActValueQuantizesExactly) {
  for (const DType act : kActs) {
    Case c(7);
    const Both x = c.poison(act, {512, 128});
    for (int64_t i = 0; i < 65536; ++i) {
      static_cast<uint16_t*>(x.host.data)[i] = static_cast<uint16_t>(i);
      if (!std::isfinite(element(x.host, i))) static_cast<uint16_t*>(x.host.data)[i] = 0x1234;
    }
    x.upload();
    const BothActivation out = poison_activation(c, kPerGroup, 512, 128);
    std::vector<float> row(128);
    for (int64_t t = 0; t < 512; ++t) {
      for (int64_t i = 0; i < 128; ++i) row[static_cast<size_t>(i)] = element(x.host, t * 128 + i);
      store_activation(row.data(), 128, out.host(), t);
    }
    quantize(x.device, out.device(), {}, 1, nullptr);
    expect_same_bits(out.data, "data");
    expect_same_bits(out.scales, "scales");
  }
}

// The experts' rows are summed as the CPU does; the result has the bits that norm gives where the sum is its delta.
enum class Shared { kNone, kPlain, kWeighted };  // expert beside the chosen ones

void check_norm_of_experts(Case& c, DType act, int64_t tokens, int64_t padded, int64_t hidden, int64_t top_k,
                           Shared with_shared = Shared::kNone) {
  SCOPED_TRACE(cat("tokens ", tokens, " of ", padded, ", hidden ", hidden, ", top_k ", top_k));
  const Both expert_out = c.normal(act, {padded * top_k, hidden}), rows = random_rows(c, padded, top_k);
  const Both weights = c.fill<float>(DType::kF32, {padded, top_k}, [&](int64_t) { return c.uniform(0.0f, 1.0f); });
  const Both weight = c.fill<float>(DType::kF32, {hidden}, [&](int64_t) { return c.uniform(0.2f, 2.0f); });
  const Both residual = c.normal(act, {padded, hidden}, 3.0f), same = c.poison(act, {padded, hidden});
  std::memcpy(same.host.data, residual.host.data, static_cast<size_t>(residual.host.bytes()));
  same.upload();
  const Both sum = c.poison(act, {padded, hidden});
  Both shared, shared_weights;
  if (with_shared != Shared::kNone) shared = c.normal(act, {padded, hidden});
  if (with_shared == Shared::kWeighted) {
    shared_weights = c.fill<float>(DType::kF32, {padded}, [&](int64_t) { return c.uniform(0.0f, 1.0f); });
  }
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t i = 0; i < hidden; ++i) {
      float total = 0.0f;
      for (int64_t k = 0; k < top_k; ++k) {
        const int64_t pair = t * top_k + k;
        total = std::fma(weights.host.as<float>()[pair],
                         element(expert_out.host, rows.host.as<int32_t>()[pair] * hidden + i), total);
      }
      if (shared) {
        const float each = shared_weights ? shared_weights.host.as<float>()[t] : 1.0f;
        total = std::fma(each, element(shared.host, t * hidden + i), total);
      }
      set_element(sum.host, t * hidden + i, total);
    }
  }
  sum.upload();
  Routing host, device;
  host.rows = rows.host, host.weights = weights.host;
  host.shared = shared.host, host.shared_weights = shared_weights.host;
  device.rows = rows.device, device.weights = weights.device;
  device.shared = shared.device, device.shared_weights = shared_weights.device;
  const BothActivation out = poison_activation(c, kPerToken, padded, hidden);
  const BothActivation of_sum = poison_activation(c, kPerToken, padded, hidden);
  const Both num_rows = count(c, tokens);
  // A few of the tokens, in any order; the residual is not touched.
  const Both picked = c.fill<int32_t>(DType::kI32, {5}, [&](int64_t i) { return i < 3 ? c.below(tokens) : -1; });
  const Both some = c.poison(act, {5, hidden}), gathered = c.poison(act, {5, hidden});
  cpu().norm({residual.host,
              expert_out.host,
              weight.host,
              1e-5f,
              {some.host.rows(0, 3), {}},
              {},
              {},
              &host,
              picked.host.rows(0, 3),
              gathered.host.rows(0, 3)});
  norm({residual.device,
        expert_out.device,
        weight.device,
        1e-5f,
        {some.device, {}},
        {},
        count(c, 3).device,
        &device,
        picked.device,
        gathered.device},
       nullptr);
  expect_close(some, "picked", step_of(act), 1e-6, 3);
  expect_same_bits(gathered, "gathered", 3);
  expect_same_bits(residual, "residual");

  cpu().norm({residual.host.rows(0, tokens), expert_out.host, weight.host, 1e-5f, {}, {}, {}, &host});
  norm({residual.device, expert_out.device, weight.device, 1e-5f, out.device(), {}, num_rows.device, &device}, nullptr);
  norm({same.device, sum.device, weight.device, 1e-5f, of_sum.device(), {}, num_rows.device}, nullptr);
  expect_same_bits(residual, "residual");
  expect_same_bits(fetch(same.device).tensor, residual.device, "residual with the sum as delta");
  expect_same_bits(fetch(of_sum.data.device).tensor, out.data.device, "out with the sum as delta");
  expect_same_bits(fetch(of_sum.scales.device).tensor, out.scales.device, "scales with the sum as delta");
}
TEST(NormGpu, SmallSumsExperts) {
  for_each_case([](Case& c, DType act) {
    check_norm_of_experts(c, act, 3, 5, 64, 2);
    check_norm_of_experts(c, act, 1, 1, 576, 5);
    check_norm_of_experts(c, act, 3, 5, 64, 2, Shared::kPlain);
    check_norm_of_experts(c, act, 2, 3, 576, 1, Shared::kWeighted);
  });
}
TEST(NormGpu, SumsExperts) {
  for_each_case([](Case& c, DType act) {
    for (const int64_t top_k : {1, 2, 3, 8}) check_norm_of_experts(c, act, 1 + c.below(100), 101, 4096, top_k);
    check_norm_of_experts(c, act, 700, 701, 4096, 2);
    check_norm_of_experts(c, act, 200, 200, 1152, 3);
    check_norm_of_experts(c, act, 9, 9, 14336, 2);
    for (const Shared shared : {Shared::kPlain, Shared::kWeighted}) {
      check_norm_of_experts(c, act, 1 + c.below(100), 101, 4096, 8, shared);
      check_norm_of_experts(c, act, 300, 301, 3584, 8, shared);
    }
  });
}

TEST(EmbedGpu, SmallEqualsCpu) {
  for_each_case([](Case& c, DType act) {
    for (const int64_t hidden : {64, 576, 4096}) {
      const int64_t tokens = 1 + c.below(30), vocab = 100;
      const Both table = c.normal(act, {vocab, hidden});
      const Both previous = c.fill<int32_t>(DType::kI32, {9}, [&](int64_t i) { return i == 4 ? -1 : c.below(vocab); });
      const Both ids = c.fill<int32_t>(DType::kI32, {tokens}, [&](int64_t) { return c.below(vocab + 9) - 9; });
      const Both out = c.poison(act, {tokens, hidden});
      cpu().embed({ids.host, previous.host, table.host, out.host});
      embed({ids.device, previous.device, table.device, out.device, count(c, tokens).device}, nullptr);
      expect_same_bits(out, "embedded");
    }
  });
}
// What a captured graph may find in the padding of its bucket.
TEST(EmbedGpu, SmallPaddingOfAnyContentIsHarmless) {
  Case c(3);
  const Both table = c.normal(DType::kBF16, {10, 64}), out = c.poison(DType::kBF16, {4, 64});
  const int32_t stale[] = {1 << 30, -(1 << 30), 10, -5};
  const Both ids = c.fill<int32_t>(DType::kI32, {4}, [&](int64_t i) { return stale[i]; });
  embed({ids.device, {}, table.device, out.device}, nullptr);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

enum class QkNorms { kNone, kHead, kAllHeads };

void check_rope(Case& c, DType act, bool fp8, bool fixed, int64_t tokens, int64_t padded, int64_t heads,
                int64_t kv_heads, int64_t head_dim, int64_t rotary, QkNorms norms = QkNorms::kNone) {
  SCOPED_TRACE(cat("tokens ", tokens, ", heads ", heads, "/", kv_heads, " of ", head_dim, fp8 ? ", fp8" : ""));
  const int64_t blocks = padded / kBlockSize + 3, positions = 500;
  const Both qkv = c.normal(act, {padded, (heads + 2 * kv_heads) * head_dim}, 2.0f);
  const Both at = c.fill<int32_t>(DType::kI32, {padded}, [&](int64_t) { return c.below(positions); });
  std::vector<int64_t> slots(static_cast<size_t>(blocks * kBlockSize));
  for (size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<int64_t>(i);
  std::shuffle(slots.begin(), slots.end(), c.random());
  const Both slot = c.fill<int64_t>(DType::kI64, {padded}, [&](int64_t i) { return slots[static_cast<size_t>(i)]; });
  const Both cos_sin = c.fill<float>(DType::kF32, {positions, rotary}, [&](int64_t i) {
    const double angle = static_cast<double>(i / rotary) * std::pow(10000.0, -2.0 * (i % (rotary / 2)) / rotary);
    return i % rotary < rotary / 2 ? std::cos(angle) : std::sin(angle);
  });
  const DType page = fp8 ? DType::kE4M3 : act;
  const Both k = c.poison(page, {blocks, kv_heads, kBlockSize, head_dim});
  const Both v = c.poison(page, {blocks, kv_heads, kBlockSize, head_dim});
  Both k_scales, v_scales, fixed_k, fixed_v;
  if (fp8) {
    k_scales = c.poison(DType::kF32, {blocks, kv_heads, kBlockSize});
    v_scales = c.poison(DType::kF32, {blocks, kv_heads, kBlockSize});
  }
  if (fixed) {
    fixed_k = c.fill<float>(DType::kF32, {kv_heads}, [&](int64_t) { return c.uniform(0.005f, 0.02f); });
    fixed_v = c.fill<float>(DType::kF32, {kv_heads}, [&](int64_t) { return c.uniform(0.005f, 0.02f); });
  }
  Both q_norm, k_norm;
  if (norms != QkNorms::kNone) {
    const bool all = norms == QkNorms::kAllHeads;
    const auto weight = [&](int64_t of) {
      return c.fill<float>(DType::kF32, {(all ? of : 1) * head_dim}, [&](int64_t) { return c.uniform(0.5f, 2.0f); });
    };
    q_norm = weight(heads), k_norm = weight(kv_heads);
  }
  cpu().rope_append_kv({qkv.host.rows(0, tokens),
                        at.host,
                        slot.host,
                        cos_sin.host,
                        heads,
                        kv_heads,
                        head_dim,
                        {k.host, v.host, k_scales.host, v_scales.host},
                        fixed_k.host,
                        fixed_v.host,
                        {},
                        {q_norm.host, k_norm.host, 1e-6f}});
  rope_append_kv({qkv.device,
                  at.device,
                  slot.device,
                  cos_sin.device,
                  heads,
                  kv_heads,
                  head_dim,
                  {k.device, v.device, k_scales.device, v_scales.device},
                  fixed_k.device,
                  fixed_v.device,
                  count(c, tokens).device,
                  {q_norm.device, k_norm.device, 1e-6f}},
                 nullptr);
  expect_same_bits(qkv, "qkv", tokens);
  expect_same_bits(k, "keys");
  expect_same_bits(v, "values");
  if (fp8) expect_same_bits(k_scales, "key scales");
  if (fp8) expect_same_bits(v_scales, "value scales");
}
TEST(RopeAppendKvGpu, SmallEqualsCpu) {
  for_each_case([](Case& c, DType act) {
    for (const bool fp8 : {false, true}) {
      check_rope(c, act, fp8, false, 3, 5, 3, 1, 64, 64);
      check_rope(c, act, fp8, fp8, 5, 5, 4, 2, 128, 128);
      check_rope(c, act, fp8, false, 3, 5, 3, 1, 64, 64, QkNorms::kHead);
      check_rope(c, act, fp8, fp8, 3, 4, 3, 1, 128, 128, QkNorms::kAllHeads);
      for (const QkNorms norms : {QkNorms::kNone, QkNorms::kHead, QkNorms::kAllHeads}) {
        check_rope(c, act, fp8, false, 3, 5, 3, 1, 128, 64, norms);
        check_rope(c, act, fp8, fp8, 3, 3, 5, 1, 64, 16, norms);
      }
    }
  });
}
TEST(RopeAppendKvGpu, EqualsCpu) {
  for_each_case([](Case& c, DType act) {
    for (const bool fp8 : {false, true}) {
      const int64_t tokens = 1 + c.below(300);
      check_rope(c, act, fp8, false, tokens, tokens + c.below(9), 32, 8, 128, 128);
      check_rope(c, act, fp8, fp8, tokens, tokens, 9, 3, 64, 64);
      check_rope(c, act, fp8, false, tokens, tokens, 7, 1, 128, 64);
      check_rope(c, act, fp8, false, tokens, tokens + c.below(9), 32, 4, 128, 128, QkNorms::kHead);
      check_rope(c, act, fp8, fp8, tokens, tokens, 14, 2, 64, 64, QkNorms::kHead);
      check_rope(c, act, fp8, false, tokens, tokens + c.below(9), 16, 16, 128, 128, QkNorms::kAllHeads);
      check_rope(c, act, fp8, fp8, tokens, tokens, 48, 8, 128, 128, QkNorms::kAllHeads);
      check_rope(c, act, fp8, fp8, tokens, tokens, 5, 1, 64, 64, QkNorms::kAllHeads);
      for (const int64_t rotary : {16, 48, 64, 112}) {  // of 128
        check_rope(c, act, fp8, false, tokens, tokens + c.below(9), 24, 2, 128, rotary);
        check_rope(c, act, fp8, fp8, tokens, tokens, 24, 2, 128, rotary, QkNorms::kHead);
        check_rope(c, act, fp8, false, tokens, tokens + c.below(9), 48, 8, 128, rotary, QkNorms::kAllHeads);
      }
      check_rope(c, act, fp8, false, tokens, tokens, 7, 1, 64, 32, QkNorms::kHead);
      check_rope(c, act, fp8, fp8, tokens, tokens, 7, 1, 64, 48, QkNorms::kAllHeads);
    }
  });
}

struct BothRouting {
  Both experts, weights, rows, starts, ends, shared_weights;
  Routing host() const {
    return {experts.host, weights.host, rows.host, starts.host, ends.host, {}, shared_weights.host};
  }
  Routing device() const {
    return {experts.device, weights.device, rows.device, starts.device, ends.device, {}, shared_weights.device};
  }
};
BothRouting poison_routing(Case& c, int64_t tokens, int64_t experts, int64_t top_k) {
  return {c.poison(DType::kI32, {tokens, top_k}), c.poison(DType::kF32, {tokens, top_k}),
          c.poison(DType::kI32, {tokens, top_k}), c.poison(DType::kI32, {experts}),
          c.poison(DType::kI32, {experts}),       c.poison(DType::kF32, {tokens})};
}
// Bits are memory that holds anything; the counter is left at zero by every launch.
void run_route(Case& c, const RouteArgs& args) {
  const Both counter = c.fill<int32_t>(DType::kI32, {1}, [](int64_t) { return 0; });
  const Both bits = c.poison(DType::kU8, {route_bits_bytes(args.x.dim(0))});
  route(args, static_cast<uint32_t*>(counter.device.data), bits.device.data, nullptr);
  expect_same_bits(counter, "counter");
}

struct RouterShape {
  int64_t hidden, experts, top_k;
  DType gate;
};

// Rows of an expert follow in order of the tokens, experts one after another.
void expect_placed(const BothRouting& routing, int64_t tokens) {
  const Fetched experts = fetch(routing.experts.device), rows = fetch(routing.rows.device);
  const Fetched starts = fetch(routing.starts.device), ends = fetch(routing.ends.device);
  const int64_t num_experts = routing.starts.host.dim(0), pairs = tokens * routing.experts.host.dim(1);
  int32_t next = 0;
  int64_t wrong = 0;
  for (int32_t e = 0; e < num_experts; ++e) {
    wrong += starts.tensor.as<int32_t>()[e] != next;
    for (int64_t i = 0; i < pairs; ++i) {
      if (experts.tensor.as<int32_t>()[i] == e) wrong += rows.tensor.as<int32_t>()[i] != next++;
    }
    wrong += ends.tensor.as<int32_t>()[e] != next;
  }
  EXPECT_EQ(wrong, 0) << "starts, rows or ends";
  EXPECT_EQ(next, pairs) << "pairs with an expert";
}

// What a router may have beside its scores.
struct RouterExtras {
  bool bias = false, correction = false, shared_gate = false;
};

void check_route(Case& c, DType act, const RouterShape& shape, int64_t tokens, int64_t padded, const Scoring& scoring,
                 const RouterExtras& extras = {}) {
  SCOPED_TRACE(cat("tokens ", tokens, " of ", padded, ", ", shape.experts, " experts, top ", shape.top_k, ", hidden ",
                   shape.hidden));
  const float spread = 3.0f / std::sqrt(static_cast<float>(shape.hidden));
  const Both x = c.normal(act, {padded, shape.hidden}),
             gate = c.normal(shape.gate, {shape.experts, shape.hidden}, spread);
  const BothRouting out = poison_routing(c, padded, shape.experts, shape.top_k);
  Routing host = out.host();
  host.experts = host.experts.rows(0, tokens), host.weights = host.weights.rows(0, tokens);
  host.rows = host.rows.rows(0, tokens);
  Both bias, correction, shared_gate;
  if (extras.bias) bias = c.normal(DType::kF32, {shape.experts}, 2.0f);
  if (extras.correction) correction = c.normal(DType::kF32, {shape.experts}, 0.2f);
  if (extras.shared_gate) shared_gate = c.normal(DType::kF32, {shape.hidden}, spread);
  cpu().route({x.host.rows(0, tokens), gate.host, {}, scoring, host, bias.host, correction.host, shared_gate.host});
  run_route(c, {x.device, gate.device, count(c, tokens).device, scoring, out.device(), bias.device, correction.device,
                shared_gate.device});
  expect_placed(out, tokens);
  if (shared_gate) expect_close(out.shared_weights, "the shared expert's weights", 1e-4, 1e-6, tokens);
  // Logits differ in their last bits, so that of many choices one may be between two that are as good.
  expect_close(out.weights, "weights", 1e-4, 1e-6, tokens);
  const Fetched experts = fetch(out.experts.device);
  int64_t different = 0;
  for (int64_t i = 0; i < tokens * shape.top_k; ++i) {
    different += experts.tensor.as<int32_t>()[i] != out.experts.host.as<int32_t>()[i];
  }
  EXPECT_LE(different, tokens * shape.top_k / 1000) << "experts";
}
constexpr Scoring kRenormalized{}, kOverAll{.renormalize = false};
TEST(RouteGpu, SmallMatchesCpu) {
  for_each_case([](Case& c, DType act) {
    check_route(c, act, {64, 4, 2, act}, 5, 7, kRenormalized);
    check_route(c, act, {576, 40, 6, DType::kF32}, 3, 3, kOverAll);
    check_route(c, act, {320, 128, 8, act}, 19, 20, kRenormalized);
    check_route(c, act, {64, 130, 3, act}, 3, 70, kRenormalized);
    check_route(c, act, {64, 8, 2, act}, 130, 150, kRenormalized);
    check_route(c, act, {64, 20, 2, act}, 300, 300, kRenormalized);
    check_route(c, act, {2560, 24, 2, act}, 9, 9, kRenormalized);
    check_route(c, act, {64, 8, 2, act}, 5, 7, kRenormalized, {.bias = true});
    check_route(c, act, {576, 33, 4, DType::kF32}, 19, 20, kRenormalized, {.bias = true});
    check_route(c, act, {64, 8, 3, act}, 5, 7, {.sigmoid = true, .scale = 2.5f}, {.correction = true});
    check_route(c, act, {576, 40, 4, DType::kF32}, 19, 20, {.renormalize = false, .sigmoid = true},
                {.correction = true});
    check_route(c, act, {64, 130, 3, act}, 3, 70, {.sigmoid = true, .scale = 1.75f});
    check_route(c, act, {200, 6, 2, act}, 5, 7, {.renormalize = false}, {.shared_gate = true});
    check_route(c, act, {64, 60, 4, act}, 70, 71, {.renormalize = false, .scale = 0.5f}, {.shared_gate = true});
  });
}
TEST(RouteGpu, MatchesCpu) {
  for_each_case([](Case& c, DType act) {
    for (const int64_t tokens : {1, 7, 8, 9, 64, 65, 263, 1000}) {
      check_route(c, act, {4096, 8, 2, act}, tokens, tokens + c.below(5), kRenormalized);
      check_route(c, act, {2048, 128, 8, act}, tokens, tokens + c.below(5), kRenormalized);
    }
    check_route(c, act, {4096, 8, 3, DType::kF32}, 300, 300, kRenormalized);
    check_route(c, act, {2048, 128, 8, DType::kF32}, 70, 70, kRenormalized);
    check_route(c, act, {2048, 64, 8, act}, 500, 512, kOverAll);
    check_route(c, act, {2880, 32, 4, act}, 65, 128, kRenormalized, {.bias = true});
    check_route(c, act, {2880, 128, 4, act}, 300, 300, kRenormalized, {.bias = true});
    // Routers of GLM-4.5-Air and 4.5, MiniMax-M2, Qwen2-57B-A14B and Qwen1.5-MoE, and one of few experts.
    for (const int64_t tokens : {1, 33, 300}) {
      const Scoring sigmoids{.sigmoid = true, .scale = 2.5f};
      for (const DType gate : {act, DType::kF32}) {
        check_route(c, act, {4096, 128, 8, gate}, tokens, tokens, {.sigmoid = true}, {.correction = true});
        check_route(c, act, {5120, 160, 8, gate}, tokens, tokens + 3, sigmoids, {.correction = true});
        check_route(c, act, {3072, 256, 8, gate}, tokens, tokens, {.sigmoid = true}, {.correction = true});
      }
      check_route(c, act, {3584, 64, 8, act}, tokens, tokens + 3, {.renormalize = false}, {.shared_gate = true});
      check_route(c, act, {2048, 60, 4, act}, tokens, tokens, {.renormalize = false}, {.shared_gate = true});
      check_route(c, act, {4096, 16, 4, act}, tokens, tokens, sigmoids, {.correction = true, .shared_gate = true});
    }
    check_route(c, act, {1024, 256, 32, act}, 33, 33, kRenormalized);
    check_route(c, act, {4096, 128, 8, act}, 64, 64, kRenormalized);
    check_route(c, act, {7168, 256, 8, act}, 64, 64, kRenormalized);
    check_route(c, act, {2048, 512, 10, act}, 200, 200, kRenormalized);
    check_route(c, act, {2048, 512, 10, DType::kF32}, 9, 9, kRenormalized);
    check_route(c, act, {2048, 128, 8, act}, 5, 3000, kRenormalized);
    check_route(c, act, {512, 128, 8, act}, 3000, 3000, kRenormalized);
  });
}
// A correction decides who is chosen, and no more: the weights are the sigmoids.
TEST(RouteGpu, SmallACorrectionOnlyChooses) {
  for (const int64_t experts : {8, 40, 200}) {
    Case c(5);
    const Both x = c.normal(DType::kBF16, {9, 64}, 0.0f), gate = c.normal(DType::kBF16, {experts, 64});
    const Both correction = c.fill<float>(DType::kF32, {experts}, [&](int64_t e) {
      return e == experts - 2 ? 10.0f : e == 3 ? 5.0f : 0;
    });
    const BothRouting out = poison_routing(c, 9, experts, 2);
    run_route(c, {x.device,
                  gate.device,
                  {},
                  {.renormalize = false, .sigmoid = true, .scale = 3.0f},
                  out.device(),
                  {},
                  correction.device});
    const Fetched chosen = fetch(out.experts.device), weights = fetch(out.weights.device);
    for (int64_t i = 0; i < 18; ++i) {
      EXPECT_EQ(chosen.tensor.as<int32_t>()[i], i % 2 == 0 ? experts - 2 : 3);
      EXPECT_EQ(weights.tensor.as<float>()[i], 1.5f);
    }
  }
}
// All logits equal: the lower index first. Some experts get nobody.
TEST(RouteGpu, SmallTiesGoToTheLowerIndex) {
  for (const int64_t tokens : {5, 33, 600}) {
    Case c(5);
    const Both x = c.normal(DType::kBF16, {tokens, 64}, 0.0f);
    const Both gate = c.normal(DType::kBF16, {150, 64});
    const BothRouting out = poison_routing(c, tokens, 150, 3);
    cpu().route({x.host, gate.host, {}, {}, out.host()});
    run_route(c, {x.device, gate.device, {}, {}, out.device()});
    expect_same_bits(out.experts, "experts");
    expect_same_bits(out.rows, "rows");
    expect_same_bits(out.starts, "starts");
    expect_same_bits(out.ends, "ends");
  }
}
// A NaN never wins, but the token has experts even so, and the others' stay as they are.
TEST(RouteGpu, SmallNaNChoosesSomeExperts) {
  Case c(5);
  const Both x = c.normal(DType::kBF16, {3, 64}), gate = c.normal(DType::kBF16, {8, 64});
  set_element(x.host, 64, NAN);
  x.upload();
  const BothRouting out = poison_routing(c, 3, 8, 2);
  cpu().route({x.host, gate.host, {}, {}, out.host()});
  run_route(c, {x.device, gate.device, {}, {}, out.device()});
  expect_placed(out, 3);
  const Fetched experts = fetch(out.experts.device), weights = fetch(out.weights.device);
  for (const int64_t i : {0, 1, 4, 5}) EXPECT_EQ(experts.tensor.as<int32_t>()[i], out.experts.host.as<int32_t>()[i]);
  for (const int64_t i : {2, 3}) EXPECT_TRUE(std::isnan(weights.tensor.as<float>()[i]));
}
TEST(RouteGpu, SmallNoTokensLeaveEveryExpertEmpty) {
  for (const int64_t padded : {3, 100}) {
    Case c(5);
    const Both x = c.normal(DType::kBF16, {padded, 64}), gate = c.normal(DType::kBF16, {8, 64});
    const BothRouting out = poison_routing(c, padded, 8, 2);
    run_route(c, {x.device, gate.device, count(c, 0).device, {}, out.device()});
    const Both none = c.fill<int32_t>(DType::kI32, {8}, [](int64_t) { return 0; });
    expect_same_bits(none.host, out.starts.device, "starts");
    expect_same_bits(none.host, out.ends.device, "ends");
  }
}

// A row has the same bits in the first, middle or last place of a batch of any size.
TEST(RowsGpu, NormsBitsDoNotDependOnTheBatch) {
  for_each_case([](Case& c, DType act) {
    constexpr int64_t kRows = 1000, kHidden = 4096;
    const Both x = c.normal(act, {kRows, kHidden});
    const Both weight = c.fill<float>(DType::kF32, {kHidden}, [&](int64_t) { return c.uniform(0.2f, 2.0f); });
    const BothActivation all = poison_activation(c, kPerGroup, kRows, kHidden);
    norm({x.device, {}, weight.device, 1e-5f, all.device(), {}}, nullptr);
    const Fetched want = fetch(all.data.device);
    for (const int64_t n : {1, 7, 64}) {
      const int64_t begin = c.below(kRows - n);
      const BothActivation some = poison_activation(c, kPerGroup, n, kHidden);
      norm({x.device.rows(begin, n), {}, weight.device, 1e-5f, some.device(), {}}, nullptr);
      expect_same_bits(want.tensor.rows(begin, n), some.data.device, "normed");
    }
  });
}
void check_route_bits(const Scoring& scoring, const RouterExtras& extras) {
  for_each_case([&](Case& c, DType act) {
    constexpr int64_t kRows = 1000;
    for (const RouterShape& shape : {RouterShape{4096, 8, 2, act},
                                     {2048, 128, 8, act},
                                     {2880, 32, 4, act},
                                     {4096, 128, 8, act},
                                     {1024, 512, 10, act},
                                     {2048, 128, 8, DType::kF32}}) {
      SCOPED_TRACE(cat(shape.experts, " experts, hidden ", shape.hidden));
      const Both x = c.normal(act, {kRows, shape.hidden}),
                 gate = c.normal(shape.gate, {shape.experts, shape.hidden}, 0.05f);
      Both correction, shared_gate;
      if (extras.correction) correction = c.normal(DType::kF32, {shape.experts}, 0.2f);
      if (extras.shared_gate) shared_gate = c.normal(DType::kF32, {shape.hidden}, 0.05f);
      const auto run = [&](const Tensor& rows, const BothRouting& out) {
        run_route(c, {rows, gate.device, {}, scoring, out.device(), {}, correction.device, shared_gate.device});
      };
      const BothRouting all = poison_routing(c, kRows, shape.experts, shape.top_k);
      run(x.device, all);
      const Fetched weights = fetch(all.weights.device), experts = fetch(all.experts.device);
      const Fetched shared = fetch(all.shared_weights.device);
      for (const int64_t n : {1, 2, 7, 8, 9, 17, 33, 64, 65, 130, 300}) {
        const int64_t begin = c.below(kRows - n);
        const BothRouting part = poison_routing(c, n, shape.experts, shape.top_k);
        run(x.device.rows(begin, n), part);
        expect_same_bits(weights.tensor.rows(begin, n), part.weights.device, "weights");
        if (shared_gate) expect_same_bits(shared.tensor.rows(begin, n), part.shared_weights.device, "shared weights");
        expect_same_bits(experts.tensor.rows(begin, n), part.experts.device, "experts");
        expect_placed(part, n);
      }
    }
  });
}
TEST(RowsGpu, RoutesBitsDoNotDependOnTheBatch) { check_route_bits({}, {}); }
TEST(RowsGpu, RoutesBitsOfSigmoidsDoNotDependOnTheBatch) {
  check_route_bits({.sigmoid = true, .scale = 2.5f}, {.correction = true, .shared_gate = true});
}

}  // namespace
}  // namespace hearth::cuda
