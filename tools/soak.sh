#!/usr/bin/env bash
# Runs tests/soak under the address and undefined-behaviour sanitizers and under the thread sanitizer, SECONDS each, both
# at once. Usage: soak.sh SECONDS
set -euo pipefail
cd "$(dirname "$0")/.."
export HEARTH_SOAK_SECONDS=$1
launcher=()
if command -v ccache >/dev/null; then launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
for preset in asan tsan; do
  cmake --preset "$preset" "${launcher[@]}" >/dev/null
  cmake --build "build-$preset" -j "${JOBS:-$(nproc)}" --target soak
done
pids=()
for preset in asan tsan; do
  "build-$preset/tests/soak" > "build-$preset/soak.log" 2>&1 &
  pids+=($!)
done
failed=0
for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
for preset in asan tsan; do
  echo "$preset:"
  if [ "$failed" = 0 ]; then tail -n 2 "build-$preset/soak.log"; else tail -n 60 "build-$preset/soak.log"; fi
done
exit $failed
