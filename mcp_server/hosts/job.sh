# Detached jobs on one host, for dash, bash and busybox ash:  sh JOBS_DIR/THIS_FILE OP [ID [ARG...]]
#
#   serve              one request a line on stdin, one answer a line on stdout, in any order, until stdin ends:
#                        REQ start ID SHA256 TOKEN LIMIT GRACE CAP LOCK SCRIPT
#                                         started | joined | conflict | full | gone | error TEXT
#                        REQ status ID | REQ wait ID | REQ kill ID GRACE | REQ remove ID
#                                         absent | starting H | running H | lost H | ended H CODE REASON START END SIZE
#                        REQ hole ID      hole START END | none | absent
#   follow ID OFFSET   a line with the offset that is begun at, less than OFFSET where the log is shorter yet, and the hole's
#                        START and END (0 0: none); then log bytes without the hole's, until the job is over; exit code 0
#                        only then
#   read ID FROM MAX   at most MAX log bytes; FROM as `tail -c` counts: +N from the start (1 is the first), -N from the end
#
#   clean STORE KEEP OTHERS   ids to spare on stdin; `ok`, then how many old jobs were removed (clean.sh)
#
# LIMIT in seconds (0: none), GRACE in 1/100 s, CAP in bytes; LOCK: a folder as one word of sh (''  none), $BO_SP and $BO_TAB
# for blanks; SCRIPT: enter FOLDER; export NAME=VALUE; exec PROGRAM ARG... on one line of sh, $BO_NL for a newline. All
# that is not ours to choose comes on stdin; a cut line is never acted on.
#
# A job's directory MACHINE/ID appears whole, by one rename, made by the supervisor itself. From then on the job runs,
# whatever becomes of the caller, or it is lost:
#   spec   SHA256 PID START BOOT TOKEN: what was asked for, and which process supervises it ("-": cancelled before its start)
#   alive  a FIFO whose only writer is the supervisor: end of file is the end of the job, also after kill -9 and reboot
#   log    stdout and stderr     pid   PID START BOOT of the job's own process, which leads the job's session
#   why    exit, cancelled or timeout: what the end will be put down to     exit   CODE REASON START END SIZE
#   hole   START END of the log's middle, given up because the log passed CAP; `- -`: it cannot be (cap.sh)
#   hole.end   the same, where the end of the job gave up more
# Where /proc is missing (macOS) only the process group is known; that way is cheap, and not tested.

set -u
op=${1-}
[ "$op" != serve ] || mask=$(umask)
umask 077
LC_ALL=C
export LC_ALL
unset CDPATH
cd -P "${0%/*}" || exit 74
root=$PWD self=$PWD/${0##*/} keeper=none
cd / # the folder may be deleted and made again while `serve` runs

machine= boot=-
{ read -r machine </etc/machine-id; } 2>/dev/null
case $machine in
    '' | *[!0-9a-f]*) machine=$(uname -n | tr -c 'A-Za-z0-9.\n-' _) ;;
    *) machine=${machine%"${machine#????????????}"} ;;
esac
jobs=$root/$machine
{ read -r boot </proc/sys/kernel/random/boot_id; } 2>/dev/null
[ "$op" = _job ] || unset BO_JOB
# Who leads a session already is forked by setsid, so the second one detaches. Not by `&`: that leaves SIGINT and SIGQUIT
# ignored for the whole job, and no shell can undo it.
session=setsid detached='setsid setsid'
if ! command -v setsid >/dev/null 2>&1; then
    session='perl -MPOSIX=setsid -e setsid(),exec(@ARGV)'
    detached='perl -MPOSIX=setsid -e fork&&exit;setsid(),exec(@ARGV)'
fi

# --- processes ---------------------------------------------------------------------------------------------------------

born() { # start time of process $1 in `began`; fails where it is gone or going
    began=-
    [ -e /proc/self/stat ] || { kill -s 0 "$1" 2>/dev/null; return; }
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    set -- ${line##*) }
    began=${20}
    case $1 in [ZX]) return 1 ;; esac
    [ $(($7 & 4)) = 0 ] # PF_EXITING: its descriptors may be closed already, so a reader of `alive` may know
}

lives() { # is PID START BOOT still that very process? A pid may be reused, a boot may lie between
    [ "$3" = "$boot" ] && born "$1" && [ "$began" = "$2" ]
}

processes() { # PID STATE PARENT SESSION START, one a line
    if [ -e /proc/self/stat ]; then
        cat /proc/[0-9]*/stat 2>/dev/null |
            awk '{ pid = $1; sub(/^.*\) /, ""); print pid, $1, $2, $4, $20 }'
    else
        ps -A -o pid= -o stat= -o ppid= -o pgid= | awk '{ print $0, "-" }'
    fi
}

carriers() { # /proc/PID/environ of all that carry the job's cookie
    cookie=BO_JOB=$d
    if [ "$nul" = yes ]; then
        grep -lszxF -- "$cookie" /proc/[0-9]*/environ
    else # this grep ends at the first NUL
        for file in /proc/[0-9]*/environ; do
            tr '\0' '\n' <"$file" 2>/dev/null | grep -qxF -- "$cookie" && echo "$file"
        done
    fi
}

led() { # in `leader`: the session that PID START BOOT leads or led; never a number where that is not sure, because
    leader=none # kernel threads, and strangers in a container, have session 0
    if [ "${3-}" = "$boot" ]; then
        if ! born "$1" || [ "$began" = "$2" ]; then leader=$1; fi
    fi
}

survey() { # in `tree`: PID/START of the job's session, of all with its cookie, of their children, of whom we knew before
    { read -r line <"$d/pid"; } 2>/dev/null || line=
    led $line
    set -- $(carriers)
    tree=$(processes | awk -v leader="$leader" -v keeper="$keeper" -v known=" $tree " \
        -v carriers="$*" '
        BEGIN {
            count = split(carriers, part, " ")
            for (i = 1; i <= count; i++) { split(part[i], word, "/"); carries[word[3]] = 1 }
        }
        $2 ~ /^[ZX]/ { next }
        {
            parent[$1] = $3; key[$1] = $1 "/" $5
            if ($4 == leader || $4 == keeper || $1 in carries || index(known, " " key[$1] " ")) ours[$1] = 1
        }
        END {
            do {
                grown = 0
                for (pid in parent) if (!(pid in ours) && parent[pid] in ours) { ours[pid] = 1; grown = 1 }
            } while (grown)
            for (pid in ours) print key[pid]
        }' | sort -n)
    set -- $tree # the elder first: no parent is to see its child die and go on
    tree=$*
}

signal() { # $1 to the tree
    for each in $tree; do set -- "$@" "${each%/*}"; done
    kill -s "$@" 2>/dev/null
}

clock() { # in `now`: 1/100 s that only grow
    if { read -r up _ </proc/uptime; } 2>/dev/null; then now=${up%.*}${up#*.}; else now=$(date +%s)00; fi
}

reap() { # $1 to the whole tree, KILL after $2/100 s, until nothing is left; fails where KILL does not help for 30 s
    tree= nul=no # can this grep search between NULs?
    printf 'a\0b\0' | grep -qzxF b 2>/dev/null && nul=yes
    survey
    [ "$1" = none ] || [ -z "$tree" ] || signal "$1"
    clock
    end=$((now + $2))
    while survey && [ -n "$tree" ]; do
        clock
        if [ "$now" -ge "$end" ]; then signal KILL; fi
        [ "$now" -lt $((end + 3000)) ] || return 1
        sleep .05 2>/dev/null || sleep 1
    done
}

# --- what is known of a job --------------------------------------------------------------------------------------------

ended() { # an empty record is all that a power cut may leave of one
    { read -r record <"$d/exit"; } 2>/dev/null && [ -n "$record" ] && answer="ended $hash $record"
}

report() { # the state in `answer`; $1 = gone: the supervisor is known to be no more
    answer=absent
    [ -d "$d" ] || return 0
    { read -r hash pid start at _ <"$d/spec"; } 2>/dev/null || hash=- pid= start= at=none # a power cut, again
    ended && return
    if [ "${1-}" != gone ] && lives "$pid" "$start" "$at"; then
        { read -r leader _ <"$d/pid"; } 2>/dev/null
        if [ -n "${leader-}" ]; then answer="running $hash"; else answer="starting $hash"; fi
    else # its last act may have come between the two looks
        ended || answer="lost $hash"
    fi
}

await() { # returns when the supervisor is gone. Opened read-write first, so that opening never blocks; closed again by
    { exec 8>&-; read -r _ <&9; } 8<>"$d/alive" 9<"$d/alive" # exec, because bash would keep a copy that is a writer
}

seconds() { # in `now`: Unix time in 1/100 s
    now=$(date +%s%N)
    case $now in *[!0-9]*) now=$(date +%s)00 ;; *) now=${now%???????} ;; esac
}

record() { # CODE REASON START END: into the space reserved at the start, so that a full disk cannot swallow it
    printf '%-127s\n' "$2 $3 ${4%??}.${4#"${4%??}"} ${5%??}.${5#"${5%??}"} $size" 1<>"$1/exit.new"
    mv -f "$1/exit.new" "$1/exit"
}

# --- start -------------------------------------------------------------------------------------------------------------

furnish() { # $1: a directory with room for all that will be written, and spec $2 if given; else why not in `answer`
    new=$1
    trouble=$({
        mkdir -p "$new" && mkfifo "$new/alive" && : >"$new/log" &&
            printf '%-15s\n' exit >"$new/why" && printf '%-79s\n' '' >"$new/pid" &&
            printf '%-127s\n' '' >"$new/exit.new" && { [ $# = 1 ] || describe "$2"; }
    } 2>&1) && return
    rm -rf "$new"
    case $trouble in
        '' | *'No space'* | *uota* | *'I/O error'* | *'write error'*) answer=full ;;
        *) answer="error $trouble" ;;
    esac
    return 1
}

describe() { printf '%s\n' "$1" >"$new/spec"; }

claim() { # rename never replaces a directory that holds something; where one is there already, mv goes into it
    mv -f "$new" "$d" 2>/dev/null && [ ! -d "$d/${new##*/}" ] && return
    rm -rf "$new" "${d:?}/${new##*/}"
    return 1
}

tell() { # the caller may be gone: that must not end the supervisor
    trap '' PIPE
    echo "$request $1"
    trap - PIPE
}

join() {
    { read -r other _ _ _ whose <"$d/spec"; } 2>/dev/null || other= whose=
    case $other in
        "$hash") if [ "$whose" = "$token" ]; then tell started; else tell joined; fi ;; # asked again by the same call
        - | '') if [ -d "$d" ]; then tell joined; else tell 'error it vanished'; fi ;; # never to run, or lost
        *) tell conflict ;;
    esac
}

begin() { # as the supervisor of the one job that was asked for
    read -r hash token limit grace cap lock script || exit 65
    [ ! -d "$d" ] || { join; exit; }
    born $$
    furnish "$jobs/.new.$id.$request.$$" "$hash $$ $began $boot $token" || { tell "$answer"; exit 1; }
    exec 7<>"$new/alive"
    supervise
}

# Most of what a start takes is the birth of its supervisor and of its directory. So once a multiplexer has started a
# job, a supervisor stands by: born, with its directory, it reads requests from the multiplexer's queue, a pipe. The one
# that starts a job leaves the queue to a successor; so only one ever reads. The end of the queue: nobody will ask.

stand_by() {
    born $$
    furnish "$jobs/.stand-by.$began.$$" && exec 7<>"$new/alive" || exit
    until listen; do number=$((number + 1)); done
    supervise
}

listen() { # to one request; fails where it is answered already
    request=
    printf '%-31s\n' "$number $$" 1<>"$desk/ready" || leave # so that the multiplexer knows who listens
    while [ -z "$request" ]; do # an empty line only asks whether all is well
        read -r request id hash token limit grace cap lock script || leave "$desk"
        [ -p "$new/alive" ] && [ -s "$desk/ready" ] || leave
    done
    d=$jobs/$id
    if [ -d "$d" ]; then join; return 1; fi
    describe "$hash $$ $began $boot $token" && return
    tell full # it needs space of its own, small as it is: on a full disk nothing is to start
    return 1
}

leave() { # first the queue, so that the multiplexer sees it; $1: its directory, where it has gone
    exec </dev/null
    [ -z "$request" ] || [ $# = 1 ] || tell gone # ask again
    exec >/dev/null
    rm -rf "$new" "$@"
    exit
}

relieve() {
    [ -z "$desk" ] || $detached sh "$self" _stand_by "$((number + 1))" "$mask" "$reset" "$desk" 7>&-
}

supervise() { # starts the job, waits for it and writes its exit record
    claim || { join; relieve; exit; }
    tell started
    relieve
    exec </dev/null >/dev/null 2>&1
    seconds
    from=$now timer=
    [ "$limit" = 0 ] || { watch & timer=$!; }
    reserve
    register
    printf '%s\n' "$script" 7>&- |
        env -i $reset PATH="$PATH" HOME="${HOME-}" USER="${USER-}" LOGNAME="${LOGNAME-}" SHELL="${SHELL-}" \
            LANG="${LANG-}" BO_JOB="$d" $session sh "$self" _job "$id" "$mask" "$lock" >>"$d/log" 2>&1 7>&-
    code=$?
    conclude
}

reserve() { # opens the folder to be locked here, too: whoever has the descriptor can let go of the lock for all
    BO_SP=' ' BO_TAB=$(printf '\t') BO_NL='
'
    eval "lock=$lock"
    [ -n "$lock" ] || return
    (umask "$mask"; mkdir -p -- "$lock") && [ -r "$lock" ] && command exec 9<"$lock"
}

watch() { # ends the job when its time is over, with nobody's help
    exec 7>&-
    trap '[ -z "${!-}" ] || kill -s KILL "$!" 2>/dev/null; exit' TERM # KILL: TERM would be lost between fork and exec
    sleep "$limit" &
    wait "$!" || { sleep "$((${limit%.*} + 1))" & wait "$!"; } # not every sleep knows fractions
    trap - TERM
    read -r why _ <"$d/why"
    [ "$why" != exit ] || printf '%-15s\n' timeout 1<>"$d/why"
    reap TERM "$grace"
}

cause() { # in `why`. A shell reads letter by letter: where it is written over meanwhile, half of one word and half of
    for each in 1 2 3; do # another come; nobody writes there more than twice
        { read -r why _ <"$d/why"; } 2>/dev/null || break
        case $why in exit | cancelled | timeout) return ;; esac
    done
    why=exit # the record was taken away: the timer is still to be ended
}

conclude() { # an exit record means that nothing of a timed out or cancelled job is left
    cause
    case $why in
        timeout) wait "$timer" ;;
        *) [ -z "$timer" ] || kill "$timer" 2>/dev/null ;;
    esac
    [ "$why" != cancelled ] || reap none 3000 # whoever cancelled sends the signals; this is for his sudden death
    seconds
    if [ "$why" = exit ] && [ "$code" != 0 ]; then
        head -c 65536 /dev/zero >"$d/probe" || why=disk_full
        rm -f "$d/probe"
    fi
    { read -r leader _ <"$d/pid"; } 2>/dev/null
    if [ -n "${leader-}" ] && kill -s 0 -- "-$leader" 2>/dev/null; then
        left=$(names)
        [ -z "$left" ] || say "the command has ended; left running in the background: $left" >>"$d/log"
    fi
    measure
    [ "$size" -le "$cap" ] || punch hole.end
    record "$d" "$code" "$why" "$from" "$now"
    exec 7>&- # the end is known from here on
    kick
    [ -z "$lock" ] || release
}

release() { # the lock of a job that has ended: at once, whatever a daemon of it (a session of its own) has inherited; but
    # only after the last process of the job's own session, for that may still write to the folder
    while [ -n "$(names)" ]; do sleep 1; done
    flock -u 9
}

names() { # PID (PROGRAM) of what lives in the job's session, five at most
    processes | awk -v leader="${leader:-none}" '
        $4 == leader && $2 !~ /^[ZX]/ && count++ < 5 {
            name = ""
            file = "/proc/" $1 "/comm"
            if ((getline line <file) > 0) name = " (" line ")"
            close(file)
            printf "%s%s%s", separator, $1, name
            separator = ", "
        }'
}

# --- the job's own process ---------------------------------------------------------------------------------------------

say() { echo "build-orchestrator: $*"; }

hold() { # the kernel lock of folder $1, on a descriptor that all children inherit, so that a survivor still holds it
    { true <&9; } 2>/dev/null || { say "cannot make or read $1, which the job is to lock"; exit 126; }
    command -v flock >/dev/null 2>&1 || { say "no flock here: $1 is not locked"; return; }
    set -- "$1" -n
    while :; do
        flock ${2-} 9 2>/dev/null
        case $? in
            0) return ;;
            1) say "waiting for $1, locked by another job"; set -- "$1" ;;
            129 | 1[3-9]? | 2??) ;; # somebody ended flock, which is no leave to go on
            *) break ;;
        esac
    done
    say "$1 cannot be locked" # some network file systems
}

enter() {
    cd -- "$1" 2>/dev/null || { say "cannot enter $1"; exit 126; }
    unset LC_ALL PWD OLDPWD SHLVL # bash sets SHLVL=0 again
}

guest() { # only what the caller says
    unset HOME USER LOGNAME SHELL LANG
}

login() { # what the host gives its user; less than that is not set
    for each in HOME USER LOGNAME SHELL LANG; do
        eval "[ -n \"\${$each-}\" ] || unset $each"
    done
}

become() { # the job; $1: the folder that it locks. `kill` writes why and then looks for processes; here it is the other way round, so one sees the other
    IFS= read -r script || exit 125
    born $$
    printf '%-79s\n' "$$ $began $boot" 1<>"$d/pid"
    read -r why _ <"$d/why"
    [ "$why" = exit ] || exit 143
    BO_NL='
'
    umask "$mask"
    exec </dev/null
    [ -z "$1" ] || hold "$1"
    eval "$script"
}
