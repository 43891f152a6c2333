"""Model folders that are wrong: `hearth serve` ends with exit code 1 and one line, soon. Usage: test_folders.py HEARTH"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

HEARTH = sys.argv[1]
GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden/models/llama_float32"
TOKENIZER = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}}


class Folders(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.write("config.json", json.loads((GOLDEN / "config.json").read_text()))
        self.write("tokenizer.json", TOKENIZER)

    def write(self, name, content):
        (self.folder / name).write_text(content if isinstance(content, str) else json.dumps(content))

    def refusal(self, *flags):
        """The one line that says why."""
        done = subprocess.run([HEARTH, "serve", str(self.folder), "--port", "0", "--device", "cpu", "--load-format", "dummy", *flags],
                              capture_output=True, text=True, timeout=60)
        lines = [line for line in done.stderr.splitlines() if " info " not in line]
        self.assertEqual((done.returncode, len(lines)), (1, 1), done.stderr)
        self.assertIn(" error ", lines[0])
        return lines[0]

    def test_links_that_lead_nowhere(self):
        for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json", "config.json"]:
            with self.subTest(name):
                kept = self.folder / "kept"
                if (self.folder / name).exists():
                    (self.folder / name).rename(kept)
                for target in [name, "missing"]:
                    os.symlink(target, self.folder / name)
                    self.assertIn(name, self.refusal())
                    (self.folder / name).unlink()
                if kept.exists():
                    kept.rename(self.folder / name)

    def test_chat_template_of_another_kind(self):
        for value in [[{"name": 1, "template": "x"}], [{"name": "default", "template": 1}], ["x"], 1, {"a": "b"}]:
            self.write("tokenizer_config.json", {"chat_template": value})
            self.assertIn("tokenizer_config.json: chat_template", self.refusal())

    def test_dummy_weights_that_no_machine_holds(self):
        config = json.loads((GOLDEN / "config.json").read_text())
        self.write("config.json", config | {"hidden_size": 1 << 20, "vocab_size": 1 << 20})
        self.assertIn("weights need", self.refusal())
        self.write("config.json", config | {"hidden_size": 1 << 20, "vocab_size": 1 << 20, "intermediate_size": 1 << 20, "num_hidden_layers": 1024})
        self.assertIn("64 TiB", self.refusal())
        self.write("config.json", config | {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_hidden_layers": 1024, "num_local_experts": 1024})
        self.assertIn("experts", self.refusal())


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
