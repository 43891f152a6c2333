#include <gtest/gtest.h>

#include <algorithm>

#include "cuda/attention_case.cuh"

namespace hearth::cuda {
namespace {

int multiprocessors() {
  int count = 0;
  HEARTH_CUDA_CHECK(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, 0));
  return count;
}

// What rounding to 16 bit of probabilities, of widened keys and values and of the result may cost a row.
// Prompts see e4m3 keys rounded to the act type: to bfloat16 by up to 2^-9, which moves a logit of 20 by 0.04.
// e4m3 rounds each element by up to 2^-4 of it, 0.026 in the mean.
double bound(const AttentionCase& c) {
  if (c.e4m3_factor > 0) return 6e-2;
  const bool prompts =
      std::ranges::any_of(c.sequences, [](const CaseSequence& s) { return s.context - s.rows < s.prompt; });
  if (prompts && c.act == DType::kBF16 && c.kv == DType::kE4M3) return 4.5e-2;
  return c.act == DType::kBF16 || c.kv == DType::kE4M3 ? 1.2e-2 : 2e-3;
}

struct Format {
  DType act, kv;
};
constexpr Format kFormats[] = {{DType::kBF16, DType::kBF16},
                               {DType::kF16, DType::kF16},
                               {DType::kBF16, DType::kE4M3},
                               {DType::kF16, DType::kE4M3}};

void expect_right(AttentionCase c, const char* what) {
  AttentionProblem problem(c);
  const double error = problem.error(problem.run(multiprocessors(), 2));
  EXPECT_LT(error, bound(c)) << what << " act " << dtype_name(c.act) << " kv " << dtype_name(c.kv) << " heads "
                             << c.heads << "/" << c.kv_heads << " dim " << c.head_dim << " window " << c.window
                             << " seed " << c.seed;
  std::printf("%-12s %-8s %-11s heads %2d/%d dim %3d window %4d: error %.2e\n", what,
              std::string(dtype_name(c.act)).c_str(), std::string(dtype_name(c.kv)).c_str(), static_cast<int>(c.heads),
              static_cast<int>(c.kv_heads), static_cast<int>(c.head_dim), static_cast<int>(c.window), error);
}

// Lengths on both sides of blocks, tiles, spans and warps' shares.
std::vector<CaseSequence> decodes() {
  std::vector<CaseSequence> out;
  int identity = 0;
  for (int context : {1, 2, 63, 64, 65, 127, 128, 129, 200, 257, 511, 513, 1023, 1025, 1100, 2049, 3000}) {
    out.push_back({context, 1, std::max(0, context - 1 - identity % 3), identity});
    ++identity;
  }
  return out;
}
std::vector<CaseSequence> prompts() {
  return {{1, 1, 1, 0},     {63, 63, 63, 1},    {64, 64, 100, 2},     {65, 65, 65, 3},    {300, 44, 300, 4},
          {129, 1, 200, 5}, {700, 333, 700, 6}, {1024, 256, 2000, 7}, {130, 130, 130, 8}, {1000, 1000, 1000, 9}};
}
std::vector<CaseSequence> mixed() {
  return {{1030, 1, 1000, 20}, {500, 500, 500, 21}, {77, 1, 70, 22},  {640, 140, 640, 23}, {900, 1, 850, 24},
          {260, 10, 255, 25},  {2000, 1, 1000, 26}, {90, 40, 50, 27}, {64, 1, 64, 28}};
}

TEST(FireAttention, SmallDecode) {
  for (const Format& f : kFormats) {
    expect_right({.act = f.act, .kv = f.kv, .heads = 8, .kv_heads = 2, .sequences = {{70, 1, 60, 0}, {300, 1, 10, 1}}},
                 "decode");
  }
}

TEST(FireAttention, SmallPrompt) {
  for (const Format& f : kFormats) {
    expect_right(
        {.act = f.act, .kv = f.kv, .heads = 8, .kv_heads = 2, .sequences = {{70, 70, 70, 0}, {200, 9, 200, 1}}},
        "prompt");
  }
}

TEST(FireAttention, SmallMixedNarrow) {
  for (const Format& f : kFormats) {
    expect_right({.act = f.act,
                  .kv = f.kv,
                  .heads = 9,
                  .kv_heads = 3,
                  .head_dim = 64,
                  .window = 50,
                  .sequences = {{70, 30, 60, 0}, {200, 1, 20, 1}, {90, 90, 90, 2}},
                  .max_tokens = 140},
                 "mixed");
  }
}

// gpt-oss' heads, and sinks beside windows of part of a page, of several, and none.
TEST(FireAttention, SmallSinks) {
  for (const Format& f : kFormats) {
    for (int group : {3, 8, 13}) {
      for (int64_t window : {0, 5, 128}) {
        expect_right({.act = f.act,
                      .kv = f.kv,
                      .heads = 2 * group,
                      .kv_heads = 2,
                      .head_dim = 64,
                      .window = window,
                      .sequences = {{70, 30, 60, 0}, {1500, 1, 20, 1}, {300, 300, 300, 2}, {129, 1, 128, 3}},
                      .max_tokens = 340,
                      .sinks = true},
                     "sinks");
      }
    }
    expect_right({.act = f.act,
                  .kv = f.kv,
                  .heads = 8,
                  .kv_heads = 2,
                  .sequences = {{300, 1, 200, 1}, {90, 90, 90, 2}},
                  .sinks = true},
                 "sinks");
  }
}

TEST(FireAttention, Decode) {
  for (uint64_t seed : {1, 2}) {
    for (const Format& f : kFormats) {
      for (int group : {1, 3, 4, 7, 8}) {
        for (int head_dim : {64, 128}) {
          const int64_t window = group % 2 ? 0 : 200 + 100 * group;
          expect_right({f.act, f.kv, 2 * group, 2, head_dim, window, decodes(), seed, 20}, "decode");
        }
      }
    }
  }
}

TEST(FireAttention, Prompt) {
  for (const Format& f : kFormats) {
    for (int group : {1, 3, 4, 7, 8}) {
      for (int head_dim : {64, 128}) {
        for (uint64_t seed : {1, 2}) {
          if (seed == 2 && group != 4) continue;
          const int64_t window = group % 2 ? 0 : 30 + 60 * group;
          expect_right({f.act, f.kv, 2 * group, 2, head_dim, window, prompts(), seed, 2200}, "prompt");
        }
      }
    }
  }
}

TEST(FireAttention, Mixed) {
  for (uint64_t seed : {1, 2}) {
    for (const Format& f : kFormats) {
      for (int64_t window : {0, 64, 100}) expect_right({f.act, f.kv, 32, 8, 128, window, mixed(), seed, 800}, "mixed");
    }
  }
}

// Of a KV head, so many that two teams share them; odd numbers among them.
TEST(FireAttention, ManyHeads) {
  for (const Format& f : kFormats) {
    for (int group : {9, 12, 13, 16}) {
      for (int head_dim : {64, 128}) {
        const int64_t window = group % 2 ? 0 : 30 + 20 * group;
        expect_right({f.act, f.kv, 2 * group, 2, head_dim, window, decodes(), 1, 20}, "decode");
        expect_right({f.act, f.kv, 2 * group, 2, head_dim, window, mixed(), 2, 800}, "mixed");
      }
    }
  }
}

// Stored as e4m3, a row is off by e4m3's rounding besides, and nothing else is written.
TEST(FireAttention, SmallResultsAsE4M3) {
  for (const Format& f : kFormats) {
    for (int group : {1, 3, 4, 8, 12}) {
      for (int head_dim : {64, 128}) {
        expect_right({.act = f.act,
                      .kv = f.kv,
                      .heads = 2 * group,
                      .kv_heads = 2,
                      .head_dim = head_dim,
                      .sequences = {{70, 30, 60, 0}, {1500, 1, 20, 1}, {90, 90, 90, 2}},
                      .max_tokens = 140,
                      .e4m3_factor = 16},
                     "as e4m3");
      }
    }
  }
}

TEST(FireAttention, NothingToDo) {
  AttentionCase c{.sequences = {{5, 0, 5, 0}}, .max_tokens = 4};
  AttentionProblem problem(c);
  EXPECT_EQ(problem.error(problem.run(multiprocessors())), 0);
}

// The same sequence alone, among few and among many: its decode must give the same bits at every split.
void check_decode_bits(int64_t heads, int64_t kv_heads) {
  for (const Format& f : kFormats) {
    const CaseSequence probe{2500, 1, 100, 7};
    AttentionCase alone{.act = f.act, .kv = f.kv, .heads = heads, .kv_heads = kv_heads, .sequences = {probe}};
    AttentionProblem one(alone);
    const auto want = one.run(multiprocessors());
    for (int others : {1, 6, 63, 300}) {
      AttentionCase among = alone;
      for (int i = 0; i < others; ++i) {
        among.sequences.insert(among.sequences.begin() + (i % 2 ? 0 : static_cast<int>(among.sequences.size())),
                               {64 + i * 37 % 400, 1, 1, 100 + i});
      }
      AttentionProblem many(among);
      const auto got = many.run(multiprocessors());
      const auto at = static_cast<size_t>(std::find_if(among.sequences.begin(), among.sequences.end(),
                                                       [](const CaseSequence& s) { return s.identity == 7; }) -
                                          among.sequences.begin());
      EXPECT_EQ(many.rows_of(got, at, 0, 1), one.rows_of(want, 0, 0, 1)) << others << " others";
    }
    // A different number of multiprocessors splits differently as well.
    for (int sms : {1, 17, 60}) EXPECT_EQ(one.run(sms), want) << sms << " multiprocessors";
  }
}
TEST(FireAttention, DecodeBitsDoNotDependOnTheBatch) { check_decode_bits(32, 8); }
TEST(FireAttention, DecodeBitsOfTwelveHeadsDoNotDependOnTheBatch) { check_decode_bits(48, 4); }

// Generated rows computed one a step or several at once (a recomputed sequence).
TEST(FireAttention, RecomputedBits) {
  for (const Format& f : kFormats) {
    AttentionCase together{.act = f.act, .kv = f.kv, .sequences = {{300, 40, 270, 7}}};
    AttentionProblem all(together);
    const auto got = all.run(multiprocessors());
    for (int context : {271, 288, 300}) {
      AttentionCase single{.act = f.act, .kv = f.kv, .sequences = {{context, 1, 270, 7}}};
      AttentionProblem one(single);
      EXPECT_EQ(all.rows_of(got, 0, context - 261, 1), one.run(multiprocessors())) << context;
    }
  }
}

TEST(FireAttention, PromptBitsDoNotDependOnChunking) {
  for (const Format& f : kFormats) {
    for (int64_t window : {0, 150}) {
      AttentionCase whole{.act = f.act, .kv = f.kv, .window = window, .sequences = {{600, 600, 600, 7}}};
      AttentionProblem at_once(whole);
      const auto want = at_once.run(multiprocessors());
      for (int sms : {1, 17, 60}) EXPECT_EQ(at_once.run(sms), want) << sms << " multiprocessors";
      for (int chunk : {37, 128, 500}) {
        for (int begin = 0; begin < 600; begin += chunk) {
          const int end = std::min(600, begin + chunk);
          AttentionCase part{.act = f.act,
                             .kv = f.kv,
                             .window = window,
                             .sequences = {{333, 3, 333, 50}, {end, end - begin, 600, 7}, {900, 1, 9, 51}}};
          AttentionProblem some(part);
          EXPECT_EQ(some.rows_of(some.run(multiprocessors()), 1, 0, end - begin),
                    at_once.rows_of(want, 0, begin, end - begin))
              << "chunk " << begin << " to " << end;
        }
      }
    }
  }
}

// Wide pages are dealt out in any order.
TEST(FireAttention, PromptBitsDoNotDependOnOtherPrompts) {
  for (const Format& f : kFormats) {
    AttentionCase alone{.act = f.act, .kv = f.kv, .window = 150, .sequences = {{700, 100, 680, 7}}};
    AttentionProblem one(alone);
    const auto want = one.run(multiprocessors());
    for (int others : {3, 50}) {
      AttentionCase among = alone;
      for (int i = 0; i < others; ++i) {
        const int32_t context = 30 + i * 53 % 400;
        const CaseSequence other{context, 1 + i % 30, i % 3 ? context : 1, 100 + i};
        among.sequences.insert(i % 2 ? among.sequences.begin() : among.sequences.end(), other);
      }
      AttentionProblem many(among);
      const auto got = many.run(multiprocessors());
      const auto at =
          static_cast<size_t>(std::ranges::find(among.sequences, 7, &CaseSequence::identity) - among.sequences.begin());
      EXPECT_EQ(many.rows_of(got, at, 0, 100), one.rows_of(want, 0, 0, 100)) << others << " others";
    }
  }
}

// No step is meant to have more than its scratch holds; if one had, its prompts would come out wrong, and nothing else
// would be written to. (run() looks behind the scratch.)
TEST(FireAttention, SmallMorePromptsThanPages) {
  for (DType act : {DType::kBF16, DType::kF16}) {
    AttentionCase c{.act = act, .kv = DType::kE4M3, .heads = 8, .kv_heads = 2};
    c.sequences = {{300, 100, 300, 0}, {200, 1, 20, 1}, {200, 20, 200, 2}};
    AttentionProblem fits(c);
    const auto want = fits.run(multiprocessors());
    c.max_prompt_blocks = 2;
    AttentionProblem problem(c);
    EXPECT_EQ(problem.rows_of(problem.run(multiprocessors()), 1, 0, 1), fits.rows_of(want, 1, 0, 1));
  }
}

}  // namespace
}  // namespace hearth::cuda
