"""git and its ssh: why a clone, fetch or checkout failed, rather than what follows (`Could not read from remote`)."""

from mcp_server.idf.diagnostics.finding import Rank, Rule

_FATAL = r"^(?:ERROR: |error: )?fatal: "
_INTO_SUBMODULE = r"^fatal: clone of '.*' into submodule path "  # says where a repository without a name belongs
_NO_REPOSITORY = "check the URL; a server says the same of a private repository to those it does not know"
_LOGIN = "nobody can type a password here: use an ssh URL and a key, or a credential helper of git"
_SSH_HOST = "check the server's fingerprint, then accept its key once by hand, as the user who builds (ssh {at})"
_NETWORK = "check the host's name and port, and the network or proxy that this machine has"
_BRANCH = "no such branch or tag at the origin: check its spelling, or push it there first"

_REACH = (
    Rule(
        "git",
        ("no public address",),
        _FATAL + r"(?P<message>\S+ is (?:\S+, )?no public address; .*)$",
        "fatal: localhost is 127.0.0.1, no public address; security.project_hosts in config.yaml allows it",
        rank=Rank.ROOT,
    ),
    Rule(
        "ssh",
        ("requested strict checking",),
        r"^(?P<message>Host key for (?P<at>\S+) has changed and you have requested strict checking.*)$",
        "Host key for [192.168.7.20]:2222 has changed and you have requested strict checking.",
        follow=r"^Host key verification failed",
        hint="if the server was really set up anew, take its old key out (ssh-keygen -R '{at}') and accept the new one",
    ),
    Rule(
        "ssh",
        ("requested strict checking",),
        r"^(?P<message>No \S+ host key is known for (?P<at>\S+) and you have requested strict checking.*)$",
        "No ED25519 host key is known for 192.168.7.20 and you have requested strict checking.",
        follow=r"^Host key verification failed",
        hint=_SSH_HOST,
    ),
    Rule(
        "ssh",
        ("Host key verification failed",),
        r"^(?P<message>Host key verification failed.*)$",
        "Host key verification failed.",
        hint=_SSH_HOST.format(at="HOST"),
    ),
    Rule(
        "ssh",
        ("Permission denied (",),
        r"^(?P<message>\S+@\S+: Permission denied \([a-z0-9,@.-]+\).*)$",
        "git@192.168.7.20: Permission denied (publickey,keyboard-interactive).",
        hint="the server takes no key of the user who builds: add its public key there, or name one in ~/.ssh/config",
    ),
    Rule(
        "network",
        ("ssh: ",),
        r"^(?P<message>ssh: (?:connect to host|Could not resolve hostname) .*)$",
        "ssh: connect to host 192.168.7.20 port 22: Connection refused",
        hint=_NETWORK,
    ),
    Rule(
        "network",
        ("[Errno ", ": timed out"),
        _FATAL + r"(?P<message>\S+: (?:\[Errno -?\d+\] .*|timed out))$",  # of what dials for it, public_net.py
        "fatal: nosuchhost.invalid: [Errno -2] Name or service not known",
        rank=Rank.ROOT,
        hint=_NETWORK,
    ),
    Rule(
        "network",
        ("exchange_identification: ",),
        r"^(?P<message>(?:kex|ssh)_exchange_identification: .*)$",
        "kex_exchange_identification: Connection closed by remote host",
        follow=r"^Connection (?:closed|reset) by |^fatal: Could not read from",
        rank=Rank.RESULT,  # where a proxy or our own check refused, that one says why
    ),
    Rule(
        "network",
        ("unable to access",),
        _FATAL + r"(?P<message>unable to access .*(?:CONNECT tunnel failed|from proxy after CONNECT).*)$",
        "fatal: unable to access 'https://lamps.example/a.git/': CONNECT tunnel failed, response 403",
        rank=Rank.RESULT,
    ),
    Rule(
        "git",
        ("unable to access",),
        _FATAL + r"(?P<message>unable to access .*(?:certificate|CAfile).*)$",
        "fatal: unable to access 'https://lamps.example/a.git/': server certificate verification failed. CAfile: none",
        follow=_INTO_SUBMODULE,
        hint="the server's certificate is not trusted here: install its authority's (http.sslCAInfo of git)",
    ),
    Rule(
        "git",
        ("unable to access",),
        _FATAL + r"(?P<message>unable to access .*returned error: 40[0-79].*)$",
        "fatal: unable to access 'https://lamps.example/a.git/': The requested URL returned error: 403",
        follow=_INTO_SUBMODULE,
        hint=_NO_REPOSITORY,
    ),
    Rule(
        "network",
        ("unable to access",),
        _FATAL + r"(?P<message>unable to access .*)$",
        "fatal: unable to access 'https://github.com/x/y.git/': Could not resolve host: github.com",
        follow=_INTO_SUBMODULE,
        hint=_NETWORK,
    ),
    Rule(
        "network",
        ("unable to connect to", "nable to look up", "RPC failed"),
        r"^(?:fatal|error): (?P<message>(?:unable to connect to|[Uu]nable to look up|RPC failed).*)$",
        "fatal: unable to connect to 192.168.7.20:",
        follow=r"errno=",
        hint=_NETWORK,
    ),
    Rule(
        "network",
        ("the remote end hung up", "early EOF"),
        _FATAL + r"(?P<message>(?:the remote end hung up|early EOF).*)$",
        "fatal: the remote end hung up unexpectedly",
        rank=Rank.RESULT,
    ),
)
_ACCESS = (
    Rule(
        "git",
        ("remote: ",),
        r"^remote: (?:ERROR: |error: |fatal: )?(?P<message>.*(?:not (?:be )?(?:found|granted|allowed|permitted)"
        r"|[Dd]enied|[Ii]nvalid (?:user|credential)|[Aa]uthentication (?:is|failed)|rejected|suspended|disabled"
        r"|SAML).*)$",
        "remote: Repository not found.",
        follow=r"^(?:remote: \w|fatal: (?:repository|Authentication|unable to access))",
        hint=_NO_REPOSITORY,
    ),
    Rule(
        "git",
        ("ERROR: ",),
        r"^ERROR: (?P<message>(?:Repository not found|Permission to \S+ denied"
        r"|The project you were looking for could not be found).*)$",
        "ERROR: Repository not found.",
        hint=_NO_REPOSITORY,
    ),
    Rule(
        "git",
        ("could not read Username", "could not read Password", "Authentication failed for"),
        _FATAL + r"(?P<message>(?:could not read (?:Username|Password)|Authentication failed) for .*)$",
        "fatal: could not read Username for 'https://github.com': terminal prompts disabled",
        follow=_INTO_SUBMODULE,
        hint=_LOGIN,
    ),
    Rule(
        "git",
        ("fatal: repository", "does not appear to be a git repository"),
        _FATAL
        + r"(?P<message>repository '.*' (?:not found|does not exist).*|'.*' does not appear to be a git repository.*)$",
        "fatal: repository 'https://lamps.example/a.git/' not found",
        follow=_INTO_SUBMODULE,
        hint=_NO_REPOSITORY,
    ),
    Rule(
        "git",
        ("not our ref",),
        _FATAL + r"(?P<message>remote error: upload-pack: not our ref .*)$",
        "fatal: remote error: upload-pack: not our ref 1111111111111111111111111111111111111111",
        rank=Rank.RESULT,
    ),
    Rule(
        "git",
        ("fatal: remote error: ",),
        _FATAL + r"(?P<message>remote error: .*)$",
        "fatal: remote error: access denied or repository not exported: /none.git",
        follow=_INTO_SUBMODULE,
        hint=_NO_REPOSITORY,
    ),
    Rule(
        "git",
        ("not allowed",),
        _FATAL + r"(?P<message>transport '\S+' not allowed.*)$",
        "fatal: transport 'file' not allowed",
        follow=_INTO_SUBMODULE,
        hint="only https, http, ssh and git:// are fetched from, for submodules as well",
    ),
)
_STATE = (
    Rule(
        "git",
        ("Remote branch", "find remote ref"),
        _FATAL + r"(?P<message>Remote branch \S+ not found.*|[Cc]ouldn't find remote ref .*)$",
        "fatal: Remote branch nosuch not found in upstream origin",
        hint=_BRANCH,
    ),
    Rule(
        "git",
        ("nor at its origin", "is not to be had from"),
        _FATAL + r"(?P<message>(?:commit|branch) \S+ is (?:not known in|neither in|not to be had from) .*)$",
        "fatal: commit 0123456789012345678901234567890123456789 is not known in /p, nor at its origin",
        rank=Rank.RESULT,  # where the origin could not be asked, that is the cause
        hint="check it, or push it to the origin first",
    ),
    Rule(
        "git",
        ("is on no branch",),
        _FATAL + r"(?P<message>.* is on no branch)$",
        "fatal: /home/dev/lamp is on no branch",
        rank=Rank.RESULT,
        hint="git switch to the branch that is to be synced",
    ),
    Rule(
        "git",
        ("ot possible to fast-forward", "unrelated histories"),
        _FATAL + r"(?P<message>Not possible to fast-forward.*|refusing to merge unrelated histories.*)$",
        "fatal: Not possible to fast-forward, aborting.",
        hint="the clone has commits that its origin lacks, or the origin was rewritten: rebase, merge or reset by hand",
    ),
    Rule(
        "git",
        ("would be overwritten by",),
        r"^error: (?P<message>(?:Your local changes to|The following untracked working tree) .*"
        r" would be overwritten by .*)$",
        "error: Your local changes to the following files would be overwritten by merge:",
        follow=r"^\s+\S",
        hint="commit, stash or remove them: nothing here throws away what is not committed",
    ),
    Rule(
        "git",
        (".lock': File exists", "cannot lock ref"),
        r"^(?:fatal|error): (?P<message>Unable to create '.*\.lock': File exists.*|cannot lock ref .*)$",
        "error: Unable to create '/home/dev/lamp/.git/index.lock': File exists.",
        hint="another git works in it; where none does, one was killed there: remove the file",
    ),
    Rule(
        "git",
        ("submodule path",),
        _FATAL + r"(?P<message>Fetched in submodule path .*|Unable to (?:fetch|checkout) .* in submodule path .*)$",
        "fatal: Fetched in submodule path 'lib', but it did not contain 1111. Direct fetching of that commit failed.",
        hint="the commit that the project names is not in the submodule's repository: push it there",
    ),
    Rule(
        "git",
        ("unable to write file", "cannot create directory at"),
        r"^(?:fatal|error): (?P<message>unable to write (?:file )?\S.*|cannot create directory at .*)$",
        "error: unable to write file big.bin",
        hint="the disk may be full, or the folder not be writable",
    ),
    Rule(
        "git",
        ("dubious ownership", "unsafe repository"),
        _FATAL + r"(?P<message>(?:detected dubious ownership in|unsafe) repository.*)$",
        "fatal: detected dubious ownership in repository at '/home/dev/lamp'",
        rank=Rank.RESULT,  # builds that only ask for a version go on without
        hint="the folder is another user's: git config --global --add safe.directory, or chown it",
    ),
    Rule(
        "git",
        ("ould not read from remote", "submodule path", "fetch-pack", "index-pack", "unable to checkout working"),
        _FATAL + r"(?P<message>[Cc]ould not read from remote repository.*|clone of .* into submodule path .* failed.*"
        r"|fetch-pack: .*|index-pack failed.*|unable to checkout working tree.*)$",
        "fatal: Could not read from remote repository.",
        rank=Rank.RESULT,
        hint="the lines before it in the log say why",
    ),
)
RULES: tuple[Rule, ...] = (*_REACH, *_ACCESS, *_STATE)
