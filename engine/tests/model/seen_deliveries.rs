//! What is kept of deliveries, read past the store's verbs. Guards that each is there once, in one state, and is due when
//! the model says, and that counters and indexes agree.

use std::collections::BTreeMap;

use crate::{
    claims::Complaint,
    deliveries::Delivery,
    model::Model,
    verbs::{ENDPOINTS, Parcel},
};

fn differs<T: PartialEq + std::fmt::Debug>(what: &str, meant: &T, is: &T) -> Complaint {
    if meant == is { Ok(()) } else { Err(format!("{what} should be {meant:?}, and is {is:?}")) }
}

/// What the store keeps otherwise than the model.
pub(crate) fn compare(redis: &mut redis::Connection, model: &Model) -> Complaint {
    let outbox = &model.outbox;
    if !outbox.began {
        return Ok(());
    }
    let mut pipe = redis::pipe();
    pipe.cmd("ZRANGE").arg(model.key("endpoints_due")).arg(0).arg(-1).arg("WITHSCORES");
    pipe.cmd("HGET").arg(model.key("counters")).arg("webhook_backlog");
    let (due, backlog): (BTreeMap<String, i64>, Option<i64>) = pipe.query(redis).expect("an answer of Redis");
    let next = |to: usize| Some((ENDPOINTS[to].0.to_owned(), outbox.next_due(to)?));
    differs("what is due of each endpoint", &(0..ENDPOINTS.len()).filter_map(next).collect(), &due)?;
    differs("the backlog", &(outbox.pending().count() as i64), &backlog.unwrap_or(0))?;
    (0..ENDPOINTS.len()).try_for_each(|to| compare_endpoint(redis, model, to))
}

type Kept = (Vec<String>, BTreeMap<String, i64>);

fn compare_endpoint(redis: &mut redis::Connection, model: &Model, to: usize) -> Complaint {
    let name = ENDPOINTS[to].0;
    let mut pipe = redis::pipe();
    pipe.cmd("LRANGE").arg(model.key(&format!("delivered:{name}"))).arg(0).arg(-1);
    pipe.cmd("ZRANGE").arg(model.key(&format!("deliveries:{name}"))).arg(0).arg(-1).arg("WITHSCORES");
    let (history, queue): Kept = pipe.query(redis).expect("an answer of Redis");
    let kept = &model.outbox.kept[to];
    let ids: Vec<String> = kept.iter().map(|delivery| delivery.parcel.id()).collect();
    differs(&format!("the history of {name}"), &ids, &history)?;
    let pending = kept.iter().filter(|delivery| delivery.is_pending());
    let pending = pending.map(|delivery| (delivery.parcel.id(), delivery.due)).collect();
    differs(&format!("the queue of {name}"), &pending, &queue)?;
    kept.iter().try_for_each(|delivery| compare_delivery(redis, model, delivery))
}

fn compare_delivery(redis: &mut redis::Connection, model: &Model, delivery: &Delivery) -> Complaint {
    let Parcel { to, .. } = delivery.parcel;
    let key = model.key(&format!("delivery:{}:{}", ENDPOINTS[to].0, delivery.parcel.id()));
    let mut pipe = redis::pipe();
    pipe.cmd("HMGET").arg(&key).arg(&["state", "attempt", "first_at"]);
    pipe.cmd("LRANGE").arg(format!("{key}:log")).arg(0).arg(-1);
    type Held = ((Option<String>, Option<u16>, Option<i64>), Vec<String>);
    let ((state, attempt, first_at), log): Held = pipe.query(redis).expect("an answer of Redis");
    let meant = (Some(delivery.state.to_owned()), Some(delivery.attempt), Some(delivery.first_at));
    differs(&format!("{:?}", delivery.parcel), &meant, &(state, attempt, first_at))?;
    let lines = delivery.log.iter().map(|said| said.line()).collect();
    differs(&format!("the log of {:?}", delivery.parcel), &lines, &log)
}
