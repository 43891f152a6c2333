"""What README and docs/ say is so: links lead somewhere, commands are taken by what they call, those that can run here do, and README's
figures are those of docs/performance.md. Run: test_docs.py HEARTH MODEL"""
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from running_server import RunningServer

HEARTH, MODEL = str(pathlib.Path(sys.argv[1]).resolve()), str(pathlib.Path(sys.argv[2]).resolve())
os.chdir(ROOT)
PAGES = [ROOT / name for name in subprocess.run(["git", "ls-files", "*.md"], capture_output=True, text=True).stdout.split()]
assert len(PAGES) > 10
# Commands of others, which the tests of deploy/ try or which need what is not here.
OTHERS = r"(podman|install|systemctl|haproxy|pip|helm|kubectl|unzip|head|serve run|sglang_router|git|cd|apt-get|echo|printf|export|docker|scp|ssh|build/gpu/)"


def anchors(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def check_links():
    found = 0
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            assert file.exists(), f"{page.relative_to(ROOT)}: {target} is not there"
            if anchor and file.suffix == ".md":
                assert anchor in anchors(file), f"{page.relative_to(ROOT)}: {target}: no such title"
            found += 1
    assert found > 50
    return f"{found} links"


def commands():
    """Of each fenced block that holds commands: the page and one command a time, continued lines joined."""
    for page in PAGES:
        if "history" in page.parts:
            continue
        for body in re.findall(r"^```(?:sh|bash)?\n(.*?)^```", page.read_text(), re.S | re.M):
            first = body.lstrip().split("\n", 1)[0]
            if not re.match(rf"(\w+=\S+ )*(hearth|build/hearth|make|curl|python3|tools/|{OTHERS})\b", first):
                continue
            for command in split_commands(body):
                yield page, command


def split_commands(body):
    """Lines, joined where a backslash, an open quote or a lone list of flags carries on."""
    out = []
    for line in body.splitlines():
        line = re.sub(r"\s{2,}# .*", "", line)
        if out and (out[-1].endswith("\\") or out[-1].count("'") % 2):
            out[-1] = out[-1].removesuffix("\\") + ("\n" if out[-1].count("'") % 2 else " ") + line.strip()
        elif out and re.match(r"\s+--", line):
            out[-1] = re.sub(r"\s#.*", "", out[-1]) + " " + line.strip()
        elif line.strip() and not line.lstrip().startswith("#"):
            out.append(line.strip())
    return [re.sub(r"\s+# .*", "", command) for command in out]


def help_of(words, cache={}):
    key = tuple(words)
    if key not in cache:
        cache[key] = subprocess.run([*words, "--help"], capture_output=True, text=True, timeout=60).stdout
    return cache[key]


def check_hearth(page, words):
    path = [HEARTH]
    for word in words[1:]:
        if word.startswith("-") or f"{' '.join(['hearth', *path[1:], word])} " not in help_of([*path, word]).split("usage: ", 1)[-1][:200]:
            break
        path.append(word)
    known = help_of(path)
    assert "usage: hearth" in known, (page.name, words)
    for flag in (word.split("=")[0] for word in words if word.startswith("--")):
        assert re.search(rf"{flag}\b", known), f"{page.relative_to(ROOT)}: {' '.join(words)}: {flag} is not there"


def check_commands():
    targets = re.findall(r"^([\w-]+(?: [\w-]+)*):", (ROOT / "Makefile").read_text(), re.M)
    targets = {name for line in targets for name in line.split()}
    seen = 0
    for page, command in commands():
        for part in re.split(r" && | \| ", command):
            if part.startswith("curl"):
                continue  # run below
            words = [w for w in shlex.split(part.removesuffix("&"))]
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                words.pop(0)
            name = words[0].removeprefix("build/")
            if name == "hearth":
                check_hearth(page, ["hearth", *words[1:]])
            elif name == "make":
                assert set(w for w in words[1:] if "=" not in w) <= targets, f"{page.name}: {command}"
            elif name == "python3" and words[1].endswith(".py"):
                script = ROOT / words[1]
                assert script.exists(), f"{page.name}: {words[1]} is not there"
                for flag in (w for w in words if w.startswith("--")):
                    assert f'"{flag}"' in script.read_text(), f"{page.name}: {command}: {flag}"
            else:
                assert re.match(OTHERS, " ".join(words)) or re.match(rf"python3 -m ({OTHERS})", " ".join(words)), f"{page.relative_to(ROOT)}: nothing tries: {command}"
            seen += 1
    assert seen > 30
    return f"{seen} commands are taken"


def run_commands():
    """README's own commands, with a small model, and every curl of README and docs/."""
    with tempfile.TemporaryDirectory() as folder, RunningServer(HEARTH, MODEL, "--max-model-len", "2048", "--tool-call-parser", "hermes") as server:
        work = pathlib.Path(folder)
        (work / "text").write_text("The quick brown fox jumps over the lazy dog. " * 20)
        question = {"subject": "foxes", "question": "Who jumps?", "choices": ["fox", "dog", "cat", "cow"], "answer": 0}
        (work / "mmlu").mkdir()
        for name in ("test.jsonl", "dev.jsonl"):
            (work / "mmlu" / name).write_text("\n".join(json.dumps(question) for _ in range(5)) + "\n")
        evaluated = lambda name: subprocess.run([HEARTH, "eval", "mmlu", str(work / "mmlu"), "--model", MODEL, "--json", str(work / name), "--device", "cpu"], check=True, capture_output=True)
        for name in ("A.json", "B.json"):
            evaluated(name)
        replaced = {"MODEL": MODEL, "FILE": str(work / "text"), "FOLDER": str(work / "mmlu"), "A.json": str(work / "A.json"), "B.json": str(work / "B.json"),
                    "OUT": str(work / "out"), "RUN": str(work / "run"), "http://...": server.url(), "http://127.0.0.1:8000": server.url()}
        shorter = {"bench step": ["--steps", "0+1", "--repeat", "1"], "bench frontend": ["--streams", "10", "--seconds", "0.5", "--warm-up", "0.5"], "bench serve": ["--seconds", "1", "--warm-up", "0", "--input-tokens", "8", "--output-tokens", "2"]}
        ran = 0
        for page, command in commands():
            if command.startswith("curl"):
                words = [re.sub(r"http://127\.0\.0\.1:800[01]", server.url(), w) for w in shlex.split(command)]
                done = subprocess.run([*words, "-s"], capture_output=True, text=True, timeout=300)
                assert done.returncode == 0, f"{page.name}: {command}: {done.stderr}"
                if '"stream": true' in command:
                    assert re.search(r"^(data: \[DONE\]|event: (response\.completed|response\.incomplete|message_stop))$", done.stdout, re.M), f"{page.name}: {command}: {done.stdout}"
                else:
                    assert not json.loads(done.stdout).get("error"), f"{page.name}: {command}: {done.stdout}"
                ran += 1
            elif page.name == "README.md" and page.parent == ROOT and command.startswith("hearth "):
                words = [replaced.get(w, w) for w in shlex.split(command.removesuffix("&"))]
                if words[1:2] in (["serve"], ["quantize"], ["plan"]) or words[1:3] == ["bench", "kernels"]:
                    continue  # RunningServer does, tests/cli/test_quantize.py does, on a GPU
                for key, more in shorter.items():
                    if command.startswith(f"hearth {key}"):
                        for flag, value in zip(more[::2], more[1::2]):
                            if flag in words:
                                del words[words.index(flag) : words.index(flag) + 2]
                            words += [flag, value]
                done = subprocess.run([HEARTH, *words[1:]], input="Hi\n", capture_output=True, text=True, timeout=300)
                assert done.returncode == 0, f"{command}: {done.stderr[-500:]}"
                ran += 1
    assert ran >= 8
    return f"{ran} commands ran"


def check_figures():
    readme, performance = ((ROOT / name).read_text() for name in ("README.md", "docs/performance.md"))
    table = readme.split("([conditions and more]", 1)[1].split("\n## ", 1)[0]
    figures = [f for row in re.findall(r"^\|(.*)\|$", table, re.M) for cell in row.split("|")[1:] for f in re.findall(r"\d+(?:\.\d+)?", cell)]
    assert len(figures) >= 8
    for figure in figures:
        assert re.search(rf"(?<![\d.]){re.escape(figure)}(?!\.?\d)", performance), f"README says {figure}, docs/performance.md does not"
    return f"{len(figures)} figures"


def check_fields():
    """Every field that a request's parser reads, and every route, stands in docs/api.md or docs/agents.md."""
    pages = "".join((ROOT / "docs" / name).read_text() for name in ("api.md", "agents.md"))
    fields = set()
    for source in ("generation_request", "completion_request", "answer_fields"):
        text = (ROOT / f"src/api/{source}.cc").read_text()
        fields |= set(re.findall(r'(?:fields|inner)\.(?:read|get)\("([a-z_]+)"', text))
    assert len(fields) > 30, fields
    missing = sorted(f for f in fields if not re.search(rf"\b{f}\b", pages))
    assert not missing, f"docs/api.md does not have {missing}"
    routes = re.findall(r'\{"(/[^"]*)", "(?:GET|POST)"', (ROOT / "src/server/routes.cc").read_text())
    assert len(routes) > 15
    missing = [r for r in routes if r not in pages]
    assert not missing, f"docs/api.md does not have {missing}"
    return f"{len(fields)} fields, {len(routes)} routes"


for check in (check_links, check_fields, check_figures, check_commands, run_commands):
    print("ok", check(), flush=True)
