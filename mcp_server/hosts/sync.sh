# A tree of files brought to this host or away from it, for dash, bash and busybox ash:  sh JOBS_DIR/THIS_FILE push|pull
#
# Requests are lines of sh words on stdin, $BO_NL for a newline; a cut line is never acted on. The first line of output is `ok`.
#
#   push   TARGET WITHIN (a folder below which any target may be taken, or empty):
#          `waiting`, at most once, while another push works there; `ready DIGEST|- UNIX_TIME VERSION OF RSYNC, IF ANY`
#          | `refused TEXT` | `full`. Then requests:
#            manifest        one line: what `store` was given last
#            delete NAME...  files and links     prune NAME...  folders, where they are empty
#            mode OCTAL NAME...  folders that are there already     (no answer to these three)
#            store DIGEST TEXT                   `stored` | `full` | `error TEXT`
#            rsync ARG...    rsync takes over
#            tar             a tar archive; its last file is the next manifest:  `done` | `full` | `error TEXT`
#                            Nothing is placed before all of it is here.
#   pull   SOURCE FIND_WORD...:  `ready - UNIX_TIME VERSION` | `absent` | `error TEXT`; then of find's files each path and a NUL,
#          one more NUL, the same for links and for folders. Then requests:
#            links NAME...   where each leads to, a newline and a NUL
#            rsync ARG...

set -u
LC_ALL=C
export LC_ALL
unset CDPATH
BO_NL='
'
ours=.build-orchestrator-sync # a folder in each target: the sign that it is ours, the lock, what was brought there

explain() { # what the last command said, as an answer; $1 is said where it is no lack of space
    case $trouble in
        *'No space'* | *uota* | *'write error'* | *'Wrote only'*) echo full ;;
        *) echo "$1 ${trouble%%"$BO_NL"*}" ;;
    esac
    exit 1
}

allowed() { # may files be brought here?
    [ "$PWD" != / ] && [ "$PWD" != "${HOME-/}" ] || { why="is no folder for a tree"; return 1; }
    [ -O . ] || { why="belongs to another user"; return 1; }
    [ ! -h "$ours" ] || { why="holds a link named $ours"; return 1; }
    [ ! -d "$ours" ] || return 0
    [ -n "$(ls -A . | head -n 1)" ] || return 0
    why="holds files that no sync brought: name a new or an empty folder, or one below the host's workdir"
    [ -n "$1" ] || return 1
    base=$(cd -P -- "$1" 2>/dev/null && pwd && echo .) || return 1
    base=${base%"$BO_NL".}
    case $PWD/ in "${base%/}/"*) return 0 ;; esac
    return 1
}

lock() { # until this process ends, or its rsync
    if command -v flock >/dev/null 2>&1 && exec 9<"$ours"; then
        flock -n 9 2>/dev/null || { echo waiting; flock 9; }
        return
    fi
    said=
    until mkdir "$ours/lock" 2>/dev/null; do
        holder=
        { read -r holder <"$ours/lock/pid"; } 2>/dev/null
        if [ -n "$holder" ] && ! kill -s 0 "$holder" 2>/dev/null; then
            rm -f "$ours/lock/pid"
            rmdir "$ours/lock" 2>/dev/null # fails where another has taken it already, and written its own
            continue
        fi
        [ -n "$said" ] || { said=yes; echo waiting; }
        sleep .1 2>/dev/null || sleep 1
    done
    trap 'rm -rf "$ours/lock"' EXIT
    trap 'exit 1' HUP INT TERM
    # whoever reads the answer may end us at once, and a lock of nobody would stay
    trouble=$({ echo $$ | keep "$ours/lock/pid"; } 2>&1) || { rm -rf "$ours/lock"; explain refused; }
}

begin() {
    trouble=$(mkdir -p -- "$1" 2>&1) || explain refused
    cd -P -- "$1" 2>/dev/null || { echo "refused $1 cannot be entered"; exit 1; }
    allowed "$2" || { echo "refused $1 $why"; exit 1; }
    trouble=$(umask 077; mkdir -p "$ours/tmp" 2>&1) || explain refused
    lock
    rm -rf "$ours/tmp" # what a killed rsync left
    trouble=$(umask 077; mkdir -p "$ours/tmp" 2>&1) || explain refused
    digest=-
    { read -r digest <"$ours/manifest"; } 2>/dev/null
    ready "${digest:--}"
}

ready() { echo "ready $1 $(date +%s) $(command -v rsync >/dev/null 2>&1 && rsync --version 2>/dev/null | head -n 1)"; }

keep() { cat >"$1"; } # a shell's own printf may say `I/O error` where there is no space; cat says why

store() {
    trouble=$(
        { printf '%s\n%s\n' "$1" "$2" 2>/dev/null | keep "$ours/manifest.new"; } 2>&1 &&
            mv -f "$ours/manifest.new" "$ours/manifest" 2>&1
    ) || { rm -f "$ours/manifest.new"; explain error; }
    echo stored
}

place() { # what lies in the folder $1 of $new, into that folder of the target; a whole folder at once where it is new
    at=$1
    set --
    for entry in "$new/$at"/* "$new/$at"/.[!.]* "$new/$at"/..?*; do
        [ -e "$entry" ] || [ -h "$entry" ] || continue
        there=$at/${entry##*/}
        if [ -d "$entry" ] && [ ! -h "$entry" ]; then
            if [ -d "$there" ] && [ ! -h "$there" ]; then (place "$there") || exit 1; continue; fi
            rm -f "$there" # a file or a link that a build made; mv itself replaces one by a file
        fi
        set -- "$@" "$entry"
        [ $# -lt 200 ] || { move "$@"; set --; }
    done
    [ $# = 0 ] || move "$@"
}

move() { trouble=$(mv -f -- "$@" "$at/" 2>&1) || broken; }

broken() {
    rm -rf "$ours/tmp" # it may hold all the space that there was
    explain error
}

unpack() {
    new=$ours/tmp/new
    trouble=$(umask 077; mkdir "$new" 2>&1) || broken
    trouble=$(tar -xpof - -C "$new" 2>&1) || broken
    # the whole archive is here: from now on nothing depends on the caller
    [ -f "$new/$ours/manifest.new" ] || { trouble='the archive was cut'; broken; }
    trouble=$(mv -f "$new/$ours/manifest.new" "$ours/manifest.new" 2>&1 && rm -rf "${new:?}/$ours" 2>&1) || broken
    place .
    trouble=$(mv -f "$ours/manifest.new" "$ours/manifest" 2>&1) || explain error
    rm -rf "$ours/tmp"
    echo "done"
}

listing() {
    kind=$1
    shift
    find . "$@" -type "$kind" -print0 2>/dev/null
    printf '\0'
}

case ${1-} in
    push | pull) echo ok ;;
    *) echo "unknown operation" >&2; exit 64 ;;
esac
op=$1
IFS= read -r line || exit 65
eval "set -- $line"
if [ "$op" = push ]; then
    begin "$1" "$2"
else
    if ! cd -P -- "$1" 2>/dev/null; then
        if [ -d "$1" ]; then echo "error cannot enter $1"; else echo absent; fi
        exit
    fi
    shift
    ready -
    listing f "$@"
    listing l "$@"
    listing d "$@"
fi
while IFS= read -r line; do
    eval "set -- $line"
    request=$1
    shift
    case $request in
        manifest) { read -r _ && cat; } 2>/dev/null <"$ours/manifest" || echo ;;
        delete) rm -f -- "$@" 2>/dev/null ;;
        prune) rmdir -- "$@" 2>/dev/null ;;
        mode) octal=$1; shift; for name do [ -h "$name" ] || chmod "$octal" "$name"; done 2>/dev/null ;;
        store) store "$@" ;;
        links) for name do readlink "$name"; printf '\0'; done ;;
        rsync) rsync "$@"; exit ;;
        tar) unpack; exit ;;
        *) echo "unknown request" >&2; exit 64 ;;
    esac
done
