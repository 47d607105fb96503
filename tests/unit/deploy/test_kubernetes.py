"""The manifests of deploy/kubernetes: Kubernetes accepts them, and what they name exists in the code."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from retail_core.settings import Settings
from retail_core.settings_files import variable_name

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "deploy" / "kubernetes"
VERSIONS = ("1.30", "1.33", "1.37")
SETTINGS = {variable_name(name) for name in Settings.model_fields}
OTHER_VARIABLES = {
    *("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "PREFECT_API_AUTH_STRING", "PREFECT_HOME"),
    *("PREFECT_WORKER_WEBSERVER_HOST", "PREFECT_WORKER_WEBSERVER_PORT"),
    *("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
}
"""Variables of MLflow, Prefect and Amazon's tools."""

Manifest = dict[str, Any]


def kustomization() -> Manifest:
    content: Manifest = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    return content


def read_variables(name: str) -> dict[str, str]:
    lines = (line for line in (FOLDER / name).read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def render() -> list[Manifest]:
    """What `kubectl apply -k` sends, as far as the kustomization uses Kustomize; without hashes in names."""
    content = kustomization()
    assert set(content) == {
        *("apiVersion", "kind", "namespace", "resources", "labels", "images"),
        *("configMapGenerator", "secretGenerator"),
    }
    manifests = [
        manifest
        for file in content["resources"]
        for manifest in yaml.safe_load_all((FOLDER / file).read_text())
    ]
    for generator, kind, key in (
        ("configMapGenerator", "ConfigMap", "data"),
        ("secretGenerator", "Secret", "stringData"),
    ):
        for entry in content[generator]:
            (file,) = entry["envs"]
            example = file if (FOLDER / file).is_file() else f"{file}.example"
            manifest = {"apiVersion": "v1", "kind": kind, "metadata": {"name": entry["name"]}}
            manifests.append(manifest | {key: read_variables(example)})
    for manifest in manifests:
        if manifest["kind"] != "Namespace":
            manifest["metadata"]["namespace"] = content["namespace"]
    return manifests


MANIFESTS = render()


def of_kind(kind: str) -> dict[str, Manifest]:
    return {manifest["metadata"]["name"]: manifest for manifest in MANIFESTS if manifest["kind"] == kind}


DEPLOYMENTS = of_kind("Deployment")


def pod(deployment: Manifest) -> Manifest:
    specification: Manifest = deployment["spec"]["template"]["spec"]
    return specification


def container(deployment: Manifest) -> Manifest:
    (only,) = pod(deployment)["containers"]
    assert isinstance(only, dict)
    return only


def probes(deployment: Manifest) -> dict[str, str]:
    """Path of each probe; all ask the one port of the container."""
    specification = container(deployment)
    (port,) = specification["ports"]
    paths = {}
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert specification[name]["httpGet"]["port"] == port["name"]
        paths[name] = specification[name]["httpGet"]["path"]
    return paths


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda m: f"{m['kind']}-{m['metadata']['name']}")
def test_kubernetes_accepts_every_manifest(manifest: Manifest, version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_an_unknown_field_is_noticed() -> None:
    wrong = {**DEPLOYMENTS["api"], "spec": {**DEPLOYMENTS["api"]["spec"], "replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_the_kinds() -> None:
    assert set(DEPLOYMENTS) == {"api", "worker", "app"}
    assert set(of_kind("Service")) == {"api", "app"}
    assert set(of_kind("NetworkPolicy")) == {"default", "api", "app"}
    others = ("Namespace", "PersistentVolumeClaim", "HorizontalPodAutoscaler", "PodDisruptionBudget")
    assert all(len(of_kind(kind)) == 1 for kind in (*others, "ConfigMap", "Secret"))


def test_kustomize_renders_the_same(tmp_path: Path) -> None:
    """By the real program where this machine has it; `render` covers the few features that are used."""
    commands = {"kustomize": ["kustomize", "build"], "kubectl": ["kubectl", "kustomize"]}
    for command in [command for program, command in commands.items() if shutil.which(program)][:1]:
        copy = shutil.copytree(FOLDER, tmp_path / "copy")
        shutil.copyfile(FOLDER / "secrets.env.example", copy / "secrets.env")
        built = subprocess.run([*command, str(copy)], capture_output=True, text=True, check=True)
        rendered = list(yaml.safe_load_all(built.stdout))
        assert {(m["kind"], _without_hash(m)) for m in rendered} == {
            (m["kind"], m["metadata"]["name"]) for m in MANIFESTS
        }
        images = {pod(m)["containers"][0]["image"] for m in rendered if m["kind"] == "Deployment"}
        assert images == {f"{image['newName']}:{image['newTag']}" for image in kustomization()["images"]}
        for manifest in rendered:
            kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


def _without_hash(manifest: Manifest) -> str:
    name: str = manifest["metadata"]["name"]
    return name.rsplit("-", 1)[0] if manifest["kind"] in {"ConfigMap", "Secret"} else name


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_every_pod_is_confined(name: str) -> None:
    specification = pod(DEPLOYMENTS[name])
    assert specification["automountServiceAccountToken"] is False
    # A service `retail-api` would otherwise set RETAIL_API_PORT to an address.
    assert specification["enableServiceLinks"] is False
    security = specification["securityContext"]
    assert (security["runAsNonRoot"], security["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    users = re.findall(r"^USER (\d+):(\d+)$", (ROOT / "docker" / "Dockerfile").read_text(), re.M)
    assert users == [(str(security["runAsUser"]), str(security["runAsGroup"]))]
    assert container(DEPLOYMENTS[name])["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    resources = container(DEPLOYMENTS[name])["resources"]
    assert {"cpu", "memory"} <= set(resources["requests"])
    assert "memory" in resources["limits"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container(DEPLOYMENTS[name])["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in specification["volumes"]}
    assert {"/data", "/tmp"} <= set(mounts.values())


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_variables_are_those_of_the_settings_and_the_services(name: str) -> None:
    specification = container(DEPLOYMENTS[name])
    generated = {source[key]["name"] for source in specification["envFrom"] for key in source}
    content = kustomization()
    entries = [*content["configMapGenerator"], *content["secretGenerator"]]
    assert generated == {entry["name"] for entry in entries}
    own = {variable["name"] for variable in specification["env"]}
    shared = set(read_variables("settings.env")) | set(read_variables("secrets.env.example"))
    assert own | shared <= SETTINGS | OTHER_VARIABLES
    assert not own & shared


def test_the_settings_are_usable() -> None:
    variables = read_variables("settings.env") | {"RETAIL_API_KEYS": "k"}
    for deployment in DEPLOYMENTS.values():
        variables |= {entry["name"]: entry["value"] for entry in container(deployment)["env"]}
    names = {variable_name(name): name for name in Settings.model_fields}
    values = {names[name]: value for name, value in variables.items() if name in names}
    assert Settings.model_validate(values).lake_url.startswith("s3://")


def test_secrets_have_no_value_here() -> None:
    assert not (FOLDER / "secrets.env").exists() or _is_ignored("secrets.env")
    values = read_variables("secrets.env.example")
    assert values["RETAIL_API_KEYS"] == ""
    secrets = {name: value for name, value in values.items() if not name.endswith(("KEYS", "USERNAME"))}
    assert all("change-me" in value for value in secrets.values())
    public = set(read_variables("settings.env")) - {"MLFLOW_TRACKING_URI"}
    assert not {name for name in public if re.search("KEY|PASSWORD|AUTH|URI$", name)}


def _is_ignored(file: str) -> bool:
    return f"/deploy/kubernetes/{file}" in (ROOT / ".gitignore").read_text().splitlines()


def test_images_and_commands_are_those_of_the_dockerfile() -> None:
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    targets = set(re.findall(r"^FROM base AS (\w+)$", dockerfile, re.M))
    assert {image["name"] for image in kustomization()["images"]} == {f"retail-{name}" for name in targets}
    assert targets == set(DEPLOYMENTS)
    for name, deployment in DEPLOYMENTS.items():
        assert container(deployment)["image"] == f"retail-{name}"
        command = container(deployment).get("command")
        if command is None:
            continue
        python, option, module, *arguments = command
        assert (python, option) == ("python", "-m")
        assert importlib.util.find_spec(module) is not None
        # The same as the image's own, which is written down here for the port beside it.
        assert f"CMD {_as_json([python, option, module, *arguments])}" in dockerfile


def _as_json(words: list[str]) -> str:
    return "[" + ", ".join(f'"{word}"' for word in words) + "]"


def test_ports_and_probes_are_those_of_the_services() -> None:
    api, worker, app = (DEPLOYMENTS[name] for name in ("api", "worker", "app"))
    ports = {name: container(DEPLOYMENTS[name])["ports"][0]["containerPort"] for name in DEPLOYMENTS}
    assert ports["api"] == Settings().api_port
    assert ports["app"] == Settings().app_port
    variables = {entry["name"]: entry["value"] for entry in container(worker)["env"]}
    assert variables["PREFECT_WORKER_WEBSERVER_PORT"] == str(ports["worker"])
    # Alive while no model is in production, and ready only with one.
    assert probes(api) == {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }
    assert set(probes(api).values()) <= open_paths()
    assert {*probes(worker).values(), *probes(app).values()} == health_paths_of_the_stack()
    for name, service in of_kind("Service").items():
        (port,) = service["spec"]["ports"]
        assert port["port"] == ports[name]
        assert port["targetPort"] == container(DEPLOYMENTS[name])["ports"][0]["name"]
    assert {entry["name"]: entry["value"] for entry in container(app)["env"]}["RETAIL_API_HOST"] == "api"


def open_paths() -> set[str]:
    """Paths that the API answers without a key."""
    from bentos.http.route_scopes import PUBLIC, SCOPES

    return {path for path, scope in SCOPES.items() if scope is PUBLIC}


def health_paths_of_the_stack() -> set[str]:
    """Paths that `retail up` asks the worker and the app for their health."""
    tree = ast.parse((ROOT / "retail_core" / "stack" / "services.py").read_text())
    functions = {node.name: ast.unparse(node) for node in tree.body if isinstance(node, ast.FunctionDef)}
    return {
        path
        for name in ("_deployments", "_app")
        for path in re.findall(r"health=f'http://\{LOOPBACK\}:\{port\}(/[^']*)'", functions[name])
    }


def test_selectors_select_the_pods() -> None:
    for name, deployment in DEPLOYMENTS.items():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"] == labels == {"app": name}
    for name, service in of_kind("Service").items():
        assert service["spec"]["selector"] == {"app": name}
    (budget,) = of_kind("PodDisruptionBudget").values()
    assert budget["spec"] == {"minAvailable": 1, "selector": {"matchLabels": {"app": "api"}}}
    (scaler,) = of_kind("HorizontalPodAutoscaler").values()
    assert scaler["spec"]["scaleTargetRef"]["name"] == "api"
    assert scaler["spec"]["minReplicas"] == 2
    assert "replicas" not in DEPLOYMENTS["api"]["spec"]
    for constraint in pod(DEPLOYMENTS["api"])["topologySpreadConstraints"]:
        assert constraint["labelSelector"] == {"matchLabels": {"app": "api"}}


def test_the_network_policies_open_the_ports_of_the_pods_and_of_the_services() -> None:
    policies = of_kind("NetworkPolicy")
    assert policies["default"]["spec"]["podSelector"] == {}
    assert "ingress" not in policies["default"]["spec"]
    for name in ("api", "app"):
        (rule,) = policies[name]["spec"]["ingress"]
        assert [port["port"] for port in rule["ports"]] == [
            container(DEPLOYMENTS[name])["ports"][0]["containerPort"]
        ]
    allowed = {port["port"] for rule in policies["default"]["spec"]["egress"] for port in rule["ports"]}
    assert set(ports_of_the_services()) <= allowed


def ports_of_the_services() -> Iterator[int]:
    variables = read_variables("settings.env") | read_variables("secrets.env.example")
    for value in variables.values():
        if match := re.match(r"(https?|mongodb)://(?:[^@/]*@)?[\w.]+(?::(\d+))?", value):
            yield int(match[2] or 443)


def test_the_worker_mounts_the_raw_files() -> None:
    (claim,) = of_kind("PersistentVolumeClaim")
    volumes = {volume["name"]: volume for volume in pod(DEPLOYMENTS["worker"])["volumes"]}
    assert volumes["raw-files"]["persistentVolumeClaim"]["claimName"] == claim
    mounts = {mount["name"]: mount for mount in container(DEPLOYMENTS["worker"])["volumeMounts"]}
    assert mounts["raw-files"] == {"name": "raw-files", "mountPath": "/raw", "readOnly": True}
