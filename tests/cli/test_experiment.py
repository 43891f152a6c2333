"""bench/serving: a tiny dummy Mixtral, served on the CPU and loaded; and a server that cannot start. Usage: test_experiment.py HEARTH"""
import json
import pathlib
import subprocess
import sys
import tempfile

hearth = sys.argv[1]
serving = pathlib.Path(__file__).resolve().parents[2] / "bench" / "serving"

with tempfile.TemporaryDirectory() as folder:
    model, output = f"{folder}/model", pathlib.Path(folder, "results", "run.json")
    sizes = "--hidden 64 --intermediate 128 --layers 2 --heads 2 --kv-heads 1 --head-dim 32 --vocab 400"
    subprocess.run([sys.executable, serving / "make_dummy_mixtral.py", model, *sizes.split()], check=True)

    def experiment(*serve):
        load = ["--rates", "5,10", "--seconds", "2", "--warm-up", "0.5", "--bench", "--input-tokens 20 --output-tokens 5 --vocab-size 400"]
        return subprocess.run([sys.executable, serving / "experiment.py", hearth, model, output, *load, "--", *serve])

    assert experiment("--load-format", "dummy", "--device", "cpu").returncode == 0
    result = json.loads(output.read_text())
    assert [load["offered"] for load in result["loads"]] == [5, 10]
    assert all(load["requests"] > 0 and load["lost"] == 0 for load in [*result["loads"], result["alone"]])
    assert result["serve"][0] == "--load-format" and 0 < result["ready_s"] < 60
    assert "info stopped" in output.with_suffix(".log").read_text()

    assert experiment("--device", "cpu").returncode != 0, "there are no weights to serve"
