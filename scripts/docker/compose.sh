#!/usr/bin/env bash
# docker compose, whichever version is here: `compose.sh up` builds, starts and
# waits until everything is healthy (more is for compose: `compose.sh up --scale orders=2`); `compose.sh down` removes it with its data;
# anything else is handed on.
set -euo pipefail
cd "$(dirname "$0")/../.."

if docker compose version >/dev/null 2>&1; then
  compose=(docker compose)
elif command -v docker-compose >/dev/null; then
  compose=(docker-compose)
else
  echo "compose: install Docker with its compose plugin (Debian: apt-get install docker.io docker-compose)" >&2
  exit 1
fi
docker info >/dev/null 2>&1 || {
  echo "compose: no Docker engine answers; as root on Debian: eval \"\$(scripts/docker/engine.sh start)\"" >&2
  exit 1
}

# All services of the file are there and healthy; one that has ended is not listed.
healthy() {
  local id n=0
  for id in $("${compose[@]}" ps -q); do
    [ "$(docker inspect -f '{{if .State.Health}}{{.State.Health.Status}}{{end}}' "$id")" = healthy ] || return 1
    n=$((n + 1))
  done
  [ "$n" -ge "$1" ]
}

# here VARIABLE: the image that it names, or that the file names in its place, is here or
# can be had.
here() {
  local said image=${!1:-$(sed -n "s/.*{$1:-\([^}]*\)}.*/\1/p" docker-compose.yml | head -n 1)}
  docker image inspect "$image" >/dev/null 2>&1 && return
  echo "pulling $image"
  said=$(docker pull -q "$image" 2>&1) || {
    echo "compose: no $image ($(tail -n 1 <<<"$said" | cut -c1-120)): set $1 to an image that you have, or, as root on Debian: eval \"\$(scripts/docker/standins.sh)\"" >&2
    exit 1
  }
}

case "${1:-}" in
  up)
    for image in POSTGRES_IMAGE RABBITMQ_IMAGE BUILDER_IMAGE; do here "$image"; done
    "${compose[@]}" build
    "${compose[@]}" up -d "${@:2}"
    # What a profile starts is not started by this; compose 1.29 lists it all the same.
    services=$("${compose[@]}" config --services | grep -cv '^observe$')
    deadline=$((SECONDS + 120))
    while [ "$SECONDS" -lt "$deadline" ]; do
      if healthy "$services"; then
        ! grep -q '^  lab:$' docker-compose.yml || echo "live     http://127.0.0.1:${LAB_PORT:-8080}"
        echo "orders   http://127.0.0.1:${ORDERS_PORT:-8081}"
        echo "payments http://127.0.0.1:${PAYMENTS_PORT:-8082}"
        echo "ledger   http://127.0.0.1:${LEDGER_PORT:-8083}"
        echo "sandbox  http://127.0.0.1:${SANDBOX_PORT:-8084}"
        echo "RabbitMQ http://127.0.0.1:${RABBITMQ_PORT:-15672} (failwell/failwell)"
        exit 0
      fi
      sleep 0.2
    done
    "${compose[@]}" ps
    echo "compose: not healthy after two minutes" >&2
    exit 1
    ;;
  # Also what a profile has started.
  down) COMPOSE_PROFILES=observe "${compose[@]}" down --volumes --remove-orphans ;;
  *) "${compose[@]}" "$@" ;;
esac
