"""A program that speaks the Agent Client Protocol as its first argument says, a JSON list of [what, argument].

It reads and writes JSON lines itself, so that it can also do what no library would: break the protocol, print without
end, leave children, not want to end.
"""

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

OPTIONS = [{"optionId": kind, "name": kind, "kind": kind} for kind in ("allow_always", "allow_once", "reject_once")]
STATE = {"session": "s1", "asked": 0}


def send(**message: Any) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def receive() -> dict[str, Any]:
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return json.loads(line)


def update(**fields: Any) -> None:
    send(method="session/update", params={"sessionId": STATE["session"], "update": fields})


def say(text: str) -> None:
    update(sessionUpdate="agent_message_chunk", content={"type": "text", "text": text})


def do(what: str, given: Any) -> str | None:  # noqa: PLR0912  # a step each
    """A step of the prompt; text: the prompt's stop reason."""
    match what:
        case "say":
            say(given)
        case "tool":
            update(sessionUpdate="tool_call", **{"toolCallId": "t", "title": "t", "status": "pending", **given})
            update(sessionUpdate="tool_call_update", toolCallId="t", status="completed")
        case "ask":
            STATE["asked"] = int(STATE["asked"]) + 1
            call = {"toolCallId": f"a{STATE['asked']}", "title": "t", **given}
            options = call.pop("options", OPTIONS)
            params = {"sessionId": STATE["session"], "toolCall": call, "options": options}
            send(id=f"a{STATE['asked']}", method="session/request_permission", params=params)
            answer = receive()
            say(json.dumps(answer.get("result", answer.get("error"))) + "\n")
        case "usage":
            update(sessionUpdate="usage_update", **given)
        case "stderr":
            sys.stderr.write(given)
            sys.stderr.flush()
        case "junk":
            sys.stdout.write(given)
            sys.stdout.flush()
        case "flood":
            while True:
                sys.stdout.write("x" * 65536)
        case "sh":  # in the session's folder, which is where it was started
            subprocess.run(["sh", "-c", given], check=False, stdout=subprocess.DEVNULL)
        case "child":
            child = subprocess.Popen(["sleep", "60"])
            say(f"child {child.pid}\n")
        case "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            say("sleeping\n")
            while True:
                time.sleep(60)
        case "until cancelled":
            say("sleeping\n")
            assert receive()["method"] == "session/cancel"
            return "cancelled"
        case "wait to be cancelled":  # and go on all the same
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            say("sleeping\n")
            assert receive()["method"] == "session/cancel"
        case "stop":
            return given
        case "exit":
            os._exit(given)
        case _:
            raise ValueError(what)
    return None


def main() -> None:
    steps: list[tuple[str, Any]] = json.loads(sys.argv[1])
    able: dict[str, Any] = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    while True:
        message = receive()
        match message.get("method"):
            case "initialize" if "die" in able:
                sys.stderr.write(able["die"])
                sys.exit(1)
            case "initialize":
                send(id=message["id"], result={"protocolVersion": 1, "agentCapabilities": able.get("can", {})})
            case "session/new" if "error" in able:
                send(id=message["id"], error=able["error"])
            case "session/new":
                STATE["session"] = "fresh"
                send(id=message["id"], result={"sessionId": "fresh", "configOptions": able.get("options")})
            case "session/load" | "session/resume":
                STATE["session"] = message["params"]["sessionId"]
                if STATE["session"] == "gone":
                    send(id=message["id"], error={"code": -32002, "message": "Resource not found"})
                    continue
                if message["method"] == "session/load":
                    say("what was said long ago\n")
                send(id=message["id"], result={})
            case "session/set_config_option":
                say(f"model {message['params']['value']}\n")
                STATE["model"] = message["params"]["value"]
                send(id=message["id"], result={"configOptions": []})
            case "session/prompt":
                say(f"{STATE.get('model', '')}{message['params']['prompt'][0]['text']}\n")
                reason = next((stop for what, given in steps if (stop := do(what, given))), "end_turn")
                usage = {"totalTokens": 30, "inputTokens": 20, "outputTokens": 10}
                send(id=message["id"], result={"stopReason": reason, "usage": usage})
            case _:
                pass


if __name__ == "__main__":
    main()
