"""`hearth plan`: its table, its plot, its answers and refusals. Usage: test_plan.py HEARTH"""
import pathlib
import re
import subprocess
import sys
import tempfile

hearth = sys.argv[1]


def plan(*words):
    return subprocess.run([hearth, "plan", *words], capture_output=True, text=True)


with tempfile.TemporaryDirectory() as folder:
    done = plan("mixtral-8x7b", "--gpu", "h200", "--gpus", "2", "--dtype", "fp8", "--step-tokens", "1024", "--rate", "100", "--price", "3",
                "--output", f"{folder}/plot")
    assert done.returncode == 0, done.stderr
    rows = [re.split(r"\s{2,}| fp8 +", line.strip()) for line in done.stdout.splitlines() if " GPU" in line and " fp8 " in line]
    assert [row[0] for row in rows] == ["2 x 1 GPU", "1 x 2 GPUs"], done.stdout
    assert re.search(r"2 x 1 GPU .* measured", done.stdout) and re.search(r"1 x 2 GPUs .* estimated", done.stdout)
    needed = re.search(r"^100 requests/s need (\d+) GPUs: ", done.stdout, re.M)
    assert needed and int(needed[1]) == 4, done.stdout  # one serves about 31
    assert "best at each load" in pathlib.Path(folder, "plot.svg").read_text()
    assert pathlib.Path(folder, "plot.png").read_bytes().startswith(b"\x89PNG")

    config = '{"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, ' \
        '"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2, ' \
        '"vocab_size": 32000, "max_position_embeddings": 32768, "rms_norm_eps": 1e-5, "rope_theta": 1e6, "eos_token_id": 2}'
    pathlib.Path(folder, "config.json").write_text(config)
    done = plan(folder, "--gpus", "1", "--dtype", "fp8", "--step-tokens", "1024", "--target-latency", "0.25")
    assert done.returncode == 0, done.stderr
    assert "mixtral-8x7b on 1 x H100" in done.stdout, "its sizes are a known shape's"
    assert "never" in done.stdout and "no configuration keeps the target" in done.stdout

for words, said in [(["no-such-model"], "plan takes llama-3-8b, mixtral-8x22b, mixtral-8x7b"), (["mixtral-8x7b", "--gpu", "a100"], "a100")]:
    done = plan(*words)
    assert done.returncode != 0 and said in done.stderr and done.stdout == "", done
