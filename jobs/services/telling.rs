//! Tells people of what happened: one durable job a receiver and channel (NOTIFY-20).
//!
//! Invariant: telling never fails the business operation, and the same notice reaches the same person once a channel.

use std::time::Duration;

use leasehold_engine::{Enqueued, Idempotency, JobId, NewJob, StoreError};
use leasehold_targets::notices::Channel as Way;
use sha2::{Digest, Sha256};

use super::Services;
use crate::catalogue::{Envelope, Kind, OWN_KEYS};
use crate::notification_send::NotificationSend;
use crate::policy::messages::Channel;
use crate::policy::{Notice, Role, Tenant};

/// How long it is remembered that a notice was enqueued: longer than a job goes on after the step that tells.
const REMEMBERED: Duration = Duration::from_secs(7 * 86_400);

/// A person who is told, with the addresses that are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Receiver {
    pub(crate) user_id: String,
    pub(crate) email: Option<String>,
    pub(crate) mobile: Option<String>,
    pub(crate) im: Option<String>,
}

/// On whose behalf somebody is told: a running job, or one that died.
pub(crate) trait Speaker: Sync {
    fn services(&self) -> &Services;
    fn envelope(&self) -> &Envelope;
    fn id(&self) -> &JobId;
    fn tenant_id(&self) -> &str;
    /// A line for the job's log.
    fn say(&self, line: String);
}

/// The submitter; addresses that the command did not bring are those of the tenant's contact of the same id.
pub(crate) fn submitter(ctx: &impl Speaker, tenant: &Tenant) -> Vec<Receiver> {
    let actor = &ctx.envelope().actor;
    let contact = tenant.contacts.iter().find(|contact| contact.user_id == actor.user_id);
    let known = |own: &Option<String>, of_contact: fn(&crate::policy::tenant::Contact) -> Option<String>| {
        own.clone().or_else(|| contact.and_then(of_contact))
    };
    vec![Receiver {
        user_id: actor.user_id.clone(),
        email: known(&actor.email, |contact| contact.email.clone()),
        mobile: known(&actor.mobile, |contact| contact.mobile.clone()),
        im: known(&actor.yunzhijia_id, |contact| contact.yunzhijia_id.clone()).or(Some(actor.user_id.clone())),
    }]
}

/// The tenant's enterprise admins, and the submitter if they are not one of them (NOTIFY-11).
pub(crate) fn admins_and_submitter(ctx: &impl Speaker, tenant: &Tenant) -> Vec<Receiver> {
    let mut receivers = submitter(ctx, tenant);
    for contact in tenant.contacts_with(Role::EnterpriseAdmin) {
        if receivers.iter().all(|receiver| receiver.user_id != contact.user_id) {
            receivers.push(Receiver {
                user_id: contact.user_id.clone(),
                email: contact.email.clone(),
                mobile: contact.mobile.clone(),
                im: contact.yunzhijia_id.clone().or(Some(contact.user_id.clone())),
            });
        }
    }
    receivers
}

/// Whoever watches over the program, when the rules name an address (NOTIFY-19).
pub(crate) fn ops_monitor(ctx: &impl Speaker) -> Option<Receiver> {
    let email = ctx.services().rules().notify.ops_monitor_email.trim();
    (!email.is_empty()).then(|| Receiver {
        user_id: "ops_monitor".to_owned(),
        email: Some(email.to_owned()),
        ..Receiver::default()
    })
}

/// Enqueues the notice for each receiver and channel; says how many. What cannot be enqueued is logged.
pub(crate) async fn tell(ctx: &impl Speaker, notice: Notice, receivers: &[Receiver], values: &[(&str, String)]) -> u32 {
    match try_to_tell(ctx, notice, receivers, values).await {
        Ok(told) => told,
        Err(error) => {
            tracing::warn!(job = %ctx.id(), notice = notice.as_str(), code = error.code(), %error, "a notice was not enqueued");
            ctx.say(format!("{}: the notice could not be enqueued: {error}", notice.rule()));
            0
        }
    }
}

/// The same for those who can try again when the store cannot be reached.
pub(crate) async fn try_to_tell(
    ctx: &impl Speaker,
    notice: Notice,
    receivers: &[Receiver],
    values: &[(&str, String)],
) -> Result<u32, StoreError> {
    let mut jobs = Vec::new();
    for receiver in receivers {
        for channel in ctx.services().rules().notify.channels(notice) {
            match address(receiver, *channel) {
                Some(to) => jobs.extend(job(ctx, notice, (receiver, *channel, to), values)),
                None => ctx.say(format!(
                    "{}: {} has no address for {}: skipped; it can be filled in among the tenant's contacts",
                    notice.rule(),
                    receiver.user_id,
                    word(*channel)
                )),
            }
        }
    }
    let mut told = 0;
    let answers = ctx.services().store().enqueue(&jobs, ctx.services().max_live()).await?;
    for (job, answer) in jobs.iter().zip(answers) {
        match answer {
            Enqueued::Accepted(_) | Enqueued::Duplicate(_) | Enqueued::Conflict(_) => told += 1,
            refused => ctx.say(format!("{}: notice {} was not taken in: {refused:?}", notice.rule(), job.id)),
        }
    }
    Ok(told)
}

fn address(receiver: &Receiver, channel: Channel) -> Option<String> {
    let address = match channel {
        Channel::Email => &receiver.email,
        Channel::Sms => &receiver.mobile,
        Channel::Yunzhijia => &receiver.im,
    };
    address.clone().filter(|address| !address.trim().is_empty())
}

fn word(channel: Channel) -> &'static str {
    match channel {
        Channel::Email => "email",
        Channel::Sms => "sms",
        Channel::Yunzhijia => "yunzhijia",
    }
}

/// The target's way of a channel.
pub(crate) fn way(channel: Channel) -> Way {
    match channel {
        Channel::Email => Way::Email,
        Channel::Sms => Way::Sms,
        Channel::Yunzhijia => Way::Im,
    }
}

fn job(
    ctx: &impl Speaker,
    notice: Notice,
    (receiver, channel, to): (&Receiver, Channel, String),
    values: &[(&str, String)],
) -> Option<NewJob> {
    let services: &Services = ctx.services();
    let text = services.messages().render(notice, ctx.services().rules().notify.language, values);
    let person = hex::encode(&Sha256::digest(receiver.user_id.as_bytes())[..6]);
    // A deferral may happen twice, and is then another event: its time is part of the identity.
    let event = values.iter().find(|(name, _)| *name == "starts_at").map_or("", |(_, at)| at.as_str());
    let event = hex::encode(&Sha256::digest(event.as_bytes())[..3]);
    let id = format!("{}-{}-{person}-{event}-{}", ctx.id(), notice.as_str(), word(channel));
    let args = NotificationSend { id: id.clone(), channel: way(channel), to, subject: text.subject, body: text.body };
    let meta = Envelope::internal(ctx.envelope(), ctx.id());
    let digest: [u8; 32] = Sha256::digest(id.as_bytes()).into();
    Some(NewJob {
        queue: NotificationSend::QUEUE.to_owned(),
        retry: NotificationSend::RETRY,
        meta: meta.to_bytes(),
        idempotency: Some(Idempotency {
            key: format!("{OWN_KEYS}notice:{}", hex::encode(&digest[..16])),
            digest,
            ttl: REMEMBERED,
        }),
        ..NewJob::new(
            services.store().new_id(ctx.tenant_id()),
            NotificationSend::NAME,
            ctx.tenant_id(),
            serde_json::to_vec(&args).ok()?,
        )
    })
}
