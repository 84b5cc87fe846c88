#!/bin/sh
# Takes the settings of PostgreSQL's official image.
set -eu
if [ "$(id -u)" = 0 ]; then
    install -d -o postgres -g postgres /var/lib/postgresql/data /run/postgresql
    exec setpriv --reuid postgres --regid postgres --init-groups "$0"
fi
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
PGDATA=/var/lib/postgresql/data/base
# shellcheck disable=SC2086
initdb -D "$PGDATA" -U "$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" $POSTGRES_INITDB_ARGS >/dev/null
echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
pg_ctl -D "$PGDATA" -w -o '-c listen_addresses=' start >/dev/null
createdb -U "$POSTGRES_USER" "$POSTGRES_DB"
pg_ctl -D "$PGDATA" -w stop >/dev/null
exec postgres -D "$PGDATA" -c 'listen_addresses=*'
