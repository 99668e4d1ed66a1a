//! Who read what: the log's commitments, opened for those who oversee reads.

use greffe_api::archive as api;
use prost::Message as _;

use super::page::{Listing, size};
use crate::app::App;
use crate::error::ArchiveError;
use crate::store::access;

/// Most bytes of reads in one answer: gRPC gives up at 4 MiB.
const MAX_PAGE_BYTES: usize = 3 << 20;

/// A page of reads.
pub(crate) async fn list(
    app: &App,
    request: &api::ListReadsRequest,
) -> Result<api::ListReadsResponse, ArchiveError> {
    let limit = size(request.page_size)?;
    let listing = Listing {
        tenant: app.tenant(),
        list: "reads",
        query: &[],
    };
    let after = listing.after(&request.page_token)?;
    let mut conn = app.db.read().acquire().await?;
    let found = access::page(&mut conn, &app.scope, after, limit + 1).await?;
    drop(conn);
    let (mut reads, mut bytes, mut last) = (Vec::new(), 0, None);
    for one in &found[..found.len().min(limit as usize)] {
        let read = api::Read {
            log_index: one.index,
            leaf: one.leaf.clone(),
            subject: one.subject.clone(),
            salt: one.salt.clone(),
        };
        bytes += read.encoded_len();
        if bytes > MAX_PAGE_BYTES && last.is_some() {
            break;
        }
        last = Some(one.number);
        reads.push(read);
    }
    let more = reads.len() < found.len();
    Ok(api::ListReadsResponse {
        next_page_token: last
            .filter(|_| more)
            .map(|last| listing.token(last))
            .unwrap_or_default(),
        reads,
    })
}
