"""--tensor-parallel-size: three ranks on the CPU answer as one does. Usage: test_ranks.py HEARTH GGUF (SmolLM2, whose nine heads three ranks share)"""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from running_server import RunningServer

HEARTH, MODEL = sys.argv[1:3]
GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden" / "models" / "mixtral_fused"
TEXT = "The capital of France is Paris. The capital of Italy is Rome. The capital of Spain is Madrid. "


def perplexity(*flags):
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as text, tempfile.NamedTemporaryFile("r") as figures:
        text.write(TEXT)
        text.flush()
        done = subprocess.run([HEARTH, "eval", "perplexity", text.name, "--model", MODEL, "--device", "cpu", "--json", figures.name, *flags],
                              capture_output=True, text=True)
        return done, json.loads(figures.read() or "null")


def answers(*flags):
    with RunningServer(HEARTH, MODEL, "--device", "cpu", "--max-model-len", "256", *flags) as server:
        def ask(**fields):
            body = {"prompt": "The capital of France is", "max_tokens": 12, "logprobs": 2, **fields}
            status, _, answer = server.request("/v1/completions", body)
            assert status == 200, answer
            return answer["choices"][0]
        return [ask(temperature=0), ask(temperature=0.7, seed=3), ask(temperature=0)], server.log()


class Ranks(unittest.TestCase):
    def test_perplexity(self):
        _, one = perplexity()
        done, three = perplexity("--tensor-parallel-size", "3")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("3 x cpu", three["backend"])
        self.assertEqual(three["scored"], one["scored"])
        self.assertAlmostEqual(three["perplexity"] / one["perplexity"], 1, delta=1e-4)

    def test_serve(self):
        one, _ = answers()
        three, log = answers("--tensor-parallel-size", "3")
        self.assertIn("on 3 x cpu", log)
        self.assertEqual(three[0], three[2])  # to the bit, the second time from the prefix cache
        for a, b in zip(one, three):
            self.assertEqual(a["text"], b["text"])
            for x, y in zip(a["logprobs"]["token_logprobs"], b["logprobs"]["token_logprobs"]):
                self.assertAlmostEqual(x, y, delta=1e-3)

    def test_dummy_weights(self):
        with RunningServer(HEARTH, str(GOLDEN), "--device", "cpu", "--load-format", "dummy", "--tensor-parallel-size", "2") as server:
            status, _, answer = server.request("/v1/completions", {"prompt": [5, 6, 7], "max_tokens": 8, "ignore_eos": True})
            self.assertEqual(status, 200, answer)
            self.assertEqual(answer["usage"]["completion_tokens"], 8)

    def test_whole_experts(self):
        flags = "--device", "cpu", "--load-format", "dummy", "--tensor-parallel-size", "2", "--expert-parallel"
        with RunningServer(HEARTH, str(GOLDEN), *flags) as server:
            body = {"prompt": [5, 6, 7], "max_tokens": 8, "ignore_eos": True, "logprobs": 1, "seed": 1}
            first, second = (server.request("/v1/completions", body) for _ in range(2))
            self.assertEqual(first[0], 200, first)
            self.assertEqual(first[2]["choices"], second[2]["choices"])
            _, _, info = server.request("/get_server_info")
            self.assertEqual((info["tp_size"], info["ep_size"]), (2, 2))
        done, _ = perplexity("--expert-parallel")
        self.assertEqual(done.returncode, 1)
        self.assertIn("expert-parallel: expected a model with experts, found none", done.stderr)

    def test_what_does_not_divide_is_refused(self):
        done, _ = perplexity("--tensor-parallel-size", "2")
        self.assertEqual(done.returncode, 1)
        self.assertIn("tensor-parallel-size: expected a divisor of the model's 9 attention heads, found 2", done.stderr)


unittest.main(argv=sys.argv[:1])
