//! When rollouts may begin: `gates.windows`. Pure.
//!
//! A weekly window begins on each of its days at `from` and ends at `to`, by the clocks of its zone; where `to` is not
//! after `from`, on the next day. When clocks go back, a time that comes twice begins a window the first time and ends
//! it the second time; when they go forward, a time that is left out is the moment of the change.

use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, Time, Weekday as CivilWeekday},
    tz::{AmbiguousOffset, TimeZone},
};

use crate::api::promotion::{Weekday, Window, WindowKind};

/// How many changes from open to shut are looked at to find when it opens: with weekly windows on both sides, some years.
const MOST_STEPS: usize = 1_500;

/// How many days ahead a weekly window is looked for. One day of the week may be left out by a change of clocks.
const DAYS_AHEAD: i64 = 22;

/// Whether a rollout may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Open,
    /// Shut, and until when; `None` where it never opens.
    Shut {
        opens: Option<Timestamp>,
    },
}

/// A window that cannot be made out. The schema refuses it, an older stored object may have it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("gates.windows[{index}] {problem}")]
pub(crate) struct InvalidWindow {
    index: usize,
    problem: String,
}

/// Where `now` lies. Without windows it is open; with `Allow` windows within one of them only; never within a `Deny`
/// window.
pub(crate) fn standing(windows: &[Window], now: Timestamp) -> Result<Standing, InvalidWindow> {
    let read: Vec<Read> = windows
        .iter()
        .enumerate()
        .map(|(index, window)| Read::new(window).map_err(|problem| InvalidWindow { index, problem }))
        .collect::<Result<_, _>>()?;
    let (allow, deny): (Vec<&Read>, Vec<&Read>) = read.iter().partition(|window| window.kind == WindowKind::Allow);
    let mut at = now;
    for _ in 0..MOST_STEPS {
        // The later end of two that overlap saves a step.
        if let Some(end) = deny.iter().filter_map(|window| window.around(at)).max() {
            at = end;
        } else if allow.is_empty() || allow.iter().any(|window| window.around(at).is_some()) {
            return Ok(match at == now {
                true => Standing::Open,
                false => Standing::Shut { opens: Some(at) },
            });
        } else if let Some(start) = allow.iter().filter_map(|window| window.next(at)).min() {
            at = start;
        } else {
            break;
        }
    }
    Ok(Standing::Shut { opens: None })
}

/// A window, read.
struct Read {
    kind: WindowKind,
    times: Times,
}

enum Times {
    Once {
        start: Timestamp,
        end: Timestamp,
    },
    Weekly {
        days: Vec<CivilWeekday>,
        from: Time,
        /// `None` is the end of the day.
        to: Option<Time>,
        zone: TimeZone,
    },
}

impl Read {
    fn new(window: &Window) -> Result<Self, String> {
        let times = match (&window.from, &window.to, window.start, window.end) {
            (Some(from), Some(to), None, None) => Times::Weekly {
                days: window.days.iter().copied().map(civil).collect(),
                from: time(from)
                    .ok_or_else(|| format!("has from {from:?}, which is no time of the day such as 08:30"))?,
                to: match to.as_str() {
                    "24:00" => None,
                    to => Some(
                        time(to).ok_or_else(|| format!("has to {to:?}, which is no time of the day such as 17:00"))?,
                    ),
                },
                zone: zone(window.time_zone.as_deref())?,
            },
            (None, None, Some(start), Some(end)) => Times::Once { start, end },
            _ => return Err("has neither from and to nor start and end; give one pair".into()),
        };
        Ok(Self {
            kind: window.kind,
            times,
        })
    }

    /// Where it ends, if `at` lies within it.
    fn around(&self, at: Timestamp) -> Option<Timestamp> {
        match &self.times {
            Times::Once { start, end } => (*start <= at && at < *end).then_some(*end),
            // Two days back: a window that passes midnight, seen from where clocks were moved by a day.
            Times::Weekly { .. } => self
                .occurrences(at, -2..=1)
                .filter(|(start, end)| *start <= at && at < *end)
                .map(|(_, end)| end)
                .max(),
        }
    }

    /// When it begins next, after `at`.
    fn next(&self, at: Timestamp) -> Option<Timestamp> {
        match &self.times {
            Times::Once { start, end } => (*start > at && start < end).then_some(*start),
            Times::Weekly { .. } => self
                .occurrences(at, -1..=DAYS_AHEAD)
                .filter(|(start, end)| *start > at && start < end)
                .map(|(start, _)| start)
                .min(),
        }
    }

    /// Beginnings and ends on the days around `at`, in its zone.
    fn occurrences(
        &self,
        at: Timestamp,
        offsets: std::ops::RangeInclusive<i64>,
    ) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let weekly = match &self.times {
            Times::Weekly { days, from, to, zone } => Some((days, *from, *to, zone)),
            Times::Once { .. } => None,
        };
        weekly.into_iter().flat_map(move |(days, from, to, zone)| {
            let today = zone.to_datetime(at).date();
            offsets.clone().filter_map(move |offset| {
                let date = days_after(today, offset)?;
                if !days.is_empty() && !days.contains(&date.weekday()) {
                    return None;
                }
                let (end_date, end_time) = match to {
                    Some(to) if to > from => (date, to),
                    Some(to) => (days_after(date, 1)?, to),
                    None => (days_after(date, 1)?, Time::midnight()),
                };
                Some((
                    moment(zone, date, from, Edge::Start)?,
                    moment(zone, end_date, end_time, Edge::End)?,
                ))
            })
        })
    }
}

#[derive(Clone, Copy)]
enum Edge {
    Start,
    End,
}

/// When clocks show this.
fn moment(zone: &TimeZone, date: Date, time: Time, edge: Edge) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(date.to_datetime(time));
    match (ambiguous.offset(), edge) {
        (AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. }, Edge::Start) => ambiguous.earlier().ok(),
        (AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. }, Edge::End) => ambiguous.later().ok(),
        (AmbiguousOffset::Gap { .. }, _) => {
            // By the clock from before the change, the moment is not before it.
            let after = ambiguous.later().ok()?.checked_add(SignedDuration::from_secs(1)).ok()?;
            zone.preceding(after).next().map(|change| change.timestamp())
        }
    }
}

fn days_after(date: Date, days: i64) -> Option<Date> {
    date.checked_add(SignedDuration::from_hours(24 * days)).ok()
}

/// `HH:MM`.
fn time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let two_digits = |part: &str| (part.len() == 2).then(|| part.parse().ok()).flatten();
    Time::new(two_digits(hour)?, two_digits(minute)?, 0, 0).ok()
}

/// The zone, from the machine's database, or from the one that is built in where there is none, as in the container.
fn zone(name: Option<&str>) -> Result<TimeZone, String> {
    match name {
        None | Some("UTC") => Ok(TimeZone::UTC),
        Some(name) => TimeZone::get(name).map_err(|_| {
            format!("has timeZone {name:?}, which the IANA database does not have; write one such as Europe/Berlin")
        }),
    }
}

fn civil(day: Weekday) -> CivilWeekday {
    match day {
        Weekday::Mon => CivilWeekday::Monday,
        Weekday::Tue => CivilWeekday::Tuesday,
        Weekday::Wed => CivilWeekday::Wednesday,
        Weekday::Thu => CivilWeekday::Thursday,
        Weekday::Fri => CivilWeekday::Friday,
        Weekday::Sat => CivilWeekday::Saturday,
        Weekday::Sun => CivilWeekday::Sunday,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn windows(windows: Value) -> Vec<Window> {
        serde_json::from_value(windows).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn check(given: &Value, cases: &[(&str, Option<&str>)]) {
        for (now, opens) in cases {
            let expected = match opens {
                None => Standing::Open,
                Some("never") => Standing::Shut { opens: None },
                Some(opens) => Standing::Shut { opens: Some(at(opens)) },
            };
            assert_eq!(
                standing(&windows(given.clone()), at(now)),
                Ok(expected),
                "at {now} with {given}"
            );
        }
    }

    #[test]
    fn without_windows_it_is_open() {
        check(&json!([]), &[("2026-11-24T00:00:00Z", None)]);
    }

    #[test]
    fn an_allow_window_opens_at_from_and_shuts_at_to_on_its_days() {
        // 2026-11-24 is a Tuesday.
        let weekdays =
            json!([{ "kind": "Allow", "days": ["Mon", "Tue", "Wed", "Thu", "Fri"], "from": "08:00", "to": "17:00" }]);
        check(
            &weekdays,
            &[
                ("2026-11-24T08:00:00Z", None),
                ("2026-11-24T16:59:59Z", None),
                ("2026-11-24T07:59:59Z", Some("2026-11-24T08:00:00Z")),
                ("2026-11-24T17:00:00Z", Some("2026-11-25T08:00:00Z")),
                ("2026-11-27T17:00:00Z", Some("2026-11-30T08:00:00Z")),
            ],
        );
    }

    #[test]
    fn days_are_those_on_which_the_window_begins() {
        let night = json!([{ "kind": "Allow", "days": ["Fri"], "from": "22:00", "to": "06:00" }]);
        check(
            &night,
            &[
                ("2026-11-27T22:00:00Z", None),
                ("2026-11-28T05:59:00Z", None),
                ("2026-11-28T06:00:00Z", Some("2026-12-04T22:00:00Z")),
                ("2026-11-27T05:00:00Z", Some("2026-11-27T22:00:00Z")),
            ],
        );
        let whole_day = json!([{ "kind": "Allow", "days": ["Sun"], "from": "00:00", "to": "24:00" }]);
        check(
            &whole_day,
            &[
                ("2026-11-29T00:00:00Z", None),
                ("2026-11-29T23:59:59Z", None),
                ("2026-11-30T00:00:00Z", Some("2026-12-06T00:00:00Z")),
            ],
        );
    }

    #[test]
    fn a_deny_window_shuts_also_what_an_allow_window_opens() {
        let both = json!([
            { "kind": "Allow", "from": "08:00", "to": "20:00" },
            { "kind": "Deny", "from": "12:00", "to": "13:00" },
            { "kind": "Deny", "from": "12:30", "to": "14:00" },
            { "kind": "Deny", "start": "2026-12-20T00:00:00Z", "end": "2027-01-02T10:00:00Z" }
        ]);
        check(
            &both,
            &[
                ("2026-11-24T09:00:00Z", None),
                ("2026-11-24T12:10:00Z", Some("2026-11-24T14:00:00Z")),
                ("2026-12-20T09:00:00Z", Some("2027-01-02T10:00:00Z")),
                ("2026-12-19T21:00:00Z", Some("2027-01-02T10:00:00Z")),
            ],
        );
        let only_deny = json!([{ "kind": "Deny", "days": ["Fri"], "from": "12:00", "to": "24:00" }]);
        check(
            &only_deny,
            &[
                ("2026-11-24T09:00:00Z", None),
                ("2026-11-27T12:00:00Z", Some("2026-11-28T00:00:00Z")),
            ],
        );
    }

    #[test]
    fn once_is_once() {
        let once = json!([{ "kind": "Allow", "start": "2026-12-01T00:00:00Z", "end": "2026-12-01T04:00:00Z" }]);
        check(
            &once,
            &[
                ("2026-11-24T00:00:00Z", Some("2026-12-01T00:00:00Z")),
                ("2026-12-01T00:00:00Z", None),
                ("2026-12-01T04:00:00Z", Some("never")),
            ],
        );
    }

    #[test]
    fn windows_that_leave_nothing_never_open() {
        let shut = json!([{ "kind": "Deny", "from": "00:00", "to": "24:00" }]);
        check(&shut, &[("2026-11-24T00:00:00Z", Some("never"))]);
        let covered = json!([
            { "kind": "Allow", "days": ["Mon"], "from": "08:00", "to": "09:00" },
            { "kind": "Deny", "days": ["Mon"], "from": "07:00", "to": "10:00" }
        ]);
        check(&covered, &[("2026-11-24T00:00:00Z", Some("never"))]);
    }

    #[test]
    fn times_are_those_of_the_zone() {
        let berlin = json!([{ "kind": "Allow", "from": "08:00", "to": "17:00", "timeZone": "Europe/Berlin" }]);
        check(
            &berlin,
            &[
                ("2026-07-01T05:59:00Z", Some("2026-07-01T06:00:00Z")),
                ("2026-07-01T06:00:00Z", None),
                ("2026-12-01T06:59:00Z", Some("2026-12-01T07:00:00Z")),
                ("2026-12-01T15:59:00Z", None),
                ("2026-12-01T16:00:00Z", Some("2026-12-02T07:00:00Z")),
            ],
        );
        // The day of the week is that of the zone too: Saturday 08:00 in Auckland is Friday in UTC.
        let auckland = json!([{ "kind": "Allow", "days": ["Sat"], "from": "08:00", "to": "09:00", "timeZone": "Pacific/Auckland" }]);
        check(
            &auckland,
            &[
                ("2026-11-27T19:00:00Z", None),
                ("2026-11-27T20:00:00Z", Some("2026-12-04T19:00:00Z")),
            ],
        );
    }

    #[test]
    fn a_time_that_is_left_out_is_the_moment_of_the_change() {
        // Clocks in Berlin go from 02:00 to 03:00 on 2026-03-29, at 01:00 UTC.
        let from_within = json!([{ "kind": "Allow", "from": "02:30", "to": "04:00", "timeZone": "Europe/Berlin" }]);
        check(
            &from_within,
            &[
                ("2026-03-29T00:59:59Z", Some("2026-03-29T01:00:00Z")),
                ("2026-03-29T01:00:00Z", None),
                ("2026-03-29T02:00:00Z", Some("2026-03-30T00:30:00Z")),
            ],
        );
        let to_within = json!([{ "kind": "Allow", "from": "01:00", "to": "02:30", "timeZone": "Europe/Berlin" }]);
        check(
            &to_within,
            &[
                ("2026-03-29T00:59:59Z", None),
                ("2026-03-29T01:00:00Z", Some("2026-03-29T23:00:00Z")),
            ],
        );
        // Of this one nothing is left on that day.
        let all_within = json!([{ "kind": "Allow", "from": "02:10", "to": "02:50", "timeZone": "Europe/Berlin" }]);
        check(&all_within, &[("2026-03-29T00:30:00Z", Some("2026-03-30T00:10:00Z"))]);
    }

    #[test]
    fn a_time_that_comes_twice_begins_the_first_time_and_ends_the_second() {
        // Clocks in Berlin go from 03:00 back to 02:00 on 2026-10-25, at 01:00 UTC: 02:30 is 00:30 and 01:30 UTC.
        let from_within = json!([{ "kind": "Deny", "from": "02:30", "to": "03:30", "timeZone": "Europe/Berlin" }]);
        check(
            &from_within,
            &[
                ("2026-10-25T00:29:59Z", None),
                ("2026-10-25T00:30:00Z", Some("2026-10-25T02:30:00Z")),
                ("2026-10-25T01:10:00Z", Some("2026-10-25T02:30:00Z")),
            ],
        );
        let to_within = json!([{ "kind": "Deny", "from": "01:00", "to": "02:30", "timeZone": "Europe/Berlin" }]);
        check(
            &to_within,
            &[
                ("2026-10-25T00:45:00Z", Some("2026-10-25T01:30:00Z")),
                ("2026-10-25T01:30:00Z", None),
            ],
        );
    }

    #[test]
    fn a_day_whose_midnight_is_left_out_begins_with_the_change() {
        // Clocks in Beirut go from 00:00 to 01:00 on 2026-03-29, a Sunday, at 22:00 UTC of the day before.
        let sunday =
            json!([{ "kind": "Allow", "days": ["Sun"], "from": "00:00", "to": "24:00", "timeZone": "Asia/Beirut" }]);
        check(
            &sunday,
            &[
                ("2026-03-28T21:59:59Z", Some("2026-03-28T22:00:00Z")),
                ("2026-03-28T22:00:00Z", None),
                ("2026-03-29T20:59:59Z", None),
                ("2026-03-29T21:00:00Z", Some("2026-04-04T21:00:00Z")),
            ],
        );
    }

    #[test]
    fn what_the_schema_should_have_refused_is_named() {
        for (window, part) in [
            (
                json!({ "kind": "Allow", "from": "25:00", "to": "26:00" }),
                "gates.windows[0] has from \"25:00\"",
            ),
            (json!({ "kind": "Allow", "from": "08:00" }), "give one pair"),
            (
                json!({ "kind": "Allow", "from": "08:00", "to": "9:00" }),
                "has to \"9:00\"",
            ),
            (
                json!({ "kind": "Allow", "from": "08:00", "to": "09:00", "timeZone": "Mars/Olympus" }),
                "Mars/Olympus",
            ),
        ] {
            let error = standing(&windows(json!([window])), Timestamp::UNIX_EPOCH)
                .unwrap_err()
                .to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
