//! The ceilings that the user sets, written `ACTION=N/min`.

use super::Action;

/// The ceilings in calls a minute, by action. An action without one is not limited by the user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rates(Vec<(Action, u32)>);

/// An invalid ceiling.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRate {
    /// It is not `ACTION=N/min`.
    #[error("write ACTION=N/min, such as ModifyInstanceVncPasswd=60/min")]
    Form,
    /// The action is unknown.
    #[error("the action is one of ModifyInstanceVncPasswd, DescribeInstances and RebootInstance")]
    Action,
    /// The number is out of range.
    #[error("the number of calls is from 1 to 1000000")]
    Number,
    /// The action has two ceilings.
    #[error("the action is named twice")]
    Twice,
}

/// The valid range of a ceiling, in calls a minute.
const CALLS: std::ops::RangeInclusive<u32> = 1..=1_000_000;

impl Rates {
    /// Adds a ceiling, written `ACTION=N/min`.
    ///
    /// # Errors
    /// See [`InvalidRate`].
    pub fn add(&mut self, rate: &str) -> Result<(), InvalidRate> {
        let (action, calls) = rate.split_once('=').ok_or(InvalidRate::Form)?;
        let calls = calls.trim().strip_suffix("/min").ok_or(InvalidRate::Form)?.trim();
        if calls.is_empty() || !calls.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidRate::Form);
        }
        let action = Action::ALL.into_iter().find(|known| known.as_str() == action.trim());
        let action = action.ok_or(InvalidRate::Action)?;
        let calls = calls.parse().ok().filter(|calls| CALLS.contains(calls)).ok_or(InvalidRate::Number)?;
        if self.of(action).is_some() {
            return Err(InvalidRate::Twice);
        }
        self.0.push((action, calls));
        Ok(())
    }

    /// The ceiling of an action, in calls a minute.
    #[must_use]
    pub fn of(&self, action: Action) -> Option<u32> {
        self.0.iter().find(|(known, _)| *known == action).map(|(_, calls)| *calls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_are_parsed_or_refused_with_a_reason() {
        let table = [
            ("ModifyInstanceVncPasswd=60/min", Ok(60)),
            (" ModifyInstanceVncPasswd = 60 /min", Ok(60)),
            ("ModifyInstanceVncPasswd=1000000/min", Ok(1_000_000)),
            ("ModifyInstanceVncPasswd=0/min", Err(InvalidRate::Number)),
            ("ModifyInstanceVncPasswd=1000001/min", Err(InvalidRate::Number)),
            ("ModifyInstanceVncPasswd=99999999999/min", Err(InvalidRate::Number)),
            ("ModifyInstanceVncPasswd=60", Err(InvalidRate::Form)),
            ("ModifyInstanceVncPasswd=60/s", Err(InvalidRate::Form)),
            ("ModifyInstanceVncPasswd=-1/min", Err(InvalidRate::Form)),
            ("ModifyInstanceVncPasswd=/min", Err(InvalidRate::Form)),
            ("60/min", Err(InvalidRate::Form)),
            ("", Err(InvalidRate::Form)),
            ("modifyinstancevncpasswd=60/min", Err(InvalidRate::Action)),
            ("StopInstance=60/min", Err(InvalidRate::Action)),
        ];
        for (text, expected) in table {
            let mut rates = Rates::default();
            let added = rates.add(text);
            assert_eq!(
                added.map(|()| rates.of(Action::ModifyInstanceVncPasswd).unwrap()),
                expected,
                "{text}"
            );
            assert_eq!(rates.of(Action::RebootInstance), None);
        }
        let mut rates = Rates::default();
        assert_eq!(rates.add("RebootInstance=1/min"), Ok(()));
        assert_eq!(rates.add("RebootInstance=2/min"), Err(InvalidRate::Twice));
    }
}
