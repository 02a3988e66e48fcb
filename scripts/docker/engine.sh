#!/usr/bin/env bash
# A private Docker engine for machines where none runs: root on Debian, its own
# socket and data. Nothing of the system's own Docker is touched.
#
#   eval "$(scripts/docker/engine.sh start)"     sets DOCKER_HOST
#   scripts/docker/engine.sh stop                ends it and removes its data
#
# Only one at a time: a second engine would take the first one's network bridge.
set -euo pipefail
dir=${FAILWELL_ENGINE_DIR:-/var/tmp/failwell-engine}
socket=unix://$dir/docker.sock

running() { [ -s "$dir/pid" ] && kill -0 "$(cat "$dir/pid")" 2>/dev/null && DOCKER_HOST=$socket docker info >/dev/null 2>&1; }

case "${1:-}" in
  start)
    if ! running; then
      [ "$(id -u)" -eq 0 ] || { echo "engine: must be root" >&2; exit 1; }
      if ! command -v dockerd >/dev/null || ! command -v debootstrap >/dev/null || ! command -v docker-compose >/dev/null; then
        echo "engine: installing docker.io, docker-compose and debootstrap" >&2
        policy=/usr/sbin/policy-rc.d # 101: do not start the service
        [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod 755 "$policy"; trap 'rm -f "$policy"' EXIT; }
        export DEBIAN_FRONTEND=noninteractive
        mkdir -p "$dir"
        install() { apt-get install -y -o Acquire::Retries=3 docker.io docker-compose debootstrap >"$dir/install" 2>&1; }
        install || { apt-get update >"$dir/install" 2>&1 && install; } ||
          { tail -n 20 "$dir/install" >&2; echo "engine: apt-get install docker.io docker-compose debootstrap failed" >&2; exit 1; }
      fi
      mkdir -p "$dir"
      setsid dockerd --host "$socket" --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/pid" --ip 127.0.0.1 \
        >"$dir/log" 2>&1 </dev/null &
      for _ in $(seq 1 100); do running && break; sleep 0.1; done
      running || { tail -n 5 "$dir/log" >&2; echo "engine: does not start, its log is $dir/log" >&2; exit 1; }
    fi
    echo "export DOCKER_HOST=$socket"
    ;;
  stop)
    if [ -s "$dir/pid" ]; then
      pid=$(cat "$dir/pid")
      kill "$pid" 2>/dev/null || true
      for _ in $(seq 1 200); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    fi
    [ "${2:-}" = keep ] || rm -rf "$dir"
    ;;
  status) running && echo "running, DOCKER_HOST=$socket" || { echo "not running"; exit 1; } ;;
  *) echo "usage: engine.sh start | stop [keep] | status" >&2; exit 2 ;;
esac
