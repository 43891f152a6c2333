#!/usr/bin/env bash
# Installs what the build and the tests need on Debian 12 (or Ubuntu 24.04): packages from the distribution, nothing else. Safe to run again.
set -euo pipefail

packages=(build-essential cmake ninja-build ccache git curl ca-certificates clang-format-14 patch python3 python3-pip python3-venv
  nlohmann-json3-dev libspdlog-dev libfmt-dev libcli11-dev libpcre2-dev libgtest-dev libstb-dev fonts-open-sans
  libedit-dev libzmq5 libssl-dev)
# Debian 12 has Boost 1.81 beside its default 1.74; Ubuntu 24.04's default is newer than both.
if apt-cache show libboost1.81-dev >/dev/null 2>&1; then packages+=(libboost1.81-dev); fi

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "install ok installed" || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "install_deps: run as root, or install sudo; missing: ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
echo "Installing ${#missing[@]} packages: ${missing[*]}"
"${as_root[@]}" apt-get update -q >/dev/null
# Asked again after the update: a bare machine knows no package before it.
if apt-cache show libboost1.81-dev >/dev/null 2>&1; then boost=libboost1.81-dev; else boost=libboost-dev; fi
case " ${packages[*]} " in *" $boost "*) ;; *) missing+=("$boost") ;; esac
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null
