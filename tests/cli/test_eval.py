"""`hearth eval perplexity` on SmolLM2: what it prints is what its JSON says. Usage: test_eval.py HEARTH MODEL"""
import json
import math
import subprocess
import sys
import tempfile
import unittest

HEARTH, MODEL = sys.argv[1:3]
TEXT = "The capital of France is Paris. The capital of Italy is Rome. The capital of Spain is Madrid. " * 2


class EvalPerplexity(unittest.TestCase):
    def evaluate(self, figures, *flags):
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as text:
            text.write(TEXT)
            text.flush()
            return subprocess.run([HEARTH, "eval", "perplexity", text.name, "--model", MODEL, "--device", "cpu", "--window", "20", "--json", figures, *flags],
                                  capture_output=True, text=True)

    def figures(self, *flags):
        with tempfile.NamedTemporaryFile("r") as figures:
            done = self.evaluate(figures.name, *flags)
            self.assertEqual(done.returncode, 0, done.stderr)
            return done.stdout, json.load(figures)

    def test_windows_add_up(self):
        printed, figures = self.figures()
        scored = [window["scored"] for window in figures["windows"]]
        perplexity = math.exp(sum(window["nll"] for window in figures["windows"]) / sum(scored))
        self.assertEqual(scored[0], 19)
        self.assertEqual(sum(scored), figures["scored"])
        self.assertAlmostEqual(perplexity, figures["perplexity"], 9)
        self.assertEqual(printed, f"perplexity {perplexity:.4f} over {sum(scored)} tokens in windows of 20\n")
        self.assertLess(perplexity, 12)
        _, fp8 = self.figures("--kv-cache-dtype", "fp8")
        self.assertEqual(fp8["kv_cache_dtype"], "fp8")
        self.assertNotEqual(fp8["perplexity"], perplexity)
        self.assertAlmostEqual(fp8["perplexity"] / perplexity, 1, delta=0.1)

    def test_a_file_that_cannot_be_written(self):
        done = self.evaluate("/nowhere/figures")
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot write /nowhere/figures", done.stderr)


unittest.main(argv=sys.argv[:1])
