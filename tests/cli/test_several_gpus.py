"""bench/serving/several_gpus.py: what it would run on 1 and on 8 GPUs; a part that fails, or does not end, leaves the others alone."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "bench" / "serving" / "several_gpus.py"


def run(*words):
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, words)], capture_output=True, text=True)


class SeveralGpus(unittest.TestCase):
    def test_what_would_be_run(self):
        done = run("build", "out", "--gpus", "8", "--dry-run")
        self.assertEqual(done.returncode, 0, done.stderr)
        names = [line.split(" (")[0] for line in done.stdout.splitlines()]
        self.assertEqual(names, ["exchange_test", "ranks_test", "exchange_bench", "step_1", "step_2", "step_4", "step_8", "mixtral", "qwen3_235b"])
        self.assertIn("--tensor-parallel-size 8", done.stdout)
        one = run("build", "out", "--one-gpu", "--dry-run").stdout
        self.assertIn("--rank-placement one-gpu --tensor-parallel-size 2", one)
        self.assertNotIn("qwen3_235b", one)

    def test_parts_are_apart(self):
        with tempfile.TemporaryDirectory() as folder:
            build, out = pathlib.Path(folder) / "build", pathlib.Path(folder) / "out"
            (build / "gpu").mkdir(parents=True)
            for name, text in {"gpu/exchange_gpu_test": "exit 3", "gpu/ranks_gpu_test": "echo ran"}.items():
                (build / name).write_text(f"#!/bin/sh\n{text}\n")
                (build / name).chmod(0o755)
            done = run(build, out, "--one-gpu", "--only", "exchange_test,ranks_test,exchange_bench")
            self.assertEqual(done.returncode, 1, done.stderr)
            lines = (out / "summary.txt").read_text().splitlines()
            self.assertEqual([line.split()[:2] for line in lines], [["exchange_test", "FAILED:"], ["ranks_test", "passed"], ["exchange_bench", "FAILED:"]])
            self.assertEqual((out / "ranks_test.log").read_text(), "ran\n")
            self.assertTrue((out / "qwen3_235b" / "config.json").exists())


unittest.main()
