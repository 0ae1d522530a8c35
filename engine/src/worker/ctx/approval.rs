//! Approvals: people answer, the model decides, the journal keeps what was decided. Guards that answers are judged here too,
//! whatever took them in.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{Ctx, decode};
use crate::{
    model::{Answer, Approval, Awaited, Decision, JobError, Sort, UnixMs, decide},
    store::{Letter, Suspended, Until, Wanted},
};

impl Ctx {
    /// Asks people for an approval and waits for their answers, which are signals with the approval's name; no worker is
    /// held. What was decided stays decided.
    ///
    /// # Errors
    /// As [`Ctx::sleep`]; `approval_impossible` (permanent) when nobody could grant it. A refusal or an expiry is no error:
    /// see [`Decision::granted`].
    pub async fn approval(&self, name: &str, ask: Approval) -> Result<Decision, JobError> {
        let call = self.call(name, Sort::Approval).await?;
        if let Some(held) = &call.done {
            return decode(name, held);
        }
        let spec = ask.spec(args_sha256(self.args()))?;
        let awaited = Awaited::Approval(spec.clone());
        let mut seen = 0;
        loop {
            let until = ask.within.map_or(Until::Never, Until::After);
            match self.suspend(&call, Wanted::Answers { name, seen }, until, &awaited).await? {
                Suspended::Done(held) => return decode(name, &held),
                Suspended::Look { now, until, letters } => {
                    if let Some(decision) = decide(&spec, &answers(name, &letters), until, now) {
                        return self.close(name, decision).await;
                    }
                    // None of them decides: wait for more than these.
                    seen = letters.len();
                }
                other => return Err(self.suspended(name, &other, true)),
            }
        }
    }
}

/// The answers among a job's signals; what is no answer is not counted.
fn answers(name: &str, letters: &[Letter]) -> Vec<(UnixMs, Answer)> {
    let mine = letters.iter().filter(|letter| letter.name == name && !letter.used);
    mine.filter_map(|letter| Some((letter.at, serde_json::from_slice(&letter.payload).ok()?))).collect()
}

/// SHA-256 of a job's arguments, in hex: what an answer is bound to.
#[must_use]
pub fn args_sha256(args: &Bytes) -> String {
    Sha256::digest(args).iter().map(|byte| format!("{byte:02x}")).collect()
}
