//! The secret, and what is signed with it: the symmetric scheme `v1` of Standard Webhooks.

use std::ops::RangeInclusive;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::InvalidSecret;

/// How many bytes a secret may have, once decoded. The specification of Standard Webhooks asks for 24 to 64;
/// its libraries take shorter ones, and 16 random bytes cannot be guessed either.
pub const SECRET_BYTES: RangeInclusive<usize> = 16..=64;

/// Whether `secret` is one that [`secret`](crate::ForwardHandlerBuilder::secret) takes: `whsec_`, then 16 to 64
/// bytes in base64.
///
/// # Errors
/// What is wrong with it, as the rest of a sentence that begins with the name of the setting.
///
/// ```
/// use cognigy_handler_http::check_secret;
///
/// assert!(check_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").is_ok());
/// assert!(check_secret("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").is_err());
/// ```
pub fn check_secret(secret: &str) -> Result<(), InvalidSecret> {
    SigningKey::read(secret).map(|_| ())
}

/// Signs messages. Holds the state of a hash and not the secret; it is wiped from memory when dropped.
#[derive(Clone)]
pub(crate) struct SigningKey(Hmac<Sha256>);

impl SigningKey {
    pub(crate) fn read(secret: &str) -> Result<Self, InvalidSecret> {
        let encoded = secret.strip_prefix("whsec_").ok_or(InvalidSecret::Prefix)?;
        // Decoded in place: a buffer that grows would leave copies behind.
        let mut key = Zeroizing::new(vec![0; encoded.len()]);
        let length = STANDARD.decode_slice(encoded, &mut key).map_err(|_| InvalidSecret::Base64)?;
        if !SECRET_BYTES.contains(&length) {
            return Err(InvalidSecret::Length { bytes: length });
        }
        // HMAC takes keys of any length (RFC 2104, section 2), so this cannot fail.
        Hmac::new_from_slice(&key[..length]).map(Self).map_err(|_| InvalidSecret::Base64)
    }

    /// The value of `webhook-signature`. Neither `id` nor `timestamp` may hold a dot: it could move bytes
    /// between them and the body.
    pub(crate) fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The test vector of the Standard Webhooks libraries.
    #[test]
    fn a_message_is_signed_as_the_libraries_do() {
        let key = SigningKey::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signature = key.sign(id, 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_has_16_to_64_bytes() {
        for bytes in 0..=100 {
            let expected = match bytes {
                16..=64 => Ok(()),
                bytes => Err(InvalidSecret::Length { bytes }),
            };
            let secret = format!("whsec_{}", STANDARD.encode(vec![0xff; bytes]));
            assert_eq!(check_secret(&secret), expected, "{bytes}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_secret_is_named_and_the_secret_is_not() {
        let marked = |text: &str| check_secret(text).unwrap_err().to_string();
        let prefix = "must begin with whsec_";
        let base64 = "must be standard base64 with padding after whsec_";
        for (secret, told) in [
            ("", prefix),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", prefix),
            ("WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", prefix),
            (" whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", prefix),
            ("whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", prefix),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n", base64),
            ("whsec_a plain text of more than 24 bytes", base64),
            // URL-safe; without its padding; with bits set that stand for nothing.
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa-_", base64),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMQ", base64),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMR==", base64),
            (
                "whsec_bG9jYWwtdGVzdA==",
                "must have 16 to 64 bytes in base64 after whsec_, and has 10",
            ),
            ("whsec_", "must have 16 to 64 bytes in base64 after whsec_, and has 0"),
        ] {
            assert_eq!(marked(secret), told, "{secret:?}");
        }
        assert_eq!(check_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMQ=="), Ok(()));
    }
}
