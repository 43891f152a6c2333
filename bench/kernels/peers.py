"""What others' kernels take for what grouped_gemm and fire_attention do, the fastest of those that python3 has: PyTorch's products
(_scaled_grouped_mm, _grouped_mm, and cuBLASLt through _scaled_mm and matmul) and scaled_dot_product_attention; where vLLM is installed, its
DeepGEMM (scales for every 128 of K) and its FlashAttention 3 (pages of 64 tokens, scales a head in FP8). `hearth bench kernels --peers` runs
it with its cases, a JSON array of {"dtype", "groups", "n", "k", "rows"} and {"kv", "prompts", "generated", "context", "heads", "kv_heads",
"head_dim"}, and the seconds for which a case runs before it is timed. Prints a line of JSON a case, null where nobody can. Weights, and
pages of generated tokens, lie beyond the L2 cache; medians over graph replays."""
import json
import os
import sys
import time

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what libraries print is no answer
try:
    import torch
except ImportError:
    sys.exit("python3 has no torch")
if not torch.cuda.is_available():
    sys.exit("torch sees no GPU")
try:
    import vllm.third_party.deep_gemm as deep_gemm
except Exception:  # it looks for a GPU and a toolkit too
    deep_gemm = None
try:
    from vllm.vllm_flash_attn.flash_attn_interface import flash_attn_varlen_func, get_scheduler_metadata
except Exception:
    flash_attn_varlen_func = None

FP8, BF16, DEVICE, BEYOND_CACHE = torch.float8_e4m3fn, torch.bfloat16, "cuda", 400e6
DTYPES = {"float8_e4m3": FP8, "bfloat16": BF16}


def random(shape, dtype, scale=1.0):
    """Normal values: of deviation 60 in FP8 and 0.02 in 16 bit, times `scale`."""
    out = torch.empty(shape, dtype=dtype, device=DEVICE)
    for part in out.view(-1).split(1 << 27):
        part.copy_((torch.randn(part.numel(), device=DEVICE, dtype=torch.float16) * (scale * (60 if dtype == FP8 else 0.02))).clamp_(-448, 448))
    return out


def timed(calls, sustain):
    """Median microseconds a call, the calls captured as one graph."""
    for call in calls[:2]:
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    until = time.monotonic() + sustain
    while time.monotonic() < until:
        graph.replay()
        torch.cuda.synchronize()
    times = []
    for _ in range(9):
        begin, end = torch.cuda.Event(True), torch.cuda.Event(True)
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) * 1e3 / len(calls))
    return sorted(times[2:])[3]


def torch_grouped(n, k, rows, dtype, weights):
    x = random((sum(rows), k), dtype)
    ends = torch.tensor(rows).cumsum(0).to(DEVICE, torch.int32)
    turned = [w.transpose(1, 2) for w in weights]
    if dtype == BF16:
        return "torch._grouped_mm", [lambda w=w: torch._grouped_mm(x, w, offs=ends) for w in turned]
    x_scale, w_scale = torch.ones(sum(rows), device=DEVICE), torch.ones(len(rows), n, device=DEVICE)
    return "torch._scaled_grouped_mm", [
        lambda w=w: torch._scaled_grouped_mm(x, w, x_scale, w_scale, offs=ends, out_dtype=BF16, use_fast_accum=True) for w in turned
    ]


def torch_dense(n, k, rows, dtype, weights):
    if dtype == BF16:
        x = random((rows[0], k), dtype)
        return "torch.matmul", [lambda w=w: x @ w[0].t() for w in weights]
    x, one = random((max(rows[0], 16), k), dtype), torch.ones((), device=DEVICE)  # it wants multiples of 16
    return "torch._scaled_mm", [lambda w=w: torch._scaled_mm(x, w[0].t(), one, one, out_dtype=BF16) for w in weights]


def deep_gemm_inputs(shape, groups, n, k):
    x = random(shape, FP8)
    scales = deep_gemm.get_mn_major_tma_aligned_tensor(torch.rand(*shape[:-1], k // 128, device=DEVICE) * 0.01 + 0.01)
    return (x, scales), torch.full((groups, n // 128, k // 128), 2e-4, device=DEVICE)


def deep_gemm_contiguous(n, k, rows, dtype, weights):
    padded = [(count + 127) // 128 * 128 for count in rows]
    x, w_scales = deep_gemm_inputs((sum(padded), k), len(rows), n, k)
    groups = torch.repeat_interleave(torch.arange(len(rows), dtype=torch.int32), torch.tensor(padded)).to(DEVICE).int()
    out = torch.empty(sum(padded), n, dtype=BF16, device=DEVICE)
    return "DeepGEMM, contiguous", [lambda w=w: deep_gemm.m_grouped_fp8_gemm_nt_contiguous(x, (w, w_scales), out, groups) for w in weights]


def deep_gemm_masked(n, k, rows, dtype, weights):
    most = max(64, 1 << (max(rows) - 1).bit_length())
    x, w_scales = deep_gemm_inputs((len(rows), most, k), len(rows), n, k)
    counts, expected = torch.tensor(rows, dtype=torch.int32, device=DEVICE), max(1, sum(rows) // len(rows))
    out = torch.empty(len(rows), most, n, dtype=BF16, device=DEVICE)
    return "DeepGEMM, masked", [lambda w=w: deep_gemm.m_grouped_fp8_gemm_nt_masked(x, (w, w_scales), out, counts, expected) for w in weights]


kept = None, None  # the last shape's weights


def products(dtype, groups, n, k, rows):
    global kept
    dtype = DTYPES[dtype]
    if kept[0] != (dtype, groups, n, k):
        kept = None, None  # freed before the next ones are made
        copies = min(int(BEYOND_CACHE / (groups * n * k * dtype.itemsize)) + 1, 32)
        kept = (dtype, groups, n, k), [random((groups, n, k), dtype) for _ in range(copies)]
    weights = (kept[1] * 6)[:max(6, len(kept[1]))]
    makers = [torch_grouped if groups > 1 else torch_dense]
    if deep_gemm and dtype == FP8 and groups > 1:
        makers += [deep_gemm_contiguous] if sum(rows) >= 512 else []
        makers += [deep_gemm_masked] if sum(rows) <= 2048 else []
    return [lambda make=make: make(n, k, rows, dtype, weights) for make in makers]


def sdpa(prompts, context, heads, kv_heads, head_dim):
    q = random((prompts, heads, context, head_dim), BF16, 50)  # of deviation 1
    k, v = (random((prompts, kv_heads, context, head_dim), BF16, 50) for _ in range(2))
    call = lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return "torch.scaled_dot_product_attention", [call] * 4


def flash_attention_3(kv, prompts, generated, context, heads, kv_heads, head_dim):
    page, sequences, fp8 = 64, prompts + generated, kv == "float8_e4m3"
    dtype, scale = DTYPES[kv], 1 / 60 if fp8 else 50  # of deviation 1
    blocks = sequences * (context // page)
    layers = 4 if prompts else max(2, min(96, int(BEYOND_CACHE // (2 * blocks * page * kv_heads * head_dim * dtype.itemsize)) + 1))
    caches = [[random((blocks, page, kv_heads, head_dim), dtype, scale) for _ in range(2)] for _ in range(layers)]
    table = torch.randperm(blocks, device=DEVICE).int().view(sequences, -1)
    lengths = [context] * prompts + [1] * generated
    starts = torch.tensor([0] + lengths).cumsum(0).to(DEVICE, torch.int32)
    used = torch.full((sequences,), context, device=DEVICE, dtype=torch.int32)
    q = random((sum(lengths), heads, head_dim), dtype, scale)
    ones = torch.ones(sequences, kv_heads, device=DEVICE) if fp8 else None
    out = torch.empty(q.shape, dtype=BF16, device=DEVICE)
    plan = get_scheduler_metadata(sequences, max(lengths), context, heads, kv_heads, head_dim, used, qkv_dtype=q.dtype, cu_seqlens_q=starts,
                                  page_size=page, causal=True, num_splits=0)
    return "FlashAttention 3", [
        lambda k=k, v=v: flash_attn_varlen_func(q, k, v, max_seqlen_q=max(lengths), cu_seqlens_q=starts, max_seqlen_k=context, seqused_k=used,
                                                causal=True, block_table=table, out=out, q_descale=ones, k_descale=ones, v_descale=ones,
                                                scheduler_metadata=plan, fa_version=3) for k, v in caches
    ]


def attentions(kv, prompts, generated, context, **heads):
    makers = []
    if kv == "bfloat16" and not generated:
        makers.append(lambda: sdpa(prompts, context, **heads))
    if flash_attn_varlen_func:
        makers.append(lambda: flash_attention_3(kv, prompts, generated, context, **heads))
    return makers


sustain = float(sys.argv[2])
for case in json.loads(sys.argv[1]):
    results = []
    for make in attentions(**case) if "prompts" in case else products(**case):
        try:
            peer, calls = make()
            results.append({"peer": peer, "us": timed(calls, sustain)})
            del calls
        except Exception as error:  # whatever a peer throws is its own
            print(case, str(error)[:200], file=sys.stderr)
            torch.cuda.synchronize()
    print(json.dumps(min(results, key=lambda r: r["us"], default=None)), file=answers, flush=True)
