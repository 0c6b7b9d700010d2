//! Resolves the receiver's name and keeps private addresses from being connected to. The check comes after the name was
//! resolved and on every connection: a name that led to the internet when the settings were read may lead elsewhere now.

use std::net::{IpAddr, SocketAddr};

use futures::future::BoxFuture;
use hookline_common::private_address::{is_loopback, is_private};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Which addresses may be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Public,
    /// The URL names this machine.
    Loopback,
    Anywhere,
}

impl Reach {
    fn allows(self, address: IpAddr) -> bool {
        match self {
            Self::Public => !is_private(address),
            Self::Loopback => is_loopback(address),
            Self::Anywhere => true,
        }
    }
}

type Lookup = fn(String) -> BoxFuture<'static, std::io::Result<Vec<SocketAddr>>>;

pub(super) struct Resolver {
    reach: Reach,
    lookup: Lookup,
}

/// A name has addresses, and none of them may be connected to. The addresses are not told.
#[derive(Debug, thiserror::Error)]
#[error("the host's name leads to a private address, and [system_of_record.http] allow_private_addresses is false")]
struct OnlyPrivate;

impl Resolver {
    pub(super) fn new(reach: Reach) -> Self {
        Self { reach, lookup: system }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (reach, found) = (self.reach, (self.lookup)(name.as_str().to_owned()));
        Box::pin(async move {
            let allowed: Vec<SocketAddr> = found.await?.into_iter().filter(|found| reach.allows(found.ip())).collect();
            if allowed.is_empty() {
                return Err(OnlyPrivate.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

fn system(name: String) -> BoxFuture<'static, std::io::Result<Vec<SocketAddr>>> {
    // Port 0 stands for the URL's.
    Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn leads_home(_name: String) -> BoxFuture<'static, std::io::Result<Vec<SocketAddr>>> {
        Box::pin(async { Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))]) })
    }

    fn leads_to_both(_name: String) -> BoxFuture<'static, std::io::Result<Vec<SocketAddr>>> {
        Box::pin(async { Ok(vec!["10.0.0.1:0".parse().unwrap(), "1.1.1.1:0".parse().unwrap()]) })
    }

    async fn get(reach: Reach, port: u16) -> Result<u16, reqwest::Error> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let resolver = Arc::new(Resolver { reach, lookup: leads_home });
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).dns_resolver(resolver);
        let answer = client.build().unwrap().get(format!("http://crm.example.com:{port}/")).send().await?;
        Ok(answer.status().as_u16())
    }

    #[tokio::test]
    async fn a_name_that_leads_to_this_machine_is_not_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = tokio::spawn(async move {
            let mut connections = 0;
            while let Ok((mut stream, _)) = listener.accept().await {
                connections += 1;
                // The request has to come before its answer.
                assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                if connections == 2 {
                    break;
                }
            }
        });

        let error = get(Reach::Public, port).await.unwrap_err();
        assert!(error.is_connect() && !served.is_finished());
        let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
        assert!(causes.map(ToString::to_string).any(|cause| cause == OnlyPrivate.to_string()), "{error:?}");

        // These two are all the connections that the listener sees.
        assert_eq!(get(Reach::Loopback, port).await.unwrap(), 204);
        assert_eq!(get(Reach::Anywhere, port).await.unwrap(), 204);
        served.await.unwrap();
    }

    #[tokio::test]
    async fn of_several_addresses_the_private_ones_are_left_out() {
        let resolver = Resolver { reach: Reach::Public, lookup: leads_to_both };

        let found: Vec<SocketAddr> = resolver.resolve("crm.example.com".parse().unwrap()).await.unwrap().collect();

        assert_eq!(found, ["1.1.1.1:0".parse().unwrap()]);
    }

    #[tokio::test]
    async fn the_systems_resolver_knows_this_machine() {
        let found = Resolver::new(Reach::Loopback).resolve("localhost".parse().unwrap()).await.unwrap();
        assert!(found.map(|address| address.ip()).all(is_loopback));

        assert!(Resolver::new(Reach::Public).resolve("localhost".parse().unwrap()).await.is_err());
    }
}
