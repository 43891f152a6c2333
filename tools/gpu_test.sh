#!/usr/bin/env bash
# Runs every program of BUILD/gpu against its CPU ops on this machine's GPU, then its small cases under compute-sanitizer. Ends with 77
# where there is nothing to run them on.
#   gpu_test.sh BUILD [--no-sanitizer]
set -u
build=$1
passed=0 failed=0
skip() { echo "gpu_test: $1" >&2; exit 77; }

gpus=$(nvidia-smi --query-gpu=name,driver_version,compute_cap --format=csv,noheader 2>/dev/null) || skip "no NVIDIA GPU, or no driver for it"
echo "$gpus"
case $(head -1 <<<"$gpus") in *", 9.0") ;; *) skip "the first GPU is no Hopper" ;; esac
programs=("$build"/gpu/*_gpu_test)
[ -x "${programs[0]}" ] || skip "$build was built without CUDA"

sanitizer=
if [ "${2:-}" != --no-sanitizer ]; then
  for sanitizer in "$(command -v compute-sanitizer)" /usr/local/cuda/bin/compute-sanitizer ""; do
    [ -x "$sanitizer" ] && break
  done
  [ -n "$sanitizer" ] || echo "no compute-sanitizer on this machine: its part is left out"
fi

check() {  # check NAME command...
  local name=$1 log
  shift
  log=$(mktemp)
  timeout 1800 "$@" >"$log" 2>&1
  case $? in
    0)
      cases=$(grep -c '^\[       OK' "$log")
      if [ "$cases" -gt 0 ]; then
        passed=$((passed + 1)); echo "passed  $name  ($cases cases)"
      else
        failed=$((failed + 1)); echo "FAILED  $name: it ran no case"
      fi ;;
    77) skip "$(tail -1 "$log")" ;;
    *) failed=$((failed + 1)); echo "FAILED  $name"; tail -30 "$log" ;;
  esac
  rm -f "$log"
}

for program in "${programs[@]}"; do
  check "$(basename "$program")" "$program"
  [ -n "$sanitizer" ] || continue
  if ! "$program" --gtest_list_tests --gtest_filter='*Small*' | grep -q '^  '; then
    echo "        $(basename "$program") has no small cases for compute-sanitizer"
    continue
  fi
  for tool in memcheck racecheck; do
    check "$(basename "$program") under $tool" "$sanitizer" --tool "$tool" --error-exitcode 1 "$program" --gtest_filter='*Small*'
  done
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
