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

    # A sweep on the CPU: one rank in two replicas, and two ranks in one.
    sweep = pathlib.Path(folder, "sweep.json")
    command = [sys.executable, serving / "experiment.py", hearth, model, sweep, "--sweep", "1x2,2x1", "--rates", "4,8", "--seconds", "2",
               "--warm-up", "0.5", "--bench", "--input-tokens 20 --output-tokens 5 --vocab-size 400"]
    flags = ["--", "--load-format", "dummy", "--device", "cpu", "--threads", "2"]
    dry = subprocess.run([*command, "--dry-run", *flags], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(dry) == 2 and dry[0].startswith("2 x 1: ") and dry[0].endswith("--tensor-parallel-size 1 --replicas 2; rates 8,16"), dry
    assert not sweep.exists()
    assert subprocess.run([*command, *flags]).returncode == 0
    result = json.loads(sweep.read_text())
    assert [[load["offered"] for load in result[label]] for label in ("2 x 1", "1 x 2")] == [[8, 16], [4, 8]]
    assert all(load["lost"] == 0 for label in ("2 x 1", "1 x 2") for load in result[label])
    assert result["runs"]["1 x 2"]["serve"][-4:] == ["--tensor-parallel-size", "2", "--replicas", "1"]
    drawn = sweep.with_name("sweep-latency.svg").read_text()
    assert "best at each load" in drawn and "2 x 1" in drawn
