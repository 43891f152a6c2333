"""aiperf: a short run, whose requests all complete without an error or a warning about the server. It has a venv of its own."""
import json
import os
import pathlib
import subprocess
import tempfile

from client_test import KEY, NAME, URL, ClientTest

VENV = pathlib.Path(__file__).resolve().parents[2] / ".cache/aiperf-venv/bin"
# It wants a tokenizer though the server counts the tokens: one of bytes, where Hugging Face's cache would have it.
MAKE_TOKENIZER = """
import sys
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
t = Tokenizer(models.BPE(vocab={s: i for i, s in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[]))
t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
PreTrainedTokenizerFast(tokenizer_object=t, eos_token="!").save_pretrained(sys.argv[1])
"""


class AiPerf(ClientTest):
    def test_a_run(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            cached = folder / "hub/models--test--bytes"
            (cached / "refs").mkdir(parents=True)
            (cached / "refs/main").write_text("0")
            subprocess.run([VENV / "python", "-c", MAKE_TOKENIZER, cached / "snapshots/0"], check=True, capture_output=True)
            prompts = folder / "prompts.jsonl"
            prompts.write_text("".join(json.dumps({"text": f"Question {i}: what is {i} plus 1?"}) + "\n" for i in range(8)))
            done = subprocess.run(
                [VENV / "aiperf", "profile", "--model", NAME, "--url", URL, "--endpoint-type", "chat", "--streaming", "--input-file", prompts,
                 "--custom-dataset-type", "single_turn", "--concurrency", "2", "--request-count", "8", "--use-server-token-count", "--api-key", KEY,
                 "--extra-inputs", "max_tokens:6", "--extra-inputs", "ignore_eos:true", "--tokenizer", "test/bytes", "--no-gpu-telemetry", "--ui", "none",
                 "--artifact-dir", folder / "out"],
                env={**os.environ, "HF_HUB_CACHE": str(folder / "hub"), "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, timeout=300)
            said = done.stdout + done.stderr
            self.assertEqual(done.returncode, 0, said)
            # A busy machine delays its own event loop, and it says so.
            self.assertEqual([line for line in said.splitlines() if ("WARNING" in line or " ERROR " in line) and "Event loop" not in line], [])
            report = json.loads((folder / "out/profile_export_aiperf.json").read_text())
        self.assertEqual(report["request_count"]["avg"], 8)
        self.assertEqual(report["output_sequence_length"]["avg"], 6)
        self.assertEqual(report["error_summary"], [])
