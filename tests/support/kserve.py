"""KServe and its Prometheus in memory: as much of them as a rollout meets.

Objects are held against excerpts of the schemas of KServe 0.20 (config/crd/full in github.com/kserve/kserve)
and Gateway API 1.5, written by hand, and strict: a field that is not listed is refused. They are kept with a
resourceVersion; a service is ready at once, unless its release is broken or pods take time to start.
Prometheus sums what the gateways' pages would say.
"""

import json
import re
from collections import defaultdict
from copy import deepcopy
from typing import Any

import jsonschema
import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from majlis.serving.metrics import Meter, Report, exposition

Thing = dict[str, Any]
STRING, WHOLE, FLAG = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}


def exactly(required: tuple[str, ...] = (), **properties: Thing) -> Thing:
    """The schema of an object with these fields and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


METADATA = exactly(
    ("name",),
    name={"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"},
    namespace=STRING,
    resourceVersion=STRING,
    labels={"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}},
    annotations={"type": "object", "additionalProperties": STRING},
)
NAMED = ("name",)
MODEL = exactly(
    ("modelFormat",),
    modelFormat=exactly(NAMED, name=STRING, version=STRING),
    protocolVersion=STRING,
    runtime=STRING,
    storageUri=STRING,
    env={"type": "array", "items": exactly(NAMED, name=STRING, value=STRING)},
    volumeMounts={
        "type": "array",
        "items": exactly(("mountPath", "name"), name=STRING, mountPath=STRING, readOnly=FLAG),
    },
)
PREDICTOR = exactly(
    minReplicas=WHOLE | {"minimum": 0},
    serviceAccountName=STRING,
    automountServiceAccountToken=FLAG,
    enableServiceLinks=FLAG,
    model=MODEL,
    volumes={"type": "array", "items": exactly(NAMED, name=STRING, configMap=exactly(name=STRING))},
)
REFERENCE = {"name": STRING, "port": WHOLE | {"minimum": 1, "maximum": 65535}}
BACKEND = exactly(NAMED, **REFERENCE, weight=WHOLE | {"minimum": 0, "maximum": 1_000_000})
FILTER = exactly(
    ("type", "requestMirror"),
    type={"const": "RequestMirror"},
    requestMirror=exactly(("backendRef",), backendRef=exactly(NAMED, **REFERENCE)),
)
PATH = exactly(
    type={"enum": ["Exact", "PathPrefix", "RegularExpression"]}, value=STRING | {"maxLength": 1024}
)
RULE = exactly(
    matches={"type": "array", "maxItems": 64, "items": exactly(path=PATH)},
    filters={"type": "array", "maxItems": 16, "items": FILTER},
    backendRefs={"type": "array", "maxItems": 16, "items": BACKEND},
)
HOST = STRING | {"pattern": r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"}
ROUTE = exactly(
    parentRefs={"type": "array", "items": exactly(NAMED, name=STRING, namespace=STRING)},
    hostnames={"type": "array", "maxItems": 16, "items": HOST},
    rules={"type": "array", "maxItems": 16, "items": RULE},
)


def whole(kind: str, version: str, **content: Thing) -> Thing:
    """The schema of one kind of object."""
    return exactly(
        ("apiVersion", "kind", "metadata", *content),
        apiVersion={"const": version},
        kind={"const": kind},
        metadata=METADATA,
        status={"type": "object"},
        **content,
    )


SCHEMAS = {
    "inferenceservices": whole(
        "InferenceService", "serving.kserve.io/v1beta1", spec=exactly(("predictor",), predictor=PREDICTOR)
    ),
    "httproutes": whole("HTTPRoute", "gateway.networking.k8s.io/v1", spec=ROUTE),
    "configmaps": whole(
        "ConfigMap", "v1", data={"type": "object", "additionalProperties": STRING | {"maxLength": 1_048_576}}
    ),
}
VERBS = {"GET": "list", "POST": "create", "PUT": "update", "DELETE": "delete"}  # that the client needs


class FakeKServe:
    """One namespace of a cluster with KServe."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Thing] = {}
        self.slow = False  # whether pods take time to start
        self.asked: set[tuple[str, str]] = set()  # verb and kind of each request
        self.meters: dict[tuple[str, str], Meter] = {}
        self.version = 0
        self.writes: list[str] = []
        self.broken: set[str] = set()  # releases that cannot be loaded
        self.down = False
        self.interfere = 0  # writes that find the object changed by somebody else
        places = [
            root + "/namespaces/majlis-models/{plural}"
            for root in ("/apis/serving.kserve.io/v1beta1", "/apis/gateway.networking.k8s.io/v1", "/api/v1")
        ]
        self.app = Starlette(
            routes=[
                *(Route(place, self.many, methods=["GET", "POST"]) for place in places),
                *(Route(place + "/{name}", self.one, methods=["PUT", "DELETE"]) for place in places),
                Route("/api/v1/query", self.query, methods=["GET"]),
            ]
        )

    async def many(self, request: Request) -> JSONResponse:
        """List, or create."""
        plural = request.path_params["plural"]
        self.asked.add((VERBS[request.method], plural))
        if self.down:
            return refused(503, "the API is down")
        if request.method == "GET":
            label = dict(part.split("=") for part in request.query_params["labelSelector"].split(","))
            found = [one for (kind, _), one in sorted(self.objects.items()) if kind == plural]
            return JSONResponse(
                {"items": [o for o in found if label.items() <= o["metadata"]["labels"].items()]}
            )
        return self.write(plural, await request.json(), None)

    async def one(self, request: Request) -> JSONResponse:
        """Replace or delete."""
        key = request.path_params["plural"], request.path_params["name"]
        self.asked.add((VERBS[request.method], key[0]))
        if self.down:
            return refused(503, "the API is down")
        if key not in self.objects:
            return refused(404, f"{key[1]} not found")
        if request.method == "DELETE":
            self.writes.append(f"DELETE {key[1]}")
            return JSONResponse(self.objects.pop(key))
        return self.write(key[0], await request.json(), self.objects[key])

    def write(self, plural: str, given: Thing, there: Thing | None) -> JSONResponse:
        """Keep an object, and put it into effect."""
        try:
            jsonschema.validate(given, SCHEMAS[plural])
        except jsonschema.ValidationError as error:
            return refused(422, f"{error.json_path}: {error.message}")
        name = given["metadata"]["name"]
        if self.interfere and there is not None:
            self.interfere -= 1
            self.version += 1
            there["metadata"]["resourceVersion"] = str(self.version)
        if there is None and (plural, name) in self.objects:
            return refused(409, f"{name} exists")
        if there and given["metadata"].get("resourceVersion") != there["metadata"]["resourceVersion"]:
            return refused(409, f"{name} was changed; read it again")
        self.version += 1
        made = deepcopy(given)
        made["metadata"]["resourceVersion"] = str(self.version)
        made["status"] = deepcopy(there.get("status", {})) if there else {}
        self.objects[plural, name] = made
        self.writes.append(f"{'PUT' if there else 'POST'} {name}")
        if plural == "inferenceservices":
            self.reconcile(made)
        return JSONResponse(made, 200 if there else 201)

    def reconcile(self, made: Thing) -> None:
        """What KServe does: pods are started, and it says how that went."""
        release = made["spec"]["predictor"]["model"]["storageUri"].rpartition("/")[2]
        well = release not in self.broken and not self.slow
        made["status"]["modelStatus"] = {"transitionStatus": "UpToDate" if well else "InProgress"}
        if release in self.broken:
            made["status"]["modelStatus"] = {
                "transitionStatus": "BlockedByFailedLoad",
                "lastFailureInfo": {"message": f"{release}: the signature does not fit"},
            }
        made["status"]["conditions"] = [{"type": "PredictorReady", "status": str(well)}]

    def started(self) -> None:
        """The pods that took time are there."""
        self.slow = False
        for (plural, _), made in self.objects.items():
            if plural == "inferenceservices":
                self.reconcile(made)

    def revision(self, backend: Thing) -> str:
        """The revision, as we name it, behind a reference of a route."""
        service = self.objects["inferenceservices", backend["name"].removesuffix("-predictor")]
        [told] = [
            e["value"]
            for e in service["spec"]["predictor"]["model"]["env"]
            if e["name"] == "MAJLIS_GATEWAY_ONLY"
        ]
        return str(told.partition("/")[2])

    def traffic(self, name: str) -> dict[str, float]:
        """The share of each revision of a deployment's traffic."""
        if (route := self.objects.get(("httproutes", name))) is None:
            return {}
        backends = route["spec"]["rules"][0]["backendRefs"]
        total = sum(one["weight"] for one in backends)
        return {self.revision(one): one["weight"] / total for one in backends if one["weight"]}

    def copied(self, name: str) -> list[str]:
        """The revisions that get a copy of each request."""
        filters = self.objects["httproutes", name]["spec"]["rules"][0]["filters"]
        return [self.revision(one["requestMirror"]["backendRef"]) for one in filters]

    def ask(self, name: str, requests: int, failing: frozenset[str] = frozenset(), seed: int = 0) -> None:
        """Requests of callers; those that a failing revision gets are not answered."""
        generator = np.random.default_rng(seed)
        shares = self.traffic(name)
        if not shares or not requests:
            return
        for chosen in generator.choice(list(shares), requests, p=list(shares.values())):
            for revision in (str(chosen), *self.copied(name)):
                meter = self.meters.setdefault((name, revision), Meter(name, revision))
                failed = revision in failing
                meter.observe(500 if failed else 200, float(generator.lognormal(-7, 0.3)))
                if not failed:
                    meter.score(np.array([[generator.uniform()]]))

    async def query(self, request: Request) -> JSONResponse:
        """Prometheus: `sum by (labels) (metric)` over what the pods' metrics pages say."""
        if self.down:
            return refused(503, "Prometheus is down")
        asked = re.fullmatch(r"sum by \(([\w, ]+)\) \((\w+)\)", request.query_params["query"])
        assert asked is not None
        labels, page = (
            asked[1].split(", "),
            exposition([Report(1, meters=list(self.meters.values()))]).decode(),
        )
        sums: dict[str, float] = defaultdict(float)
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if sample.name == asked[2]:
                    sums[json.dumps({label: sample.labels[label] for label in labels})] += sample.value
        rows = [{"metric": json.loads(key), "value": [0, str(value)]} for key, value in sums.items()]
        return JSONResponse({"status": "success", "data": {"resultType": "vector", "result": rows}})


def refused(code: int, message: str) -> JSONResponse:
    """What the API answers when it refuses."""
    return JSONResponse({"kind": "Status", "status": "Failure", "code": code, "message": message}, code)
