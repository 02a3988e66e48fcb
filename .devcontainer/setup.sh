#!/usr/bin/env bash
# Makes a Debian with Go ready to work here, and shows that it is: ends with `make demo`,
# every invariant held.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v go >/dev/null || { echo "setup: install Go first, the version of go.mod or newer" >&2; exit 1; }

missing=()
for tool in make git curl gcc; do command -v "$tool" >/dev/null || missing+=("$tool"); done
if [ "${#missing[@]}" -gt 0 ]; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q >/dev/null
  apt-get install -qy --no-install-recommends "${missing[@]}" libc6-dev >/dev/null # libc6-dev: for the race detector
fi
# The user who started the container owns the files, and git asks whether that is meant.
git config --global --get-all safe.directory 2>/dev/null | grep -qxF "$PWD" || git config --global --add safe.directory "$PWD"

make demo
