#!/usr/bin/env bash
# Copies the repository and adds the fourth service to the copy, as docs/fork.md does
# it for containers: fourth.sh DIR.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
# block N: what step N of the page shows.
block() { awk -v step="**$1.**" 'index($0, step) == 1 { found = 1 } found && /^```/ { if (inside) exit; inside = 1; next } inside' "$root/docs/fork.md"; }

mkdir "$1"
tar -c --exclude=./.git --exclude=./.run --exclude=./bin . | tar -x -C "$1"
cd "$1"
mkdir -p services/loyalty/migrations
block 1 >services/loyalty/migrations/00001_loyalty.sql
block 2 >services/loyalty/config.go
block 3 >services/loyalty/main.go
block 6 >>scripts/init.sql
compose=$root/docker-compose.yml
{ sed '/^  ledger:$/,$d' "$compose"; block 8; echo; sed -n '/^  ledger:$/,$p' "$compose"; } >docker-compose.yml
