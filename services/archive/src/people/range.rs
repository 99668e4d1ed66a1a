//! Signed ranges: everything that took a number in a conversation, so that an examiner knows that nothing is missing.

use greffe_api::archive as api;
use greffe_envelope::chain::check_range;
use greffe_envelope::limits::MAX_RANGE;
use greffe_envelope::pb;
use greffe_service_kit::db::Connection;
use greffe_types::{ConversationId, Digest};

use super::refusal::{CONVERSATION_UNKNOWN, RANGE_INVALID, field};
use super::{Person, stored};
use crate::app::App;
use crate::error::ArchiveError;
use crate::store::{keys, reads};

/// A range that the archive signs: without a last number up to the conversation's highest, or as far as a range goes.
pub(crate) async fn get(
    app: &App,
    person: &Person,
    request: &api::GetRangeRequest,
) -> Result<api::GetRangeResponse, ArchiveError> {
    let conversation = ConversationId::try_from(request.conversation.as_slice())
        .map_err(|_| field("conversation"))?;
    let _place = app.search_place(person)?;
    let mut tx = app.db.read().begin().await?;
    let highest = reads::highest(&mut tx, &app.scope, &conversation)
        .await?
        .filter(|highest| *highest > 0)
        .ok_or_else(|| CONVERSATION_UNKNOWN.refuse())?;
    let (first, last) = bounds(request.first, request.last, highest)
        .ok_or_else(|| RANGE_INVALID.refuse().with("highest", highest))?;
    let range = pb::RangeStatement {
        tenant: app.tenant().to_string(),
        conversation: conversation.to_vec(),
        first,
        last,
        previous_head: head(app, &mut tx, &conversation, first - 1).await?,
        head: head(app, &mut tx, &conversation, last).await?,
        entries: keys::entries(&mut tx, &app.scope, &conversation, (first, last)).await?,
        complete: last == highest,
        at: app.now().get(),
    };
    drop(tx);
    // The archive vouches for nothing that it would not believe itself.
    check_range(&range).map_err(|_| ArchiveError::Damaged("a conversation's chain"))?;

    let bundle = app.bundle();
    let name = app.receipts.name(&bundle, app.now())?;
    let count = last - first + 1;
    let signed = app.receipts.sign(name, range);
    app.note_read(person, "range", count, conversation.as_bytes())
        .await?;
    Ok(api::GetRangeResponse {
        range: Some(signed.into_raw()),
    })
}

fn bounds(first: u64, last: u64, highest: u64) -> Option<(u64, u64)> {
    let first = first.max(1);
    let longest = first.checked_add(MAX_RANGE as u64 - 1)?;
    let last = if last == 0 {
        highest.min(longest)
    } else {
        last
    };
    (first <= last && last <= highest && last <= longest).then_some((first, last))
}

async fn head(
    app: &App,
    conn: &mut Connection,
    conversation: &ConversationId,
    sequence: u64,
) -> Result<Vec<u8>, ArchiveError> {
    if sequence == 0 {
        return Ok(Digest::ZERO.to_vec());
    }
    let receipt = reads::receipt_of(conn, &app.scope, conversation, sequence)
        .await?
        .ok_or(ArchiveError::Damaged("a number without a receipt"))?;
    let receipt: pb::Receipt = crate::store::decode(&stored(&receipt)?.statement)?;
    Ok(receipt.head)
}

#[cfg(test)]
mod tests {
    use super::bounds;

    #[test]
    fn ranges_stay_within_the_conversation_and_the_limit() {
        assert_eq!(bounds(0, 0, 5), Some((1, 5)));
        assert_eq!(bounds(3, 4, 5), Some((3, 4)));
        assert_eq!(bounds(1, 0, 25_000), Some((1, 10_000)));
        assert_eq!(bounds(20_001, 0, 25_000), Some((20_001, 25_000)));
        assert_eq!(bounds(1, 10_001, 25_000), None);
        assert_eq!(bounds(4, 3, 5), None);
        assert_eq!(bounds(1, 6, 5), None);
        assert_eq!(bounds(6, 0, 5), None);
        assert_eq!(bounds(u64::MAX, 0, 5), None);
    }
}
