"""The `llm` command, with a model of extra-openai-models.yaml."""
import os
import pathlib
import subprocess
import sys
import tempfile

from client_test import KEY, NAME, QUESTION, URL, ClientTest


class Llm(ClientTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        pathlib.Path(folder.name, "extra-openai-models.yaml").write_text(
            f"- model_id: hearth\n  model_name: {NAME}\n  api_base: {URL}/v1\n  api_key_name: hearth\n"
            f"- model_id: raw\n  model_name: {NAME}\n  api_base: {URL}/v1\n  api_key_name: hearth\n  completion: true\n")
        pathlib.Path(folder.name, "keys.json").write_text(f'{{"hearth": "{KEY}"}}')
        self.environment = {**os.environ, "LLM_USER_PATH": folder.name}

    def run_llm(self, *arguments):
        done = subprocess.run([sys.executable, "-m", "llm", *arguments], env=self.environment, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout, done.stderr

    def test_prompts(self):
        for more in ([], ["--no-stream"]):
            code, out, err = self.run_llm("-m", "hearth", "-o", "temperature", "0", "-o", "max_tokens", "20", *more, QUESTION)
            self.assertEqual((code, err), (0, ""))
            self.assertIn("Paris", out)
        code, out, err = self.run_llm("-c", "-o", "temperature", "0", "-o", "max_tokens", "20", "Are you sure?")
        self.assertEqual((code, err), (0, ""))

    def test_completion(self):
        code, out, err = self.run_llm("-m", "raw", "-o", "temperature", "0", "-o", "max_tokens", "5", "The capital of France is")
        self.assertEqual(code, 0, err)
        self.assertIn("Paris", out)

    def test_an_error_is_shown(self):
        code, out, err = self.run_llm("-m", "hearth", "word " * 5000)
        self.assertNotEqual(code, 0)
        self.assertIn("This model's maximum context length is", err)
