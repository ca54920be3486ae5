# A look into a job's log where it lies:  sh JOBS_DIR/THIS_FILE OP MACHINE/ID ...   after `ok`. The log's hole is one
# line of its own. For dash, bash and busybox ash.
#
#   match MACHINE/ID       patterns for grep on stdin, one a line; `NUMBER:LINE` of each line that has one of them, then
#                          `end LINES`: how many lines there are in all
#   imatch MACHINE/ID      the same, whichever case the letters have
#   lines MACHINE/ID A B   the lines A to B, each after a colon, then `end LINES`, where LINES counts no further than B
#   at MACHINE/ID N        `end LINES BYTES`: how many of the first N lines there are, and how many bytes they take

set -u
LC_ALL=C
export LC_ALL
unset CDPATH
cd -P "${0%/*}" || exit 74
case ${2-} in '' | .* | */.* | */*/* | *[!A-Za-z0-9._/-]*) echo "unsafe id" >&2; exit 64 ;; esac
d=$PWD/$2
[ -f "$d/log" ] || { echo "absent" >&2; exit 66; }
echo ok

whole() { # the log with a line instead of its hole, and a newline at its end
    first=
    { read -r first last <"$d/hole"; } 2>/dev/null
    case $first in
        '' | -) cat "$d/log" ;;
        *)
            head -c "$first" "$d/log"
            printf '\n%s\n' "[$((last - first)) bytes were not kept here: the log passed its cap]"
            tail -c "+$((last + 1))" "$d/log" ;;
    esac
}

case $1 in
    match | imatch)
        patterns=$(cat)
        case $1 in imatch) i=-i ;; *) i= ;; esac
        whole | grep -a -n -E $i -e "$patterns" | cut -c 1-32800 | head -c 8000000
        echo
        echo "end $(whole | grep -a -c '')" ;;
    lines)
        whole | sed -n "$3,$4p;$4q" | cut -c 1-32768 | sed 's/^/:/'
        echo
        echo "end $(whole | head -n "$4" | grep -a -c '')" ;;
    at)
        echo "end $(whole | head -n "$3" | grep -a -c '') $(whole | head -n "$3" | wc -c)" ;;
esac
