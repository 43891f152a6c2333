"""PyTorch's products on grouped_gemm's shapes, as peers: _scaled_grouped_mm (FP8), _grouped_mm (BF16), and cuBLASLt through
_scaled_mm and matmul for the dense layers. One JSON line a row; weights rotated beyond L2, medians over graph replays."""
import json
import sys

import torch

FP8, DEVICE = torch.float8_e4m3fn, "cuda"
EXPERTS, HIDDEN, INTERMEDIATE = 8, 4096, 14336


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


def row(**fields):
    print(json.dumps(fields), flush=True)


def grouped(name, n, k, tokens, dtype, weights):
    generator = torch.Generator().manual_seed(tokens)
    chosen = torch.stack([torch.randperm(EXPERTS, generator=generator)[:2] for _ in range(tokens)]).flatten()
    ends = torch.bincount(chosen, minlength=EXPERTS).cumsum(0).to(DEVICE, torch.int32)
    x = random((2 * tokens, k), dtype)
    if dtype == FP8:
        x_scale, w_scale = torch.ones(2 * tokens, device=DEVICE), torch.ones(EXPERTS, n, device=DEVICE)
        call = lambda: torch._scaled_grouped_mm(x, weights.transpose(1, 2), x_scale, w_scale, offs=ends, out_dtype=torch.bfloat16, use_fast_accum=True)
    else:
        call = lambda: torch._grouped_mm(x, weights.transpose(1, 2), offs=ends)
    us = timed([call] * 6)
    row(kernel="torch grouped", dtype=str(dtype), shape=f"{name} T={tokens}", us=us, tflops=4 * tokens * n * k / us / 1e6)


def dense(name, n, k, m, dtype):
    copies = max(6, int(400e6 / (n * k * (1 if dtype == FP8 else 2))) + 1)
    weights = [random((n, k), dtype) for _ in range(min(copies, 32))]
    rows = max(m, 16) if dtype == FP8 else m  # cuBLASLt's FP8 wants multiples of 16
    x = random((rows, k), dtype)
    x_scale, w_scale = torch.ones(rows, 1, device=DEVICE), torch.ones(1, n, device=DEVICE)
    one = torch.ones((), device=DEVICE)
    calls = []
    for w in weights:
        if dtype == FP8:
            calls.append(lambda w=w: torch._scaled_mm(x, w.t(), one, one, out_dtype=torch.bfloat16))
        else:
            calls.append(lambda w=w: x @ w.t())
    us = timed(calls)
    row(kernel="cublaslt", dtype=str(dtype), shape=f"{name} M={m}", us=us, tflops=2 * m * n * k / us / 1e6)


def main():
    tokens = [8, 128, 256, 512, 1024, 2048, 8192]
    for dtype in (FP8, torch.bfloat16):
        for name, n, k in (("w13", 2 * INTERMEDIATE, HIDDEN), ("w2", HIDDEN, INTERMEDIATE)):
            weights = random((EXPERTS, n, k), dtype)
            for t in tokens:
                try:
                    grouped(name, n, k, t, dtype, weights)
                except Exception as error:
                    print("failed", name, t, dtype, str(error)[:200], file=sys.stderr)
            del weights
        for name, n in (("qkv", 6144), ("o", 4096)):
            for m in (1, 64, 256, 1024, 8192):
                dense(name, n, HIDDEN, m, dtype)


main()
