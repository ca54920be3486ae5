#!/bin/sh
# Starts the plugin's MCP server; nothing but protocol may reach stdout. One of three ways:
#   the environment for exactly these files is there: become the server, with no process in between;
#   it is not: waiting_room.py installs it and answers the client meanwhile;
#   no Python can run that: notice.sh has a word for the user, and uv installs behind it where there is uv.
set -u
unset CDPATH PYTHONHOME PYTHONPATH # a shell set up for another project must not reach into this environment

case $0 in */*) root=${0%/*}/.. ;; *) root=.. ;; esac

data=${CLAUDE_PLUGIN_DATA:-}
case $data in /*) ;; *) data=${XDG_DATA_HOME:-${HOME:-/tmp}/.local/share}/build-orchestrator-plugin ;; esac

version=0
while read -r key equals value; do
  if [ "$key $equals" = "version =" ]; then
    version=${value#\"} version=${version%\"}
    break
  fi
done <"$root/pyproject.toml"

# By content, so that an edit or an update never runs yesterday's code.
sum=$(cd -- "$root" && find pyproject.toml uv.lock mcp_server prompts skills \
  -type f ! -name '*.pyc' -exec cat {} + 2>/dev/null | cksum)
venv=$data/venv-$version-${sum%% *}

if [ "${1:-}" = --where ]; then # for whoever prepares the environment, or looks for it
  printf '%s\n' "$venv"
  exit
fi
if [ -e "$venv/complete" ] && [ -x "$venv/bin/python" ]; then
  true 2>/dev/null >"$venv/used" # its age tells when an old version may go
  exec "$venv/bin/build-orchestrator" mcp
fi

root=$(cd -- "$root" && pwd -P) || exit 1

runs() { # $1 is a Python that can run the waiting room; Apple's stub would open a dialog instead
  found=$(command -v "$1") || return 1
  if [ "$found" = /usr/bin/python3 ] && [ -x /usr/bin/xcode-select ]; then
    /usr/bin/xcode-select -p >/dev/null 2>&1 || return 1
  fi
  "$1" -I -c 'import sys; sys.exit(sys.version_info < (3, 8))' </dev/null >/dev/null 2>&1
}

for python in python3 python3.14 python3.13 python3.12 python3.11 python; do
  if runs "$python"; then
    exec "$python" -I "$root/.claude-plugin/waiting_room.py" "$root" "$venv" "$data/install.log"
  fi
done

PATH=$PATH:${HOME:-}/.local/bin:${HOME:-}/.cargo/bin
if command -v uv >/dev/null 2>&1; then
  # uv locks and mends the environment itself; its end is the marker
  mkdir -p "$data"
  (
    UV_PROJECT_ENVIRONMENT=$venv uv sync --frozen --no-dev --no-editable --no-progress --project "$root" &&
      touch "$venv/complete"
  ) </dev/null >"$data/install.log" 2>&1 &
  notice="build-orchestrator is being installed by uv: reconnect this MCP server in a minute (/mcp in Claude Code). \
The installer's words are in $data/install.log"
else
  notice="build-orchestrator needs uv, or Python 3.11 or later with its venv module, on PATH. \
Debian or Ubuntu: apt install python3 python3-venv. macOS: brew install uv. Then reconnect this MCP server."
fi
. "$root/.claude-plugin/notice.sh"
