//! The HTTP interface of Prometheus, as Grafana uses it. In: queries. Out: what they return, judged: is
//! there anything, and is any of it a number?

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

pub struct Api {
    pub at: SocketAddr,
}

/// When a query is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub from_s: f64,
    pub to_s: f64,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Data,
    Nothing,
    /// Series, but no number in them: ratios and quantiles of nothing.
    NoNumber,
}

/// Of a page that is there.
pub fn get(at: SocketAddr, path: &str) -> Result<String> {
    let mut to = TcpStream::connect_timeout(&at, PATIENCE)?;
    to.set_read_timeout(Some(PATIENCE))?;
    // 1.0: the answer ends with the connection, and is in one piece.
    write!(to, "GET {path} HTTP/1.0\r\nHost: {at}\r\n\r\n")?;
    let mut all = Vec::new();
    to.read_to_end(&mut all)?;
    let all = String::from_utf8_lossy(&all);
    let (head, body) = all.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    // Prometheus says in the body what is wrong with a query.
    if status.starts_with('5') || status == "404" {
        bail!("{path}: {}", head.lines().next().unwrap_or_default());
    }
    Ok(body.to_owned())
}

/// Everything but letters and digits as %XX.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect()
}

impl Api {
    pub fn get(&self, path: &str, arguments: &[(&str, &str)]) -> Result<Value> {
        let arguments: Vec<String> = arguments
            .iter()
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        let path = format!("/api/v1/{path}?{}", arguments.join("&"));
        let text = get(self.at, &path)?;
        let mut answer: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        if answer["status"] != "success" {
            bail!("{}", answer["error"].as_str().unwrap_or(&text));
        }
        Ok(answer["data"].take())
    }

    pub fn instant(&self, query: &str, at_s: f64) -> Result<Value> {
        let time = format!("{at_s:.3}");
        self.get("query", &[("query", query), ("time", &time)])
    }

    pub fn range(&self, query: &str, span: Span) -> Result<Value> {
        let (start, end) = (format!("{:.3}", span.from_s), format!("{:.3}", span.to_s));
        let all = [
            ("query", query),
            ("start", &start),
            ("end", &end),
            ("step", "1"),
        ];
        self.get("query_range", &all)
    }

    /// The numbers of an instant query.
    pub fn numbers(&self, query: &str, at_s: f64) -> Result<Vec<f64>> {
        let data = self.instant(query, at_s)?;
        let series = data["result"].as_array().context("no vector")?;
        Ok(series.iter().filter_map(|s| number(&s["value"])).collect())
    }

    pub fn names(&self, label: &str, selector: &str) -> Result<Vec<String>> {
        let values = self.get(&format!("label/{label}/values"), &[("match[]", selector)])?;
        let values = values.as_array().context("no list")?;
        let names = values.iter().filter_map(|v| v.as_str().map(str::to_owned));
        Ok(names.collect())
    }
}

/// Of a sample, `[time, "value"]`; what is no finite number is none.
fn number(sample: &Value) -> Option<f64> {
    let value: f64 = sample[1].as_str()?.parse().ok()?;
    value.is_finite().then_some(value)
}

/// Of a native histogram, `[time, {"count": "value", ...}]`.
fn filled(sample: &Value) -> bool {
    let count = sample[1]["count"].as_str().and_then(|n| n.parse().ok());
    count.is_some_and(|n: f64| n > 0.0)
}

pub fn judge(data: &Value) -> Answer {
    let Some(series) = data["result"].as_array().filter(|all| !all.is_empty()) else {
        return Answer::Nothing;
    };
    if data["resultType"] == "scalar" {
        let is = number(&data["result"]).is_some();
        return if is { Answer::Data } else { Answer::NoNumber };
    }
    let any = |of: &Value, good: fn(&Value) -> bool| {
        of.as_array()
            .is_some_and(|samples| samples.iter().any(good))
    };
    let has = |s: &Value| {
        number(&s["value"]).is_some()
            || filled(&s["histogram"])
            || any(&s["values"], |v| number(v).is_some())
            || any(&s["histograms"], filled)
    };
    if series.iter().any(has) {
        Answer::Data
    } else {
        Answer::NoNumber
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_without_a_number_is_none() {
        let of = |result: Value| judge(&json!({"resultType": "matrix", "result": result}));
        assert_eq!(of(json!([])), Answer::Nothing);
        let nan = json!([{"metric": {}, "values": [[1, "NaN"], [2, "+Inf"]]}]);
        assert_eq!(of(nan), Answer::NoNumber);
        let one = json!([{"metric": {}, "values": [[1, "NaN"], [2, "0"]]}]);
        assert_eq!(of(one), Answer::Data);
        let native = |count: &str| json!([{"histograms": [[1, {"count": count, "sum": "1"}]]}]);
        assert_eq!(of(native("0")), Answer::NoNumber);
        assert_eq!(of(native("3")), Answer::Data);
    }

    #[test]
    fn queries_survive_the_way() {
        assert_eq!(
            encoded("a{b=~\"c|d\"} > 0"),
            "a%7Bb%3D%7E%22c%7Cd%22%7D%20%3E%200"
        );
    }
}
