//! The formats of the metrics: OpenMetrics for scrapers that accept it, else the older text format.

/// A form of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4: what people and older scrapers read.
    Plain,
}

impl Format {
    /// The form for the values of the header `Accept`. A scraper that knows OpenMetrics prefers it, so the
    /// weights matter only where they forbid it.
    #[must_use]
    pub fn negotiate<'a>(accept: impl IntoIterator<Item = &'a str>) -> Self {
        let ranges = accept.into_iter().flat_map(|value| value.split(','));
        let wanted = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            let open =
                parts.next().is_some_and(|name| name.eq_ignore_ascii_case("application/openmetrics-text"));
            let parameters = parts.filter_map(|part| part.split_once('='));
            let forbidden = parameters
                .filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
                .any(|(_, weight)| weight.trim().parse::<f64>().is_ok_and(|weight| weight <= 0.0));
            open && !forbidden
        };
        if ranges.into_iter().any(wanted) { Self::OpenMetrics } else { Self::Plain }
    }

    /// The content type of the answer.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// The text in this form. `text`: OpenMetrics.
    #[must_use]
    pub fn of(self, text: String) -> String {
        match self {
            Self::OpenMetrics => text,
            Self::Plain => plain(&text),
        }
    }
}

/// OpenMetrics in the older format: that names counters with their suffix, and knows neither units nor the
/// type info.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut help: Option<(&str, &str)> = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, type_)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (suffix, type_) = match type_ {
                "counter" => ("_total", type_),
                "info" => ("_info", "gauge"),
                _ => ("", type_),
            };
            if let Some((_, help)) = help.take() {
                plain.extend(["# HELP ", name, suffix, " ", help, "\n"]);
            }
            plain.extend(["# TYPE ", name, suffix, " ", type_, "\n"]);
        } else if !line.starts_with("# ") {
            plain.extend([line, "\n"]);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_for_who_asks_for_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                          text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        let table: &[(&[&str], Format)] = &[
            (&[prometheus], Format::OpenMetrics),
            (&["text/plain", "Application/OpenMetrics-Text; version=1.0.0"], Format::OpenMetrics),
            (&[], Format::Plain),
            (&["*/*"], Format::Plain),
            (&["text/plain;version=0.0.4"], Format::Plain),
            (&["application/openmetrics-text; q=0, text/plain"], Format::Plain),
            (&["application/openmetrics-textual"], Format::Plain),
        ];
        for (accept, expected) in table {
            assert_eq!(Format::negotiate(accept.iter().copied()), *expected, "{accept:?}");
        }
    }

    #[test]
    fn the_older_format_names_counters_whole_and_has_no_units() {
        let open = "# HELP calls Calls.\n# TYPE calls counter\ncalls_total{a=\"b\"} 1\n\
                    # HELP time_seconds Time.\n# TYPE time_seconds gauge\n# UNIT time_seconds seconds\n\
                    time_seconds 2\n# HELP build Build.\n# TYPE build info\nbuild_info{v=\"1\"} 1\n# EOF\n";
        let expected = "# HELP calls_total Calls.\n# TYPE calls_total counter\ncalls_total{a=\"b\"} 1\n\
                        # HELP time_seconds Time.\n# TYPE time_seconds gauge\ntime_seconds 2\n\
                        # HELP build_info Build.\n# TYPE build_info gauge\nbuild_info{v=\"1\"} 1\n";
        assert_eq!(plain(open), expected);
    }
}
