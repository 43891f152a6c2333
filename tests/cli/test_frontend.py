"""`hearth bench frontend` measures the real server: every stream is answered, nothing is lost. Run: test_frontend.py HEARTH MODEL"""
import json
import subprocess
import sys
import tempfile

HEARTH, MODEL = sys.argv[1:]

with tempfile.NamedTemporaryFile("r") as figures:
    command = [HEARTH, "bench", "frontend", MODEL, "--streams", "40", "--tokens", "20", "--step-ms", "5", "--seconds", "1", "--warm-up", "1",
               "--json", figures.name]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    out = json.load(figures)
assert out["failed"] == 0 and out["answers"] > 40, out
# Each step gives each stream a token: 8,000 chunks a second where the machine has the time.
assert 100 < out["chunks_per_second"] < 8800, out
assert 0 < out["added_ms_p50"] <= out["added_ms_p99"] < 200, out
assert out["io_us_per_chunk"] > 0.1, out

ran = subprocess.run([HEARTH, "bench", "frontend", "/nowhere"], capture_output=True, text=True, timeout=60)
assert ran.returncode == 1 and ran.stderr.count("\n") == 1, ran.stderr
print("ok")
