#!/usr/bin/env bash
# The tuning scripts' arguments and their --help: what to do, on which interfaces, for which cores. Sourced by lib.sh.

interfaces=() cores=() cores_named=no config='' action='' force=no dry=no persist=no

usage() {
    cat <<END
$SUBJECT - $TITLE

    tuning/$SUBJECT check | apply | undo [OPTION…]

$ABOUT

What it brings: $BRINGS

    check             what is, what is wanted and why; changes nothing
    apply             records what is, then sets what differs; a second time is no harm
    undo              puts back what was before the first apply, and removes what --persist wrote; what somebody else has
                      changed since is left, and told of
    --dry-run         says what would be done, and does nothing; without a command it is an apply's
    --interface LIST  network interfaces; else [server] interface of the configuration, else those of the default routes
    --cores LIST      maser's cores, as 2-3,5; else [server] workers of the configuration, else the first 8
    --config FILE     maser's configuration
    --persist         with apply: sets it again at every start of the machine (sysctl.d or a systemd unit)
    --force           with undo: puts back what somebody else has changed since, too

What this machine, its kernel or its NIC hasn't is "not here", which is no error. "by hand" takes a person: the last column says
what to do. What was before is kept in $state_file.
Exit status: 0 all is as wanted (after undo: as it was), 1 something isn't, 2 an error.
END
}

# The numbers of a list as 0-3,8, one a line.
expand() {
    local part
    for part in ${1//,/ }; do
        [[ $part =~ ^([0-9]{1,4})(-([0-9]{1,4}))?$ ]] || fail "$part isn't a core: cores are a list as 2-3,5"
        seq "$((10#${BASH_REMATCH[1]}))" "$((10#${BASH_REMATCH[3]:-${BASH_REMATCH[1]}}))"
    done
}

# The other way round: the kernel's list format of numbers in order.
as_list() {
    printf '%s\n' "$@" | awk '
        function put() { text = text (text == "" ? "" : ",") (first == last ? first : first "-" last) }
        NR == 1 { first = last = $1; next }
        $1 == last + 1 { last = $1; next }
        { put(); first = last = $1 }
        END { put(); print text }'
}

# The value of a key of [server] in the configuration, as it stands there: as much of TOML as a number, a string or a list takes.
configured() {
    [ -n "$config" ] || return 0
    awk -v key="$1" '
        { sub(/#.*/, "") }
        !reading && /^[ \t]*\[/ { inside = /^[ \t]*\[server\][ \t]*$/ }
        inside && !reading && match($0, "^[ \t]*" key "[ \t]*=[ \t]*") { reading = 1; $0 = substr($0, RLENGTH + 1) }
        reading { text = text $0; if (text !~ /^\[/ || text ~ /\][ \t]*$/) { print text; exit } }' "$config"
}
# The elements of such a list, in words.
elements() { sed 's/^\[//; s/\][[:space:]]*$//' | tr ",\"'" '   ' | xargs; }

# Interfaces of default routes, IPv4's and IPv6's.
default_interfaces() {
    awk 'FNR > 1 && $2 == "00000000" { print $1 }' "$PROC/net/route" 2>/dev/null
    awk '$1 ~ /^0+$/ && $2 == "00" && $10 != "lo" { print $10 }' "$PROC/net/ipv6_route" 2>/dev/null
}

parse() {
    local named='' core_list='' name
    while [ $# -gt 0 ]; do
        case $1 in
            check | apply | undo)
                [ -z "$action" ] || fail "$action or $1? one of them"
                action=$1 ;;
            --dry-run) dry=yes ;;
            --persist) persist=yes ;;
            --force) force=yes ;;
            --help | -h) usage; exit 0 ;;
            --interface | --cores | --config)
                [ $# -gt 1 ] || fail "$1 takes a value"
                case $1 in
                    --interface) named+=" ${2//,/ }" ;;
                    --cores) core_list=$2 ;;
                    --config)
                        config=$(realpath -- "$2" 2>/dev/null)
                        [ -r "$config" ] || fail "$2 can't be read" ;;
                esac
                shift ;;
            *) fail "unknown argument $1; --help tells what there is" ;;
        esac
        shift
    done
    [ "$dry" = yes ] && action=${action:-apply}
    [ -n "$action" ] || { usage >&2; exit 2; }
    [ -n "${named// /}" ] || named=$(configured interface | elements)
    [ -n "$named" ] || named=$(default_interfaces | sort -u)
    read -ra interfaces <<<"${named//$'\n'/ }"
    for name in "${interfaces[@]}"; do
        [[ $name =~ ^[^/|]{1,15}$ ]] || fail "$name can't be an interface's name"
    done
    choose_cores "$core_list"
}

# Workers that maser starts on its own.
WORKERS_DEFAULT=8

# By the argument, else by the configuration, where a list names them and a number of workers takes the first.
choose_cores() {
    local list=$1 online workers
    workers=$(configured workers | xargs)
    [ -n "$list" ] || [[ $workers != \[* ]] || list=$(elements <<<"$workers")
    [ -z "$list" ] || cores_named=yes
    online=$(expand "${list:-$(read_file "$SYS/devices/system/cpu/online")}") || exit 2
    # Not by <(…): where the script runs early there may be no /dev/fd.
    mapfile -t cores <<<"$(sort -nu <<<"$online")"
    [[ $workers =~ ^[1-9][0-9]{0,2}$ ]] || workers=$WORKERS_DEFAULT
    [ $cores_named = yes ] || cores=("${cores[@]:0:$workers}")
    [ -n "${cores[0]:-}" ] || fail "no cores: name them with --cores"
}

# For subjects of NICs: there has to be one.
need_interfaces() {
    local name
    of_nics=yes
    [ ${#interfaces[@]} -gt 0 ] || fail 'no interface: there is no default route; name them with --interface'
    for name in "${interfaces[@]}"; do
        [ -e "$SYS/class/net/$name" ] || fail "no interface $name here; ip link shows those that there are"
    done
}
