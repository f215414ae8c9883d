//! What dashboards ask. In: a dashboard as Grafana stores it. Out: its queries and variables, and queries
//! filled in as Grafana would.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

#[derive(Debug)]
pub struct Dashboard {
    pub name: String,
    /// In the order they depend on each other.
    pub variables: Vec<Variable>,
    pub queries: Vec<Query>,
}

#[derive(Debug)]
pub struct Query {
    /// Dashboard, panel and query.
    pub place: String,
    pub expr: String,
    pub instant: bool,
}

/// `label_values(SELECTOR, LABEL)`.
#[derive(Debug)]
pub struct Variable {
    pub name: String,
    pub selector: String,
    pub label: String,
    pub multi: bool,
}

/// Values by name, with or without braces around the name.
pub type Values = BTreeMap<String, String>;

impl Dashboard {
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(&name, &text).with_context(|| format!("in {}", path.display()))
    }

    fn parse(name: &str, text: &str) -> Result<Self> {
        let all: Value = serde_json::from_str(text)?;
        let list = |of: &Value| of.as_array().cloned().unwrap_or_default();
        let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
        let mut queries = Vec::new();
        for panel in list(&all["panels"]) {
            // A collapsed row has its panels inside.
            for panel in [vec![panel.clone()], list(&panel["panels"])].concat() {
                for target in list(&panel["targets"]) {
                    queries.push(Query {
                        place: format!(
                            "{name} / {} {}",
                            text(&panel["title"]),
                            text(&target["refId"])
                        ),
                        expr: text(&target["expr"]),
                        instant: target["instant"] == true,
                    });
                }
            }
        }
        ensure!(!queries.is_empty(), "no query");
        for annotation in list(&all["annotations"]["list"]) {
            queries.push(Query {
                place: format!("{name} / annotation {}", text(&annotation["name"])),
                expr: without_bounds(&text(&annotation["expr"])),
                instant: false,
            });
        }
        let variables = list(&all["templating"]["list"]);
        let variables = variables.iter().filter(|v| v["type"] == "query");
        Ok(Self {
            name: name.to_owned(),
            variables: variables.map(variable).collect::<Result<_>>()?,
            queries,
        })
    }
}

fn variable(of: &Value) -> Result<Variable> {
    let name = of["name"].as_str().context("a variable has no name")?;
    let query = of["query"]["query"].as_str().unwrap_or_default();
    let inside = query
        .strip_prefix("label_values(")
        .and_then(|rest| rest.strip_suffix(')'));
    let Some((selector, label)) = inside.and_then(|text| text.rsplit_once(", ")) else {
        bail!("variable {name}: {query:?} is no label_values(SELECTOR, LABEL)");
    };
    Ok(Variable {
        name: name.to_owned(),
        selector: selector.to_owned(),
        label: label.to_owned(),
        multi: of["multi"] == true,
    })
}

/// A query as Grafana sends it.
pub fn fill(expr: &str, values: &Values) -> Result<String> {
    let mut filled = expr.to_owned();
    // Longer names first: `$job` may begin another.
    let mut names: Vec<&String> = values.keys().collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    for name in names {
        filled = filled.replace(&format!("${{{name}}}"), &values[name]);
        filled = filled.replace(&format!("${name}"), &values[name]);
    }
    ensure!(
        !filled.contains('$'),
        "a variable is not known in {filled:?}"
    );
    Ok(filled)
}

/// An alert without what it is compared to: that must have data on a host that is well.
pub fn without_bounds(expr: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    let mut all = expr.split_whitespace().peekable();
    while let Some(word) = all.next() {
        let compares = ["==", "!=", ">", "<", ">=", "<="].contains(&word);
        if compares && all.peek().is_some_and(|next| next.parse::<f64>().is_ok()) {
            all.next();
        } else {
            words.push(word);
        }
    }
    words.join(" ")
}

/// The names of ours in a query, those that rules record included.
pub fn metrics(expr: &str) -> Vec<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = expr.split(|c| !is_name(c));
    words.filter(|word| word.contains("vmascope_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_in_what_grafana_would() {
        let of = |pairs: &[(&str, &str)]| -> Values {
            let owned = pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            owned.collect()
        };
        let values = of(&[("job", "x"), ("job_of", "y"), ("__range", "5m")]);
        let filled = fill("a{b=\"$job_of\",c=~\"${job}\"}[$__range]", &values);
        assert_eq!(filled.unwrap(), "a{b=\"y\",c=~\"x\"}[5m]");
        assert!(fill("a{b=\"$other\"}", &values).is_err());
    }

    #[test]
    fn takes_bounds_away_and_nothing_else() {
        assert_eq!(without_bounds("up{a=\"b\"} == 0"), "up{a=\"b\"}");
        assert_eq!(
            without_bounds("(a + b) > 0.1\n  and c{d!=\"e\"} < 2"),
            "(a + b) and c{d!=\"e\"}"
        );
        assert_eq!(without_bounds("a > b"), "a > b");
    }

    #[test]
    fn finds_names() {
        let expr = "rate(vmascope_a_total{b=\"c\"}[5m]) / instance:vmascope_d:rate5m";
        assert_eq!(
            metrics(expr),
            ["vmascope_a_total", "instance:vmascope_d:rate5m"]
        );
    }

    #[test]
    fn reads_a_dashboard() {
        let text = r#"{"panels": [{"title": "P", "targets": [{"refId": "A", "expr": "a", "instant": true}]},
            {"title": "row", "panels": [{"title": "Q", "targets": [{"refId": "B", "expr": "b"}]}]}],
            "annotations": {"list": [{"name": "N", "expr": "c > 0"}]},
            "templating": {"list": [{"type": "datasource", "name": "d"},
              {"type": "query", "name": "job", "multi": true, "query": {"query": "label_values(m{a=\"b\"}, job)"}}]}}"#;
        let board = Dashboard::parse("x", text).unwrap();
        let places: Vec<_> = board.queries.iter().map(|q| q.place.as_str()).collect();
        assert_eq!(places, ["x / P A", "x / Q B", "x / annotation N"]);
        assert!(board.queries[0].instant && !board.queries[1].instant);
        assert_eq!(board.queries[2].expr, "c");
        assert_eq!(board.variables.len(), 1);
        assert_eq!(board.variables[0].selector, "m{a=\"b\"}");
    }
}
