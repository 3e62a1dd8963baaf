"""``shutdown`` in a pod: ends the pod by RunPod's API, with the key that RunPod puts into each pod for that pod alone.

A program of its own, on the pod, with the standard library of Python 3.9: whatever ends machines there calls it. Where
RunPod does not let that key delete its pod, its older API is asked, then the key in `KEY_FILE`, if the user has had one
put there.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

KEY_FILE = "/usr/local/lib/runctl/end-pod.key"
API = "https://api.runpod.io/v2"
TRIES = 3
PAUSE_SECONDS = 5.0
SECONDS = 20.0


def variables() -> dict[str, str]:
    """This process's, else those of the pod's first process, which alone is sure to have RunPod's."""
    found: dict[str, str] = {}
    try:
        text = Path("/proc/1/environ").read_bytes().decode("utf-8", "replace")
        found = dict(each.split("=", 1) for each in text.split("\0") if "=" in each)
    except OSError:
        pass
    return {**found, **{name: os.environ[name] for name in os.environ if name.startswith("RUNPOD_")}}


def ask(method: str, url: str, key: str, body: object = None) -> tuple[int, str]:
    """Status and text of the answer; 0 where there is none."""
    headers = {"Authorization": "Bearer " + key, "User-Agent": "runctl", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    try:
        request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 (the API's address)
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
            return answer.status, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode("utf-8", "replace")
    except (OSError, ValueError) as error:
        return 0, str(error)


def end(base: str, pod: str, key: str) -> str:
    """Why the pod does not end; empty where it does."""
    status, said = ask("DELETE", f"{base}/pods/{pod}", key)
    if status in (200, 204, 404):
        return ""
    root = base[: -len("/v2")] if base.endswith("/v2") else base
    query = f'mutation {{ podTerminate(input: {{podId: "{pod}"}}) }}'
    older, text = ask("POST", f"{root}/graphql", key, {"query": query})
    if older == 200 and '"errors"' not in text:
        return ""
    return f"{status} {said[:200]}; {older} {text[:200]}"


def main(arguments: list[str]) -> int:
    """As shutdown(8), at once only: there is nothing in a pod that could wait."""
    if "-c" in arguments or any(each.startswith("+") for each in arguments):
        sys.stderr.write("a pod ends at once or not at all\n")
        return 1
    known = variables()
    pod, key = known.get("RUNPOD_POD_ID"), known.get("RUNPOD_API_KEY")
    base = known.get("RUNPOD_API_URL") or API
    keys = [key] if key else []
    if Path(KEY_FILE).exists():
        keys.append(Path(KEY_FILE).read_text(encoding="utf-8").strip())
    if not pod or not keys:
        sys.stderr.write("RunPod has told this pod neither its id nor a key\n")
        return 1
    why = ""
    for number in range(TRIES):
        if number:
            time.sleep(PAUSE_SECONDS)
        for each in keys:
            why = end(base, pod, each)
            if not why:
                return 0
    sys.stderr.write(f"RunPod does not let this pod end itself: {why}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
