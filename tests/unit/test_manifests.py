"""The manifests, without a cluster: what can be told from the files. ``tests/apiserver/test_manifests.py`` applies them."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import eastgate
from eastgate.dialects.corpus import read_policy_set
from eastgate.dialects.kinds import OWN_GROUP, READ
from eastgate.dialects.values import Fields
from eastgate.pods import annotations, names
from webhook import app, resources

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
CRDS = MANIFESTS / "crds"
FILES = sorted(MANIFESTS.rglob("*.yaml"))
SYSTEM = ["kube-system", "kube-public", "kube-node-lease", names.SYSTEM_NAMESPACE]

Object = dict[str, Any]


@functools.cache
def load(file: Path) -> list[Object]:
    return [document for document in yaml.safe_load_all(file.read_text()) if document is not None]


def find(kind: str, *folders: str) -> dict[str, Object]:
    files = [file for folder in folders or ("base",) for file in sorted((MANIFESTS / folder).glob("*.yaml"))]
    return {one["metadata"]["name"]: one for file in files for one in load(file) if one["kind"] == kind}


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(MANIFESTS)) for file in FILES])
def test_a_file_holds_objects(file: Path) -> None:
    documents = load(file)
    assert documents
    for document in documents:
        assert isinstance(document["apiVersion"], str)
        assert isinstance(document["kind"], str)
        assert document["kind"] in ("Kustomization", "Component") or document["metadata"]["name"]


def test_every_file_belongs_to_a_kustomization() -> None:
    used = set()
    for file in FILES:
        if file.name == "kustomization.yaml":
            used.add(file)
            (one,) = load(file)
            named = [*one.get("resources", ()), *one.get("components", ())]
            named += [patch["path"] for patch in one.get("patches", ()) if "path" in patch]
            for name in named:
                target = (file.parent / name).resolve()
                assert target.exists(), f"{file}: {name}"
                used.add(target)
    samples = {MANIFESTS / "components" / "network-policy" / "application.yaml"}
    assert {file for file in FILES if file not in used} == samples


def test_the_images_have_this_version() -> None:
    (base,) = load(MANIFESTS / "base" / "kustomization.yaml")
    assert base["images"] == [{"name": "eastgate-webhook", "newTag": eastgate.__version__}]
    assert base["labels"][0]["pairs"]["app.kubernetes.io/version"] == eastgate.__version__
    (sample,) = load(MANIFESTS / "overlays" / "registry" / "kustomization.yaml")
    assert [one["newTag"] for one in sample["images"]] == [eastgate.__version__]
    # Written out: a tag that is copied from the other image is cut off at the wrong colon in `registry:5000/…:tag`.
    assert sample["patches"][0]["patch"].endswith(f"/eastgate-sidecar:{eastgate.__version__}")
    assert "replacements" not in sample
    deployment = find("Deployment")["eastgate-webhook"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert {"name": "EASTGATE_SIDECAR_IMAGE", "value": f"eastgate-sidecar:{eastgate.__version__}"} in container["env"]


# --- rights ---------------------------------------------------------------------------------------------------------


def roles() -> dict[str, Object]:
    return {f"{kind} {name}": one for kind in ("Role", "ClusterRole") for name, one in find(kind).items()}


def test_no_right_is_a_wildcard() -> None:
    for name, role in roles().items():
        for rule in role["rules"]:
            assert "*" not in str(rule), name
            assert not {"bind", "escalate", "impersonate", "deletecollection"} & set(rule["verbs"]), name


def test_secrets_of_the_cluster_are_read_by_one_role_that_can_be_taken_away() -> None:
    readers = [name for name, role in roles().items() if any("secrets" in rule["resources"] for rule in role["rules"])]
    assert readers == ["Role eastgate-webhook", "ClusterRole eastgate-controller-secrets"]
    assert {"secrets"} == {one for rule in roles()[readers[1]]["rules"] for one in rule["resources"]}


def test_what_is_changed_is_named() -> None:
    """But for pods, of which the admission policy beside the roles leaves one annotation."""
    for name, role in roles().items():
        for rule in role["rules"]:
            changing = {"update", "patch", "delete"} & set(rule["verbs"])
            status = all(one.endswith("/status") for one in rule["resources"])
            if changing and not status and rule["resources"] != ["pods"]:
                assert rule.get("resourceNames"), f"{name}: {rule}"


def test_the_controller_reads_every_kind_that_carries_policy() -> None:
    granted = {
        (group, resource)
        for rule in roles()["ClusterRole eastgate-controller"]["rules"]
        if {"get", "list", "watch"} <= set(rule["verbs"])
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    wanted = {(kind.group, kind.plural) for kind in resources.POLICY_KINDS}
    assert wanted <= granted


def test_the_bundles_have_the_names_that_pods_mount() -> None:
    shards = [f"{names.BUNDLE_NAME}-{number}" for number in range(1, names.MAX_SHARDS + 1)]
    rules = roles()["ClusterRole eastgate-controller"]["rules"]
    named = [rule["resourceNames"] for rule in rules if "configmaps" in rule["resources"] and "resourceNames" in rule]
    assert named == [[names.BUNDLE_NAME, *shards]]
    restraint = find("ValidatingAdmissionPolicy")["eastgate-controller-restraint"]
    pattern = re.search(r"matches\('(.*?)'\)", str(restraint["spec"]["validations"]))
    assert pattern is not None
    assert all(re.match(pattern[1], one) for one in [names.BUNDLE_NAME, *shards])


# --- who can never be locked out ------------------------------------------------------------------------------------


def webhooks() -> list[Object]:
    found = [*find("MutatingWebhookConfiguration").values(), *find("ValidatingWebhookConfiguration").values()]
    assert [one["metadata"]["name"] for one in found] == ["eastgate", "eastgate"]
    return [webhook for one in found for webhook in one["webhooks"]]


def excepts(selector: Object) -> bool:
    wanted = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": SYSTEM}
    return wanted in selector["matchExpressions"]


def test_pods_and_foreign_kinds_are_asked_about_in_labelled_namespaces_only() -> None:
    for webhook in webhooks():
        if webhook["name"] == "own.validation.eastgate.dev":
            assert {group for rule in webhook["rules"] for group in rule["apiGroups"]} == {OWN_GROUP}
            continue
        assert excepts(webhook["namespaceSelector"]), webhook["name"]
        (label,) = [
            one for one in webhook["namespaceSelector"]["matchExpressions"] if one["key"] == names.INJECTION_LABEL
        ]
        assert label["operator"] == "In"
        assert set(label["values"]) <= {names.ENABLED, names.ENFORCED}


def test_every_webhook_fails_closed_and_answers_soon() -> None:
    for webhook in webhooks():
        assert webhook["failurePolicy"] == "Fail"
        assert webhook["timeoutSeconds"] == 5
        assert webhook["sideEffects"] == "NoneOnDryRun"
        assert webhook["matchPolicy"] == "Equivalent"
        assert webhook["admissionReviewVersions"] == ["v1"]
        assert "*" not in str(webhook["rules"])
        service = webhook["clientConfig"]["service"]
        assert (service["namespace"], service["name"]) == (names.SYSTEM_NAMESPACE, "eastgate-webhook")
        assert "caBundle" not in webhook["clientConfig"]  # applying the manifests again would take ours away
    paths = {webhook["clientConfig"]["service"]["path"] for webhook in webhooks()}
    assert paths == {
        app.MUTATE,
        app.MUTATE_ENFORCED,
        app.VALIDATE,
        app.VALIDATE_PODS,
        app.VALIDATE_PODS_ENFORCED,
    }
    injection = find("MutatingWebhookConfiguration")["eastgate"]["webhooks"]
    assert [one["clientConfig"]["service"]["path"] for one in injection] == ["/mutate", "/mutate/enforced"]
    assert {one["reinvocationPolicy"] for one in injection} == {"IfNeeded"}


def test_an_enforced_namespace_is_enforced_without_the_webhook() -> None:
    binding = find("ValidatingAdmissionPolicyBinding", "components/enforced")["eastgate-enforced"]
    selector = binding["spec"]["matchResources"]["namespaceSelector"]
    assert excepts(selector)
    assert {"key": names.INJECTION_LABEL, "operator": "In", "values": [names.ENFORCED]} in selector["matchExpressions"]
    policy = find("ValidatingAdmissionPolicy", "components/enforced")["eastgate-enforced"]
    assert policy["spec"]["failurePolicy"] == "Fail"
    text = json.dumps(policy["spec"])
    for name in (*names.CONTAINERS, names.BUNDLE_VOLUME, names.INJECT_LABEL, str(names.PROXY_ID)):
        assert name in text


# --- the pods of the control plane ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["eastgate-webhook", "eastgate-controller"])
def test_a_pod_of_ours_is_restricted_and_probed(name: str) -> None:
    pod = find("Deployment")[name]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert container["args"] == [name.removeprefix("eastgate-")]
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert ports["health"] == names.WEBHOOK_HEALTH_PORT
    assert ports.get("https", names.WEBHOOK_PORT) == names.WEBHOOK_PORT
    assert {container[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "readiness", "liveness")} == {"health"}
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    assert pod["spec"]["priorityClassName"] == "system-cluster-critical"


# --- stand-ins for foreign kinds ------------------------------------------------------------------------------------


def test_there_is_a_stand_in_for_every_foreign_kind_that_is_read() -> None:
    crds = find("CustomResourceDefinition", "compat")
    found = {(one["spec"]["group"], one["spec"]["names"]["kind"]): one["spec"] for one in crds.values()}
    assert set(found) == {(group, kind) for group, kind in READ if group not in ("", OWN_GROUP)}
    for kind in resources.POLICY_KINDS:
        if kind.group != OWN_GROUP:
            spec = found[kind.group, kind.kind]
            assert spec["names"]["plural"] == kind.plural
            (stored,) = [one["name"] for one in spec["versions"] if one["storage"]]
            assert stored == kind.version
            assert {one["name"] for one in spec["versions"] if one["served"]} <= {*kind.versions, "v1beta1"}
    for name, one in crds.items():
        assert (MANIFESTS / "compat" / f"{name}.yaml").is_file()  # `apply` goes by the files' names
        assert one["metadata"]["labels"] == {"eastgate.dev/stand-in": "true"}


STUB = """#!/bin/sh
# kubectl, for which one CRD is there and another may not be made.
echo "$*" > "$CALL"
for word in "$@"; do
  name=$(basename "$word" .yaml)
  there="error when creating \\"$word\\": customresourcedefinitions.apiextensions.k8s.io \\"$name\\" already exists"
  case "$word" in
    */httproutes.*) echo "Error from server (AlreadyExists): $there" >&2;;
    */backends.*) [ -z "$DENIED" ] && echo "$name created" || echo 'Error from server (Forbidden): no' >&2;;
    *.yaml) echo "$name created";;
  esac
done
exit 1
"""


@pytest.mark.parametrize(("denied", "status"), [("", 0), ("yes", 1)])
def test_stand_ins_are_created_and_never_written_over(tmp_path: Path, denied: str, status: int) -> None:
    kubectl, call = tmp_path / "kubectl", tmp_path / "call"
    kubectl.write_text(STUB)
    kubectl.chmod(0o755)
    settings = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALL": str(call), "DENIED": denied}
    apply = [MANIFESTS / "compat" / "apply", "--context", "west"]
    done = subprocess.run(apply, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == status, done
    command = call.read_text().split()
    assert command[0] == "create"
    assert command[-2:] == ["--context", "west"]
    assert command.count("-f") == len(find("CustomResourceDefinition", "compat"))
    assert "\nhttproutes.gateway.networking.k8s.io is there, left alone\n" in done.stdout
    assert ("Forbidden" in done.stdout) is bool(denied)


def test_stand_ins_of_one_group(tmp_path: Path) -> None:
    (tmp_path / "kubectl").write_text(STUB)
    (tmp_path / "kubectl").chmod(0o755)
    settings = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALL": str(tmp_path / "call"), "DENIED": ""}
    apply = [MANIFESTS / "compat" / "apply", "--only"]
    subprocess.run([*apply, "networking.gloo.solo.io"], env=settings, check=True)
    assert (tmp_path / "call").read_text().count("-f ") == 3
    done = subprocess.run([*apply, "gloo"], env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "gateway.envoyproxy.io" in done.stderr


def test_stand_ins_say_how_they_are_made_and_ask_no_cluster() -> None:
    done = subprocess.run([MANIFESTS / "compat" / "apply", "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Creates the stand-in CRDs")
    assert "  manifests/compat/apply [--only GROUP]..." in done.stdout
    assert "set -eu" not in done.stdout


# --- our own CRDs against the reader --------------------------------------------------------------------------------

REFUSED = {
    # Fields that the reader knows in order to say why not; they reach it, for unknown fields are kept.
    "spec.config.providers.*.remote.destinationRef": {"awsLambda"},
    "spec.config.authorization.rules[].paths[]": {"suffix"},
    "spec.http[].matchers[].uri": {"suffix"},
}


def schema_of(kind: str) -> Object:
    for file in sorted(CRDS.glob("*.*.yaml")):
        (crd,) = load(file)
        if crd["spec"]["names"]["kind"] == kind:
            (version,) = crd["spec"]["versions"]
            spec: Object = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
            return spec
    raise AssertionError(kind)


def declared(schema: Object, path: str = "spec") -> Iterator[tuple[str, Object]]:
    """Every object of the schema that declares fields."""
    if "properties" in schema:
        yield path, schema
        for name, inner in schema["properties"].items():
            yield from declared(inner, f"{path}.{name}")
    elif schema.get("type") == "array":
        yield from declared(schema["items"], f"{path}[]")
    elif isinstance(schema.get("additionalProperties"), dict):
        yield from declared(schema["additionalProperties"], f"{path}.*")


def sample(schema: Object) -> Any:
    """A value of the type, as small as it may be."""
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "object":
        required = {name: sample(schema["properties"][name]) for name in schema.get("required", ())}
        return {"any": sample(schema["additionalProperties"])} if schema.get("minProperties") else required
    if kind == "array":
        return [sample(schema["items"])]
    return {"string": "a", "integer": schema.get("minimum", 1), "boolean": True}.get(str(kind), {})


def lead_to(schema: Object, steps: list[str]) -> Any:
    """A document in which the place at ``steps`` is written, and besides it only what must be."""
    if not steps:
        return sample(schema)
    step, rest = steps[0], steps[1:]
    if step == "[]":
        return [lead_to(schema["items"], rest)]
    if step == "*":
        return {"any": lead_to(schema["additionalProperties"], rest)}
    return {**sample(schema), step: lead_to(schema["properties"][step], rest)}


def what_the_reader_knows(kind: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Every mapping that the reader takes apart in documents that reach each declared place, and the fields it knows."""
    known: dict[str, set[str]] = defaultdict(set)
    closing = Fields.close

    def note(fields: Fields) -> None:
        known[re.sub(r"\[\d+\]", "[]", fields.value.path).replace(".any", ".*")].update(fields.known)
        closing(fields)

    monkeypatch.setattr(Fields, "close", note)
    schema = schema_of(kind)
    for path, inner in declared(schema):
        for name in inner["properties"]:
            steps = [step for step in re.split(r"\.|(?=\[\])", f"{path}.{name}") if step][1:]
            document = {
                "apiVersion": f"{OWN_GROUP}/v1alpha1",
                "kind": kind,
                "metadata": {"name": "x"},
                "spec": lead_to(schema, steps),
            }
            found = read_policy_set([("x.yaml", json.dumps(document))]).diagnostics
            assert [str(one) for one in found if one.code == "unknown-field"] == [], path
    return known


@pytest.mark.parametrize("kind", ["JWTPolicy", "RouteTable"])
def test_the_schema_declares_what_the_reader_reads(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = what_the_reader_knows(kind, monkeypatch)
    fields = {path: set(inner["properties"]) for path, inner in declared(schema_of(kind))}
    read = {path: names - REFUSED.get(path, set()) for path, names in known.items() if path.startswith("spec")}
    assert fields == read


@pytest.mark.parametrize("kind", ["JWTPolicy", "RouteTable"])
def test_no_mistyped_field_is_pruned(kind: str) -> None:
    for path, schema in declared(schema_of(kind)):
        assert schema.get("x-kubernetes-preserve-unknown-fields") is True, path
        assert schema.get("type") == "object", path


def every_schema(schema: Object, path: str) -> Iterator[tuple[str, Object]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from every_schema(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from every_schema(schema[key], f"{path}[{key}]")


@pytest.mark.parametrize("kind", ["JWTPolicy", "RouteTable"])
def test_every_list_says_how_it_is_merged_and_every_rule_what_is_wrong(kind: str) -> None:
    for path, schema in every_schema(schema_of(kind), "spec"):
        assert ("x-kubernetes-list-type" in schema) is (schema.get("type") == "array"), path
        assert "default" not in schema, path
        for rule in schema.get("x-kubernetes-validations", ()):
            assert rule["message"], path


# --- examples and documents -----------------------------------------------------------------------------------------


def test_every_example_is_one_that_a_user_applies() -> None:
    folders = [file.parent for file in FILES if file.name == "policy.yaml" and "examples" in file.parts]
    assert len(folders) == 6
    for folder in folders:
        (kustomization,) = load(folder / "kustomization.yaml")
        listed = {(folder / name).resolve() for name in kustomization["resources"]}
        assert listed == set(folder.rglob("*.yaml")) - {folder / "kustomization.yaml"}
        (namespace,) = load(folder / "namespace.yaml")
        assert namespace["metadata"]["labels"][names.INJECTION_LABEL] in (names.ENABLED, names.ENFORCED)
        (app,) = load(folder / "app.yaml")
        assert app["metadata"].get("namespace", kustomization.get("namespace")) == namespace["metadata"]["name"]
        settings, faults = annotations.read_settings(app["spec"]["template"]["metadata"]["annotations"])
        assert faults == ()
        policies = [one["metadata"]["name"] for one in load(folder / "policy.yaml") if one["kind"].endswith("Policy")]
        assert settings.policies == (policies[0],)


def test_the_reference_names_every_label_and_annotation() -> None:
    text = (ROOT / "docs" / "reference" / "annotations.md").read_text()
    for key in (*annotations.SETTINGS_KEYS, names.INJECTION_LABEL, names.INJECT_LABEL, names.STATUS, names.BUNDLE):
        assert f"`{key}`" in text, key
    for value in annotations.DEFAULT_RESOURCES.values():
        assert f"`{value}`" in text
    assert str(names.PROXY_ID) in text


@pytest.mark.parametrize("document", ["docs/install.md", "docs/reference/annotations.md"])
def test_what_a_document_points_to_is_there(document: str) -> None:
    text = (ROOT / document).read_text()
    for path in re.findall(r"\bmanifests/[\w./-]*\w", text):
        assert (ROOT / path).exists(), path
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (ROOT / document).parent.joinpath(link).exists(), link
