"""Every set of values under ``ci``: what it renders is valid, confined, and fits together."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from sidecar.config.load import load
from sidecar.config.settings import Settings
from tests.chart.custom_resources import CUSTOM_RESOURCES
from tests.chart.mounted_files import SECRETS, environment_of, mount
from tests.chart.rendering import (
    CASES,
    CHART,
    NAME,
    RELEASES,
    SETS,
    TOO_OLD,
    USUAL,
    Object,
    containers_of,
    objects_of,
    of_kind,
    pods_of,
    run_helm,
    sidecar_of,
    template,
    the,
)
from tests.command_line import run_command
from tests.promtool import run_promtool
from tests.proxy_process import ROOT

SPARE_SECONDS = 10

every_set = pytest.mark.parametrize("name", SETS)
every_case = pytest.mark.parametrize(("name", "release"), CASES)
every_own_pod = pytest.mark.parametrize("name", [name for name in SETS if name != "library"])


@every_case
def test_lint_finds_nothing(name: str, release: str) -> None:
    values = ("--values", str(SETS[name]))
    done = run_helm("lint", "--strict", "--kube-version", release, *values, str(CHART))
    assert done.returncode == 0, done.stdout
    assert re.findall(r"\[(?:WARNING|ERROR)\].*", done.stdout) == []


@every_case
def test_every_object_is_valid_by_the_schema_of_kubernetes(name: str, release: str) -> None:
    objects = objects_of(name, release)
    assert objects
    for found in objects:
        custom = CUSTOM_RESOURCES.get((found["apiVersion"], found["kind"]))
        if custom is None:
            kubernetes_validate.validate(found, release, strict=True)
        else:
            jsonschema.validate(found, custom)


def test_a_member_that_kubernetes_does_not_know_is_found() -> None:
    deployment = the("Deployment", objects_of("default"))
    deployment["spec"]["template"]["spec"]["terminationGraceSeconds"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, RELEASES[0], strict=True)


def test_a_member_that_a_custom_resource_does_not_have_is_found() -> None:
    (monitor,) = of_kind(objects_of("monitoring"), "ServiceMonitor")
    monitor["spec"]["endpoints"][0]["scrapeInterval"] = "1s"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(monitor, CUSTOM_RESOURCES[monitor["apiVersion"], monitor["kind"]])


@pytest.mark.parametrize(("name", "release"), TOO_OLD)
def test_a_cluster_that_is_too_old_is_refused(name: str, release: str) -> None:
    values = ("--values", str(SETS[name]), "--kube-version", release)
    done = run_helm("template", NAME, str(CHART), *values)
    assert done.returncode != 0
    assert f"needs Kubernetes 1.29 or later, and this is v{release}" in done.stderr


def test_an_older_cluster_than_the_chart_is_tried_with_is_refused() -> None:
    done = run_helm("template", NAME, str(CHART), "--kube-version", "1.27")
    assert done.returncode != 0
    assert "chart requires kubeVersion: >=1.28.0-0 which is incompatible" in done.stderr


@every_set
def test_the_same_values_render_the_same_bytes(name: str) -> None:
    again = template.__wrapped__(SETS[name])
    assert template(SETS[name]) == again


# Confined.


def is_restricted(pod: Object, container: Object) -> bool:
    """Return whether a container keeps to the Pod Security Standard *restricted*, and more."""
    context = pod.get("securityContext", {}) | container["securityContext"]
    return bool(
        context["runAsNonRoot"] is True
        and context["runAsUser"] > 0
        and context["seccompProfile"] == {"type": "RuntimeDefault"}
        and context["allowPrivilegeEscalation"] is False
        and context["readOnlyRootFilesystem"] is True
        and context["capabilities"] == {"drop": ["ALL"]}
        and not context.get("privileged")
        and container["resources"]["limits"]["memory"]
    )


@every_set
def test_no_container_has_a_right_that_it_does_not_need(name: str) -> None:
    for labels, pod in pods_of(objects_of(name)):
        loose = [one["name"] for one in containers_of(pod) if not is_restricted(pod, one)]
        assert (labels, loose) == (labels, [])
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert [volume for volume in pod.get("volumes", []) if "hostPath" in volume] == []


@every_own_pod
def test_the_sidecar_is_the_user_of_its_image(name: str) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    (user, group) = re.findall(r"^USER (\d+):(\d+)$", dockerfile, re.M)[0]
    context = sidecar_of(objects_of(name))["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"]) == (int(user), int(group))


@every_set
def test_nothing_secret_is_in_a_configmap(name: str) -> None:
    made = [found["stringData"] for found in of_kind(objects_of(name), "Secret")]
    secrets = {*SECRETS.values(), *(text for texts in made for text in texts.values())}
    for found in of_kind(objects_of(name), "ConfigMap"):
        assert [text for text in secrets if text in str(found)] == []
        assert "$argon2" not in str(found)


# The configuration.


@every_own_pod
def test_the_sidecar_finds_nothing_to_say_of_its_configuration(name: str, tmp_path: Path) -> None:
    objects = objects_of(name)
    config = mount(objects, tmp_path)
    checked = run_command("check", "--strict", config=config, environment=environment_of(objects))
    assert (checked.returncode, checked.stderr) == (0, "")


def settings_of(name: str, directory: Path) -> Settings:
    return load(mount(objects_of(name), directory), environment_of(objects_of(name)))


@every_own_pod
def test_ports_and_probes_are_those_of_the_configuration(name: str, tmp_path: Path) -> None:
    settings = settings_of(name, tmp_path)
    container = sidecar_of(objects_of(name))
    expected = {"proxy": settings.listen.address[0].port}
    for section in ("operations", "portal"):
        listener = getattr(settings, section)
        expected |= {section: listener.address.port} if listener else {}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == expected
    for kind, path in {"startup": "healthz", "liveness": "healthz", "readiness": "readyz"}.items():
        asked = container[f"{kind}Probe"]["httpGet"]
        assert asked == {"path": f"/{path}", "port": "operations"}


@every_own_pod
def test_an_end_has_the_time_that_a_drain_may_take(name: str, tmp_path: Path) -> None:
    drain = settings_of(name, tmp_path).drain
    pod = the_deployment(name)["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= drain.delay + drain.timeout + SPARE_SECONDS


@every_own_pod
def test_an_outage_of_redis_leaves_pods_in_service_while_known_tokens_pass(
    name: str, tmp_path: Path
) -> None:
    probe = sidecar_of(objects_of(name))["readinessProbe"]
    grace = settings_of(name, tmp_path).store.outage_grace
    assert probe["failureThreshold"] == math.ceil(grace / probe["periodSeconds"])


def the_deployment(name: str) -> Object:
    (found,) = of_kind(objects_of(name), "Deployment")
    return found


def rest_of(name: str, release: str) -> Any:
    pod = the("Deployment", objects_of(name, release))["spec"]["template"]["spec"]
    (listener,) = (one for one in pod["containers"] if one["name"] == "listener")
    return listener["lifecycle"]["preStop"]


@pytest.mark.parametrize("name", ["pod-sidecar", "unix-socket"])
def test_a_container_beside_the_sidecar_outlives_the_drain(name: str, tmp_path: Path) -> None:
    drain = settings_of(name, tmp_path).drain
    seconds = int(drain.delay + drain.timeout)
    assert rest_of(name, USUAL) == {"sleep": {"seconds": seconds}}
    assert rest_of(name, "1.28") == {"exec": {"command": ["sleep", str(seconds)]}}


def test_a_container_beside_a_native_sidecar_waits_until_the_endpoint_has_gone(
    tmp_path: Path,
) -> None:
    """The sidecar is told to end after it, and drains what the container still answers."""
    pod = the_deployment("native-sidecar")["spec"]["template"]["spec"]
    assert [one["name"] for one in pod["containers"]] == ["listener"]
    assert pod["initContainers"][0]["restartPolicy"] == "Always"
    drain = settings_of("native-sidecar", tmp_path).drain
    assert rest_of("native-sidecar", USUAL) == {"sleep": {"seconds": int(drain.delay)}}


# What fits together.


def mounts_of(pod: Object) -> Iterator[Object]:
    for container in containers_of(pod):
        yield from container.get("volumeMounts", [])


@every_set
def test_mounts_are_directories_of_volumes_that_are_there(name: str) -> None:
    claims = [
        claim["metadata"]["name"]
        for found in of_kind(objects_of(name), "StatefulSet")
        for claim in found["spec"].get("volumeClaimTemplates", [])
    ]
    for _, pod in pods_of(objects_of(name)):
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        assert {mount["name"] for mount in mounts_of(pod)} <= {*volumes, *claims}
        assert [mount for mount in mounts_of(pod) if "subPath" in mount] == []


@every_own_pod
def test_the_sidecar_writes_nowhere_but_to_tmp(name: str) -> None:
    mounts = sidecar_of(objects_of(name))["volumeMounts"]
    writable = {mount["mountPath"] for mount in mounts if not mount.get("readOnly")}
    assert writable - {"/run/app"} == {"/tmp"}
    assert ("/run/app" in writable) is (name == "unix-socket")


@every_set
def test_configmaps_and_secrets_that_pods_name_are_made_or_meant_to_be_there(name: str) -> None:
    objects = objects_of(name)
    there = {"company-authorities", "from-the-vault", "sidecar", "sidecar-production"}
    there |= {"sidecar-tls", NAME, "gatekeeper"}  # the last two: Secrets, as no values name others
    made = {
        found["metadata"]["name"] for found in objects if found["kind"] in {"ConfigMap", "Secret"}
    }
    for _, pod in pods_of(objects):
        for volume in pod.get("volumes", []):
            if "configMap" in volume and volume["name"] != "trust":
                assert volume["configMap"]["name"] in made
            if "secret" in volume:
                assert volume["secret"]["secretName"] in {*made, *there}


def selected(labels: dict[str, str], objects: Sequence[Object]) -> list[Object]:
    """Return the pods that a selector finds."""
    return [pod for own, pod in pods_of(objects) if labels.items() <= own.items()]


def ports_of(pod: Object) -> set[str]:
    return {port["name"] for one in containers_of(pod) for port in one.get("ports", [])}


@every_own_pod
def test_every_service_leads_to_a_port_of_pods_of_one_kind(name: str) -> None:
    objects = objects_of(name)
    for service in of_kind(objects, "Service"):
        (pod,) = selected(service["spec"]["selector"], objects)
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports_of(pod)


@every_own_pod
def test_every_selector_finds_pods_of_one_kind(name: str) -> None:
    objects = objects_of(name)
    for found in [*of_kind(objects, "Deployment"), *of_kind(objects, "StatefulSet")]:
        labels = found["spec"]["selector"]["matchLabels"]
        assert selected(labels, objects) == [found["spec"]["template"]["spec"]]
    for found in of_kind(objects, "PodDisruptionBudget"):
        assert len(selected(found["spec"]["selector"]["matchLabels"], objects)) == 1
    for constraint in the_deployment(name)["spec"]["template"]["spec"]["topologySpreadConstraints"]:
        assert len(selected(constraint["labelSelector"]["matchLabels"], objects)) == 1


@every_own_pod
def test_network_policies_name_ports_that_the_pods_have(name: str) -> None:
    objects = objects_of(name)
    for policy in of_kind(objects, "NetworkPolicy"):
        if policy["metadata"]["name"].endswith("-upstream"):
            continue  # of pods that are elsewhere
        (pod,) = selected(policy["spec"]["podSelector"]["matchLabels"], objects)
        named = {
            port["port"]
            for rule in policy["spec"]["ingress"]
            for port in rule["ports"]
            if isinstance(port["port"], str)
        }
        assert named <= ports_of(pod)


@every_own_pod
def test_the_operations_listener_is_never_open_to_everybody(name: str) -> None:
    """The empty list, and a missing one, let everybody in."""
    policies = of_kind(objects_of(name), "NetworkPolicy")
    rules = [rule for policy in policies for rule in policy["spec"]["ingress"]]
    (operations,) = (rule for rule in rules if rule.get("ports") == [{"port": "operations"}])
    assert operations["from"]
    assert all(operations["from"])


@pytest.mark.parametrize("name", ["ingress", "portal"])
def test_what_leads_in_leads_to_a_service(name: str) -> None:
    objects = objects_of(name)
    services = {
        (service["metadata"]["name"], port["port"])
        for service in of_kind(objects, "Service")
        for port in service["spec"]["ports"]
    }
    backends = {
        (path["backend"]["service"]["name"], path["backend"]["service"]["port"]["number"])
        for ingress in of_kind(objects, "Ingress")
        for rule in ingress["spec"]["rules"]
        for path in rule["http"]["paths"]
    } | {
        (backend["name"], backend["port"])
        for route in of_kind(objects, "HTTPRoute")
        for rule in route["spec"]["rules"]
        for backend in rule["backendRefs"]
    }
    assert backends
    assert backends <= services
    assert not any(service.endswith("-operations") for service, _ in backends)


# The check before an upgrade.


CHECKED = [name for name, path in SETS.items() if "checkBeforeUpgrade" in path.read_text()]


def data_of(found: Object) -> dict[str, str]:
    return dict(found.get("data") or found["stringData"])


@pytest.mark.parametrize("name", CHECKED)
def test_an_upgrade_is_checked_with_the_files_that_it_will_have(name: str) -> None:
    objects = objects_of(name)
    job = the("Job", objects, f"{NAME}-check")["spec"]["template"]["spec"]
    own = the("Deployment", objects)["spec"]["template"]["spec"]
    (container,) = job["containers"]
    sidecar = sidecar_of(objects)
    assert container["args"] == ["check"]
    for member in ("image", "env", "envFrom", "securityContext"):
        assert container.get(member) == sidecar.get(member)
    assert [one for one in sidecar["volumeMounts"] if one["mountPath"] != "/tmp"] == (
        container["volumeMounts"]
    )
    theirs = {volume["name"]: volume for volume in own["volumes"]}
    for volume in job["volumes"]:
        expected, found = named_by(theirs[volume["name"]], objects), named_by(volume, objects)
        if isinstance(expected, str) and expected.startswith("there:"):
            assert found == expected
        else:
            assert found is not expected
            assert data_of(found) == data_of(expected)


def named_by(volume: Object, objects: list[Object]) -> Any:
    """Return the object whose files a volume has, or what the one that must be there is called."""
    kind = "ConfigMap" if "configMap" in volume else "Secret"
    name = volume["configMap"]["name"] if kind == "ConfigMap" else volume["secret"]["secretName"]
    made = [one for one in of_kind(objects, kind) if one["metadata"]["name"] == name]
    return made[0] if made else f"there: {name}"


@pytest.mark.parametrize("name", CHECKED)
def test_the_check_is_made_before_anything_else_and_leaves_nothing(name: str) -> None:
    objects = objects_of(name)
    checks = [one for one in objects if one["metadata"]["name"].startswith(f"{NAME}-check")]
    weights = {}
    for found in checks:
        annotations = found["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "pre-upgrade"
        assert "hook-succeeded" in annotations["helm.sh/hook-delete-policy"]
        weights[found["kind"]] = int(annotations.get("helm.sh/hook-weight", "0"))
    assert {kind for kind, weight in weights.items() if weight < weights["Job"]} == (
        weights.keys() - {"Job"}
    )
    assert len(checks) == (3 if name == "made-secret" else 2)


# Single sets.


def test_behind_a_stand_alone_sidecar_nobody_else_reaches_the_service() -> None:
    behind = the("NetworkPolicy", objects_of("network-policy"), f"{NAME}-upstream")["spec"]
    ours = the_deployment("network-policy")["spec"]["selector"]
    assert behind["podSelector"] == {"matchLabels": {"app": "listener"}}
    assert behind["ingress"] == [{"from": [{"podSelector": ours}]}]


def test_a_policy_of_both_directions_names_dns_redis_and_the_service() -> None:
    policy = the("NetworkPolicy", objects_of("network-policy"))["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    ports = [[port["port"] for port in rule["ports"]] for rule in policy["egress"]]
    assert ports == [[53, 53], [6379], [8080], [443]]


def test_pods_are_counted_by_the_autoscaler_alone_where_there_is_one() -> None:
    assert "replicas" not in the_deployment("high-availability")["spec"]
    (scaler,) = of_kind(objects_of("high-availability"), "HorizontalPodAutoscaler")
    assert scaler["spec"]["scaleTargetRef"]["name"] == NAME
    assert the_deployment("default")["spec"]["replicas"] == 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("default", [{"maxUnavailable": 1}]),
        ("high-availability", [{"minAvailable": "50%"}]),
        ("trial", []),
    ],
)
def test_a_single_pod_is_not_held_by_a_disruption_budget(
    name: str, expected: list[dict[str, object]]
) -> None:
    found = of_kind(objects_of(name), "PodDisruptionBudget")
    kept = ("maxUnavailable", "minAvailable")
    assert [{k: v for k, v in one["spec"].items() if k in kept} for one in found] == expected


def test_the_image_is_pinned_by_its_digest() -> None:
    pod = the("Deployment", objects_of("pinned-image"), "gatekeeper")["spec"]["template"]["spec"]
    digest = yaml.safe_load(SETS["pinned-image"].read_text())["image"]["digest"]
    images = {one["name"]: one["image"] for one in pod["containers"]}
    assert images["sidecar"] == f"registry.example.com/platform/auth-sidecar@{digest}"
    assert pod["imagePullSecrets"] == [{"name": "registry"}]


def test_the_alerts_are_those_that_are_shipped() -> None:
    (rule,) = of_kind(objects_of("monitoring"), "PrometheusRule")
    shipped = yaml.safe_load((ROOT / "deploy/prometheus/auth-sidecar.rules.yaml").read_text())
    assert rule["spec"] == shipped


def test_prometheus_accepts_the_alerts(tmp_path: Path) -> None:
    (rule,) = of_kind(objects_of("monitoring"), "PrometheusRule")
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(rule["spec"]))
    status, said = run_promtool("check", "rules", str(file))
    assert status == 0, said


def test_the_dashboard_is_the_one_that_is_shipped() -> None:
    found = the("ConfigMap", objects_of("monitoring"), f"{NAME}-dashboard")
    shipped = (ROOT / "deploy/grafana/auth-sidecar.json").read_text()
    assert found["data"]["auth-sidecar.json"] == shipped
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_prometheus_finds_the_operations_service_and_nothing_else() -> None:
    objects = objects_of("monitoring")
    (monitor,) = of_kind(objects, "ServiceMonitor")
    labels = monitor["spec"]["selector"]["matchLabels"]
    found = [
        service
        for service in of_kind(objects, "Service")
        if labels.items() <= service["metadata"]["labels"].items()
    ]
    assert [service["metadata"]["name"] for service in found] == [f"{NAME}-operations"]
    ports = [port["name"] for port in found[0]["spec"]["ports"]]
    assert [endpoint["port"] for endpoint in monitor["spec"]["endpoints"]] == ports
