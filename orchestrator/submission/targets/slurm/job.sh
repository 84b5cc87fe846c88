# ---- From here on all jobs are alike.

# Only now: what a site's own lines leave unset is not ours to judge.
set -uo pipefail

running=  # the process that a signal is handed on to
deadline= # when it is killed, if it has not ended by itself
steps=()  # the srun processes; the first is the head's
address=  # of Ray's head

free_client_port='
import importlib.util, socket
probe = socket.socket()
probe.bind(("", 0))
print(probe.getsockname()[1] if importlib.util.find_spec("grpc") else "")
'
wait_for_nodes='
import sys, time
import ray
address, nodes, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
until = time.monotonic() + seconds
ray.init(address, logging_level="ERROR", log_to_driver=False)
while (up := sum(node["Alive"] for node in ray.nodes())) < nodes:
    if time.monotonic() > until:
        sys.exit(f"{up} of {nodes} nodes joined in {seconds:g} s (slurm.join_s)")
    time.sleep(1)
'

say() { printf '%(%F %T)T slurm: %s\n' -1 "$*"; }

refuse() {
    say "$*"
    exit 2
}

# Where they are needed, and only there: Slurm is handed every exported variable with each step.
read_secrets() {
    local name mode line value
    [[ -n $secrets_file ]] || return 0
    if ! mode=$(stat --dereference --format %a "$secrets_file") || [[ ! -r $secrets_file ]]; then
        refuse "slurm.secrets_file: $secrets_file cannot be read on $SLURMD_NODENAME"
    fi
    [[ $mode == *00 ]] || refuse "slurm.secrets_file: others may read $secrets_file: chmod 600 it"
    # Not as bash would: what stands in a password is no variable, command or comment.
    while IFS= read -r line || [[ -n $line ]]; do
        [[ $line =~ ^[[:space:]]*(export[[:space:]]+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$ ]] || continue
        name=${BASH_REMATCH[2]} value=${BASH_REMATCH[3]%$'\r'}
        if [[ $value =~ ^\"(.*)\"$ || $value =~ ^\'(.*)\'$ ]]; then value=${BASH_REMATCH[1]}; fi
        export "$name=$value"
    done <"$secrets_file"
    for name in $secret_names; do
        [[ -n ${!name:-} ]] || refuse "slurm.secrets_file: $secrets_file does not set $name"
    done
}

# The address at which the other nodes reach this one.
own_address() {
    local name found
    if ((nodes == 1)); then
        echo 127.0.0.1
        return
    fi
    name=$(scontrol show node "$SLURMD_NODENAME" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p')
    found=$(getent ahostsv4 "${name:-$SLURMD_NODENAME}" | awk 'NR == 1 { print $1 }')
    # Some systems map their own name to loopback.
    [[ -n $found && $found != 127.* ]] || found=$(hostname -I | awk '{ print $1 }')
    echo "$found"
}

# One Ray node, in a step of its own, until it is told to end. The first argument: the number of the step's first node.
ray_node() {
    local number=$(($1 + SLURM_NODEID)) place log ray status
    shift
    read_secrets
    place=$local_folder/ray-$SLURM_JOB_ID-$number
    log=$attempt/ray-$number.log
    # An attempt that was killed may have left it on this node; that of another user stays, and mkdir refuses.
    [[ ! -O $place ]] || rm -rf "$place"
    mkdir -m 700 "$place" || return 1
    # Two jobs may share a node, so no port is fixed.
    inside ray start --block --temp-dir "$place/ray" --node-ip-address "$(own_address)" \
        --num-cpus "$cpus" --num-gpus "$gpus" --resources "$resources" --object-store-memory "$object_store_bytes" \
        --dashboard-agent-listen-port 0 --min-worker-port 0 --max-worker-port 0 --disable-usage-stats "$@" \
        >"$log" 2>&1 &
    ray=$!
    trap ': >"$attempt/told"; kill -TERM "$ray" 2>/dev/null' TERM
    until wait "$ray"; status=$?; ! kill -0 "$ray" 2>/dev/null; do :; done
    if [[ -e $attempt/told ]]; then
        status=0
    else
        say "Ray ended on $SLURMD_NODENAME (exit status $status):"
        tail -n 20 "$log"
    fi
    rm -rf "$place"
    return "$status"
}

start_step() {
    local count=$1
    shift
    srun --export=ALL --nodes="$count" --ntasks="$count" --ntasks-per-node=1 --cpus-per-task="$cpus" "$@" &
    steps+=("$!")
}

start_ray() {
    local client=() port until=$((SECONDS + join_s)) place=$local_folder/ray-$SLURM_JOB_ID-0 found
    found=$place/ray/ray_current_cluster
    # An attempt that was killed may have left its address here.
    [[ ! -O $place ]] || rm -rf "$place"
    port=$(inside python -c "$free_client_port") || return 1
    [[ -z $port ]] || client=(--ray-client-server-port "$port")
    start_step 1 --nodelist="$SLURMD_NODENAME" \
        bash -c 'ray_node "$@"' ray_node 0 --head --port 0 --include-dashboard false "${client[@]}"
    until [[ -s $found ]]; do
        if [[ -n $told ]] || ! is_up || ((SECONDS > until)); then
            return 1
        fi
        sleep 1
    done
    address=$(<"$found")
    if ((nodes > 1)); then
        start_step $((nodes - 1)) --relative=1 bash -c 'ray_node "$@"' ray_node 1 --address "$address"
    fi
    run inside python -c "$wait_for_nodes" "$address" "$nodes" "$join_s"
}

is_up() { kill -0 "${steps[0]:-}" 2>/dev/null; }

# In the background, so that a signal is heard at once.
run() {
    local status
    "$@" &
    running=$!
    [[ -z $told ]] || kill -TERM "$running" 2>/dev/null # told before its number was known
    while kill -0 "$running" 2>/dev/null; do
        [[ -n $told ]] || is_up || interrupt lost "Ray's head is gone"
        [[ -z $deadline ]] || ((SECONDS < deadline)) || kill -KILL "$running"
        sleep 1 &
        wait "$!"
    done
    wait "$running"
    status=$?
    running=
    return "$status"
}

# The reason is "save" to go on later, "end" where Slurm ends the job, or "lost".
interrupt() {
    [[ $told == end ]] || told=$1
    say "$2; the sweep saves its state"
    [[ $told == lost ]] || : >"$attempt/told"
    [[ -z $deadline ]] || return # it is saving its state already, and a second signal would cut that short
    deadline=$((SECONDS + save_s))
    [[ -z $running ]] || kill -TERM "$running" 2>/dev/null
}

# Ray ends on every node and takes its temporary folder along.
end_ray() {
    local step until=$((SECONDS + 20))
    ((${#steps[@]} == 0)) || scancel --signal=TERM "$SLURM_JOB_ID" 2>/dev/null # the steps; not this shell
    for step in "${steps[@]}"; do
        while kill -0 "$step" 2>/dev/null && ((SECONDS < until)); do sleep 0.2; done
        kill -TERM "$step" 2>/dev/null # srun kills what is left of its step
        wait "$step"
    done
    steps=()
    rm -f "$attempt/token"
}

# How many attempts ended without having been told to: their node died, or Ray did.
lost_attempts() {
    local folder lost=0
    for folder in "$job_folder"/*/; do
        [[ $folder == "$attempt/" || -e $folder/told ]] || lost=$((lost + 1))
    done
    echo "$lost"
}

queue_again() {
    if ((restarts >= requeues)); then
        say "started again $restarts times, as often as slurm.requeues allows; submit it again to go on"
    elif [[ $(squeue --noheader --jobs "$SLURM_JOB_ID" --format %T) != RUNNING ]]; then
        say "no longer this job's to queue again"
    else
        trap 'exit 130' TERM # by which Slurm then ends this shell
        say "is queued again, to go on from here"
        scontrol requeue "$SLURM_JOB_ID" && sleep 60 &
        wait "$!"
    fi
    exit 130
}

main() {
    local status=130
    say "job $SLURM_JOB_ID, started again $restarts times, on $SLURM_JOB_NODELIST"
    ((restarts <= requeues)) || queue_again
    if (($(lost_attempts) > retries)); then
        say "lost $(lost_attempts) times, and retries allows $retries"
        exit 1
    fi
    (read_secrets) || exit
    rm -f "$job_folder"/*/token # of an attempt that was killed
    (umask 077 && head -c 32 /dev/urandom | base64 >"$attempt/token") || exit 1
    write_sweep >"$attempt/sweep.yaml" || exit 1
    if start_ray && [[ -z $told ]]; then
        say "Ray is up: $nodes nodes, head at $address"
        run sweep
        status=$?
        is_up || [[ -n $told ]] || told=lost
    else
        told=${told:-lost}
    fi
    [[ $told != lost || ! -e $attempt/told ]] || told=moved # the steps were told, and this shell was not
    end_ray                                                 # tells the steps that are left
    case $told in
        lost) rm -f "$attempt/told" ;;
        ?*) : >"$attempt/told" ;;
    esac
    case $told:$status in
        *:0 | :* | save:[12] | end:2) exit "$status" ;; # without Ray it refuses whatever it is given
        end:*) exit 130 ;;
    esac
    if [[ $told == lost ]] && (($(lost_attempts) >= retries)); then
        say "lost $(($(lost_attempts) + 1)) times, and retries allows $retries"
        exit 1
    fi
    queue_again
}

restarts=${SLURM_RESTART_COUNT:-0}
nodes=$SLURM_JOB_NUM_NODES
attempt=$job_folder/$restarts
((restarts > 0)) || rm -rf "$job_folder" # of a job that had this number long ago
mkdir -p "$attempt" && cd "$job_folder" || exit 1
trap 'interrupt save "Slurm wants the nodes back, or the time is up"' USR1
trap 'interrupt end "Slurm ends the job"' TERM
trap end_ray EXIT
unset RAY_ADDRESS RAY_AUTH_TOKEN # of the login shell
export PYTHONUNBUFFERED=1 RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$attempt/token" RAY_USAGE_STATS_ENABLED=0 \
    RAY_free_objects_period_milliseconds=100 RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0 \
    AUTOSCALER_METRIC_PORT=0 DASHBOARD_METRIC_PORT=0 \
    RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0 # when Ray is told to end, nothing on it is to be waited for
# On a node of its own Ray needs no one else; with this switch it listens on loopback only.
((nodes > 1)) || export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0
export attempt nodes local_folder secrets_file secret_names cpus gpus resources object_store_bytes
export -f say refuse inside read_secrets own_address ray_node
main
