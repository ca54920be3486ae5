# What is said to whoever watches a serial port:  sh JOBS_DIR/THIS_FILE OP MACHINE KEY   after `ok`. For dash, bash and
# busybox ash. The port's folder is MACHINE/.ports/KEY (../idf/serial_port.py): `control` is the FIFO that a monitor reads,
# `reader` its process, `holder` what the lock's holder says of itself.
#
#   say MACHINE KEY      commands on stdin, one a line, 4000 bytes at most; then one line: `told`; `absent`: no monitor
#                        is there; `deaf`: there is one, and for SAY_S seconds it has read nothing
#   holder MACHINE KEY   `none`; or `alive` or `gone`, and on the next line what it wrote, 4000 bytes at most

set -u
LC_ALL=C
export LC_ALL
unset CDPATH
SAY_S=2
cd -P "${0%/*}" || exit 74
for word in "${2-}" "${3-}"; do
    case $word in '' | .* | *[!A-Za-z0-9._-]*) echo "unsafe name" >&2; exit 64 ;; esac
done
place=$PWD/$2/.ports/$3
echo ok

lives() { case $1 in '' | *[!0-9]*) false ;; *) kill -s 0 "$1" 2>/dev/null ;; esac; }

tell() { # a line is one write, so that two who speak at once do not mix; nobody reading: opening does not return
    exec 4>"$place/control" || exit
    while IFS= read -r line; do printf '%s\n' "$line" >&4 || exit; done
}

give_up() {
    trap '[ -z "${!-}" ] || kill -s KILL "$!" 2>/dev/null; exit' TERM
    sleep "$SAY_S" &
    wait "$!"
    kill -s KILL "$1" 2>/dev/null
}

case $1 in
    say)
        reader=
        { read -r reader <"$place/reader"; } 2>/dev/null
        if [ ! -p "$place/control" ] || ! lives "$reader"; then echo absent; exit; fi
        exec 3<&0
        tell <&3 >/dev/null 2>&1 &
        teller=$!
        give_up "$teller" </dev/null >/dev/null 2>&1 3<&- &
        guard=$!
        wait "$teller" 2>/dev/null
        code=$?
        kill -s TERM "$guard" 2>/dev/null
        case $code in 0) echo told ;; 137) echo deaf ;; *) echo absent ;; esac ;;
    holder)
        who=
        { read -r who <"$place/holder"; } 2>/dev/null
        if [ -z "$who" ]; then echo none; exit; fi
        pid=${who#*'"pid": '}
        if lives "${pid%%[!0-9]*}"; then echo alive; else echo gone; fi
        printf '%.4000s\n' "$who" ;;
    *) echo "unknown operation" >&2; exit 64 ;;
esac
