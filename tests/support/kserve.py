"""KServe and its Prometheus in memory: as much of them as a rollout meets.

Objects are held against excerpts of KServe's own schemas (config/crd/full in github.com/kserve/kserve),
written by hand, and strict: a field that is not listed is refused. They are kept with a resourceVersion, and
put into effect at once by KServe's rules for `canaryTrafficPercent`. Prometheus sums what the gateways'
pages would say.
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
STRING, WHOLE = {"type": "string"}, {"type": "integer"}


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
MODEL = exactly(
    ("modelFormat",),
    modelFormat=exactly(("name",), name=STRING, version=STRING),
    protocolVersion=STRING,
    runtime=STRING,
    storageUri=STRING,
    env={"type": "array", "items": exactly(("name",), name=STRING, value=STRING)},
)
PREDICTOR = exactly(
    minReplicas=WHOLE | {"minimum": 0},
    canaryTrafficPercent=WHOLE | {"minimum": 0, "maximum": 100},
    model=MODEL,
)
STEP = exactly(serviceName=STRING, nodeName=STRING, weight=WHOLE | {"minimum": 1, "maximum": 99})
NODE = exactly(
    ("routerType",),
    routerType={"enum": ["Sequence", "Splitter", "Ensemble", "Switch"]},
    steps={"type": "array", "items": STEP},
)
GRAPH = exactly(("nodes",), nodes={"type": "object", "required": ["root"], "additionalProperties": NODE})


def whole(kind: str, version: str, spec: Thing) -> Thing:
    """The schema of one kind of object."""
    return exactly(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": f"serving.kserve.io/{version}"},
        kind={"const": kind},
        metadata=METADATA,
        spec=spec,
        status={"type": "object"},
    )


SCHEMAS = {
    "inferenceservices": whole("InferenceService", "v1beta1", exactly(("predictor",), predictor=PREDICTOR)),
    "inferencegraphs": whole("InferenceGraph", "v1alpha1", GRAPH),
}


class FakeKServe:
    """One namespace of a cluster with KServe."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Thing] = {}
        self.revisions: dict[str, dict[str, Thing]] = defaultdict(dict)  # of each service: name → model
        self.meters: dict[tuple[str, str], Meter] = {}
        self.version = 0
        self.writes: list[str] = []
        self.broken: set[str] = set()  # releases that cannot be loaded
        self.down = False
        self.interfere = 0  # writes that find the object changed by somebody else
        api = "/apis/serving.kserve.io/{version}/namespaces/{namespace}/{plural}"
        self.app = Starlette(
            routes=[
                Route(api, self.many, methods=["GET", "POST"]),
                Route(api + "/{name}", self.one, methods=["GET", "PUT", "DELETE"]),
                Route("/api/v1/query", self.query, methods=["GET"]),
            ]
        )

    async def many(self, request: Request) -> JSONResponse:
        """List, or create."""
        plural = request.path_params["plural"]
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
        """Read, replace or delete."""
        key = request.path_params["plural"], request.path_params["name"]
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
        """What KServe does: a new model is a new revision; the percentage divides, 100 rolls out."""
        name, spec = made["metadata"]["name"], made["spec"]["predictor"]
        revisions = self.revisions[name]
        component = made["status"].setdefault("components", {}).setdefault("predictor", {})
        newest = component.get("latestCreatedRevision")
        if newest is None or revisions[newest] != spec["model"]:
            newest = f"{name}-predictor-{len(revisions) + 1:05d}"
            revisions[newest] = deepcopy(spec["model"])
            component["latestCreatedRevision"] = newest
        release = spec["model"]["storageUri"].rpartition("/")[2]
        if release in self.broken:
            made["status"]["modelStatus"] = {
                "transitionStatus": "BlockedByFailedLoad",
                "lastFailureInfo": {"message": f"{release}: the signature does not fit"},
            }
            made["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
            return  # the traffic stays where it was
        rolled = component.get("latestRolledoutRevision", "")
        if rolled == newest:
            rolled = component.get("previousRolledoutRevision", "")
        component["latestReadyRevision"] = newest
        percent = spec.get("canaryTrafficPercent", 100) if rolled else 100
        traffic = [{"revisionName": newest, "latestRevision": True, "percent": percent}]
        if percent < 100:
            traffic.append(
                {"revisionName": rolled, "latestRevision": False, "percent": 100 - percent, "tag": "prev"}
            )
        elif component.get("latestRolledoutRevision") != newest:
            component["previousRolledoutRevision"] = component.get("latestRolledoutRevision", "")
            component["latestRolledoutRevision"] = newest
        component["traffic"] = traffic
        made["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
        made["status"]["modelStatus"] = {"transitionStatus": "UpToDate"}
        made["status"]["url"] = f"http://{name}.example.com"

    def traffic(self, name: str) -> dict[str, float]:
        """The share of each revision (as we name them) of a deployment's traffic."""
        graph = self.objects.get(("inferencegraphs", f"{name}-ab"))
        steps = (
            [{"serviceName": name, "weight": 100}]
            if graph is None
            else graph["spec"]["nodes"]["root"]["steps"]
        )
        shares: dict[str, float] = defaultdict(float)
        for step in steps:
            service = self.objects["inferenceservices", step["serviceName"]]
            for part in service["status"]["components"]["predictor"]["traffic"]:
                model = self.revisions[step["serviceName"]][part["revisionName"]]
                revision = next(e["value"] for e in model["env"] if e["name"] == "MAJLIS_REVISION")
                shares[revision] += step["weight"] * part["percent"] / 10_000
        return {revision: share for revision, share in shares.items() if share}

    def ask(self, name: str, requests: int, failing: frozenset[str] = frozenset(), seed: int = 0) -> None:
        """Requests of callers; those that a failing revision gets are not answered."""
        generator = np.random.default_rng(seed)
        shares = self.traffic(name)
        for revision in generator.choice(list(shares), requests, p=list(shares.values())):
            meter = self.meters.setdefault((name, str(revision)), Meter(name, str(revision)))
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
