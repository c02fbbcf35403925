"""What the chart makes that Kubernetes does not know: the part of each schema that it uses.

The schemas follow the definitions of the Gateway API and of the Prometheus operator, and are
closed: a member that is not here is a mistake, or has to be added with a look at the definition.
"""

from __future__ import annotations

from typing import Any, Final

TEXT: Final = {"type": "string", "minLength": 1}
NAMES: Final = {"type": "object", "additionalProperties": {"type": "string"}}
METADATA: Final = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "labels"],
    "properties": {"name": TEXT, "labels": NAMES, "annotations": NAMES},
}
RELABELING: Final = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "action": {"enum": ["replace", "keep", "drop", "labelmap", "labeldrop", "labelkeep"]},
        "regex": TEXT,
        "replacement": {"type": "string"},
        "sourceLabels": {"type": "array", "items": TEXT},
        "targetLabel": TEXT,
    },
}


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    """Return the schema of an object with these members and no others."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required,
        "properties": properties,
    }


def list_of(items: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a list that is not empty."""
    return {"type": "array", "minItems": 1, "items": items}


def resource(specification: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a whole object."""
    members = ["apiVersion", "kind", "metadata", "spec"]
    return closed(members, apiVersion=TEXT, kind=TEXT, metadata=METADATA, spec=specification)


SCRAPE: Final = closed(
    ["port"],
    port=TEXT,
    path={"type": "string", "pattern": "^/"},
    interval={"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"},
    scrapeTimeout={"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"},
    relabelings=list_of(RELABELING),
    metricRelabelings=list_of(RELABELING),
)
SERVICE_MONITOR: Final = closed(
    ["selector", "endpoints"],
    jobLabel=TEXT,
    selector=closed(["matchLabels"], matchLabels=NAMES),
    endpoints=list_of(SCRAPE),
)
ALERT: Final = closed(
    ["alert", "expr"],
    alert=TEXT,
    expr=TEXT,
    **{"for": TEXT},
    labels=NAMES,
    annotations=NAMES,
)
RULES: Final = closed(["groups"], groups=list_of(closed(["name"], name=TEXT, rules=list_of(ALERT))))
PORT: Final = {"type": "integer", "minimum": 1, "maximum": 65535}
ROUTE_RULE: Final = closed(
    ["matches", "backendRefs"],
    matches=list_of(
        closed(
            ["path"],
            path=closed(["type", "value"], type={"enum": ["PathPrefix", "Exact"]}, value=TEXT),
        )
    ),
    backendRefs=list_of(closed(["name", "port"], name=TEXT, port=PORT)),
)
HTTP_ROUTE: Final = closed(
    ["parentRefs", "rules"],
    parentRefs=list_of(closed(["name"], name=TEXT, namespace=TEXT, sectionName=TEXT, port=PORT)),
    hostnames=list_of(TEXT),
    rules=list_of(ROUTE_RULE),
)

CUSTOM_RESOURCES: Final = {
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): resource(HTTP_ROUTE),
    ("monitoring.coreos.com/v1", "PrometheusRule"): resource(RULES),
    ("monitoring.coreos.com/v1", "ServiceMonitor"): resource(SERVICE_MONITOR),
}
