#!/usr/bin/env bash
# F60 on PostgreSQL, by hand and as root: a cluster on a small disk of its own, filled while carts are made.
#
#   docs/drills/full-disk-postgresql.sh /usr/lib/postgresql/15/bin
#
# Expected: 201 before; 503 while the disk is full; 201 again after it is emptied, without restarting anything.
set -euo pipefail
cd "$(dirname "$0")/../.."
binaries=${1:?the folder with initdb and postgres}
disk=$(mktemp -d)
port=$((20000 + RANDOM % 20000)) web=$((40000 + RANDOM % 20000))
trap 'kill $(jobs -p) 2>/dev/null || true; sleep 1; umount -l "$disk"; rmdir "$disk"; rm "$disk.log"' EXIT

mount -t tmpfs -o size=160m shop "$disk"
chown postgres "$disk"
setpriv --reuid postgres --regid postgres --clear-groups \
    "$binaries/initdb" -D "$disk/data" -U postgres -A trust --no-sync >/dev/null
setpriv --reuid postgres --regid postgres --clear-groups \
    "$binaries/postgres" -D "$disk/data" -p "$port" -k "" -c listen_addresses=127.0.0.1 2>"$disk.log" &
until "$binaries/pg_isready" -q -h 127.0.0.1 -p "$port"; do sleep 0.2; done

export DEBUG=1 DATABASE_URL=postgres://postgres@127.0.0.1:$port/postgres
.venv/bin/python manage.py migrate --verbosity 0
.venv/bin/python manage.py serve --port "$web" &
until curl -fsS "http://127.0.0.1:$web/health/ready/" >/dev/null; do sleep 0.5; done

post() { curl -sS -o /dev/null -w '%{http_code}\n' -X POST -H 'Content-Type: application/json' -d '{}' "http://127.0.0.1:$web/api/carts/"; }
echo "before:        $(post)"
dd if=/dev/zero of="$disk/ballast" bs=4k 2>/dev/null || true
for _ in $(seq 400); do answer=$(post); [ "$answer" = 503 ] && break; done
echo "full:          $answer   (503 expected)"
rm "$disk/ballast"
until [ "$(post)" = 201 ]; do sleep 0.5; done
echo "emptied again: 201"
