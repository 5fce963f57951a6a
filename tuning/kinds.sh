#!/usr/bin/env bash
# How each kind of setting is read and set. Sourced by lib.sh. `get_KIND NAME` prints the value, or fails where there is no such
# thing here; `set_KIND NAME VALUE` says on standard error why it can't, and exists only for what a script may set.

# A file's text in one line; of a choice, as `always [madvise] never`, what is chosen.
read_file() {
    local text words
    # The shell reads it without a process more, but doesn't tell an empty file from one that can't be read.
    { text=$(<"$1"); } 2>/dev/null || return 1
    [ -n "$text" ] || cat "$1" >/dev/null 2>&1 || return 1
    read -ra words <<<"${text//$'\n'/ }"
    text=${words[*]}
    [[ ! $text =~ \[([^]]*)\] ]] || text=${BASH_REMATCH[1]}
    printf '%s' "$text"
}
# `echo` of the shell, so that the kernel's refusal is told in words.
write_file() { echo "$2" >"$1"; }

# For subjects that can tell little without it: what to install.
need_tool() { # COMMAND PACKAGE
    command -v "$1" >/dev/null 2>&1 ||
        printf '%s: %s is missing, and what it would tell is left out: install the package %s\n' "$SUBJECT" "$1" "$2" >&2
}

get_none() { return 1; }

# net.core.rmem_max
sysctl_path() { printf '%s' "$PROC/sys/${1//.//}"; }
get_sysctl() { read_file "$(sysctl_path "$1")"; }
set_sysctl() { write_file "$(sysctl_path "$1")" "$2"; }

# A path below /sys.
get_sys() { read_file "$SYS/$1"; }
set_sys() { write_file "$SYS/$1" "$2"; }

# The same, of a set of cores in hexadecimal: without leading zeros, in groups of 32 bits.
get_mask() {
    local text
    text=$(read_file "$SYS/$1") || return 1
    [[ $text =~ ^[0,]*(.*)$ ]]
    printf '%s' "${BASH_REMATCH[1]:-0}"
}
set_mask() { write_file "$SYS/$1" "$2"; }
mask_of() { # CORE…
    local core group groups=() top=0 text
    for core in "$@"; do
        group=$((core / 32))
        groups[group]=$((${groups[group]:-0} | 1 << core % 32))
        [ "$group" -le "$top" ] || top=$group
    done
    text=$(printf '%x' "${groups[top]:-0}")
    for ((group = top - 1; group >= 0; group--)); do text+=$(printf ',%08x' "${groups[group]:-0}"); done
    printf '%s' "$text"
}

# irq/NUMBER: the cores that serve an interrupt, as the kernel's list.
get_irq() { read_file "$PROC/irq/${1#irq/}/smp_affinity_list"; }
set_irq() { write_file "$PROC/irq/${1#irq/}/smp_affinity_list" "$2"; }

# What only the kernel's command line sets, read where the kernel says what it made of it.
get_boot() {
    local text file=${1%%=*}
    [ "$file" = isolcpus ] && file=isolated
    text=$(read_file "$SYS/devices/system/cpu/$file") || return 1
    printf '%s' "${text/(null)/}"
}

# Whether a program runs: nobody stops it from here.
get_process() {
    local file name
    for file in "$PROC"/[0-9]*/comm; do
        # It may have ended meanwhile.
        { read -r name <"$file"; } 2>/dev/null || continue
        if [ "$name" = "$1" ]; then echo runs; return; fi
    done
    echo stopped
}

# "INTERFACE FEATURE", by ethtool -k's name of it. What the driver has fixed isn't here.
get_feature() {
    ethtool -k "${1% *}" 2>/dev/null | awk -v name="${1#* }:" '$1 == name && !/\[fixed\]/ { print $2; found = 1 } END { exit !found }'
}
set_feature() { ethtool -K "${1% *}" "${1#* }" "$2"; }

# "INTERFACE rx": of a ring, a number of channels, ring_max and channels_max the most that the NIC takes.
ethtool_number() { # OPTION SECTION INTERFACE NAME
    ethtool "$1" "$3" 2>/dev/null | awk -v section="$2" -v name="${4,,}:" '
        /^(Pre-set|Current)/ { inside = $1 == section }
        inside && !found && tolower($1) == name && $2 ~ /^[0-9]+$/ { print $2; found = 1 }
        END { exit !found }'
}
get_ring() { ethtool_number -g Current "${1% *}" "${1#* }"; }
ring_max() { ethtool_number -g Pre-set "$1" "$2"; }
set_ring() { ethtool -G "${1% *}" "${1#* }" "$2"; }
get_channels() { ethtool_number -l Current "${1% *}" "${1#* }"; }
channels_max() { ethtool_number -l Pre-set "$1" "$2"; }
set_channels() { ethtool -L "${1% *}" "${1#* }" "$2"; }

# "INTERFACE rx-usecs", or "INTERFACE adaptive-rx".
get_coalesce() {
    ethtool -c "${1% *}" 2>/dev/null | awk -v name="${1#* }" '
        $1 == "Adaptive" { value["adaptive-rx"] = $3; value["adaptive-tx"] = $5 }
        { sub(/:$/, "", $1); if (!($1 in value)) value[$1] = $2 }
        END { if (value[name] !~ /^([0-9]+|on|off)$/) exit 1; print value[name] }'
}
set_coalesce() { ethtool -C "${1% *}" "${1#* }" "$2"; }

# "INTERFACE udp4": what the receive queue is chosen by, in ethtool's letters: s and d addresses, f and n ports.
get_flowhash() {
    ethtool -n "${1% *}" rx-flow-hash "${1#* }" 2>/dev/null | awk '
        /^IP SA/ { s = "s" } /^IP DA/ { d = "d" } /^L4 bytes 0/ { f = "f" } /^L4 bytes 2/ { n = "n" }
        /^VLAN tag/ { v = "v" } /^L2DA/ { m = "m" } /^L3 proto/ { t = "t" }
        END { text = m v t s d f n; if (text == "") exit 1; print text }'
}
# Many NICs can't leave out the destination: the next best leaves out the ports. ethtool's exit status is 0 either way.
set_flowhash() {
    ethtool -N "${1% *}" rx-flow-hash "${1#* }" "$2"
    [ "$2" != s ] || [ "$(get_flowhash "$1")" = s ] || ethtool -N "${1% *}" rx-flow-hash "${1#* }" sd 2>/dev/null
}

# An interface's Energy-Efficient Ethernet.
get_eee() {
    ethtool --show-eee "$1" 2>/dev/null | awk '
        /EEE status: enabled/ { print "on"; found = 1 } /EEE status: disabled/ { print "off"; found = 1 } END { exit !found }'
}
set_eee() { ethtool --set-eee "$1" eee "$2"; }

# "udp PORT,PORT", in order: whether packets to and from these ports are tracked, by a table of our own.
get_tracking() {
    local ports
    # Without root it tells nothing.
    [ -e "$PROC/sys/net/netfilter/nf_conntrack_max" ] && nft list tables >/dev/null 2>&1 || return
    ports=$(nft list table inet maser_notrack 2>/dev/null | sed -n 's/.*udp dport\(.*\)notrack.*/\1/p' | tr -d '{} ')
    if [ "udp $ports" = "$1" ]; then echo off; else echo on; fi
}
set_tracking() {
    if [ "$2" = on ]; then
        nft delete table inet maser_notrack
        return
    fi
    # In one transaction. Tracking comes after the priority raw, where it is told to leave these alone.
    nft -f - <<END
table inet maser_notrack
delete table inet maser_notrack
table inet maser_notrack {
    chain to_us {
        type filter hook prerouting priority raw; policy accept;
        udp dport { ${1#udp } } notrack
    }
    chain from_us {
        type filter hook output priority raw; policy accept;
        udp sport { ${1#udp } } notrack
    }
}
END
}
