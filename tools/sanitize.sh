#!/usr/bin/env bash
# Tests under sanitizers, as .ci/nightly runs them; SECONDS for each fuzz target and each soak.
# asan: the address and undefined-behaviour sanitizers. Every fuzz target under libFuzzer, the tests of server, engine and
# simulation, the soak; in the build of tools/fuzz.sh (clang 14), so that there is one build for all of it.
# tsan: the thread sanitizer. The same tests and the soak.
# Usage: sanitize.sh SECONDS [asan|tsan]...
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=$1
shift
kinds=("$@")
[ $# -gt 0 ] || kinds=(asan tsan)
launcher=()
if command -v ccache >/dev/null; then launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
tests=(server_test engine_test sim_test)

# Runs a command; of one that fails, the end of what it said.
checked() {
  local log=$1
  shift
  "$@" >"$log" 2>&1 && return
  { grep -vE ' (info|warning) ' "$log" || true; } | tail -n 80 >&2
  echo "sanitize: $* FAILED; $log has all of it" >&2
  exit 1
}

for kind in "${kinds[@]}"; do
  case $kind in
    asan) preset=fuzz also=(fuzzers) ;;
    tsan) preset=tsan also=() ;;
    *) echo "sanitize: asan or tsan, not $kind" >&2; exit 1 ;;
  esac
  build=build-$preset
  cmake --preset "$preset" "${launcher[@]}" >/dev/null
  checked "$build/build.log" cmake --build "$build" -j "${JOBS:-$(nproc)}" --target soak "${tests[@]}" "${also[@]}"
  [ "$kind" != asan ] || tools/fuzz.sh "$seconds"
  for program in "${tests[@]}"; do
    # But for whole models, which are slow here and whose parts the other tests run.
    checked "$build/$program.log" "$build/$program" --gtest_brief=1 --gtest_filter='-SmolLm2.*'
    echo "$kind: $program, $(grep -oE '[0-9]+ tests? from .* ran' "$build/$program.log")"
  done
  HEARTH_SOAK_SECONDS=$seconds checked "$build/soak.log" "$build/tests/soak"
  echo "$kind: soak, $(tail -n 1 "$build/soak.log")"
done
