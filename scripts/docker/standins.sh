#!/usr/bin/env bash
# Builds local stand-ins for the official images, for machines that can reach no
# container registry: PostgreSQL and RabbitMQ from Debian's own packages, and a
# builder from the Go toolchain and the modules of this machine. They carry tags
# of their own and never pretend to be the official ones:
#
#   eval "$(scripts/docker/standins.sh)"     builds what is missing, sets
#                                            POSTGRES_IMAGE, RABBITMQ_IMAGE, BUILDER_IMAGE
#
# Needs root, debootstrap and a Docker engine (scripts/docker/engine.sh).
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD/scripts/docker/standins
work=$(mktemp -d /var/tmp/failwell-standins-XXXXXX)
trap 'rm -rf "$work"' EXIT

# An image is as good as its recipe: these two files.
recipe() { cat scripts/docker/standins.sh "$here/$1" | sha256sum | cut -c1-16; }
have() { [ "$(docker image inspect -f '{{index .Config.Labels "recipe"}}' "$1" 2>/dev/null)" = "$2" ]; }
say() { echo "standins: $*" >&2; }

base() {
  [ -d "$work/base" ] && return
  say "debootstrap"
  debootstrap --variant=minbase bookworm "$work/base" >"$work/log" 2>&1 || { tail -n 5 "$work/log" >&2; exit 1; }
  rm -rf "$work"/base/var/cache/apt/archives/*.deb
  printf '#!/bin/sh\nexit 101\n' >"$work/base/usr/sbin/policy-rc.d" # no services in a chroot
  chmod 755 "$work/base/usr/sbin/policy-rc.d"
}

# packaged IMAGE ENTRYPOINT PACKAGES…: the base, the packages, the entry point.
packaged() {
  local image=$1 entry=$2
  shift 2
  base
  say "$image: $*"
  cp -a "$work/base" "$work/root"
  cp /etc/resolv.conf "$work/root/etc/resolv.conf"
  DEBIAN_FRONTEND=noninteractive chroot "$work/root" apt-get install -y -o Acquire::Retries=3 --no-install-recommends "$@" >"$work/log" 2>&1 ||
    { tail -n 5 "$work/log" >&2; exit 1; }
  rm -rf "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/*
  install -m 755 "$here/$entry" "$work/root/usr/local/bin/entrypoint"
  tar -C "$work/root" -c . | docker import "${changes[@]}" --change "LABEL recipe=$(recipe "$entry")" - "$image" >/dev/null
  rm -rf "$work/root"
}

if ! have failwell/postgres:local "$(recipe postgres.sh)"; then
  changes=(--change 'ENTRYPOINT ["/usr/local/bin/entrypoint"]' --change 'CMD ["postgres"]' --change 'EXPOSE 5432'
    --change 'ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin')
  packaged failwell/postgres:local postgres.sh postgresql-15
fi
if ! have failwell/rabbitmq:local "$(recipe rabbitmq.sh)"; then
  changes=(--change 'ENTRYPOINT ["/usr/local/bin/entrypoint"]' --change 'EXPOSE 5672 15672'
    --change 'ENV HOME=/var/lib/rabbitmq')
  packaged failwell/rabbitmq:local rabbitmq.sh rabbitmq-server
fi

# The builder carries the modules of this go.mod, so it is as old as go.sum and this recipe.
sum=$(sha256sum go.mod go.sum scripts/docker/standins.sh | sha256sum | cut -c1-12)
if ! docker image inspect "failwell/builder:$sum" >/dev/null 2>&1; then
  base
  say "failwell/builder:$sum"
  cp /etc/resolv.conf "$work/base/etc/resolv.conf"
  chroot "$work/base" apt-get install -y -o Acquire::Retries=3 --no-install-recommends ca-certificates >"$work/log" 2>&1 || { tail -n 5 "$work/log" >&2; exit 1; }
  root=$(go env GOROOT)
  # Taken from the modules that are here already; only what is missing is fetched.
  GOMODCACHE=$work/modules GOFLAGS=-modcacherw GOPROXY="file://$(go env GOMODCACHE)/cache/download,$(go env GOPROXY)" GONOSUMDB='*' GONOSUMCHECK=1 \
    go mod download >"$work/log" 2>&1 || { tail -n 5 "$work/log" >&2; exit 1; }
  mkdir -p "$work/base/usr/local" "$work/base/modules"
  cp -a "$root" "$work/base/usr/local/go"
  cp -a "$work/modules/cache/download/." "$work/base/modules/"
  tar -C "$work/base" -c . | docker import \
    --change 'ENV PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    --change 'ENV GOPROXY=file:///modules' --change 'ENV GOTOOLCHAIN=local' --change 'ENV GONOSUMDB=*' --change 'ENV GOFLAGS=-buildvcs=false' \
    - "failwell/builder:$sum" >/dev/null
fi
echo "export POSTGRES_IMAGE=failwell/postgres:local RABBITMQ_IMAGE=failwell/rabbitmq:local BUILDER_IMAGE=failwell/builder:$sum"
