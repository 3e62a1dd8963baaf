"""What a machine of a run's group does at every boot: fetch the agent from the run's folder in S3, and have it take the
run up, again and again until that has come to its end.

It is put into the machine's user data as it stands here, without its prose: standard library only, Python 3.9, and
nothing of ours. Where it can do nothing for `GIVE_UP_SECONDS`, it sets the group to zero: a machine that only ends
itself would be replaced.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import pwd
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import Request, urlopen

GIVE_UP_SECONDS = 1800
PAUSE_SECONDS = 5
MACHINE_ROOT = os.environ.get("RUNCTL_MACHINE_ROOT", "")
STATE = Path(f"{MACHINE_ROOT}/var/lib/runctl/take-up")


def variables() -> dict[str, str]:
    """The machine's own, as every login has them."""
    try:
        lines = Path(f"{MACHINE_ROOT}/etc/environment").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    pairs = (line.strip().partition("=") for line in lines if not line.startswith("#"))
    found = {name.replace("export ", ""): value.strip("\"'") for name, mark, value in pairs if mark}
    return {**found, **os.environ}


def read(request: Request, seconds: float) -> bytes:
    """The answer's body. Raises `OSError`, `HTTPError` among them."""
    with urlopen(request, timeout=seconds) as answer:  # noqa: S310 (AWS's addresses, or what stands in for them)
        body: bytes = answer.read()
    return body


def metadata(path: str) -> str:
    """What the metadata service has at the path (IMDSv2)."""
    base = variables().get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or "http://169.254.169.254"
    base = base.rstrip("/") + "/latest/"
    lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    token = read(Request(base + "api/token", method="PUT", headers=lifetime), 5).decode()  # noqa: S310
    mine = {"X-aws-ec2-metadata-token": token}
    return read(Request(f"{base}meta-data/{path}", headers=mine), 5).decode()  # noqa: S310


def call(service: str, region: str, url: str, body: bytes = b"") -> bytes:
    """The answer to a request that is signed with the keys of the machine's role (Signature Version 4)."""
    role = "iam/security-credentials/"
    keys = json.loads(metadata(role + metadata(role).split("\n")[0].strip()))
    method, address = "POST" if body else "GET", urlsplit(url)
    moment, payload = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), hashlib.sha256(body).hexdigest()
    headers = {
        "host": address.netloc,
        "x-amz-content-sha256": payload,
        "x-amz-date": moment,
        "x-amz-security-token": keys["Token"],
    }
    listed = ";".join(headers)
    lines = [f"{name}:{value}" for name, value in headers.items()]
    canonical = "\n".join([method, address.path or "/", "", *lines, "", listed, payload])
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + keys["SecretAccessKey"]).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    who = f"Credential={keys['AccessKeyId']}/{scope}"
    headers["authorization"] = f"AWS4-HMAC-SHA256 {who}, SignedHeaders={listed}, Signature={signature}"
    if body:
        headers["content-type"] = "application/x-www-form-urlencoded; charset=utf-8"
    return read(Request(url, data=body or None, method=method, headers=headers), 60)  # noqa: S310


def endpoint(service: str, region: str, domain: str) -> str:
    """Of the service: what stands in for it, else its own."""
    found = variables()
    stand_in = found.get("AWS_ENDPOINT_URL_" + service.upper()) or found.get("AWS_ENDPOINT_URL")
    return (stand_in or f"https://{service}.{region}.{domain}").rstrip("/")


def login(name: str) -> pwd.struct_passwd:
    """The machine's login user. Where a folder stands for the machine, it has one user, whatever images call theirs.

    Raises `KeyError`.
    """
    return pwd.getpwuid(os.getuid()) if MACHINE_ROOT else pwd.getpwnam(name)


def fetch(wanted: Mapping[str, str], agent: Path) -> None:
    """The agent is in the file: the very one that was meant. Raises `OSError`, `ValueError`."""
    bucket, _, folder = wanted["url"].partition("://")[2].partition("/")
    key = "/".join(filter(None, (folder.strip("/"), wanted["run_id"], wanted["agent"])))
    where, region = quote(f"/{bucket}/{key}", safe="/-_.~"), wanted["store_region"]
    try:
        data = call("s3", region, endpoint("s3", region, wanted["domain"]) + where)
    except HTTPError as error:
        other = error.headers.get("x-amz-bucket-region")
        if not other or other == region:
            raise
        data = call("s3", other, endpoint("s3", other, wanted["domain"]) + where)
    if hashlib.sha256(data).hexdigest() != wanted["agent_sha256"]:
        raise ValueError(f"what is at {where} is not the program that this run was started with")
    new = agent.with_suffix(".new")
    new.write_bytes(data)
    new.replace(agent)


def take_up(wanted: Mapping[str, str], agent: Path) -> int:
    """The agent's exit code, once it has nothing left to do for the run here."""
    request = {
        "url": f"{wanted['url']}/{wanted['run_id']}",
        "endpoint": "",
        "region": wanted["store_region"],
        "group": wanted["group"],
    }
    user = login(wanted["user"])
    own = {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name, "SHELL": user.pw_shell}
    other = os.getuid() == 0 and user.pw_uid != 0
    done = subprocess.run(
        [sys.executable, agent, "take-up"],
        input=json.dumps(request).encode(),
        env={"LANG": "C.UTF-8", **variables(), **({} if MACHINE_ROOT else own)},
        cwd="/",
        user=user.pw_uid if other else None,
        group=user.pw_gid if other else None,
        extra_groups=os.getgrouplist(user.pw_name, user.pw_gid) if other else None,
        check=False,
    )
    return done.returncode


def end_group(wanted: Mapping[str, str]) -> None:
    """The group keeps no machine any more."""
    form = {"Action": "SetDesiredCapacity", "Version": "2011-01-01", "DesiredCapacity": "0"}
    body = urlencode({**form, "AutoScalingGroupName": wanted["group"]}).encode()
    region = wanted["region"]
    call("autoscaling", region, endpoint("autoscaling", region, wanted["domain"]) + "/", body)


def say(text: str) -> None:
    """In the log."""
    sys.stderr.write(time.strftime("%Y-%m-%dT%H:%M:%SZ ", time.gmtime()) + text + "\n")
    sys.stderr.flush()


def main() -> None:
    """Until the run was taken up and has come to its end."""
    wanted = json.loads(Path(__file__).resolve().with_name("take-up.json").read_text(encoding="utf-8"))
    agent = STATE / "agent.pyz"
    began = time.monotonic()
    while True:
        tried = time.monotonic()
        try:
            user = login(wanted["user"])
            if os.getuid() == 0:
                os.chown(STATE, user.pw_uid, user.pw_gid)
            fetch(wanted, agent)
            code = take_up(wanted, agent)
            if code == 0:
                return
            say(f"the agent has ended with {code}")
        except (OSError, ValueError, KeyError, subprocess.SubprocessError):
            say(traceback.format_exc())
        if time.monotonic() - tried > GIVE_UP_SECONDS:
            # It has gone on for long: what ended it is not what keeps it from beginning.
            began = time.monotonic()
        if time.monotonic() - began > GIVE_UP_SECONDS:
            say("giving up: the group is to have no machine")
            try:
                end_group(wanted)
            except (OSError, ValueError, KeyError):
                say(traceback.format_exc())
        time.sleep(PAUSE_SECONDS)


def alone() -> None:
    """In a process of its own, which outlives what has started it; what it says goes into a file."""
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    STATE.mkdir(parents=True, exist_ok=True)
    log = os.open(STATE / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, file in enumerate((nothing, log, log)):
        os.dup2(file, number)
    main()


if __name__ == "__main__":
    alone()
