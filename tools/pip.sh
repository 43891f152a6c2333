# Sourced by the scripts that fetch from PyPI: pip, the machine's own or, where Debian's python3 comes without it, one in a venv.
pip() {
  if python3 -m pip --version >/dev/null 2>&1; then
    python3 -m pip "$@"
  else
    [ -x .cache/pip/bin/python ] || python3 -m venv .cache/pip || {
      echo "python3 has neither pip nor venv: apt-get install python3-venv" >&2
      exit 1
    }
    .cache/pip/bin/python -m pip "$@"
  fi
}
