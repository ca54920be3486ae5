# The serial ports of this machine:  sh JOBS_DIR/THIS_FILE list   `ok`, then KEY VALUE a line, then `end`
# stdin: where sysfs, /dev and /proc are, a line each, then ports to look at besides, one a line. A block of lines begins
# with `listed PATH` or `named PATH`, a holder of a port with `holder PID REAL-PATH`. For dash, bash and busybox ash; on
# macOS by ioreg and lsof, which was never tried on a real one. No port is ever opened: that moves its DTR and RTS lines,
# which reset the board behind it.

set -u
LC_ALL=C
export LC_ALL
unset CDPATH
cd / || exit 74
echo ok
IFS= read -r sys && IFS= read -r dev && IFS= read -r proc || exit 64
exec 2>/dev/null
newline='
'

has() { command -v "$1" >/dev/null; }
say() { printf '%s %s\n' "$1" "$2"; }
text() { # what a file of one line says, as $1; nothing where it says nothing
    IFS= read -r line <"$2" || :
    [ -z "${line-}" ] || say "$1" "$line"
    line=
}

links() { # the first name in folder serial/$1 that leads to $2
    for link in "$dev/serial/$1"/*; do
        if [ "$link" -ef "$2" ]; then
            say "$1" "$link"
            return
        fi
    done
}

usb() { # what sysfs knows of tty $1: the interface it belongs to, and the device that one belongs to
    cd -P "$sys/class/tty/$1/device" || return
    for _ in 1 2 3 4 5 6 7 8; do
        [ ! -e port_number ] || text subport port_number
        if [ -e bInterfaceNumber ]; then
            text interface bInterfaceNumber
            [ ! -e interface ] || text function interface
            say place "${PWD##*/}"
        fi
        if [ -e idVendor ]; then
            text vid idVendor
            text pid idProduct
            [ ! -e serial ] || text serial serial
            [ ! -e manufacturer ] || text maker manufacturer
            [ ! -e product ] || text product product
            break
        fi
        here=$PWD
        ! cd -P driver || say driver "${PWD##*/}" # of a converter first its line's, then its interface's, which holds
        cd "$here" && cd -P .. || break
    done
    cd /
}

show() { # $1: listed or named; the port $2. In `real` its path without links, in `kind` what it is
    real=$2
    if [ "$1" = named ] || [ -h "$2" ]; then real=$(readlink -f "$2") || real=$2; fi
    name=${2##*/}
    [ -e "$sys/class/tty/$name" ] || name=${real##*/}
    if [ -c "$2" ]; then
        kind=tty
        if [ ! -e "$sys/class/tty/$name" ]; then
            case $real in
                */pts/[0-9]*) kind=pty ;;
                */cu.* | */tty.*) ;;
                *) [ ! -d "$sys/class/tty" ] || kind=other ;;
            esac
        else
            case $name in tty | console | ptmx | tty[0-9]*) kind=terminal ;; esac
        fi
    elif [ -d "$2" ]; then kind=folder
    elif [ -f "$2" ]; then kind=file
    elif [ -e "$2" ]; then kind=other
    elif [ -h "$2" ]; then kind=dangling
    else kind=absent; fi
    [ "$1" = named ] || [ "$kind" = tty ] || [ "$kind" = pty ] || return
    say "$1" "$2"
    say real "$real"
    say kind "$kind"
    case $kind in tty | pty) ;; *) return ;; esac
    if [ -r "$2" ] && [ -w "$2" ]; then say access yes; else say access no; fi
    links by-id "$2"
    links by-path "$2"
    usb "$name"
}

count=0 denied= reals= named=
set --
while IFS= read -r port; do
    [ -z "$port" ] || [ "$#" -ge 32 ] || set -- "$@" "$port"
done
named=$#
for port in "$dev"/ttyUSB* "$dev"/ttyACM* "$dev"/cu.usb* "$dev"/cu.SLAB* "$dev"/cu.wchusb*; do
    case $port in *"$newline"*) continue ;; esac
    [ ! -c "$port" ] || [ "$#" -ge 96 ] || set -- "$@" "$port"
done
shown=0
for port; do
    how=listed kind=
    [ "$shown" -ge "$named" ] || how=named
    shown=$((shown + 1))
    show "$how" "$port"
    [ -r "$port" ] && [ -w "$port" ] || denied=yes
    case $kind in tty | pty) reals=$reals$real$newline ;; esac
done

if [ -n "$reals" ]; then
    if stat -Lc %G / >/dev/null; then stat -Lc 'group %G %n' -- "$@"; else stat -Lf 'group %Sg %N' -- "$@"; fi
    if [ -n "$denied" ]; then
        say user "$(id -un)"
        say member "$(id -Gn)"
        say entered "$(id -Gn "$(id -un)")"
    fi
    [ "$(id -u)" = 0 ] || say unseen others # what other users' processes have open is theirs to know
fi

opened() { # PID FD PATH of who has one of `reals` open; a process once for each
    if [ -e "$proc/self/stat" ]; then
        ls -ln "$proc"/[0-9]*/fd | REALS=$reals awk '
            BEGIN { count = split(ENVIRON["REALS"], path, "\n"); for (i = 1; i <= count; i++) if (path[i] != "") is[path[i]] = 1 }
            /^\/.*:$/ { count = split($0, part, "/"); pid = part[count - 1]; next }
            {
                at = index($0, " -> ")
                if (!at) next
                target = substr($0, at + 4)
                if (!(target in is) || (pid, target) in told) next
                told[pid, target] = 1
                count = split(substr($0, 1, at - 1), part, " ")
                print pid, part[count], target
                if (++lines >= 100) exit
            }'
    elif has lsof; then
        soon=
        ! has timeout || soon='timeout 5'
        $soon lsof -nP -Fpn -- "$@" | awk '/^p/ { pid = substr($0, 2) } /^n/ { print pid, 0, substr($0, 2) }' | head -n 100
    elif has fuser; then
        for port; do
            for pid in $(fuser "$port"); do say "$pid 0" "$port"; done
        done
    fi
}

[ -z "$reals" ] || opened "$@" | while IFS=' ' read -r pid fd target; do
    case $target in
        */pts/[0-9]*) # a container has others of that name; and who made it has its other end, and may keep this one
            [ ! -e "$proc/self/stat" ] || [ "$proc/$pid/fd/$fd" -ef "$target" ] || continue
            grep -qs "^tty-index:[[:space:]]*${target##*/}\$" "$proc/$pid"/fdinfo/* && continue ;;
    esac
    say holder "$pid $target"
    if [ -e "$proc/self/stat" ]; then
        say command "$(tr '\0\n' '  ' <"$proc/$pid/cmdline" | head -c 300)"
        say job "$(tr '\0' '\n' <"$proc/$pid/environ" | sed -n 's/^BO_JOB=//p' | head -n 1)"
    else
        say command "$(ps -o command= -p "$pid" | head -n 1 | head -c 300)"
    fi
done

if [ -n "$reals" ] && has ioreg; then # a port's line lies below those of its device
    ioreg -r -c IOUSBHostDevice -l -w 0 | awk '
        function value() { text = $0; sub(/^[^=]*= /, "", text); gsub(/^"|"$/, "", text); return text }
        /class IOUSBHostDevice/ { vid = pid = serial = maker = product = "" }
        /"idVendor" =/ { vid = sprintf("%04x", value()) }
        /"idProduct" =/ { pid = sprintf("%04x", value()) }
        /"USB Serial Number" =/ { serial = value() }
        /"USB Vendor Name" =/ { maker = value() }
        /"USB Product Name" =/ { product = value() }
        /"IOCalloutDevice" =/ {
            print "usb", value()
            if (vid != "") print "vid", vid "\npid", pid
            if (serial != "") print "serial", serial
            if (maker != "") print "maker", maker
            if (product != "") print "product", product
        }'
fi
echo end
