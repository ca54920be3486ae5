# --- the other operations ----------------------------------------------------------------------------------------------

cancel() { # $1: grace
    if [ ! -d "$d" ]; then # a job that was never started must never start
        furnish "$jobs/.new.$id.$request.$$" '- - - - -' || return
        seconds
        size=0
        record "$new" 143 cancelled "$now" "$now"
        claim
    fi
    report
    case $answer in
        running* | starting*)
            printf '%-15s\n' cancelled 1<>"$d/why"
            reap TERM "$1" || { report; return; }
            await
            report gone ;;
        lost*) # its timer is of the supervisor's session
            led "$pid" "$start" "$at"
            keeper=$leader
            reap TERM "$1"
            rm -f "$jobs/.keeper/running/$id"
            kick ;;
    esac
}

discard() {
    report
    case $answer in
        ended* | lost*) mv -f "$d" "$jobs/.gone.$id.$$" && rm -rf "$jobs/.gone.$id.$$" || answer='error it stays' ;;
    esac
}

sweep() { # what somebody left who died before his job began, and half a removal
    for dir in "$jobs"/.new.* "$jobs"/.stand-by.* "$jobs"/.gone.*; do
        [ ! -d "$dir" ] || kill -s 0 "${dir##*.}" 2>/dev/null || rm -rf "$dir"
    done
}

in_background() { # the reader of requests never waits; its grandchild leaves no zombie with it
    ("$@"; echo "$request $answer") &
}

serve_wait() { await; report gone; }

start() { # by the supervisor that stands by, else by one that is born for it; neither belongs to anybody
    [ -f "$self" ] || { echo "$request gone"; return; }
    ready=
    { read -r ready _ <"$desk/ready"; } 2>/dev/null
    if [ "$ready" = "$number" ]; then
        number=$((number + 1))
        offer "$request $id $rest" && return
    fi
    printf '%s\n' "$rest" | $detached sh "$self" _supervise "$id" "$mask" "$request" "$reset" 6>&-
    offer '' || recruit
}

offer() { # line $1 to who stands by; fails where nobody does
    trap '' PIPE
    printf '%s\n' "$1" >&6
    set -- $?
    trap - PIPE
    return "$1"
}

recruit() { # the first to stand by, or the next where the last one was killed
    exec 6>&-
    [ -p "$desk/queue" ] || { mkdir -p "$desk" && mkfifo "$desk/queue"; } || return
    command exec 5<>"$desk/queue" || return # so that neither of its ends waits for the other
    $detached sh "$self" _stand_by "$number" "$mask" "$reset" "$desk" <"$desk/queue" 5>&-
    command exec 6>"$desk/queue"
    exec 5>&-
}

serve() {
    if [ -e /proc/self/stat ]; then # alone in its process group, so that it can end all its helpers at once
        read -r line <"/proc/$$/stat"
        set -- ${line##*) }
        [ "$3" = $$ ] || { umask "$mask"; exec $session sh "$self" serve; }
    fi
    for tool in awk cat date env grep head mkdir mkfifo mv rm sleep sort tail tr wc; do
        command -v "$tool" >/dev/null 2>&1 || { echo "$tool is missing" >&2; exit 69; }
    done
    reset= # the caller may have SIGINT ignored himself
    env --default-signal=INT,QUIT true 2>/dev/null && reset=--default-signal=INT,QUIT
    sweep
    printf '%s\n' "ready 1 $jobs"
    exec 2>/dev/null 6>&- # the queue, later; no helper may hold it
    born $$
    desk=$jobs/.stand-by.queue-$began.$$ number=0
    while read -r request op id rest; do
        answer= d=$jobs/$id
        case $id in '' | .* | *[!A-Za-z0-9._-]*) echo "$request error unsafe id"; continue ;; esac
        case $op in
            start) start ;;
            status) report; echo "$request $answer" ;;
            hole) gap; echo "$request $answer" ;;
            wait) (in_background serve_wait) 6>&- ;;
            kill) (in_background cancel "$rest") 6>&- ;;
            remove) (in_background discard) 6>&- ;;
            *) echo "$request error unknown operation" ;;
        esac
    done
    trap '' TERM
    [ ! -e /proc/self/stat ] || kill -s TERM 0
}

follow() {
    [ -f "$d/log" ] || exit 66
    gap
    case $answer in 'hole '*) ;; *) first=0 last=0 ;; esac
    measure
    from=$size # tail takes a file that is shorter than its offset for a truncated one
    [ "$1" -gt "$from" ] || from=$1
    echo "$from $first $last"
    [ "$from" -ge "$first" ] || tail -c "+$((from + 1))" "$d/log" | head -c "$((first - from))"
    [ "$from" -ge "$last" ] || from=$last
    if [ -f "$d/exit" ]; then exec tail -c "+$((from + 1))" "$d/log"; fi
    exec 6<&0
    tail -c "+$((from + 1))" -f "$d/log" 6<&- & # ends with the job, or with the reader of its output
    tail=$!
    (read -r _ <&6; kill "$tail" $$) >/dev/null 2>&1 &
    guard=$!
    await
    kill "$tail" "$guard" 2>/dev/null
    exit 0
}

id=${2-} d=$jobs/${2-} desk=
case $op in
    serve) serve; exit ;;
esac
case $id in '' | .* | *[!A-Za-z0-9._-]*) echo "unsafe id" >&2; exit 64 ;; esac
case $op in
    _supervise) mask=$3 request=$4 reset=$5; begin ;;
    _stand_by) number=$id mask=$3 reset=$4 desk=$5; stand_by ;;
    _job) mask=$3; become "$4" ;;
    _keep) keep ;;
    clean) clean "$id" "$3" "$4" ;;
    follow) follow "$3" ;;
    read) tail -c "$3" "$d/log" | head -c "$4" ;;
    *) echo "unknown operation" >&2; exit 64 ;;
esac
