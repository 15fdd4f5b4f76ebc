//! Conditions on numbers, answers of Prometheus, and addresses that an installation allows. Pure.

use serde_json::Value;

/// Whether the condition, such as `< 0.01`, holds for the number.
pub(crate) fn holds(condition: &str, value: f64) -> Result<bool, String> {
    let wrong = || format!("successWhen: {condition:?} is not a comparison such as < 0.01");
    // Longer operators first: `<=` begins with `<`.
    let (operator, number) = ["<=", ">=", "==", "!=", "<", ">"]
        .iter()
        .find_map(|operator| Some((*operator, condition.trim().strip_prefix(operator)?)))
        .ok_or_else(wrong)?;
    let limit: f64 = number.trim().parse().map_err(|_| wrong())?;
    #[expect(clippy::float_cmp, reason = "the user asks for exactly this comparison")]
    Ok(match operator {
        "<=" => value <= limit,
        ">=" => value >= limit,
        "==" => value == limit,
        "!=" => value != limit && !value.is_nan(),
        "<" => value < limit,
        _ => value > limit,
    })
}

/// The single number of an answer of Prometheus' HTTP API to an instant query. Source: "HTTP API", section "Instant
/// queries", in the documentation of Prometheus.
pub(crate) fn value(answer: &Value) -> Result<f64, String> {
    if answer["status"] != "success" {
        let why = answer["error"].as_str().unwrap_or("no reason given");
        let why: String = why.chars().take(200).collect();
        return Err(format!("Prometheus could not answer: {why}"));
    }
    let result = &answer["data"]["result"];
    let sample = match answer["data"]["resultType"].as_str() {
        Some("scalar") => &result[1],
        Some("vector") => match result.as_array().map(Vec::as_slice) {
            Some([one]) => &one["value"][1],
            Some([]) => return Err("it gives no value".into()),
            _ => return Err("it gives several values; aggregate them to one".into()),
        },
        _ => return Err("it gives neither a number nor a vector of one".into()),
    };
    let text = sample.as_str().ok_or("its value is not a number")?;
    let number: f64 = text.parse().map_err(|_| "its value is not a number".to_owned())?;
    // No number fulfils a condition, and NaN would fulfil `!=`.
    if number.is_nan() {
        Err("it gives NaN".into())
    } else {
        Ok(number)
    }
}

/// The address, if the installation allows it: it has scheme, host and port of an allowed one, and its path lies at or below
/// that one's. Compared by parts: `http://prometheus:9090` does not allow `http://prometheus:9090.example.com`.
pub(crate) fn allowed(address: &str, allowed: &[String]) -> Result<String, String> {
    let parts = |text: &str| {
        let (scheme, rest) = text.split_once("://")?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = !authority.is_empty() && !authority.contains(['@', '?', '#', '\\']);
        let segments: Vec<String> = path
            .split('/')
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect();
        // A path that climbs would leave the allowed one again.
        let climbs = segments
            .iter()
            .any(|part| part == "." || part == ".." || part.contains(['%', '\\', '?', '#']));
        (plain && !climbs).then(|| (scheme.to_ascii_lowercase(), authority.to_ascii_lowercase(), segments))
    };
    let wanted = parts(address).ok_or_else(|| format!("{address:?} is not a plain URL"))?;
    let fits = allowed
        .iter()
        .filter_map(|entry| parts(entry))
        .any(|(scheme, authority, path)| {
            (scheme, authority) == (wanted.0.clone(), wanted.1.clone()) && wanted.2.starts_with(&path)
        });
    match fits {
        true => Ok(address.to_owned()),
        false => Err(format!(
            "this installation does not allow {address}; its operator must be started with --allow-address for it"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_compare() {
        for (condition, value, holds_) in [
            ("< 0.01", 0.001, true),
            ("<0.01", 0.01, false),
            ("<= 0.01", 0.01, true),
            (">= 5", 4.9, false),
            ("== 1", 1.0, true),
            ("!= 1", 1.0, false),
            ("> -1", 0.0, true),
        ] {
            assert_eq!(holds(condition, value), Ok(holds_), "{condition} {value}");
        }
        assert!(holds("about 5", 5.0).is_err());
        assert!(holds("< much", 5.0).is_err());
    }

    #[test]
    fn one_number_is_an_answer_and_nothing_else() {
        let vector =
            |values: Value| json!({ "status": "success", "data": { "resultType": "vector", "result": values } });
        assert_eq!(value(&vector(json!([{ "metric": {}, "value": [1, "0.5"] }]))), Ok(0.5));
        let scalar = json!({ "status": "success", "data": { "resultType": "scalar", "result": [1, "3"] } });
        assert_eq!(value(&scalar), Ok(3.0));
        for bad in [
            vector(json!([])),
            vector(json!([{ "value": [1, "1"] }, { "value": [1, "2"] }])),
            vector(json!([{ "value": [1, "NaN"] }])),
            json!({ "status": "error", "error": "parse error" }),
            json!(null),
            json!([]),
        ] {
            assert!(value(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_the_installation_allows_is_asked() {
        let allow = vec![
            "http://prometheus.monitoring:9090".to_owned(),
            "https://ci.example.com/hooks/".to_owned(),
        ];
        for good in [
            "http://prometheus.monitoring:9090",
            "http://prometheus.monitoring:9090/prefix",
            "https://CI.example.com/hooks/a",
        ] {
            assert!(allowed(good, &allow).is_ok(), "{good}");
        }
        for bad in [
            "http://prometheus.monitoring:9090.evil.example",
            "http://prometheus.monitoring",
            "https://prometheus.monitoring:9090",
            "https://ci.example.com/",
            "https://ci.example.com/hooksother",
            "https://ci.example.com/hooks/../admin",
            "https://ci.example.com/hooks/%2e%2e/admin",
            "http://prometheus.monitoring:9090@169.254.169.254/",
            "http://169.254.169.254/latest/meta-data",
            "http:///",
            "",
        ] {
            assert!(allowed(bad, &allow).is_err(), "{bad}");
        }
        assert!(allowed("http://a", &[]).is_err());
    }
}
