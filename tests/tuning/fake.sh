#!/usr/bin/env bash
# A machine's /proc and /sys in a directory, as far as the tuning scripts read it: four cores, a NIC with two queues. Sourced by run.
# The NIC's name is nobody's, since ethtool knows the real ones only.

# put FILE TEXT
put() {
    mkdir -p "$(dirname "$1")"
    printf '%s\n' "$2" >"$1"
}

# Makes it anew in $fake, and has the scripts look there. Sizes, governors and the like are as on machines that nobody has tuned.
machine() {
    local core queue
    fake=$scratch/machine
    rm -rf "$fake" "$scratch/state" "$scratch/root"
    put "$fake/proc/sys/net/core/rmem_max" 212992
    put "$fake/proc/sys/net/core/wmem_max" 212992
    put "$fake/proc/sys/net/core/netdev_max_backlog" 1000
    put "$fake/proc/sys/net/core/netdev_tstamp_prequeue" 0
    put "$fake/proc/sys/net/core/busy_read" 0
    put "$fake/proc/sys/net/core/busy_poll" 0
    put "$fake/proc/sys/kernel/numa_balancing" 1
    put "$fake/proc/sys/kernel/random/boot_id" first
    put "$fake/proc/sys/vm/compaction_proactiveness" 20
    put "$fake/proc/net/route" "Iface Destination Gateway
fake7 00000000 010200C0"
    put "$fake/proc/77/comm" bash
    put "$fake/proc/interrupts" "      CPU0 CPU1 CPU2 CPU3
 40:  0 0 0 0 PCI-MSIX-0000:00:02.0 0-edge fake7
 41:  0 0 0 0 PCI-MSIX-0000:00:02.0 1-edge fake7-TxRx-0
 42:  0 0 0 0 PCI-MSIX-0000:00:02.0 2-edge fake7-TxRx-1
 43:  0 0 0 0 PCI-MSIX-0000:00:03.0 1-edge fake8-TxRx-0"
    for queue in 40 41 42 43; do put "$fake/proc/irq/$queue/smp_affinity_list" 0-3; done
    put "$fake/sys/devices/system/cpu/online" 0-3
    put "$fake/sys/devices/system/cpu/isolated" ''
    put "$fake/sys/devices/system/cpu/nohz_full" '(null)'
    for core in 0 1 2 3; do
        put "$fake/sys/devices/system/cpu/cpu$core/power/pm_qos_resume_latency_us" 0
        put "$fake/sys/devices/system/cpu/cpu$core/cpufreq/scaling_governor" powersave
        put "$fake/sys/devices/system/cpu/cpu$core/cpufreq/energy_performance_preference" balance_performance
    done
    put "$fake/sys/devices/virtual/workqueue/cpumask" f
    put "$fake/sys/class/net/fake7/threaded" 1
    for queue in 40 41 42; do put "$fake/sys/class/net/fake7/device/msi_irqs/$queue" msix; done
    for queue in 0 1; do put "$fake/sys/class/net/fake7/queues/tx-$queue/xps_cpus" 0; done
    put "$fake/sys/kernel/mm/transparent_hugepage/enabled" always
    put "$fake/sys/kernel/mm/transparent_hugepage/defrag" always
    put "$fake/sys/kernel/mm/transparent_hugepage/khugepaged/defrag" 1
    put "$fake/sys/devices/system/clocksource/clocksource0/available_clocksource" 'tsc hpet acpi_pm'
    put "$fake/sys/devices/system/clocksource/clocksource0/current_clocksource" hpet
    export MASER_TUNING_PROC=$fake/proc MASER_TUNING_SYS=$fake/sys MASER_TUNING_ROOT=$scratch/root
    unset MASER_TUNING_STATE
}

# Every file of it, of the record and of what --persist writes: its name, where a link leads, and its text.
everything() (
    cd "$scratch" || exit
    find machine root \( -type f -o -type l \) -printf '%p %l\n' 2>/dev/null | sort
    find machine root -type f -exec grep -H '' {} + 2>/dev/null | sort
)
