//! Schedules as the store keeps them, beside the model's. Guards that each slot is counted once, as fired or as missed.

use leasehold_engine::model::Schedule;

use crate::{
    claims::Complaint,
    model::{Model, NEVER},
    seen::same,
    send::Far,
    verbs::TENANTS,
};

/// What the store keeps otherwise than the model.
pub(crate) async fn compare(far: &Far, model: &Model) -> Complaint {
    for (of, tenant) in TENANTS.iter().enumerate() {
        let seen = far.store.schedule(tenant, "s").await.map_err(|error| format!("error: {error:?}"))?;
        compare_schedule(model, of, seen.as_ref())?;
    }
    Ok(())
}

pub(crate) fn compare_schedule(model: &Model, of: usize, seen: Option<&Schedule>) -> Complaint {
    let (kept, seen) = match (model.schedules.kept.get(&of), seen) {
        (None, None) => return Ok(()),
        (Some(kept), Some(seen)) => (kept, seen),
        (kept, _) => return Err(format!("the schedule of {} should be {kept:?}, and is {seen:?}", TENANTS[of])),
    };
    same! {
        "the revision": kept.revision, seen.revision;
        "the cursor": kept.cursor, seen.cursor;
        "the next slot": Some(kept.next).filter(|next| *next < NEVER), seen.next;
        "what is stuck": kept.stuck, seen.stuck.as_ref().map(|stuck| (stuck.slot, stuck.since));
        "what became of its slots": kept.counts, seen.counts;
        "the last that fired": kept.fired.map(|(slot, at, j)| (slot, at, model.id(j))),
            seen.last_fired.as_ref().map(|fired| (fired.slot, fired.at, &fired.job));
        "the last that was missed": kept.missed.map(|(slot, _, at)| (slot, at)),
            seen.last_missed.as_ref().map(|missed| (missed.slot, missed.at));
    }
    Ok(())
}
