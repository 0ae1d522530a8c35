//! One-use codes: how a code becomes a digest, and what it is bound to. The code itself is never stored (VERIFY-02).

use sha2::{Digest, Sha256};

/// The digest of a code under its challenge: all that the store ever sees of a code.
pub(crate) fn digest(challenge_id: &str, code: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(challenge_id.as_bytes());
    hash.update([0]);
    hash.update(code.trim().as_bytes());
    hex::encode(hash.finalize())
}

/// The binding (actor, operation, target) in a fixed length, whatever the length of the ids.
pub(crate) fn binding(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// A resource's name, as it is when it fits the store beside a second one, else by its digest.
pub(crate) fn short(resource: String) -> String {
    if resource.len() <= 120 { resource } else { format!("sha256/{}", binding(&resource)) }
}
