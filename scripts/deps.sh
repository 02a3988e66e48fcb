#!/usr/bin/env bash
# Makes sure that there is a PostgreSQL and a RabbitMQ to start: addresses given,
# a Docker engine, or the server binaries. On Debian and Ubuntu it installs the
# two packages when none of these is there. Their system services are not started:
# everything of ours runs as private instances on free ports.
set -euo pipefail
cd "$(dirname "$0")/.."

have_given() { [ -n "${FAILWELL_POSTGRES_URL:-}" ] && [ -n "${FAILWELL_AMQP_URL:-}" ]; }
have_binaries() {
  { compgen -G '/usr/lib/postgresql/*/bin/initdb' || compgen -G '/usr/pgsql-*/bin/initdb' || command -v initdb; } >/dev/null &&
    compgen -G '/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server' >/dev/null
}
named() { sed -n "s/.*$1 *= \"\(.*\)\"/\1/p" shared/testenv/docker.go; }
# An engine without the images, and without a registry to pull them from, is no source.
have_docker() {
  command -v docker >/dev/null && docker info >/dev/null 2>&1 &&
    for image in "${POSTGRES_IMAGE:-$(named postgresImage)}" "${RABBITMQ_IMAGE:-$(named rabbitImage)}"; do
      docker image inspect "$image" >/dev/null 2>&1 || docker pull --quiet "$image" >/dev/null 2>&1 || return 1
    done
}

# One thing more, for what alone needs it: the tests of the live page a browser (deps.sh
# chromium), the alarms Prometheus and its promtool (deps.sh prometheus), one test of the
# ledger a pooler (deps.sh pgbouncer).
packages=(postgresql rabbitmq-server)
if [ -n "${1:-}" ]; then
  packages=("$1")
  ! command -v "$1" >/dev/null || exit 0
elif have_given || have_binaries || have_docker; then
  exit 0
fi
if ! command -v apt-get >/dev/null; then
  case "${1:-}" in
    "") echo "deps: install PostgreSQL (server) and RabbitMQ, or start Docker" >&2 ;;
    prometheus) echo "deps: install Prometheus, with promtool" >&2 ;;
  esac
  exit 1
fi
sudo=
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "deps: run as root: apt-get install ${packages[*]}" >&2; exit 1; }
  sudo=sudo
fi

echo "deps: installing ${packages[*]}" >&2
# 101 tells the packages' scripts not to start their services.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
  $sudo chmod 755 "$policy"
  trap '$sudo rm -f "$policy"' EXIT
fi
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive
install() { $sudo apt-get install -y -o Acquire::Retries=3 --no-install-recommends "${packages[@]}" >"$log" 2>&1; }
install || { $sudo apt-get update >"$log" 2>&1 && install; } || {
  tail -n 5 "$log" >&2
  echo "deps: apt-get failed, its output is in $log" >&2
  exit 1
}
rm -f "$log"
[ -n "${1:-}" ] || have_binaries || { echo "deps: the packages are installed, but their binaries are not where they were expected" >&2; exit 1; }
