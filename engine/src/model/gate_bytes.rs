//! Limits and freezes as bytes (little endian): numbers and names for the scripts, then JSON for people.
//!
//! Limit: max_running u32, rate u32, period_ms u48 (0: none). Freeze: from u48, until u48, then kind, tenant and resource
//! (a length byte each, empty: any). `gates.lua` reads the same fields.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    UnixMs,
    gate::{Freeze, Limit, LimitScope, Note, Rate, Reach},
};

/// The last instant that six bytes can name: it stands for an end that is not known.
pub const FOREVER: UnixMs = (1 << 48) - 1;

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Words {
    reason: String,
    owner: String,
    #[serde(flatten)]
    note: Note,
}

fn put(out: &mut Vec<u8>, number: u64, bytes: usize) {
    out.extend(&number.to_le_bytes()[..bytes]);
}

fn instant(at: UnixMs) -> u64 {
    at.clamp(0, FOREVER).unsigned_abs()
}

/// Takes a number off the front.
fn take(rest: &mut &[u8], bytes: usize) -> Option<u64> {
    let (front, behind) = rest.split_at_checked(bytes)?;
    *rest = behind;
    Some(front.iter().rev().fold(0, |value, byte| (value << 8) | u64::from(*byte)))
}

fn take_name(rest: &mut &[u8]) -> Option<Option<String>> {
    let length = take(rest, 1)? as usize;
    let (front, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    let name = std::str::from_utf8(front).ok()?.to_owned();
    Some((!name.is_empty()).then_some(name))
}

pub(super) fn pack_limit(limit: &Limit) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, u64::from(limit.max_running.unwrap_or(0)), 4);
    put(&mut out, limit.rate.map_or(0, |rate| u64::from(rate.count)), 4);
    put(&mut out, limit.rate.map_or(0, |rate| rate.period_ms), 6);
    out.extend(serde_json::to_vec(&limit.note).unwrap_or_default());
    out
}

pub(super) fn read_limit(scope: LimitScope, value: &Bytes) -> Option<Limit> {
    let mut rest = &value[..];
    let (max_running, count, period_ms) = (take(&mut rest, 4)? as u32, take(&mut rest, 4)? as u32, take(&mut rest, 6)?);
    Some(Limit {
        scope,
        max_running: (max_running > 0).then_some(max_running),
        rate: (count > 0).then_some(Rate { count, period_ms }),
        note: serde_json::from_slice(rest).unwrap_or_default(),
    })
}

pub(super) fn pack_freeze(freeze: &Freeze) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, instant(freeze.from), 6);
    put(&mut out, instant(freeze.until), 6);
    for name in [&freeze.reach.kind, &freeze.reach.tenant, &freeze.reach.resource] {
        let name = name.as_deref().unwrap_or_default();
        debug_assert!(name.len() < 256, "names are checked at the edge");
        out.push(name.len() as u8);
        out.extend(name.as_bytes());
    }
    let words = Words { reason: freeze.reason.clone(), owner: freeze.owner.clone(), note: freeze.note.clone() };
    out.extend(serde_json::to_vec(&words).unwrap_or_default());
    out
}

pub(super) fn read_freeze(id: &str, value: &Bytes) -> Option<Freeze> {
    let mut rest = &value[..];
    let (from, until) = (take(&mut rest, 6)? as UnixMs, take(&mut rest, 6)? as UnixMs);
    let reach = Reach { kind: take_name(&mut rest)?, tenant: take_name(&mut rest)?, resource: take_name(&mut rest)? };
    let words: Words = serde_json::from_slice(rest).unwrap_or_default();
    Some(Freeze { id: id.to_owned(), reach, from, until, reason: words.reason, owner: words.owner, note: words.note })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::model::gate::{Gate, Gates, Scope, Stops};

    fn note() -> Note {
        Note { why: "the disk is changed".to_owned(), by: "u1".to_owned(), at: 1_795_320_000_000 }
    }

    fn freeze() -> Freeze {
        Freeze {
            id: "year-end".to_owned(),
            reach: Reach { kind: Some("sql_update".to_owned()), tenant: None, resource: Some("dc:t-1/dc".to_owned()) },
            from: 1_795_320_000_000,
            until: FOREVER,
            reason: "books are closed".to_owned(),
            owner: "finance".to_owned(),
            note: note(),
        }
    }

    #[test]
    fn every_gate_reads_back_as_it_was_packed() {
        let rate = Some(Rate { count: 10, period_ms: 60_000 });
        let limit = |scope, max_running, rate| Gate::Limit(Limit { scope, max_running, rate, note: note() });
        let gates = [
            Gate::Pause(Scope::All, note()),
            Gate::KillSwitch(Scope::Kind("sql_update".to_owned()), note()),
            Gate::Pause(Scope::Queue("copies".to_owned()), note()),
            Gate::Pause(Scope::Tenant("t 1".to_owned()), note()),
            limit(LimitScope::Queue("copies".to_owned()), Some(4), None),
            limit(LimitScope::Kind("sql_update".to_owned()), None, rate),
            limit(LimitScope::Key("sql_update".to_owned()), Some(1), rate),
            Gate::Freeze(freeze()),
            Gate::Freeze(Freeze {
                id: "nightly#17".to_owned(),
                reach: Reach::default(),
                until: 2,
                from: 1,
                ..freeze()
            }),
        ];
        for gate in gates {
            let read = Gate::parse(&gate.field(), &gate.pack().into()).unwrap();
            assert_eq!(read, [gate]);
        }
    }

    #[test]
    fn the_packed_front_is_what_the_scripts_read() {
        let packed = Gate::Freeze(Freeze { from: 0x0102_0304, until: 5, ..freeze() }).pack();
        assert_eq!(&packed[..12], [4, 3, 2, 1, 0, 0, 5, 0, 0, 0, 0, 0]);
        assert_eq!(&packed[12..35], b"\x0asql_update\x00\x09dc:t-1/dc{");
    }

    #[test]
    fn a_pause_and_a_kill_switch_stand_side_by_side() {
        let stops = Stops { pause: Some(note()), kill: Some(Note::default()) };
        let read = Gate::parse("*", &stops.pack().into()).unwrap();
        assert_eq!(read, [Gate::KillSwitch(Scope::All, Note::default()), Gate::Pause(Scope::All, note())]);
    }

    #[test]
    fn what_cannot_be_read_is_shown_and_never_left_out() {
        let fields = [("q copies", "just text"), ("f bad", "x"), ("l q", "x"), ("d noop", "250"), ("z", "")];
        let gates = Gates::read(&fields.map(|(f, v)| (f.to_owned(), Bytes::from(v))).into());
        let (scope, note) = gates.pauses().next().unwrap();
        assert_eq!((scope, note.why.as_str()), (&Scope::Queue("copies".to_owned()), "just text"));
        assert_eq!(gates.unreadable, ["f bad", "l q", "z"]);
        assert_eq!(gates.takes_ms["noop"], 250);
    }

    #[test]
    fn a_job_that_would_run_into_a_freeze_is_stopped_and_one_that_fits_is_not() {
        let freeze = Freeze { from: 1000, until: 2000, ..freeze() };
        for (at, takes, stopped) in
            [(1000, 0, true), (1999, 0, true), (2000, 0, false), (999, 0, false), (900, 100, true), (899, 100, false)]
        {
            assert_eq!(freeze.stops(at, takes), stopped, "{at} {takes}");
        }
    }
}
