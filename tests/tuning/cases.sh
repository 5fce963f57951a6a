#!/usr/bin/env bash
# What the tuning scripts do on a machine that is a directory (fake.sh): nothing of this machine is read or set. Sourced by run.

# tune SUBJECT ARGUMENT…: runs one; what it said is in $said, its exit status in $status.
tune() {
    said=$("$tuning/$1" "${@:2}" 2>&1)
    status=$?
}
# wants STATUS WORD…: the exit status, and words in what was said.
wants() {
    local word
    [ "$status" = "$1" ] || wrong "exit status $status, not $1"
    for word in "${@:2}"; do grep -qF -- "$word" <<<"$said" || wrong "it didn't say: $word"; done
}
is() { # WHAT VALUE WANTED
    [ "$2" = "$3" ] || wrong "$1 is $2, not $3"
}
value() { cat "$fake/$1"; }

# round_trip SUBJECT CHANGES STATUS ARGUMENT…: a dry run changes nothing; an apply makes so many changes, the second none, though
# the check is content (STATUS 0) or wants a person (1); an undo leaves everything as it was.
round_trip() {
    local subject=$1 changes=$2 after=$3 was once
    shift 3
    machine
    was=$(everything)
    tune "$subject" apply --dry-run "$@"
    wants 1 'would set'
    is "what a dry run would set" "$(grep -c '^would set' <<<"$said")" "$changes"
    tune "$subject" --dry-run "$@"
    wants 1 'would set'
    tune "$subject" check "$@"
    wants 1 differs
    is 'the machine after dry runs and a check' "$(everything)" "$was"
    tune "$subject" apply "$@"
    wants "$after"
    is "changes" "$(grep -c '^set ' <<<"$said")" "$changes"
    once=$(everything)
    [ "$once" != "$was" ] || wrong 'nothing was changed'
    tune "$subject" check "$@"
    wants "$after"
    tune "$subject" apply "$@"
    wants "$after"
    is 'changes of the second apply' "$(grep -c '^set ' <<<"$said")" 0
    is 'the machine after the second apply' "$(everything)" "$once"
    tune "$subject" undo --dry-run "$@"
    wants 0 'would undo'
    is 'the machine after a dry undo' "$(everything)" "$once"
    tune "$subject" undo "$@"
    wants 0
    is 'the machine after undo' "$(everything)" "$was"
    tune "$subject" undo "$@"
    wants 0 'nothing to put back'
}

case_sockets() { round_trip sockets 4 0; }
case_polling() { round_trip polling 3 0; }
case_hugepages() { round_trip hugepages 4 0; }
case_clocksource() { round_trip clocksource 1 0; }
# Of all cores: three for each, and NUMA balancing.
case_cpu() { round_trip cpu 13 0; }
# Of two: the kernel's work, too, and by hand the command line.
case_cpu_cores() { round_trip cpu 8 1 --cores 2-3; }
case_affinity() { round_trip affinity 4 0; }

case_values() {
    machine
    tune affinity apply --cores 3,2
    is 'the interrupt of queue 0' "$(value proc/irq/41/smp_affinity_list)" 2
    is 'the interrupt of queue 1' "$(value proc/irq/42/smp_affinity_list)" 3
    is "the NIC's own interrupt" "$(value proc/irq/40/smp_affinity_list)" 0-3
    is "another NIC's" "$(value proc/irq/43/smp_affinity_list)" 0-3
    is 'who sends by queue 1' "$(value sys/class/net/fake7/queues/tx-1/xps_cpus)" 8
    tune cpu apply --cores 2-3
    wants 1 'by hand' 'isolcpus=2-3'
    is "where the kernel's work is done" "$(value sys/devices/virtual/workqueue/cpumask)" 3
    is 'the governor of another core' "$(value sys/devices/system/cpu/cpu1/cpufreq/scaling_governor)" powersave
    put "$fake/sys/devices/system/cpu/isolated" 2-3
    put "$fake/sys/devices/system/cpu/nohz_full" 2-3
    tune cpu check --cores 2-3
    wants 0
    # As the kernel shows a choice; and what is as good isn't touched.
    put "$fake/sys/kernel/mm/transparent_hugepage/enabled" 'always madvise [never]'
    put "$fake/sys/kernel/mm/transparent_hugepage/defrag" '[always] defer defer+madvise madvise never'
    tune hugepages apply
    is 'a choice that is as good' "$(value sys/kernel/mm/transparent_hugepage/enabled)" 'always madvise [never]'
    is 'a choice that is not' "$(value sys/kernel/mm/transparent_hugepage/defrag)" madvise
    put "$fake/proc/sys/net/core/rmem_max" 16777216
    tune sockets apply
    is 'a limit that is higher' "$(value proc/sys/net/core/rmem_max)" 16777216
    put "$fake/proc/77/comm" irqbalance
    tune affinity check
    wants 1 'by hand' 'systemctl disable --now irqbalance'
    # More than 32 cores.
    put "$fake/sys/devices/system/cpu/online" 0-39
    tune affinity apply --cores 33,1
    is 'a mask of many cores' "$(value sys/class/net/fake7/queues/tx-1/xps_cpus)" 2,00000000
    tune cpu check
    wants 1 cpu3/cpufreq
    # As many as maser has workers by default, had the machine as many.
    put "$fake/sys/devices/system/cpu/cpu8/cpufreq/scaling_governor" powersave
    tune cpu check
    ! grep -q cpu8/ <<<"$said" || wrong 'maser has 8 workers at most unless it is told otherwise'
}

case_configuration() {
    machine
    put "$scratch/maser.toml" '[server]
listen = ["0.0.0.0:123", "[::]:1123"]
interface = [  # two
    "fake7",
    "fake9",
]
workers = [1, 3]
receive_buffer = "16 MiB"
[smear]
interface = ["fake1"]'
    tune sockets check --config "$scratch/maser.toml"
    wants 1 '>=8388608'
    tune polling check --config "$scratch/maser.toml"
    wants 2 'no interface fake9 here'
    put "$fake/sys/class/net/fake9/threaded" 1
    tune polling check --config "$scratch/maser.toml"
    wants 1 /sys/class/net/fake7/threaded /sys/class/net/fake9/threaded
    tune cpu check --config "$scratch/maser.toml"
    wants 1 isolcpus=1,3
    tune polling check --config "$scratch/maser.toml" --interface fake9
    ! grep -q fake7 <<<"$said" || wrong 'an argument comes before the configuration'
    put "$fake/proc/sys/net/netfilter/nf_conntrack_max" 65536
    # Nothing is asked of a real nft.
    put "$scratch/tools/nft" '[ "$*" = "list tables" ]'
    chmod +x "$scratch/tools/nft"
    PATH=$scratch/tools:$PATH tune conntrack check --config "$scratch/maser.toml"
    wants 1 'udp 123,1123'
    put "$scratch/maser.toml" '[server]
workers = 2'
    tune cpu check --config "$scratch/maser.toml"
    wants 1 cpu1/cpufreq
    ! grep -q cpu2/cpufreq <<<"$said" || wrong 'two workers are on the first two cores'
}

case_somebody_else() {
    machine
    tune sockets apply
    put "$fake/proc/sys/net/core/rmem_max" 12345
    tune sockets undo
    wants 1 left --force
    is "somebody's" "$(value proc/sys/net/core/rmem_max)" 12345
    is 'the others' "$(value proc/sys/net/core/netdev_max_backlog)" 1000
    tune sockets undo --force
    wants 0
    is 'what was before' "$(value proc/sys/net/core/rmem_max)" 212992
    # What was before the first apply counts.
    tune sockets apply
    put "$fake/proc/sys/net/core/rmem_max" 12345
    tune sockets apply
    wants 0
    tune sockets undo
    wants 0
    is 'what was before the first' "$(value proc/sys/net/core/rmem_max)" 212992
}

case_reboot() {
    machine
    tune sockets apply
    tune affinity apply
    tune hugepages apply
    put "$fake/proc/sys/kernel/random/boot_id" second
    put "$fake/proc/irq/41/smp_affinity_list" 0
    put "$fake/sys/kernel/mm/transparent_hugepage/enabled" madvise
    tune affinity undo
    wants 0 'nothing to put back'
    is "another device's interrupt" "$(value proc/irq/41/smp_affinity_list)" 0
    tune sockets undo
    wants 0
    is 'a sysctl that sysctl.d set again' "$(value proc/sys/net/core/rmem_max)" 212992
    tune hugepages undo
    is 'what the new kernel came with' "$(value sys/kernel/mm/transparent_hugepage/enabled)" madvise
}

case_persistence() {
    local was conf=root/etc/sysctl.d/60-maser-sockets.conf units=root/etc/systemd/system text
    machine
    was=$(everything)
    tune sockets apply --persist --dry-run
    wants 1 "would write $scratch/$conf"
    is 'after a dry run' "$(everything)" "$was"
    put "$fake/proc/sys/net/core/wmem_max" 99999999
    was=$(everything)
    tune sockets apply --persist
    wants 0 "written: $scratch/$conf"
    is 'sysctl.d' "$(grep -v '^#' "$scratch/$conf" | xargs)" \
        'net.core.rmem_max = 2097152 net.core.netdev_max_backlog = 4096 net.core.netdev_tstamp_prequeue = 1'
    tune sockets undo --dry-run
    wants 0 'would remove'
    tune sockets undo
    wants 0 'removed:'
    is 'after undo' "$(everything)" "$was"
    put "$fake/sys/class/net/fake-8/threaded" 1
    was=$(everything)
    tune polling apply --persist --interface fake7,fake-8 --cores 2,3
    wants 0
    text=$(cat "$scratch/$units/maser-tuning-polling.service")
    grep -qxF "ExecStart=\"$tuning/polling\" apply --interface fake7,fake-8 --cores 2-3" <<<"$text" || wrong "the unit is: $text"
    grep -qxF 'BindsTo=sys-subsystem-net-devices-fake7.device sys-subsystem-net-devices-fake\x2d8.device' <<<"$text" || wrong "the unit is: $text"
    [ -e "$scratch/$units/sys-subsystem-net-devices-fake\\x2d8.device.wants/maser-tuning-polling.service" ] || wrong 'nobody starts the unit'
    if command -v systemd-analyze >/dev/null; then
        # Of its units only this one: /dev/null and the like are none of ours.
        text=$(systemd-analyze verify "$scratch/$units/maser-tuning-polling.service" 2>&1 | grep -F maser-tuning)
        is "what systemd says against it" "$text" ''
    fi
    tune polling undo
    wants 0 'removed:'
    is 'after undo' "$(everything)" "$was"
}

case_refusals() {
    machine
    # What the kernel shows but doesn't take.
    ln -sf /proc/version "$fake/sys/kernel/mm/transparent_hugepage/enabled"
    tune hugepages apply
    wants 1 refused 'error'
    tune hugepages undo
    wants 0
    rm "$fake/sys/devices/system/cpu/cpu2/cpufreq/scaling_governor"
    tune cpu apply
    wants 0 'not here'
    put "$fake/sys/devices/system/clocksource/clocksource0/available_clocksource" 'hpet acpi_pm'
    tune clocksource apply
    wants 0 'not here' "doesn't offer it"
    machine
    put "$scratch/root/var/lib/maser/tuning" 'a file'
    tune sockets apply
    wants 2 "can't be written"
    is 'what has no record' "$(value proc/sys/net/core/rmem_max)" 212992
    if [ "$(id -u)" -eq 0 ]; then
        machine
        tune sockets apply
        chown 65534 "$scratch/root/var/lib/maser/tuning"
        tune sockets undo
        wants 2 "another user's"
    fi
    machine
    tune sockets
    wants 2 'check | apply | undo'
    tune sockets aply
    wants 2 aply
    tune sockets apply --config "$scratch/nowhere"
    wants 2 "can't be read"
    tune cpu check --cores 1-x
    wants 2 "isn't a core"
    rm "$fake/proc/net/route"
    tune queues check
    wants 2 'name them with --interface'
    tune queues --help
    wants 0 'What it brings'
    mkdir -p "$scratch/few"
    for tool in bash awk sed realpath dirname seq sort xargs head tr cat find grep; do ln -sf "$(command -v $tool)" "$scratch/few/$tool"; done
    PATH=$scratch/few tune queues check --interface fake7
    wants 0 'install the package ethtool' 'not here'
}

case_all() {
    local was
    machine
    was=$(everything)
    tune all check
    wants 1
    is 'subjects' "$(sed -n '/^subject /,$p' <<<"$said" | wc -l)" 10
    tune all apply --persist
    wants 0 'as wanted'
    tune all check
    wants 0
    tune all undo
    wants 0
    is 'the machine after undo' "$(everything)" "$was"
    tune all --help
    wants 0 Subjects
}
