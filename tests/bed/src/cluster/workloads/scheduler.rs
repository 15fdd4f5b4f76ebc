//! Which node a pod goes to.

use k8s_openapi::api::core::v1::{NodeSelectorTerm, Pod};

/// One of `nodes`, which are not empty: the one whose name the pod's required affinity demands, as the `DaemonSet`
/// controller writes it, else one by the pod's name. None if the affinity names a node that is not there.
pub(super) fn node_for<'a>(pod: &Pod, nodes: &'a [String]) -> Option<&'a String> {
    let required = pod.spec.as_ref().and_then(|spec| {
        let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
        affinity.required_during_scheduling_ignored_during_execution.as_ref()
    });
    let mut wanted = required
        .iter()
        .flat_map(|selector| &selector.node_selector_terms)
        .filter_map(name_of)
        .peekable();
    if wanted.peek().is_some() {
        return wanted.find_map(|name| nodes.iter().find(|node| **node == name));
    }
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let sum: usize = name.bytes().map(usize::from).sum();
    nodes.get(sum % nodes.len())
}

fn name_of(term: &NodeSelectorTerm) -> Option<String> {
    let fields = term.match_fields.as_ref()?;
    let field = fields.iter().find(|field| field.key == "metadata.name")?;
    field.values.as_ref()?.first().cloned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn chosen(affinity: &Value) -> Option<String> {
        let pod = json!({ "metadata": { "name": "pod" }, "spec": { "containers": [], "affinity": affinity } });
        let pod = serde_json::from_value(pod).expect("a pod");
        node_for(&pod, &["node-1".to_owned(), "node-2".to_owned()]).cloned()
    }

    fn naming(node: &str) -> Value {
        let field = json!({ "key": "metadata.name", "operator": "In", "values": [node] });
        let term = json!({ "matchFields": [field] });
        json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [term] } } })
    }

    #[test]
    fn a_pod_goes_to_the_node_that_its_affinity_names_or_to_any() {
        assert_eq!(chosen(&naming("node-1")).as_deref(), Some("node-1"));
        assert_eq!(chosen(&naming("node-2")).as_deref(), Some("node-2"));
        assert_eq!(chosen(&naming("elsewhere")), None);
        assert!(chosen(&json!({})).is_some());
    }
}
