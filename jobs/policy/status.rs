//! The business status of a job: one pure function a kind, from where the engine has it to the word that customers know.
//!
//! The engine's place and the business status are two fields (2.14). Every place has a status; no status is stored.

use leasehold_engine::Place;
use serde::Serialize;
use serde_json::Value;

/// A business status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The stable identifier, the `status` of the API.
    pub id: &'static str,
    /// The name that customers see, without the brackets 【】.
    pub name: &'static str,
    /// What the card of the data center shows meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_center: Option<&'static str>,
}

/// What the engine knows of a job when its status is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Where it is.
    pub place: Place,
    /// Whether an attempt has begun its work (a step was opened); a job that only waited has not.
    pub begun: bool,
    /// The result of the kind, when it succeeded.
    pub result: Option<&'a Value>,
}

/// The colour of the detail of an SQL update (SQL-12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Colour {
    /// All statements succeeded.
    Green,
    /// Some or all did not, or nobody knows.
    Red,
}

/// The status of a job of any kind; a kind without business states has the engine's word.
#[must_use]
pub fn of(kind: &str, seen: Seen<'_>) -> Status {
    match kind {
        "sql_update" => sql_update(seen),
        "data_center_backup" => data_center_backup(seen),
        "data_center_restore" => data_center_restore(seen),
        "verification_code" => verification_code(seen),
        _ => Status { id: seen.place.as_str(), name: seen.place.as_str(), data_center: None },
    }
}

/// 2.7: pending_execution → executing → completed, or revoked, or failed.
#[must_use]
pub fn sql_update(seen: Seen<'_>) -> Status {
    match seen.place {
        Place::Scheduled | Place::Blocked | Place::Ready | Place::Waiting if !seen.begun => {
            status("pending_execution", "待执行", "SQL更新中")
        }
        Place::Scheduled | Place::Blocked | Place::Ready | Place::Waiting | Place::Running => {
            status("executing", "执行中", "SQL更新中")
        }
        Place::Succeeded => status("completed", "执行完成", "SQL更新成功"),
        Place::Cancelled => quiet("revoked", "已撤销"),
        Place::Dead => status("failed", "执行失败", "SQL更新失败"),
        Place::Unknown => status("unknown", "结果未知", "SQL更新结果未知"),
    }
}

/// The colour of a completed SQL update's result; `None` before there is one (SQL-12).
#[must_use]
pub fn sql_colour(result: Option<&Value>) -> Option<Colour> {
    match result?.get("colour")?.as_str()? {
        "green" => Some(Colour::Green),
        _ => Some(Colour::Red),
    }
}

/// 2.9: running → succeeded, failed or cancelled.
#[must_use]
pub fn data_center_backup(seen: Seen<'_>) -> Status {
    match seen.place {
        Place::Scheduled | Place::Blocked | Place::Ready | Place::Waiting if !seen.begun => {
            quiet("pending", "等待备份")
        }
        Place::Scheduled | Place::Blocked | Place::Ready | Place::Waiting | Place::Running => {
            status("running", "备份中", "备份中")
        }
        Place::Succeeded => quiet("succeeded", "备份成功"),
        Place::Cancelled => quiet("cancelled", "已取消"),
        Place::Dead => quiet("failed", "备份失败"),
        Place::Unknown => quiet("unknown", "结果未知"),
    }
}

/// 2.9: restoring → succeeded or failed.
#[must_use]
pub fn data_center_restore(seen: Seen<'_>) -> Status {
    match seen.place {
        Place::Scheduled | Place::Blocked | Place::Ready | Place::Waiting if !seen.begun => {
            quiet("pending", "等待恢复")
        }
        Place::Scheduled | Place::Blocked | Place::Ready | Place::Waiting | Place::Running => {
            status("restoring", "恢复中", "恢复中")
        }
        Place::Succeeded => status("succeeded", "恢复成功", "恢复成功"),
        Place::Cancelled => quiet("cancelled", "已取消"),
        Place::Dead => status("failed", "恢复失败", "恢复失败"),
        Place::Unknown => status("unknown", "结果未知", "恢复结果未知"),
    }
}

/// A code on its way: sending → sent or failed (VERIFY-01).
#[must_use]
pub fn verification_code(seen: Seen<'_>) -> Status {
    match seen.place {
        Place::Scheduled | Place::Blocked | Place::Ready | Place::Waiting | Place::Running => {
            quiet("sending", "发送中")
        }
        Place::Succeeded => quiet("sent", "已发送"),
        Place::Cancelled => quiet("cancelled", "已取消"),
        Place::Dead => quiet("failed", "发送失败"),
        Place::Unknown => quiet("unknown", "结果未知"),
    }
}

const fn status(id: &'static str, name: &'static str, data_center: &'static str) -> Status {
    Status { id, name, data_center: Some(data_center) }
}

const fn quiet(id: &'static str, name: &'static str) -> Status {
    Status { id, name, data_center: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ids(kind: &str, begun: bool) -> Vec<&'static str> {
        Place::ALL.into_iter().map(|place| of(kind, Seen { place, begun, result: None }).id).collect()
    }

    // The order of Place::ALL: scheduled, blocked, ready, running, waiting, succeeded, cancelled, dead, unknown.

    #[test]
    fn sql_07_sql_08_sql_09_every_place_of_an_sql_update_has_its_status() {
        let p = "pending_execution";
        let e = "executing";
        assert_eq!(ids("sql_update", false), [p, p, p, e, p, "completed", "revoked", "failed", "unknown"]);
        assert_eq!(ids("sql_update", true), [e, e, e, e, e, "completed", "revoked", "failed", "unknown"]);
    }

    #[test]
    fn sql_07_sql_09_the_card_of_the_data_center_says_what_goes_on() {
        let seen = |place| sql_update(Seen { place, begun: false, result: None });
        assert_eq!(seen(Place::Scheduled).name, "待执行");
        assert_eq!(seen(Place::Scheduled).data_center, Some("SQL更新中"));
        assert_eq!(seen(Place::Running).name, "执行中");
        assert_eq!(seen(Place::Running).data_center, Some("SQL更新中"));
        assert_eq!(seen(Place::Succeeded).name, "执行完成");
        assert_eq!(seen(Place::Succeeded).data_center, Some("SQL更新成功"));
        assert_eq!(seen(Place::Cancelled).name, "已撤销");
        assert_eq!(seen(Place::Cancelled).data_center, None);
    }

    #[test]
    fn backup_03_every_place_of_a_backup_has_its_status() {
        let (p, r) = ("pending", "running");
        assert_eq!(ids("data_center_backup", false), [p, p, p, r, p, "succeeded", "cancelled", "failed", "unknown"]);
        assert_eq!(ids("data_center_backup", true), [r, r, r, r, r, "succeeded", "cancelled", "failed", "unknown"]);
        assert_eq!(data_center_backup(Seen { place: Place::Succeeded, begun: true, result: None }).name, "备份成功");
    }

    #[test]
    fn restore_02_every_place_of_a_restore_has_its_status() {
        let (p, r) = ("pending", "restoring");
        assert_eq!(ids("data_center_restore", false), [p, p, p, r, p, "succeeded", "cancelled", "failed", "unknown"]);
        assert_eq!(ids("data_center_restore", true), [r, r, r, r, r, "succeeded", "cancelled", "failed", "unknown"]);
        assert_eq!(data_center_restore(Seen { place: Place::Running, begun: true, result: None }).name, "恢复中");
        assert_eq!(data_center_restore(Seen { place: Place::Succeeded, begun: true, result: None }).name, "恢复成功");
    }

    #[test]
    fn verify_01_every_place_of_a_code_has_its_status() {
        let s = "sending";
        assert_eq!(ids("verification_code", false), [s, s, s, s, s, "sent", "cancelled", "failed", "unknown"]);
    }

    #[test]
    fn sql_12_only_green_is_green() {
        assert_eq!(sql_colour(Some(&json!({"colour": "green"}))), Some(Colour::Green));
        assert_eq!(sql_colour(Some(&json!({"colour": "red"}))), Some(Colour::Red));
        assert_eq!(sql_colour(Some(&json!({"colour": "?"}))), Some(Colour::Red));
        assert_eq!(sql_colour(None), None);
    }
}
