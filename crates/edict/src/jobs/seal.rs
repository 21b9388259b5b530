//! Tokens of attempts, sealed. Whoever may look at Jobs reads what stands in them, so that only a sealed token stands there;
//! what opens it is in the secret that all jobs of an executor share.

use hmac::{Hmac, KeyInit, Mac};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::error::Unspecified;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::Sha256;

/// What seals tokens and opens them.
pub(crate) struct Seal {
    hex: String,
    key: LessSafeKey,
}

impl Seal {
    /// The one that is made from an executor's own token: the same after a restart, which its jobs outlive.
    ///
    /// # Errors
    /// Never in practice.
    pub(crate) fn of_executor(token: &str) -> Result<Self, Unspecified> {
        let mut mac = Hmac::<Sha256>::new_from_slice(token.as_bytes()).map_err(|_| Unspecified)?;
        mac.update(b"jobs/");
        Self::new(hex::encode(mac.finalize().into_bytes()))
    }

    /// The one of which this is the text.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn new(hex: String) -> Result<Self, Unspecified> {
        let key = hex::decode(&hex).map_err(|_| Unspecified)?;
        let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key)?);
        Ok(Self { hex, key })
    }

    /// It as a text, which is a secret.
    pub(crate) fn expose(&self) -> &str {
        &self.hex
    }

    /// A token for an attempt of this job: a random nonce and what RFC 8439 makes of the token, in hexadecimal digits.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(crate) fn close(&self, job_id: &str, token: &str) -> Result<String, Unspecified> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce)?;
        let mut sealed = token.as_bytes().to_vec();
        let (at, of) = (Nonce::assume_unique_for_key(nonce), Aad::from(job_id.as_bytes()));
        self.key.seal_in_place_append_tag(at, of, &mut sealed)?;
        Ok(hex::encode(nonce) + &hex::encode(sealed))
    }

    /// The token that was sealed for this job.
    ///
    /// # Errors
    /// It was sealed with another key, for another job, or is not whole.
    pub(crate) fn open(&self, job_id: &str, sealed: &str) -> Result<String, Unspecified> {
        let sealed = hex::decode(sealed).map_err(|_| Unspecified)?;
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or(Unspecified)?;
        let (at, of) = (Nonce::try_assume_unique_for_key(nonce)?, Aad::from(job_id.as_bytes()));
        let mut token = sealed.to_vec();
        let token = self.key.open_in_place(at, of, &mut token)?;
        String::from_utf8(token.to_vec()).map_err(|_| Unspecified)
    }
}

#[cfg(test)]
mod tests {
    use super::Seal;

    #[test]
    fn opens_what_was_sealed_for_the_job_and_nothing_else() {
        let seal = Seal::of_executor("token").unwrap();
        let sealed = seal.close("job", "t0ken").unwrap();
        assert!(!sealed.contains("t0ken") && sealed != seal.close("job", "t0ken").unwrap());
        let again = Seal::new(Seal::of_executor("token").unwrap().expose().to_owned()).unwrap();
        assert_eq!(again.open("job", &sealed).unwrap(), "t0ken");
        assert!(again.open("another job", &sealed).is_err());
        assert!(Seal::of_executor("another token").unwrap().open("job", &sealed).is_err());
        for damaged in [&sealed[..sealed.len() - 2], &sealed[2..], "", "00", "not hexadecimal"] {
            assert!(again.open("job", damaged).is_err(), "{damaged}");
        }
        assert!(Seal::new("00".to_owned()).is_err());
    }
}
