"""Keeps secrets out of a command's log, on the host that runs it: the log is a file there.

`masked` wraps a command in a POSIX sh script (dash, bash, busybox ash). What the command prints goes through a FIFO to
a filter, which writes `***` in the place of each value; all else comes out byte for byte, as soon as it is printed. The
values are read from the environment, so that no command line holds one.

The filter is the first of these that the host has:

- perl, then python3: binary-safe, in linear time and bounded memory however long a line is. They know a value plain,
  percent-encoded and in base64 (standard and URL-safe, also in the middle of something encoded as a whole, as in
  `Authorization: Basic`, or wrapped at 64 or 76 letters), and each line of a value. What may be the beginning of one is
  kept back until it is decided, for 1 s at most; should the rest come later, the rest is masked.
- awk, where there is nothing else: line by line, so a NUL may end a line early, the last line gets a newline, very long
  lines are slow; it knows the lines of a value, but no encoded form. Its end is waited for 1 s at most.

Values of less than four letters are left, as in `redact`.
"""

from collections.abc import Sequence

WRAPPER = r"""
bo_names=$1 bo_perl=$2 bo_python=$3 bo_awk=$4
shift 4
bo_refuse() {
    echo "build-orchestrator: $1; the command has not been run" >&2
    exit 126
}
if perl -e 1; then bo_kind=perl
elif python3 -I -S -c 'import base64, re, select'; then bo_kind=python
elif awk 'BEGIN { exit 0 }'; then bo_kind=awk
else bo_kind=
fi </dev/null >/dev/null 2>&1
[ -n "$bo_kind" ] || bo_refuse 'neither perl nor python3 nor awk is here to mask secrets in the log'
bo_folder=$(umask 077; mktemp -d 2>/dev/null) && [ -d "$bo_folder" ] ||
    bo_refuse "no folder can be made in ${TMPDIR:-/tmp}, which masking secrets needs"

# Opened for reading and writing first, so that no opening waits for a peer. 9 is the lock of the job.
(umask 077; mkfifo "$bo_folder/out" "$bo_folder/over" "$bo_folder/done") 2>/dev/null && {
    command exec 3<>"$bo_folder/out" 4<"$bo_folder/out" 5>"$bo_folder/out" 7<>"$bo_folder/over" 6<"$bo_folder/over" \
        3<>"$bo_folder/done" 8<"$bo_folder/done"
} 2>/dev/null
bo_code=$?
rm -rf "$bo_folder"
[ "$bo_code" = 0 ] || bo_refuse "no FIFO can be made in ${TMPDIR:-/tmp}, which masking secrets needs"

# The filter outlives signals to the group: what a command prints when it is told to end is for the log, too.
trap '' HUP INT QUIT TERM
(
    case $bo_kind in
        perl) LC_ALL=C PERL5OPT='' PERL_UNICODE=0 exec perl -e "$bo_perl" $bo_names ;;
        python) exec python3 -I -S -c "$bo_python" $bo_names ;;
    esac
    case $(awk -W version 2>&1 </dev/null) in
        *mawk*) exec awk -W interactive -v names="$bo_names" "$bo_awk" ;;
        *) exec awk -v names="$bo_names" "$bo_awk" ;;
    esac
) <&4 4<&- 5>&- 7>&- 8<&- 9>&- &
bo_filter=$!
exec 2>/dev/null 3>&- 4<&- 6<&- # no reader but the filter; and no "Killed" of this shell's in the log

# Never `&`: SIGINT would be ignored for the whole command. With a trap, a signal to the group leaves its code to it.
trap : HUP INT QUIT TERM
(exec "$@" >&5 2>&1 5>&- 7>&- 8<&-) # redirected in there, or dash says "Killed" where the command prints
bo_code=$?
exec 5>&- 7>&-
if [ "$bo_kind" != awk ]; then
    read -r _ <&8 # end of file: all that the command has printed is written, or there is no filter any more
else
    for bo_turn in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        kill -s 0 "$bo_filter" || break
        sleep .05 || { sleep 1; break; }
    done
fi
exit "$bo_code"
"""
"""Arguments: variable names in one word, the three filters, then the command and its arguments.

Descriptors: 4 and 5 are the ends of what is printed. The wrapper holds 7 until the command has ended; the filter sees
that on 6, writes what is there already, and closes 3, which ends the wait on 8. So neither a background process, which
keeps what is printed open, nor a slow host makes the end come late or cuts the log short.
"""

PERL = r"""
eval { require POSIX; POSIX::setsid() };  # no part of what the job may leave behind, as it lives on for that only
chdir "/";
$| = 1;
binmode STDIN;
binmode STDOUT;
open $over, "<&=6";
open $done, ">&=3";

sub base64 {
    my ($raw) = @_;
    my $text = pack "u", $raw;
    $text =~ s/^.//mg;
    $text =~ s/\n//g;
    $text =~ tr#` -_#AA-Za-z0-9+/#;
    return substr $text, 0, int((8 * length($raw) + 5) / 6);
}

sub forms {
    my ($value) = @_;
    $value =~ s/^[\r\n]+//;
    $value =~ s/[\r\n]+\z//;
    return if ($value =~ tr/\x80-\xbf//c) < 4;
    my @forms = ($value);
    for my $line (split /[\r\n]+/, $value) {
        $line =~ s/^[ \t]+|[ \t]+$//g;
        push @forms, $line if ($line =~ tr/\x80-\xbf//c) > 3 && $line !~ /^-----(BEGIN|END) [A-Z0-9 ]+-----$/;
    }
    (my $all = $value) =~ s/([^A-Za-z0-9_.~-])/sprintf "%%%02X", ord $1/ge;
    (my $plus = $all) =~ s/%20/+/g;
    (my $path = $all) =~ s#%2F#/#g;
    (my $script = $all) =~ s/%(2[1789A])/chr hex $1/ge;
    for my $quoted ($all, $plus, $path, $script) {
        push @forms, $quoted;
        (my $lower = $quoted) =~ s/(%..)/lc $1/ge;
        push @forms, $lower;
    }
    my @encoded;
    for my $before (0, 1, 2) {
        my $text = substr base64("\0" x $before . $value), (0, 2, 3)[$before];
        push @encoded, $text;
        push @encoded, substr $text, 0, -1 if ($before + length $value) % 3;
    }
    for my $width (64, 76) {
        push @encoded, grep { length > 15 } unpack "(a$width)*", $encoded[0] if length $encoded[0] > $width;
    }
    for my $text (@encoded) {
        push @forms, $text;
        (my $safe = $text) =~ tr#+/#-_#;
        push @forms, $safe;
    }
    return @forms;
}

my %seen;
my @found = grep { !$seen{$_}++ } map { forms($ENV{$_}) } grep { defined $ENV{$_} } @ARGV;
for my $form (sort { length $b <=> length $a } @found) {
    push @{$forms{substr $form, 0, 4}}, $form;
    $begins{substr $form, 0, $_} = 1 for 1, 2, 3;
}
my $heads = join "|", map quotemeta, sort keys %forms;
$heads = "(?!)" if $heads eq "";
$heads = qr/$heads/;
my ($held, $shown) = ("", 0);  # $shown bytes of $held are written already

sub say_bytes {
    my ($data) = @_;
    my $from = 0;
    while ($from < length $data) {
        my $count = syswrite STDOUT, $data, length($data) - $from, $from;
        if (defined $count) { $from += $count }
        elsif (!$!{EINTR}) { return }  # a full disk: the command goes on, as it would without a filter
    }
}

sub turn {  # writes what is decided of $held; all of it at the $end; "idle": nothing more comes now
    my ($end) = @_;
    my ($out, $from, $first, $cut) = ("", 0, undef, undef);
    pos($held) = 0;
    HEAD: while ($held =~ /$heads/g) {
        my $at = $-[0];
        my $left = length($held) - $at;
        my $size = 0;
        for my $form (@{$forms{substr $held, $at, 4}}) {
            my $length = length $form;
            if ($length > $left) {
                next if $end || substr($form, 0, $left) ne substr($held, $at);
                $cut = $at;
                last HEAD;
            }
            if (substr($held, $at, $length) eq $form) { $size = $length; last }
        }
        if ($size) {
            $first = $at if !defined $first;
            $out .= substr($held, $from, $at - $from) . "***";
            $from = $at + $size;
        }
        pos($held) = $size ? $from : $at + 1;
    }
    my $length = length $held;
    if (!defined $cut && !$end) {
        for my $size (3, 2, 1) {
            next if $length - $size < $from || !$begins{substr $held, -$size};
            $cut = $length - $size;
            last;
        }
    }
    $cut = $length if !defined $cut;
    $out .= substr $held, $from, $cut - $from;
    my $skip = defined $first && $first < $shown ? $first : $shown;
    say_bytes(substr $out, $skip) if $skip < length $out;
    if ($end eq "idle" && !defined $first) { $shown = $length; return }
    $held = substr $held, $cut;
    $shown = $shown > $cut ? $shown - $cut : 0;
}

my ($state, $room) = ("runs", 1 << 20);  # $room: more than a pipe holds, so all that the command has printed
while (1) {
    my $ready = "";
    vec($ready, 0, 1) = 1;
    vec($ready, 6, 1) = 1 if $state eq "runs";
    my $count = select $ready, undef, undef, $state eq "ends" ? 0 : length $held > $shown ? 1 : undef;
    next if $count < 0;
    my $more = vec($ready, 0, 1);
    if ($count && $more) {
        my $got = sysread STDIN, $held, 1 << 16, length $held;
        next if !defined $got && $!{EINTR};
        last if !$got;
        $room -= $got if $state eq "ends";
        turn("");
    }
    elsif (!$count) { turn("idle") }
    if ($state eq "ends" && (!$more || $room <= 0)) { close $done; $state = "over" }
    $state = "ends" if $state eq "runs" && $count && vec($ready, 6, 1);
}
turn("end");
"""
"""For perl 5.8 and later without any module."""

PYTHON = r'''
import base64, os, re, select, signal, sys

signal.signal(signal.SIGPIPE, signal.SIG_DFL)
try:
    os.setsid()  # no part of what the job may leave behind, as it lives on for that only
except OSError:
    pass
os.chdir("/")


def letters(value):
    return len(re.sub(b"[\x80-\xbf]", b"", value))


def forms(value):
    value = value.strip(b"\r\n")
    if letters(value) < 4:
        return
    yield value
    for line in re.split(b"[\r\n]+", value):
        line = line.strip(b" \t")
        if letters(line) > 3 and not re.match(b"-----(BEGIN|END) [A-Z0-9 ]+-----$", line):
            yield line
    whole = re.sub(b"[^A-Za-z0-9_.~-]", lambda found: ("%%%02X" % ord(found.group())).encode(), value)
    script = re.sub(b"%(2[1789A])", lambda found: bytes([int(found.group(1), 16)]), whole)
    for quoted in whole, whole.replace(b"%20", b"+"), whole.replace(b"%2F", b"/"), script:
        yield quoted
        yield re.sub(b"%..", lambda found: found.group().lower(), quoted)
    for text in encoded(value):
        yield text
        yield text.replace(b"+", b"-").replace(b"/", b"_")


def encoded(value):
    for before, dropped in enumerate((0, 2, 3)):
        text = base64.b64encode(b"\0" * before + value).rstrip(b"=")[dropped:]
        yield text
        if (before + len(value)) % 3:
            yield text[:-1]
    text = base64.b64encode(value).rstrip(b"=")
    for width in (64, 76):
        if len(text) > width:
            for at in range(0, len(text), width):
                if len(text) - at > 15:
                    yield text[at : at + width]


def tree(words):
    """A pattern for words of one length that looks at each letter once: thousands of them are as quick as a few."""
    by_letter = {}
    for word in words:
        by_letter.setdefault(word[:1], []).append(word[1:])
    parts = [re.escape(letter) + (tree(ends) if ends[0] else b"") for letter, ends in by_letter.items()]
    return b"(?:" + b"|".join(parts) + b")"


found = {form for name in sys.argv[1:] if name.encode() in os.environb for form in forms(os.environb[name.encode()])}
by_head, begins = {}, set()
for form in sorted(found, key=len, reverse=True):
    by_head.setdefault(form[:4], []).append(form)
    begins |= {form[:1], form[:2], form[:3]}
heads = re.compile(tree(sorted(by_head)) if by_head else b"(?!)")
held, shown = b"", 0  # `shown` bytes of `held` are written already


def say(data):
    data = memoryview(data)
    while data:
        try:
            data = data[os.write(1, data) :]
        except OSError:
            return  # a full disk: the command goes on, as it would without a filter


def look(at, end):
    """How long the value at `at` is, 0: none, -1: it may become one."""
    left = len(held) - at
    for form in by_head[held[at : at + 4]]:
        if len(form) > left:
            if not end and form.startswith(held[at:]):
                return -1
        elif held.startswith(form, at):
            return len(form)
    return 0


def turn(end=""):
    """Writes what is decided of `held`; all of it at the `end`; "idle": nothing more comes now."""
    global held, shown
    out, start, first, cut = [], 0, None, None
    hit = heads.search(held) if len(by_head) > 99 or any(head in held for head in by_head) else None
    while hit:
        at = hit.start()
        size = look(at, end)
        if size < 0:
            cut = at
            break
        if size:
            first = at if first is None else first
            out += held[start:at], b"***"
            start = at + size
        hit = heads.search(held, start if size else at + 1)
    if cut is None and not end:
        places = (len(held) - size for size in (3, 2, 1))
        cut = next((at for at in places if at >= start and held[at:] in begins), None)
    cut = len(held) if cut is None else cut
    out = b"".join(out + [held[start:cut]])
    say(out[first if first is not None and first < shown else shown :])
    if end == "idle" and first is None:
        shown = len(held)
    else:
        held, shown = held[cut:], max(shown - cut, 0)


state, room = "runs", 1 << 20  # `room`: more than a pipe holds, so all that the command has printed
while True:
    wait = 0 if state == "ends" else 1 if len(held) > shown else None
    ready = select.select([0, 6] if state == "runs" else [0], [], [], wait)[0]
    if 0 in ready:
        data = os.read(0, 1 << 16)
        if not data:
            break
        held += data
        room -= len(data) if state == "ends" else 0
        turn()
    elif not ready:
        turn("idle")
    if state == "ends" and (0 not in ready or room <= 0):
        os.close(3)
        state = "over"
    if 6 in ready:
        state = "ends"
turn("end")
'''
"""For python 3.5 and later; the same as `PERL`."""

AWK = r"""
BEGIN {
    count = split(names, name, " ")
    for (i = 1; i <= count; i++) {
        lines = split(ENVIRON[name[i]], line, "\n")
        for (j = 1; j <= lines; j++) {
            gsub(/^[ \t\r]+|[ \t\r]+$/, "", line[j])
            if (length(line[j]) > 3) secret[++secrets] = line[j]
        }
    }
    for (i = 2; i <= secrets; i++) { # the longest first
        one = secret[i]
        for (j = i - 1; j > 0 && length(secret[j]) < length(one); j--) secret[j + 1] = secret[j]
        secret[j + 1] = one
    }
}
{
    for (i = 1; i <= secrets; i++) {
        if (!index($0, secret[i])) continue
        done = ""
        rest = $0
        while (at = index(rest, secret[i])) {
            done = done substr(rest, 1, at - 1) "***"
            rest = substr(rest, at + length(secret[i]))
        }
        $0 = done rest
    }
    print
    fflush()
}
"""


def masked(argv: Sequence[str], names: Sequence[str]) -> list[str]:
    """`argv`, with the values of the environment variables `names` kept out of what it prints on stdout and stderr.

    It ends with the command's own code (128 + n for signal n); 126 with a sentence, and nothing run, where the host
    lacks what the masking needs.
    """
    return ["sh", "-c", WRAPPER, "sh", " ".join(names), PERL, PYTHON, AWK, *argv]
