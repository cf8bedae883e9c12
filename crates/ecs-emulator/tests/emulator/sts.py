"""Drives a running ecs-emulator with Alibaba Cloud's official SDK for STS and with its package of credential providers.

    python sts.py URL

Prints a line for each check, and ends with an error at the first that fails. The emulator must be fresh
and take its default access key.

The package of credential providers has https, the hosts of STS and 100.100.100.200 built in. One function of its HTTP
layer, the one that makes a URL of a request, is replaced by one that names the emulator instead; everything else,
the Host header included, is as it would go to the real services.
"""

import base64
import contextlib
import json
import logging
import tempfile
import time
from unittest import mock
from urllib.parse import urlsplit, urlunsplit

from alibabacloud_credentials.client import Client as Credential
from alibabacloud_credentials.exceptions import CredentialException
from alibabacloud_credentials.provider import (
    EcsRamRoleCredentialsProvider,
    OIDCRoleArnCredentialsProvider,
    RamRoleArnCredentialsProvider,
    StaticAKCredentialsProvider,
    URLCredentialsProvider,
)
from alibabacloud_sts20150401 import models as sts
from alibabacloud_sts20150401.client import Client as StsClient
from alibabacloud_tea_openapi import utils_models as openapi
from Tea.core import TeaCore

from common import KEY, REGION, URL, check, client, console_password, control, modify, put_instance, refused

HERE = "1000000000000001"
THERE = "2000000000000002"
ROLE = f"acs:ram::{HERE}:role/demo"
ROLE_THERE = f"acs:ram::{THERE}:role/cross"
PROVIDER = f"acs:ram::{HERE}:oidc-provider/ack"
SUBJECT = "system:serviceaccount:apps:operator"


# The SDKs.


def sts_client(**config):
    config = {"access_key_id": KEY["id"], "access_key_secret": KEY["secret"], **config}
    host = URL.removeprefix("http://")
    return StsClient(openapi.Config(endpoint=host, protocol="HTTP", region_id=REGION, **config))


def assume(role=ROLE, session="sdk", by=None, **parameters):
    request = sts.AssumeRoleRequest(role_arn=role, role_session_name=session, **parameters)
    return (by or sts_client()).assume_role(request).body


def assume_with_oidc(token, role=ROLE, provider=PROVIDER, session="sdk", **parameters):
    request = sts.AssumeRoleWithOIDCRequest(
        role_arn=role, oidcprovider_arn=provider, oidctoken=token, role_session_name=session, **parameters
    )
    return sts_client().assume_role_with_oidc(request).body


def config_of(credentials):
    """What a client is configured with to use the credentials in a reply of STS."""
    return {
        "access_key_id": credentials.access_key_id,
        "access_key_secret": credentials.access_key_secret,
        "security_token": credentials.security_token,
    }


def ecs_client(credentials):
    config = config_of(credentials)
    return client(config.pop("access_key_secret"), **config)


def ecs_client_with(provider):
    """A client that asks the provider for credentials at each call."""
    return client(None, access_key_id=None, credential=Credential(provider=provider))


# The package prints a traceback for each refusal, of which there are many here.
logging.getLogger("credentials").disabled = True

_compose_url = TeaCore.compose_url


def compose_url(request):
    """The URL of a request, with the emulator's scheme and host."""
    _, _, path, query, fragment = urlsplit(_compose_url(request))
    here = urlsplit(URL)
    return urlunsplit((here.scheme, here.netloc, path, query, fragment))


def jwt(**claims):
    encode = lambda part: base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
    return f"{encode({'alg': 'RS256'})}.{encode(claims)}.c2lnbmF0dXJl"


@contextlib.contextmanager
def token_file(token):
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(token)
        file.flush()
        yield file.name


# The checks.


def unavailable(what, reason, act):
    """Checks that a provider has nothing to give, and that it says why."""
    try:
        act()
    except CredentialException as error:
        check(f"{what}: {reason}", reason in str(error.message))
        return
    check(f"{what} gives nothing", False)


def put_roles():
    put_instance("i-here")
    put_instance("i-there", account=THERE)
    trust = {"providerArn": PROVIDER, "subject": SUBJECT}
    control("PUT", f"roles/{ROLE}", {"oidc": trust, "maxSessionSeconds": 7200})
    control("PUT", f"roles/{ROLE_THERE}", {"trusted": [HERE], "externalId": "agreed", "instances": ["i-there"]})


def identities():
    who = sts_client().get_caller_identity().body
    check("a RAM user is told who it is", who.arn == f"acs:ram::{HERE}:user/emulator")
    check("with its account and kind", (who.account_id, who.identity_type) == (HERE, "RAMUser"))
    credentials = assume(session="who@sdk").credentials
    who = sts_client(**config_of(credentials)).get_caller_identity().body
    check("so is a session of a role", who.arn == f"acs:ram::{HERE}:assumed-role/demo/who@sdk")
    check("with the id of the role", who.principal_id == f"{who.role_id}:who@sdk")


def assumed_roles():
    reply = assume(duration_seconds=900)
    check("AssumeRole gives out an STS key", reply.credentials.access_key_id.startswith("STS."))
    check("of the session asked for", reply.assumed_role_user.arn == f"{ROLE}/sdk")
    modify("i-here", "Abc123", ecs_client(reply.credentials))
    check("a password is set with it", console_password("i-here") == "Abc123")
    missing = "InvalidInstanceId.NotFound"
    refused("another account's instance", missing, lambda: modify("i-there", "Abc123", ecs_client(reply.credentials)))

    there = ecs_client(assume(ROLE_THERE, external_id="agreed").credentials)
    modify("i-there", "Def456", there)
    check("a role of that account reaches it", console_password("i-there") == "Def456")
    refused("and no instance but its own", "Forbidden.RAM", lambda: modify("i-other", "Abc123", there))

    refused("no external id", "NoPermission", lambda: assume(ROLE_THERE))
    refused("a wrong external id", "NoPermission", lambda: assume(ROLE_THERE, external_id="other"))
    refused("a malformed one", "InvalidParameter.ExternalId", lambda: assume(ROLE_THERE, external_id="a b"))
    refused("an unknown role", "EntityNotExist.Role", lambda: assume(f"acs:ram::{HERE}:role/none"))
    refused("a short session name", "InvalidParameter.RoleSessionName", lambda: assume(session="x"))
    refused("a short life", "InvalidParameter.DurationSeconds", lambda: assume(duration_seconds=60))
    refused("a life too long", "InvalidParameter.DurationSeconds", lambda: assume(duration_seconds=7201))
    wrong = sts_client(access_key_secret="wrong")
    refused("a wrong secret", "SignatureDoesNotMatch", lambda: assume(by=wrong))

    credentials = assume().credentials
    control("POST", "issued/expire")
    expired = "InvalidSecurityToken.Expired"
    refused("an expired session", expired, lambda: modify("i-here", "Abc123", ecs_client(credentials)))
    by = sts_client(**config_of(credentials))
    refused("neither does STS take it", expired, lambda: by.get_caller_identity())


def federated_roles():
    good = jwt(iss="https://issuer", sub=SUBJECT, aud=["sts.aliyuncs.com"], exp=int(time.time()) + 600)
    old = jwt(sub=SUBJECT, exp=int(time.time()) - 1)
    reply = assume_with_oidc(good, duration_seconds=900)
    check("AssumeRoleWithOIDC says whose token it was", reply.oidctoken_info.subject == SUBJECT)
    modify("i-here", "Ghi789", ecs_client(reply.credentials))
    check("and its credentials set a password", console_password("i-here") == "Ghi789")
    fails = "AuthenticationFail."
    refused("no JSON Web Token", f"{fails}OIDCToken.Invalid", lambda: assume_with_oidc("nonsense"))
    refused("an expired one", f"{fails}OIDCToken.Expired", lambda: assume_with_oidc(old))
    other = jwt(sub="system:serviceaccount:apps:other")
    refused("another service account's", f"{fails}NoPermission", lambda: assume_with_oidc(other))
    unknown = f"acs:ram::{HERE}:oidc-provider/none"
    refused("an unknown provider", f"{fails}NoPermission", lambda: assume_with_oidc(good, provider=unknown))
    refused("an unknown role", "EntityNotExist.Role", lambda: assume_with_oidc(good, f"{ROLE}2"))


def oidc_provider():
    provider = lambda path: OIDCRoleArnCredentialsProvider(
        role_arn=ROLE, oidc_provider_arn=PROVIDER, oidc_token_file_path=path, role_session_name="rrsa"
    )
    with token_file(jwt(sub=SUBJECT, exp=int(time.time()) + 600)) as path:
        modify("i-here", "Jkl012", ecs_client_with(provider(path)))
    check("the OIDC provider's credentials set a password", console_password("i-here") == "Jkl012")
    with token_file("nonsense") as path:
        reason = "AuthenticationFail.OIDCToken.Invalid"
        unavailable("with a wrong token it has none", reason, provider(path).get_credentials)
    with token_file(jwt(sub=SUBJECT, exp=1000)) as path:
        reason = "AuthenticationFail.OIDCToken.Expired"
        unavailable("with an expired one neither", reason, provider(path).get_credentials)


def ram_role_provider():
    static = StaticAKCredentialsProvider(access_key_id=KEY["id"], access_key_secret=KEY["secret"])
    provider = lambda external_id, by=static: RamRoleArnCredentialsProvider(
        credentials_provider=by, role_arn=ROLE_THERE, role_session_name="cross", external_id=external_id
    )
    modify("i-there", "Mno345", ecs_client_with(provider("agreed")))
    check("the RAM role provider's credentials cross accounts", console_password("i-there") == "Mno345")
    unavailable("with a wrong external id it has none", "NoPermission", provider("other").get_credentials)
    wrong = StaticAKCredentialsProvider(access_key_id=KEY["id"], access_key_secret="wrong")
    act = provider("agreed", wrong).get_credentials
    unavailable("with a wrong secret neither", "SignatureDoesNotMatch", act)
    entry = control("GET", "journal")[-1]
    check("its calls are in the journal", (entry["action"], entry["roleArn"]) == ("AssumeRole", ROLE_THERE))


def instance_provider():
    provider = EcsRamRoleCredentialsProvider
    unavailable("without a metadata service", "HttpCode=404", provider().get_credentials)
    control("PUT", "metadata", {"roleArn": ROLE, "v1": False})
    modify("i-here", "Pqr678", ecs_client_with(provider(disable_imds_v1=True)))
    check("the instance's credentials set a password, hardened", console_password("i-here") == "Pqr678")
    entry = control("GET", "journal")[-2]
    used = (entry["action"], entry["metadataToken"])
    check("with a token of the metadata service", used == ("MetadataCredentials", True))

    fault = control("POST", "faults", {"action": "MetadataToken", "reply": {"error": {"status": 500, "code": "X"}}})
    unavailable("without that token", "HttpCode=500", provider(disable_imds_v1=True).get_credentials)
    unavailable("without it and where it is a must", "HttpCode=403", provider().get_credentials)
    control("PUT", "metadata", {"roleArn": ROLE})
    modify("i-here", "Stu901", ecs_client_with(provider()))
    check("where it is none, the older way does", console_password("i-here") == "Stu901")
    control("DELETE", f"faults/{fault['id']}")
    control("PUT", "metadata", {})
    unavailable("an instance without a role", "HttpCode=404", provider().get_credentials)
    control("DELETE", "metadata")


def uri_provider():
    provider = URLCredentialsProvider(uri=f"{URL}/credentials/demo")
    by = ecs_client_with(provider)
    modify("i-here", "Vwx234", by)
    check("credentials from a URI set a password", console_password("i-here") == "Vwx234")
    control("POST", "issued/expire")
    refused("once expired they do not", "InvalidSecurityToken.Expired", lambda: modify("i-here", "Abc123", by))
    none = URLCredentialsProvider(uri=f"{URL}/credentials/none")
    unavailable("an unknown role", "EntityNotExist.Role", none.get_credentials)


with mock.patch.object(TeaCore, "compose_url", staticmethod(compose_url)):
    put_roles()
    for part in (identities, assumed_roles, federated_roles):
        part()
    for part in (oidc_provider, ram_role_provider, instance_provider, uri_provider):
        part()
