#!/usr/bin/env python3
"""Serves a model and loads it as Fireworks' post of January 2024 did: one request alone, then Poisson arrivals at given rates.
Writes one file with what was measured and on what, for bench/results/. What stands behind -- goes to `hearth serve`:

  bench/serving/make_dummy_mixtral.py /tmp/mixtral
  bench/serving/experiment.py build/hearth /tmp/mixtral OUT.json --rates 16,20,24,28 --seconds 12 -- \\
      --load-format dummy --quantization fp8 --kv-cache-dtype fp8

On several GPUs, --gpus 8 does so for every T x R that takes all of them (tensor parallelism times replicas), at rates times R, and draws
all of them with the best at each load, as OUT-latency.svg. --sweep names the pairs instead, like 1x8,2x4; --dry-run prints the
commands and starts nothing.
"""
import argparse
import datetime
import json
import pathlib
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read().decode()
    except (urllib.error.URLError, OSError):
        return None


def metric(text, name):
    """The value of a metric that stands once in the text of /metrics; none if it does not."""
    values = [line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith(name + "{")]
    return float(values[0]) if len(values) == 1 else None


class Server:
    def __init__(self, hearth, model, flags, log):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        start = time.monotonic()
        self.process = subprocess.Popen([hearth, "serve", model, "--port", str(port), *flags], stdout=log, stderr=log)
        while get(self.url + "/health") is None:
            if self.process.poll() is not None:
                sys.exit(f"the server ended with {self.process.returncode}")
            time.sleep(0.02)
        self.ready_s = time.monotonic() - start

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


class Board:
    """Clock and power of the first GPU, twice a second; nothing where there is none."""

    def __init__(self):
        query = ["nvidia-smi", "-i", "0", "--query-gpu=name,clocks.sm,power.draw", "--format=csv,noheader,nounits", "-lms", "500"]
        try:
            self.process = subprocess.Popen(query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        except FileNotFoundError:
            self.process = None

    def stop(self):
        if not self.process:
            return {}
        self.process.terminate()
        rows = [line.split(", ") for line in self.process.communicate()[0].splitlines()]
        rows = [(name, float(clock), float(power)) for name, clock, power in (r for r in rows if len(r) == 3)]
        if not rows:
            return {}
        middle = lambda i: sorted(r[i] for r in rows)[len(rows) // 2]
        return {"gpu": rows[0][0], "clock_mhz": middle(1), "power_w": middle(2)}


def bench(hearth, url, flags):
    with tempfile.TemporaryDirectory() as folder:
        command = [hearth, "bench", "serve", "--url", url, "--output", folder + "/run", *flags]
        if subprocess.run(command).returncode != 0:
            sys.exit("the load failed: " + " ".join(command))
        return json.loads(pathlib.Path(folder, "run.json").read_text())


def gpus_here():
    try:
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
    except FileNotFoundError:
        return 0
    return len(listed.stdout.splitlines()) if listed.returncode == 0 else 0


def pairs_for(gpus):
    """Every T x R that takes all of them, T a power of two."""
    return [(1 << i, gpus >> i) for i in range(gpus.bit_length()) if gpus % (1 << i) == 0]


def pairs_named(text):
    pairs = [tuple(int(n) for n in pair.split("x")) for pair in text.split(",")]
    if any(len(pair) != 2 or min(pair) < 1 for pair in pairs):
        raise ValueError(text)
    return pairs


def measure(a, serve, rates, label, log):
    """One server, one request alone, then the rates."""
    server = Server(a.hearth, a.model, serve, log)
    print(f"{label}: ready after {server.ready_s:.1f} s", flush=True)
    extra = ["--label", label, *a.bench.split()]
    alone = bench(a.hearth, server.url, ["--concurrencies", "1", "--seconds", "4", "--warm-up", "1", *extra])
    before = get(server.url + "/metrics") or ""
    board = Board()
    loads = bench(a.hearth, server.url, ["--rates", rates, "--seconds", str(a.seconds), "--warm-up", str(a.warm_up), *extra])
    board = board.stop()
    after = get(server.url + "/metrics") or ""
    if (code := server.stop()) != 0:
        sys.exit(f"the server ended with {code}")

    result = {"date": datetime.date.today().isoformat(), "hearth": subprocess.check_output([a.hearth, "version"], text=True).strip(),
              **board, "model": a.model, "serve": serve, "ready_s": round(server.ready_s, 2), "alone": alone["loads"][0],
              **{k: v for k, v in loads.items() if k not in ("label", "model")}}
    spent = {}
    for name in ("busy", "idle"):
        at = [metric(text, f"hearth:server_gpu_{name}_seconds_total") for text in (before, after)]
        if None not in at:
            spent[name] = at[1] - at[0]
    if sum(spent.values()) > 0:
        result["gpu_idle_share"] = spent["idle"] / sum(spent.values())
    return result


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("hearth")
    p.add_argument("model")
    p.add_argument("output", type=pathlib.Path)
    p.add_argument("--rates", default="16,20,24,28", help="requests a second; of each replica, in a sweep")
    p.add_argument("--seconds", type=float, default=12, help="of each rate that count")
    p.add_argument("--warm-up", type=float, default=4, help="seconds of each rate that do not")
    p.add_argument("--bench", default="", help="further flags of hearth bench serve, as one text")
    p.add_argument("--gpus", type=int, help="sweep T x R over so many; 0: all that are there")
    p.add_argument("--sweep", type=pairs_named, help="the pairs, like 1x8,2x4,4x2")
    p.add_argument("--dry-run", action="store_true", help="print what would be run")
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    a, serve = p.parse_args(words[:end]), words[end + 1 :]

    pairs = a.sweep
    if pairs is None and a.gpus is not None:
        pairs = pairs_for(a.gpus or gpus_here())
        if not pairs:
            sys.exit("no GPU is here: --sweep names pairs for a CPU")
    runs = []
    for ranks, replicas in pairs or [(None, None)]:
        flags = serve if ranks is None else [*serve, "--tensor-parallel-size", str(ranks), "--replicas", str(replicas)]
        rates = ",".join(f"{float(rate) * (replicas or 1):g}" for rate in a.rates.split(","))
        runs.append(("hearth" if ranks is None else f"{replicas} x {ranks}", flags, rates))
    if a.dry_run:
        for label, flags, rates in runs:
            print(f"{label}: {shlex.join([a.hearth, 'serve', a.model, *flags])}; rates {rates}")
        return

    a.output.parent.mkdir(parents=True, exist_ok=True)
    with open(a.output.with_suffix(".log"), "w") as log:
        results = {label: measure(a, flags, rates, label, log) for label, flags, rates in runs}
    if pairs is None:
        a.output.write_text(json.dumps(results["hearth"], indent=1) + "\n")
    else:
        # What `hearth bench plot` reads: the loads by label; all else beside them.
        loads = {label: result.pop("loads") for label, result in results.items()}
        a.output.write_text(json.dumps({**loads, "runs": results}, indent=1) + "\n")
        plot = [a.hearth, "bench", "plot", a.output, "--labels", *loads, "--best", "--output", a.output.with_suffix("")]
        if subprocess.run(plot).returncode != 0:
            sys.exit("the plot failed")
    print(f"written: {a.output}")


if __name__ == "__main__":
    main()
