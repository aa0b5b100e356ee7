"""What the files for clusters promise: no pod speaks for the cluster, and nobody speaks to one but the ingress."""

import json
import re
import runpy
import tomllib

import pytest
import yaml

from tests.processes import ROOT

FOLDER = ROOT / "deploy/kubernetes"
DOCUMENTS = [each for file in FOLDER.glob("*.yaml") for each in yaml.safe_load_all(file.read_text()) if each]
PODS = [each for each in DOCUMENTS if "template" in each.get("spec", {})]
CLOSED = next(each for each in DOCUMENTS if each.get("metadata", {}).get("name") == "shopwire-closed")


def test_every_file_is_applied():
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]

    assert sorted(listed) == sorted(file.name for file in FOLDER.glob("*.yaml") if file.name != "kustomization.yaml")


def test_the_image_has_every_package_of_the_project():
    let_in = re.findall(r"^!(\w+)$", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]

    assert set(packages) <= set(let_in)


@pytest.mark.parametrize("pod", PODS, ids=lambda pod: pod["metadata"]["name"])
def test_no_pod_has_a_token_of_the_cluster_or_an_open_port(pod):
    template = pod["spec"]["template"]
    [closed] = CLOSED["spec"]["podSelector"]["matchExpressions"]

    assert template["spec"]["automountServiceAccountToken"] is False
    assert template["metadata"]["labels"][closed["key"]] in closed["values"]
    assert CLOSED["spec"]["policyTypes"] == ["Ingress"]
    assert "ingress" not in CLOSED["spec"]


@pytest.mark.parametrize("pod", PODS, ids=lambda pod: pod["metadata"]["name"])
def test_no_pod_is_handed_the_secrets_of_another(pod):
    own = {"shopwire-web", "shopwire-flower"} & {pod["metadata"]["name"]}
    spec = pod["spec"]["template"]["spec"]

    def handed(containers):
        return {source["secretRef"]["name"] for each in containers for source in each["envFrom"]}

    assert handed(spec["containers"]) == {"shopwire"} | own
    assert handed(spec.get("initContainers", [])) <= {"shopwire"}


def test_each_container_is_handed_its_own_secrets_and_no_others(tmp_path):
    keys = runpy.run_path(str(ROOT / "deploy/keys.py"))
    stack = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    for _ in range(2):
        (tmp_path / "keys").mkdir(exist_ok=True)
        keys["make"](tmp_path / "keys")
        keys["hand_out"](tmp_path / "keys", tmp_path / "handed")

    for name, service in stack["services"].items():
        mounted = [str(volume).partition(":")[0] for volume in service.get("volumes", []) if "/run/keys" in str(volume)]
        if name == "keys" or not mounted:
            continue
        [volume] = mounted
        folder = tmp_path / "handed" / volume.removeprefix("keys-")
        files = {file.name for file in folder.iterdir()}
        asked = set(re.findall(r"/run/keys/(?:\$\{BROKER:-(?=redis))?([a-z_.]+)", json.dumps(service)))
        assert {file for file in asked if "." in file or "_" in file} <= files | {"redis}_url"}, name
        if name in {"postgres", "redis", "rabbitmq"}:
            assert len(files) <= 2
            assert "secret_key" not in files
        elif name != "flower":
            assert "flower_basic_auth" not in files
