#!/usr/bin/env python3
"""The style test: formatting, include direction, and a first line that says what each file is for. Prints one line a finding."""
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
CODE = {".h", ".cc", ".cu", ".cuh"}
findings = []


def files():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def allowed_includes():
    """Folder -> every folder it may include from: the closure of DEPS in CMakeLists.txt."""
    text = (ROOT / "CMakeLists.txt").read_text()
    direct = {}
    for kind, name, rest in re.findall(r"hearth_(library|binary)\((\w+)([^)]*)\)", text):
        words = rest.split()
        deps = []
        if "DEPS" in words:
            for word in words[words.index("DEPS") + 1:]:
                if word.isupper():
                    break
                deps.append(word)
        direct[name] = deps
    direct["cli"] = direct.get("cli", []) + ["cuda"]  # where it is built
    reach = {}

    def closure(name):
        if name not in reach:
            reach[name] = {name}
            for dep in direct.get(name, []):
                reach[name] |= closure(dep)
        return reach[name]

    for name in direct:
        closure(name)
    return reach


def main():
    reach = allowed_includes()
    sources = [p for p in files() if p.suffix in CODE]
    for path in sources:
        relative = path.relative_to(ROOT)
        lines = path.read_text().splitlines()
        is_test = re.search(r"_test\.(cc|cu)$", path.name)
        if not is_test and not (lines and lines[0].startswith("//")):
            findings.append(f"{relative}:1: the first line must be a comment that says what the file is for")
        if relative.parts[0] != "src":
            continue
        folder = relative.parts[1]
        if folder not in reach:
            findings.append(f"{relative}:1: folder {folder} is not in CMakeLists.txt")
            continue
        for number, line in enumerate(lines, 1):
            match = re.match(r'\s*#\s*include\s+"([a-z_]+)/', line)
            if match and (ROOT / "src" / match[1]).is_dir() and match[1] not in reach[folder] and not is_test:
                findings.append(f"{relative}:{number}: {folder} may not include from {match[1]}")
    for path in files():
        if path.suffix == ".py" and path.stat().st_size:
            head = path.read_text().splitlines()[:2]
            if not any(line.startswith(('"""', '# ')) for line in head):
                findings.append(f"{path.relative_to(ROOT)}:1: the file must begin with what it is for")
    # Another version's layout differs in places.
    if not shutil.which("clang-format-14"):
        findings.append("clang-format-14 is not installed (tools/install_deps.sh): no file's layout was checked")
        sources = []
    formatted = subprocess.run(["clang-format-14", "--dry-run", *map(str, sources)], cwd=ROOT, capture_output=True, text=True) if sources else None
    for line in formatted.stderr.splitlines() if formatted else []:
        if "warning:" in line:
            findings.append(line.replace(str(ROOT) + "/", "").split(" warning:")[0] + " not formatted (make format)")
    for finding in findings[:50]:
        print(finding)
    print(f"{len(sources)} source files, {len(findings)} findings")
    return 1 if findings else 0


sys.exit(main())
