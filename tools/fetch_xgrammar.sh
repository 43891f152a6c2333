#!/usr/bin/env bash
# Fetches xgrammar's source package from PyPI, pinned and checked, into .cache/xgrammar-VERSION-PATCHES, and applies
# tools/xgrammar.patch; CMake builds it. Run again, it does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.2.8
patches=1  # one more with each change of the patch, here and in cmake/Xgrammar.cmake
target=.cache/xgrammar-$version-$patches
[ -e "$target" ] && exit 0
. tools/pip.sh

mkdir -p .cache
work=$(mktemp -d .cache/fetch.XXXXXX)
trap 'rm -rf "$work"' EXIT
echo "fetching xgrammar $version for $target" >&2
echo "xgrammar==$version --hash=sha256:8305646fd2b319d6c3003f51a1665e54cbbe9cba1fb636bc41d0b46434ccbb80" >"$work/wanted.txt"
pip download --quiet --disable-pip-version-check --no-deps --no-binary xgrammar --require-hashes --dest "$work" -r "$work/wanted.txt" >&2
# What the library is made of; the package holds its tests and its documentation too.
tar -xzf "$work/xgrammar-$version.tar.gz" -C "$work" "xgrammar-$version"/{LICENSE,NOTICE,cpp,include,3rdparty/picojson,3rdparty/dlpack/include}
patch --quiet -p1 -d "$work/xgrammar-$version" <tools/xgrammar.patch
mv -T "$work/xgrammar-$version" "$target" 2>/dev/null || [ -e "$target" ]  # appears whole or not at all; another may have been faster
