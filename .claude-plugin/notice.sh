# Sourced by launch.sh with $notice set: an MCP server whose one tool says it. It needs nothing but sh and sed.
# A client of the newer protocol asks server/discover first, is told that there is none, and falls back to initialize.

said=$(printf %s "$notice" | sed 's/\\/\\\\/g; s/"/\\"/g')
instructions="build-orchestrator is not installed here; its tool setup says what to do."
tool='{"name":"setup","description":"Says what build-orchestrator needs before its tools can be there.","inputSchema":{"type":"object","properties":{}}}'

while IFS= read -r line; do
  id=$(printf '%s\n' "$line" | sed -nE 's/.*"id" *: *(-?[0-9]+|"[^"]*").*/\1/p')
  [ -n "$id" ] || continue # a notification
  case $line in
  *'"method":"initialize"'* | *'"method": "initialize"'*)
    asked=$(printf '%s\n' "$line" | sed -nE 's/.*"protocolVersion" *: *"([0-9-]*)".*/\1/p')
    answer='"result":{"protocolVersion":"'${asked:-2025-11-25}'","capabilities":{"tools":{}},"serverInfo":{"name":"build-orchestrator","version":"'$version'"},"instructions":"'$instructions'"}'
    ;;
  *'"method":"tools/list"'* | *'"method": "tools/list"'*) answer='"result":{"tools":['$tool']}' ;;
  *'"method":"tools/call"'* | *'"method": "tools/call"'*)
    answer='"result":{"content":[{"type":"text","text":"'$said'"}],"isError":true}'
    ;;
  *'"method":"ping"'* | *'"method": "ping"'*) answer='"result":{}' ;;
  *) answer='"error":{"code":-32601,"message":"Method not found"}' ;;
  esac
  printf '{"jsonrpc":"2.0","id":%s,%s}\n' "$id" "$answer"
done
