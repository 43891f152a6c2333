"""deploy/ is what its tools take: Helm, Kubernetes' schemas, hadolint, systemd, HAProxy; the dashboard asks for metrics that are there.
Run: test_files.py HEARTH MODEL"""
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import promql_parser
import yaml

ROOT = pathlib.Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from running_server import RunningServer

HEARTH, MODEL = str(pathlib.Path(sys.argv[1]).resolve()), sys.argv[2]
BIN = pathlib.Path(sys.executable).parent
DEPLOY = ROOT / "deploy"


def run(*command, **more):
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True, **more)
    assert ran.returncode == 0, f"{command}: {ran.stdout}{ran.stderr}"
    return ran.stdout


def helm():
    chart = DEPLOY / "helm/hearth"
    run(BIN / "helm", "lint", "--strict", chart)
    keys = {"apiKeySecret": "keys", "kvEvents.enabled": "true", "podDisruptionBudget.enabled": "true",
            "model.servedName": "mixtral", "flags": "{--quantization,fp8}", "serviceMonitor.enabled": "true"}
    for chosen in [{}, keys, {"gpus": "0", "replicas": "3"}]:
        flags = [part for key, value in chosen.items() for part in ("--set", f"{key}={value}")]
        text = run(BIN / "helm", "template", "release", chart, *flags)
        known = [d for d in yaml.safe_load_all(text) if d["kind"] != "ServiceMonitor"]  # of the Prometheus operator
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(yaml.safe_dump_all(known))
            file.flush()
            run(BIN / "kubernetes-validate", "--strict", "--quiet", file.name)
        container = next(d for d in known if d["kind"] == "Deployment")["spec"]["template"]["spec"]["containers"][0]
        check_flags(container["args"])
    return "Helm chart"


def check_flags(args):
    """The binary takes these flags: it says no more than that the model is not there."""
    with tempfile.NamedTemporaryFile("w") as keys:
        keys.write("secret\n")
        keys.flush()
        args = [keys.name if arg == "/keys/keys" else arg for arg in args]
        ran = subprocess.run([HEARTH, "serve", *args], capture_output=True, text=True, timeout=60)
    errors = [line for line in ran.stderr.splitlines() if "error" in line]
    assert ran.returncode == 1 and len(errors) == 1 and "no such file or folder" in errors[0], (args, ran.stderr)


def systemd():
    unit = (DEPLOY / "hearth.service").read_text()
    with tempfile.TemporaryDirectory() as folder:
        env = pathlib.Path(folder, "hearth.env")
        shutil.copy(DEPLOY / "hearth.env", env)
        file = pathlib.Path(folder, "hearth.service")
        file.write_text(unit.replace("/usr/local/bin/hearth", HEARTH).replace("/etc/hearth/hearth.env", str(env)))
        if shutil.which("systemd-analyze") is None:
            return "unit NOT checked (no systemd-analyze)"
        run("systemd-analyze", "verify", file)
        values = dict(line.split("=", 1) for line in env.read_text().splitlines() if line and not line.startswith("#"))
        check_flags([values["MODEL"], *values["FLAGS"].split()])
    return "systemd unit"


def dashboard():
    board = json.loads((DEPLOY / "grafana/hearth.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(queries) > 20
    names = set()
    for query in queries:
        promql_parser.parse(query.replace("$__rate_interval", "1m"))
        names |= set(re.findall(r"hearth:\w+", query))
    with RunningServer(HEARTH, MODEL, "--max-model-len", "256") as server:
        page = server.request("/metrics")[2]
    for name in names:
        assert re.search(rf"^{name}\{{", page, re.M), f"{name} is not on /metrics"
    return f"dashboard ({len(queries)} queries)"


def others():
    run(BIN / "hadolint", DEPLOY / "Containerfile")
    run("haproxy", "-c", "-f", DEPLOY / "haproxy.cfg")
    for path in (DEPLOY / "gateway").glob("*.yaml"):
        run(BIN / "yamllint", "-d", "{extends: relaxed, rules: {line-length: {max: 130}}}", path)
        assert all(d["apiVersion"] and d["kind"] for d in yaml.safe_load_all(path.read_text()))
    return "Containerfile, HAProxy, gateway"


for check in (helm, systemd, dashboard, others):
    print("ok", check(), flush=True)
