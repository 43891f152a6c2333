"""PyTorch's products as grouped_gemm's peers: _scaled_grouped_mm (FP8), _grouped_mm (BF16), and for one group cuBLASLt through
_scaled_mm and matmul; as fire_attention's, for prompts, scaled_dot_product_attention. `hearth bench kernels --peers` runs it with its
cases as argument: a JSON array of {"dtype", "groups", "n", "k", "rows"} and {"prompts", "context", "heads", "kv_heads", "head_dim"}. Prints a line of JSON a case, null where PyTorch cannot. Weights lie beyond the L2 cache; medians over graph replays."""
import json
import sys

try:
    import torch
except ImportError:
    sys.exit("python3 has no torch")
if not torch.cuda.is_available():
    sys.exit("torch sees no GPU")

FP8, DEVICE, BEYOND_CACHE = torch.float8_e4m3fn, "cuda", 400e6


def random(shape, dtype):
    out = torch.empty(shape, dtype=dtype, device=DEVICE)
    for part in out.view(-1).split(1 << 27):
        part.copy_((torch.randn(part.numel(), device=DEVICE, dtype=torch.float16) * (60 if dtype == FP8 else 0.02)).clamp_(-448, 448))
    return out


def timed(calls):
    """Median microseconds a call, the calls captured as one graph."""
    for call in calls[:2]:
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    times = []
    for _ in range(9):
        begin, end = torch.cuda.Event(True), torch.cuda.Event(True)
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) * 1e3 / len(calls))
    return sorted(times[2:])[3]


def grouped(n, k, rows, dtype, weights):
    x = random((sum(rows), k), dtype)
    ends = torch.tensor(rows).cumsum(0).to(DEVICE, torch.int32)
    turned = [w.transpose(1, 2) for w in weights]
    if dtype == torch.bfloat16:
        return "torch._grouped_mm", [lambda w=w: torch._grouped_mm(x, w, offs=ends) for w in turned]
    x_scale, w_scale = torch.ones(sum(rows), device=DEVICE), torch.ones(len(rows), n, device=DEVICE)
    return "torch._scaled_grouped_mm", [
        lambda w=w: torch._scaled_grouped_mm(x, w, x_scale, w_scale, offs=ends, out_dtype=torch.bfloat16, use_fast_accum=True) for w in turned
    ]


def dense(k, rows, dtype, weights):
    if dtype == torch.bfloat16:
        x = random((rows, k), dtype)
        return "torch.matmul", [lambda w=w: x @ w[0].t() for w in weights]
    x, one = random((max(rows, 16), k), dtype), torch.ones((), device=DEVICE)  # it wants multiples of 16
    return "torch._scaled_mm", [lambda w=w: torch._scaled_mm(x, w[0].t(), one, one, out_dtype=torch.bfloat16) for w in weights]


def attention(prompts, context, heads, kv_heads, head_dim):
    q = 50 * random((prompts, heads, context, head_dim), torch.bfloat16)  # of deviation 1
    k, v = (50 * random((prompts, kv_heads, context, head_dim), torch.bfloat16) for _ in range(2))
    call = lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return "torch.scaled_dot_product_attention", [call] * 4


kept = None, None  # the last shape's weights


def product(case):
    global kept
    dtype = {"float8_e4m3": FP8, "bfloat16": torch.bfloat16}[case["dtype"]]
    groups, n, k, rows = case["groups"], case["n"], case["k"], case["rows"]
    if kept[0] != (dtype, groups, n, k):
        kept = None, None  # freed before the next ones are made
        copies = min(int(BEYOND_CACHE / (groups * n * k * dtype.itemsize)) + 1, 32)
        kept = (dtype, groups, n, k), [random((groups, n, k), dtype) for _ in range(copies)]
    weights = (kept[1] * 6)[:max(6, len(kept[1]))]
    return grouped(n, k, rows, dtype, weights) if groups > 1 else dense(k, rows[0], dtype, weights)


for case in json.loads(sys.argv[1]):
    result = None
    try:
        peer, calls = attention(**case) if "prompts" in case else product(case)
        result = {"peer": peer, "us": timed(calls)}
    except RuntimeError as error:
        print(case, str(error)[:200], file=sys.stderr)
    print(json.dumps(result), flush=True)
