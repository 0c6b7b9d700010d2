//! The options with which the HubSpot stand-in starts. All but the address can be changed later with
//! [`crate::HubSpot::configure`].

use std::net::SocketAddr;
use std::time::Duration;

/// How the stand-in behaves. `Default` is an account of the Professional tier with every scope and without index lag, on
/// a free loopback port. <https://developers.hubspot.com/docs/developer-tooling/platform/usage-guidelines>
#[derive(Clone, Debug)]
pub struct HubSpotOptions {
    /// The address to listen on; port 0 means any free port.
    pub listen: SocketAddr,
    /// The only bearer token that is accepted.
    pub token: String,
    /// The scopes that the token was granted; a call that needs another one is answered 403. Notes and communications
    /// need those of contacts. Reading properties needs `crm.objects.contacts.read` or `crm.schemas.contacts.read`.
    pub scopes: Vec<String>,
    /// Whether the paths with `v3` and `v4` exist.
    pub numbered_versions: bool,
    /// The dated versions that exist, for example `2026-09`.
    pub dated_versions: Vec<String>,
    /// Requests per rolling interval, answered 429 with `TEN_SECONDLY_ROLLING` above it.
    pub rate_limit: (u32, Duration),
    /// Searches per rolling interval, answered 429 with `SECONDLY` above it.
    pub search_limit: (u32, Duration),
    /// Requests per day (UTC), answered 429 with `DAILY` above it.
    pub daily_limit: u32,
    /// Whether answers tell the daily limit. An OAuth app isn't told.
    pub daily_headers: bool,
    /// A contact, note or communication that was created or changed less than this long ago isn't found by a search.
    /// Reading by id or by a unique property finds it at once. What a test adds itself is in the index from the start.
    pub index_lag: Duration,
    /// Whether notes and communications take a property with `hasUniqueValue`. The vendor documents such properties for
    /// other objects only.
    pub unique_properties_on_engagements: bool,
    /// Whether a batch upsert of notes or communications creates a record each time, whatever its key. The account then
    /// takes unique properties there and doesn't mind repeated values: only a probe that upserts twice can tell.
    pub hollow_upserts_on_engagements: bool,
    pub merged_ids: MergedIds,
    /// The status for an association with a contact that doesn't exist; the vendor's pages name none.
    pub absent_associate_status: u16,
    /// The status for a repeated value of a unique property. 400 is what was reported. A repeated `email` is always 409.
    pub unique_conflict_status: u16,
    /// Associations per page of a list.
    pub association_page_size: usize,
    /// Time between a request and its answer, in addition to any fault. A write takes effect before this time.
    pub latency: Duration,
}

/// What becomes of the id of a contact that was merged into another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergedIds {
    /// The id is answered 404.
    Absent,
    /// The id names the primary contact from then on.
    Resolve,
}

/// Every scope that a call may need.
pub(crate) const SCOPES: [&str; 5] = [
    "crm.objects.contacts.read",
    "crm.objects.contacts.write",
    "crm.schemas.contacts.read",
    "crm.schemas.contacts.write",
    "crm.objects.owners.read",
];

impl Default for HubSpotOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            token: "synthetic-token".to_owned(),
            scopes: SCOPES.map(str::to_owned).to_vec(),
            numbered_versions: true,
            dated_versions: vec!["2026-03".to_owned(), "2026-09".to_owned()],
            rate_limit: (190, Duration::from_secs(10)),
            search_limit: (5, Duration::from_secs(1)),
            daily_limit: 625_000,
            daily_headers: true,
            index_lag: Duration::ZERO,
            unique_properties_on_engagements: false,
            hollow_upserts_on_engagements: false,
            merged_ids: MergedIds::Absent,
            absent_associate_status: 400,
            unique_conflict_status: 400,
            association_page_size: 500,
            latency: Duration::ZERO,
        }
    }
}
