//! From rules to JSON, with the keys in the order of AWS's template.

use serde::Serialize;

use super::{Action, Count, Policy, StorageClass, Tags};

#[derive(Serialize)]
struct Document<'policy> {
    rules: Vec<Rule<'policy>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule<'policy> {
    #[serde(rename = "rulePriority")]
    priority: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'policy str>,
    selection: Selection<'policy>,
    action: Move,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Selection<'policy> {
    tag_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag_pattern_list: Option<&'policy [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag_prefix_list: Option<&'policy [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_class: Option<&'static str>,
    count_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    count_unit: Option<&'static str>,
    count_number: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Move {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_storage_class: Option<&'static str>,
}

pub(super) fn text(policy: &Policy) -> String {
    let rules = policy.rules.iter().map(rule).collect();
    // Nothing in it can fail to be written; an empty text would be refused by ECR.
    serde_json::to_string(&Document { rules }).unwrap_or_default()
}

fn rule(rule: &super::Rule) -> Rule<'_> {
    let selection = &rule.selection;
    let (tag_status, tag_pattern_list, tag_prefix_list) = match &selection.tags {
        Tags::Untagged => ("untagged", None, None),
        Tags::Any => ("any", None, None),
        Tags::Patterns(list) => ("tagged", Some(list.as_slice()), None),
        Tags::Prefixes(list) => ("tagged", None, Some(list.as_slice())),
    };
    Rule {
        priority: rule.priority,
        description: rule.description.as_deref(),
        selection: Selection {
            tag_status,
            tag_pattern_list,
            tag_prefix_list,
            storage_class: (selection.class == StorageClass::Archive).then_some("archive"),
            count_type: selection.count.kind(),
            count_unit: (!matches!(selection.count, Count::ImagesMoreThan(_))).then_some("days"),
            count_number: selection.count.number(),
        },
        action: match rule.action {
            Action::Expire => Move {
                r#type: "expire",
                target_storage_class: None,
            },
            Action::Archive => Move {
                r#type: "transition",
                target_storage_class: Some("archive"),
            },
        },
    }
}
