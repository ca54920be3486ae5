# --- old jobs ----------------------------------------------------------------------------------------------------------

old() { # has job $id been over for $1 seconds? A lost one counts from its last log byte; one that may run never does
    d=$jobs/$id
    { read -r _ _ _ stop _ <"$d/exit"; } 2>/dev/null || stop=
    stop=${stop%.*}
    case $stop in
        '' | *[!0-9]*) ;;
        *) [ $((today - stop)) -ge "$1" ]; return ;;
    esac
    report
    case $answer in lost*) ;; *) return 1 ;; esac
    { read -r pid start at <"$d/pid"; } 2>/dev/null && lives "$pid" "$start" "$at" && return 1
    [ -n "$(find "$d" -maxdepth 0 -mmin "+$(($1 / 60))" 2>/dev/null)" ] || [ "$1" -lt 60 ] || return 1
    [ -z "$(find "$d/log" -mmin "-$(($1 / 60 + 1))" 2>/dev/null)" ] || [ "$1" -lt 60 ]
}

spared() { # is job $id on the caller's list, or its build: STORE-BUILD-
    rest=${id#*-}
    case $spare in *" $id "* | *" ${id%%-*}-${rest%%-*}- "*) return 0 ;; esac
    return 1
}

take() { # the chosen ones vanish by a rename, then in peace
    [ -n "$chosen" ] || return 0
    bin=$jobs/.gone.clean.$$
    mkdir -p "$bin" && (cd "$jobs" && mv -f $chosen "$bin/")
    rm -rf "$bin"
    chosen= batch=0
}

scripts() { # older than a day, of other versions, and run by nobody; a home shared by several machines is left alone
    set -- "$root"/[!.]*/
    [ $# = 1 ] || return 0
    if [ -e /proc/self/stat ]; then
        used=$(cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' '\n' | grep -F "$root/.")
    else
        used=$(ps -A -o args= | grep -F "$root/.")
    fi
    find "$root" -maxdepth 1 -type f -name '.*-????????????????.sh*' -mtime +0 | while read -r file; do
        case "$file $used" in
            "$self "*) ;;
            "$file "*"$file"*) ;;
            *) rm -f "$file" ;;
        esac
    done
}

clean() { # STORE KEEP OTHERS: this store's jobs after KEEP s, all others' after OTHERS s
    echo ok
    spare=' ' chosen= batch=0 count=0
    while read -r each; do spare="$spare$each "; done
    today=$(date +%s)
    sweep
    for each in "$jobs"/*/; do
        [ -d "$each" ] || continue
        id=${each%/}
        id=${id##*/}
        case $id in "$1"-*) age=$2 ;; *) age=$3 ;; esac
        if old "$age" && ! spared; then
            chosen="$chosen ./$id" batch=$((batch + 1)) count=$((count + 1))
            [ "$batch" -lt 500 ] || take
        fi
    done
    take
    scripts
    echo "$count"
}

