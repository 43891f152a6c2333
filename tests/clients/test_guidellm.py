"""guidellm: a short run at several rates, whose requests all complete without a warning."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from client_test import KEY, URL, ClientTest


class GuideLlm(ClientTest):
    def test_a_run(self):
        with tempfile.TemporaryDirectory() as folder:
            prompts, report = pathlib.Path(folder, "prompts.jsonl"), pathlib.Path(folder, "report.json")
            prompts.write_text("".join(json.dumps({"prompt": f"Question {i}: what is {i} plus {i + 1}?", "output_tokens_count": 6}) + "\n"
                                       for i in range(60)))
            environment = {**os.environ, "HF_HUB_OFFLINE": "1", "GUIDELLM__OPENAI__API_KEY": KEY}
            done = subprocess.run(
                [sys.executable, "-m", "guidellm", "benchmark", "run", "--target", URL, "--rate-type", "concurrent", "--rate", "1,4",
                 "--max-requests", "12", "--data", prompts, "--output-path", report, "--disable-progress"],
                env=environment, capture_output=True, text=True, timeout=300)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertNotIn("WARNING", done.stderr)
            benchmarks = json.loads(report.read_text())["benchmarks"]
        self.assertEqual(len(benchmarks), 2)
        for benchmark in benchmarks:
            totals = benchmark["run_stats"]["requests_made"]
            self.assertEqual((totals["successful"], totals["errored"], totals["incomplete"]), (12, 0, 0))
            for request in benchmark["requests"]["successful"]:
                self.assertEqual(request["output_tokens"], 6)
