//! Schedules as they are asked for and shown.

use chrono::{DateTime, FixedOffset};
use leasehold_engine::{
    Priority, UnixMs,
    model::{Missed, Schedule},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{
    enqueue::ActorSchema,
    times::{if_any, rfc3339},
};
use crate::schedules::{JobTemplate, Kept};

/// What is said of a schedule.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScheduleRequest {
    /// Minute, hour, day of month, month, weekday; with six fields the first is the second. `L`, `W`, `#`, names and `@daily`
    /// are known. Day of month and weekday are alternatives when both are given.
    #[schema(example = "30 2 * * *", max_length = 256)]
    pub cron: String,
    /// IANA name of a time zone; the business zone when left out.
    #[serde(default)]
    #[schema(example = "Asia/Shanghai")]
    pub zone: Option<String>,
    /// What becomes of runs that are more than a minute late: `skip`, `once` (the newest; the default), `all:N` (the newest
    /// N), `within:T` (those that are at most 90s, 15m, 2h, 1d late).
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "within:2h")]
    pub missed: Missed,
    /// It fires nothing, and what passes meanwhile is not missed.
    #[serde(default)]
    pub paused: bool,
    /// The job that each slot asks for.
    #[schema(value_type = ScheduledJob)]
    pub job: JobTemplate,
}

/// A job request without a time and without a code that can be used once. Labels `schedule` and `slot` are added.
#[derive(ToSchema)]
#[schema(as = ScheduledJob)]
#[expect(dead_code, reason = "only its shape is shown")]
pub(super) struct ScheduledJob {
    /// One of `GET /v1/kinds`.
    kind: String,
    /// Whose job it is; the schedule is this tenant's.
    tenant: String,
    /// In whose name (ROLE-19).
    actor: ActorSchema,
    /// What the kind reads; its schema is at `GET /v1/kinds`.
    #[schema(value_type = Option<Object>)]
    args: Value,
    /// critical, high, normal or low.
    #[schema(value_type = Option<String>)]
    priority: Priority,
    /// Told of every change of each job, signed with the webhook secret of the API key that wrote the schedule.
    callback_url: Option<String>,
    /// The caller's own words, shown and told with each job.
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>)]
    labels: std::collections::BTreeMap<String, String>,
    /// The caller's own id of whatever this belongs to.
    correlation_id: Option<String>,
    /// The user's second confirmation, for every slot (VERIFY-03).
    #[schema(value_type = Option<bool>)]
    confirmed: bool,
}

/// Whose schedule.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TenantQuery {
    /// Needed when several tenants have a schedule of this name, and the key sees them all.
    pub tenant: Option<String>,
}

/// Which schedules to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Of this tenant.
    pub tenant: Option<String>,
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// Schedules of a page.
    pub limit: Option<usize>,
}

/// How far to look ahead.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PreviewQuery {
    /// As for the schedule itself.
    pub tenant: Option<String>,
    /// How many slots, 1 to 1000; 10 when left out.
    pub count: Option<usize>,
    /// Slots after this time, RFC 3339; now when left out.
    pub from: Option<DateTime<FixedOffset>>,
}

/// A page of schedules.
#[derive(Serialize, ToSchema)]
pub(super) struct ScheduleList {
    pub schedules: Vec<ScheduleView>,
    /// Where to go on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A schedule.
#[derive(Serialize, ToSchema)]
pub(super) struct ScheduleView {
    name: String,
    tenant: String,
    cron: String,
    zone: String,
    missed: String,
    paused: bool,
    #[schema(value_type = ScheduledJob)]
    job: Value,
    revision: u32,
    /// Who wrote it: an API key's id, or `file:` and a name.
    made_by: String,
    /// A file says it, and says it again at the next start.
    from_file: bool,
    changed_at: String,
    /// The next slot; absent while it is paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_at: Option<String>,
    /// For how long the next slot is due already: nobody fires it. 0 when all is well.
    overdue_ms: i64,
    /// Why the next slot could not be decided when that was last tried; absent when all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    stuck: Option<StuckSlot>,
    counts: SlotCounts,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_fired: Option<Fired>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_missed: Option<MissedSlot>,
}

/// What has become of the slots.
#[derive(Serialize, ToSchema)]
pub(super) struct SlotCounts {
    /// They made a job.
    fired: u64,
    /// Of these, more than a minute after their time.
    late: u64,
    /// They made none.
    missed: u64,
    /// How late the last one fired.
    lateness_ms: i64,
    /// The most.
    max_lateness_ms: i64,
}

/// A slot that made a job.
#[derive(Serialize, ToSchema)]
pub(super) struct Fired {
    slot: String,
    at: String,
    job_id: String,
}

/// A slot that made none.
#[derive(Serialize, ToSchema)]
pub(super) struct MissedSlot {
    slot: String,
    at: String,
    /// A code, and one sentence.
    why: String,
}

/// A slot that is due and cannot be decided; it is tried again and again.
#[derive(Serialize, ToSchema)]
pub(super) struct StuckSlot {
    slot: String,
    since: String,
    /// One sentence.
    why: String,
}

/// The next slots of a schedule.
#[derive(Serialize, ToSchema)]
pub(super) struct Preview {
    pub name: String,
    pub cron: String,
    pub zone: String,
    /// RFC 3339, with the offset of the zone.
    pub slots: Vec<String>,
}

/// A schedule as it is shown.
pub(super) fn view(schedule: &Schedule, now: UnixMs) -> ScheduleView {
    let (spec, rules, counts) = (&schedule.spec, &schedule.spec.rules, &schedule.counts);
    let job = Kept::read(&spec.job).ok().and_then(|kept| serde_json::to_value(kept.job).ok());
    ScheduleView {
        name: spec.name.clone(),
        tenant: spec.tenant.clone(),
        cron: rules.cron.clone(),
        zone: rules.zone.clone(),
        missed: rules.missed.to_string(),
        paused: rules.paused,
        job: job.unwrap_or_default(),
        revision: schedule.revision,
        made_by: rules.made_by.clone(),
        from_file: rules.from_file,
        changed_at: rfc3339(schedule.changed_at),
        next_at: schedule.next.and_then(if_any),
        overdue_ms: schedule.overdue_ms(now),
        stuck: schedule.stuck.as_ref().map(|stuck| StuckSlot {
            slot: rfc3339(stuck.slot),
            since: rfc3339(stuck.since),
            why: stuck.why.clone(),
        }),
        counts: SlotCounts {
            fired: counts.fired,
            late: counts.late,
            missed: counts.missed,
            lateness_ms: counts.lateness_ms,
            max_lateness_ms: counts.max_lateness_ms,
        },
        last_fired: schedule.last_fired.as_ref().map(|fired| Fired {
            slot: rfc3339(fired.slot),
            at: rfc3339(fired.at),
            job_id: fired.job.to_string(),
        }),
        last_missed: schedule.last_missed.as_ref().map(|missed| MissedSlot {
            slot: rfc3339(missed.slot),
            at: rfc3339(missed.at),
            why: missed.why.clone(),
        }),
    }
}
