#!/usr/bin/env bash
# Makes OUT/hearth-VERSION-linux-x86_64.tar.gz of a built binary, and its SHA-256 beside it: the binary, its unit for
# systemd, the change log, and the licences of all that is linked into it. Usage: package.sh BUILD OUT
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1 out=$2
version=$("$build/hearth" --version | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -1)
name=hearth-$version-linux-x86_64
root=$out/$name
rm -rf "$root"
mkdir -p "$root/licenses"
strip -o "$root/hearth" "$build/hearth"
cp LICENSE CHANGELOG.md README.md deploy/hearth.service deploy/hearth.env "$root"

# The distribution's packages whose code is in the binary; libzmq is loaded where it is there.
packages=(nlohmann-json3-dev libspdlog-dev libfmt-dev libcli11-dev libpcre2-dev libstb-dev fonts-open-sans libedit-dev
  libbsd-dev libmd-dev libncurses-dev libssl-dev libgcc-12-dev)
for boost in libboost1.81-dev libboost1.83-dev; do [ ! -d "/usr/share/doc/$boost" ] || packages+=("$boost"); done
for package in "${packages[@]}"; do
  found=/usr/share/doc/$package/copyright
  [ "$package" != libgcc-12-dev ] || found=$(ls /usr/share/doc/libgcc-*-dev/copyright | tail -1)
  [ -f "$found" ] || { echo "package: the licence of $package is missing: $found" >&2; exit 1; }
  cp -L "$found" "$root/licenses/${package%-dev}"
done
grammar=$(ls -d .cache/xgrammar-*/ | tail -1)
cat "$grammar/LICENSE" "$grammar/NOTICE" > "$root/licenses/xgrammar"
if ldd "$build/hearth" | grep -q libcudart || strings -n 12 "$build/hearth" | grep -q cudaGetDevice; then
  echo "The CUDA runtime, Copyright NVIDIA Corporation, is linked in under the CUDA Toolkit's license agreement: https://docs.nvidia.com/cuda/eula" > "$root/licenses/cuda-runtime"
fi

# The same bytes for the same binary.
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$(git log -1 --format=%ct)" -C "$out" -cf - "$name" | gzip -n9 > "$out/$name.tar.gz"
(cd "$out" && sha256sum "$name.tar.gz" > "$name.tar.gz.sha256")
rm -rf "$root"
ls -l "$out/$name.tar.gz" | awk '{print $5 " bytes: " $9}'
