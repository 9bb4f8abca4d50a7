#!/bin/bash
# The checks of booted.py, run by a unit of the booted machine: farswap and farswapd as an administrator and two ordinary users have
# them, under systemd, in the order of docs/farswapd.md. /booted has the programs that get paged. Reports on its standard output:
#   VM: ready KERNEL      VM: pass NAME: WHAT WAS SEEN      VM: fail NAME: WHAT WAS SEEN      VM: note NAME: WHAT      VM: done
# alice is in the group farswap, bob is not.
# shellcheck disable=SC2016,SC2034  # conditions are given in quotes and looked at later
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/ SYSTEMD_PAGER='' SYSTEMD_COLORS=0
config=/etc/farswap/farswapd.toml
newline=$'\n'
limit_s=900       # of a program
wait_limit_s=300  # of anything else that a check waits for

one_line() {
    local text=${1//$'\n'/ / }
    echo "${text:0:$2}"
}

# expect NAME SEEN CONDITION: one line, by the condition, an expression of bash over the caller's variables.
expect() {
    if eval "$3"; then
        echo "VM: pass $1: $(one_line "$2" 400)"
    else
        echo "VM: fail $1: $(one_line "$2" 3000)"
    fi
}

note() {
    echo "VM: note $1: $(one_line "$2" 1000)"
}

# as USER PROGRAM [ARGUMENT]...: in all groups that the user has now.
as() {
    local user=$1
    shift
    (cd / && exec setpriv --reuid="$user" --regid="$user" --init-groups -- timeout "$limit_s" "$@") </dev/null
}

# wait_until CONDITION
wait_until() {
    local deadline=$((SECONDS + wait_limit_s))
    until eval "$1"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.3
    done
}

# What farswapd has said since the last call of new_journal.
journal() {
    journalctl --sync
    journalctl -u farswapd.service -o cat -q --no-pager --after-cursor "$cursor"
}
new_journal() {
    journalctl --sync
    cursor=$(journalctl -n 1 -q --show-cursor -o cat --no-pager | sed -n 's/^-- cursor: //p')
}

state_of() {
    local unit
    for unit in "$@"; do echo "$unit $(systemctl is-active "$unit") $(systemctl is-enabled "$unit" 2>&1)"; done
}

pids_of_farswapd() {
    cat /sys/fs/cgroup/system.slice/farswapd.service/cgroup.procs 2>/dev/null
}

look_at_the_boot() {
    local state failed seen
    state=$(timeout 300 systemctl is-system-running --wait)
    failed=$(systemctl --failed --plain --no-legend)
    expect "booted" "$state $failed" '[[ $state == running && -z $failed ]]'
    seen=$(getent group farswap; systemctl show -p ExecMainStatus -p ActiveState systemd-sysusers.service)
    expect "sysusers made the group" "$seen" '[[ $seen == farswap:x:* ]]'
    seen=$(state_of farswapd.socket farswapd-budget.socket farswapd.service
        stat -c '%n %A %U:%G' /run/farswapd.sock /run/farswapd.sock.budget)
    expect "sockets listen, the service waits" "$seen" '[[ $seen == *"farswapd.socket active enabled"* &&
        $seen == *"farswapd-budget.socket active enabled"* && $seen == *"farswapd.service inactive"* &&
        $seen == *"/run/farswapd.sock srw-rw---- root:farswap"* && $seen == *"/run/farswapd.sock.budget srw-rw-rw- root:root"* ]]'
    seen=$(systemd-analyze verify --man=no farswapd.service farswapd.socket farswapd-budget.socket 2>&1)
    expect "systemd-analyze verify says nothing" "$seen" '[[ -z $seen ]]'
}

refused() {
    local out
    out=$(as bob farswap run --ram 64M -- true 2>&1)
    local status=$?
    expect "who is not in the group is refused" "$status: $out" \
        '[[ $status == 125 && $out == "farswap: "*userfaultfd*"usermod -aG farswap"* && $out != *$newline* ]]'
}

ordinary_user() {
    local out status plain far stats
    new_journal
    out=$(as alice farswap check 2>&1)
    status=$?
    expect "check of who is in the group" "$status: $out" \
        '[[ $status == 0 && $out == *"a userfaultfd by farswapd, its fork event by farswapd"* ]]'
    out=$(systemctl status farswapd.service 2>&1)
    expect "farswapd was activated by its socket" "$out" \
        '[[ $out == *"active (running)"* && $out == *"TriggeredBy:"*"farswapd.socket"* && $out == *"farswapd-budget.socket"* ]]'
    plain=$(sort -S 1G /booted/lines | sha256sum)
    far=$(as alice farswap run --ram 64M --swap file:/var/tmp --stats /tmp/sort.json -- sort -S 1G /booted/lines 2>/tmp/sort.said |
        sha256sum)
    stats=$(tr -d ' \n' </tmp/sort.json)
    expect "sort has the same bytes" "$(cat /tmp/sort.said)" '[[ $plain == "$far" && $stats == *\"out\":[1-9]* ]]'
    out=$(as alice farswap run --ram 64M --swap file:/var/tmp -- /booted/verify --size 160M --operations 400 2>&1)
    status=$?
    expect "a verifying program has the right bytes" "$status: $out" '[[ $status == 0 && $out == *"pages    out"* ]]'
    out=$(as alice farswap run --ram 40M --swap file:/var/tmp -- /booted/fork_tree --filler 48M --rounds 1 --dir /var/tmp 2>&1)
    status=$?
    expect "a program that forks has the right bytes" "$status: $out" \
        '[[ $status == 0 && $out == *"pages    out"* && $out != *"stays in RAM"* ]]'
    out=$(journal)
    expect "the journal has a line for each hand-out" "$out" '[[ $out == *"farswapd: serves whom the socket"?"s mode lets in"* &&
        $out == *"farswapd: user 1000, process "*": a descriptor of /dev/userfaultfd"* &&
        $out == *"farswapd: user 1000, process "*": the fork event of a userfaultfd"* && $out != *refused* ]]'
}

confinement() {
    local seen="" pid good=1 status
    farswap budget >/dev/null 2>&1  # is answered by it, so that it runs
    for pid in $(pids_of_farswapd); do
        status=$(grep -E '^(CapBnd|CapEff|NoNewPrivs|Seccomp):' "/proc/$pid/status" | tr '\t\n' '  ')
        seen+="$(cat "/proc/$pid/comm") $status; "
        # CAP_SYS_PTRACE is 19: 0x80000. The one that divides the budget has none.
        [[ $status =~ CapEff:\ 00000000000(8|0)0000\  && $status == *"NoNewPrivs: 1 "*"Seccomp: 2"* ]] || good=0
    done
    expect "farswapd has one capability, its broker none" "$seen" '[[ $good == 1 && $seen == *"CapEff: 0000000000080000"*"CapEff: 0000000000000000"* ]]'
    seen=$(systemd-analyze security --no-pager farswapd.service 2>&1)
    note "systemd-analyze security" "$(tail -n 1 <<<"$seen")"
}

# set_config LINE...
set_config() {
    printf '%s\n' "$@" >"$config"
}

# cap_is USER MIB: by `farswap budget`, a sixth more or less.
cap_is() {
    farswap budget 2>&1 | awk -v user="$1" -v mib="$2" '$2 == user && $4 == "MiB" && $3 > mib * 5 / 6 && $3 < mib * 7 / 6 { is = 1 }
        END { exit !is }'
}

# Rounds of a verifying program by alice until there is a file; each executes it anew, so that the helper is wanted again and again.
start_rounds() {
    rm -f /tmp/stop /tmp/rounds
    install -o alice /dev/null /tmp/rounds
    limit_s=3000 as alice farswap run --swap file:/var/tmp -- sh -c 'until [ -e /tmp/stop ]; do /booted/verify --size 260M --threads 2 --operations 30 || exit 1
        echo round >>/tmp/rounds; done' >/tmp/rounds.said 2>&1 &
    rounds=$!
}
rounds_done() {
    wc -l </tmp/rounds
}
another_round() {
    local before
    before=$(rounds_done)
    wait_until '(($(rounds_done) > before)) || ! kill -0 $rounds 2>/dev/null'
}

reload() {
    local out status plain
    set_config '[machine]' 'ram = "75%"'
    plain=$(farswapd --check-config "$config")
    new_journal
    systemctl reload farswapd
    status=$?
    wait_until '[[ $(journal) == *eloaded* ]]'
    out=$(journal)
    # The sandbox hides much of /proc: the machine's RAM has to be the same in it.
    expect "reload with a budget" "$status: $out (outside of systemd: $plain)" \
        '[[ $status == 0 && $out == *"farswapd: reloaded $config: ${plain#*in order, } for at most 128 jobs; jobs that run: 0"* ]]'
}

budget() {
    local out status second
    set_config '[machine]' 'ram = "240M"' '[defaults]' 'swap = ["file:/var/tmp"]' 'ram-least = "48M"' '[[user]]' 'name = "alice"' 'weight = 1' \
        '[[user]]' 'name = "bob"' 'allow = false'
    new_journal
    systemctl reload farswapd
    start_rounds
    wait_until 'cap_is alice 240'
    another_round
    expect "one job has all of the budget" "$(farswap budget)" 'cap_is alice 240'
    farswap run --quiet -- /booted/verify --size 200M --seconds 600 >/tmp/second.said 2>&1 &
    second=$!
    wait_until 'cap_is alice 120 && cap_is root 120'
    expect "two users have half each" "$(farswap budget)" 'cap_is alice 120 && cap_is root 120'
    kill $second
    wait $second
    wait_until 'cap_is alice 240'
    out=$(journal)
    expect "the journal tells of shares" "$out" '[[ $out == *"user 1000, process "*": granted 240 MiB of "*" asked; 240 MiB of 240 MiB are held"* &&
        $out == *"user 1000, process "*": cap "*" instead of 240 MiB"* && $out == *"user 0, process "*": granted "*" of 240 MiB are held"* &&
        $out == *"user 0, process "*": released "*" of 240 MiB are held"* ]]'
    usermod -aG farswap bob
    out=$(as bob farswap run -- true 2>&1)
    status=$?
    expect "whom the file does not allow is refused" "$status: $out" \
        '[[ $status == 125 && $out == "farswap: farswapd: this user may not run jobs here: ask the administrator" && $out != *$newline* ]]'
}

# While the rounds go on.
reload_and_restart() {
    local out status restarts
    set_config '[machine]' 'ram = "200M"' '[defaults]' 'swap = ["file:/var/tmp"]'
    new_journal
    systemctl reload farswapd
    wait_until 'cap_is alice 200'
    out=$(journal)
    expect "reload with another budget" "$out" 'cap_is alice 200 &&
        [[ $out == *"farswapd: reloaded $config: a budget of 200 MiB for at most 128 jobs; jobs that run: 1"* ]]'
    set_config '[machine]' 'ram = "200M"' 'rum = 1'
    new_journal
    systemctl reload farswapd
    status=$?
    wait_until '[[ $(journal) == *"not reloaded"* ]]'
    out=$(journal)
    expect "reload with a mistake" "$status: $out" '[[ $out == *"farswapd: not reloaded: $config:3:1: [machine] has no "?rum?"; it has ram, jobs-max, others; what was in force stays"* &&
        $(systemctl is-active farswapd) == active ]] && cap_is alice 200'
    set_config '[machine]' 'ram = "200M"'
    new_journal
    systemctl restart farswapd
    status=$?
    wait_until '[[ $(journal) == *"came back with a cap of "* ]]'
    another_round
    wait_until '[[ $(journal) == *"the fork event"* ]] || ! kill -0 $rounds 2>/dev/null'
    out=$(journal)
    expect "restart while a job runs" "$status: $out" '[[ $status == 0 && $out == *"came back with a cap of "* &&
        $out == *"the fork event"* ]] && cap_is alice 200 && kill -0 $rounds'
    new_journal
    systemctl kill --kill-whom=main --signal=KILL farswapd
    wait_until '[[ $(journal) == *"came back with a cap of "* ]]'
    another_round
    restarts=$(systemctl show -p NRestarts --value farswapd)
    out=$(journal)
    expect "farswapd is killed while a job runs" "restarts: $restarts: $out" \
        '[[ $restarts == 1 && $out == *"came back with a cap of "* ]] && cap_is alice 200 && kill -0 $rounds'
    new_journal
    systemctl restart farswapd.socket farswapd-budget.socket
    status=$?
    wait_until '[[ $(journal) == *"came back with a cap of "* ]]'
    another_round
    out=$(state_of farswapd.socket farswapd-budget.socket farswapd.service; journal)
    expect "the sockets are restarted while a job runs" "$status: $out" '[[ $status == 0 &&
        $out == *"farswapd.socket active"*"farswapd-budget.socket active"*"farswapd.service active"* ]] && cap_is alice 200 && kill -0 $rounds'
    touch /tmp/stop
    wait $rounds
    status=$?
    out=$(cat /tmp/rounds.said)
    expect "the job has the right bytes after all that" "$status: $(rounds_done) rounds; $(tail -n 7 <<<"$out")" \
        '[[ $status == 0 && $(rounds_done) -ge 4 && $out == *"pages    out"* && $out != *"stays in RAM"* ]]'
}

# A file with a mistake that is there when the service starts: whoever asks would start it again.
start_with_a_mistake() {
    local out status seen
    set_config '[machine]' 'rum = 1'
    new_journal
    systemctl restart farswapd
    out=$(as alice farswap run --ram 64M -- true 2>&1)
    status=$?
    sleep 3  # what is seen then has to last
    seen=$(state_of farswapd.socket farswapd-budget.socket farswapd.service; systemctl show -p NRestarts farswapd; journal)
    expect "a mistake at the start ends nothing" "$status: $out: $seen" \
        '[[ $status == 125 && $out == "farswap: farswapd: the configuration of this machine"?"s budget has a mistake: "* &&
        $out != *$newline* && $seen == *"farswapd.socket active"*"farswapd-budget.socket active"*"farswapd.service active"* &&
        $seen == *"$config:2:1: [machine] has no "?rum?";"* && $seen == *NRestarts=0* ]]'
    out=$(as alice farswap check 2>&1)
    status=$?
    expect "and the helper serves" "$status: $out" '[[ $status == 0 && $out == *"its fork event by farswapd"* ]]'
    set_config '[machine]' 'ram = "200M"'
    systemctl reload farswapd
    wait_until '[[ $(journal) == *": reloaded "* ]]'
    out=$(as alice farswap run -- true 2>&1)
    status=$?
    seen=$(journal)
    expect "mended by a reload" "$status: $out: $seen" '[[ $status == 0 && $seen == *": granted "* ]]'
    rm "$config"
    systemctl restart farswapd
}

# in_scope BYTES PROGRAM...: alice's, in a control group (v2) of its own without swap; its account is printed at the end.
in_scope() {
    local limit=$1
    shift
    # Not by --uid: that does not give her her groups.
    (cd / && exec timeout "$limit_s" systemd-run --quiet --scope -p MemoryMax="$limit" -p MemorySwapMax=0 "${scope[@]}" -- \
        sh -c 'group=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup); setpriv --reuid=alice --regid=alice --init-groups -- "$@"; status=$?
            echo "peak $(cat "$group/memory.peak") $(tr "\n" " " <"$group/memory.events")"; exit $status' sh "$@") </dev/null 2>&1
}

control_group() {
    local out status cap
    local scope=()
    expect "one hierarchy of control groups" "$(stat -fc %T /sys/fs/cgroup)" '[[ $(stat -fc %T /sys/fs/cgroup) == cgroup2fs ]]'
    # One thread and a slack of 60 MiB: what is filled within milliseconds is seen late, the more so by an emulated pager.
    local program=(/booted/verify --size 900M --threads 1)
    out=$(in_scope 640M "${program[@]}" --operations 100)
    status=$?
    # 143: systemd ends what is left of a scope in which one was killed.
    out+=$(journalctl -k -o cat -q --no-pager | grep -i -m 1 "memory cgroup out of memory")
    expect "plainly it is killed for memory" "$status: $out" '[[ ($status == 137 || $status == 143) && $out == *"out of memory"*verify* ]]'
    out=$(in_scope 640M farswap run --swap file:/var/tmp --stats /tmp/scope.json -- "${program[@]}" --operations 400)
    status=$?
    cap=$(tr -d ' \n' </tmp/scope.json | grep -o '"cap_bytes":[0-9]*' | head -n 1)
    # The default: 90% of the tightest control group.
    expect "in the same limit, under farswap" "$status: $cap: $out" \
        '[[ $status == 0 && $out == *"oom_kill 0"* && $out == *"pages    out"* && ${cap#*:} == $((640 * 1048576 * 9 / 10)) ]]'
    systemctl set-property --runtime tight.slice MemoryMax=600M MemorySwapMax=0
    scope=(--slice=tight.slice)
    out=$(in_scope 1G farswap run --swap file:/var/tmp --stats /tmp/slice.json -- "${program[@]}" --operations 400)
    status=$?
    cap=$(tr -d ' \n' </tmp/slice.json | grep -o '"cap_bytes":[0-9]*' | head -n 1)
    expect "below a slice that is tighter" "$status: $cap: $out" \
        '[[ $status == 0 && $out == *"oom_kill 0"* && ${cap#*:} == $((600 * 1048576 * 9 / 10)) ]]'
}

switched_off() {
    local out status seen
    systemctl stop farswapd.socket farswapd
    farswap run --ram 64M -- true >/dev/null 2>&1  # root's, which asks the budget
    seen=$(state_of farswapd.socket farswapd-budget.socket farswapd.service; ls /run/farswapd.sock* 2>&1; pids_of_farswapd)
    expect "stopped with its socket it stays so" "$seen" '[[ $seen == *"farswapd.socket inactive"* && $seen == *"farswapd.service inactive"* ]]'
    systemctl disable --now --quiet farswapd.socket farswapd-budget.socket
    systemctl stop farswapd
    seen=$(state_of farswapd.socket farswapd-budget.socket farswapd.service; ls /run/*farswapd* 2>/dev/null; pids_of_farswapd
        grep -l farswapd /proc/[0-9]*/comm 2>/dev/null; find /etc/systemd/system -name '*farswapd*'; systemctl --failed --plain --no-legend)
    expect "disabled and stopped it leaves nothing" "$seen" \
        '[[ $seen == *"farswapd.socket inactive disabled${newline}farswapd-budget.socket inactive disabled${newline}farswapd.service inactive "+([a-z]) ]]'
    out=$(as alice farswap run --ram 64M -- true 2>&1)
    status=$?
    expect "then a job is refused with what to type" "$status: $out" \
        '[[ $status == 125 && $out == "farswap: "*"systemctl enable --now farswapd.socket"* && $out != *$newline* ]]'
    systemctl enable --now --quiet farswapd.socket farswapd-budget.socket
    out=$(as alice farswap run --ram 64M -- true 2>&1)
    status=$?
    expect "enabled anew it serves" "$status: $out" '[[ $status == 0 ]]'
}

shopt -s extglob
echo "VM: ready $(uname -r) $(grep MemTotal /proc/meminfo) $(systemctl --version | head -n 1)"
usermod -aG farswap alice
for group in "$@"; do "$group"; done
# The machine is switched off while a job runs: it has to end, too.
as alice farswap run --ram 64M --swap file:/var/tmp -- /booted/verify --size 160M --seconds 600 >/dev/null 2>&1 &
wait_until '[[ $(farswap top --json | tr -d " \n") == *\"far_bytes\":[1-9]* ]]'
echo "VM: done"
systemctl poweroff
