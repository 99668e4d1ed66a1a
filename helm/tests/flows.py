"""NetworkPolicies evaluated: who may open a connection to whom, on which port.

A small model of the API's rules: a pod that some policy selects for a direction may only do what one of these allows; a
peer with both selectors means pods of such namespaces; a connection needs both ends' leave.
"""

import dataclasses
import ipaddress


@dataclasses.dataclass(frozen=True)
class Party:
    """Somebody who may open or take a connection: a pod, or an address outside."""

    name: str
    namespace: str = ""
    namespace_labels: tuple = ()
    labels: tuple = ()
    ip: str = ""

    @staticmethod
    def pod(name: str, namespace: str, labels: dict, **namespace_labels: str) -> "Party":
        """A pod; a namespace always carries its own name."""
        of_namespace = {"kubernetes.io/metadata.name": namespace} | {
            key.replace("__", "/"): value for key, value in namespace_labels.items()
        }
        return Party(name, namespace, tuple(of_namespace.items()), tuple(labels.items()))


def matches(selector: dict, labels: dict) -> bool:
    """A label selector; an empty one selects all."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for term in selector.get("matchExpressions") or []:
        has = term["key"] in labels
        inside = labels.get(term["key"]) in (term.get("values") or [])
        if not {"In": inside, "NotIn": not inside, "Exists": has, "DoesNotExist": not has}[term["operator"]]:
            return False
    return True


def is_peer(peer: dict, party: Party, namespace: str) -> bool:
    """Is the party one that a peer of a policy in this namespace means?"""
    if "ipBlock" in peer:
        if not party.ip:
            return False
        address = ipaddress.ip_address(party.ip)
        if address not in ipaddress.ip_network(peer["ipBlock"]["cidr"]):
            return False
        return not any(address in ipaddress.ip_network(less) for less in peer["ipBlock"].get("except") or [])
    if party.ip:
        return False
    if "namespaceSelector" in peer:
        if not matches(peer["namespaceSelector"], dict(party.namespace_labels)):
            return False
    elif party.namespace != namespace:
        return False
    return matches(peer.get("podSelector") or {}, dict(party.labels))


def permits(policies: list[dict], way: str, own: Party, other: Party, port: int, protocol: str) -> bool:
    """Does one end let it?"""
    if own.ip:
        return True
    applying = [
        policy
        for policy in policies
        if policy["metadata"]["namespace"] == own.namespace
        and way in policy["spec"]["policyTypes"]
        and matches(policy["spec"]["podSelector"], dict(own.labels))
    ]
    if not applying:
        return True
    side, key = ("ingress", "from") if way == "Ingress" else ("egress", "to")
    for policy in applying:
        for rule in policy["spec"].get(side) or []:
            ports = rule.get("ports")
            on = not ports or any(
                ("port" not in p or p["port"] <= port <= p.get("endPort", p["port"])) and p.get("protocol", "TCP") == protocol
                for p in ports
            )
            peers = rule.get(key)
            if on and (not peers or any(is_peer(peer, other, policy["metadata"]["namespace"]) for peer in peers)):
                return True
    return False


def allowed(policies: list[dict], parties: list[Party], ports: list[tuple[int, str]]) -> set[tuple[str, str, str]]:
    """Every connection that can be opened: (from, to, "port/protocol")."""
    return {
        (source.name, target.name, f"{port}/{protocol}")
        for source in parties
        for target in parties
        for port, protocol in ports
        if source != target
        and permits(policies, "Egress", source, target, port, protocol)
        and permits(policies, "Ingress", target, source, port, protocol)
    }
