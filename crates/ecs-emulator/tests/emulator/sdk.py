"""Drives a running ecs-emulator with Alibaba Cloud's official SDK for Python.

    python sdk.py URL

Prints a line for each check, and ends with an error at the first that fails. The emulator must be fresh
and take its default access key.
"""

import json
import uuid
from datetime import datetime, timedelta, timezone
from unittest import mock
from xml.etree import ElementTree

from alibabacloud_ecs20140526 import models as ecs
from alibabacloud_tea_openapi import utils_models as openapi
from alibabacloud_tea_openapi.utils import Utils
from darabonba.runtime import RuntimeOptions

from common import REGION, check, client, console_password, control, modify, put_instance, refused, shifted_clock


def describe(by=None, **parameters):
    request = ecs.DescribeInstancesRequest(region_id=REGION, **parameters)
    return (by or client()).describe_instances(request).body


def status(instance_id):
    return describe(instance_ids=json.dumps([instance_id])).instances.instance[0].status


def reboot(instance_id, by=None):
    return (by or client()).reboot_instance(ecs.RebootInstanceRequest(instance_id=instance_id)).body


def call_xml(action, **query):
    """Calls an action with `Format=XML` and gives back the text of the reply."""
    parameters = openapi.Params(
        action=action,
        version="2014-05-26",
        protocol="HTTP",
        pathname="/",
        method="POST",
        auth_type="AK",
        style="RPC",
        req_body_type="formData",
        body_type="string",
    )
    request = openapi.OpenApiRequest(query={"Format": "XML", **query})
    return client().call_api(parameters, request, RuntimeOptions())["body"]


def passwords():
    put_instance("i-new")
    reply = modify("i-new", "Abc123")
    uuid.UUID(reply.request_id)
    check("a password is accepted, with a RequestId", reply.request_id.isupper())
    check("it opens the console at once", console_password("i-new") == "Abc123")

    put_instance("i-old", ioOptimized=False)
    modify("i-old", "Def456")
    check("without I/O optimization it waits", console_password("i-old") is None)
    before = describe(instance_ids='["i-old"]').instances.instance[0]
    check("DescribeInstances tells that kind of instance", before.io_optimized is False)
    control("PUT", "settings", {"rebootTimeMs": 120_000})
    reboot("i-old")
    check("a restart begins with Stopping", status("i-old") == "Stopping")
    refused("a password during a restart", "IncorrectInstanceStatus", lambda: modify("i-old", "Ghi789"))
    with shifted_clock(90):
        check("goes on with Starting", status("i-old") == "Starting")
    with shifted_clock(150):
        check("ends with Running", status("i-old") == "Running")
    after = describe(instance_ids='["i-old"]').instances.instance[0]
    check("with another StartTime", after.start_time != before.start_time)
    check("and the password opens the console", console_password("i-old") == "Def456")


def lists():
    names = [f"i-list{n:02}" for n in range(25)]
    for n, name in enumerate(names):
        put_instance(name, tags={"team": "a *+~ä" if n % 2 else "b"})
    found, token, pages = [], None, 0
    while token != "":
        tag = ecs.DescribeInstancesRequestTag(key="team")
        page = describe(max_results=10, next_token=token, tag=[tag])
        found += [instance.instance_id for instance in page.instances.instance]
        token, pages = page.next_token, pages + 1
    check("three pages list 25 instances once each", pages == 3 and found == names)
    tag = ecs.DescribeInstancesRequestTag(key="team", value="a *+~ä")
    page = describe(max_results=100, tag=[tag])
    check("a tag's value with odd characters selects", len(page.instances.instance) == 12)
    check("and comes back", page.instances.instance[0].tags.tag[0].tag_value == "a *+~ä")
    page = describe(instance_ids=json.dumps(names[:3] + ["i-none"]))
    check("unknown ids are left out", [i.instance_id for i in page.instances.instance] == names[:3])
    refused("a dry run", "DryRunOperation", lambda: describe(dry_run=True))
    regions = client().describe_regions(ecs.DescribeRegionsRequest()).body.regions.region
    check("DescribeRegions lists the region", REGION in [region.region_id for region in regions])


def refusals():
    put_instance("i-stopped", status="Stopped")
    put_instance("i-locked", locks=["security"])
    refused("five characters", "IncorrectVncPassword.Malformed", lambda: modify("i-new", "Abc12"))
    refused("no password", "MissingParameter", lambda: modify("i-new", None))
    refused("an unknown instance", "InvalidInstanceId.NotFound", lambda: modify("i-none", "Abc123"))
    elsewhere = lambda: modify("i-new", "Abc123", region_id="mars-1")
    refused("an unknown region", "InvalidRegionId.NotFound", elsewhere)
    refused("a stopped instance", "IncorrectInstanceStatus", lambda: modify("i-stopped", "Abc123"))
    refused("the restart of a stopped instance", "IncorrectInstanceStatus", lambda: reboot("i-stopped"))
    refused("the restart of a locked instance", "InstanceLockedForSecurity", lambda: reboot("i-locked"))
    refused("an unknown action", "InvalidAction.NotFound", lambda: call_xml("ModifyInstanceFoo"))


def signatures():
    wrong = client("wrong")
    error = refused("a wrong secret", "SignatureDoesNotMatch", lambda: modify("i-new", "Abc123", wrong))
    check("the message echoes the query", "VncPassword=Abc123" in error.message)
    other = client(access_key_id="nobody")
    refused("an unknown key", "InvalidAccessKeyId.NotFound", lambda: modify("i-new", "Abc123", other))
    with shifted_clock(20 * 60):
        refused("a date 20 minutes old", "InvalidTimeStamp.Expired", lambda: modify("i-new", "Abc123"))
    early = (datetime.now(timezone.utc) + timedelta(minutes=20)).strftime("%Y-%m-%dT%H:%M:%SZ")
    with mock.patch.object(Utils, "get_timestamp", lambda: early):
        refused("a date 20 minutes ahead", "InvalidTimeStamp.Expired", lambda: modify("i-new", "Abc123"))
    with mock.patch.object(Utils, "get_timestamp", lambda: "2026-01-01 00:00:00"):
        refused("a malformed date", "IllegalTimestamp", lambda: modify("i-new", "Abc123"))
    with mock.patch.object(Utils, "get_nonce", lambda: "only-once"):
        modify("i-new", "Abc123")
        refused("a nonce used before", "SignatureNonceUsed", lambda: modify("i-new", "Abc123"))


def tokens():
    temporary = {"id": "sts", "secret": "sts-secret", "securityToken": "token"}
    control("POST", "access-keys", temporary)
    by = lambda token: client("sts-secret", access_key_id="sts", security_token=token)
    modify("i-new", "Abc123", by("token"))
    check("a temporary key is accepted with its token", True)
    refused("with another", "InvalidSecurityToken.Malformed", lambda: modify("i-new", "Abc123", by("other")))
    refused("without one", "MissingSecurityToken", lambda: modify("i-new", "Abc123", by(None)))
    plain = client(security_token="token")
    code = "InvalidSecurityToken.MismatchWithAccessKey"
    refused("another key with that token", code, lambda: modify("i-new", "Abc123", plain))
    control("POST", "access-keys", {**temporary, "expiresAt": "2026-01-01T00:00:00Z"})
    expired = lambda: modify("i-new", "Abc123", by("token"))
    refused("an expired token", "InvalidSecurityToken.Expired", expired)


def rights():
    denied = ["ModifyInstanceVncPasswd", "RebootInstance", "DescribeInstances"]
    control("POST", "access-keys", {"id": "weak", "secret": "weak-secret", "denied": denied})
    weak = client("weak-secret", access_key_id="weak")
    refused("a password without the right", "Forbidden.RAM", lambda: modify("i-new", "Abc123", weak))
    refused("a restart without the right", "Forbidden.RAM", lambda: reboot("i-new", weak))
    refused("a dry run without the right", "Forbidden.RAM", lambda: describe(weak, dry_run=True))
    check("a list without the right is empty", describe(weak).instances.instance == [])


def limits():
    control("PUT", "limits/ModifyInstanceVncPasswd", 0)
    refused("a call over the limit", "Throttling", lambda: modify("i-new", "Abc123"))
    control("PUT", "settings", {"sendRetryAfter": True})
    error = refused("the same with x-acs-retry-after", "Throttling", lambda: modify("i-new", "Abc123"))
    check("which the SDK reads", 0 < error.retry_after <= 60_000)
    control("DELETE", "limits/ModifyInstanceVncPasswd")


def xml():
    root = ElementTree.fromstring(call_xml("DescribeInstances", RegionId=REGION, InstanceIds='["i-new"]'))
    check("Format=XML is answered in XML", root.tag == "DescribeInstancesResponse")
    check("with the list in it", root.findtext("Instances/Instance/InstanceId") == "i-new")
    missing = lambda: call_xml("RebootInstance", InstanceId="i-none")
    refused("and so are errors", "InvalidInstanceId.NotFound", missing)


def journal():
    entry = next(entry for entry in control("GET", "journal") if entry["action"] == "ModifyInstanceVncPasswd")
    check("the journal holds the first call", entry["instanceIds"] == ["i-new"])
    check("with its password", entry["vncPassword"] == "Abc123")
    check("and that it was applied", entry["appliedAt"] is not None and entry["httpStatus"] == 200)


for part in (passwords, lists, refusals, signatures, tokens, rights, limits, xml, journal):
    part()
