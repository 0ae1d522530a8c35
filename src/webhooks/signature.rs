//! Signs deliveries the way of Standard Webhooks 1.0 (symmetric, `v1`).
//!
//! The text that is signed is `id.timestamp.body`, so neither of the three can be exchanged without breaking the
//! signature. What this file writes is accepted by the official libraries, which are stricter than the standard: one
//! space between signatures and none around them, canonical base64 with padding, a plain decimal timestamp.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

const PREFIX: &str = "whsec_";
/// 24 bytes are the least that the standard allows, and give base64 without `=`, which every decoder accepts.
const FRESH_BYTES: usize = 24;
const ALLOWED_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A symmetric signing secret: 24 to 64 random bytes, written as `whsec_` and base64.
///
/// `Debug` does not show it, and there is no `Display`: whoever wants the text asks for [`Secret::reveal`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Secret(Vec<u8>);

/// Why a text is not a signing secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Not standard, padded base64.
    #[error("the secret is not `whsec_` and base64")]
    NotBase64,
    /// Too short to be safe, or longer than the standard allows.
    #[error("the secret has {0} bytes; it needs 24 to 64")]
    Length(usize),
    /// The operating system gave no random bytes.
    #[error("no random bytes from the operating system")]
    NoRandomness,
}

impl Secret {
    /// Makes a fresh secret from the operating system's randomness.
    pub fn generate() -> Result<Self, SecretError> {
        let mut bytes = vec![0; FRESH_BYTES];
        getrandom::fill(&mut bytes).map_err(|_| SecretError::NoRandomness)?;
        Ok(Self(bytes))
    }

    /// Reads `whsec_…`; the prefix may be missing.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let bytes = STANDARD.decode(text.strip_prefix(PREFIX).unwrap_or(text)).map_err(|_| SecretError::NotBase64)?;
        match ALLOWED_BYTES.contains(&bytes.len()) {
            true => Ok(Self(bytes)),
            false => Err(SecretError::Length(bytes.len())),
        }
    }

    /// The text that the receiver keeps, `whsec_…`. Shown once, when it is made.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    /// `v1,` and the signature of one delivery attempt.
    fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length, so this cannot fail")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(id.as_bytes());
        mac.update(format!(".{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(whsec_…)")
    }
}

impl TryFrom<String> for Secret {
    type Error = SecretError;
    fn try_from(text: String) -> Result<Self, SecretError> {
        Self::parse(&text)
    }
}

impl From<Secret> for String {
    fn from(secret: Secret) -> Self {
        secret.reveal()
    }
}

/// The value of `webhook-signature`: one signature a live secret, the current one first, one space between.
///
/// `timestamp` is in seconds and belongs to this attempt, not to the event: receivers refuse what is 300 s off.
pub fn sign_with_all(secrets: &[&Secret], id: &str, timestamp: i64, body: &[u8]) -> String {
    let signatures: Vec<String> = secrets.iter().map(|secret| secret.sign(id, timestamp, body)).collect();
    signatures.join(" ")
}

/// The `webhook-id` of one event for one endpoint: `msg_` and 32 hex digits, so never a dot.
///
/// It follows from what happened, so that a repeated routing of the same event gives the same id and the receiver can
/// drop the double.
pub fn delivery_id(endpoint: &str, job: &str, seq: u32, event: &str) -> String {
    let digest = Sha256::digest(format!("{endpoint}\n{job}\n{seq}\n{event}"));
    format!("msg_{}", hex::encode(&digest[..16]))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const CURRENT: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const OLD: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn secret(text: &str) -> Secret {
        // The vectors of the official libraries are old; their keys have 24 bytes all the same.
        Secret::parse(text).unwrap()
    }

    #[test]
    fn the_known_answers_of_the_official_libraries_come_out() {
        let cases = [
            (
                CURRENT,
                "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
                1_649_367_553,
                r#"{"email":"test@example.com","username":"test_user"}"#,
                "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            ),
            (
                OLD,
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                r#"{"test": 2432232314}"#,
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
        ];
        for (key, id, timestamp, body, expected) in cases {
            assert_eq!(sign_with_all(&[&secret(key)], id, timestamp, body.as_bytes()), expected);
        }
    }

    #[test]
    fn two_secrets_give_two_signatures_with_the_current_one_first() {
        let body = r#"{"type":"job.succeeded","timestamp":"2026-11-22T03:00:00Z","data":{"job_id":"job_01JD","tenant":"Zürich","seq":3}}"#;
        assert_eq!(body.len(), 115);
        assert_eq!(
            sign_with_all(
                &[&secret(CURRENT), &secret(OLD)],
                "msg_01JDTEST0000000000000000",
                1_795_316_400,
                body.as_bytes()
            ),
            "v1,UcwTr4JW/3ZftfIgt3KLBNWmqQpDOs2+zgDzeae+RVU= v1,yIfMTJcYVChCRjOCgv0Dr29WyyKGrh8j3G5SXRIhWVE="
        );
    }

    #[test]
    fn a_fresh_secret_needs_no_padding_and_differs_from_the_next() {
        let one = Secret::generate().unwrap();
        let text = one.reveal();
        assert!(text.starts_with("whsec_") && !text.contains('='), "{text}");
        assert_eq!(text.len(), "whsec_".len() + 32);
        assert_eq!(Secret::parse(&text).unwrap(), one);
        assert_ne!(Secret::generate().unwrap(), one);
    }

    #[test]
    fn a_secret_is_not_shown_by_accident() {
        let one = secret(CURRENT);
        assert!(!format!("{one:?}").contains("C2FV"));
    }

    #[test]
    fn a_secret_that_is_empty_short_or_not_base64_is_refused() {
        assert_eq!(Secret::parse("whsec_"), Err(SecretError::Length(0)));
        assert_eq!(Secret::parse("whsec_QUJD"), Err(SecretError::Length(3)));
        assert_eq!(Secret::parse("whsec_???"), Err(SecretError::NotBase64));
        assert_eq!(Secret::parse(&STANDARD.encode([7; 65])), Err(SecretError::Length(65)));
    }

    #[test]
    fn a_delivery_id_has_no_dot_and_follows_from_what_happened() {
        let one = delivery_id("wh_1", "job.with.dots", 3, "succeeded");
        assert!(one.starts_with("msg_") && !one.contains('.') && one.len() == 36, "{one}");
        assert_eq!(one, delivery_id("wh_1", "job.with.dots", 3, "succeeded"));
        for other in [
            delivery_id("wh_2", "job.with.dots", 3, "succeeded"),
            delivery_id("wh_1", "job", 3, "succeeded"),
            delivery_id("wh_1", "job.with.dots", 4, "succeeded"),
            delivery_id("wh_1", "job.with.dots", 3, "failed"),
        ] {
            assert_ne!(one, other);
        }
    }
}
