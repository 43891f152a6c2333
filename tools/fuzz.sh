#!/usr/bin/env bash
# Runs fuzz targets (src/*/x_fuzz.cc) under libFuzzer with the address and undefined-behaviour sanitizers, SECONDS each,
# as many at once as there are cores. They begin with the committed corpus, tests/fuzz/corpus/x, and what earlier runs
# found new in build-fuzz/corpus/x. Fails where a target fails; the input lies in build-fuzz/found.
# Usage: fuzz.sh SECONDS [TARGET...]    fuzz.sh --merge [TARGET...]: keep in tests/fuzz what adds coverage, small inputs only
set -euo pipefail
cd "$(dirname "$0")/.."
command -v clang++-14 >/dev/null || { echo "fuzz: needs clang++-14 (apt-get install clang-14 libclang-rt-14-dev)" >&2; exit 1; }
seconds=$1
shift
launcher=()
if command -v ccache >/dev/null; then launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
cmake --preset fuzz "${launcher[@]}" >/dev/null
targets=("$@")
programs=(fuzzers)
[ $# -eq 0 ] || programs=("${targets[@]/%/_fuzz}")
cmake --build build-fuzz -j "${JOBS:-$(nproc)}" --target "${programs[@]}"
if [ $# -eq 0 ]; then
  for program in build-fuzz/fuzz/*_fuzz; do name=${program##*/}; targets+=("${name%_fuzz}"); done
fi
# Of one input: 100 s (the machine may do much else), 2 GiB, and 64 KiB long.
limits=(-timeout=100 -rss_limit_mb=2048 -max_len=65536)
mkdir -p build-fuzz/found

if [ "$seconds" = --merge ]; then
  for target in "${targets[@]}"; do
    corpus=tests/fuzz/corpus/$target
    rm -rf build-fuzz/merged
    mkdir -p build-fuzz/merged "$corpus" "build-fuzz/corpus/$target"
    "build-fuzz/fuzz/${target}_fuzz" -merge=1 -timeout=10 -max_len=4096 build-fuzz/merged "$corpus" "build-fuzz/corpus/$target" 2>/dev/null
    # The smallest of them; of those that were there before, all.
    ls -Sr build-fuzz/merged > build-fuzz/merged.list
    head -n "${MOST:-80}" build-fuzz/merged.list | while read -r name; do cp "build-fuzz/merged/$name" "$corpus"; done
    echo "$target: $(ls "$corpus" | wc -l) inputs"
  done
  exit 0
fi

run() {
  mkdir -p "build-fuzz/corpus/$1"
  local dict=() log=build-fuzz/found/$1.log
  [ ! -f "tests/fuzz/$1.dict" ] || dict=("-dict=tests/fuzz/$1.dict")
  if "build-fuzz/fuzz/$1_fuzz" -max_total_time="$seconds" "${limits[@]}" "${dict[@]}" -artifact_prefix="build-fuzz/found/$1-" \
      -print_final_stats=1 "build-fuzz/corpus/$1" "tests/fuzz/corpus/$1" >"$log" 2>&1; then
    echo "$1: clean, $(awk '/number_of_executed_units/ {print $2}' "$log") inputs in $seconds s, $(grep -oE 'cov: [0-9]+' "$log" | tail -1)"
  else
    echo "$1: FAILED" >&2
    tail -40 "$log" >&2
    return 1
  fi
}
failed=0 running=0
for target in "${targets[@]}"; do
  run "$target" &
  running=$((running + 1))
  if [ "$running" -ge "${JOBS:-$(nproc)}" ]; then wait -n || failed=1; running=$((running - 1)); fi
done
while [ "$running" -gt 0 ]; do wait -n || failed=1; running=$((running - 1)); done
exit $failed
