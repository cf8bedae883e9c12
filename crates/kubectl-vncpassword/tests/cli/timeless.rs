//! Takes out of an answer what differs from run to run: times, and how long ago they were.

/// The text with `<time>` for each time, and `<age>` for each distance to now.
pub fn timeless(text: &str) -> String {
    let mut told = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = time(rest) {
            told.push_str("<time>");
            rest = after;
            // Such as ` (3m ago)` or ` (in 2h)` behind it.
            if let Some((age, after)) = rest.strip_prefix(" (").and_then(|inner| inner.split_once(')'))
                && (age.ends_with(" ago") || age.starts_with("in ") || age == "now")
            {
                told.push_str(" (<age>)");
                rest = after;
            }
        } else if let Some(after) = listed_age(rest) {
            told.push_str("- <age>: ");
            rest = after;
        } else {
            let next = rest.chars().next().unwrap();
            told.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    told
}

/// Behind `2026-01-02T03:04:05Z`.
fn time(text: &str) -> Option<&str> {
    let (time, rest) = text.split_at_checked(20)?;
    let pattern = "dddd-dd-ddTdd:dd:ddZ";
    let fits =
        time.chars().zip(pattern.chars()).all(|(c, p)| if p == 'd' { c.is_ascii_digit() } else { c == p });
    fits.then_some(rest)
}

/// Behind `- 3m ago: `.
fn listed_age(text: &str) -> Option<&str> {
    let (age, rest) = text.strip_prefix("- ")?.split_once(": ")?;
    (age == "now" || (age.ends_with(" ago") && age.len() < 12)).then_some(rest)
}

#[test]
fn only_times_and_ages_are_taken_out() {
    let text = "since 2026-01-02T03:04:05Z (3m ago). - 60s ago: Denied: (code a) 2026";
    assert_eq!(timeless(text), "since <time> (<age>). - <age>: Denied: (code a) 2026");
}
