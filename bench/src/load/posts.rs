//! Signed bodies, each posted once, because a repeat would be recognised and thus cost the server different work.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::samples::Template;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A signature's hexadecimal digits.
type Signature = [u8; 64];

pub(crate) struct Post {
    pub(crate) body: Bytes,
    pub(crate) signature: Signature,
}

/// Makes batches of posts.
pub(crate) struct Posts {
    keyed: Hmac<Sha256>,
    next: u64,
}

impl Posts {
    pub(crate) fn new(secret: &str) -> anyhow::Result<Self> {
        let keyed = Hmac::new_from_slice(secret.as_bytes()).context("HMAC takes keys of every length")?;
        // A random start keeps the serial numbers apart from those of an earlier benchmark, which the broker may still
        // remember.
        Ok(Self { keyed, next: u64::from(rand::random::<u32>()) << 32 })
    }

    /// Makes a batch of at least `count` posts that no other batch contains.
    pub(crate) fn batch(&mut self, template: &Template, count: usize) -> Batch {
        let first = self.next;
        let signer = Signer { template: template.clone(), keyed: self.keyed.clone() };
        let signatures: Vec<Signature> =
            (first..).take(count).map(|serial| signer.sign(&signer.body(serial))).collect();
        // The batch gets more numbers than are signed, because a batch that is used up goes on signing.
        self.next += 1 << 24;
        Batch { signer, signatures, first, next: AtomicU64::new(0) }
    }
}

/// Posts that were signed in advance.
pub(crate) struct Batch {
    signer: Signer,
    signatures: Vec<Signature>,
    first: u64,
    next: AtomicU64,
}

struct Signer {
    template: Template,
    keyed: Hmac<Sha256>,
}

impl Batch {
    pub(crate) fn next(&self) -> Post {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let body = self.signer.body(self.first + index);
        let ahead = usize::try_from(index).ok().and_then(|index| self.signatures.get(index));
        // The batch is used up. Signing takes about a microsecond, which is little compared with a request.
        let signature = ahead.copied().unwrap_or_else(|| self.signer.sign(&body));
        Post { body: body.into(), signature }
    }
}

impl Signer {
    fn body(&self, serial: u64) -> Vec<u8> {
        self.template.body(serial)
    }

    fn sign(&self, body: &[u8]) -> Signature {
        let mac = self.keyed.clone().chain_update(body).finalize().into_bytes();
        let mut signature = [0; 64];
        for (digits, byte) in signature.chunks_exact_mut(2).zip(mac) {
            digits[0] = DIGITS[usize::from(byte >> 4)];
            digits[1] = DIGITS[usize::from(byte & 15)];
        }
        signature
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_post_is_new_and_signed_also_beyond_those_signed_ahead() {
        let template = Template::new("message.received").unwrap();
        let mut posts = Posts::new("a secret").unwrap();

        let batches = [posts.batch(&template, 3), posts.batch(&template, 3)];
        let sent: Vec<Post> = batches.iter().flat_map(|batch| (0..5).map(|_| batch.next())).collect();

        let bodies: HashSet<&Bytes> = sent.iter().map(|post| &post.body).collect();
        assert_eq!(bodies.len(), 10);
        for post in &sent {
            let expected = hookline_sandbox::samples::sign("a secret", &post.body);
            assert_eq!(post.signature.as_slice(), expected.as_bytes());
        }
    }
}
