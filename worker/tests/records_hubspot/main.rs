//! Tests HubSpot as the system of record against a stand-in that is as strict as the vendor.

mod failures;
mod helpers;
mod notes;
mod opt_outs;
mod owners;
mod people;
mod set_up;
