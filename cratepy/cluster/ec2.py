"""Seed addresses from EC2: the running instances of the account, filtered as CrateDB filters them.

In: the settings below ``discovery.ec2.``: ``access_key``, ``secret_key``, ``endpoint``, ``region``, ``groups``,
``any_group``, ``host_type`` (``private_ip``, ``public_ip``, ``private_dns``, ``public_dns``), ``availability_zones``,
``tag.<name>``. Out: addresses at the default transport port. Needs the extra ``cratepy[ec2]`` (botocore, which signs the
requests and takes credentials from where AWS puts them). Synchronous: for a worker thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from cratepy.cluster.seeds import DEFAULT_PORT, Address, SeedError

_TIMEOUT_S: Final = 3
_HOST_TYPES: Final = {
    "private_ip": "PrivateIpAddress",
    "public_ip": "PublicIpAddress",
    "private_dns": "PrivateDnsName",
    "public_dns": "PublicDnsName",
}
_DEFAULT_REGION: Final = "us-east-1"


def instances(settings: Mapping[str, Any]) -> Sequence[Address]:
    """The addresses of the matching instances. Raises SeedError."""
    try:
        import botocore.config
        import botocore.exceptions
        import botocore.session
    except ImportError as error:
        raise SeedError("EC2 needs botocore: pip install 'cratepy[ec2]'") from error
    host_type = str(settings.get("host_type", "private_ip"))
    if host_type not in _HOST_TYPES:
        raise SeedError(f"[discovery.ec2.host_type] must be one of {', '.join(_HOST_TYPES)}, got [{host_type}]")
    endpoint = settings.get("endpoint")
    if endpoint and "://" not in endpoint:
        endpoint = f"https://{endpoint}"
    try:
        client = botocore.session.Session().create_client(
            "ec2",
            region_name=settings.get("region", _DEFAULT_REGION),
            endpoint_url=endpoint,
            aws_access_key_id=settings.get("access_key"),
            aws_secret_access_key=settings.get("secret_key"),
            config=botocore.config.Config(
                connect_timeout=_TIMEOUT_S, read_timeout=_TIMEOUT_S, retries={"total_max_attempts": 1}
            ),
        )
        pages = client.get_paginator("describe_instances").paginate(Filters=_filters(settings))
        found = [instance for page in pages for r in page["Reservations"] for instance in r["Instances"]]
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, ValueError) as error:
        raise SeedError(f"EC2: {error}") from error
    hosts = (instance.get(_HOST_TYPES[host_type]) for instance in found if _is_in_groups(instance, settings))
    return [(host, DEFAULT_PORT) for host in hosts if host]


def _filters(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    filters: list[dict[str, Any]] = [{"Name": "instance-state-name", "Values": ["running", "pending"]}]
    zones = list(_names(settings.get("availability_zones", "")))
    if zones:
        filters.append({"Name": "availability-zone", "Values": zones})
    for name, value in settings.items():
        if name.startswith("tag."):
            filters.append({"Name": f"tag:{name.removeprefix('tag.')}", "Values": list(_names(value))})
    return filters


def _is_in_groups(instance: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    wanted = set(_names(settings.get("groups", "")))
    has = {group.get(key) for group in instance.get("SecurityGroups", ()) for key in ("GroupName", "GroupId")}
    if str(settings.get("any_group", "true")).lower() == "true":
        return not wanted or bool(wanted & has)
    return wanted <= has


def _names(value: Any) -> Iterator[str]:
    parts = value if isinstance(value, list) else str(value).split(",")
    return (text for text in (str(part).strip() for part in parts) if text)
