
# --- the log's cap -----------------------------------------------------------------------------------------------------
# One keeper a machine looks at the logs of all running jobs every few seconds: two small programs a look, however many
# jobs there are. .keeper/running/ID holds the cap of job ID; .keeper/process who the keeper is. Two at once are harmless:
# who is not named there leaves. It leaves, too, when nothing runs any more; the next job starts another.

measure() { size=$(($(wc -c <"$d/log"))); }

gap() { # the hole in the log: in `answer`, `first` and `last`
    answer=absent first=0 last=0
    [ -d "$d" ] || return 0
    answer=none
    { read -r first last <"$d/hole.end" || read -r first last <"$d/hole"; } 2>/dev/null && [ "$first" != - ] &&
        answer="hole $first $last"
    return 0
}

punch() { # of more than `cap` bytes keep the first half and the last quarter; offsets stay, the middle takes no space.
    # Noted in $1: `hole` is the keeper's, `hole.end` the supervisor's, who has the last word. A keeper that is late would
    # else put back what it saw before; it cannot have gone further, because the log never shrinks.
    first= last=
    { read -r first last <"$d/hole"; } 2>/dev/null
    [ "$first" != - ] || return 1
    : "${first:=$((cap / 8192 * 4096))}"
    : "${last:=$first}"
    [ "$((size - last + first))" -gt "$cap" ] || return 1
    until=$(((size - cap / 4) / 4096 * 4096))
    [ "$until" -gt "$last" ] || return 1
    if fallocate -p -o "$last" -l "$((until - last))" "$d/log" 2>/dev/null; then
        { read -r _ last <"$d/$1"; } 2>/dev/null # two keepers may be at it for a moment: the hole never shrinks
        [ "$last" -ge "$until" ] || printf '%-47s\n' "$first $until" 1<>"$d/$1"
    else
        say "this log passes $cap bytes and cannot be cut: no fallocate here, or a file system without holes" >>"$d/log"
        measure
        echo '- -' >"$d/hole"
    fi
}

named() { # the keeper's PID START BOOT in `pid`, `start`, `at`; fails where it is gone
    { read -r pid start at <"$jobs/.keeper/process"; } 2>/dev/null && lives "$pid" "$start" "$at"
}

kick() { named && kill -s USR1 "$pid" 2>/dev/null; } # a job has begun, or the last one has ended

register() {
    [ -d "$jobs/.keeper/running" ] || mkdir -p "$jobs/.keeper/running"
    echo "$cap" >"$jobs/.keeper/running/$id"
    kick || $detached sh "$self" _keep keeper 7>&- 9>&-
} 2>/dev/null

enlist() { # in `logs`: those of running jobs; their smallest cap in `least`
    logs= over=
    for each in .keeper/running/*; do
        [ -e "$each" ] || continue
        id=${each##*/}
        if [ -e "./$id/exit" ] || [ ! -e "./$id/alive" ]; then over="$over $each"; continue; fi
        logs="$logs ./$id/log"
        case $seen in
            *" $id "*) ;;
            *)
                seen="$seen$id "
                { read -r cap <"$each"; } 2>/dev/null && [ "$cap" -lt "$least" ] && least=$cap ;;
        esac
    done
    [ -z "$over" ] || rm -f $over
}

forsaken() { # lost jobs of which nothing lives
    for each in .keeper/running/*; do
        d=$jobs/${each##*/} pid= start= at=none
        { read -r _ pid start at _ <"$d/spec"; } 2>/dev/null && lives "$pid" "$start" "$at" && continue
        { read -r pid start at <"$d/pid"; } 2>/dev/null && lives "$pid" "$start" "$at" && continue
        rm -f "$each"
    done
}

look() { # at the logs; `pause` becomes short while one is growing past its cap
    [ "$pause" -ge 640 ] || pause=$((pause * 2))
    for log in $(find $logs -size +"${least}c" 2>/dev/null); do
        d=$jobs/${log#./}
        d=${d%/log}
        { read -r cap <".keeper/running/${d##*/}"; } 2>/dev/null || continue
        measure
        if [ "$size" -gt "$cap" ] && punch hole; then pause=20; fi
    done
}

rest() { # for `pause`/100 s, or until a job has ended
    sleep "$((pause / 100)).$((pause / 10 % 10))" 2>/dev/null &
    wait "$!" || { [ "$kicked" = yes ] || { sleep 3 & wait "$!"; }; } # not every sleep knows fractions
    kill "$!" 2>/dev/null
    [ "$kicked" = no ] || pause=10
    kicked=no
}

keep() {
    cd "$jobs" || exit
    exec </dev/null >/dev/null 2>&1
    kicked=no
    trap kicked=yes USR1
    born $$
    me="$$ $began $boot" seen=' ' least=9000000000000000000 pause=10 round=0
    echo "$me" >.keeper/process
    while { read -r named <.keeper/process; } && [ "$named" = "$me" ]; do
        round=$((round + 1))
        [ $((round % 20)) != 0 ] || forsaken
        enlist
        if [ -z "$logs" ]; then # a job that starts now sees either that nobody keeps, or is seen here
            : >.keeper/process
            enlist
            [ -n "$logs" ] || exit
            echo "$me" >.keeper/process
        fi
        look
        rest
    done
}

