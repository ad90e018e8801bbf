"""The Helm chart: rendered by Helm with its defaults and with other values, and compared with Kubernetes' schemas."""

import json
import re
import subprocess
import tomllib

import pytest
import yaml
from conftest import DEPLOY, clean_env, run, tool

CHART = DEPLOY / "helm/chatledger"
VALUES = [None, *sorted((CHART / "ci").glob("*.yaml"))]
# The oldest that Chart.yaml allows, and the newest that the schemas are known of.
VERSIONS = ["1.30", "1.37"]


def helm(*arguments, check=True):
    command = [tool("helm"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_env())
    assert not check or done.returncode == 0, done.stderr
    return done


def render(*arguments):
    text = helm("template", "demo", CHART, "--namespace", "team", *arguments).stdout
    return [document for document in yaml.safe_load_all(text) if document]


def refusal(*arguments):
    done = helm("template", "demo", CHART, *arguments, check=False)
    assert done.returncode != 0
    return done.stderr


@pytest.fixture(scope="module", params=VALUES, ids=lambda path: path.stem if path else "defaults")
def rendered(request):
    return render(*(["-f", request.param] if request.param else []))


@pytest.fixture(scope="module")
def defaults():
    return render()


def one(documents, kind, name=None):
    (found,) = (d for d in documents if d["kind"] == kind and name in (None, d["metadata"]["name"]))
    return found


def pods(documents):
    return [d["spec"]["template"]["spec"] for d in documents if d["kind"] in ("Deployment", "Job")]


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem if path else "defaults")
def test_lint(values):
    helm("lint", "--strict", CHART, *(["-f", values] if values else []))


def test_the_package_has_the_rules_and_the_dashboard(tmp_path):
    """They are links in the tree."""
    helm("package", CHART, "-d", tmp_path)
    (package,) = tmp_path.glob("*.tgz")
    rules = run("tar", "-xzOf", package, "chatledger/files/rules.yaml")
    assert rules == (DEPLOY / "prometheus/rules.yaml").read_text()
    dashboard = run("tar", "-xzOf", package, "chatledger/files/dashboard.json")
    assert dashboard == (DEPLOY / "grafana/chatledger.json").read_text()


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_schemas(rendered, version):
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="skipped: no kubernetes-validate")
    for document in rendered:
        if document["apiVersion"].startswith("monitoring.coreos.com/"):
            continue
        kubernetes_validate.validate(document, version, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        wrong = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"port": []}}
        kubernetes_validate.validate(wrong, version, strict=True)


def test_the_prometheus_operators_schemas():
    models = pytest.importorskip("cloudcoil.models.prometheus_operator.v1", reason="skipped: no models of the operator")
    for document in render("-f", CHART / "ci/full.yaml"):
        if document["apiVersion"].startswith("monitoring.coreos.com/"):
            model = getattr(models, document["kind"]).model_validate(document)
            # What the model doesn't know, it leaves out.
            kept = model.model_dump(by_alias=True, exclude_unset=True, mode="json")
            assert kept["spec"] == document["spec"]


def test_the_monitor_finds_the_admin_port():
    documents = render("-f", CHART / "ci/full.yaml")
    selector = one(documents, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    services = [d for d in documents if d["kind"] == "Service" and selector.items() <= d["metadata"]["labels"].items()]
    (service,) = services
    assert [port["name"] for port in service["spec"]["ports"]] == ["admin"]


def test_the_rules_are_those_of_the_tree():
    spec = one(render("--set", "prometheusRule.enabled=true"), "PrometheusRule")["spec"]
    assert spec == yaml.safe_load((DEPLOY / "prometheus/rules.yaml").read_text())
    spec = one(render("-f", CHART / "ci/full.yaml"), "PrometheusRule")["spec"]
    for rule in spec["groups"][0]["rules"]:
        address = rule["annotations"]["runbook_url"]
        assert address == f"https://git.example.com/chatledger/blob/main/docs/operations.md#{rule['alert'].lower()}"


def test_pods_may_do_little(rendered):
    """The restricted profile of the pod security standards, and a root that can't be written to."""
    for pod in pods(rendered):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 65532
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True and context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]


def test_the_configuration_is_flags(rendered, flags):
    """chatledger.toml is TOML, of flags that `serve` has."""
    config = tomllib.loads(one(rendered, "ConfigMap", "demo-chatledger")["data"]["chatledger.toml"])
    assert set(config) <= flags, set(config) - flags
    server = one(rendered, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert server["args"][:2] == ["serve", "--config"]
    # A variable would win over the file, where SIGHUP finds what has changed.
    assert config["log-filter"].startswith("info") and "RUST_LOG" not in {variable["name"] for variable in server["env"]}
    # The image's own variable is overridden, which would win over the file.
    assert {"name": "CHATLEDGER_LISTEN", "value": config["listen"]} in server["env"]


def test_the_program_reads_the_configuration(rendered, program, tmp_path):
    """As it will at boot; the files that it names are a Secret's, and not here."""
    file = tmp_path / "chatledger.toml"
    file.write_text(one(rendered, "ConfigMap", "demo-chatledger")["data"]["chatledger.toml"])
    shown = json.loads(run(program, "config", "show", "--config", file, "--json", env=clean_env()))
    assert file.name in json.dumps(shown) and "0.0.0.0:50051" in json.dumps(shown)
    file.write_text(file.read_text() + "max-request = 7\n")
    wrong = subprocess.run([program, "config", "show", "--config", file], capture_output=True, text=True, env=clean_env())
    assert wrong.returncode != 0 and "max-request" in wrong.stderr


def test_values_become_toml():
    values = ["--set", "config.max-requests=536870912", "--set", "config.reflection=true"]
    values += ["--set-json", 'config.jwt-issuer=["https://a.example/", "say \\"b\\""]', "--set-string", "config.pooler=on"]
    config = tomllib.loads(one(render(*values), "ConfigMap")["data"]["chatledger.toml"])
    assert config["max-requests"] == 536870912 and isinstance(config["max-requests"], int)
    assert config["reflection"] is True and config["pooler"] == "on"
    assert config["jwt-issuer"] == ["https://a.example/", 'say "b"']


def test_who_stops_has_the_time_it_needs(rendered):
    deployment = one(rendered, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    config = tomllib.loads(one(rendered, "ConfigMap", "demo-chatledger")["data"]["chatledger.toml"])
    drain, grace = (int(re.fullmatch(r"(\d+)s", config[key])[1]) for key in ("drain-delay", "shutdown-grace"))
    assert pod["terminationGracePeriodSeconds"] > drain + grace
    # It is out of the Services' addresses before it ends.
    probe = pod["containers"][0]["readinessProbe"]
    assert drain > 0 and probe["periodSeconds"] <= 10


def test_secrets_are_named_and_never_held(rendered):
    assert not [document for document in rendered if document["kind"] == "Secret"]
    for pod in pods(rendered):
        for variable in pod["containers"][0]["env"]:
            if variable["name"].startswith("DATABASE_"):
                assert "secretKeyRef" in variable["valueFrom"]
    assert "invalid propertyName 'database-url'" in refusal("--set", "config.database-url=postgresql://a:b@c/d")


def test_the_defaults_encrypt(defaults):
    config = tomllib.loads(one(defaults, "ConfigMap")["data"]["chatledger.toml"])
    assert config["tls-cert"] and config["tls-key"] and "insecure" not in config
    assert "unless insecure is true" in refusal("--set", "tls.enabled=false")
    assert "can't probe gRPC over TLS" in refusal("--set", "probes.grpc=true")


def test_a_misspelt_value_is_refused():
    assert "additional properties 'enable' not allowed" in refusal("--set", "tls.enable=true")


def test_the_schema_is_migrated_first(defaults):
    job = one(defaults, "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["migrate", "up"]
    config = one(defaults, "ConfigMap")["data"]["chatledger.toml"]
    assert tomllib.loads(config)["migrate"] == "check"
    # Hooks come before everything else of the release: nothing of it can be asked for.
    named = {document["metadata"]["name"] for document in defaults if document["kind"] != "Job"}
    pod = job["spec"]["template"]["spec"]
    assert "serviceAccountName" not in pod and not named & {volume["configMap"]["name"] for volume in pod.get("volumes", [])}
    without = render("--set", "migrations.job=false")
    assert not [document for document in without if document["kind"] == "Job"]
    assert tomllib.loads(one(without, "ConfigMap")["data"]["chatledger.toml"])["migrate"] == "auto"


def test_what_selects_the_servers_selects_no_migration(rendered):
    """Services, budgets and policies: their labels are those of the servers' pods only."""
    server = one(rendered, "Deployment")["spec"]["template"]["metadata"]["labels"]
    for document in rendered:
        spec = document.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector") or {}
        selector = selector.get("matchLabels", selector)
        if document["kind"] in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
            assert selector.items() <= server.items() and selector["app.kubernetes.io/component"] == "server"


def test_the_autoscaler_looks_at_the_queue():
    documents = render("--set", "autoscaling.enabled=true")
    metric = one(documents, "HorizontalPodAutoscaler")["spec"]["metrics"][0]["pods"]["metric"]["name"]
    assert metric == "chatledger_append_oldest_unit_age_seconds"
    assert "replicas" not in one(documents, "Deployment")["spec"]
