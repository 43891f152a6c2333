"""generation_config.json's values are what a request gets that names none. Usage: test_generation_config.py HEARTH GGUF"""
import json
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from running_server import RunningServer

HEARTH, GGUF = sys.argv[1:3]
MODELS = pathlib.Path(__file__).resolve().parents[1] / "golden" / "models"


def with_metadata(gguf, numbers):
    """The file with more float32 keys, and a text that keeps the tensors' data aligned to 32 bytes."""
    def name(text):
        return struct.pack("<Q", len(text)) + text.encode()
    more = b"".join(name(key) + struct.pack("<If", 6, value) for key, value in numbers.items())
    filler = name("test.filler") + struct.pack("<IQ", 8, 0)
    gap = -len(more + filler) % 32
    more += name("test.filler") + struct.pack("<I", 8) + name("." * gap)
    magic, version, tensors, keys = struct.unpack("<4sIQQ", gguf[:24])
    return struct.pack("<4sIQQ", magic, version, tensors, keys + len(numbers) + 1) + more + gguf[24:]


class GenerationConfig(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.model = pathlib.Path(self.folder.name, "model")
        self.model.mkdir()
        shutil.copy(MODELS / "llama_float32" / "config.json", self.model)

    def write(self, folder=None, **fields):
        (folder or self.model).joinpath("generation_config.json").write_text(json.dumps({"eos_token_id": 2, **fields}))

    def serve(self, *flags):
        return RunningServer(HEARTH, str(self.model), "--load-format", "dummy", "--device", "cpu", *flags)

    @staticmethod
    def answers(server, **fields):
        """How many different answers six seeds give."""
        def ask(seed):
            body = {"prompt": [5, 6, 7], "max_tokens": 12, "ignore_eos": True, "seed": seed, "logprobs": 0, **fields}
            return tuple(server.post("/v1/completions", body)["choices"][0]["logprobs"]["tokens"])
        return len({ask(seed) for seed in range(6)})

    def test_the_models_values_are_the_defaults(self):
        self.write(temperature=0.0)
        with self.serve() as server:
            self.assertEqual(self.answers(server), 1)
            self.assertGreater(self.answers(server, temperature=1.0), 1)
            self.assertIn("a request that names none gets temperature 0, from generation_config.json", server.log())
        for flag in ("none", "vllm"):
            with self.serve("--generation-config", flag) as server:
                self.assertGreater(self.answers(server), 1)
                self.assertNotIn("a request that names none", server.log())

    def test_another_folder(self):
        self.write(temperature=1.0)
        with tempfile.TemporaryDirectory() as other:
            self.write(pathlib.Path(other), top_k=1)
            for choice in (other, other + "/generation_config.json"):
                with self.serve("--generation-config", choice) as server:
                    self.assertEqual(self.answers(server), 1)
                    self.assertGreater(self.answers(server, top_k=0), 1)

    def test_keys_of_a_gguf_file(self):
        gguf = pathlib.Path(self.folder.name, "model.gguf")
        gguf.write_bytes(with_metadata(pathlib.Path(GGUF).read_bytes(),
                                       {"general.sampling.temp": 0.5, "general.sampling.top_p": 1e-6}))
        with RunningServer(HEARTH, str(gguf), "--device", "cpu", "--max-model-len", "256") as server:
            self.assertEqual(self.answers(server), 1)
            self.assertGreater(self.answers(server, top_p=1.0, temperature=2.0), 1)

    def test_a_model_that_names_none(self):
        self.write()
        with self.serve() as server:
            self.assertGreater(self.answers(server), 1)

    def test_refusals(self):
        for fields, flags, words in [
            ({"temperature": -1}, [], "generation_config.json: temperature must be a number from 0 to 100"),
            ({"top_p": "high"}, [], "generation_config.json: top_p must be a number from 0 to 1"),
            ({}, ["--generation-config", "/nowhere"], "/nowhere"),
        ]:
            self.write(**fields)
            done = subprocess.run([HEARTH, "serve", self.model, "--load-format", "dummy", "--device", "cpu", "--port", "0", *flags],
                                  capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 1)
            self.assertIn(words, done.stderr)


unittest.main(argv=sys.argv[:1])
