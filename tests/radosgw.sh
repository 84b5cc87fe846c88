#!/bin/sh
# A real S3 server on this machine's loopback for the tests of the artifact store: Ceph's object gateway over one
# monitor, one manager and one file as its disk. Nothing of it leaves FOLDER.
#
#   tests/radosgw.sh FOLDER PORT     start (PORT and the two after it must be free), or go on where a stopped one was
#   . FOLDER/environment             its address and keys: AREAM_TEST_S3, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY
#   tests/radosgw.sh stop FOLDER     stop it; the folder stays and may be removed
#
# Needs Ceph's programs. Debian: apt-get install --no-install-recommends radosgw ceph-mon ceph-mgr ceph-osd ceph-common
set -eu

usage() {
    sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

is_running() {
    # A zombie still answers to kill -0.
    kill -0 "$1" 2>/dev/null && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null
}

stop() {
    for daemon in client.rgw osd.0 mgr.x mon.a; do
        file="$1/run/$daemon.pid"
        [ -f "$file" ] || continue
        pid=$(cat "$file")
        # A number read from a file may by now be another program's.
        if grep -q -a -e "$1/ceph.conf" "/proc/$pid/environ" 2>/dev/null; then
            kill "$pid" 2>/dev/null || true
            waited=0
            while is_running "$pid"; do
                waited=$((waited + 1))
                [ "$waited" -lt 100 ] || { kill -9 "$pid" 2>/dev/null || true; break; }
                sleep 0.2
            done
        fi
        rm -f "$file"
    done
}

configure() {
    cat >"$folder/ceph.conf" <<CONFIGURATION
[global]
fsid = $(cat /proc/sys/kernel/random/uuid)
mon_initial_members = a
mon_host = [v2:127.0.0.1:$((port + 1)),v1:127.0.0.1:$((port + 2))]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
auth_allow_insecure_global_id_reclaim = false
keyring = $folder/keyring
run_dir = $folder/run
pid_file = $folder/run/\$name.pid
admin_socket = $folder/run/\$name.asok
log_file = $folder/log/\$name.log
mon_data = $folder/mon
mgr_data = $folder/mgr
osd_data = $folder/osd
rgw_data = $folder/rgw
mgr_initial_modules =

# One copy on one disk.
osd_pool_default_size = 1
osd_pool_default_min_size = 1
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
osd_crush_chooseleaf_type = 0
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off

# A sparse file; and a disk that others have nearly filled is no reason to refuse.
bluestore_block_create = true
bluestore_block_size = $((8 << 30))
bluestore_block_preallocate_file = false
osd_memory_target = $((1 << 30))
mon_data_avail_warn = 2
mon_data_avail_crit = 1

[client.rgw]
rgw_frontends = beast endpoint=127.0.0.1:$port
CONFIGURATION
}

new_key() {
    name=$1
    shift
    ceph-authtool "$folder/keyring" --name "$name" --gen-key "$@" >/dev/null
}

make_cluster() {
    configure
    ceph-authtool --create-keyring "$folder/keyring" >/dev/null
    new_key mon. --cap mon 'allow *'
    new_key client.admin --cap mon 'allow *' --cap mgr 'allow *' --cap osd 'allow *'
    new_key mgr.x --cap mon 'allow profile mgr' --cap osd 'allow *'
    new_key osd.0 --cap mon 'allow profile osd' --cap mgr 'allow profile osd' --cap osd 'allow *'
    new_key client.rgw --cap mon 'allow rw' --cap mgr 'allow rw' --cap osd 'allow rwx'
    monmaptool --create --fsid "$(sed -n 's/^fsid = //p' "$folder/ceph.conf")" \
        --addv a "[v2:127.0.0.1:$((port + 1)),v1:127.0.0.1:$((port + 2))]" "$folder/monmap" >/dev/null
    ceph-mon --mkfs -i a --monmap "$folder/monmap" --keyring "$folder/keyring"
    ceph-mon -i a
    ceph-mgr -i x
    disk=$(cat /proc/sys/kernel/random/uuid)
    number=$(ceph osd new "$disk")
    ceph auth import -i "$folder/keyring" 2>/dev/null
    ceph-osd -i "$number" --mkfs --osd-uuid "$disk" 2>>"$folder/log/start"
    ceph osd crush add "osd.$number" 1 root=default host=localhost 2>/dev/null
}

wait_for_gateway() {
    waited=0
    until "${PYTHON:-python3}" -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$port/', timeout=5)" 2>/dev/null; do
        waited=$((waited + 1))
        [ "$waited" -lt 240 ] || { echo "no answer on port $port; see $folder/log" >&2; exit 1; }
        sleep 0.5
    done
}

start() {
    for program in ceph ceph-mon ceph-mgr ceph-osd radosgw radosgw-admin; do
        command -v "$program" >/dev/null || { echo "$program is not installed; see the top of $0" >&2; exit 1; }
    done
    mkdir -p "$folder/mon" "$folder/mgr" "$folder/osd" "$folder/rgw" "$folder/run" "$folder/log"
    if [ -f "$folder/environment" ]; then
        port=$(sed -n 's/.*AREAM_TEST_S3=.*://p' "$folder/environment")
        ceph-mon -i a
        ceph-mgr -i x
    else
        make_cluster
    fi
    ceph-osd -i 0 >>"$folder/log/start" 2>&1
    radosgw -n client.rgw
    wait_for_gateway
    if [ ! -f "$folder/environment" ]; then
        secret=$(cat /proc/sys/kernel/random/uuid)
        radosgw-admin user create --uid=tests --display-name=tests --access-key=tests --secret-key="$secret" >/dev/null
        cat >"$folder/environment" <<EXPORTS
export AREAM_TEST_S3=http://127.0.0.1:$port
export AWS_ACCESS_KEY_ID=tests
export AWS_SECRET_ACCESS_KEY=$secret
EXPORTS
    fi
    echo "http://127.0.0.1:$port"
    echo "its keys: . $folder/environment"
}

[ $# -eq 2 ] || usage
if [ "$1" = stop ]; then
    [ -f "$2/ceph.conf" ] || { echo "$2: no server was started there" >&2; exit 1; }
    stop "$(cd "$2" && pwd)"
    exit 0
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
port=$2
export CEPH_CONF="$folder/ceph.conf"
trap 'status=$?; [ "$status" -eq 0 ] || stop "$folder"' EXIT
start
