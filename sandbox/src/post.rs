//! Posts a signed webhook as TextUs does.

use std::time::Duration;

use bytes::Bytes;

use crate::webhooks::{SIGNATURE_HEADER, sign};

/// Timeout of one post: longer than any receiver should take, and short enough for a test to end.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The receiver's answer to one post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    pub status: u16,
    pub body: Bytes,
}

impl Posted {
    /// Returns whether the receiver answered with any 2xx: <https://apidocs.next.textus.com/overview/webhooks/>.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Makes a client for [`post_with`], with a timeout, no redirects and no proxy.
///
/// # Errors
/// Fails when no TLS configuration can be made.
pub fn client() -> anyhow::Result<reqwest::Client> {
    // The install fails only when a provider is already installed, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client =
        reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).no_proxy().build()?;
    Ok(client)
}

/// Signs these bytes and posts them once, on a new connection.
///
/// # Errors
/// Fails when no answer came; a refusal is an answer.
pub async fn post(url: &str, secret: &str, bytes: &[u8]) -> anyhow::Result<Posted> {
    post_with(&client()?, url, secret, bytes).await
}

/// Like [`post`], with a client that is reused for many posts.
///
/// # Errors
/// Fails when no answer came; a refusal is an answer.
pub async fn post_with(client: &reqwest::Client, url: &str, secret: &str, bytes: &[u8]) -> anyhow::Result<Posted> {
    let answer = client
        .post(url)
        .header(SIGNATURE_HEADER, sign(secret, bytes))
        .header(reqwest::header::CONTENT_TYPE, "application/json")
        .body(bytes.to_vec())
        .send()
        .await?;
    Ok(Posted { status: answer.status().as_u16(), body: answer.bytes().await? })
}
