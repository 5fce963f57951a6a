#!/usr/bin/env bash
# The tuning scripts on real settings: those that a network namespace has of its own, and in the VM all of them. Sourced by run.
# What is compared is this file's own reading, not the scripts'.

# Runs a function of this file in namespaces of its own, with a /sys that shows them; or leaves it out loudly.
in_namespaces() {
    if [ "$(id -u)" -ne 0 ] || ! unshare -n -m true 2>/dev/null; then
        skip "$1" 'it takes root and network namespaces'
        return
    fi
    if ! unshare -n -m bash -c 'mount -t sysfs sysfs /sys && exec "$@"' - env MASER_TUNING_SCRIPTS="$tuning" "$0" --inside "$1"; then wrong "see above"; fi
}
need_tools() {
    local tool
    for tool in ip ethtool nft python3; do
        command -v "$tool" >/dev/null || { skip "${FUNCNAME[1]}" "no $tool; tests/setup test installs it"; return 1; }
    done
}

# look INTERFACE…: all that the tools and files say of interfaces, and the packet filter.
look() {
    local name option
    for name in "$@"; do
        for option in -k -g -l -c --show-eee; do ethtool $option "$name" 2>&1; done
        for option in udp4 udp6; do ethtool -n "$name" rx-flow-hash $option 2>&1; done
        grep -H . /sys/class/net/"$name"/{threaded,gro_flush_timeout,napi_defer_hard_irqs} \
            /sys/class/net/"$name"/queues/*/{xps_cpus,rps_cpus} 2>&1
    done
    nft list ruleset
}
# look_at_machine INTERFACE…: that, and what is the whole machine's.
look_at_machine() {
    look "$@"
    # Statistics aside.
    grep -rs . /proc/sys/net/core /proc/sys/kernel/numa_balancing
    grep -rs --exclude='stat_refresh' --exclude='drop_caches' --exclude='compact_memory' . /proc/sys/vm
    grep -s . /proc/irq/*/smp_affinity_list
    grep -rs . /sys/devices/system/cpu/cpu*/power/pm_qos_resume_latency_us /sys/devices/system/cpu/cpu*/cpufreq \
        /sys/devices/virtual/workqueue/cpumask /sys/devices/system/clocksource
    grep -rs --exclude-dir='hugepages-*' --exclude='pages_*' --exclude='full_scans' . /sys/kernel/mm/transparent_hugepage
}
# same BEFORE AFTER WHAT
same() {
    [ "$1" = "$2" ] && return
    echo "$1" >"$scratch/one"
    echo "$2" >"$scratch/other"
    wrong "$3 differ: $(diff "$scratch/one" "$scratch/other" | head -n 20)"
}

# real_trip LOOK CHANGES SUBJECT ARGUMENT…: as round_trip, on the real thing; at least so many changes.
real_trip() {
    local look=$1 least=$2 subject=$3 was
    shift 3
    was=$($look "${devices[@]}")
    tune "$subject" apply --dry-run "$@"
    same "$was" "$($look "${devices[@]}")" 'before and after a dry run'
    tune "$subject" apply "$@"
    [ "$(grep -c '^set ' <<<"$said")" -ge "$least" ] || wrong "fewer than $least changes"
    applied=$said
    grep -E '^(set|refused) ' <<<"$said" | sed 's/^/    /'
    [ "$was" != "$($look "${devices[@]}")" ] || wrong 'nothing is seen of the changes'
    tune "$subject" apply "$@"
    [ "$(grep -c '^set ' <<<"$said")" -eq 0 ] || wrong 'the second apply made changes'
    tune "$subject" undo "$@"
    wants 0
    same "$was" "$($look "${devices[@]}")" 'before and after'
}

real_machine() { unset MASER_TUNING_PROC MASER_TUNING_SYS; export MASER_TUNING_ROOT=$scratch/root; }

# A pair with a queue more than there are cores, as somebody else has set it.
make_pair() {
    local queues=$(($(nproc --all) + 1))
    devices=(near)
    ip link add near numrxqueues $queues numtxqueues $queues type veth peer name far
    ip link set lo up
    ip link set near up
    ip link set far up
    # Its NAPI exists with GRO only.
    ethtool -K near gro on >/dev/null
    echo 1 >/sys/class/net/near/threaded
    echo 1 >/sys/class/net/near/queues/tx-1/xps_cpus
}

# Has the kernel track connections here.
stateful_filter() {
    nft 'table inet filter {
        chain in { type filter hook input priority 0; ct state new,established,untracked accept; }
        chain out { type filter hook output priority 0; ct state new,established,untracked accept; }
    }'
}

case_veth() { need_tools && in_namespaces veth; }
inside_veth() {
    real_machine
    make_pair
    # Of the whole machine nothing can be changed from here: its sysctls aren't shown, and a veth has no interrupts.
    real_trip look 1 queues --interface near
    real_trip look 1 affinity --interface near
    real_trip look 1 polling --interface near
    real_trip look 2 offloads --interface near
    stateful_filter
    real_trip look 1 conntrack
    tune offloads apply --interface near
    ip link delete near
    tune offloads undo
    wants 0 'not here'
}

# Whether packets really aren't tracked: a filter that asks for their state, a datagram each way from another host's port and from
# ours, and the kernel's count.
case_tracked() { need_tools && in_namespaces tracked; }
inside_tracked() {
    local client
    real_machine
    unshare -n sleep 600 &
    client=$!
    # The namespace is its own once the program runs.
    for _ in $(seq 100); do [ "$(readlink "/proc/$client/ns/net")" != "$(readlink /proc/self/ns/net)" ] && break; sleep 0.02; done
    ip link add near type veth peer name far netns $client
    ip address add 192.0.2.1/24 dev near
    ip link set near up
    nsenter -t $client -n ip address add 192.0.2.2/24 dev far
    nsenter -t $client -n ip link set far up
    stateful_filter
    # No entry ends while it is counted.
    echo 3600 >/proc/sys/net/netfilter/nf_conntrack_udp_timeout
    local send='import socket, sys
end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end.bind(("", int(sys.argv[1])))
end.sendto(b"request or reply", (sys.argv[2], int(sys.argv[3])))'
    other=40000
    # tracked PORT: entries of a request to it, and of a reply from it to another client.
    tracked() {
        local before
        before=$(cat /proc/sys/net/netfilter/nf_conntrack_count)
        other=$((other + 2))
        nsenter -t "$client" -n python3 -c "$send" $other 192.0.2.1 "$1"
        python3 -c "$send" "$1" 192.0.2.2 $((other + 1))
        entries=$(($(cat /proc/sys/net/netfilter/nf_conntrack_count) - before))
    }
    tracked 123
    is 'tracked without the tuning' $entries 2
    tune conntrack apply
    wants 0 set
    tracked 123
    is 'tracked with the tuning' $entries 0
    tracked 124
    is 'tracked of another port' $entries 2
    put "$scratch/maser.toml" '[server]
listen = ["0.0.0.0:123", "[::]:1123"]'
    tune conntrack apply --config "$scratch/maser.toml"
    tracked 1123
    is 'tracked of the second port' $entries 0
    tune conntrack undo
    wants 0
    tracked 123
    is 'tracked after undo' $entries 2
    ! nft list tables | grep -q maser || wrong 'a table of ours is left'
    kill $client
}

# The whole machine: only in the VM, whose kernel was told so.
case_vm() {
    if ! grep -q 'maser\.guest=' /proc/cmdline; then
        skip_quietly 'vm' "it takes a machine of its own; tests/vm/run tuning boots it"
        return
    fi
    need_tools || return
    local name subject
    real_machine
    modprobe -a nf_conntrack nft_ct
    devices=()
    for name in /sys/class/net/*/device; do
        name=$(basename "${name%/device}")
        ip link set "$name" up
        devices+=("$name")
    done
    names=$(IFS=,; echo "${devices[*]}")
    # As somebody else may have set it: the last clock source, huge pages for all.
    awk '{ print $NF }' /sys/devices/system/clocksource/clocksource0/available_clocksource \
        >/sys/devices/system/clocksource/clocksource0/current_clocksource
    echo always >/sys/kernel/mm/transparent_hugepage/enabled
    # The igb can leave out the ports, and not the destination.
    for name in "${devices[@]}"; do
        ethtool -N "$name" rx-flow-hash udp4 sdfn 2>/dev/null
        ! ethtool -n "$name" rx-flow-hash udp4 2>/dev/null | grep -q 'src port' || by_ports=$name
    done
    real_trip look_at_machine 9 all --interface "$names" --cores 0
    grep -q "^refused *flowhash $by_ports udp4 *sdfn *s *it is sd:" <<<"$applied" || wrong 'the ports are still in the hash'
    # Each had something to do; the clock source where the emulator's TSC is offered.
    for subject in clocksource cpu hugepages sockets queues affinity polling offloads conntrack; do
        awk -v subject="$subject:" '$1 == subject { inside = 1 } /^$/ { inside = 0 } inside && /^set / { found = 1 } END { exit !found }' \
            <<<"$applied" || [ $subject = clocksource ] || wrong "$subject changed nothing"
    done
}
