"""deploy/ray_serve.py under a real Ray Serve: an answer, a stream, a second replica under load, and the first one killed.
Run: test_ray.py HEARTH MODEL"""
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from running_server import free_port

os.environ.update(HEARTH_BINARY=str(pathlib.Path(sys.argv[1]).resolve()), HEARTH_MODEL=str(pathlib.Path(sys.argv[2]).resolve()),
                  HEARTH_FLAGS="--threads 1 --max-model-len 512 --served-model-name smol", HEARTH_GPUS="0", HEARTH_CPUS="1",
                  HEARTH_TARGET_REQUESTS="2", HEARTH_MAX_REPLICAS="2", RAY_USAGE_STATS_ENABLED="0")
sys.path.insert(0, str(ROOT))

import ray
from ray import serve

PORT = free_port()


def ask(stream=False):
    body = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 32, "temperature": 0, "stream": stream, "ignore_eos": True}
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}/v1/chat/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=180) as answer:
        return answer.read().decode()


def servers():
    found = subprocess.run(["pgrep", "-f", f"^{os.environ['HEARTH_BINARY']} serve"], capture_output=True, text=True).stdout.split()
    return [int(pid) for pid in found]


def wait_for(what, condition, patience=180):
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, f"in vain: {what}"
        time.sleep(0.5)


ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": PORT})
from deploy.ray_serve import app

serve.run(app)
lone = json.loads(ask())["choices"][0]["message"]["content"]
parts = [json.loads(line[6:]) for line in ask(stream=True).splitlines() if line.startswith("data: {")]
assert "".join(c["delta"].get("content") or "" for p in parts for c in p["choices"]) == lone
assert len(parts) > 5, "the stream came as one"
print("ok one replica, streamed and not", flush=True)

stop, failed, answers = threading.Event(), [], []


def client():
    while not stop.is_set():
        try:
            answers.append(json.loads(ask())["choices"][0]["message"]["content"])
        except Exception as error:
            failed.append(repr(error))
            time.sleep(0.2)


threads = [threading.Thread(target=client) for _ in range(8)]
for thread in threads:
    thread.start()
wait_for("a second replica", lambda: len(servers()) == 2)
print("ok a second replica under load", flush=True)
wait_for("answers", lambda: len(answers) > 20)
assert not failed, failed[:3]
os.kill(servers()[0], 9)
wait_for("a new replica", lambda: len(servers()) == 2)
count = len(answers)
wait_for("answers go on", lambda: len(answers) > count + 10)
stop.set()
for thread in threads:
    thread.join()
assert set(answers) == {lone}
print(f"ok killed and replaced: {len(answers)} answers, {len(failed)} failed meanwhile", flush=True)
serve.shutdown()
ray.shutdown()
wait_for("no server is left", lambda: not servers())
print("ok no server is left")
