"""What a rendered chart must not contain. Each check gives findings; a clean chart gives none.

The restricted profile is that of the Pod Security Standards of Kubernetes, checked here field by field; read-only root,
tokens, credentials and egress are ours.
"""

import re

from charts import of_kind, pods

VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
SECCOMP = ("RuntimeDefault", "Localhost")


def findings(found: list[dict]) -> list[str]:
    """All of them."""
    result = []
    for where, _, spec in pods(found):
        result += [f"{where}: {problem}" for problem in restricted(spec) + ours(spec)]
    return result + accounts(found) + egress(found) + credentials(found)


def restricted(spec: dict) -> list[str]:
    """Where a pod leaves the restricted profile."""
    result = []
    pod = spec.get("securityContext") or {}
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            result.append(f"{field} is set")
    if pod.get("sysctls"):
        result.append("sysctls are set")
    for volume in spec.get("volumes") or []:
        kinds = set(volume) - {"name"}
        if not kinds <= VOLUMES:
            result.append(f"volume {volume['name']} is {sorted(kinds)}")
    for container in containers(spec):
        own = container.get("securityContext") or {}
        say = f"container {container['name']}"
        capabilities = own.get("capabilities") or {}
        if own.get("privileged"):
            result.append(f"{say} is privileged")
        if own.get("allowPrivilegeEscalation") is not False:
            result.append(f"{say} may gain privileges")
        if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
            result.append(f"{say} keeps capabilities")
        if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
            result.append(f"{say} may run as root")
        if own.get("runAsUser", pod.get("runAsUser")) in (None, 0):
            result.append(f"{say} runs as root or as whoever the image says")
        if (own.get("seccompProfile") or pod.get("seccompProfile") or {}).get("type") not in SECCOMP:
            result.append(f"{say} has no seccomp profile")
        if own.get("procMount", "Default") != "Default":
            result.append(f"{say} has another /proc")
        if own.get("seLinuxOptions") or pod.get("seLinuxOptions"):
            result.append(f"{say} sets SELinux options")
        if any(port.get("hostPort") for port in container.get("ports") or []):
            result.append(f"{say} takes a port of the host")
    return result


def ours(spec: dict) -> list[str]:
    """Where a pod has more than a service of ours needs."""
    result = []
    if spec.get("automountServiceAccountToken") is not False:
        result.append("a ServiceAccount token is mounted")
    if spec.get("enableServiceLinks") is not False:
        result.append("other services' addresses stand in the environment, where settings are read from")
    for container in containers(spec):
        own = container.get("securityContext") or {}
        say = f"container {container['name']}"
        if own.get("readOnlyRootFilesystem") is not True:
            result.append(f"{say} can write its root file system")
        limits = (container.get("resources") or {}).get("limits") or {}
        if not {"cpu", "memory"} <= set(limits):
            result.append(f"{say} has no limits")
        if container["image"].endswith(":latest") or not re.search(r"[:@][^/]+$", container["image"]):
            result.append(f"{say} runs an image without a version")
    return result


def accounts(found: list[dict]) -> list[str]:
    """ServiceAccounts that hand out tokens, and rights that anybody is given."""
    given = [document for document in found if document["kind"] in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")]
    return [
        f"ServiceAccount/{account['metadata']['name']}: tokens are mounted by default"
        for account in of_kind(found, "ServiceAccount")
        if account.get("automountServiceAccountToken") is not False
    ] + [f"{document['kind']}/{document['metadata']['name']}: no service asks the cluster for anything" for document in given]


def egress(found: list[dict]) -> list[str]:
    """Pods that no policy closes, and rules that open to everybody."""
    result = []
    policies = of_kind(found, "NetworkPolicy")
    for where, metadata, _ in pods(found):
        for way in ("Ingress", "Egress"):
            if not any(way in policy["spec"]["policyTypes"] and selects(policy, metadata) for policy in policies):
                result.append(f"{where}: {way} is open, no policy selects it")
    for policy in policies:
        for way, key in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(way) or []:
                say = f"NetworkPolicy/{policy['metadata']['name']}: {way}"
                if not rule.get(key) or any(everybody(peer) for peer in rule[key]):
                    result.append(f"{say} is open to everybody")
                if not rule.get("ports") or any("port" not in port for port in rule["ports"]):
                    result.append(f"{say} is open on every port")
    return result


def everybody(peer: dict) -> bool:
    """Does a peer leave nobody out?"""
    if "ipBlock" in peer:
        return peer["ipBlock"]["cidr"].endswith("/0")
    selectors = [peer[key] for key in ("namespaceSelector", "podSelector") if key in peer]
    return not any(selector for selector in selectors)


def selects(policy: dict, metadata: dict) -> bool:
    """Does a policy apply to a pod of its namespace?"""
    wanted = policy["spec"]["podSelector"].get("matchLabels") or {}
    return all(metadata["labels"].get(key) == value for key, value in wanted.items())


SENSITIVE = re.compile(r"(PASSWORD|PASSWD|SECRET|TOKEN|PIN|KEY|URL|CREDENTIAL)", re.I)
EMBEDDED = [
    ("a URL with a password", re.compile(r"[a-z][a-z0-9+.-]*://[^/\s:@]+:[^/\s@]+@", re.I)),
    ("a private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")),
    ("an access key", re.compile(r"\bAKIA[0-9A-Z]{16}\b")),
    ("a secret setting", re.compile(r"^\s*(secret_access_key|access_key_id|pin|password|url)\s*=", re.M)),
]


def credentials(found: list[dict]) -> list[str]:
    """Secrets that stand in a manifest instead of an existing Secret."""
    result = []
    for document in found:
        where = f"{document['kind']}/{document['metadata'].get('name')}"
        if document["kind"] == "Secret":
            result.append(f"{where}: the chart makes no Secret")
        for text in strings(document):
            result += [f"{where}: {what}" for what, pattern in EMBEDDED if pattern.search(text)]
    for where, _, spec in pods(found):
        for container in containers(spec):
            for variable in container.get("env") or []:
                name, value = variable["name"], variable.get("value", "")
                if SENSITIVE.search(name) and value and not (name.endswith("_FILE") and value.startswith("/")):
                    result.append(f"{where}: {name} holds a value")
    return result


def strings(value) -> list[str]:
    """Every text in a document."""
    if isinstance(value, dict):
        return [text for inner in value.values() for text in strings(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in strings(inner)]
    return [value] if isinstance(value, str) else []


def containers(spec: dict) -> list[dict]:
    """Of a pod, those that come first included."""
    return (spec.get("initContainers") or []) + spec["containers"] + (spec.get("ephemeralContainers") or [])
