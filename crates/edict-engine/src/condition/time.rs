//! `timeRange`: between two instants, or by the clock on the wall of a time zone.

use edict_filter::Filter;
use jiff::{
    Timestamp,
    civil::{DateTime, Time, Weekday},
    tz::{TimeZone, TimeZoneDatabase},
};
use serde_json::{Map, Value, json};

use crate::fault::{Fault, nearest, shown};

const FIELD: &str = "conditions.timeRange";
const FIELDS: [&str; 5] = ["start", "end", "weekday", "hour", "timeZone"];
const DAY: i32 = 24 * 60 * 60;
const ALL_WEEKDAYS: u8 = 0b111_1111;
const ALL_HOURS: u32 = (1 << 24) - 1;
const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// When a policy applies. All of it must hold.
///
/// Instants are compared as instants, and the clock is read from the instant: in a night in which an hour happens
/// twice both count, an hour that is skipped does not come. Nothing is remembered between two evaluations, so a clock
/// that jumps changes the answer and nothing else.
#[derive(Debug, Clone)]
pub(crate) struct TimeRange {
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    wall: Option<Wall>,
}

/// What a clock in the time zone must show.
#[derive(Debug, Clone)]
struct Wall {
    zone: TimeZone,
    /// In seconds of the day; the end is not part of it. An end before the start is on the next day.
    start: i32,
    end: i32,
    /// A bit for each, Monday first.
    weekdays: u8,
    hours: u32,
}

/// What `start` and `end` may be.
#[derive(Clone, Copy)]
enum Edge {
    Instant(Timestamp),
    OfDay(i32),
}

impl TimeRange {
    pub(super) fn compile(wanted: &Value) -> Result<Self, Vec<Fault>> {
        let Value::Object(fields) = wanted else {
            return Err(vec![Fault::takes(
                FIELD,
                wanted,
                "an object with `start`, `end`, `weekday`, `hour`, `timeZone`",
            )]);
        };
        let mut faults = Vec::new();
        for unknown in fields.keys().filter(|key| !FIELDS.contains(&key.as_str())) {
            let message = format!("is not a field of a time range; {}", nearest(unknown, &FIELDS));
            faults.push(Fault::new(place(&shown(unknown)), message));
        }
        let mut keep = |fault| faults.push(fault);
        let zone = fields.get("timeZone").map(time_zone).transpose().unwrap_or_else(|fault| {
            keep(fault);
            Some(TimeZone::UTC) // so that what needs one is still read
        });
        let mut edge = |name: &str| {
            let read = fields.get(name).map(|value| edge(name, value, zone.as_ref())).transpose();
            read.map_err(&mut keep).ok().flatten()
        };
        let (start, end) = (edge("start"), edge("end"));
        let weekdays = fields.get("weekday").map_or(Ok(ALL_WEEKDAYS), weekdays).unwrap_or_else(|fault| {
            keep(fault);
            ALL_WEEKDAYS
        });
        let hours = fields.get("hour").map_or(Ok(ALL_HOURS), hours).unwrap_or_else(|fault| {
            keep(fault);
            ALL_HOURS
        });
        if !faults.is_empty() {
            return Err(faults);
        }
        Self::assemble(fields, zone, (start, end), weekdays, hours).map_err(|fault| vec![fault])
    }

    fn assemble(
        fields: &Map<String, Value>,
        zone: Option<TimeZone>,
        edges: (Option<Edge>, Option<Edge>),
        weekdays: u8,
        hours: u32,
    ) -> Result<Self, Fault> {
        let mut range = Self { from: None, until: None, wall: None };
        let (mut start, mut end) = (0, DAY);
        let mut by_wall = fields.contains_key("weekday") || fields.contains_key("hour");
        match edges {
            (None, None) if !by_wall => {
                return Err(Fault::new(FIELD, "is empty; it takes `start`, `end`, `weekday` or `hour`"));
            }
            (Some(Edge::Instant(_)), Some(Edge::OfDay(_)))
            | (Some(Edge::OfDay(_)), Some(Edge::Instant(_))) => {
                return Err(Fault::new(
                    FIELD,
                    "mixes a date with a time of day; `start` and `end` must be of one kind",
                ));
            }
            (Some(Edge::OfDay(_)), _) | (_, Some(Edge::OfDay(_))) => by_wall = true,
            _ => {}
        }
        match edges.0 {
            Some(Edge::Instant(instant)) => range.from = Some(instant),
            Some(Edge::OfDay(second)) => start = second,
            None => {}
        }
        match edges.1 {
            Some(Edge::Instant(instant)) => range.until = Some(instant),
            Some(Edge::OfDay(second)) => end = second,
            None => {}
        }
        if start == end || range.from.zip(range.until).is_some_and(|(from, until)| from >= until) {
            return Err(Fault::new(place("end"), "is not after `start`; the range would be empty"));
        }
        range.wall = match zone {
            Some(zone) if by_wall => Some(Wall { zone, start, end, weekdays, hours }),
            None if by_wall => {
                return Err(Fault::new(
                    place("timeZone"),
                    "is missing; name one, such as `Europe/Berlin` or `UTC`",
                ));
            }
            _ => None,
        };
        Ok(range)
    }

    pub(crate) fn contains(&self, now: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= now)
            && self.until.is_none_or(|until| now < until)
            && self.wall.as_ref().is_none_or(|wall| wall.contains(wall.zone.to_datetime(now)))
    }

    /// What the clock shows, for an explanation.
    pub(crate) fn found(&self, now: Timestamp) -> String {
        let Some(wall) = &self.wall else { return format!("it is {}", now.strftime("%FT%TZ")) };
        let local = wall.zone.to_datetime(now);
        format!("it is {} in {}", local.strftime("%A %F %T"), wall.zone.iana_name().unwrap_or("UTC"))
    }
}

impl Wall {
    fn contains(&self, local: DateTime) -> bool {
        let second = second_of_day(local.time());
        let past_midnight = self.end < self.start && second < self.end;
        let within = if self.end < self.start {
            second >= self.start || past_midnight
        } else {
            (self.start..self.end).contains(&second)
        };
        // A night that starts on Friday is Friday's, also on Saturday morning.
        let weekday = if past_midnight { local.weekday().previous() } else { local.weekday() };
        within && self.weekdays & weekday_bit(weekday) != 0 && self.hours & (1 << local.hour()) != 0
    }
}

fn place(field: &str) -> String {
    format!("{FIELD}.{field}")
}

fn second_of_day(time: Time) -> i32 {
    (i32::from(time.hour()) * 60 + i32::from(time.minute())) * 60 + i32::from(time.second())
}

fn weekday_bit(weekday: Weekday) -> u8 {
    1 << weekday.to_monday_zero_offset()
}

fn time_zone(value: &Value) -> Result<TimeZone, Fault> {
    // Not the machine's own: several servers on one database must agree.
    let named = value.as_str().and_then(|name| TimeZoneDatabase::bundled().get(name).ok());
    named.ok_or_else(|| {
        Fault::takes(place("timeZone"), value, "an IANA name, such as `Europe/Berlin` or `UTC`")
    })
}

fn edge(name: &str, value: &Value, zone: Option<&TimeZone>) -> Result<Edge, Fault> {
    let takes = "an instant (`2026-12-24T18:00:00Z`), a date and time with `timeZone` beside it (`2026-12-24T18:00`), \
                 or a time of day (`09:00`)";
    let bad = || Fault::takes(place(name), value, takes);
    let text = value.as_str().ok_or_else(bad)?;
    if let Some(second) = time_of_day(text) {
        return if second == DAY && name == "start" { Err(bad()) } else { Ok(Edge::OfDay(second)) };
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(Edge::Instant(instant));
    }
    // A date alone would be its first moment, which is not what people mean by an end.
    let local = text.parse::<DateTime>().ok().filter(|_| text.contains(['T', 't', ' '])).ok_or_else(bad)?;
    let zone = zone.ok_or_else(|| {
        Fault::new(
            place(name),
            format!("is `{}`, which is no instant; add `timeZone`, or `Z` for UTC", shown(text)),
        )
    })?;
    zone.to_timestamp(local).map(Edge::Instant).map_err(|_| bad())
}

/// `09:00` or `09:00:30`, and `24:00` for the end of a day.
fn time_of_day(text: &str) -> Option<i32> {
    let shape: String = text.chars().take(9).map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    if shape != "00:00" && shape != "00:00:00" {
        return None;
    }
    if text == "24:00" || text == "24:00:00" {
        return Some(DAY);
    }
    text.parse::<Time>().ok().map(second_of_day)
}

/// A name, `mon-fri`, or a list of these.
fn weekdays(value: &Value) -> Result<u8, Fault> {
    let bad = || {
        Fault::takes(
            place("weekday"),
            value,
            "a day such as `mon` or `monday`, a range such as `mon-fri`, or a list of these",
        )
    };
    let listed = match value {
        Value::Array(listed) => listed.as_slice(),
        single => std::slice::from_ref(single),
    };
    let mut bits = 0;
    for text in listed.iter() {
        let text = text.as_str().ok_or_else(bad)?;
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = weekday(first).zip(weekday(last)).ok_or_else(bad)?;
        let days = first.cycle_forward();
        for day in days.take(7) {
            bits |= weekday_bit(day);
            if day == last {
                break;
            }
        }
    }
    if bits == 0 { Err(bad()) } else { Ok(bits) }
}

fn weekday(text: &str) -> Option<Weekday> {
    let text = text.trim().to_lowercase();
    let position = WEEKDAYS.iter().position(|name| *name == text || name.get(..3) == Some(&*text))?;
    Weekday::from_monday_zero_offset(i8::try_from(position).ok()?).ok()
}

/// An hour, a list of hours, or operators; tried on each hour of the day now, so that nothing is left to do later.
fn hours(value: &Value) -> Result<u32, Fault> {
    let takes = "an hour from 0 to 23, a list of hours, or operators such as `{\"$gte\": 9, \"$lt\": 17}`";
    let bad = || Fault::takes(place("hour"), value, takes);
    let hour = |value: &Value| value.as_u64().filter(|hour| *hour < 24).ok_or_else(bad);
    let operand = match value {
        Value::Array(listed) => {
            let listed = listed.iter().map(hour).collect::<Result<Vec<_>, _>>()?;
            json!({ "$in": listed })
        }
        Value::Object(_) => value.clone(),
        single => json!(hour(single)?),
    };
    let filter = Filter::parse(&json!({ "hour": operand }))
        .map_err(|error| Fault::new(place("hour"), format!("cannot be read: {error}")))?;
    let bits = (0..24)
        .filter(|hour| filter.matches(&json!({ "hour": hour })))
        .fold(0, |bits, hour| bits | 1 << hour);
    if bits == 0 { Err(bad()) } else { Ok(bits) }
}
