"""Values that can't be meant: refused before anything reaches the cluster, with what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.chart.rendering import CHART, NAME, run_helm

CONTAINER = {"name": "listener", "image": "listener:1.0.0"}
IN_POD = {"mode": "podSidecar", "app": {"containers": [CONTAINER]}}

TEXT = """
upstreams: {listener: {url: "http://listener"}}
routes: [{path: /a}]
store: {url: "redis://redis.shop:6379/0"}
operations: {address: "0.0.0.0:2022"}
"""
TLS = "{certificate: /etc/sidecar-tls/tls.crt, private_key: /etc/sidecar-tls/tls.key}"

SCHEMA_PROBLEMS: dict[str, tuple[dict[str, object], str, str]] = {
    "a key that is none": ({"replicas": 3}, "", "replicas.* not allowed"),
    "a key of the configuration that is none": (
        {"config": {"upstreams": {"a": {"url": "http://a", "conect_timeout": "3s"}}}},
        "config.upstreams.a",
        "conect_timeout.* not allowed",
    ),
    "a duration without a unit": (
        {"config": {"drain": {"timeout": 40}}},
        "config.drain.timeout",
        "anyOf",
    ),
    "a layout that is none": (
        {"mode": "sidecar"},
        "mode",
        r"must be one of .*\Wstandalone\W, \WpodSidecar\W, \Wlibrary\W",
    ),
    "a tag that is a number": (
        {"image": {"tag": 1.5}},
        "image.tag",
        "number.*string|string.*number",
    ),
    "a digest that is none": (
        {"image": {"digest": "latest"}},
        "image.digest",
        "(?i)does not match pattern",
    ),
    "a secret that is no text": ({"secrets": {"pin": 1234}}, "secrets.pin", "string"),
    "a service behind with a path": (
        {"upstreamUrl": "http://listener/v1"},
        "upstreamUrl",
        "(?i)does not match pattern",
    ),
    "a container without an image": (
        {"mode": "podSidecar", "app": {"containers": [{"name": "listener"}]}},
        "app.containers.0",
        "image is required|missing property .image",
    ),
}
"""Values, the place that is named, and what is said; Helm 3 and 4 have other words for the same."""

PROBLEMS: dict[str, tuple[dict[str, object], list[str]]] = {
    "no container for the pod": (
        {"mode": "podSidecar"},
        ["app.containers: mode podSidecar runs your containers beside the sidecar"],
    ),
    "containers that nobody runs": (
        {"app": {"containers": [CONTAINER]}},
        ["app: only mode podSidecar runs containers of yours"],
    ),
    "a container with the sidecar's name": (
        {"extraContainers": [{"name": "sidecar", "image": "a"}]},
        ["sidecar: is the chart's own container"],
    ),
    "a mount that never changes": (
        {"extraVolumeMounts": [{"name": "a", "mountPath": "/a", "subPath": "b"}]},
        ["extraVolumeMounts: /a has a subPath"],
    ),
    "a library that does not know its pods": (
        {"mode": "library"},
        ["library.podLabels: name the labels of your pods"],
    ),
    "a library with what belongs to the other chart": (
        {"mode": "library", "library": {"podLabels": {"a": "b"}}, "autoscaling": {"enabled": True}},
        ["mode library: your own chart has the Service and the Deployment"],
    ),
    "a native sidecar of nothing": (
        {"nativeSidecar": True},
        ["nativeSidecar: there is no container beside the sidecar"],
    ),
    "more pods at least than at most": (
        {"autoscaling": {"enabled": True, "minReplicas": 9, "maxReplicas": 3}},
        ["autoscaling.minReplicas: is more than maxReplicas"],
    ),
    "an ingress and a route to nowhere": (
        {"ingress": {"enabled": True}, "httpRoute": {"enabled": True}},
        [
            "ingress.hosts: name at least one host",
            "httpRoute.parentRefs: name at least one Gateway",
        ],
    ),
    "an ingress of a portal that is off": (
        {"portal": {"ingress": {"enabled": True, "hosts": [{"host": "keys.example.com"}]}}},
        ["portal.enabled: is false, and its ingress or httpRoute is on"],
    ),
    "a policy that cuts off the service": (
        {"networkPolicy": {"egress": {"enabled": True}}},
        ["networkPolicy.egress.upstream: says neither whereto nor at which ports"],
    ),
    "a monitor of a Service that is not made": (
        {"serviceMonitor": {"enabled": True}, "operationsService": {"enabled": False}},
        ["set operationsService.enabled=true"],
    ),
    "a store in each pod": (
        {"config": {"store": {"url": "embedded"}}},
        ["config.store.url: each pod would have tokens of its own, and the image has no Redis"],
    ),
    "two kinds of Redis": (
        {"redis": {"enabled": True}, "config": {"store": {"url": "redis://redis.shop/0"}}},
        ["redis.enabled: the configuration names another Redis"],
    ),
    "no route": (
        {"config": {"routes": None}},
        ["config.routes: name at least one"],
    ),
    "no configuration": (
        {"config": None},
        ["config.routes: name at least one", "config.operations.address: the kubelet's probes"],
    ),
    "two configurations": (
        {"configFiles": {"sidecar.yaml": "a: b"}},
        ["configFiles: sidecar.yaml is what the chart makes of config"],
    ),
    "a text that is no YAML": (
        {"configText": "listen: [a"},
        ["configText: is no YAML: "],
    ),
    "a text that does not use the certificate": (
        {"configText": TEXT, "tls": {"existingSecret": "a"}},
        ["tls.existingSecret: configText names no certificate below /etc/sidecar-tls"],
    ),
    "a proxy that no Service reaches": (
        {"config": {"listen": {"address": "unix:/tmp/a.sock"}}},
        ["config.listen.address: no entry ends with a port"],
    ),
    "probes that reach nothing": (
        {"config": {"operations": {"address": "127.0.0.1:2022"}}},
        ["config.operations.address: the kubelet's probes ask it at the pod's address"],
    ),
    "no operations listener": (
        {"config": {"operations": False}},
        ["config.operations.address: the kubelet's probes ask it at the pod's address"],
    ),
    "a portal that no Service reaches": (
        {"portal": {"enabled": True}, "config": {"portal": {"address": "[::1]:2021"}}},
        ["config.portal.address: the portal's Service can't reach it; write 0.0.0.0:2021"],
    ),
    "two certificates": (
        {
            "tls": {"existingSecret": "a"},
            "config": {"listen": {"tls": {"certificate": "a", "private_key": "b"}}},
        },
        ["tls.existingSecret: config.listen.tls is there as well; use one of them"],
    ),
    "authorities from nowhere": (
        {"tls": {"clientCa": True}},
        ["tls.clientCa: the authorities are in tls.existingSecret, which is not set"],
    ),
    "an end before the drain": (
        {"terminationGracePeriodSeconds": 44},
        ["44 seconds end before the drain does, which may take 45"],
    ),
    "a drain that only the environment knows": (
        {"config": {"drain": {"timeout": "${DRAIN}"}}},
        ["terminationGracePeriodSeconds: the chart can't read drain.delay and drain.timeout"],
    ),
    "a password with a dollar sign": (
        {"config": {"store": {"url": "redis://${USER}:pa$$word@redis.shop:6379/0"}}},
        ["config.store.url: its password stands in a ConfigMap"],
    ),
    "two Secrets": (
        {"existingSecret": "a", "secrets": {"store-url": "redis://redis.shop/0"}},
        ["secrets: existingSecret is set as well"],
    ),
    "secrets for everybody to read": (
        {
            "config": {
                "store": {"url": "redis://sidecar:secret@redis.shop:6379/0"},
                "accounts": {"acme": {"password_hash": "$argon2id$v=19$m=19456,t=2,p=1$a$b"}},
                "jwt": {"keys": [{"id": "k1", "private_key": "-----BEGIN PRIVATE KEY-----"}]},
                "tracing": {"headers": {"Authorization": "Basic abc", "X-Scope-OrgID": "shop"}},
            },
            "configFiles": {
                "a.yaml": "acme: {max_tokens: 1}\nglobex:\n  password_hash: '$2b$12$abc'",
                "users.htpasswd": "acme:$2y$12$abc",
                "b.yaml": "acme: {groups: [a]}\nglobex:\n  password_hash: ${file:/etc/a}",
            },
        },
        [
            "config.store.url: its password stands in a ConfigMap, which many may read",
            "config.accounts.acme.password_hash: stands in a ConfigMap",
            "config.jwt.keys[0].private_key: stands in a ConfigMap",
            "config.tracing.headers.Authorization: stands in a ConfigMap",
            "configFiles.a.yaml: a password hash in it stands in a ConfigMap",
            "configFiles.users.htpasswd: a password hash in it stands in a ConfigMap",
        ],
    ),
}

GOOD: dict[str, dict[str, object]] = {
    "a text that uses the certificate": {
        "configText": f"{TEXT}listen: {{address: '0.0.0.0:2020', tls: {TLS}}}",
        "tls": {"existingSecret": "a"},
    },
    "a password from the environment": {
        "config": {"store": {"url": "redis://sidecar:${REDIS_PASSWORD}@redis.shop:6379/0"}}
    },
    "a Redis without a password": {"config": {"store": {"url": "redis://redis.shop:6379/0"}}},
    "a drain that the values know": {
        "config": {"drain": {"timeout": "${DRAIN}"}},
        "terminationGracePeriodSeconds": 300,
    },
    "a policy in a pod, where the service is on loopback": {
        **IN_POD,
        "networkPolicy": {"egress": {"enabled": True}},
    },
    "no drain at all": {"config": {"drain": {"delay": "0", "timeout": "0"}}},
}


def said_of(values: dict[str, object], directory: Path) -> tuple[int, str]:
    """Return helm's exit status and what it says of values."""
    file = directory / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    done = run_helm("template", NAME, str(CHART), "--values", str(file))
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("values", "place", "words"), SCHEMA_PROBLEMS.values(), ids=SCHEMA_PROBLEMS
)
def test_the_schema_refuses(
    values: dict[str, object], place: str, words: str, tmp_path: Path
) -> None:
    status, said = said_of(values, tmp_path)
    assert status != 0
    (line,) = (line for line in said.splitlines() if re.search(words, line))
    assert f"- {place}" in line or f"- at '/{place.replace('.', '/')}'" in line or not place


@pytest.mark.parametrize(("values", "lines"), PROBLEMS.values(), ids=PROBLEMS)
def test_the_chart_refuses_with_every_problem_and_what_to_do(
    values: dict[str, object], lines: list[str], tmp_path: Path
) -> None:
    status, said = said_of(values, tmp_path)
    assert status != 0
    told = said.partition("execution error at ")[2].partition("\n\nUse --debug")[0]
    problems = told.split("\n\n", 1)[1].strip().splitlines()
    for line in lines:
        assert [problem for problem in problems if line in problem], said
    assert len(problems) == len(lines)


@pytest.mark.parametrize("values", GOOD.values(), ids=GOOD)
def test_what_only_looks_like_a_problem_passes(values: dict[str, object], tmp_path: Path) -> None:
    assert said_of(values, tmp_path) == (0, "")
