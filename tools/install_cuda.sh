#!/usr/bin/env bash
# Makes sure there is an nvcc that knows sm_90a: the machine's own where it is 12.3 or newer, else the CUDA 13.0 toolkit's
# wheels from PyPI, unpacked into .cache/cuda (Debian 12's own CUDA is 11.8). What CUDA 13 builds needs a driver of 580
# or newer to run. Prints the path of nvcc. Safe to run again.
#   install_cuda.sh           installs where needed
#   install_cuda.sh --find    only looks; prints nothing where there is none
#   install_cuda.sh --if-gpu  installs only on a machine with an NVIDIA GPU
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD/.cache/cuda

for nvcc in "$(command -v nvcc || true)" /usr/local/cuda/bin/nvcc "$here/bin/nvcc"; do
  [ -x "$nvcc" ] || continue
  version=$("$nvcc" --version 2>/dev/null | sed -n 's/.*release \([0-9]*\)\.\([0-9]*\).*/\1 \2/p') || continue
  read -r major minor <<<"$version"
  if [ "$major" -gt 12 ] || { [ "$major" -eq 12 ] && [ "$minor" -ge 3 ]; }; then echo "$nvcc"; exit 0; fi
done

case "${1:-}" in
  --find) exit 0 ;;
  --if-gpu) [ -e /dev/nvidiactl ] || exit 0 ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip download -q --no-deps --only-binary=:all: -d "$work" \
  nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 >&2
mkdir -p "$work/site"
for wheel in "$work"/*.whl; do python3 -m zipfile -e "$wheel" "$work/site"; done
rm -rf "$here"
mkdir -p "$(dirname "$here")"
mv "$work/site/nvidia/cu13" "$here"
chmod -R u+x "$here/bin" "$here/nvvm/bin" 2>/dev/null || true
[ -e "$here/lib64" ] || ln -s lib "$here/lib64"
[ -e "$here/lib/libcudart.so" ] || ln -s libcudart.so.13 "$here/lib/libcudart.so"
echo "$here/bin/nvcc"
