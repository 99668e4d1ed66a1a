//! Calendar arithmetic in UTC: years later, and the ends of financial years, never shorter than any time zone's reading.

use greffe_types::Millis;
use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;
use jiff::{Span, Timestamp};

const HOUR: u64 = 3_600_000;
/// The time zones furthest ahead of UTC: the date changes there first.
const FURTHEST_AHEAD: u64 = 14 * HOUR;
/// The time zones furthest behind UTC: the date changes there last.
const FURTHEST_BEHIND: u64 = 12 * HOUR;

/// The same day and time of day, `years` calendar years later, in UTC. The 29th of February becomes the 1st of March
/// where there is none, so that a period is never a day short. None beyond the year 9999.
pub(crate) fn years_later(from: Millis, years: u16) -> Option<Millis> {
    let start = utc(from)?;
    let mut end = start.checked_add(Span::new().try_years(years).ok()?).ok()?;
    if end.day() < start.day() {
        end = end.checked_add(Span::new().days(1)).ok()?;
    }
    millis(end)
}

/// When the financial year that a record belongs to is over: the instant after the last day `month`-`day`. A record that
/// falls into the next year in any time zone counts as the next year's, and a year is over when it is over everywhere, so
/// no time zone would read a longer period. None beyond the year 9999.
pub(crate) fn fiscal_year_end(at: Millis, month: i8, day: i8) -> Option<Millis> {
    let date = utc(Millis::new(at.get().checked_add(FURTHEST_AHEAD)?))?.date();
    let mut last = Date::new(date.year(), month, day).ok()?;
    if last < date {
        last = Date::new(date.year().checked_add(1)?, month, day).ok()?;
    }
    let over = millis(last.tomorrow().ok()?.at(0, 0, 0, 0))?;
    Some(Millis::new(over.get().checked_add(FURTHEST_BEHIND)?))
}

/// Whether a month and day exist in every year.
pub(crate) fn in_every_year(month: i8, day: i8) -> bool {
    Date::new(2023, month, day).is_ok()
}

/// The UTC date and time, for people.
pub(crate) fn display(at: Millis) -> String {
    utc(at).map_or_else(|| at.to_string(), |datetime| format!("{datetime}Z"))
}

/// An instant written as `2026-01-31T00:00:00Z`.
#[cfg(test)]
pub(crate) fn parse(text: &str) -> Millis {
    let timestamp: Timestamp = text.parse().expect("a timestamp");
    Millis::new(timestamp.as_millisecond().try_into().expect("after 1970"))
}

fn utc(at: Millis) -> Option<DateTime> {
    let millis = i64::try_from(at.get()).ok()?;
    Some(Offset::UTC.to_datetime(Timestamp::from_millisecond(millis).ok()?))
}

fn millis(at: DateTime) -> Option<Millis> {
    let timestamp = Offset::UTC.to_timestamp(at).ok()?;
    u64::try_from(timestamp.as_millisecond())
        .ok()
        .map(Millis::new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn later(from: &str, years: u16) -> String {
        display(years_later(parse(from), years).expect("in range"))
    }

    #[test]
    fn leap_days_are_never_a_day_short() {
        assert_eq!(later("2024-02-29T10:00:00Z", 3), "2027-03-01T10:00:00Z");
        assert_eq!(later("2024-02-29T10:00:00Z", 4), "2028-02-29T10:00:00Z");
        assert_eq!(later("2023-02-28T10:00:00Z", 1), "2024-02-28T10:00:00Z");
        assert_eq!(later("2026-11-23T06:00:00Z", 6), "2032-11-23T06:00:00Z");
    }

    #[test]
    fn financial_years_end_when_the_day_is_over_everywhere() {
        let end =
            |at, month, day| display(fiscal_year_end(parse(at), month, day).expect("in range"));
        assert_eq!(end("2026-06-01T00:00:00Z", 12, 31), "2027-01-01T12:00:00Z");
        assert_eq!(end("2026-06-01T00:00:00Z", 3, 31), "2027-04-01T12:00:00Z");
        // Half past midnight on 1 January in Paris belongs to the new year, though UTC still says 31 December.
        assert_eq!(end("2026-12-31T23:30:00Z", 12, 31), "2028-01-01T12:00:00Z");
        // Kiritimati is 14 hours ahead: there the last day ends at ten.
        assert_eq!(
            end("2026-12-31T09:59:59.999Z", 12, 31),
            "2027-01-01T12:00:00Z"
        );
        assert_eq!(end("2026-12-31T10:00:00Z", 12, 31), "2028-01-01T12:00:00Z");
    }

    #[test]
    fn the_end_of_time_is_an_error_not_a_wrap() {
        assert_eq!(years_later(Millis::new(u64::MAX), 1), None);
        assert_eq!(years_later(parse("9998-01-01T00:00:00Z"), 5), None);
        assert_eq!(fiscal_year_end(Millis::new(u64::MAX), 12, 31), None);
        assert!(!in_every_year(2, 29) && !in_every_year(13, 1) && in_every_year(6, 30));
    }

    proptest! {
        /// n years are between 365 n and 366 n days, and grow with both arguments, leap days aside.
        #[test]
        fn years_are_whole_and_monotonic(at in 0_u64..4_000_000_000_000, step in 0_u64..100_000_000, years in 1_u16..100) {
            let day = 24 * HOUR;
            let from = Millis::new(at);
            let end = years_later(from, years).expect("in range");
            let length = end.get() - at;
            prop_assert!(length >= u64::from(years) * 365 * day);
            prop_assert!(length <= u64::from(years) * 366 * day);
            prop_assert!(end < years_later(from, years + 1).expect("in range"));
            // A leap day's period ends a day later than a stricter order would have it, never more.
            let next = years_later(Millis::new(at + step), years).expect("in range");
            prop_assert!(end.get() < next.get() + day);
        }

        /// The financial year's end lies after the record, by at most a year and the width of the time zones.
        #[test]
        fn financial_years_contain_their_records(at in 0_u64..4_000_000_000_000, month in 1_i8..=12, day in 1_i8..=28) {
            let end = fiscal_year_end(Millis::new(at), month, day).expect("in range").get();
            prop_assert!(end > at && end - at <= 367 * 24 * HOUR + FURTHEST_AHEAD + FURTHEST_BEHIND);
        }
    }
}
