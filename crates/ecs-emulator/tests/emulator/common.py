"""What the scripts with the official SDKs share: the control routes, a client, and how a check fails."""

import contextlib
import json
import sys
import urllib.request
from datetime import datetime, timezone

from alibabacloud_ecs20140526 import models as ecs
from alibabacloud_ecs20140526.client import Client
from alibabacloud_tea_openapi import utils_models as openapi
from darabonba.exceptions import DaraException

URL = sys.argv[1].rstrip("/")
KEY = {"id": "emulator-access-key", "secret": "emulator-access-key-secret"}
REGION = "cn-hangzhou"


# The control routes.


def control(method, route, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{URL}/_emulator/{route}", data, method=method)
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.load(reply)


def console_password(name):
    return control("GET", f"instances/{name}")["consolePassword"]


def put_instance(name, **fields):
    control("PUT", f"instances/{name}", fields)


@contextlib.contextmanager
def shifted_clock(seconds):
    """Sets the emulator's clock ahead of the SDK's, and back."""
    control("PUT", "clock", {"advanceMs": seconds * 1000})
    try:
        yield
    finally:
        control("PUT", "clock", {"now": datetime.now(timezone.utc).isoformat()})


# The SDK.


def client(secret=KEY["secret"], **config):
    return Client(
        openapi.Config(
            access_key_id=config.pop("access_key_id", KEY["id"]),
            access_key_secret=secret,
            endpoint=URL.removeprefix("http://"),
            protocol="HTTP",
            region_id=REGION,
            **config,
        )
    )


def modify(instance_id, password, by=None, region_id=REGION):
    request = ecs.ModifyInstanceVncPasswdRequest(
        region_id=region_id, instance_id=instance_id, vnc_password=password
    )
    return (by or client()).modify_instance_vnc_passwd(request).body


# The checks.


def check(what, holds):
    if not holds:
        sys.exit(f"FAILED  {what}")
    print(f"ok      {what}")


def refused(what, code, act):
    """Checks that `act` is refused with `code`; gives back the exception."""
    try:
        act()
    except DaraException as error:
        if error.code != code:
            sys.exit(f"FAILED  {what}: {error.code} instead of {code}: {error.message}")
        print(f"ok      {what}: {code}")
        return error
    sys.exit(f"FAILED  {what}: accepted instead of {code}")
