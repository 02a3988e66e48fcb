#!/bin/bash
# Entry point of the PostgreSQL stand-in: the parts of the official image's
# behaviour that docker-compose.yml and the tests rely on. POSTGRES_PASSWORD, the
# scripts in /docker-entrypoint-initdb.d at the first start, arguments for the server.
set -euo pipefail
export PGDATA=/var/lib/postgresql/standin
drop() { setpriv --reuid postgres --regid postgres --init-groups "$@"; }

mkdir -p "$PGDATA" /run/postgresql
chown -R postgres:postgres /var/lib/postgresql /run/postgresql
chmod 700 "$PGDATA"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  password=$(mktemp)
  chown postgres "$password"
  echo "$POSTGRES_PASSWORD" >"$password"
  drop initdb -A scram-sha-256 --auth-local=trust -U postgres --pwfile="$password" -E UTF8 --locale=C.UTF-8 >/dev/null
  rm "$password"
  echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
  # Only on the socket: no other container sees the server before it is set up.
  drop pg_ctl -w -o "-c listen_addresses=''" start >/dev/null
  for script in /docker-entrypoint-initdb.d/*.sql; do
    [ -e "$script" ] && drop psql -q -v ON_ERROR_STOP=1 -U postgres -f "$script"
  done
  drop pg_ctl -w stop >/dev/null
fi
[ "${1:-postgres}" = postgres ] && shift
exec setpriv --reuid postgres --regid postgres --init-groups postgres -c 'listen_addresses=*' "$@"
