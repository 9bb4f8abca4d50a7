#!/usr/bin/env bash
# Private nfs-ganesha servers on loopback for tests, the demo and benchmarks. Knows nothing of farswap itself.
#
#   ganesha.sh start DIR [--export PATH[,OPTION]...]...   starts a server, prints the URL of its first export
#   ganesha.sh kill DIR                                   ends it as a crash would (SIGKILL)
#   ganesha.sh restart DIR                                starts it again: same ports, same exports, same files
#   ganesha.sh stop DIR                                   ends it; DIR and the exported files stay
#
# or `source` it and call ganesha_start, ganesha_kill, ganesha_restart and ganesha_stop with the same arguments.
# DIR (made if need be) takes the configuration, the log and `env`, which can be sourced:
#   GANESHA_URL GANESHA_EXPORT GANESHA_NFS_PORT GANESHA_MOUNT_PORT GANESHA_QUERY GANESHA_PID
# Without --export, DIR/export is exported. An export path is absolute, on ext4 or another file system with file
# handles. Options: `ro` makes it read-only, `squash` maps root to nobody, `secure` serves ports below 1024 only, and
# with `mem` it is ganesha's MEM back end (package nfs-ganesha-mem), which lies: it keeps 2 MiB of a file, takes what is
# written behind them and forgets it. Any number of servers may run at once, each with a DIR of its own. Needs root
# (open_by_handle_at) and the packages nfs-ganesha, nfs-ganesha-vfs and rpcbind.

ganesha_state=/run/farswap-ganesha # the rpcbind that we started, and the servers that use it
ganesha_serve_s_max=10             # longest wait until a server answers
ganesha_starts_max=3               # ... and how often one is started that ends at once or does not answer

ganesha_error() {
    echo "ganesha.sh: $*" >&2
    return 1
}

# Runs "$@" alone among all users of this library on the machine: free ports and rpcbind are shared.
ganesha_exclusively() {
    mkdir -p "$ganesha_state/users" || return 1
    (
        flock 9 || exit 1
        "$@"
    ) 9>"$ganesha_state/lock"
}

ganesha_answers() { # PROGRAM PORT: a NULL call over TCP
    # By address: with -n and -t rpcinfo takes the port that rpcbind names, which is that of the server started last.
    timeout 2 rpcinfo -a "127.0.0.1.$(($2 / 256)).$(($2 % 256))" -T tcp "$1" 3 >/dev/null 2>&1
}

ganesha_rpcbind_up() {
    local _
    timeout 2 rpcinfo -p 127.0.0.1 >/dev/null 2>&1 && return 0
    mkdir -p /run/rpcbind
    # Plain: with -h 127.0.0.1 Debian 12's rpcbind aborts with a double free.
    setsid rpcbind -f </dev/null >"$ganesha_state/rpcbind.log" 2>&1 9>&- &
    echo $! >"$ganesha_state/rpcbind.pid"
    for _ in $(seq 100); do
        timeout 2 rpcinfo -p 127.0.0.1 >/dev/null 2>&1 && return 0
        sleep 0.05
    done
    ganesha_error "rpcbind does not answer; see $ganesha_state/rpcbind.log"
}

# Ends rpcbind when it is ours and no server of ours is left.
ganesha_rpcbind_down() {
    local user pid
    for user in "$ganesha_state"/users/*; do
        [ -e "$user" ] || continue
        ganesha_runs "${user##*/}" && return 0
        rm -f "$user"
    done
    pid=$(cat "$ganesha_state/rpcbind.pid" 2>/dev/null) || return 0
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = rpcbind ] && kill "$pid"
    rm -f "$ganesha_state/rpcbind.pid"
}

ganesha_free_port() { # below the ephemeral range, where outgoing connections do not land
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        [ "$port" != "${1-}" ] && ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && echo "$port" && return 0
    done
}

ganesha_export_block() { # ID PATH[,ro][,squash]
    local path=${2%%,*} access=RW squash=No_Root_Squash fsal=VFS secure=false
    case ",${2#*,}," in *,ro,*) access=RO ;; esac
    case ",${2#*,}," in *,squash,*) squash=Root_Squash ;; esac
    case ",${2#*,}," in *,mem,*) fsal=MEM ;; esac
    case ",${2#*,}," in *,secure,*) secure=true ;; esac
    cat <<END
EXPORT {
    Export_Id = $1; Path = "$path"; Pseudo = "$path"; Access_Type = $access; Squash = $squash;
    SecType = sys, none; Protocols = 3, 4; Transports = TCP; PrivilegedPort = $secure;
    FSAL { Name = $fsal; }
}
END
}

ganesha_config() { # NFS_PORT MOUNT_PORT EXPORT...
    local id=0 spec
    cat <<END
NFS_CORE_PARAM {
    NFS_Port = $1; MNT_Port = $2; Bind_addr = 127.0.0.1; Protocols = 3, 4;
    Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false;
}
NFSv4 { Graceless = true; }
END
    shift 2
    case "$*" in *,mem*) echo "MEM { Inode_Size = 2097152; }" ;; esac
    for spec; do ganesha_export_block $((id += 1)) "$spec"; done
}

# Starts the daemon on DIR's configuration and waits until both services answer. Under the lock.
ganesha_launch() { # DIR NFS_PORT MOUNT_PORT [TRY]
    local dir=$1 pid epoch started=$SECONDS
    ganesha_rpcbind_up || return 1
    rm -f "$dir/ganesha.pid"
    # The write verifier is made from the epoch, which is whole seconds unless it is given: a server that restarted
    # within one would pass for the same.
    epoch=$(($(date +%s%N) / 10000000 % 2147483648))
    setsid ganesha.nfsd -F -E "$epoch" -L "$dir/ganesha.log" -p "$dir/ganesha.pid" -f "$dir/ganesha.conf" \
        </dev/null >>"$dir/ganesha.out" 2>&1 9>&- &
    pid=$!
    until ganesha_answers 100003 "$2" && ganesha_answers 100005 "$3"; do
        if ! kill -0 "$pid" 2>/dev/null || [ $((SECONDS - started)) -gt "$ganesha_serve_s_max" ]; then
            kill -KILL "$pid" 2>/dev/null
            if [ "${4-1}" -lt "$ganesha_starts_max" ]; then
                ganesha_launch "$dir" "$2" "$3" $((${4-1} + 1))
                return
            fi
            ganesha_error "nfs-ganesha does not serve; see $dir/ganesha.log: $(tail -n 1 "$dir/ganesha.log" 2>/dev/null)"
            return 1
        fi
        sleep 0.02
    done
    # A server that found rpcbind gone (another run's last server took it down) answers for a moment and then stops.
    sleep 0.1
    if ! kill -0 "$pid" 2>/dev/null; then
        if [ "${4-1}" -ge "$ganesha_starts_max" ]; then
            ganesha_error "nfs-ganesha stopped at once; see $dir/ganesha.log"
            return 1
        fi
        ganesha_launch "$dir" "$2" "$3" $((${4-1} + 1))
        return
    fi
    : >"$ganesha_state/users/$pid"
    sed -i '/^GANESHA_PID=/d' "$dir/env"
    echo "GANESHA_PID=$pid" >>"$dir/env"
}

ganesha_configure_and_launch() { # DIR EXPORT...
    local dir=$1 nfs mount query first=${2%%,*}
    shift
    nfs=$(ganesha_free_port)
    mount=$(ganesha_free_port "$nfs")
    query="version=3&nfsport=$nfs&mountport=$mount"
    ganesha_config "$nfs" "$mount" "$@" >"$dir/ganesha.conf"
    printf '%s\n' "GANESHA_EXPORT='$first'" "GANESHA_NFS_PORT=$nfs" "GANESHA_MOUNT_PORT=$mount" \
        "GANESHA_QUERY='$query'" "GANESHA_URL='nfs://127.0.0.1$first?$query'" >"$dir/env"
    ganesha_launch "$dir" "$nfs" "$mount"
}

ganesha_start() { # DIR [--export SPEC]...
    local dir spec exports=()
    [ -n "${1-}" ] || { ganesha_error "start needs a directory"; return 2; }
    [ "$(id -u)" = 0 ] || { ganesha_error "must be root: the VFS back end opens files by handle"; return 1; }
    for spec in ganesha.nfsd rpcbind rpcinfo flock; do
        command -v "$spec" >/dev/null ||
            { ganesha_error "$spec is missing: apt-get install nfs-ganesha nfs-ganesha-vfs rpcbind"; return 1; }
    done
    mkdir -p "$1" && dir=$(cd "$1" && pwd) || return 1
    shift
    while [ $# -gt 0 ]; do
        [ "$1" = --export ] && [ -n "${2-}" ] || { ganesha_error "unknown argument $1"; return 2; }
        exports+=("$2")
        shift 2
    done
    [ ${#exports[@]} -gt 0 ] || exports=("$dir/export")
    for spec in "${exports[@]}"; do mkdir -p "${spec%%,*}" || return 1; done
    ganesha_exclusively ganesha_configure_and_launch "$dir" "${exports[@]}" || return 1
    (source "$dir/env" && echo "$GANESHA_URL")
}

ganesha_restart() { # DIR
    ( source "$1/env" && ganesha_exclusively ganesha_launch "$(cd "$1" && pwd)" "$GANESHA_NFS_PORT" "$GANESHA_MOUNT_PORT" )
}

# Ours, and any of its threads alive: the first may be a zombie long before the last has gone, with which the sockets
# are closed. One that is dead in all its threads, and that nobody has reaped yet, does not run.
ganesha_runs() { # PID
    grep -qs '^[0-9]* (ganesha.nfsd) ' "/proc/$1/stat" && grep -qs ') [^ZX] ' /proc/"$1"/task/*/stat
}

# Signals DIR's server and waits until it is gone, at most 10 s before it is killed; no server is no error.
ganesha_end() { # DIR SIGNAL
    local waited=0
    [ -e "$1/env" ] || return 0
    (
        source "$1/env"
        ganesha_runs "${GANESHA_PID:-none}" && kill "-$2" "$GANESHA_PID"
        while ganesha_runs "${GANESHA_PID:-none}"; do
            [ $((waited += 20)) -lt 10000 ] || kill -KILL "$GANESHA_PID" 2>/dev/null
            sleep 0.02
        done
    )
}

ganesha_kill() { ganesha_end "$1" KILL; }

ganesha_stop() { # DIR
    ganesha_end "$1" TERM || return 1
    ganesha_exclusively ganesha_rpcbind_down
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -u
    command=${1-}
    [ $# -gt 0 ] && shift
    case $command in
    start | restart | kill | stop)
        [ -n "${1-}" ] || { ganesha_error "$command needs a directory"; exit 2; }
        "ganesha_$command" "$@"
        ;;
    *)
        sed -n 's/^#   //p' "$0" >&2
        exit 2
        ;;
    esac
fi
