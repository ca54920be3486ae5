# Files of one host for dash, bash and busybox ash:  sh JOBS_DIR/THIS_FILE list|fetch|put
#
# Requests are lines of sh words on stdin, $BO_NL for a newline; a cut line is never acted on. Names are relative to the root
# and begin with "./", so that none is taken for an option. The first line of output is `ok`.
#
#   list   ROOT, then the words of a `find`:  `here` | `absent` | `error TEXT`, then each path and a NUL, then one more NUL.
#          Then NAME... a line, any number of lines. To each: one letter a name (f a file, u one that cannot be read, - none,
#          a folder or a link out of the tree); for all of f, in their order, SIZE:MODE:MTIME a line; the same with hashes; `.`
#   fetch  ROOT, then NAME... a line. To each: SIZE:MODE:MTIME a line for those that are there; `.`; the bytes of all; `.`
#   put    ROOT, then a tar archive of `names` (HASH NUMBER NAME a line) and of the files under their numbers:
#          `done` | `full` | `changed NUMBER` | `error TEXT`. A file is written aside, checked, and renamed into its place.

set -u
LC_ALL=C
export LC_ALL
unset CDPATH
BO_NL='
'
stage= answer=

fail() { answer="error $*"; exit 1; }

if command -v sha256sum >/dev/null 2>&1; then
    sum=sha256sum
elif command -v shasum >/dev/null 2>&1; then
    sum='shasum -a 256'
elif command -v openssl >/dev/null 2>&1; then
    sum='openssl dgst -sha256 -r'
else
    echo "no sha256sum, shasum or openssl there" >&2
    exit 69
fi
facts='stat -L -c %s:%a:%Y'
stat -c %s / >/dev/null 2>&1 || facts='stat -L -f %z:%Lp:%m'

enter() {
    if cd -- "$1" 2>/dev/null; then echo here; return; fi
    if [ -d "$1" ]; then echo "error cannot enter $1"; else echo absent; fi
    exit
}

inside() { # does this link lead below the root, or below its own folder, which was named or has no links above it?
    real=$(readlink -f "$1" && echo .) root=$(pwd -P && echo .) folder=$(readlink -f "${1%/*}" && echo .)
    root=${root%"$BO_NL".} folder=${folder%"$BO_NL".}
    case $real in "${root%/}/"* | "${folder%/}/"*) return 0 ;; esac
    return 1
}

look() {
    while IFS= read -r line; do
        eval "set -- $line"
        flags=
        for name do
            shift
            if [ ! -f "$name" ]; then
                flags=$flags-
            elif [ -h "$name" ] && ! inside "$name"; then
                flags=$flags-
            elif [ ! -r "$name" ]; then
                flags=${flags}u
            else
                flags=${flags}f
                set -- "$@" "$name"
            fi
        done
        echo "$flags"
        if [ $# != 0 ]; then $facts "$@"; fi
        case $# in # a name with a newline comes alone, and its hash without it
            0) ;;
            1) $sum <"$1" ;;
            *) $sum "$@" ;;
        esac
        echo .
    done 2>/dev/null
}

send() {
    while IFS= read -r line; do
        eval "set -- $line"
        $facts "$@"
        echo .
        cat "$@"
        echo .
    done 2>/dev/null
}

explain() { # what the last command said, as an answer
    case $trouble in
        *'No space'* | *uota* | *'write error'* | *'Wrote only'*) answer=full ;;
        *) answer="error ${trouble%%"$BO_NL"*}" ;;
    esac
    exit 1
}

tidy() { # whoever reads the answer may end us at once, so it comes last
    cd /
    [ -z "$stage" ] || rm -rf "$top/$stage"
    [ -z "$answer" ] || echo "$answer"
}

staged() { # the files that came, in the order of `names`
    while IFS= read -r line; do
        eval "set -- $line"
        echo "$stage/$2"
    done <"$stage/names"
}

differs() { # the number of the first whose hash, on stdin, is not that of `names`
    while IFS= read -r line <&3; do
        eval "set -- $line"
        IFS= read -r found
        case $found in "$1"*) ;; *) echo "$2"; return ;; esac
    done 3<"$stage/names"
}

receive() { # into a folder beside the files: a rename within one file system is whole or not done
    trap tidy EXIT
    trap 'exit 1' HUP INT TERM PIPE
    trouble=$(mkdir -p -- "$1" 2>&1) || explain
    cd -- "$1" 2>/dev/null || fail "cannot enter $1"
    for old in .build-orchestrator-put.*; do # of a killed one
        [ ! -d "$old" ] || kill -s 0 "${old##*.}" 2>/dev/null || rm -rf "./$old"
    done
    top=$PWD
    stage=.build-orchestrator-put.$$
    trouble=$(umask 077; mkdir "$stage" 2>&1) || explain
    trouble=$(tar -xpof - -C "$stage" 2>&1) || explain
    # the whole archive is here: from now on nothing depends on the caller
    wrong=$(staged | xargs -n 64 $sum | differs)
    [ -z "$wrong" ] || { answer="changed $wrong"; exit 1; }
    while IFS= read -r line; do
        eval "set -- $line"
        [ -d "${3%/*}" ] || trouble=$(mkdir -p "${3%/*}" 2>&1) || explain
        [ ! -d "$3" ] || fail "$3 is a folder"
        trouble=$(mv -f "$stage/$2" "$3" 2>&1) || explain
    done <"$stage/names"
    answer="done"
    exit
}

case ${1-} in
    list | fetch | put) echo ok ;;
    *) echo "unknown operation" >&2; exit 64 ;;
esac
IFS= read -r line || exit 65
eval "set -- \"\$1\" $line"
case $1 in
    list)
        enter "$2"
        IFS= read -r line || exit 65
        eval "set -- $line"
        find "$@" 2>/dev/null
        printf '\0'
        look ;;
    fetch) enter "$2"; send ;;
    put) receive "$2" ;;
esac
