#!/usr/bin/env bash
# What `apply --persist` writes, so that everything is set again at every start, and what `undo` removes. Sourced by lib.sh.
#
# sysctl.d sets sysctls at every start; all else takes a unit that runs the script: when its NICs appear, or else at the start.
sysctl_conf=$ROOT/etc/sysctl.d/60-maser-$SUBJECT.conf
units=$ROOT/etc/systemd/system
unit=maser-tuning-$SUBJECT.service

write_persistent() {
    local kind file=$sysctl_conf content=sysctl_lines target
    for kind in "${kinds[@]}"; do [[ $kind = sysctl || $kind = none ]] || file=$units/$unit content=unit_lines; done
    if [ $dry = yes ]; then
        echo "would write $file"
        return
    fi
    if ! { mkdir -p "$(dirname "$file")" && "$content" >"$file"; }; then
        echo "$SUBJECT: $file can't be written: run this as root" >&2
        return 1
    fi
    echo "written: $file"
    [ $content = unit_lines ] || return 0
    for target in $(targets); do
        mkdir -p "$units/$target.wants" && ln -sfn "../$unit" "$units/$target.wants/$unit" || return 1
    done
    reload
}
remove_persistent() {
    local file status=0 found=no
    for file in "$sysctl_conf" "$units/$unit" "$units"/*.wants/"$unit"; do
        [ -e "$file" ] || [ -L "$file" ] || continue
        if [ $dry = yes ]; then echo "would remove $file"; continue; fi
        rm "$file" && echo "removed: $file" && found=yes || status=1
    done
    [ $found = no ] || reload
    return $status
}
reload() { [ -n "$ROOT" ] || [ ! -d /run/systemd/system ] || systemctl daemon-reload; }

# What is greater than wanted already isn't made less at the next start.
sysctl_lines() {
    local i now
    echo "# Written by maser's tuning/$SUBJECT; \`tuning/$SUBJECT undo\` removes it."
    for i in "${!kinds[@]}"; do
        now=$("get_${kinds[i]}" "${names[i]}") && [ "$now" = "$(best_of "${wanteds[i]}")" ] && echo "${names[i]} = $now"
    done
    true
}
unit_lines() {
    local exec="\"${script//%/%%}\" apply" devices
    [ $of_nics = no ] || exec+=" --interface $(IFS=,; echo "${interfaces[*]}")"
    [ $cores_named = no ] || exec+=" --cores $(as_list "${cores[@]}")"
    [ -z "$config" ] || exec+=" --config \"${config//%/%%}\""
    devices=$(targets | xargs -d '\n')
    echo "# Written by maser's tuning/$SUBJECT; \`tuning/$SUBJECT undo\` removes it."
    printf '[Unit]\nDescription=maser: %s\nBefore=maser.service\n' "$TITLE"
    # Which begins with an empty ruleset, mostly.
    echo After=nftables.service
    [ $of_nics = no ] || printf 'BindsTo=%s\nAfter=%s\n' "$devices" "$devices"
    # 1: something can't be had here, which the table says.
    printf '\n[Service]\nType=oneshot\nRemainAfterExit=yes\nSuccessExitStatus=1\nExecStart=%s\n' "$exec"
    printf '\n[Install]\nWantedBy=%s\n' "$devices"
}
# What starts the unit; systemd writes octets other than these as \xNN.
targets() {
    local name i text
    [ $of_nics = yes ] || { echo multi-user.target; return; }
    for name in "${interfaces[@]}"; do
        text=''
        for ((i = 0; i < ${#name}; i++)); do
            case ${name:i:1} in [A-Za-z0-9:_.]) text+=${name:i:1} ;; *) text+=$(printf '\\x%02x' "'${name:i:1}") ;; esac
        done
        printf '%s\n' "sys-subsystem-net-devices-$text.device"
    done
}
