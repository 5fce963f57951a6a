#!/usr/bin/env bash
# What the tuning scripts share: the record of what was before, the table, check, apply and undo. Each script says its
# SUBJECT, TITLE, ABOUT (why), BRINGS (what was measured) and a function `settings` of lines `want KIND NAME WANTED WHY`, sources
# this and calls `main "$@"`. Arguments are read in arguments.sh, how a KIND is read and set is in kinds.sh, what outlasts a reboot is
# in persistent.sh. bash, as for this tree's other scripts: it has lists.
#
# An apply reads everything first, records it on disk, and then changes it, so that an undo knows what to put back whatever happens.
set -uo pipefail

PROC=${MASER_TUNING_PROC:-/proc}
SYS=${MASER_TUNING_SYS:-/sys}
ROOT=${MASER_TUNING_ROOT:-}
state_file=${MASER_TUNING_STATE:-$ROOT/var/lib/maser/tuning}/$SUBJECT
script=$(realpath "$0")
here=$(dirname "$script")
# The settings: one of each a line.
kinds=() names=() wanteds=() whys=()
of_nics=no

fail() {
    printf '%s: %s\n' "$SUBJECT" "$*" >&2
    exit 2
}

# shellcheck source=arguments.sh
. "$here/arguments.sh"
# shellcheck source=kinds.sh
. "$here/kinds.sh"
# shellcheck source=persistent.sh
. "$here/persistent.sh"

# A setting: WANTED is a value, some of which the first is best (one|other), or >=NUMBER.
want() { kinds+=("$1") names+=("$2") wanteds+=("$3") whys+=("$4"); }
# One that can't be had here: NAME, WANTED, and why.
absent() { want none "$1" "$2" "$3"; }

is_satisfied() { # NOW WANTED
    case $2 in
        '>='*) [[ $1 =~ ^[0-9]+$ ]] && [ "$1" -ge "${2#>=}" ] ;;
        *) [[ "|$2|" == *"|$1|"* ]] ;;
    esac
}
# The value to set for a WANTED.
best_of() { local best=${1#>=}; printf '%s' "${best%%|*}"; }

# The table: STATE KIND NAME VALUE VALUE WHY. The first twelve columns are the state, for tuning/all.
rows=()
row() {
    local label="$2 $3"
    case $2 in sysctl | process | none | irq | boot | '') label=$3 ;; sys | mask) label=/sys/$3 ;; esac
    rows+=("$1"$'\t'"$label"$'\t'"${4:--}"$'\t'"${5:--}"$'\t'"$6")
}
print_rows() {
    printf '%s: %s\n' "$SUBJECT" "$TITLE"
    printf '%s\n' "${rows[@]}" | awk -F '\t' '
        { line[NR] = $0; for (i = 2; i <= 4; i++) if (length($i) > wide[i]) wide[i] = length($i) }
        END {
            for (n = 1; n <= NR; n++) {
                split(line[n], cell, "\t")
                printf "%-12s", cell[1]
                for (i = 2; i <= 4; i++) printf "%-" wide[i] + 2 "s", cell[i]
                print cell[5]
            }
        }'
}

# The record: KIND|NAME of what was changed, in this order; what it was before; what we made it.
recorded=()
declare -A before=() ours=()

boot_id() { read_file "$PROC/sys/kernel/random/boot_id"; }

# What was recorded before a reboot is no more, but for sysctls, which sysctl.d may have set again.
load_record() {
    local kind name was made boot='' this_boot
    [ -e "$state_file" ] || return 0
    check_owner "$(dirname "$state_file")"
    check_owner "$state_file"
    this_boot=$(boot_id)
    while IFS='|' read -r kind name was made; do
        if [ "$kind" = boot ]; then boot=$name; continue; fi
        [ "$boot" = "$this_boot" ] || [ "$kind" = sysctl ] || continue
        recorded+=("$kind|$name") before["$kind|$name"]=$was ours["$kind|$name"]=$made
    done <"$state_file" || fail "$state_file can't be read"
}

# What another user may have written isn't believed: it says what root is to write, and where.
check_owner() {
    if [ ! -O "$1" ]; then fail "$1 is another user's, and isn't believed: see who made it, and remove it"; fi
}

save_record() {
    local directory
    directory=$(dirname "$state_file")
    if [ ${#recorded[@]} -eq 0 ]; then
        rm -f "$state_file" || fail "$state_file can't be removed"
        return
    fi
    mkdir -p "$directory" 2>/dev/null && check_owner "$directory"
    if ! { record >"$state_file.new" && sync "$state_file.new" && mv "$state_file.new" "$state_file"; } 2>/dev/null; then
        fail "$state_file can't be written: run this as root, or name another directory with MASER_TUNING_STATE"
    fi
}
record() {
    local key
    printf 'boot|%s\n' "$(boot_id)"
    for key in "${recorded[@]}"; do printf '%s|%s|%s\n' "$key" "${before[$key]}" "${ours[$key]}"; done
}

# Sets one; puts into the caller's `now` what it is then, and into `refusal` what was said against it.
set_value() { # KIND NAME VALUE
    refusal=$("set_$1" "$2" "$3" 2>&1 | tail -n 1 | sed 's/^.*line [0-9]*: //')
    now=$("get_$1" "$2")
}

check_or_apply() {
    local i now status=0 nows=() states=() changes=()
    for i in "${!kinds[@]}"; do
        states[i]=differs
        if ! now=$("get_${kinds[i]}" "${names[i]}"); then
            states[i]='not here'
        elif is_satisfied "$now" "${wanteds[i]}"; then
            states[i]=ok
        elif ! declare -F "set_${kinds[i]}" >/dev/null; then
            states[i]='by hand'
        elif [ "$action$dry" = applyyes ]; then
            states[i]='would set'
        elif [ "$action" = apply ]; then
            changes+=("$i")
        fi
        nows[i]=$now
    done
    [ ${#changes[@]} -eq 0 ] || make "${changes[@]}"
    row state '' setting "$([ "$action" = check ] && echo now || echo was)" wanted why
    for i in "${!kinds[@]}"; do
        row "${states[i]}" "${kinds[i]}" "${names[i]}" "${nows[i]}" "${wanteds[i]}" "${whys[i]}"
        case ${states[i]} in ok | set | 'not here') ;; *) status=1 ;; esac
    done
    print_rows
    if [ "$action$persist" = applyyes ]; then write_persistent || status=2; fi
    return $status
}

# Records and makes changes; how each went goes into the caller's `states` and `whys`.
make() {
    local i key now refusal
    load_record
    for i in "$@"; do
        key="${kinds[i]}|${names[i]}"
        if [ -z "${before[$key]+there}" ]; then recorded+=("$key") before[$key]=${nows[i]}; fi
        ours[$key]=$(best_of "${wanteds[i]}")
    done
    save_record
    # Twice: some can be had only once another has changed.
    for i in "$@" "$@"; do
        [ "${states[i]}" != 'set' ] || continue
        set_value "${kinds[i]}" "${names[i]}" "$(best_of "${wanteds[i]}")"
        # A driver may have rounded it.
        ours["${kinds[i]}|${names[i]}"]=$now
        if is_satisfied "$now" "${wanteds[i]}"; then
            states[i]='set'
        else
            states[i]=refused whys[i]="it is $now${refusal:+: $refusal}"
        fi
    done
    save_record
}

undo() {
    local i key now was refusal note state status=0 backwards=() left=() todo=()
    local -A states=() refusals=()
    load_record
    for ((i = ${#recorded[@]} - 1; i >= 0; i--)); do
        key=${recorded[i]} backwards+=("${recorded[i]}")
        if ! now=$("get_${key%%|*}" "${key#*|}"); then
            state='not here'
        elif [ "$now" = "${before[$key]}" ]; then
            state='as before'
        elif [ "$now" != "${ours[$key]}" ] && [ $force = no ]; then
            state=left
        elif [ $dry = yes ]; then
            state='would undo'
        else
            state=undone
            todo+=("$key")
        fi
        states[$key]=$state
    done
    # Twice, as above: a NIC that adds tags only where it removes them.
    for key in "${todo[@]}" "${todo[@]}"; do
        [ "$("get_${key%%|*}" "${key#*|}")" = "${before[$key]}" ] && continue
        set_value "${key%%|*}" "${key#*|}" "${before[$key]}"
        refusals[$key]=$refusal
    done
    row state '' setting now before note
    for key in "${backwards[@]}"; do
        state=${states[$key]} was=${before[$key]} note=''
        now=$("get_${key%%|*}" "${key#*|}")
        case $state in
            'not here') note='gone, and its setting with it' ;;
            left) note="somebody has made it this since (we: ${ours[$key]}); --force puts back what was before" ;;
            undone) [ "$now" = "$was" ] || state=refused note=${refusals[$key]:-} ;;
        esac
        row "$state" "${key%%|*}" "${key#*|}" "$now" "$was" "$note"
        case $state in left | refused) status=1 left=("$key" "${left[@]}") ;; esac
    done
    if [ ${#recorded[@]} -gt 0 ]; then print_rows; else echo "$SUBJECT: nothing to put back"; fi
    if [ $dry = no ] && [ -e "$state_file" ]; then
        recorded=("${left[@]}")
        save_record
    fi
    remove_persistent || status=2
    return $status
}

main() {
    parse "$@"
    if [ "$action" = undo ]; then
        undo
    else
        settings
        check_or_apply
    fi
}
