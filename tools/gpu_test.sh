#!/usr/bin/env bash
# Runs every program of BUILD/gpu against its CPU ops on this machine's GPU, then its small cases under compute-sanitizer.
#   gpu_test.sh BUILD [--no-sanitizer]
set -u
build=$1
passed=0 failed=0
command -v nvidia-smi >/dev/null && nvidia-smi -L | head -1 || { echo "gpu_test: no NVIDIA GPU on this machine" >&2; exit 77; }

check() {  # check NAME command...
  local name=$1 log
  shift
  log=$(mktemp)
  if "$@" >"$log" 2>&1; then
    passed=$((passed + 1)); echo "passed  $name  ($(grep -c '^\[       OK' "$log") cases)"
  else
    failed=$((failed + 1)); echo "FAILED  $name"; tail -30 "$log"
  fi
  rm -f "$log"
}

for program in "$build"/gpu/*_gpu_test; do
  check "$(basename "$program")" "$program"
  if [ "${2:-}" != --no-sanitizer ] && command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
      check "$(basename "$program") under $tool" compute-sanitizer --tool "$tool" --error-exitcode 1 "$program" --gtest_filter='*Small*'
    done
  fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
